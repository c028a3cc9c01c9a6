"""What all metrics here share: named values, one for each megabatch, most of them taken at the test."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from avalanche.benchmarks import CLScenario
from avalanche.evaluation import PluginMetric
from avalanche.evaluation.metric_results import MetricValue
from avalanche.training.templates import SupervisedTemplate
from torch import Tensor

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


@dataclass(frozen=True)
class Test:
    """One test of a predictor.

    Attributes:
        number: of the test, from 1; the test stream is evaluated once after each megabatch.
        correct: images that the predictor got right; 0 unless the metric asks for them to be counted.
        seen: images of the test stream, likewise; where the stream shifts those of classes and domains that have been
            trained on.
    """

    __test__ = False

    number: int
    correct: int
    seen: int


class TestMetric(SeriesMetric):
    """A metric that takes its values when the test stream has been evaluated, and at no other evaluation.

    Attributes:
        counts_answers: whether right answers are counted, on the device, without waiting for them.
        tests: how many tests there were.
    """

    __test__ = False
    counts_answers = False

    def __init__(self) -> None:
        super().__init__()
        self.tests = 0
        self._testing = False
        self._correct = torch.zeros((), dtype=torch.long)
        self._seen: Tensor | int = 0
        self._known: Tensor | None = None
        self._domains: frozenset[int] = frozenset()

    @abstractmethod
    def after_test(self, strategy: SupervisedTemplate, test: Test) -> dict[str, float]:
        """Values of the predictor that was just tested; empty where there are none."""

    def step_of(self, test: Test) -> int:
        """Place of the values on the x axis: the number of the megabatch, from 1."""
        return test.number

    def before_eval(self, strategy: SupervisedTemplate) -> None:
        """Begin if it is the test stream that is evaluated."""
        self._testing = on_test_stream(strategy)
        if self._testing and self.counts_answers:
            self._correct = torch.zeros((), dtype=torch.long, device=strategy.device)
            self._seen, self._known = 0, None
            scenario = shifting(strategy.current_eval_stream[0])
            if scenario is not None:
                self._known = torch.zeros(scenario.n_classes, dtype=torch.bool, device=strategy.device)
                self._known[classes_seen(strategy)] = True
                self._domains = frozenset(one.domain for one in trained_on(strategy))

    def after_eval_iteration(self, strategy: SupervisedTemplate) -> None:
        """Count, where that was asked for."""
        if not self._testing or not self.counts_answers:
            return
        right = strategy.mb_output.argmax(1) == strategy.mb_y
        if self._known is None:
            self._correct += right.sum()
            self._seen += len(strategy.mb_y)
        elif strategy.experience.domain in self._domains:
            known = self._known[strategy.mb_y]
            self._correct += (right & known).sum()
            self._seen += known.sum()

    def after_eval(self, strategy: SupervisedTemplate) -> list[MetricValue] | None:
        """Emit what the metric makes of the test."""
        if not self._testing:
            return None
        self.tests += 1
        test = Test(self.tests, int(self._correct), int(self._seen))
        return self.emit(self.after_test(strategy, test), step=self.step_of(test))


def on_test_stream(strategy: SupervisedTemplate) -> bool:
    """Whether the evaluation under way is that of the test stream."""
    return any(e.origin_stream.name == TEST_STREAM for e in strategy.current_eval_stream)


def shifting(experience: Any) -> CLScenario | None:
    """The scenario of an experience, if its distribution changes over the stream."""
    scenario = getattr(experience, "benchmark", None)
    traits = getattr(scenario, "traits", None)
    return scenario if traits is not None and traits.shifts else None


def trained_on(strategy: SupervisedTemplate) -> list[Any]:
    """In a test of a stream of ours: the experiences that the strategy has been trained on."""
    scenario = strategy.current_eval_stream[0].benchmark
    return list(scenario.train_stream)[: strategy.clock.train_exp_counter]


def classes_seen(strategy: SupervisedTemplate) -> list[int]:
    """In a test of a stream of ours: classes of the experiences that the strategy has been trained on, sorted."""
    return sorted({label for one in trained_on(strategy) for label in one.classes_in_this_experience})


def megabatch_of(strategy: SupervisedTemplate) -> int:
    """Number, from 1, of the last megabatch that has arrived with the current training experience."""
    experience = strategy.experience
    return int(getattr(experience, "last_megabatch", experience.current_experience + 1))
