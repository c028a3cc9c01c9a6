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
from benchmark.command.options import check_needed, flag_of
from benchmark.command.preview import describe, expect
from benchmark.command.summary import summarise, summarise_briefly
from benchmark.config.campaign import Campaign, leaves_out
from benchmark.config.files import load_file
from benchmark.config.grid import Planned, check_number, expand
from benchmark.config.merge import merge
from benchmark.config.run_config import RunConfig
from benchmark.config.source import source_of
from benchmark.console import say
from benchmark.engines.job import Engine, Failure, Job, Left, Outcome, Place, course_of
from benchmark.engines.part import Part
from benchmark.errors import UsageError
from benchmark.recording.ledger import Ledger
from benchmark.recording.record import name_run, source_tags
from benchmark.recording.slim import can_be_slimmed, check_slim
from benchmark.recording.spool import LONGEST_TIMEOUT, deliver_rest, impatient, is_served
from benchmark.recording.store import Store, check_place, default_address
from benchmark.running.checkpoint import clear_checkpoints
from benchmark.running.claim import clear_claims
from benchmark.running.course import Course, Policy
from benchmark.running.prepare import Prepared, prepare
from benchmark.streams.loading.images import StreamData
from leaderboards.errors import BoardError
from leaderboards.numbers.report import Report
from leaderboards.publish import publish
from leaderboards.render.terminal import board_head
from leaderboards.sources.addresses import sqlite_file
from leaderboards.sources.store import reaching, reading
from strategies.registry import PRUNING, STRATEGIES, is_bounded

BOARDS = "boards"
"""Folder, among the files of a campaign's run, of its boards."""

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
        documents = load_file(config_file) if config_file else [{}]
        return self._plan([merge(document, given) for document in documents], given, profile, slim=slim)

    def plan_campaign(
        self, campaign: Campaign, given: Mapping[str, Any], profile: str | None, *, slim: bool = False
    ) -> list[Planned]:
        """All runs of a campaign; ``given`` are the options of the command line, which are part of it already.

        Raises:
            UsageError: an option is missing, unknown or out of range, or something is left out that is not there.
        """
        runs = self._plan(campaign.grids, given, profile, slim=slim)
        for number, block in enumerate(campaign.excluded, start=1):
            if not any(leaves_out(block, run.config) for run in runs):
                raise UsageError(f"block {number} of exclude leaves nothing out: no run has all of its values")
        kept = [run for run in runs if not any(leaves_out(block, run.config) for block in campaign.excluded)]
        if not kept:
            raise UsageError("exclude leaves out every run of the campaign")
        return kept

    def _plan(
        self, grids: Sequence[Mapping[str, Any]], given: Mapping[str, Any], profile: str | None, *, slim: bool
    ) -> list[Planned]:
        runs: dict[str, Planned] = {}
        check_number(grids)
        asked = [grid.get("strategy", []) for grid in grids]
        strategies = [str(name) for names in asked for name in (names if isinstance(names, list) else [names])]
        for grid in grids:
            options = dict(grid)
            own_profile = options.pop("profile", None)
            check_needed(options)
            for planned in expand(options, profile=profile or own_profile, data_root=self.data_root, beside=strategies):
                runs.setdefault(planned.config.identity().key, planned)
        self.notes = unused_options({run.config.strategy: run.config for run in runs.values()}.values(), given)
        if slim:
            self.notes += check_slim([run.config for run in runs.values()])
        return list(runs.values())

    def preview(self, runs: Sequence[Planned], policy: Policy | None = None, *, at_once: int = 1) -> str:
        """What would run and how long it would take; trains no more than some steps and records nothing.

        Args:
            runs: that were asked for.
            policy: what is to be done about runs that were begun before.
            at_once: how many runs would be carried out at a time.

        Raises:
            UsageError: a run could not start.
        """
        check_place(self.tracking_uri, self.output)
        self._say_stand_ins(runs)
        expected = expect(runs, data_root=self.data_root, cache=self.cache)
        notes = dict.fromkeys([*self.notes, *(note for one in expected for note in one.prepared.notes)])
        states = self._states([one.prepared for one in expected], policy or Policy())
        return describe(expected, [run.profile for run in runs], list(notes), states, at_once)

    def _states(self, prepared: Sequence[Prepared], policy: Policy) -> list[str]:
        """What the store knows of each run, in a word, and what would become of it; only reads."""
        try:
            uri = self.tracking_uri or default_address(self.output)
            file = sqlite_file(uri)
            if file is not None and not file.exists():
                return ["new"] * len(prepared)
            with reading(uri) as client, impatient():
                found = client.get_experiment_by_name(self.experiment)
                if found is None:
                    return ["new"] * len(prepared)
                ledger = Ledger(client, found.experiment_id)
        except BoardError as error:
            raise UsageError(str(error)) from error
        place = Place(self.data_root, self.cache, self.output, uri, self.experiment, policy=policy)
        return [_state(one, ledger, place) for one in prepared]

    def execute(
        self,
        runs: Sequence[Planned],
        *,
        engine: Engine,
        campaign: Campaign | None = None,
        part: Part | None = None,
        slim: bool = False,
        profile_trace: bool = False,
        plot: bool = False,
        policy: Policy | None = None,
    ) -> int:
        """Check all runs, then carry out what is not done with ``engine``; returns how many were not recorded.

        The runs of a ``campaign`` belong to one run of the store, whichever commands carry them out; with ``part`` this
        one takes some of them. ``slim`` records the networks that lose whole channels without them, too;
        ``profile_trace`` a profile of some training steps of each run; with ``plot`` the boards have figures, and the
        run of a campaign has its boards as files. ``policy`` says what is done about runs that were begun before.

        Raises:
            UsageError: a run cannot start; none has been started then.
        """
        loaded: dict[Any, StreamData] = {}
        # Images may take long to download and decode: a wrong place is better known before.
        check_place(self.tracking_uri, self.output)
        prepared = self._prepare(runs, loaded)
        store = Store(self.tracking_uri, self.output, self.experiment, cache=self.cache)
        place = Place(self.data_root, self.cache, self.output, store.uri, self.experiment, policy=policy or Policy())
        asked = [name for name, is_asked in (("slim", slim), ("trace", profile_trace)) if is_asked]
        planned = [
            Job(number, one.config, run.profile, tuple(a for a in asked if a != "slim" or can_be_slimmed(one.config)))
            for number, (one, run) in enumerate(zip(prepared, runs, strict=True), start=1)
        ]
        courses = self._survey(prepared, store, place)
        cells = [
            {"identity": one.config.identity(one.data.fingerprint).key, "name": name_run(one.config)}
            for one in prepared
        ]
        done = [
            cell["identity"]
            for cell, course in zip(cells, courses, strict=True)
            if course.action == "leave" and course.state == "finished"
        ]
        if part is not None:
            chosen = part.of([run.config.identity().key for run in runs])
            say(f"Part {part}: {len(chosen)} of {len(runs)} runs.")
            planned, courses = [planned[n] for n in chosen], [courses[n] for n in chosen]
        if asked and any(course.action == "leave" for course in courses):
            say("Note: --slim and --profile-trace write files about runs that are trained now, not about those left.")
        say_courses(planned, courses)
        left = [course for course in courses if course.action == "leave"]
        waiting = [job for job, course in zip(planned, courses, strict=True) if course.action != "leave"]
        finished = [course.run_id for course in left if course.run_id and not course.failed]
        failed = sum(course.failed for course in left)
        with ExitStack() as stack:
            if campaign is not None:
                parent = stack.enter_context(
                    store.campaign(campaign.name, cells, source_tags(), finished=done, whole=campaign.is_whole)
                )
                place = replace(place, parent=parent)
            elif len(waiting) > 1:
                name = name_group([job.config for job in waiting])[:GROUP_NAME_LENGTH]
                place = replace(place, parent=stack.enter_context(store.group(name, source_tags())))
            work = engine(waiting, place, store, loaded)
            for outcome in show(stack.enter_context(closing(work)), len(planned)):
                run_id = recorded(outcome)
                finished += [] if run_id is None else [run_id]
                # A run that another process has under way has neither failed nor finished.
                failed += run_id is None and not (isinstance(outcome, Left) and not outcome.failed)
        if finished:
            reports = self._publish(store, finished if len(planned) > 1 else [], plot)
            if plot and campaign is not None and place.parent is not None:
                own = [one.board.file_name for one in reports if not set(finished).isdisjoint(one.board.runs.run_id)]
                self._keep_boards(store, place.parent, own)
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
                ledger = Ledger(store.client, store.experiment_id)
                courses = [course_of(one, ledger, place) for one in prepared]
                resumed = {course.run_id for course in courses if course.action == "go on"}
                abandoned = [run for run in ledger.abandoned() if run.run_id not in resumed]
                for run in abandoned:
                    store.close(run.run_id)
        except BoardError as error:
            raise UsageError(str(error)) from error
        if abandoned:
            say(f"Note: {len(abandoned)} runs whose processes are gone are marked as killed now.")
        clear_checkpoints(place.checkpoints, ledger.over())
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

    def _publish(self, store: Store, compared: Collection[str], plot: bool) -> list[Report]:
        """Refresh the boards, and show the heads of those that the ``compared`` runs, by their ids, are on."""
        folder = self.output / "leaderboards"
        try:
            with impatient(LONGEST_TIMEOUT):
                reports = publish([store.uri], folder, experiment=self.experiment, figures=plot, say=say)
        except BoardError as error:
            raise UsageError(
                f"the runs are tracked in {store.uri}, but their boards were not written: {error}"
            ) from error
        for report in reports:
            if not set(compared).isdisjoint(report.board.runs.run_id):
                click.echo(f"\n{board_head(report)}\n")
        click.echo(f"MLflow store:  {store.uri}")
        click.echo(f"Leaderboards:  {folder / 'README.md'}")
        return reports

    def _keep_boards(self, store: Store, run_id: str, pages: Sequence[str]) -> None:
        """Make boards, by the names of their pages, files of a run of the store."""
        folder = self.output / "leaderboards"
        try:
            with reaching(store.uri), impatient(LONGEST_TIMEOUT):
                for page in pages:
                    store.client.log_artifact(run_id, str(folder / page), BOARDS)
                    store.client.log_artifacts(run_id, str(folder / Path(page).stem), f"{BOARDS}/{Path(page).stem}")
        except (BoardError, OSError) as error:
            say(f"Note: the boards are in {folder}, and could not be put into the store: {error}.")


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


def _state(prepared: Prepared, ledger: Ledger, place: Place) -> str:
    try:
        course = course_of(prepared, ledger, place)
    except UsageError:
        return "interrupted with other code"
    if course.action == "go on":
        return "resumable"
    if course.action == "leave":
        return "failed, left" if course.failed else course.state
    return f"{course.state}, again" if course.state else "new"


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
            used |= {"replay", *({"buffer_size"} if is_bounded(config.replay) else ())}
        optional = (*PRUNING, "tau", "replay", "buffer_size")
        unused = [flag_of(name) for name in optional if name in given and name not in used]
        if unused:
            notes.append(f"Note: {config.strategy} does not use {', '.join(unused)}.")
    return notes
