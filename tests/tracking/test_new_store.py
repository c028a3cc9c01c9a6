"""A new store is whole or not there, whoever makes it at the same time or is killed; what is none is left alone."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
from contextlib import closing
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace

import mlflow.store.tracking.sqlalchemy_store  # noqa: F401  (children find it imported)
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.db import utils
from ready_store import make_by_mlflow
from soak import kills
from sqlalchemy import event
from sqlalchemy.engine import Engine

from benchmark.errors import UsageError
from benchmark.metrics.glossary import glossary
from benchmark.recording import creation
from benchmark.recording.record import RunRecord
from benchmark.recording.store import Store, check_place
from leaderboards.glossary import from_tags
from leaderboards.sources.soundness import flaw

FORKED = get_context("fork")
"""Children that have their libraries already."""

KILLS = kills(3)

STATEMENTS = 1700
"""Of SQL that a command needs, about, until it has a new store with an experiment and a run; 1683 of them for its
tables."""


@pytest.fixture(autouse=True, scope="module")
def made_by_mlflow():
    """Stores are made as they are for users, not copied."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(creation, "_make", make_by_mlflow)
        yield


def record_one(output, number, together):
    together.wait(timeout=120)
    with Store(None, output, "shared").run(RunRecord(f"run {number}", {}, {})):
        pass


def names_in(folder):
    return {path.name for path in folder.iterdir()}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A store with one run, to be copied."""
    output = tmp_path_factory.mktemp("made")
    with Store(None, output, "made").run(RunRecord("a run", {}, {})):
        pass
    return (output / "mlflow.db").read_bytes()


@pytest.mark.slow
def test_sixteen_processes_at_once_all_record_in_one_new_store(tmp_path):
    together = FORKED.Barrier(16)
    children = [FORKED.Process(target=record_one, args=(tmp_path, number, together)) for number in range(16)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0] * 16
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("shared")
    runs = client.search_runs([experiment.experiment_id])
    assert {run.info.run_name for run in runs} == {f"run {number}" for number in range(16)}
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert from_tags(experiment.tags).keys() == glossary().keys()


def record_until(statement, output):
    """A command that is killed after so many statements of SQL."""
    done = count(1)

    def tick(*_):
        if next(done) == statement:
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(Engine, "after_cursor_execute", tick)
    record_one(output, "of the killed", FORKED.Barrier(1))


@pytest.mark.slow
def test_whenever_a_command_is_killed_the_next_one_records(tmp_path):
    moments = random.Random(0)
    output = tmp_path / "0"
    for number in range(KILLS):
        statement = int((number + moments.random()) / KILLS * STATEMENTS)
        child = FORKED.Process(target=record_until, args=(statement, output))
        child.start()
        child.join()
        assert child.exitcode == -signal.SIGKILL
        if (output / "mlflow.db").exists():
            assert flaw(output / "mlflow.db") is None
            record_one(output, "of the next", FORKED.Barrier(1))
            output = tmp_path / str(number + 1)
    record_one(output, "of the last", FORKED.Barrier(1))
    assert names_in(output) == {"mlflow.db", ".mlflow.db.lock"}


def test_drafts_of_the_dead_are_cleared_away_and_so_are_those_that_came_to_nothing(tmp_path, monkeypatch):
    for end in ("", "-journal", "-wal", "-shm"):
        (tmp_path / f".mlflow.db.new{end}").write_bytes(b"half a store")
    whole = []

    def full(path, target):
        whole.append(flaw(path))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(UsageError, match=r"cannot write to .*: No space left on device; name another store"):
        Store(None, tmp_path, "tests")
    assert whole == [None] and names_in(tmp_path) == {".mlflow.db.lock"}


def test_one_who_finds_the_experiment_made_meanwhile_takes_it(tmp_path, made, monkeypatch):
    (tmp_path / "mlflow.db").write_bytes(made)
    first = Store(None, tmp_path, "tests")
    look = MlflowClient.get_experiment_by_name
    looks = []

    def too_early(client, name):
        looks.append(name)
        return None if len(looks) == 1 else look(client, name)

    monkeypatch.setattr(MlflowClient, "get_experiment_by_name", too_early)
    assert Store(None, tmp_path, "tests").experiment_id == first.experiment_id
    assert len(looks) == 2


def test_one_who_adds_an_explanation_as_another_does_goes_on(tmp_path, made, monkeypatch):
    (tmp_path / "mlflow.db").write_bytes(made)
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("made")
    for tag in experiment.tags:
        client.delete_experiment_tag(experiment.experiment_id, tag)
    write = MlflowClient.set_experiment_tag
    refused = set()

    def second_time(client, experiment_id, tag, text):
        if tag not in refused:
            refused.add(tag)
            raise MlflowException("UNIQUE constraint failed")
        write(client, experiment_id, tag, text)

    monkeypatch.setattr(MlflowClient, "set_experiment_tag", second_time)
    Store(None, tmp_path, "made")
    assert from_tags(client.get_experiment_by_name("made").tags).keys() == glossary().keys()


def test_changes_of_a_store_that_is_gone_are_not_put_into_a_new_one(tmp_path):
    (tmp_path / "mlflow.db-journal").write_bytes(b"changes")
    for refuse in (check_place, lambda *place: Store(*place, "tests")):
        with pytest.raises(UsageError, match=r"mlflow.db-journal belongs to a store that is not there"):
            refuse(None, tmp_path)
    assert names_in(tmp_path) == {"mlflow.db-journal"}


def without(*statements):
    def change(path, whole):
        path.write_bytes(whole)
        with closing(sqlite3.connect(path)) as database:
            for statement in statements:
                database.execute(statement)
            database.commit()

    return change


def other_database(path, whole):
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE cats (name)")


DAMAGE = {
    "empty": (lambda path, _: path.write_bytes(b""), "is empty"),
    "text": (lambda path, _: path.write_text("my notes\n" * 200), "file is not a database"),
    "half of it": (lambda path, whole: path.write_bytes(whole[: len(whole) // 2]), "is damaged"),
    "its header": (lambda path, whole: path.write_bytes(whole[:100]), "is damaged"),
    "another program's": (other_database, "is no MLflow store"),
    "without a table": (without("DROP TABLE tags"), "it lacks MLflow's table tags"),
    "without a version": (without("DELETE FROM alembic_version"), "half made"),
    "earlier": (without("UPDATE alembic_version SET version_num = '451aebb31d03'"), "of an earlier version"),
    "later": (without("UPDATE alembic_version SET version_num = 'ffffffffffff'"), "of a later version of MLflow"),
    "a folder": (lambda path, _: path.mkdir(), "is a folder"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_what_is_no_sound_store_is_refused_in_one_line_and_left_as_it_is(tmp_path, made, case):
    damage, said = DAMAGE[case]
    path = tmp_path / "mlflow.db"
    damage(path, made)
    before = path.is_file() and path.read_bytes()
    for refuse in (check_place, lambda *place: Store(*place, "tests")):
        for uri in (None, f"sqlite:///{path}"):
            with pytest.raises(UsageError, match=said) as refused:
                refuse(uri, tmp_path)
            line = str(refused.value)
            assert line.startswith(f"{path} ") and "\n" not in line
            assert line.endswith("move it away, or name another store with --output or --tracking-uri")
    assert (path.is_file() and path.read_bytes()) == before and names_in(tmp_path) == {"mlflow.db"}


def test_what_a_killed_writer_left_behind_is_taken_back(tmp_path, made):
    """A hot journal is sqlite's to apply: the store is sound."""
    path = tmp_path / "mlflow.db"
    path.write_bytes(made)

    def die_writing():
        database = sqlite3.connect(path)
        database.execute("PRAGMA cache_size = 1")
        database.execute("BEGIN IMMEDIATE")
        database.execute("DELETE FROM experiment_tags")
        database.execute("CREATE TABLE spill AS SELECT randomblob(100000)")
        os.kill(os.getpid(), signal.SIGKILL)

    child = FORKED.Process(target=die_writing)
    child.start()
    child.join()
    assert Path(f"{path}-journal").stat().st_size
    assert flaw(path) is None
    experiment = Store(None, tmp_path, "made").client.get_experiment_by_name("made")
    assert from_tags(experiment.tags).keys() == glossary().keys()


def test_a_full_cache_is_done_without(tmp_path, monkeypatch):
    def full(path):
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(creation, "sqlite3", SimpleNamespace(connect=full, Error=sqlite3.Error))
    Store(None, tmp_path / "first", "tests", cache=tmp_path / "cache")
    assert flaw(tmp_path / "first" / "mlflow.db") is None and names_in(tmp_path / "cache") == set()


def schema(file):
    with closing(sqlite3.connect(file)) as database:
        return database.execute("SELECT type, name, sql FROM sqlite_master ORDER BY type, name").fetchall()


def test_the_first_store_leaves_an_empty_one_that_later_ones_begin_with(tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    Store(None, tmp_path / "first", "tests", cache=cache)
    [empty] = cache.iterdir()
    assert flaw(empty) is None
    monkeypatch.setattr(utils, "_initialize_tables", lambda _: pytest.fail("made table by table"))
    with Store(None, tmp_path / "second", "tests", cache=cache).run(RunRecord("a run", {}, {})):
        pass
    first, second = (tmp_path / name / "mlflow.db" for name in ("first", "second"))
    assert schema(first) == schema(second) and flaw(second) is None
    client = MlflowClient(f"sqlite:///{second}")
    places = {one.name: one.artifact_location for one in client.search_experiments()}
    assert places == {
        "Default": f"{(tmp_path / 'second' / 'artifacts').as_uri()}/0",
        "tests": (tmp_path / "second" / "artifacts").as_uri(),
    }
    assert [empty] == list(cache.iterdir())


def test_an_empty_store_that_is_damaged_is_made_anew_and_a_cache_that_cannot_be_written_done_without(tmp_path):
    cache = tmp_path / "cache"
    Store(None, tmp_path / "first", "tests", cache=cache)
    [empty] = cache.iterdir()
    whole = empty.read_bytes()
    empty.write_bytes(whole[:5000] + b"?" + whole[5001:])
    Store(None, tmp_path / "second", "tests", cache=cache)
    [anew] = cache.iterdir()
    assert flaw(anew) is None and flaw(tmp_path / "second" / "mlflow.db") is None
    (tmp_path / "file").write_text("no folder")
    Store(None, tmp_path / "third", "tests", cache=tmp_path / "file")
    assert flaw(tmp_path / "third" / "mlflow.db") is None
