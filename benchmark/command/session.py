"""One call of the command: plan the runs, check them all, carry them out, refresh the boards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import click

from benchmark.command.differences import name_group
from benchmark.command.options import flag_of, merge
from benchmark.command.preview import describe, expect
from benchmark.command.summary import summarise, summarise_briefly
from benchmark.config.files import load_file
from benchmark.config.grid import Planned, expand
from benchmark.config.run_config import RunConfig
from benchmark.config.source import source_of
from benchmark.console import say
from benchmark.engines.in_turn import in_turn
from benchmark.engines.job import Failure, Job, Outcome, Place
from benchmark.engines.processes import at_once
from benchmark.errors import UsageError
from benchmark.recording.record import name_run, source_tags
from benchmark.recording.slim import can_be_slimmed, check_slim
from benchmark.recording.spool import LONGEST_TIMEOUT, impatient
from benchmark.recording.store import Store, check_place
from benchmark.running.prepare import Prepared, prepare
from benchmark.running.result import RunResult
from benchmark.streams.loading.images import StreamData
from leaderboards.errors import BoardError
from leaderboards.publish import publish
from leaderboards.terminal import board_head
from strategies.registry import PRUNING, STRATEGIES

GROUP_NAME_LENGTH = 200
"""Characters of the name of the run that the runs of a command belong to."""


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
        """Check all runs, then carry them out, ``jobs`` at a time; returns how many failed, or were not recorded.

        ``slim`` records the networks that lose whole channels without them, too; ``profile_trace`` a profile of some
        training steps of each run.

        Raises:
            UsageError: a run cannot start; none has been started then.
        """
        loaded: dict[Any, StreamData] = {}
        prepared = self._prepare(runs, loaded)
        store = Store(self.tracking_uri, self.output, self.experiment)
        asked = [name for name, is_asked in (("slim", slim), ("trace", profile_trace)) if is_asked]
        planned = [
            Job(number, one.config, run.profile, tuple(a for a in asked if a != "slim" or can_be_slimmed(one.config)))
            for number, (one, run) in enumerate(zip(prepared, runs, strict=True), start=1)
        ]
        with ExitStack() as stack:
            parent = None
            if len(planned) > 1:
                name = name_group([job.config for job in planned])[:GROUP_NAME_LENGTH]
                parent = stack.enter_context(store.group(name, source_tags()))
            place = Place(self.data_root, self.cache, self.output, store.uri, self.experiment, parent)
            processes = min(jobs, len(planned))
            work = in_turn(planned, place, loaded) if processes == 1 else at_once(planned, processes, place, store)
            finished = list(show(stack.enter_context(closing(work)), len(planned)))
        recorded = [result for result in finished if not result.undelivered]
        if recorded:
            self._publish(store, recorded if len(planned) > 1 else [])
        return len(planned) - len(recorded)

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

    def _publish(self, store: Store, compared: Sequence[RunResult]) -> None:
        """Refresh the boards, and show the heads of those that the ``compared`` runs are on."""
        folder = self.output / "leaderboards"
        try:
            with impatient(LONGEST_TIMEOUT):
                reports = publish([store.uri], folder, experiment=self.experiment)
        except BoardError as error:
            raise UsageError(
                f"the runs are tracked in {store.uri}, but their boards were not written: {error}"
            ) from error
        own = {result.run_id for result in compared}
        for report in reports:
            if not own.isdisjoint(report.board.runs.run_id):
                click.echo(f"\n{board_head(report)}\n")
        click.echo(f"MLflow store:  {store.uri}")
        click.echo(f"Leaderboards:  {folder / 'README.md'}")


def show(outcomes: Iterable[tuple[Job, Outcome]], jobs: int) -> Iterator[RunResult]:
    """Print what becomes of each of so many jobs: a run alone in full, of several a line each; passes results on."""
    for ended, (job, outcome) in enumerate(outcomes, start=1):
        if isinstance(outcome, Failure):
            rest = ", the others go on" if ended < jobs else ""
            say(f"Run {job.number} failed{rest}: {outcome.reason}")
            continue
        if jobs == 1:
            click.echo(f"\n{job.title}\n\n{summarise(outcome)}\n")
        else:
            click.echo(f"Run {job.number}, {name_run(job.config)}: {summarise_briefly(outcome)}")
        for line in outcome.files:
            click.echo(line)
        if outcome.undelivered:
            say(f"Run {job.number} is not recorded: {outcome.undelivered}.")
        yield outcome


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
