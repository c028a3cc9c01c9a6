"""From a configuration to an untrained strategy and the metrics that watch it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

from avalanche.core import SupervisedPlugin
from avalanche.logging import BaseLogger
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.templates import SupervisedTemplate

from benchmark.config.run_config import RunConfig
from benchmark.errors import UsageError
from benchmark.metrics.glossary import make_metrics
from benchmark.running.prepare import model_maker
from benchmark.streams.build import Stream
from strategies.anytime import Learner, Pruning
from strategies.learning.divergence import DivergenceGuard
from strategies.learning.execution import Executed, Execution
from strategies.registry import STRATEGIES, is_bounded

EVAL_BATCH = 256
"""Images of an evaluation batch on a CPU, which gains nothing from larger ones."""

GPU_EVAL_PIXELS = 1024 * 32 * 32
"""Pixels of an evaluation batch on a GPU."""


def make_evaluator(logger: BaseLogger | None) -> EvaluationPlugin:
    """All metrics of a run; without a logger nothing is recorded outside of it."""
    return EvaluationPlugin(*make_metrics(), loggers=[logger or _Silent()])


def build_strategy(
    config: RunConfig,
    stream: Stream,
    device: str,
    evaluator: EvaluationPlugin | None,
    plugins: Sequence[SupervisedPlugin] = (),
) -> SupervisedTemplate:
    """The configured strategy, untrained. It gets the options that it declares, and defaults for all others.

    Raises:
        UsageError: the strategy cannot be run as it was asked for.
    """
    entry = STRATEGIES.load(config.strategy)
    execution = Execution(config.precision, config.compile)
    learner = replace(
        make_learner(config, stream, device),
        evaluator=evaluator,
        execution=execution,
        plugins=[DivergenceGuard(), *plugins],
    )
    strategy: SupervisedTemplate = entry.target(learner, make_pruning(config), **config.settings)
    if execution != Execution() and not isinstance(strategy, Executed):
        asked = "--compile" if config.compile else f"--precision {config.precision}"
        raise UsageError(f"the strategy {config.strategy} runs its network in its own way: leave out {asked}")
    return strategy


def make_learner(config: RunConfig, stream: Stream, device: str) -> Learner:
    """Model, data handling and recipe; length and buffer size only for those who declare them."""
    read = config.options()
    knows_length = "known_length" in read and config.known_length
    replayed = {**config.variant(), **config.protocol()}.get("replay", "")
    keeps_buffer = "buffer_size" in read or is_bounded(replayed)
    return Learner(
        make_model=model_maker(config, stream.data, stream.tasks),
        megabatches=len(stream.scenario.train_stream) if knows_length else None,
        epochs=config.epochs,
        batch_size=config.batch_size,
        eval_batch_size=max(1, GPU_EVAL_PIXELS // config.resolution**2) if device.startswith("cuda") else EVAL_BATCH,
        algorithm=config.optimizer,
        lr=config.lr,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        lr_schedule=config.lr_schedule,
        milestones=config.milestones,
        lr_decay=config.lr_decay,
        carry_momentum=config.carry_momentum,
        replay=config.replay,
        val_fraction=config.val_fraction,
        ties=config.ties,
        seed=config.seed,
        device=device,
        loader=stream.loader,
        buffer_size=config.buffer_size if keeps_buffer else Learner.buffer_size,
    )


def make_pruning(config: RunConfig) -> Pruning:
    """What the strategy reads of the options of pruning; its own defaults, or everybody's, for the rest."""
    known = {field.name for field in fields(Pruning)}
    own = {n: v for n, v in STRATEGIES.load(config.strategy).traits.defaults.items() if n in known}
    read = {name: getattr(config, name) for name in config.options() if name in known}
    return Pruning(**{**own, **read})


class _Silent:
    """A logger that writes nothing: Avalanche warns where there is none."""

    def log_metrics(self, metric_values: object) -> None:
        """Write nothing."""
