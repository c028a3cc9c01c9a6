"""Progress of a run: a bar or plain lines, and an estimate of the time after the first timed steps."""

from __future__ import annotations

import sys
import time

from avalanche.benchmarks import CLScenario
from avalanche.core import SupervisedPlugin
from avalanche.training.templates import SupervisedTemplate
from tqdm import tqdm

from benchmark.config.run_config import RunConfig
from benchmark.console import say
from benchmark.metrics.series import megabatch_of
from benchmark.recording.heartbeat import DONE, EXPECTED_END, PROGRESS
from benchmark.streams.build import StreamSizes
from strategies.registry import STRATEGIES

WARM_UP_STEPS = 5
TIMED_STEPS = 20
LONG_RUN = 3600
"""Seconds from which a way to a shorter run is shown."""

EVALUATION_COST = 1 / 3
"""Of a sample that is only run forward, in training samples."""


def planned_samples(sizes: StreamSizes, config: RunConfig) -> tuple[float, float]:
    """Samples that a run trains on, and samples it runs forward for validation, gaps and tests."""
    trained, forward = map(sum, zip(*planned_trainings(sizes, config), strict=True))
    return trained, forward + config.megabatches * sizes.tested


def planned_trainings(sizes: StreamSizes, config: RunConfig) -> list[tuple[float, float]]:
    """For each training: samples that it trains on, and samples it runs forward for validation and gaps."""
    replay = STRATEGIES.load(config.strategy).traits.replays or config.replay
    planned = []
    earlier = last = validated = last_valid = 0
    for own, valid in sizes.trainings:
        kept = min(earlier, config.buffer_size)
        replayed = {"full": earlier, "last": last, "buffer": kept, "interleaved": kept}.get(replay, 0)
        joined = min(kept, config.batch_size) * -(-own // config.batch_size)
        trained = own + (joined if replay == "interleaved" else replayed)
        validation = valid + {"full": validated, "last": last_valid}.get(replay, 0)
        planned.append((float(config.epochs * trained), float(config.epochs * validation + own + replayed)))
        earlier, last, validated, last_valid = earlier + own, own, validated + valid, valid
    return planned


def expected_seconds(trained: float, forward: float, rate: float) -> float:
    """Duration of a run at ``rate``, in training samples a second."""
    return (trained + EVALUATION_COST * forward) / rate


def _sizes_of(scenario: CLScenario) -> StreamSizes:
    trainings = tuple((len(one.dataset), len(one.valid_dataset)) for one in scenario.train_stream)
    return StreamSizes(trainings, sum(len(one.dataset) for one in scenario.test_stream))


class RunProgress(SupervisedPlugin):
    """Shows how far a run with ``config`` over one of our scenarios is."""

    def __init__(self, config: RunConfig):
        super().__init__()
        self.config = config
        self._steps = 0
        self._timed = 0
        self._megabatch = 0
        self._bar: tqdm | None = None
        self._done: float | None = None
        self._epoch = 0

    def tell(self) -> dict[str, str]:
        """How far the run is, and when it is expected to end: tags for the store, none before its first epoch."""
        if self._done is None:
            return {}
        place = f"megabatch {self._megabatch} of {self.config.megabatches}"
        place += f", epoch {self._epoch + 1} of {self.config.epochs}"
        far = {PROGRESS: place, DONE: f"{self._done / self.trained:.3f}"}
        newly = self._done - self._done_before
        if newly <= 0:
            return far
        rest = (time.monotonic() - self._started) * (self.trained - self._done) / newly
        return {**far, EXPECTED_END: f"{time.time() + rest:.0f}"}

    def before_training_epoch(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """Note when a megabatch began, and how much is done."""
        self._begin(strategy)
        self._epoch = strategy.clock.train_exp_epochs
        earlier, own = self._planned[: self._position], self._planned[self._position]
        done = sum(trained for trained, _ in earlier) + own[0] * self._epoch / self.config.epochs
        if self._done is None:
            # A run that goes on has done something before.
            self._started, self._done_before = time.monotonic(), done
        self._done = done

    def after_training_iteration(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """Advance the bar; once enough steps are timed, say how long the run will take."""
        # A run that goes on may do so in the middle of an epoch.
        self._begin(strategy)
        if self._bar is not None:
            self._bar.update(len(strategy.mb_y))
        if self._steps > WARM_UP_STEPS + TIMED_STEPS:
            return
        self._steps += 1
        if self._steps == WARM_UP_STEPS:
            self._timer = time.monotonic()
        elif self._steps > WARM_UP_STEPS:
            self._timed += len(strategy.mb_y)
        if self._steps == WARM_UP_STEPS + TIMED_STEPS:
            self._estimate(self._timed / (time.monotonic() - self._timer))

    def after_training_exp(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """One line a megabatch where there is no bar."""
        self._begin(strategy)
        if self._bar is None:
            seconds = time.monotonic() - self._began
            say(f"  megabatch {megabatch_of(strategy)} of {self.config.megabatches} trained in {seconds:.0f} s")

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()

    def _begin(self, strategy: SupervisedTemplate) -> None:
        megabatch = megabatch_of(strategy)
        if megabatch == self._megabatch:
            return
        if self._megabatch == 0:
            sizes = _sizes_of(strategy.experience.benchmark)
            self.trained, self.forward = planned_samples(sizes, self.config)
            self._planned = planned_trainings(sizes, self.config)
            if sys.stderr.isatty():
                self._bar = tqdm(total=round(self.trained), unit="img", leave=False)
        self._megabatch, self._began = megabatch, time.monotonic()
        self._position = strategy.experience.current_experience
        if self._bar is not None:
            self._bar.set_description(f"megabatch {megabatch} of {self.config.megabatches}")

    def _estimate(self, rate: float) -> None:
        seconds = expected_seconds(self.trained, self.forward, rate)
        say(f"  about {duration(seconds)} for this run ({rate:.0f} images a second)")
        if seconds > LONG_RUN:
            say("  for a shorter run: --profile demo, fewer --epochs, a smaller --model, or a machine with a GPU")


def duration(seconds: float) -> str:
    """Seconds in words that fit their size."""
    for unit, size, limit in (("second", 1, 90), ("minute", 60, 5400), ("hour", 3600, 48 * 3600)):
        if seconds < limit:
            number = f"{seconds / size:.1f}" if unit == "hour" else f"{seconds / size:.0f}"
            return f"{number} {unit}" + ("" if number == "1" else "s")
    return f"{seconds / 86400:.1f} days"
