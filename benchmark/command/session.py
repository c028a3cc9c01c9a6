"""One call of the command: plan the runs, check them all, carry them out, refresh the boards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import click

from benchmark.command.options import flag_of, merge
from benchmark.command.preview import describe, expect
from benchmark.command.summary import summarise
from benchmark.config.files import load_file
from benchmark.config.grid import Planned, expand
from benchmark.config.run_config import RunConfig
from benchmark.config.source import source_of
from benchmark.console import say
from benchmark.engines.in_turn import in_turn
from benchmark.engines.job import Failure, Job, Place
from benchmark.engines.processes import at_once
from benchmark.errors import UsageError
from benchmark.recording.slim import can_be_slimmed, check_slim
from benchmark.recording.store import Store, check_place
from benchmark.running.prepare import Prepared, prepare
from benchmark.streams.loading.images import StreamData
from leaderboards.boards import write_boards
from leaderboards.errors import BoardError
from strategies.registry import PRUNING, STRATEGIES


class Session:
    """Folders and store that the runs of one command share."""

    def __init__(self, data_root: Path, cache: Path, output: Path, tracking_uri: str | None, experiment: str):
        self.data_root = data_root
        self.cache = cache
        self.output = output
        self.tracking_uri = tracking_uri
        self.experiment = experiment
        self.notes: list[str] = []

    def plan(
        self, given: Mapping[str, Any], config_file: Path | None, profile: str | None, *, slim: bool = False
    ) -> list[Planned]:
        """All runs that were asked for; flags win over the file. With ``slim`` one of them has to lose channels.

        Raises:
            UsageError: an option is missing, unknown or out of range.
        """
        runs: dict[str, Planned] = {}
        documents = [merge(document, dict(given)) for document in (load_file(config_file) if config_file else [{}])]
        asked = [document.get("strategy", []) for document in documents]
        strategies = [str(name) for names in asked for name in (names if isinstance(names, list) else [names])]
        for options in documents:
            own_profile = options.pop("profile", None)
            for needed in ("stream", "strategy"):
                if needed not in options:
                    raise UsageError(f"--{needed} is missing: --list shows what there is")
            for planned in expand(options, profile=profile or own_profile, data_root=self.data_root, beside=strategies):
                runs.setdefault(planned.config.identity().key, planned)
        self.notes = unused_options({run.config.strategy: run.config for run in runs.values()}.values(), given)
        if slim:
            self.notes += check_slim([run.config for run in runs.values()])
        return list(runs.values())

    def preview(self, runs: Sequence[Planned]) -> str:
        """What would run and how long it would take; trains no more than some steps and records nothing.

        Raises:
            UsageError: a run could not start.
        """
        check_place(self.tracking_uri, self.output)
        self._say_stand_ins(runs)
        expected = expect(runs, data_root=self.data_root, cache=self.cache)
        notes = dict.fromkeys([*self.notes, *(note for one in expected for note in one.prepared.notes)])
        return describe(expected, [run.profile for run in runs], list(notes))

    def execute(
        self, runs: Sequence[Planned], *, jobs: int = 1, slim: bool = False, profile_trace: bool = False
    ) -> int:
        """Check all runs, then carry them out, ``jobs`` at a time; returns how many failed.

        ``slim`` records the networks that lose whole channels without them, too; ``profile_trace`` a profile of some
        training steps of each run.

        Raises:
            UsageError: a run cannot start; none has been started then.
        """
        loaded: dict[Any, StreamData] = {}
        prepared = self._prepare(runs, loaded)
        store = Store(self.tracking_uri, self.output, self.experiment)
        asked = (*(["slim"] if slim else ()), *(["trace"] if profile_trace else ()))
        jobs_to_do = [
            Job(number, one.config, run.profile, tuple(a for a in asked if a != "slim" or can_be_slimmed(one.config)))
            for number, (one, run) in enumerate(zip(prepared, runs, strict=True), start=1)
        ]
        processes = min(jobs, len(jobs_to_do))
        failed = 0
        with ExitStack() as stack:
            parent = stack.enter_context(store.group(f"{len(runs)} runs")) if len(runs) > 1 else None
            place = Place(self.data_root, self.cache, self.output, store.uri, self.experiment, parent)
            work = (
                in_turn(jobs_to_do, place, loaded) if processes == 1 else at_once(jobs_to_do, processes, place, store)
            )
            outcomes = stack.enter_context(closing(work))
            for ended, (job, outcome) in enumerate(outcomes, start=1):
                if isinstance(outcome, Failure):
                    failed += 1
                    rest = ", the others go on" if ended < len(jobs_to_do) else ""
                    say(f"Run {job.number} failed{rest}: {outcome.reason}")
                    continue
                for part in (f"\n{job.title}\n\n{summarise(outcome)}", *outcome.files):
                    click.echo(f"{part}\n")
        self._report(store, len(runs) - failed)
        return failed

    def _prepare(self, runs: Sequence[Planned], loaded: dict[Any, StreamData]) -> list[Prepared]:
        self._say_stand_ins(runs)
        prepared = [
            prepare(run.config, data_root=self.data_root, cache=self.cache, loaded=loaded, given=run.given)
            for run in runs
        ]
        for note in dict.fromkeys([*self.notes, *(note for one in prepared for note in one.notes)]):
            say(note)
        return prepared

    def _say_stand_ins(self, runs: Sequence[Planned]) -> None:
        for config in {(run.config.stream, run.config.data): run.config for run in runs}.values():
            if source_of(config.stream, config.data, self.data_root) == "synthetic":
                why = "" if config.data == "synthetic" or config.stream == "synthetic" else self._why(config.stream)
                say(f"STAND-IN IMAGES: {config.stream} runs on procedurally made images, not on real ones{why}.")

    def _why(self, stream: str) -> str:
        return f" (no images of it in {self.data_root}/, and no public download; --data real explains)"

    def _report(self, store: Store, finished: int) -> None:
        if not finished:
            return
        folder = self.output / "leaderboards"
        try:
            index = write_boards([store.uri], folder, experiment=self.experiment)
        except BoardError as error:
            raise UsageError(
                f"the runs are tracked in {store.uri}, but their boards were not written: {error}"
            ) from error
        click.echo(f"MLflow store:  {store.uri}")
        click.echo(f"Leaderboards:  {index}")


def unused_options(configs: Iterable[RunConfig], given: Mapping[str, Any]) -> list[str]:
    """A line for each option that was given and that a strategy does not read: it would change nothing there."""
    notes = []
    for config in configs:
        used = {*config.options(), *({"tau"} if "density" in config.options() else ())}
        if STRATEGIES.load(config.strategy).traits.memory != "own":
            used |= {"replay", *({"buffer_size"} if config.replay == "buffer" else ())}
        optional = (*PRUNING, "tau", "replay", "buffer_size")
        unused = [flag_of(name) for name in optional if name in given and name not in used]
        if unused:
            notes.append(f"Note: {config.strategy} does not use {', '.join(unused)}.")
    return notes
