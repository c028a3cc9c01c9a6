"""Whatever the output folder is called runs are recorded in it; what is no address of a store is refused at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient

from benchmark.command.session import Session
from benchmark.config.grid import Planned
from benchmark.config.profiles import resolve
from benchmark.engines.local import local
from benchmark.errors import UsageError
from benchmark.recording.record import RunRecord
from benchmark.recording.store import Store, check_place
from leaderboards.__main__ import main as leaderboards
from leaderboards.errors import BoardError
from leaderboards.sources.addresses import sqlite_address, sqlite_file
from leaderboards.sources.collect import collect

FOLDERS = ["100%", "a%20b", "what? #1", "a?b=c&d", "für 剪枝", "a@b:c+d", 'it\'s "so";,!']


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A new store in a folder with an awkward name."""
    folder = tmp_path_factory.mktemp("made")
    output = folder / "50% off? #剪"
    Store(None, output, "tests")
    assert [path.name for path in folder.iterdir()] == [output.name]
    return (output / "mlflow.db").read_bytes()


@pytest.mark.parametrize("folder", FOLDERS)
def test_runs_are_recorded_and_read_whatever_the_folder_is_called(tmp_path, made, folder):
    output = tmp_path / folder / "results"
    output.mkdir(parents=True)
    (output / "mlflow.db").write_bytes(made)
    check_place(None, output)
    store = Store(None, output, folder)
    with store.run(RunRecord("a run", {}, {})) as logger:
        store.client.log_text(logger.run_id, "kept", "note.txt")
    [note] = (output / "artifacts").rglob("note.txt")
    assert note.read_text() == "kept" and note.is_relative_to(logger.artifacts())
    assert collect(store.uri, experiment=folder).runs.empty
    assert MlflowClient(store.uri).get_run(logger.run_id).info.status == "FINISHED"
    assert sqlite_file(store.uri) == output / "mlflow.db"
    assert [path.name for path in tmp_path.iterdir()] == [folder], "MLflow made no folder that is called otherwise"


def test_a_path_that_no_address_can_have_is_refused(tmp_path):
    for refuse in (check_place, lambda *place: Store(*place, "tests")):
        with pytest.raises(UsageError, match="cannot be the address of a store"):
            refuse(None, tmp_path / "\udcff")
    assert not list(tmp_path.iterdir())


def test_paths_are_plain_where_they_can_be():
    assert sqlite_address(Path("/tmp/a b/mlflow.db")) == "sqlite:////tmp/a b/mlflow.db"
    assert sqlite_file("sqlite:///results/mlflow.db") == Path("results/mlflow.db")
    assert sqlite_file("http://127.0.0.1:5000") is None


REFUSED = {
    "sqlite://": "names no file",
    "sqlite:///": "names no file",
    "sqlite:///:memory:": "names no file",
    "sqlite:///file:store.db?mode=memory&uri=true": "without options",
    "sqlite:///file:store.db": "names no file",
    "sqlite:///what?/mlflow.db": "without options",
    "sqlite:/x": "with three slashes",
    "sqlite://results/mlflow.db": "with three slashes",
    "sqlite+nonsense:///x": "with three slashes",
    "mlruns": "tracked in a folder",
    "nonsense": "tracked in a folder",
    "file:///tmp/mlruns": "tracked in a folder",
    "file:mlruns": "tracked in a folder",
    "C:\\mlruns": "tracked in a folder",
    "http://": "http://HOST:PORT",
    "https://:5000": "http://HOST:PORT",
    "http://host:port": "http://HOST:PORT",
    "http://[::1": "http://HOST:PORT",
    "postgresql://nobody@127.0.0.1:9/x": "install psycopg",
    "mysql://nobody@127.0.0.1:9/x": "install MySQLdb",
    "mysql+nonsense://127.0.0.1:9/x": "mysql.nonsense",
    "postgresql:x": "Could not parse",
    "oracle://127.0.0.1/x": "unsupported URI",
    "nonsense://somewhere": "unsupported URI",
}


@pytest.mark.parametrize("uri", REFUSED)
def test_what_is_no_address_of_a_store_is_refused_in_one_line(tmp_path, monkeypatch, uri):
    monkeypatch.chdir(tmp_path)
    for refuse in (check_place, lambda *place: Store(*place, "tests"), lambda uri, _: collect(uri)):
        with pytest.raises((UsageError, BoardError), match=REFUSED[uri]) as refused:
            refuse(uri, tmp_path / "output")
        assert "\n" not in str(refused.value) and uri in str(refused.value).replace("\\\\", "\\")
    assert not list(tmp_path.iterdir())


def test_a_wrong_place_is_refused_before_images_are_looked_for(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmark.command.session.prepare", None)
    session = Session(tmp_path, tmp_path, tmp_path / "output", "sqlite://", "tests")
    config = resolve({"stream": "digits", "strategy": "dense"}, profile="demo")
    with pytest.raises(UsageError, match="names no file"):
        session.execute([Planned(config, "demo", frozenset())], engine=local(1))
    assert not list(tmp_path.iterdir())


def test_the_command_of_the_boards_exits_with_2(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("empty.db").touch()
    for uri in ("sqlite://", "mlruns", "sqlite:///empty.db", "sqlite:///none.db"):
        with pytest.raises(SystemExit) as ended:
            leaderboards(["--tracking-uri", uri])
        out, err = capsys.readouterr()
        assert (ended.value.code, out, err[:7], err.count("\n")) == (2, "", "Error: ", 1)
    assert [path.name for path in tmp_path.iterdir()] == ["empty.db"]


def test_an_unwritable_place_of_a_named_store_is_refused(tmp_path):
    (tmp_path / "file").touch()
    for refuse in (check_place, lambda *place: Store(*place, "tests")):
        with pytest.raises(UsageError, match=r"cannot write to .*/file/deep: .* with --output or --tracking-uri"):
            refuse(f"sqlite:///{tmp_path}/file/deep/mlflow.db", tmp_path)
