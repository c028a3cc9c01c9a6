"""Whatever others have written into a shared store, everybody else has a board, and a line says what is passed over."""

from __future__ import annotations

import json
import math
import shutil
import sqlite3
import sys
from contextlib import closing
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mlflow import MlflowClient
from odd_runs import ODD
from soak import cases

from leaderboards.glossary import TAG
from leaderboards.numbers.boards import boards
from leaderboards.publish import publish
from leaderboards.record import PREFIX
from leaderboards.sources.collect import collect
from leaderboards.text import printable

RUNS = 10
"""Hostile runs of a case, at most."""

SOUND = {
    "stream": "toy",
    "stream_label": "toy",
    "data": "real",
    "data_version": "1",
    "data_fingerprint": "f" * 16,
    "protocol": json.dumps({"megabatches": 4, "milestones": [0.4, 0.8], "shots": None, "precision": "fp32"}),
    "variant": json.dumps({"strategy": "dense", "strategy_version": 1}),
    "variant_defaults": "{}",
    "earlier": "{}",
    "seed": "0",
}
"""Tags of a run that there is nothing wrong with, without their prefix."""

DEEP = "[" * 3000 + "]" * 3000

texts = st.one_of(
    st.sampled_from([one for one in ODD if "\udcff" not in one]),
    st.sampled_from(
        ["", "null", "nan", "-1", "1e999", "9" * 400, DEEP, '{"a": "\\ud800"}', "0x10", "true", "x" * 5000]
    ),
    st.text(max_size=12),
)
names = st.one_of(st.sampled_from([*SOUND, "replay", "epochs", "model", "strategy", "score", "density", ""]), texts)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts | st.sampled_from([10**400, 2**63]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)
said = st.one_of(texts, values.map(json.dumps))
fields = st.builds(
    lambda known, more: json.dumps(known | more),
    st.sampled_from([json.loads(SOUND["protocol"]), json.loads(SOUND["variant"]), {"strategy": "dense"}, {}]),
    st.dictionaries(names, values, max_size=3),
)
columns = st.sampled_from(["run_id", "started", "identity", "metrics.anytime/cer_rate", "density", "commit", "threads"])
tags = st.builds(
    lambda changed, more: {**SOUND, **changed, **more},
    st.dictionaries(st.sampled_from(sorted(SOUND)), st.one_of(st.none(), said, fields), max_size=3),
    st.dictionaries(columns | texts, said, max_size=2),
)
whole = st.integers(-(2**63), 2**63 - 1)
numbers = st.one_of(st.floats(), st.sampled_from([0.5, -sys.float_info.max, sys.float_info.max]))
series = st.dictionaries(
    st.sampled_from(["anytime/cer_rate", "test/accuracy", "size/density", "gap/clean"]) | texts,
    st.lists(st.tuples(whole | st.integers(1, 5), numbers, whole), min_size=1, max_size=4),
    max_size=4,
)
runs = st.fixed_dictionaries(
    {
        "tags": tags,
        "density": st.none() | st.just("0.5") | said,
        "metrics": series,
        "started": st.integers(0, 10) | whole,
        "name": texts,
    }
)
explanations = st.dictionaries(
    st.one_of(st.just(TAG + "anytime/cer_rate"), texts.map(lambda text: TAG + text)),
    st.one_of(said, fields),
    max_size=2,
)


class Shared:
    """A store that runs are put into past MLflow's client, and whatever it would refuse."""

    def __init__(self, file):
        self.file = file
        self.uri = f"sqlite:///{quote(str(file))}"
        self.experiment = int(MlflowClient(self.uri).get_experiment_by_name("toy").experiment_id)
        with closing(sqlite3.connect(file)) as database:
            self._explained = database.execute("SELECT * FROM experiment_tags").fetchall()

    def hold(self, runs, explanations):
        """These are its runs from now on, beside one that is sound."""
        sound = {"tags": SOUND, "density": "0.5", "metrics": {"anytime/cer_rate": [(1, 0.25, 0)]}, "started": 1}
        with closing(sqlite3.connect(self.file)) as database, database:
            for table in ("tags", "params", "metrics", "latest_metrics", "runs", "experiment_tags"):
                database.execute(f"DELETE FROM {table}")
            explained = {(key, experiment): text for key, text, experiment in self._explained}
            explained |= {(key, self.experiment): text for key, text in explanations.items()}
            written = [(key, text, experiment) for (key, experiment), text in explained.items()]
            database.executemany("INSERT INTO experiment_tags (key, value, experiment_id) VALUES (?, ?, ?)", written)
            for number, run in enumerate([{**sound, "name": "sound"}, *runs]):
                self._put(database, f"{number:032x}", run)

    def _put(self, database, run_id, run):
        database.execute(
            "INSERT INTO runs (run_uuid, name, source_type, user_id, status, start_time, lifecycle_stage, artifact_uri,"
            " experiment_id) VALUES (?, ?, 'LOCAL', 'x', 'FINISHED', ?, 'active', 'file:///none', ?)",
            (run_id, run["name"], run["started"], self.experiment),
        )
        own = [(PREFIX + name, text, run_id) for name, text in run["tags"].items() if text is not None]
        database.executemany("INSERT INTO tags (key, value, run_uuid) VALUES (?, ?, ?)", own)
        if run["density"] is not None:
            database.execute("INSERT INTO params VALUES ('density', ?, ?)", (run["density"], run_id))
        for name, points in run["metrics"].items():
            rows = {(*in_database(value), step, timestamp) for step, value, timestamp in points}
            for value, is_nan, step, timestamp in rows:
                database.execute(
                    "INSERT INTO metrics (key, value, timestamp, run_uuid, step, is_nan) VALUES (?, ?, ?, ?, ?, ?)",
                    (name, value, timestamp, run_id, step, is_nan),
                )
            value, is_nan, step, timestamp = max(rows, key=lambda row: row[2:])
            database.execute(
                "INSERT INTO latest_metrics (key, value, timestamp, step, is_nan, run_uuid) VALUES (?, ?, ?, ?, ?, ?)",
                (name, value, timestamp, step, is_nan, run_id),
            )


def in_database(value):
    """A number, and whether it is none, as MLflow writes what databases have no numbers for."""
    if math.isnan(value):
        return 0.0, True
    return max(-sys.float_info.max, min(value, sys.float_info.max)), False


@pytest.fixture(scope="module")
def shared(empty_store, tmp_path_factory):
    file = tmp_path_factory.mktemp("shared") / "mlflow.db"
    shutil.copy(empty_store, file)
    return Shared(file)


@cases(10, each=RUNS)
@given(st.lists(runs, min_size=RUNS // 2, max_size=RUNS), explanations)
@example([{"tags": SOUND, "density": "1", "metrics": {"": [(1, 0.5, 0)]}, "started": 1, "name": "no name"}], {})
def test_whatever_a_shared_store_holds_the_others_have_their_board(shared, tmp_path, hostile, explained):
    shared.hold(hostile, explained)
    records = collect(shared.uri)
    ours = [run for run in hostile if any(run["tags"].get(name) is not None for name in SOUND)]
    assert len(records.runs) + len(records.damaged) == 1 + len(ours)
    assert f"{0:032x}" in records.runs.run_id.tolist()
    assert records.note is None or records.note == printable(records.note)
    assert any(row.name.startswith("dense") for board in boards(records) for row in board.rows)
    said = []
    publish([shared.uri], tmp_path / "pages", say=said.append)
    assert said == ([] if records.note is None else [records.note])
    for page in (tmp_path / "pages").iterdir():
        text = page.read_text(encoding="utf-8")
        assert text and "<img" not in text and "\x1b" not in text
        page.unlink()
