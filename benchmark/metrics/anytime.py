"""Anytime performance: what the whole trajectory of predictors got wrong."""

from __future__ import annotations

from collections.abc import Sequence

from avalanche.training.templates import SupervisedTemplate

from benchmark.metrics.series import Test, TestMetric
from benchmark.registry import METRICS
from leaderboards.glossary import Measure


def anytime_values(errors: Sequence[int], sizes: Sequence[int]) -> dict[str, float]:
    """The anytime metrics after megabatch t, from the error counts e_1..e_t on N_1..N_t test images.

    ``anytime/cer`` is the cumulative error sum_t e_t, a count; ``anytime/cer_rate`` is CER / sum_t N_t; lower is
    better. ``anytime/average_accuracy`` is the mean of the t test accuracies. ``anytime/are`` (t >= 2) is
    e_t / N_t - e_{t-1} / N_{t-1}; negative is better. CER and ARE: arXiv 2106.09563 and 2204.01640. N is always the
    same in an ALMA stream; where the stream shifts, it is the test images of what has been seen.
    """
    total, latest = sum(errors), errors[-1]
    rate = total / sum(sizes)
    values = {
        "test/errors": float(latest),
        "test/accuracy": 1 - latest / sizes[-1],
        "anytime/cer": float(total),
        "anytime/cer_rate": rate,
        "anytime/average_accuracy": 1 - rate,
    }
    if len(set(sizes)) > 1:
        accuracies = [1 - wrong / size for wrong, size in zip(errors, sizes, strict=True)]
        values["anytime/average_accuracy"] = sum(accuracies) / len(accuracies)
    if len(errors) > 1:
        # Over a common denominator, so that it is rounded once.
        values["anytime/are"] = (latest * sizes[-2] - errors[-2] * sizes[-1]) / (sizes[-1] * sizes[-2])
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
        self.sizes: list[int] = []

    def after_test(self, strategy: SupervisedTemplate, test: Test) -> dict[str, float]:
        """The values up to this megabatch."""
        self.errors.append(test.seen - test.correct)
        self.sizes.append(test.seen)
        return anytime_values(self.errors, self.sizes)
