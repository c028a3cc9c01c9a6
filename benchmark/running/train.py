"""The loop alone: train on each megabatch, test after each."""

from __future__ import annotations

from avalanche.benchmarks import CLScenario
from avalanche.training.templates import SupervisedTemplate

from benchmark.running.memory import return_freed


def train(strategy: SupervisedTemplate, scenario: CLScenario, megabatches: int) -> None:
    """Train ``strategy`` on the stream and test it after each megabatch, also where it waits and does not train."""
    experiences = {experience.last_megabatch: experience for experience in scenario.train_stream}
    for megabatch in range(1, megabatches + 1):
        if megabatch in experiences:
            strategy.train(experiences[megabatch], eval_streams=[])
            return_freed()
        strategy.eval(scenario.test_stream)
