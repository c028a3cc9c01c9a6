"""The MLflow store that runs are recorded in."""

from __future__ import annotations

import logging
import traceback
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlparse

from mlflow import MlflowClient
from mlflow.entities import DatasetInput, InputTag, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_PARENT_RUN_ID

from benchmark.console import say
from benchmark.errors import Unwritten, UsageError
from benchmark.metrics.glossary import glossary
from benchmark.recording.cells import CAMPAIGN, find_campaign, join_cells, read_list, write_cells
from benchmark.recording.creation import check_store, make_store, try_to_write
from benchmark.recording.environment import write_environment
from benchmark.recording.heartbeat import PROCESS, WORKER, heartbeat, is_alive, own_process, signs_of_life
from benchmark.recording.logger import MLflowLogger
from benchmark.recording.record import RunRecord
from benchmark.recording.spool import (
    FAREWELL,
    FOLDER,
    Away,
    InUse,
    deliver,
    impatient,
    kept,
    left_over,
    log_inputs,
    why_away,
)
from leaderboards.errors import BoardError
from leaderboards.glossary import to_tags
from leaderboards.record import PREFIX
from leaderboards.sources.addresses import is_database, sqlite_address, sqlite_file
from leaderboards.sources.store import reaching

VALUE_LENGTH = 500
"""Characters of a parameter, or of the reason of a failure."""


def check_place(tracking_uri: str | None, output: Path) -> None:
    """Make sure that runs can be recorded there, as far as that can be known without writing anything.

    Raises:
        UsageError: there can be no such store, it cannot be used, a tracking server does not answer, or a folder cannot
            be written.
    """
    try:
        uri = tracking_uri or default_address(output)
        with reaching(uri):
            try_to_write(output)
            file = sqlite_file(uri)
            if file is not None:
                check_store(file)
            elif not is_database(uri):
                # MLflow would write into a database; of other stores it looks at the address.
                MlflowClient(uri)
    except OSError as error:
        raise _unwritable(output, error) from error
    except BoardError as error:
        raise UsageError(str(error)) from error


def default_address(output: Path) -> str:
    """Of the store that runs are recorded in unless told otherwise: sqlite in the output folder.

    Raises:
        BoardError: the path has characters that no address can have.
    """
    return sqlite_address((output / "mlflow.db").resolve())


def _is_interruption(error: BaseException) -> bool:
    return isinstance(error, KeyboardInterrupt | SystemExit)


def _unwritable(output: Path, error: OSError) -> UsageError:
    return UsageError(f"cannot write to {output}: {error.strerror}; choose a folder with --output")


def _all_done(identities: Collection[str], finished: Collection[str]) -> bool:
    return bool(identities) and set(identities) <= set(finished)


class Store:
    """An MLflow store that has been reached, with the experiment that runs go into.

    The default store is sqlite in the output folder; its artifact folder is given as an absolute address, because
    MLflow would freeze a relative one.
    """

    def __init__(
        self,
        tracking_uri: str | None,
        output: Path,
        experiment: str,
        *,
        parent: str | None = None,
        tags: Mapping[str, str] | None = None,
        cache: Path | None = None,
    ):
        """Reach the store and create the experiment if it is not there.

        Args:
            tracking_uri: MLflow store; None takes the default one.
            output: folder of the default store, its artifacts and the boards.
            experiment: name of the MLflow experiment.
            parent: id of the run that all runs recorded here belong to.
            tags: of all runs recorded here.
            cache: folder that may have an empty store to begin a new one with.

        Raises:
            UsageError: the store cannot be reached or written, or is none.
        """
        self.parent = parent
        self.output = output
        self.tags = dict(tags or {})
        # MLflow and alembic report every table they make; a reader of this command has no use for it.
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        try:
            self.uri = tracking_uri or default_address(output)
            with reaching(self.uri):
                # The boards go there, wherever the runs are tracked: better to know now than after training.
                try_to_write(output)
                artifacts = (output / "artifacts").resolve().as_uri()
                file = sqlite_file(self.uri)
                if file is not None:
                    make_store(file, artifacts, cache)
                self.client = MlflowClient(self.uri)
                output.mkdir(parents=True, exist_ok=True)
                self.experiment_id = self._experiment(experiment, artifacts)
                self._explain()
        except OSError as error:
            raise _unwritable(output, error) from error
        except BoardError as error:
            raise UsageError(str(error)) from error

    def _experiment(self, name: str, artifacts: str) -> str:
        found = self.client.get_experiment_by_name(name)
        if found is None:
            # A server knows where its artifacts go; anything else would freeze a path relative to this folder.
            served = urlparse(self.uri).scheme in ("http", "https", "databricks")
            place, meanings = None if served else artifacts, to_tags(glossary().values())
            try:
                return str(self.client.create_experiment(name, artifact_location=place, tags=meanings))
            except MlflowException:
                # Another command may have made it since.
                found = self.client.get_experiment_by_name(name)
                if found is None:
                    raise
        if found.lifecycle_stage != "active":
            raise UsageError(f"the MLflow experiment {name!r} is deleted: restore it or name another one")
        return str(found.experiment_id)

    def _explain(self) -> None:
        """Write down what metrics mean, where the experiment does not say so yet."""
        written = self.client.get_experiment(self.experiment_id).tags
        for tag, text in to_tags(glossary().values()).items():
            if written.get(tag) != text:
                try:
                    self.client.set_experiment_tag(self.experiment_id, tag, text)
                except MlflowException:
                    # Another command may have added it between MLflow's look and its own; now it is changed.
                    self.client.set_experiment_tag(self.experiment_id, tag, text)

    @contextmanager
    def group(self, name: str, tags: Mapping[str, str] | None = None) -> Iterator[str]:
        """A run that several runs belong to; its id. It ends FINISHED if all of them did, KILLED when interrupted."""
        about = {**(tags or {}), **signs_of_life()}
        run_id = self.client.create_run(self.experiment_id, run_name=name, tags=about).info.run_id
        with self._under_way(run_id):
            yield run_id

    @contextmanager
    def campaign(
        self,
        name: str,
        cells: Sequence[Mapping[str, str]],
        tags: Mapping[str, str],
        *,
        finished: Collection[str] = (),
        whole: bool = True,
    ) -> Iterator[str]:
        """The run that all runs of a campaign belong to, whichever commands carry them out; its id.

        It is the one that an earlier command has made, if there is one. Its list of runs is that of the last command
        that asked for the ``whole`` campaign, and what others asked for besides. It ends as :meth:`group` does, but for
        a campaign that is not done yet: while another command still has runs under way it is left running, for that
        one to end, and where none has, and some were never begun, it ends SCHEDULED.

        Args:
            name: of the campaign.
            cells: ``identity`` and ``name`` of its runs.
            tags: of the run.
            finished: identities of runs that the store is known to have finished.
            whole: whether the campaign has no runs but ``cells``.
        """
        about = {**tags, PREFIX + CAMPAIGN: name, **signs_of_life()}
        found = find_campaign(self.client, self.experiment_id, name)
        if found is not None:
            run_id = found.info.run_id
            self.client.log_batch(run_id, tags=[RunTag(tag, text) for tag, text in about.items()])
            self.client.update_run(run_id, status="RUNNING")
            if not whole:
                with suppress(UsageError):
                    cells = join_cells(read_list(self.client, run_id, name), cells)
        else:
            run_id = self.client.create_run(self.experiment_id, run_name=name, tags=about).info.run_id
        write_cells(self.client, run_id, name, cells)
        identities = {cell["identity"] for cell in cells}
        if not _all_done(identities, finished):
            write_environment(self.client, run_id)
        with self._under_way(run_id, identities, finished):
            yield run_id

    @contextmanager
    def _under_way(
        self, run_id: str, identities: Collection[str] = (), finished: Collection[str] = ()
    ) -> Iterator[None]:
        """A context in which a run that several runs belong to shows signs of life; it ends as they did.

        ``identities`` are those of runs that have to be finished, too, whatever run they belong to; the store is not
        asked about them if all are ``finished``.
        """
        # Its runs have waited for a server that is away.
        with kept(self.client, self.uri, run_id, self.output, wait=0) as client:
            try:
                with heartbeat(self.client, run_id):
                    yield
            except BaseException as error:
                client.set_terminated(run_id, "KILLED" if _is_interruption(error) else "FAILED")
                raise
            status = "FINISHED" if _all_done(identities, finished) else self._end_of(run_id, identities)
            if status != "RUNNING":
                client.set_terminated(run_id, status)
        if left := left_over(client):
            say(f"Note: {left}.")

    def _end_of(self, parent: str, identities: Collection[str]) -> str:
        """Status of a run that others belong to, as far as the store knows: of each identity the best counts."""
        of_identity: dict[str, set[str]] = defaultdict(set)
        wanted = "" if identities else f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{parent}'"
        try:
            with impatient():
                token = None
                while True:
                    page = self.client.search_runs([self.experiment_id], wanted, page_token=token)
                    for run in page:
                        identity = run.data.tags.get(PREFIX + "identity", run.info.run_id)
                        if not identities or identity in identities:
                            of_identity[identity].add(run.info.status)
                    token = page.token
                    if not token:
                        break
        except MlflowException as error:
            if why_away(error) is None:
                raise
            return "FAILED"
        unfinished = [statuses for statuses in of_identity.values() if "FINISHED" not in statuses]
        if any("RUNNING" in statuses for statuses in unfinished):
            return "RUNNING"
        if not of_identity.keys() >= set(identities):
            return "SCHEDULED"
        return "FAILED" if unfinished else "FINISHED"

    def _go_on_with(self, run_id: str, tags: Mapping[str, str]) -> Run:
        """Let an earlier run be under way again, and count how often that was done.

        What it was recorded with stays until it has been put back: see :meth:`MLflowLogger.go_on`.

        Raises:
            UsageError: what is kept of it could not be delivered.
        """
        folder = self.output / FOLDER / run_id
        try:
            if folder.is_dir():
                # Points that the store has not got would be recorded twice.
                deliver(folder, self.uri)
        except (Away, InUse) as error:
            raise UsageError(
                f"run {run_id} cannot go on before all that is kept of it is delivered: {error}"
            ) from error
        run = self.client.get_run(run_id)
        if run.info.status == "FINISHED":
            raise UsageError(f"run {run_id} had finished; it is recorded now, and the same command takes it as done")
        resumed = {PREFIX + "resumed": str(int(run.data.tags.get(PREFIX + "resumed", 0)) + 1)}
        self.client.log_batch(run_id, tags=[RunTag(name, text) for name, text in {**tags, **resumed}.items()])
        if PREFIX + "failure" in run.data.tags:
            self.client.delete_tag(run_id, PREFIX + "failure")
        self.client.update_run(run_id, status="RUNNING")
        return run

    def close_left_by(self, workers: Iterable[str], status: str, reason: str) -> None:
        """Give runs that lost processes or tasks (:data:`WORKER`) have left marked as running their ``status``.

        Raises:
            BoardError: the store does not answer.
        """
        with impatient(FAREWELL), reaching(self.uri):
            for worker in workers:
                self._close_running({WORKER: worker}, status, reason)

    def _close_begun(self, record: RunRecord) -> None:
        """Mark the run of this process as interrupted whose beginning was: its id may not have come back."""
        own = {PROCESS: own_process(), "identity": record.tags.get(PREFIX + "identity", "")}
        # Where it does not answer now, the next command finds the process gone.
        with suppress(BoardError), impatient(FAREWELL), reaching(self.uri):
            self._close_running(own, "KILLED", "interrupted")

    def _close_running(self, tags: Mapping[str, str], status: str, reason: str) -> None:
        """Give runs with these tags (without prefix) that are marked as running a ``status``."""
        wanted = " and ".join(f"tags.`{PREFIX}{name}` = '{text}'" for name, text in tags.items())
        for left in self.client.search_runs([self.experiment_id], f"{wanted} and attributes.status = 'RUNNING'"):
            self.client.log_batch(left.info.run_id, tags=[RunTag(PREFIX + "failure", reason)])
            self.client.set_terminated(left.info.run_id, status)

    def close(self, run_id: str) -> None:
        """Mark a run whose process is gone as killed, unless another one has taken it up meanwhile."""
        run = self.client.get_run(run_id)
        own = {n.removeprefix(PREFIX): text for n, text in run.data.tags.items() if n.startswith(PREFIX)}
        if run.info.status != "RUNNING" or is_alive(own):
            return
        self.client.log_batch(run_id, tags=[RunTag(PREFIX + "failure", "its process was gone")])
        self.client.set_terminated(run_id, "KILLED")

    @contextmanager
    def run(
        self, record: RunRecord, *, resume: str | None = None, tell: Callable[[], Mapping[str, str]] = dict
    ) -> Iterator[MLflowLogger]:
        """A run that ends FINISHED, KILLED when interrupted, or FAILED with the reason as a tag.

        The traceback of a failure is the artifact ``failure.txt``. What a tracking server does not take, because it is
        away, is kept in the output folder until it does; :attr:`MLflowLogger.undelivered` says so at the end. With
        ``resume``, the id of an earlier run, that one goes on. ``tell`` gives tags, without prefix, that say how far
        it is.

        Raises:
            UsageError: the store is away before the run has begun.
        """
        place = {**self.tags, **({MLFLOW_PARENT_RUN_ID: self.parent} if self.parent else {}), **signs_of_life()}
        is_known = False
        try:
            try:
                with reaching(self.uri), impatient():
                    if resume is None:
                        tags = {**record.tags, **place}
                        begun = self.client.create_run(self.experiment_id, run_name=record.name, tags=tags)
                    else:
                        begun = self._go_on_with(resume, place)
            except BoardError as error:
                raise UsageError(str(error)) from error
            run_id = begun.info.run_id
            with kept(self.client, self.uri, run_id, self.output) as client:
                logger = MLflowLogger(client, run_id, str(begun.info.artifact_uri), is_put_back=resume is None)
                try:
                    is_known = True
                    with heartbeat(self.client, run_id, tell=tell):
                        # A run that goes on may be carried out in another way: what was written down first counts.
                        params = {name: value for name, value in record.params.items() if name not in begun.data.params}
                        shown = [Param(key, str(value)[:VALUE_LENGTH]) for key, value in params.items()]
                        client.log_batch(run_id, params=shown)
                        if record.dataset is not None and not (begun.inputs and begun.inputs.dataset_inputs):
                            context = InputTag(MLFLOW_DATASET_CONTEXT, "training and test")
                            log_inputs(client, run_id, [DatasetInput(record.dataset, [context])])
                        yield logger
                        logger.flush()
                    client.set_terminated(run_id, "FINISHED")
                except BaseException as error:
                    # A run that could not be put back can still be gone on with, and one whose files had no room.
                    interrupted = _is_interruption(error) or isinstance(error, Unwritten) or not logger.is_put_back
                    reason = "interrupted" if _is_interruption(error) else f"{type(error).__name__}: {error}"
                    client.log_batch(run_id, tags=[RunTag(PREFIX + "failure", reason[:VALUE_LENGTH])])
                    client.set_terminated(run_id, "KILLED" if interrupted else "FAILED")
                    if not _is_interruption(error) and not isinstance(error, Unwritten):
                        client.log_text(run_id, traceback.format_exc(), "failure.txt")
                    raise
        except BaseException as error:
            if not is_known and _is_interruption(error):
                self._close_begun(record)
            raise
