"""The examples of docs/library.md do what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from leaderboards.sources.collect import collect

PAGE = Path(__file__).parents[2] / "docs" / "library.md"

pytestmark = pytest.mark.slow


def test_the_examples_run_in_order_and_in_one_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "example"}
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.M | re.S)
    printed = []
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
        printed.append(capsys.readouterr().out.splitlines())
    alone, recorded, analysed, watched = printed
    assert [line.partition(" ")[2][:5] for line in alone] == ["wrong", "of th"]
    assert len(recorded) == 1 and "APP (density 0.2)" in recorded[0] and "dense" in recorded[0]
    assert [line.split()[0] for line in analysed[2:5]] == ["1", "2", "3"], "a line for each megabatch"
    assert len(watched[0].split(",")) == 3, "a value for each megabatch"
    assert len(collect(f"sqlite:///{tmp_path / 'results' / 'mlflow.db'}", experiment="my-experiment").runs) == 2
