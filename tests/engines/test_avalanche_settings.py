"""Avalanche's settings file: whole before anything imports Avalanche."""

from __future__ import annotations

import json
import multiprocessing
import os

import pytest

from benchmark.engines.avalanche_settings import SETTINGS, write_avalanche_settings
from benchmark.errors import UsageError


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def read(home):
    return json.loads((home / SETTINGS).read_text(encoding="utf-8"))


@pytest.mark.parametrize("damage", [None, "", '{"dataset_loc', "\x00\x00"])
def test_a_missing_or_damaged_file_is_made(home, damage):
    if damage is not None:
        (home / SETTINGS).parent.mkdir()
        (home / SETTINGS).write_text(damage)
    write_avalanche_settings()
    assert read(home) == {"dataset_location": str(home / ".avalanche" / "data")}
    assert [path.name for path in (home / SETTINGS).parent.iterdir()] == ["config.json"]


def test_a_users_own_is_left_alone(home):
    (home / SETTINGS).parent.mkdir()
    (home / SETTINGS).write_text('{"dataset_location": "elsewhere"}')
    write_avalanche_settings()
    assert read(home) == {"dataset_location": "elsewhere"}


def _write_and_read(home):
    os.environ["HOME"] = str(home)
    for _ in range(50):
        write_avalanche_settings()
        (home / SETTINGS).read_text(encoding="utf-8").index("}")


def test_processes_that_write_it_at_once_never_read_half_of_it(home):
    processes = [multiprocessing.get_context("fork").Process(target=_write_and_read, args=(home,)) for _ in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 8


def test_a_home_that_cannot_be_written_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    with pytest.raises(UsageError, match="set HOME to a folder"):
        write_avalanche_settings()
