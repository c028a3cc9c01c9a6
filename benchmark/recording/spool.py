"""What a run writes to a tracking server: kept on disk first, then delivered in order, once, as soon as it answers."""

from __future__ import annotations

import json
import math
import os
import shutil
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import requests
from filelock import FileLock, Timeout
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelInput, Metric, Param, RunTag
from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES, MLFLOW_HTTP_REQUEST_TIMEOUT
from mlflow.exceptions import MlflowException
from mlflow.utils.async_logging.run_operations import RunOperations
from urllib3.exceptions import HTTPError, MaxRetryError

from benchmark.console import say

FOLDER = "spool"
"""Folder in the output folder that holds a folder for each run that is under way, or was not delivered whole."""

TIMEOUT, LONGEST_TIMEOUT = 5, 120
"""Seconds that a request of a delivery may take, unless MLFLOW_HTTP_REQUEST_TIMEOUT says otherwise: at first and at
most. They are doubled after each timeout, for a server that is slow and not away."""

PATIENCE = 30
"""Seconds that a request may take that everything else waits for."""

PAUSE, LONGEST_PAUSE = 0.5, 300.0
"""Seconds between two tries, the first and the longest; each is twice the one before."""

LAST_PAUSE = 5.0
"""Longest pause in seconds once a run waits for nothing but its delivery."""

LAST_WAIT = 30.0
"""Seconds that a run whose training is over waits for a server that does not answer."""

BEGINNING = 300.0
"""Seconds that a run which is about to begin waits for a server that does not answer."""

FAREWELL = 2
"""Seconds that an interrupted run has to say so to a server that answers."""

KEEP_TRYING = frozenset({408, 429})
"""Status codes below 500 by which a server asks to come back later."""


class Away(Exception):
    """A server that cannot be asked now; the message is the reason in some words, such as ``connection refused``."""


class InUse(Exception):
    """A journal that another process writes or delivers."""


def is_served(uri: str) -> bool:
    """Whether a store is reached through a network, and may go away."""
    return urlparse(uri).scheme in ("http", "https")


def wait_until_served(uri: str, patience: float = BEGINNING) -> None:
    """Wait for a server that is away, ``patience`` seconds at most; it is said.

    Without it all runs to come would fail within the minute that a server takes to be started anew. What is wrong
    otherwise, and a server that stays away, is found by whoever asks it next.
    """
    if not is_served(uri):
        return
    client, began, pause, is_said = MlflowClient(uri), time.monotonic(), PAUSE, False
    while True:
        try:
            with impatient(TIMEOUT):
                client.search_experiments(max_results=1)
        except Exception as error:
            reason = why_away(error)
            if reason is None or time.monotonic() - began >= patience:
                return
            if not is_said:
                say(
                    f"The tracking server at {uri} does not answer ({reason}): the next run waits for it, up to "
                    f"{patience / 60:.0f} minutes."
                )
            is_said = True
            time.sleep(pause)
            pause = min(2 * pause, LAST_PAUSE)
        else:
            if is_said:
                say(f"The tracking server at {uri} answers again.")
            return


@contextmanager
def impatient(seconds: int = PATIENCE) -> Iterator[None]:
    """A context in which MLflow's requests fail after so many seconds, at once where nobody listens.

    By itself MLflow's client goes on for minutes. What the environment says of it is left as it is.
    """
    wanted = {MLFLOW_HTTP_REQUEST_MAX_RETRIES: 0, MLFLOW_HTTP_REQUEST_TIMEOUT: seconds}
    with _environment:
        ours = [variable for variable in wanted if _users[variable.name] or not variable.is_set()]
        for variable in ours:
            _users[variable.name] += 1
            variable.set(wanted[variable])
    try:
        yield
    finally:
        with _environment:
            for variable in ours:
                _users[variable.name] -= 1
                if not _users[variable.name]:
                    variable.unset()


_environment = threading.Lock()
_users: Counter[str] = Counter()


def why_away(error: BaseException) -> str | None:
    """Why a server could not be asked, in some words; None: it was, and refused, or the error is one of our own."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        inner = next((one for one in link.args if isinstance(one, BaseException)), None)
        link = link.__cause__ or link.__context__ or inner
    answers = [one.response for one in chain if isinstance(one, requests.HTTPError) and one.response is not None]
    if answers:
        return _come_back(answers[0].status_code)
    if any(isinstance(one, requests.Timeout | TimeoutError) for one in chain):
        return "timed out"
    network = (requests.ConnectionError, requests.exceptions.ChunkedEncodingError, requests.exceptions.RetryError)
    if any(isinstance(one, (*network, HTTPError, ConnectionError, socket.gaierror)) for one in chain):
        system = [one.strerror for one in chain if isinstance(one, OSError) and one.strerror]
        counted = [str(one.reason) for one in chain if isinstance(one, MaxRetryError) and one.reason]
        return (system or counted or [str(chain[-1])])[-1].lower()
    return _come_back(error.get_http_status_code()) if isinstance(error, MlflowException) else None


def _come_back(status: int) -> str | None:
    return f"HTTP status {status}" if status >= 500 or status in KEEP_TRYING else None


class Journal:
    """What is to be written about one run, oldest first, in a folder; of one process at a time.

    ``journal.jsonl`` begins with a line about the run, then has a line for each operation; ``delivered`` is how many of
    its bytes have been delivered. Files of the run wait in a folder for each operation beside it.

    Attributes:
        folder: of the run.
        run_id, uri: of the run, and of the server that it was begun on.
        reopened: whether another process has written it.
    """

    def __init__(self, folder: Path, run_id: str = "", uri: str = ""):
        """Open the journal of a run, or begin it where a ``run_id`` is given.

        Raises:
            InUse: another process has it open.
            FileNotFoundError: there is none, and none is to be begun.
        """
        self.folder = folder
        self.path = folder / "journal.jsonl"
        if run_id:
            folder.mkdir(parents=True, exist_ok=True)
        elif not self.path.exists():
            raise FileNotFoundError(self.path)
        self._lock = FileLock(folder / "lock")
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise InUse(f"{folder} is in use") from error
        self.path.touch()
        self._file = self.path.open("r+b", buffering=0)
        whole = [line for line in self._file.readlines() if line.endswith(b"\n")]
        self.end = sum(map(len, whole))
        # A process that was killed may have left half a line.
        self._file.truncate(self.end)
        self.operations = max(0, len(whole) - 1)
        self._delivered = folder / "delivered"
        self.reopened = bool(whole)
        if not whole:
            self._write({"run": run_id, "tracking_uri": uri})
        self._file.seek(0)
        header = self._file.readline()
        about = json.loads(header)
        self.run_id, self.uri = about["run"], about["tracking_uri"]
        said = self._delivered.read_text() if self._delivered.exists() else ""
        self.start = int(said) if said.isdigit() else len(header)

    def append(self, operation: dict[str, Any]) -> None:
        """Write down one more operation; it survives this process, and the machine."""
        self._write(operation)
        self.operations += 1

    def new_folder(self) -> Path:
        """A folder for the files of the operation that is appended next."""
        folder = self.folder / str(self.operations)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    def oldest(self) -> dict[str, Any] | None:
        """The first operation that has not been delivered; None: all have been."""
        if self.start >= self.end:
            return None
        with self.path.open("rb") as file:
            file.seek(self.start)
            line = file.readline()
        operation: dict[str, Any] = json.loads(line)
        return operation | {"end": self.start + len(line)}

    def done(self, operation: dict[str, Any]) -> None:
        """The oldest operation has been delivered."""
        draft = self.folder / "delivered.new"
        # Without the note it would be found on the server.
        with suppress(OSError):
            draft.write_text(str(operation["end"]))
            draft.replace(self._delivered)
        self.start = operation["end"]
        if "folder" in operation:
            shutil.rmtree(self.folder / operation["folder"], ignore_errors=True)

    def close(self) -> None:
        """Let go of it; where all has been delivered nothing stays behind."""
        self._file.close()
        if self.start >= self.end:
            for path in (self.path, self._delivered):
                path.unlink(missing_ok=True)
        self._lock.release()
        if not self.path.exists():
            shutil.rmtree(self.folder, ignore_errors=True)
            with suppress(OSError):  # Other runs are in it.
                self.folder.parent.rmdir()

    def _write(self, line: dict[str, Any]) -> None:
        text = json.dumps(line).encode() + b"\n"
        try:
            self._file.seek(self.end)
            written = 0
            while written < len(text):
                written += self._file.write(text[written:])
            os.fsync(self._file.fileno())
        except BaseException:
            self._file.truncate(self.end)
            raise
        self.end += len(text)


class Delivery:
    """Carries out the operations of a journal on a server, one by one.

    Attributes:
        heard: when the server has answered a question about what has arrived, in seconds of the monotonic clock.
    """

    heard = -math.inf

    def __init__(self, journal: Journal, client: MlflowClient):
        self.journal = journal
        self.client = client
        # What was sent may have arrived though its answer has not.
        self._doubt = journal.reopened

    def carry_out(self, operation: dict[str, Any]) -> None:
        """Carry out the oldest operation; what has arrived of it before is not sent again.

        Raises:
            Away: the server cannot be asked now.
            Exception: it refuses the operation.
        """
        try:
            self._carry_out(operation)
        except Exception as error:
            self._doubt = True
            reason = why_away(error)
            if reason is None:
                raise
            raise Away(reason) from error

    def _carry_out(self, operation: dict[str, Any]) -> None:
        run_id = self.journal.run_id
        if "status" in operation:
            self.client.set_terminated(run_id, operation["status"], operation["time"])
        elif "folder" in operation:
            self.client.log_artifacts(run_id, str(self.journal.folder / operation["folder"]))
        elif "inputs" in operation:
            log_inputs(self.client, run_id, [_read_input(one) for one in operation["inputs"]])
        else:
            metrics = [Metric(*point) for point in operation["metrics"]]
            if self._doubt and metrics:
                metrics = self._missing(metrics)
                # Nothing was ever sent beyond an operation that has not arrived whole.
                self._doubt = not metrics
            params = [Param(*param) for param in operation["params"]]
            tags = [RunTag(*tag) for tag in operation["tags"]]
            self.client.log_batch(run_id, metrics, params, tags)

    def _missing(self, metrics: Sequence[Metric]) -> list[Metric]:
        """Those of the points that the server has not got."""
        run_id = self.journal.run_id
        there: set[tuple[str, int, int, str]] = set()
        for name in {point.key for point in metrics}:
            there.update(map(_identity, self.client.get_metric_history(run_id, name)))
            self.heard = time.monotonic()
        return [point for point in metrics if _identity(point) not in there]


def _identity(point: Metric) -> tuple[str, int, int, str]:
    # Databases have no infinity: MLflow's keep the largest number in its place.
    value = point.value if math.isnan(point.value) else max(-sys.float_info.max, min(point.value, sys.float_info.max))
    return point.key, point.step, point.timestamp, repr(float(value))


def log_inputs(client: MlflowClient, run_id: str, inputs: Sequence[DatasetInput]) -> None:
    """Write down what a run trains on.

    MLflow first looks for a data set and then adds it: two runs that do so at once both add it, and one of them is
    refused. It finds the other's when it asks again.
    """
    try:
        client.log_inputs(run_id, inputs)
    except MlflowException:
        client.log_inputs(run_id, inputs)


def _read_input(written: dict[str, Any]) -> DatasetInput:
    return DatasetInput(Dataset(**written["dataset"]), [InputTag(*tag) for tag in written["tags"]])


class SpoolingClient(MlflowClient):
    """A client that keeps on disk what is written about one run, and delivers it by a thread of its own.

    No method that writes ever waits for the server, except for a status of FINISHED. What the server refuses is raised
    with the next points, or with that status. All that reads asks the server.

    Attributes:
        undelivered: once it is closed, a line about what the server has not got, and how to deliver it; or empty.
    """

    def __init__(self, uri: str, run_id: str, output: Path):
        """Of one run of a server; ``output`` is the folder that holds the spool.

        Raises:
            InUse: another process writes about the run, or delivers what was written.
        """
        super().__init__(uri)
        self.undelivered = ""
        self._uri = uri
        self._output = output
        self._journal = Journal(output / FOLDER / run_id, run_id, uri)
        self._delivery = Delivery(self._journal, MlflowClient(uri))
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._refusal: Exception | None = None
        self._away_since: float | None = None
        self._hurry = False
        self._closed = False

    def log_batch(
        self,
        run_id: str,
        metrics: Sequence[Metric] = (),
        params: Sequence[Param] = (),
        tags: Sequence[RunTag] = (),
        synchronous: bool | None = None,
    ) -> RunOperations | None:
        """Points, parameters and tags."""
        if metrics:
            self.raise_refusal()
        self._append(
            metrics=[[point.key, point.value, point.timestamp, point.step] for point in metrics],
            params=[[param.key, param.value] for param in params],
            tags=[[tag.key, tag.value] for tag in tags],
        )
        return None

    def log_inputs(
        self,
        run_id: str,
        datasets: Sequence[DatasetInput] | None = None,
        models: Sequence[LoggedModelInput] | None = None,
    ) -> None:
        """Data sets."""
        written = [
            {"dataset": dict(one.dataset), "tags": [[tag.key, tag.value] for tag in one.tags]} for one in datasets or ()
        ]
        self._append(inputs=written)

    def log_artifacts(self, run_id: str, local_dir: str, artifact_path: str | None = None) -> None:
        """Copies of all files of a folder."""
        with self._changed:
            folder = self._journal.new_folder()
            shutil.copytree(local_dir, folder / (artifact_path or "."), dirs_exist_ok=True)
            self._append(folder=folder.name)

    def log_artifact(self, run_id: str, local_path: str, artifact_path: str | None = None) -> None:
        """A copy of one file."""
        self._log_file(Path(artifact_path or ".") / Path(local_path).name, Path(local_path).read_bytes())

    def log_text(self, run_id: str, text: str, artifact_file: str) -> None:
        """A file with this text."""
        self._log_file(Path(artifact_file), text.encode())

    def _log_file(self, path: Path, content: bytes) -> None:
        with self._changed:
            folder = self._journal.new_folder()
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
            self._append(folder=folder.name)

    def set_terminated(self, run_id: str, status: str | None = None, end_time: int | None = None) -> None:
        """How the run has ended, and when: now, whenever it is delivered.

        FINISHED waits for a server that answers, which may still refuse what came before.
        """
        ended = end_time or time.time_ns() // 1_000_000
        if status == "FINISHED":
            with self._changed:
                self._changed.wait_for(lambda: self._refusal or self._away_since or not self._pending())
            self.raise_refusal()
        self._append(status=status, time=ended)

    def close(self, *, interrupted: bool = False, wait: float | None = None) -> None:
        """Wait until all is delivered, ``wait`` or LAST_WAIT seconds at most for a server that does not answer.

        After an interruption such a server is not waited for, nor for long one that answers.
        """
        wait = 0.0 if interrupted else LAST_WAIT if wait is None else wait
        began = time.monotonic()
        with self._changed:
            if self._closed:
                return
            self._hurry = True
            self._changed.notify_all()
            if self._away_since and wait and self._pending():
                say(
                    f"Waiting up to {wait:.0f} s for the tracking server at {self._uri} (Ctrl-C ends the wait; nothing "
                    "is lost)"
                )
            try:
                while self._pending():
                    now = time.monotonic()
                    if self._away_since and now >= max(began, self._away_since, self._delivery.heard) + wait:
                        break
                    if interrupted and now >= began + FAREWELL:
                        break
                    self._changed.wait(0.1)
            finally:
                self._closed = True
                self._changed.notify_all()
                if self._pending():
                    self.undelivered = (
                        f"the tracking server at {self._uri} has not got all of it; the rest is kept in "
                        f"{self._journal.folder}: once the server answers, python -m benchmark.deliver --output "
                        f"{self._output} delivers it"
                    )
                self._journal.close()

    def raise_refusal(self) -> None:
        """Raise what the server has refused since this was called last."""
        refusal, self._refusal = self._refusal, None
        if refusal is not None:
            raise refusal

    def _pending(self) -> bool:
        return self._journal.start < self._journal.end

    def _append(self, **operation: Any) -> None:
        with self._changed:
            self._journal.append(operation)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="delivery", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def _work(self) -> None:
        try:
            self._deliver()
        except Exception as error:  # Of the disk, say: nobody waits for this thread then.
            with self._changed:
                self._refusal, self._away_since = error, time.monotonic()
                self._changed.notify_all()

    def _deliver(self) -> None:
        """Deliver what is written, until there is nothing more to come."""
        pause, timeout = PAUSE, TIMEOUT
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._pending())
                if self._closed:
                    return
                operation = self._journal.oldest()
                assert operation is not None
            refusal = None
            try:
                with impatient(timeout):
                    self._delivery.carry_out(operation)
            except Away as away:
                if str(away) == "timed out":
                    timeout = min(2 * timeout, LONGEST_TIMEOUT)
                self._wait(away, pause)
                pause = min(2 * pause, LONGEST_PAUSE)
                continue
            except Exception as error:
                refusal = error
            with self._changed:
                if self._closed:
                    return
                if self._away_since is not None:
                    say(f"The tracking server at {self._uri} answers again: what was kept is being delivered.")
                pause, self._away_since = PAUSE, None
                self._refusal = self._refusal or refusal
                self._journal.done(operation)
                self._changed.notify_all()

    def _wait(self, away: Away, pause: float) -> None:
        """Wait until the next try; say so where it is not the first, which may have met a connection grown stale."""
        with self._changed:
            known = self._away_since is not None
            if not known and (pause > PAUSE or str(away) == "timed out"):
                self._away_since = time.monotonic()
                say(
                    f"The tracking server at {self._uri} does not answer ({away}): points are kept in "
                    f"{self._journal.path} until it does."
                )
                self._changed.notify_all()
            hurried = self._hurry
            if not self._closed:
                self._changed.wait_for(
                    lambda: self._closed or self._hurry > hurried, min(pause, LAST_PAUSE) if hurried else pause
                )


@contextmanager
def kept(
    client: MlflowClient, uri: str, run_id: str, output: Path, *, wait: float | None = None
) -> Iterator[MlflowClient]:
    """A client to write about one run with: ``client`` itself, or for a tracking server one that keeps what it writes.

    Leaving the context waits for the server as :meth:`SpoolingClient.close` says.
    """
    if not is_served(uri):
        yield client
        return
    spooling = SpoolingClient(uri, run_id, output)
    try:
        yield spooling
        spooling.close(wait=wait)
    except BaseException as error:
        spooling.close(interrupted=not isinstance(error, Exception), wait=wait)
        if spooling.undelivered:
            say(f"Run {run_id}: {spooling.undelivered}.")
        raise
    spooling.raise_refusal()


def left_over(client: MlflowClient) -> str:
    """Once a run has ended, a line about what its server has not got, and how to deliver it; or empty."""
    return client.undelivered if isinstance(client, SpoolingClient) else ""


def spools(output: Path) -> list[Path]:
    """Folders of the runs of which something is kept in an output folder."""
    return sorted(path.parent for path in (output / FOLDER).glob("*/journal.jsonl"))


def deliver_rest(output: Path, uri: str) -> None:
    """Deliver what earlier runs have left in an output folder, as far as it can be; what is refused is said."""
    for folder in spools(output):
        try:
            deliver(folder, uri)
        except (Away, InUse):
            continue
        except Exception as error:
            # What a server refuses of one run, or what is damaged, is no reason to carry out none.
            say(f"Note: what is kept in {folder} cannot be delivered ({type(error).__name__}: {error}).")


def deliver(folder: Path, uri: str | None = None) -> str:
    """Deliver what is kept of one run in ``folder``; returns its id.

    Args:
        folder: of the run.
        uri: of the server; None: the one that the run was begun on.

    Raises:
        InUse: the run is under way, or another process delivers it.
        Away: the server does not answer; what has arrived is noted.
        Exception: the server refuses what is kept.
    """
    journal = Journal(folder)
    try:
        if journal.oldest() is None:
            return journal.run_id
        client = MlflowClient(uri or journal.uri)
        try:
            with impatient():
                client.get_run(journal.run_id)
        except Exception as error:
            reason = why_away(error)
            if reason is None:
                raise
            raise Away(reason) from error
        delivery = Delivery(journal, client)
        while (operation := journal.oldest()) is not None:
            with impatient(LONGEST_TIMEOUT):
                delivery.carry_out(operation)
            journal.done(operation)
        return journal.run_id
    finally:
        journal.close()
