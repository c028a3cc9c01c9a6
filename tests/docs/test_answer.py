"""Every number of docs/answer.md comes from the published records."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def answer(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "campaigns"))
    monkeypatch.delitem(sys.modules, "answer", raising=False)
    import answer

    return answer


def test_the_page_is_what_the_records_give(answer):
    assert answer.page(answer.RECORDS) == answer.PAGE.read_text(encoding="utf-8"), (
        "python campaigns/answer.py writes it"
    )


def test_another_record_gives_another_page(answer, tmp_path):
    # Streams that shift are no part of the page.
    unused = shutil.ignore_patterns("split_*", "permuted_*")
    records = shutil.copytree(answer.RECORDS, tmp_path / "records", ignore=unused)
    [file] = records.glob("fashion_mnist*/app-s0-*.json")
    said = json.loads(file.read_text(encoding="utf-8"))
    accuracy = said["metrics"]["test/accuracy"]
    accuracy["values"][-1] = accuracy["last"] = 0.99
    file.write_text(json.dumps(said), encoding="utf-8")
    [before, after] = (text.splitlines()[9] for text in (answer.PAGE.read_text("utf-8"), answer.page(records)))
    assert "| **does not hold** |" in before and "| **not seen** |" in after
