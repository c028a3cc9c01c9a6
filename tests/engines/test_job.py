"""What becomes of a job whose process lacks memory."""

from __future__ import annotations

import pytest
import torch

from benchmark.config.profiles import resolve
from benchmark.engines import job
from benchmark.engines.job import Failure, Job, Place, carry_out
from benchmark.errors import UsageError


def _too_much(*arguments, **options):
    torch.empty(2**50)


def _device_full(*arguments, **options):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")


def _host_full(*arguments, **options):
    raise MemoryError


def _another_error(*arguments, **options):
    raise RuntimeError("shapes do not fit")


@pytest.mark.parametrize("lack", [_too_much, _device_full, _host_full])
def test_a_lack_of_memory_is_one_line_with_what_to_lower(tmp_path, monkeypatch, lack):
    monkeypatch.setattr(job, "run", lack)
    config = resolve({"stream": "digits", "strategy": "dense", "megabatches": 2, "epochs": 1}, profile="demo")
    place = Place(tmp_path, tmp_path, tmp_path, f"sqlite:///{tmp_path}/mlflow.db", "tests")
    failure = carry_out(Job(1, config, "demo"), place)
    assert isinstance(failure, Failure) and "--batch-size" in failure.reason and "\n" not in failure.reason


def test_other_errors_are_not_taken_for_it(tmp_path, monkeypatch):
    monkeypatch.setattr(job, "run", _another_error)
    config = resolve({"stream": "digits", "strategy": "dense", "megabatches": 2, "epochs": 1}, profile="demo")
    place = Place(tmp_path, tmp_path, tmp_path, f"sqlite:///{tmp_path}/mlflow.db", "tests")
    failure = carry_out(Job(1, config, "demo"), place)
    assert isinstance(failure, Failure) and "shapes do not fit" in failure.reason


def test_a_run_waits_for_its_server_before_it_asks_anything_of_it(tmp_path, monkeypatch):
    asked = []

    def away(*arguments, **options):
        asked.append("store")
        raise UsageError("no tracking server answers")

    monkeypatch.setattr(job, "wait_until_served", asked.append)
    monkeypatch.setattr(job, "Store", away)
    config = resolve({"stream": "digits", "strategy": "dense", "megabatches": 2, "epochs": 1}, profile="demo")
    place = Place(tmp_path, tmp_path, tmp_path, "http://127.0.0.1:9", "tests")
    assert carry_out(Job(1, config, "demo"), place) == Failure("no tracking server answers")
    assert asked == [place.tracking_uri, "store"]
