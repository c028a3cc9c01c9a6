"""How long a run would take here: the rate of its first training steps, for as many samples as it has."""

from __future__ import annotations

import time
import warnings

import torch
from avalanche.core import SupervisedPlugin
from avalanche.training.templates import SupervisedTemplate

from benchmark.errors import UsageError
from benchmark.running.build import build_strategy, make_evaluator
from benchmark.running.prepare import Prepared
from benchmark.running.progress import expected_seconds, planned_samples
from benchmark.streams.build import build_stream
from strategies.learning.divergence import Diverged

WARM_UP_STEPS = 2
TIMED_STEPS = 8

SCORED_BATCHES = 2
"""As many samples as these have are scored at the most."""

PATIENCE = 3.0
"""Seconds after which no further step is timed."""


def measure_rate(prepared: Prepared) -> float | None:
    """Training samples a second in the first steps of a run, which ends there; None if its first training has none.

    Nothing is compiled for it, and scores are computed on a few samples, so that they say nothing about layers.

    Raises:
        UsageError: the strategy cannot be run as it was asked for, or fails in these steps.
    """
    config = prepared.config
    first = max(1, prepared.sizes.trainings[0][0])
    fraction = min(config.score_fraction, SCORED_BATCHES * config.batch_size / first)
    config = config.model_copy(update={"compile": False, "score_fraction": fraction})
    timer = _StepTimer()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            stream = build_stream(config, prepared.data, prepared.device)
            strategy = build_strategy(config, stream, prepared.device, make_evaluator(None), [timer])
            strategy.train(stream.scenario.train_stream[0], eval_streams=[])
        except (_Timed, Diverged):
            pass
        except UsageError:
            raise
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise UsageError(f"{config.strategy} on {config.stream} fails as soon as it trains: {reason}") from error
    return timer.rate


def forecast_seconds(prepared: Prepared, rate: float) -> float:
    """Duration of a run that trains at ``rate``."""
    return expected_seconds(*planned_samples(prepared.sizes, prepared.config), rate)


class _Timed(BaseException):
    """Enough steps were timed. No plugin or strategy can take it for an error of its own."""


class _StepTimer(SupervisedPlugin):
    """Times some training steps and ends the training then."""

    def __init__(self) -> None:
        super().__init__()
        self._steps = 0
        self._samples = 0
        self._seconds = 0.0

    @property
    def rate(self) -> float | None:
        """Samples a second; None if no step was timed."""
        return self._samples / self._seconds if self._samples else None

    def before_training_epoch(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """What lies between two epochs is no part of a step."""
        self._last = _now(strategy.device)

    def after_training_iteration(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """Count the step, and end the training if it was one of enough."""
        now = _now(strategy.device)
        self._steps += 1
        if self._steps > WARM_UP_STEPS:
            self._samples += len(strategy.mb_y)
            self._seconds += now - self._last
        self._last = now
        if self._steps == WARM_UP_STEPS + TIMED_STEPS or self._seconds > PATIENCE:
            raise _Timed


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
