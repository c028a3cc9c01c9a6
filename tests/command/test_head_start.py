"""What happens while the command imports its libraries."""

from __future__ import annotations

import subprocess
import sys

import pytest

from benchmark.command import head_start
from benchmark.command.head_start import stand_ins_made_aside
from benchmark.streams.loading.images import StreamRequest
from benchmark.streams.sources import synthetic
from benchmark.streams.sources.load import load_data


@pytest.fixture(autouse=True)
def two_cores(monkeypatch):
    monkeypatch.setattr(head_start, "CORES", 2)


@pytest.mark.parametrize(
    "given",
    [
        {"stream": "synthetic", "resolution": 8},
        {"stream": ["restricted_imagenet_fewshot", "digits"], "resolution": [8, 16]},
        {"stream": "restricted_imagenet_fewshot", "resolution": 8, "data": "synthetic"},
    ],
    ids=str,
)
def test_stand_ins_are_there_at_the_end_and_are_those_that_are_asked_for(tmp_path, monkeypatch, given):
    with stand_ins_made_aside(given, tmp_path / "data", tmp_path / "cache"):
        pass
    monkeypatch.setattr(synthetic, "draw", lambda *_: pytest.fail("drawn anew"))
    stream = given["stream"] if isinstance(given["stream"], str) else given["stream"][0]
    data = load_data(stream, given.get("data", "auto"), StreamRequest(tmp_path / "data", tmp_path / "cache", 8))
    assert data.source == "synthetic" and len(data.train) == 14 * 540


@pytest.mark.parametrize(
    "given",
    [{"stream": "digits"}, {"stream": "cifar10"}, {"stream": "no such"}, {"strategy": "APP"}],
    ids=str,
)
def test_nothing_is_made_of_streams_with_images_and_nothing_is_said_of_wrong_ones(tmp_path, capfd, given):
    with stand_ins_made_aside(given, tmp_path / "data", tmp_path / "cache"):
        pass
    assert not list(tmp_path.iterdir()) and capfd.readouterr() == ("", "")


def test_who_is_told_to_end_does_not_wait_for_them(tmp_path):
    given = {"stream": "restricted_imagenet_fewshot", "resolution": 448, "data": "synthetic"}
    with pytest.raises(KeyboardInterrupt), stand_ins_made_aside(given, tmp_path / "data", tmp_path / "cache"):
        raise KeyboardInterrupt
    assert not list((tmp_path / "cache").glob("*.npy"))


def test_one_core_does_one_thing_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(head_start, "CORES", 1)
    with stand_ins_made_aside({"stream": "synthetic", "resolution": 8}, tmp_path, tmp_path / "cache"):
        pass
    assert not list(tmp_path.iterdir())


def test_making_stand_ins_waits_for_no_heavy_import():
    look = (
        "import sys, benchmark.streams.sources.load, benchmark.streams.sources.restricted_imagenet as r;"
        "print({'torch', 'avalanche', 'mlflow', 'pandas', 'sklearn'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True).stdout == "set()\n"
