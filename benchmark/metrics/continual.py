"""Continual learning: what is remembered, from the accuracy matrix. Emitted only where the stream shifts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from avalanche.evaluation.metric_results import MetricValue
from avalanche.training.templates import SupervisedTemplate
from torch import Tensor

from benchmark.metrics.series import Test, TestMetric, classes_seen, shifting
from benchmark.registry import METRICS
from leaderboards.glossary import Measure
from strategies.learning.evaluation import count_correct
from strategies.learning.execution import execution_of
from strategies.learning.roles import network_per_task

MATRIX = "continual/matrix"
"""Series that holds the accuracy matrix: R[i][j] is its value at step (i - 1) T + j, of T experiences."""

Counts = Sequence[Sequence[int]]
"""A row for each experience that was trained on, a column for each that is tested: images that are right."""


@dataclass
class Matrix:
    """Right answers after each experience, as integer counts.

    Attributes:
        sizes: test images of each of the T experiences.
        correct: [i][j], after training on experience i, on the test images of experience j.
        untrained: right answers of the network before any training, by experience.
        within: as ``correct``, chosen among the classes of the experience alone; empty where it has none of its own.
        among_all: as ``correct``, where the task is not told; by a learner that is told it, chosen among all classes
            seen so far. Empty where experiences have no classes of their own, or the network needs to know the task.
    """

    sizes: list[int] = field(default_factory=list)
    correct: list[list[int]] = field(default_factory=list)
    untrained: list[int] = field(default_factory=list)
    within: list[list[int]] = field(default_factory=list)
    among_all: list[list[int]] = field(default_factory=list)

    def accuracies(self, counts: Counts) -> list[list[float]]:
        """R[i][j], from counts."""
        return [[right / size for right, size in zip(row, self.sizes, strict=True)] for row in counts]


def continual_values(matrix: Matrix) -> dict[str, float]:
    """The metrics after experience k, of T, from the counts up to then; a[i][j] is R[i][j], from 1.

    - ``continual/accuracy``, ACC: 1/k sum_{j <= k} a[k][j] (Lopez-Paz and Ranzato 2017, equation 2, at k = T).
    - ``continual/incremental_accuracy``: mean over i <= k of ACC after experience i (Rebuffi et al. 2017, section 4).
    - ``continual/forgetting``: 1/(k-1) sum_{j < k} (max_{l < k} a[l][j] - a[k][j]) (Chaudhry et al. 2018, equation 3).
    - ``continual/bwt``: 1/(k-1) sum_{j < k} (a[k][j] - a[j][j]) (Lopez-Paz and Ranzato 2017, equation 3).
    - ``continual/fwt``: 1/(k-1) sum_{1 < j <= k} (a[j-1][j] - b[j]), b the accuracy of the untrained network (their
      equation 4).
    - ``continual/task_il``, ``continual/class_il``: ACC where the task is told, and where it is not, of the same
      network (van de Ven and Tolias 2019).
    - ``continual/first``: a[k][1].
    """
    a = matrix.accuracies(matrix.correct)
    k = len(a)
    values = {
        "continual/accuracy": _seen_mean(a[-1], k),
        "continual/incremental_accuracy": sum(_seen_mean(row, i) for i, row in enumerate(a, start=1)) / k,
        "continual/first": a[-1][0],
    }
    if k > 1:
        lost = [max(a[i][j] for i in range(k - 1)) - a[k - 1][j] for j in range(k - 1)]
        back = [a[k - 1][j] - a[j][j] for j in range(k - 1)]
        values["continual/forgetting"] = sum(lost) / (k - 1)
        values["continual/bwt"] = sum(back) / (k - 1)
    if k > 1 and matrix.untrained:
        untrained = matrix.accuracies([matrix.untrained])[0]
        forward = [a[j - 1][j] - untrained[j] for j in range(1, k)]
        values["continual/fwt"] = sum(forward) / (k - 1)
    if matrix.within:
        values["continual/task_il"] = _seen_mean(matrix.accuracies(matrix.within)[-1], k)
    if matrix.among_all:
        values["continual/class_il"] = _seen_mean(matrix.accuracies(matrix.among_all)[-1], k)
    return values


def _seen_mean(row: Sequence[float], seen: int) -> float:
    return sum(row[:seen]) / seen


def _measure(
    name: str,
    title: str,
    meaning: str,
    position: int,
    better: int,
    key: str,
    places: tuple[str, ...],
    form: str = "{:.4f}",
) -> Measure:
    return Measure(f"continual/{name}", title, meaning, "fraction", form, better, key, position, places, title)


EVERYWHERE = ("board", "baseline", "runs", "contrast", "megabatches", "totals")
ONCE = ("board", "runs", "totals")


@METRICS.register(
    "continual",
    order=80,
    reference="Lopez-Paz and Ranzato 2017, arXiv 1706.08840; Chaudhry et al. 2018, arXiv 1801.10112; Rebuffi et al. "
    "2017, arXiv 1611.07725; van de Ven and Tolias 2019, arXiv 1904.07734",
    measures=(
        _measure("accuracy", "ACC", "mean accuracy of all experiences so far, each by itself", 1, 1, "acc", EVERYWHERE),
        _measure(
            "incremental_accuracy",
            "Incremental accuracy",
            "mean of ACC after each experience",
            2,
            1,
            "incremental",
            ONCE,
        ),
        _measure(
            "forgetting",
            "Forgetting",
            "best accuracy that an earlier experience ever had, minus what it has now, on average",
            3,
            -1,
            "forgetting",
            EVERYWHERE,
            "{:+.4f}",
        ),
        _measure(
            "bwt",
            "BWT",
            "backward transfer: accuracy of an earlier experience now, minus what it was when learnt",
            4,
            1,
            "bwt",
            EVERYWHERE,
            "{:+.4f}",
        ),
        _measure(
            "fwt",
            "FWT",
            "forward transfer: accuracy of an experience before it is learnt, minus that of the untrained network",
            5,
            1,
            "fwt",
            ONCE,
            "{:+.4f}",
        ),
        _measure("class_il", "Class-IL", "ACC where the task is not told, of the same network", 6, 1, "class_il", ONCE),
        _measure("task_il", "Task-IL", "ACC where the task is told, of the same network", 7, 1, "task_il", ONCE),
        Measure("continual/first", "First experience", "accuracy of the first experience", "fraction", better=1),
        Measure(
            MATRIX,
            "Accuracy matrix",
            "R[i][j], accuracy of experience j after training on i, at step (i - 1) T + j",
            "fraction",
            better=1,
        ),
    ),
)
class ContinualLearning(TestMetric):
    """ACC, forgetting, BWT, FWT and their like, and the accuracy matrix R[i][j] that they are made of.

    After each of the T experiences all T test parts are tested. FWT needs the untrained network, which is tested once
    before the first training; where the learner is told the task, all heads answer once more. Nothing is emitted on a
    stream that does not shift.

    Attributes:
        matrix: the counts so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.matrix = Matrix()
        self._shifts = False
        self._rows: dict[str, dict[int, Tensor]] = {}
        self._sizes: dict[int, int] = {}

    def before_train_dataset_adaptation(self, strategy: SupervisedTemplate) -> None:
        """Before the first training, test the network as it is."""
        scenario = shifting(strategy.experience)
        if scenario is None or self.matrix.untrained or strategy.clock.train_exp_counter > 0:
            return
        self.matrix.untrained = [count_correct(strategy, one.dataset) for one in scenario.test_stream]

    def before_eval(self, strategy: SupervisedTemplate) -> None:
        """Begin a row."""
        super().before_eval(strategy)
        self._shifts = shifting(strategy.current_eval_stream[0]) is not None
        self._rows, self._sizes = {"correct": {}, "within": {}, "among_all": {}}, {}

    def after_eval_iteration(self, strategy: SupervisedTemplate) -> None:
        """Count right answers on the device, without waiting for them."""
        if not self._testing or not self._shifts:
            return
        traits = strategy.experience.benchmark.traits
        self._count("correct", strategy, strategy.mb_output.argmax(1))
        if traits.new_classes:
            own = torch.tensor(strategy.experience.classes_in_this_experience, device=strategy.device)
            self._count("within", strategy, own[strategy.mb_output[:, own].argmax(1)])
            if not traits.tasks:
                self._count("among_all", strategy, strategy.mb_output.argmax(1))
        all_heads = getattr(strategy.model, "all_heads", None)
        if traits.tasks and all_heads is not None and network_per_task(strategy) is None:
            seen = torch.tensor(classes_seen(strategy), device=strategy.device)
            with execution_of(strategy).autocast(strategy.device), torch.inference_mode():
                self._count("among_all", strategy, seen[all_heads(strategy.mb_x)[:, seen].argmax(1)])
        number = strategy.experience.current_experience
        self._sizes[number] = self._sizes.get(number, 0) + len(strategy.mb_y)

    def after_test(self, strategy: SupervisedTemplate, test: Test) -> dict[str, float]:
        """End the row; what the matrix says now."""
        if not self._shifts:
            return {}
        numbers = sorted(self._sizes)
        self.matrix.sizes = [self._sizes[number] for number in numbers]
        for name, counts in self._rows.items():
            if counts:
                getattr(self.matrix, name).append([int(counts[number]) for number in numbers])
        return continual_values(self.matrix)

    def after_eval(self, strategy: SupervisedTemplate) -> list[MetricValue] | None:
        """Emit it, and the row of the matrix."""
        values = super().after_eval(strategy)
        if values is None or not self._shifts:
            return values
        row = self.matrix.accuracies(self.matrix.correct[-1:])[0]
        first = (len(self.matrix.correct) - 1) * len(row)
        return [*values, *(MetricValue(self, MATRIX, value, first + j) for j, value in enumerate(row, start=1))]

    def _count(self, name: str, strategy: SupervisedTemplate, answers: Tensor) -> None:
        row, number = self._rows[name], strategy.experience.current_experience
        right = (answers == strategy.mb_y).sum()
        row[number] = row[number] + right if number in row else right
