"""What all metrics here share: named values, one for each megabatch."""

from __future__ import annotations

from avalanche.evaluation import PluginMetric
from avalanche.evaluation.metric_results import MetricValue
from avalanche.training.templates import SupervisedTemplate

TEST_STREAM = "test"


class SeriesMetric(PluginMetric[dict[str, float]]):
    """A metric that emits several named series; ``result()`` is the last value of each."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[str, float] = {}

    def result(self) -> dict[str, float]:
        """Name -> value emitted last."""
        return dict(self._last)

    def reset(self) -> None:
        """Forget the last values."""
        self._last = {}

    def emit(self, values: dict[str, float], step: int) -> list[MetricValue]:
        """The values as Avalanche's evaluator takes them, at ``step`` of the x axis."""
        self._last.update(values)
        return [MetricValue(self, name, value, step) for name, value in values.items()]


def on_test_stream(strategy: SupervisedTemplate) -> bool:
    """Whether the evaluation under way is that of the test stream."""
    return any(e.origin_stream.name == TEST_STREAM for e in strategy.current_eval_stream)


def megabatch_of(strategy: SupervisedTemplate) -> int:
    """Number, from 1, of the last megabatch that has arrived with the current training experience."""
    experience = strategy.experience
    return int(getattr(experience, "last_megabatch", experience.current_experience + 1))
