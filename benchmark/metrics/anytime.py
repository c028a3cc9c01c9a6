"""Anytime performance: what the whole trajectory of predictors got wrong."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from avalanche.evaluation.metric_results import MetricValue
from avalanche.training.templates import SupervisedTemplate

from benchmark.metrics.series import SeriesMetric, on_test_stream


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


class AnytimePerformance(SeriesMetric):
    """Test accuracy, errors, CER, its rate, average anytime accuracy and ARE, from integer counts.

    Each evaluation of the test stream counts as one megabatch; evaluate it once after each.
    """

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[int] = []
        self._counting = False
        self._wrong = torch.zeros((), dtype=torch.long)
        self._seen = 0

    def before_eval(self, strategy: SupervisedTemplate) -> None:
        """Start counting if it is the test stream that is evaluated."""
        self._counting = on_test_stream(strategy)
        self._wrong = torch.zeros((), dtype=torch.long, device=strategy.device)
        self._seen = 0

    def after_eval_iteration(self, strategy: SupervisedTemplate) -> None:
        """Count wrong predictions on the device, without waiting for them."""
        if self._counting:
            self._wrong += (strategy.mb_output.argmax(1) != strategy.mb_y).sum()
            self._seen += len(strategy.mb_y)

    def after_eval(self, strategy: SupervisedTemplate) -> list[MetricValue] | None:
        """Emit the values of this megabatch."""
        if not self._counting:
            return None
        self.errors.append(int(self._wrong))
        return self.emit(anytime_values(self.errors, self._seen), step=len(self.errors))
