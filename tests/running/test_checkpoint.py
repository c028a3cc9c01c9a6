"""Checkpoint files: whole or not used, whatever happens to them, and their owner's alone."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from soak import cases

from benchmark.errors import UsageError
from benchmark.running import checkpoint
from benchmark.running.checkpoint import CheckpointFile, Damaged, clear_checkpoints

STATE = bytes(range(256)) * 8


@pytest.fixture
def file(tmp_path):
    return CheckpointFile(tmp_path / "checkpoints" / "run")


def test_what_was_written_is_read(file):
    assert not file.exists()
    file.write({"identity": "a"}, STATE)
    about, state = file.read()
    assert state == STATE and about["identity"] == "a" and file.exists()
    file.write({"identity": "b"}, b"")
    assert file.read()[0]["identity"] == "b" and file.read()[1] == b""
    assert [path.name for path in file.folder.iterdir()] == ["checkpoint"]


@cases(150)
@given(data=st.data())
def test_any_damage_is_noticed(file, data):
    file.write({"identity": "a"}, STATE)
    whole = file.path.read_bytes()
    start = data.draw(st.integers(0, len(whole) - 1))
    kind = data.draw(st.sampled_from(["cut", "flip", "overwrite"]))
    if kind == "cut":
        damaged = whole[:start]
    elif kind == "flip":
        damaged = whole[:start] + bytes([whole[start] ^ 1 << data.draw(st.integers(0, 7))]) + whole[start + 1 :]
    else:
        junk = data.draw(st.binary(min_size=1, max_size=40))
        damaged = whole[:start] + junk + whole[start + len(junk) :]
    file.path.write_bytes(damaged)
    try:
        about, state = file.read()
    except Damaged:
        return
    assert state == STATE and about["identity"] == "a"


@pytest.mark.parametrize("step", ["write", "fsync", "read back", "rename"])
def test_the_last_one_is_kept_if_a_new_one_cannot_be_written(file, monkeypatch, step):
    file.write({"identity": "old"}, STATE)

    def fail(*arguments, **options):
        raise OSError(28, "No space left on device")

    if step == "write":
        monkeypatch.setattr(checkpoint, "_owner_only", fail)
    elif step == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    elif step == "read back":
        monkeypatch.setattr(checkpoint, "_read", lambda _: ({}, b"something else"))
    else:
        monkeypatch.setattr(type(file.path), "replace", fail)
    with pytest.raises(OSError):
        file.write({"identity": "new"}, STATE)
    monkeypatch.undo()
    assert file.read()[0]["identity"] == "old"
    assert [path.name for path in file.folder.iterdir()] == ["checkpoint"]


def test_it_is_its_owners_alone(file):
    file.write({}, STATE)
    assert file.path.stat().st_mode & 0o077 == 0 and file.folder.stat().st_mode & 0o077 == 0
    file.path.chmod(0o620)
    with pytest.raises(UsageError, match="chmod 600"):
        file.read()


def test_another_schema_is_not_read(file, monkeypatch):
    file.write({}, STATE)
    monkeypatch.setattr(checkpoint, "SCHEMA", 2)
    with pytest.raises(Damaged, match="schema 1"):
        file.read()


def test_what_finished_runs_have_left_is_cleared(tmp_path):
    for name in ("done", "under way"):
        CheckpointFile(tmp_path / name).write({}, STATE)
    clear_checkpoints(tmp_path, {"done", "unknown"})
    assert [path.name for path in tmp_path.iterdir()] == ["under way"]
