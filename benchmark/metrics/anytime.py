"""Anytime performance: what the whole trajectory of predictors got wrong."""

from __future__ import annotations

from collections.abc import Sequence

from avalanche.training.templates import SupervisedTemplate

from benchmark.metrics.series import Test, TestMetric
from benchmark.registry import METRICS
from leaderboards.glossary import Measure


def anytime_values(errors: Sequence[int], test_size: int) -> dict[str, float]:
    """The anytime metrics after megabatch t, from the error counts e_1..e_t on N test images.

    ``anytime/cer`` is the cumulative error sum_t e_t, a count; ``anytime/cer_rate`` is CER / (t N); lower is
    better. ``anytime/average_accuracy`` is the mean of the t test accuracies. ``anytime/are`` (t >= 2) is
    (e_t - e_{t-1}) / N; negative is better. CER and ARE: arXiv 2106.09563 and 2204.01640.
    """
    total, latest = sum(errors), errors[-1]
    rate = total / (len(errors) * test_size)
    values = {
        "test/errors": float(latest),
        "test/accuracy": 1 - latest / test_size,
        "anytime/cer": float(total),
        "anytime/cer_rate": rate,
        "anytime/average_accuracy": 1 - rate,
    }
    if len(errors) > 1:
        values["anytime/are"] = (latest - errors[-2]) / test_size
    return values


@METRICS.register(
    "anytime",
    order=10,
    reference="Caccia et al. 2021, arXiv 2106.09563; Wadia et al. 2022, arXiv 2204.01640",
    measures=(
        Measure(
            "anytime/cer_rate",
            "CER rate",
            "CER divided by B times the test images",
            "fraction",
            better=-1,
            key="cer_rate",
            position=10,
            places=("board", "baseline", "runs", "contrast", "totals"),
        ),
        Measure(
            "anytime/cer",
            "CER",
            "cumulative errors: wrong test images of all megabatches",
            "test images",
            "{:,.0f}",
            -1,
            "cer",
            20,
            ("board", "runs", "totals"),
        ),
        Measure(
            "test/accuracy",
            "Final accuracy",
            "test accuracy after the last megabatch",
            "fraction",
            better=1,
            key="accuracy",
            position=30,
            places=("board", "baseline", "runs", "contrast", "megabatches", "totals"),
            short="test",
        ),
        Measure(
            "test/errors",
            "Test errors",
            "test images that the predictor gets wrong",
            "test images",
            "{:.0f}",
            -1,
            position=35,
            places=("megabatches",),
            short="errors",
        ),
        Measure(
            "anytime/average_accuracy",
            "Anytime accuracy",
            "mean test accuracy of the megabatches",
            "fraction",
            better=1,
            key="anytime",
            position=40,
            places=("board", "totals"),
        ),
        Measure(
            "anytime/are",
            "ARE",
            "last change of the test error rate; negative is better",
            "fraction",
            "{:+.4f}",
            -1,
            "are",
            50,
            ("board", "megabatches", "totals"),
        ),
    ),
)
class AnytimePerformance(TestMetric):
    """Test accuracy, errors, CER, its rate, average anytime accuracy and ARE, from integer counts.

    Each evaluation of the test stream counts as one megabatch; evaluate it once after each.
    """

    counts_answers = True

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[int] = []

    def after_test(self, strategy: SupervisedTemplate, test: Test) -> dict[str, float]:
        """The values up to this megabatch."""
        self.errors.append(test.seen - test.correct)
        return anytime_values(self.errors, test.seen)
