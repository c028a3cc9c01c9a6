"""A tracking server that goes away while a run writes to it, behind a proxy that fails as it is told."""

from __future__ import annotations

import json
import math
import os
import random
import signal
import socket
import struct
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from threading import Event, Thread, Timer
from urllib.parse import urlparse

import pytest
from commands import environment_of
from mlflow import MlflowClient
from mlflow.entities import Dataset
from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES, MLFLOW_HTTP_REQUEST_TIMEOUT
from mlflow.exceptions import MlflowException

from benchmark import deliver
from benchmark.errors import UsageError
from benchmark.recording import spool
from benchmark.recording.record import RunRecord
from benchmark.recording.spool import Journal, impatient
from benchmark.recording.store import Store

KINDS = ("reset", "hang", "drop", "503")


class Proxy:
    """Passes requests on to a server, but for those that ``fault`` names a kind of failure for.

    Attributes:
        fault: (method, path, body) -> one of ``KINDS``, or None; asked about what comes after a run was created.
        arrived: the requests that the server has got.
    """

    def __init__(self, server: str):
        self.target = urlparse(server).netloc
        self.fault = lambda _: None
        self.created = Event()
        self.met = Event()
        self.released = Event()
        self.arrived = []
        self.port = 0
        self.up()

    @property
    def uri(self):
        return f"http://127.0.0.1:{self.port}"

    def up(self):
        """Listen, at the same address as before."""
        handler = type("Handler", (_Handler,), {"proxy": self})
        self.listener = ThreadingHTTPServer(("127.0.0.1", self.port), handler)
        self.listener.daemon_threads = True
        self.port = self.listener.server_port
        Thread(target=self.listener.serve_forever, args=(0.01,), daemon=True).start()

    def down(self):
        """Refuse connections."""
        self.listener.shutdown()
        self.listener.server_close()

    def forward(self, method, path, body, headers):
        connection = HTTPConnection(self.target, timeout=60)
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        self.arrived.append((method, path, body))
        return answer.status, answer.getheaders(), answer.read()

    def points(self, run_id):
        """All metric points of a run that the server has got, in the order in which they arrived."""
        batches = [json.loads(body) for _, path, body in self.arrived if path.endswith("/log-batch")]
        points = [point for batch in batches if batch["run_id"] == run_id for point in batch.get("metrics", ())]
        return [(point["key"], point.get("step", 0), float(point["value"])) for point in points]


class _Handler(BaseHTTPRequestHandler):
    def answer(self):
        proxy = self.proxy
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        request = (self.command, self.path, body)
        kind = proxy.fault(request) if proxy.created.is_set() else None
        if kind is not None:
            proxy.met.set()
        if kind == "hang":
            proxy.released.wait()
        if kind in ("reset", "hang"):
            self.reset()
            return
        headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
        status, headers, content = (503, [], b"") if kind == "503" else proxy.forward(*request, headers)
        if kind == "drop":
            self.reset()
            return
        if self.path.endswith("/runs/create"):
            proxy.created.set()
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        try:
            self.end_headers()
            self.wfile.write(content)
        except ConnectionError:
            # On a busy machine the client may have given up meanwhile: it has to ask again.
            if request in proxy.arrived:
                proxy.arrived.remove(request)

    do_GET = do_POST = do_PUT = do_PATCH = answer  # noqa: N815

    def reset(self):
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # The socket is open as long as its files are.
        for one in (self.rfile, self.wfile, self.connection):
            one.close()
        self.rfile, self.wfile = BytesIO(), BytesIO()

    def log_message(self, *args):
        pass


@pytest.fixture
def proxy(server, monkeypatch):
    monkeypatch.setattr(spool, "PAUSE", 0.01)
    monkeypatch.setattr(spool, "LONGEST_PAUSE", 0.1)
    monkeypatch.setenv("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    proxy = Proxy(server)
    yield proxy
    proxy.released.set()
    proxy.down()


@pytest.fixture
def short(monkeypatch):
    """A silent server is found out soon."""
    monkeypatch.setattr(MLFLOW_HTTP_REQUEST_TIMEOUT, "type", float)
    monkeypatch.setenv(MLFLOW_HTTP_REQUEST_TIMEOUT.name, "0.5")


@pytest.fixture
def delivered(capsys):
    """Function: the command that delivers, in this process: its exit code, what it printed and what it said."""

    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            deliver.main(list(map(str, arguments)))
        return (ended.value.code, *capsys.readouterr())

    return call


POINTS = [[(f"series/{name}", step, step / 3) for name in ("a", "b")] for step in range(2)] + [
    [("odd", 0, math.nan), ("odd", 1, math.inf), ("odd", 2, -math.inf)]
]
"""Of some megabatches."""


def begin(store, name="made up"):
    return store.run(RunRecord(name, {"lr": 0.1}, {"kind": "test"}, Dataset("images", "digest", "local", "{}")))


def write(logger, folder, points=POINTS):
    for batch in points:
        for name, step, value in batch:
            logger.log_single_metric(name, value, step)
        logger.flush()
    (folder / "files" / "deeper").mkdir(parents=True, exist_ok=True)
    (folder / "files" / "deeper" / "file.txt").write_text("kept")
    logger.client.log_artifacts(logger.run_id, str(folder / "files"))
    logger.client.log_text(logger.run_id, "a text", "text.txt")


def record(store, folder, name="made up"):
    with begin(store, name) as logger:
        write(logger, folder)
    return logger


def seen(server, run_id):
    """What a server has of a run, but for ids and times."""
    client = MlflowClient(server)
    run = client.get_run(run_id)
    series = {
        name: [(point.step, repr(point.value)) for point in client.get_metric_history(run_id, name)]
        for name in sorted(run.data.metrics)
    }
    files = {
        name: Path(client.download_artifacts(run_id, name)).read_text() for name in ("deeper/file.txt", "text.txt")
    }
    images = [(one.dataset.name, one.dataset.digest, one.tags[0].value) for one in run.inputs.dataset_inputs]
    return run.info.status, run.data.params, run.data.tags["kind"], series, files, images


@pytest.fixture(scope="module")
def undisturbed(server, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    status, *rest = seen(server, record(Store(server, folder, "spool"), folder).run_id)
    assert status == "FINISHED" and not (folder / "spool").exists()
    series = rest[2]
    assert {name: len(points) for name, points in series.items()} == {"odd": 3, "series/a": 2, "series/b": 2}
    return status, *rest


def sent_once(proxy, run_id):
    expected = [point for batch in POINTS for point in batch]
    assert repr(proxy.points(run_id)) == repr(expected)


def first_times(kind, same=lambda request: request):
    """Each request fails when it, or the ``same``, is made for the first time."""
    asked = set()

    def fault(request):
        new = same(request) not in asked
        asked.add(same(request))
        return kind if new else None

    return fault


@pytest.mark.parametrize("kind", ["reset", "drop", "503"])
def test_whatever_request_fails_all_arrives_once_and_in_order(proxy, undisturbed, server, tmp_path, kind):
    store = Store(proxy.uri, tmp_path, "spool")
    proxy.fault = first_times(kind)
    logger = record(store, tmp_path)
    assert not logger.undelivered and not (tmp_path / "spool").exists()
    assert seen(server, logger.run_id) == undisturbed
    sent_once(proxy, logger.run_id)


def test_a_silent_server_gets_all_once_it_answers(proxy, undisturbed, server, tmp_path, short, capsys):
    store = Store(proxy.uri, tmp_path, "spool")
    proxy.fault = first_times("hang", same=lambda request: urlparse(request[1]).path)
    logger = record(store, tmp_path)
    assert seen(server, logger.run_id) == undisturbed
    said = capsys.readouterr().err
    assert f"The tracking server at {proxy.uri} does not answer (timed out): points are kept in {tmp_path}" in said
    assert f"The tracking server at {proxy.uri} answers again" in said


@pytest.mark.parametrize("seed", range(2))
def test_failures_of_all_kinds_in_any_order(proxy, undisturbed, server, tmp_path, seed):
    store = Store(proxy.uri, tmp_path, "spool")
    draw = random.Random(seed)
    faults = [draw.choice([None, "reset", "drop", "503"]) for _ in range(60)]
    proxy.fault = lambda _: faults.pop() if faults else None
    logger = record(store, tmp_path)
    assert seen(server, logger.run_id) == undisturbed
    sent_once(proxy, logger.run_id)


def test_a_server_that_comes_back_gets_all_during_the_run(proxy, undisturbed, server, tmp_path, capsys):
    store = Store(proxy.uri, tmp_path, "spool")
    with begin(store) as logger:
        proxy.down()
        write(logger, tmp_path)
        journal = tmp_path / "spool" / logger.run_id / "journal.jsonl"
        assert journal.read_text().count("series/a") == 2
        proxy.up()
    assert seen(server, logger.run_id) == undisturbed
    sent_once(proxy, logger.run_id)


def test_a_server_that_does_not_come_back_is_delivered_to_later(
    proxy, undisturbed, server, tmp_path, monkeypatch, delivered
):
    monkeypatch.setattr(spool, "LAST_WAIT", 0)
    store = Store(proxy.uri, tmp_path, "spool")
    with begin(store) as logger:
        proxy.down()
        write(logger, tmp_path)
    kept = tmp_path / "spool" / logger.run_id
    assert str(kept) in logger.undelivered
    assert f"python -m benchmark.deliver --output {tmp_path}" in logger.undelivered
    code, out, _ = delivered("--output", tmp_path)
    assert (code, out) == (1, f"Run {logger.run_id}: still kept in {kept}: connection refused\n")
    proxy.up()
    assert delivered("--output", tmp_path) == (0, f"Run {logger.run_id}: delivered\n", "")
    assert seen(server, logger.run_id) == undisturbed
    sent_once(proxy, logger.run_id)
    assert delivered("--output", tmp_path) == (0, f"Nothing is kept in {tmp_path / 'spool'}.\n", "")


def test_delivery_can_break_off_anywhere_and_be_begun_again(
    proxy, undisturbed, server, tmp_path, monkeypatch, delivered
):
    monkeypatch.setattr(spool, "LAST_WAIT", 0)
    store = Store(proxy.uri, tmp_path, "spool")
    with begin(store) as logger:
        proxy.down()
        write(logger, tmp_path)
    proxy.up()
    proxy.fault = first_times("drop")
    attempts = 0
    while delivered("--output", tmp_path)[0]:
        attempts += 1
        assert attempts < 100
    assert attempts > 5, "each breaks off the delivery once"
    assert seen(server, logger.run_id) == undisturbed
    sent_once(proxy, logger.run_id)


def test_a_delivery_that_was_not_noted_is_not_repeated(proxy, server, tmp_path, monkeypatch, delivered):
    """As after a loss of power: the server has more than the note says."""
    monkeypatch.setattr(Journal, "done", lambda self, operation: setattr(self, "start", operation["end"]))
    monkeypatch.setattr(Journal, "close", lambda self: self._lock.release())
    logger = record(Store(proxy.uri, tmp_path, "spool"), tmp_path)
    monkeypatch.undo()
    assert delivered("--output", tmp_path)[0] == 0
    sent_once(proxy, logger.run_id)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_what_a_killed_process_wrote_is_delivered(proxy, server, tmp_path, delivered):
    store = Store(proxy.uri, tmp_path, "spool")
    process = os.fork()
    if not process:
        try:
            with begin(store) as logger:
                write(logger, tmp_path, POINTS[:1])
                os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGKILL
    [journal] = (tmp_path / "spool").glob("*/journal.jsonl")
    with journal.open("a") as file:
        file.write('{"metrics": [["half a li')
    run_id = journal.parent.name
    assert delivered("--output", tmp_path)[:2] == (0, f"Run {run_id}: delivered\n")
    status, params, _, series, files, _ = seen(server, run_id)
    assert status == "RUNNING" and params == {"lr": "0.1"}
    assert series == {"series/a": [(0, "0.0")], "series/b": [(0, "0.0")]}
    assert files == {"deeper/file.txt": "kept", "text.txt": "a text"}
    assert [point[:2] for point in proxy.points(run_id)] == [("series/a", 0), ("series/b", 0)]


def test_a_run_that_is_under_way_is_left_alone(proxy, undisturbed, server, tmp_path, delivered):
    with begin(Store(proxy.uri, tmp_path, "spool")) as logger:
        proxy.down()
        write(logger, tmp_path)
        code, out, _ = delivered("--output", tmp_path)
        assert (code, out) == (0, f"Run {logger.run_id}: under way, left alone\n")
        proxy.up()
    assert seen(server, logger.run_id) == undisturbed


@pytest.mark.parametrize("kind", ["hang", "503"])
def test_an_interruption_waits_for_no_server(proxy, server, tmp_path, monkeypatch, capsys, delivered, kind):
    """Would not end if it did."""
    monkeypatch.setattr(spool, "LAST_WAIT", math.inf)
    store = Store(proxy.uri, tmp_path, "spool")
    proxy.fault = lambda _: kind
    with pytest.raises(KeyboardInterrupt), begin(store) as logger:
        write(logger, tmp_path)
        proxy.met.wait()
        raise KeyboardInterrupt
    assert "python -m benchmark.deliver" in capsys.readouterr().err
    proxy.fault = lambda _: None
    assert delivered("--output", tmp_path)[0] == 0
    assert seen(server, logger.run_id)[0] == "KILLED"


def test_what_the_server_refuses_fails_the_run(proxy, server, tmp_path):
    with pytest.raises(MlflowException, match="deleted"), begin(Store(proxy.uri, tmp_path, "spool")) as logger:
        MlflowClient(server).delete_run(logger.run_id)
        write(logger, tmp_path)
    MlflowClient(server).restore_run(logger.run_id)
    assert not (tmp_path / "spool").exists()


def test_a_failed_run_says_why_once_the_server_is_back(proxy, server, tmp_path, monkeypatch, delivered):
    monkeypatch.setattr(spool, "LAST_WAIT", 0)
    with pytest.raises(ZeroDivisionError), begin(Store(proxy.uri, tmp_path, "spool")) as logger:
        proxy.down()
        _ = 1 / 0
    proxy.up()
    assert delivered("--output", tmp_path)[0] == 0
    run = MlflowClient(server).get_run(logger.run_id)
    assert (run.info.status, run.data.tags["anytime_bench.failure"]) == (
        "FAILED",
        "ZeroDivisionError: division by zero",
    )
    assert "1 / 0" in Path(MlflowClient(server).download_artifacts(logger.run_id, "failure.txt")).read_text()


def test_a_group_fails_with_a_run_that_was_not_delivered(proxy, server, tmp_path, monkeypatch, delivered):
    monkeypatch.setattr(spool, "LAST_WAIT", 0)
    store = Store(proxy.uri, tmp_path, "spool")
    with store.group("two runs") as parent:
        with begin(Store(proxy.uri, tmp_path, "spool", parent=parent)) as logger:
            proxy.down()
            write(logger, tmp_path)
        with pytest.raises(UsageError, match="no tracking server answers"), begin(store):
            pass
    proxy.up()
    assert delivered("--output", tmp_path)[0] == 0
    client = MlflowClient(server)
    assert [client.get_run(run_id).info.status for run_id in (parent, logger.run_id)] == ["FAILED", "FINISHED"]


def test_a_run_that_is_about_to_begin_waits_for_a_server_that_is_started_anew(proxy, capsys):
    spool.wait_until_served(proxy.uri)
    assert capsys.readouterr().err == ""
    proxy.down()
    Timer(0.3, proxy.up).start()
    spool.wait_until_served(proxy.uri)
    first, second = capsys.readouterr().err.splitlines()
    assert "does not answer (connection refused): the next run waits for it, up to 5 minutes." in first
    assert second.endswith("answers again.")


def test_it_does_not_wait_for_ever_nor_for_what_is_not_away(proxy, capsys, monkeypatch):
    proxy.down()
    spool.wait_until_served(proxy.uri, patience=0.1)
    assert "waits for it" in capsys.readouterr().err
    proxy.up()
    monkeypatch.setattr(MlflowClient, "search_experiments", lambda *_, **__: 1 / 0)
    spool.wait_until_served(proxy.uri)
    spool.wait_until_served("sqlite:///nowhere")
    assert capsys.readouterr().err == ""


def test_what_the_environment_says_of_requests_is_kept(monkeypatch):
    monkeypatch.setenv(MLFLOW_HTTP_REQUEST_TIMEOUT.name, "77")
    monkeypatch.delenv(MLFLOW_HTTP_REQUEST_MAX_RETRIES.name, raising=False)
    with impatient(5), impatient(6):
        assert (MLFLOW_HTTP_REQUEST_TIMEOUT.get(), MLFLOW_HTTP_REQUEST_MAX_RETRIES.get()) == (77, 0)
    assert MLFLOW_HTTP_REQUEST_TIMEOUT.get() == 77 and not MLFLOW_HTTP_REQUEST_MAX_RETRIES.is_set()


@pytest.mark.parametrize("arguments", [["--output", "nowhere"], ["--output", ".", "--tracking-uri", "sqlite:///x.db"]])
def test_wrong_use_of_the_command(arguments, delivered, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = delivered(*arguments)
    assert (code, out) == (2, "") and err.startswith("Error: ") and err.count("\n") == 1


@pytest.mark.slow
def test_the_command_shows_a_result_that_could_not_be_delivered(proxy, server, tmp_path, delivered, preloaded):
    options = ["--stream", "digits", "--strategy", "dense", "--epochs", "1", "--megabatches", "2", "--shots", "10"]
    proxy.fault = lambda _: "reset"
    done = preloaded.start(
        *options, "--tracking-uri", proxy.uri, folder=tmp_path, environment=environment_of(tmp_path / "cache"),
        streams=[tmp_path / "stdout", tmp_path / "stderr"], constants={f"{spool.__name__}:LAST_WAIT": 1},
    ).end()  # fmt: skip
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "dense on digits" in done.stdout
    assert f"The tracking server at {proxy.uri} does not answer (connection reset by peer)" in done.stderr
    assert "python -m benchmark.deliver --output results" in done.stderr
    proxy.fault = lambda _: None
    assert delivered("--output", tmp_path / "results")[0] == 0
    [run_id] = {json.loads(body)["run_id"] for _, path, body in proxy.arrived if path.endswith("/log-batch")}
    assert MlflowClient(server).get_run(run_id).info.status == "FINISHED"


def test_what_cannot_be_delivered_keeps_nobody_from_working(tmp_path, capsys):
    for name, journal in (("damaged", "{}\n"), ("garbage", "what?\n")):
        (tmp_path / "spool" / name).mkdir(parents=True)
        (tmp_path / "spool" / name / "journal.jsonl").write_text(journal)
    spool.deliver_rest(tmp_path, "http://127.0.0.1:9")
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and all(line.startswith("Note: what is kept in") for line in said)
