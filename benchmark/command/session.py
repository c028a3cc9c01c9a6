"""One call of the command: plan the runs, check them all, carry them out, refresh the boards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from benchmark.command.differences import name_group
from benchmark.command.options import flag_of, merge
from benchmark.command.preview import describe, expect
from benchmark.command.summary import summarise, summarise_briefly
from benchmark.config.files import load_file
from benchmark.config.grid import Planned, check_number, expand
from benchmark.config.run_config import RunConfig
from benchmark.config.source import source_of
from benchmark.console import say
from benchmark.engines.in_turn import in_turn
from benchmark.engines.job import Failure, Job, Left, Outcome, Place, course_of
from benchmark.engines.processes import at_once
from benchmark.errors import UsageError
from benchmark.recording.ledger import Ledger
from benchmark.recording.record import name_run, source_tags
from benchmark.recording.slim import can_be_slimmed, check_slim
from benchmark.recording.spool import LONGEST_TIMEOUT, deliver_rest, impatient, is_served
from benchmark.recording.store import Store, check_place
from benchmark.running.checkpoint import clear_checkpoints
from benchmark.running.claim import clear_claims
from benchmark.running.course import Course, Policy
from benchmark.running.interruption import Interruption
from benchmark.running.prepare import Prepared, prepare
from benchmark.streams.loading.images import StreamData
from leaderboards.errors import BoardError
from leaderboards.publish import publish
from leaderboards.store import reaching
from leaderboards.terminal import board_head
from strategies.registry import PRUNING, STRATEGIES

MANY = 5
"""Runs about which the same is said one by one."""

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
        check_number(documents)
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
        self,
        runs: Sequence[Planned],
        *,
        jobs: int = 1,
        slim: bool = False,
        profile_trace: bool = False,
        policy: Policy | None = None,
        interruption: Interruption | None = None,
    ) -> int:
        """Check all runs, then carry out what is not done, ``jobs`` at a time; returns how many were not recorded.

        ``slim`` records the networks that lose whole channels without them, too; ``profile_trace`` a profile of some
        training steps of each run. ``policy`` says what is done about runs that were begun before, ``interruption``
        whether the process was told to end.

        Raises:
            UsageError: a run cannot start; none has been started then.
        """
        loaded: dict[Any, StreamData] = {}
        # Images may take long to download and decode: a wrong place is better known before.
        check_place(self.tracking_uri, self.output)
        prepared = self._prepare(runs, loaded)
        store = Store(self.tracking_uri, self.output, self.experiment)
        place = Place(self.data_root, self.cache, self.output, store.uri, self.experiment, policy=policy or Policy())
        asked = [name for name, is_asked in (("slim", slim), ("trace", profile_trace)) if is_asked]
        planned = [
            Job(number, one.config, run.profile, tuple(a for a in asked if a != "slim" or can_be_slimmed(one.config)))
            for number, (one, run) in enumerate(zip(prepared, runs, strict=True), start=1)
        ]
        courses = self._survey(prepared, store, place)
        if asked and any(course.action == "leave" for course in courses):
            say("Note: --slim and --profile-trace write files about runs that are trained now, not about those left.")
        say_courses(planned, courses)
        left = [course for course in courses if course.action == "leave"]
        waiting = [job for job, course in zip(planned, courses, strict=True) if course.action != "leave"]
        finished = [course.run_id for course in left if course.run_id and not course.failed]
        failed = sum(course.failed for course in left)
        with ExitStack() as stack:
            if len(waiting) > 1:
                name = name_group([job.config for job in waiting])[:GROUP_NAME_LENGTH]
                place = replace(place, parent=stack.enter_context(store.group(name, source_tags())))
            processes = min(jobs, len(waiting))
            work = (
                at_once(waiting, processes, place, store)
                if processes > 1
                else in_turn(waiting, place, loaded, interruption)
            )
            for outcome in show(stack.enter_context(closing(work)), len(planned)):
                run_id = recorded(outcome)
                finished += [] if run_id is None else [run_id]
                # A run that another process has under way has neither failed nor finished.
                failed += run_id is None and not (isinstance(outcome, Left) and not outcome.failed)
        if finished:
            self._publish(store, finished if len(planned) > 1 else [])
        return failed

    def _survey(self, prepared: Sequence[Prepared], store: Store, place: Place) -> list[Course]:
        """What becomes of each run; and what processes have left that are gone is closed, unless it is gone on with.

        Raises:
            UsageError: the store is away, or a run was interrupted and could only go on with other code.
        """
        try:
            with reaching(store.uri), impatient():
                # What a run has not delivered may be that it has finished.
                if is_served(store.uri):
                    deliver_rest(self.output, store.uri)
                ledger = Ledger(store)
                courses = [course_of(one, ledger, place) for one in prepared]
                resumed = {course.run_id for course in courses if course.action == "go on"}
                abandoned = [run for run in ledger.abandoned() if run.run_id not in resumed]
                for run in abandoned:
                    store.close(run.run_id)
        except BoardError as error:
            raise UsageError(str(error)) from error
        if abandoned:
            say(f"Note: {len(abandoned)} runs whose processes are gone are marked as killed now.")
        clear_checkpoints(place.checkpoints, ledger.finished())
        clear_claims(place.checkpoints)
        return courses

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

    def _publish(self, store: Store, compared: Collection[str]) -> None:
        """Refresh the boards, and show the heads of those that the ``compared`` runs, by their ids, are on."""
        folder = self.output / "leaderboards"
        try:
            with impatient(LONGEST_TIMEOUT):
                reports = publish([store.uri], folder, experiment=self.experiment, say=say)
        except BoardError as error:
            raise UsageError(
                f"the runs are tracked in {store.uri}, but their boards were not written: {error}"
            ) from error
        for report in reports:
            if not set(compared).isdisjoint(report.board.runs.run_id):
                click.echo(f"\n{board_head(report)}\n")
        click.echo(f"MLflow store:  {store.uri}")
        click.echo(f"Leaderboards:  {folder / 'README.md'}")


def show(outcomes: Iterable[tuple[Job, Outcome]], jobs: int) -> Iterator[Outcome]:
    """Print what becomes of each of so many jobs: a run alone in full, of several a line each; passes all on."""
    for ended, (job, outcome) in enumerate(outcomes, start=1):
        if isinstance(outcome, Failure):
            rest = ", the others go on" if ended < jobs else ""
            say(f"Run {job.number} failed{rest}: {outcome.reason}")
        elif isinstance(outcome, Left):
            say(f"Run {job.number}, {name_run(job.config)}, {outcome.reason}.")
        else:
            if jobs == 1:
                click.echo(f"\n{job.title}\n\n{summarise(outcome)}\n")
            else:
                click.echo(f"Run {job.number}, {name_run(job.config)}: {summarise_briefly(outcome)}")
            for line in outcome.files:
                click.echo(line)
            if outcome.undelivered:
                say(f"Run {job.number} is not recorded: {outcome.undelivered}.")
        yield outcome


def recorded(outcome: Outcome) -> str | None:
    """Id of the finished run, now or before, that boards are made from; None where there is none."""
    if isinstance(outcome, Failure):
        return None
    if isinstance(outcome, Left):
        return None if outcome.failed else outcome.run_id
    return None if outcome.undelivered else outcome.run_id


def say_courses(jobs: Sequence[Job], courses: Sequence[Course]) -> None:
    """A line for each run that is not simply trained; of many that are left for one reason, how many there are."""
    told = Counter(course.why for course in courses if course.why)
    for job, course in zip(jobs, courses, strict=True):
        if course.why and told[course.why] <= MANY:
            say(f"Run {job.number}, {name_run(job.config)}, {course.why}.")
    for why, count in told.items():
        if count > MANY:
            say(f"{count} of {len(jobs)} runs: each {why}.")


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
