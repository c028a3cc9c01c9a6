"""Task-incremental streams: each experience is a task with classes and a head of its own, and images say which."""

from __future__ import annotations

from dataclasses import replace

from benchmark.registry import PROTOCOLS
from benchmark.streams.protocols.class_incremental import class_incremental
from benchmark.streams.protocols.scenario import Arrangement, Asked


@PROTOCOLS.register(
    "task-incremental",
    shifts=True,
    new_classes=True,
    tasks=True,
    reference="van de Ven and Tolias 2019, arXiv 1904.07734",
)
def task_incremental(asked: Asked) -> Arrangement:
    """Classes of its own in each experience, its number as task label, and one head a task: task-IL.

    Images arrive as in ``class-incremental``, the same for the same seed. The learner is told the task of every image,
    in training and in tests, and chooses among that task's classes alone.
    """
    plain = class_incremental(asked)
    return replace(
        plain,
        trained=[replace(part, task=number) for number, part in enumerate(plain.trained)],
        tested=[replace(part, task=number) for number, part in enumerate(plain.tested)],
        tasks=plain.class_groups,
    )
