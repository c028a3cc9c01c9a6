"""Keeping a run: it is saved from time to time while it trains, and goes on from there in another process."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from avalanche.benchmarks import CLScenario
from avalanche.training.determinism.rng_manager import RNGManager
from avalanche.training.templates import SupervisedTemplate

from benchmark.console import say
from benchmark.errors import UsageError, plain
from benchmark.recording.code import code_differences
from benchmark.running.checkpoint import CheckpointFile, Damaged
from benchmark.running.interruption import Interruption
from benchmark.running.snapshot import Surroundings, Unsaveable, Untrusted, load, save
from strategies.learning.continuation import Continuable
from strategies.learning.execution import Executed

EVERY = 600.0
"""Seconds after which a training is saved in the middle of a megabatch, unless told otherwise."""

SHARE = 0.01
"""Of a run's time that saving it after each megabatch may take."""

THREADS = re.compile("[1-9][0-9]{0,3}")
"""Numbers of threads that a run may have been begun with: with more, a process cannot start them."""


@dataclass(frozen=True)
class Keeping:
    """How runs are kept.

    Attributes:
        folder: of the checkpoints; each run has a folder of its own in it.
        every: seconds after which a training is saved in the middle of a megabatch.
        interruption: whether the process was told to end.
        anyway: whether a run goes on from a checkpoint of other code or libraries.
    """

    folder: Path
    every: float = EVERY
    interruption: Interruption = field(default_factory=Interruption)
    anyway: bool = False


class Points(Protocol):
    """Where the points of a run's series go; see :class:`benchmark.recording.logger.MLflowLogger`."""

    emitted: Counter[tuple[str, int]]

    def flush(self) -> None:
        """Send what was collected."""


@dataclass
class Keeper:
    """Saves a run, and is the watcher of its training.

    A run is saved after each megabatch, unless the last time is so near that saving would take more than
    :data:`SHARE` of the time; at the end of the first epoch that ends ``every`` seconds after the last time; and when
    it is told to end. The training must be one that can be left for the last two (:class:`Continuable`).

    Attributes:
        file: where to.
        about: what a checkpoint says of the run that it belongs to: at least ``identity`` and ``device``.
        surroundings: what stays out.
        points: are sent before the run is saved, and counted.
        interruption: whether the process was told to end.
        every: seconds.
        anyway: whether a checkpoint of other code or libraries is taken.
        done: megabatches that are done, their tests included.
    """

    file: CheckpointFile
    about: Mapping[str, Any]
    surroundings: Surroundings
    points: Points
    interruption: Interruption
    every: float = EVERY
    anyway: bool = False
    done: int = 0
    _saved: float = field(default_factory=time.monotonic)
    _took: float = 0.0
    _unsaveable: bool = False
    _is_tried: bool = False

    def watching(self, strategy: SupervisedTemplate) -> AbstractContextManager[None]:
        """A context in which the training of ``strategy`` is watched, if it can be left before a megabatch ends."""
        if not isinstance(strategy, Continuable):
            return nullcontext()
        strategy.watcher = self
        return self.interruption.delaying()

    def after_step(self, strategy: SupervisedTemplate) -> None:
        """Between two steps: a place to end at."""
        if self.interruption.signal is not None:
            self._end(strategy)

    def after_epoch(self, strategy: SupervisedTemplate) -> None:
        """Between two epochs: a place to end at, or to save the run if it is time to."""
        if self.interruption.signal is not None:
            self._end(strategy)
        if time.monotonic() - self._saved >= self.every:
            self.save(strategy)

    def after_megabatch(self, strategy: SupervisedTemplate, megabatch: int) -> None:
        """A megabatch is done, its test included."""
        self.done = megabatch
        if self.interruption.signal is not None:
            self._end(strategy)
        if SHARE * (time.monotonic() - self._saved) >= self._took:
            self.save(strategy)

    def save(self, strategy: SupervisedTemplate) -> None:
        """Save the run as it is now. Whatever is in the way of that is said, and does not end the run."""
        if self._unsaveable:
            return
        began = time.monotonic()
        self.points.flush()
        state = {
            "strategy": strategy,
            "done": self.done,
            "emitted": dict(self.points.emitted),
            # What Avalanche's manager writes down: the states of all global generators.
            "random": RNGManager.__getstate__(),
        }
        epoch = strategy.clock.train_exp_epochs if isinstance(strategy, Continuable) and strategy.is_under_way else 0
        place = {"megabatch": self.done, "epoch": epoch, "outside": len(self.surroundings)}
        try:
            data = save(state, self.surroundings)
            if not self._is_tried:
                # What cannot be read is better known now.
                load(data, self.surroundings, "cpu")
                self._is_tried = True
            self.file.write({**self.about, **place}, data)
        except (Unsaveable, Untrusted) as error:
            self._unsaveable = True
            say(f"Note: this run cannot be saved while it trains, and starts anew after an interruption ({error}).")
        except OSError as error:
            say(f"Note: the checkpoint {self.file} was not written ({error.strerror or error}); the last one is kept.")
        self._saved = time.monotonic()
        self._took = self._saved - began

    def restore(self, fresh: SupervisedTemplate) -> SupervisedTemplate:
        """The strategy as it was saved last; the global generators, and what is done, are put back, too.

        It is ``fresh``, the one that was just built, where there is no checkpoint, or where it is damaged, which is
        said: the run starts anew then.

        Raises:
            UsageError: it is another run's, or of other code or libraries without ``anyway``, or others could have
                written it.
        """
        if not self.file.exists():
            return fresh
        try:
            about, data = self.file.read()
            self._compare(about)
        except Damaged as error:
            say(f"Note: the checkpoint {self.file} cannot be used, the run starts anew ({error}).")
            return fresh
        try:
            return self._put_back(load(data, self.surroundings, self.about["device"]), about, fresh)
        except Untrusted as error:
            raise UsageError(f"the checkpoint {self.file} is not one of ours, {error}: remove it") from error
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            # Sound, and yet not to be read: whatever is in it, what was learned is not thrown away without a word.
            reason = f"{type(error).__name__}: {error}"
            raise UsageError(
                f"the checkpoint {self.file} cannot be gone on with ({reason}): remove it, and the run starts anew"
            ) from error

    def _put_back(
        self, state: Mapping[str, Any], about: Mapping[str, Any], fresh: SupervisedTemplate
    ) -> SupervisedTemplate:
        """The strategy of ``state``; the process is as it was when that was saved."""
        strategy: SupervisedTemplate = state["strategy"]
        strategy.plugins = [plugin for plugin in strategy.plugins if plugin is not None]
        self.points.emitted.update(state["emitted"])
        self.done = state["done"]
        # Sums are split among threads: with another number of them the last digits would be others.
        torch.set_num_threads(int(about.get("threads", torch.get_num_threads())))
        RNGManager.__setstate__(state["random"])
        if isinstance(fresh, Executed):
            # Whether it is compiled may have been asked otherwise.
            strategy.execution = fresh.execution
        return strategy

    def _compare(self, about: Mapping[str, Any]) -> None:
        if not all(isinstance(about.get(name, ""), str) for name in (*self.about, "name", "device", "threads")):
            raise Damaged("what it says of its run is no text")
        if about.get("identity") != self.about["identity"]:
            raise UsageError(f"the checkpoint {self.file} is of another run ({plain(about.get('name'))}): remove it")
        if about.get("outside") != len(self.surroundings):
            raise Damaged("it was saved with other plugins")
        if not THREADS.fullmatch(about.get("threads", "1")):
            raise Damaged("its number of threads is none")
        kind = about.get("device", "").partition(":")[0]
        if kind != self.about["device"].partition(":")[0]:
            begun = plain(kind)
            raise UsageError(
                f"the run was begun on {begun}: go on with --device {begun}, or start anew (--rerun always)"
            )
        differences = code_differences(about, self.about)
        if differences and not self.anyway:
            raise UsageError(
                f"the checkpoint {self.file} is of other code ({'; '.join(differences)}): go back to that code, go on "
                "with --resume-anyway, or start anew with --rerun always"
            )

    def _end(self, strategy: SupervisedTemplate) -> None:
        self.save(strategy)
        self.interruption.end()


def make_keeper(
    keeping: Keeping,
    run_id: str,
    about: Mapping[str, Any],
    strategy: SupervisedTemplate,
    scenario: CLScenario,
    others: Sequence[object],
    points: Points,
) -> Keeper | None:
    """The keeper of a run whose ``strategy`` was just built; None, which is said, where it cannot be saved.

    ``others`` are what the strategy refers to beside the scenario and does not own, always as many.
    """
    try:
        surroundings = Surroundings(strategy, scenario, others)
    except Exception as error:
        # Whatever the code of others raises, it must not end a run.
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        say(f"Note: this run cannot be saved while it trains, and starts anew after an interruption ({reason}).")
        return None
    file = CheckpointFile(keeping.folder / run_id)
    return Keeper(file, about, surroundings, points, keeping.interruption, keeping.every, keeping.anyway)
