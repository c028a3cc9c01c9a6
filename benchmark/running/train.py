"""The loop alone: train on each megabatch, test after each."""

from __future__ import annotations

from collections.abc import Callable

from avalanche.benchmarks import CLScenario
from avalanche.training.templates import SupervisedTemplate

from benchmark.running.memory import return_freed
from strategies.learning.continuation import Continuable


def train(
    strategy: SupervisedTemplate,
    scenario: CLScenario,
    megabatches: int,
    *,
    done: int = 0,
    after_megabatch: Callable[[SupervisedTemplate, int], None] | None = None,
) -> None:
    """Train ``strategy`` on the stream and test it after each megabatch, also where it waits and does not train.

    Args:
        strategy: as it was made, or as it was left.
        scenario: the stream.
        megabatches: how many it has.
        done: how many of them the strategy has been trained on and tested after; of the next one it may have been
            trained on a part.
        after_megabatch: called with the strategy and the number of each megabatch, from 1, that is done.
    """
    experiences = {experience.last_megabatch: experience for experience in scenario.train_stream}
    for megabatch in range(done + 1, megabatches + 1):
        if isinstance(strategy, Continuable) and strategy.is_under_way:
            strategy.finish_training()
        elif megabatch in experiences:
            strategy.train(experiences[megabatch], eval_streams=[])
        return_freed()
        strategy.eval(scenario.test_stream)
        if after_megabatch is not None:
            after_megabatch(strategy, megabatch)
