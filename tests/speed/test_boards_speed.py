"""Boards of a store of 2,000 finished runs: python -m pytest tests/speed/test_boards_speed.py -m speed -s.

The store holds one real run and copies of it, with the history of every metric, under other tags, parameters and
values. What is timed is ``python -m leaderboards`` from the start of the process to its end.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import pytest

from benchmark.config.profiles import resolve
from benchmark.config.run_config import RunConfig
from benchmark.recording.store import Store
from benchmark.running.prepare import prepare
from benchmark.running.run import run
from leaderboards.record import PREFIX

STREAMS = ("digits", "fashion_mnist", "cifar10", "tiny_restricted_imagenet_fewshot")
SCORES = ("snip", "magnitude", "random", "grasp", "synflow", "force", "taylor")
DENSITIES = (0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01)
SEEDS = 10
RUNS = len(STREAMS) * (len(SCORES) * len(DENSITIES) + 1) * SEEDS

ROUNDS = 3


def configs() -> Iterator[RunConfig]:
    pruned = [{"strategy": "APP", "score": score, "density": density} for score in SCORES for density in DENSITIES]
    for stream in STREAMS:
        for variant in ({"strategy": "dense"}, *pruned):
            config = resolve({"stream": stream, "epochs": 1, **variant}, profile="demo")
            yield from (config.model_copy(update={"seed": seed, "data": "real"}) for seed in range(SEEDS))


def fill(folder: Path) -> str:
    """Make a store of ``RUNS`` runs, straight into its tables: MLflow's client takes minutes. Returns its URI."""
    rng = np.random.default_rng(0)
    store = Store(None, folder, "boards")
    first, *others = configs()
    run(prepare(first, data_root=folder, cache=folder), store=store)
    with closing(sqlite3.connect(folder / "mlflow.db")) as database, database:
        [info] = database.execute("SELECT * FROM runs").fetchall()
        columns = [name for _, name, *_ in database.execute("PRAGMA table_info(runs)")]
        tags = dict(database.execute("SELECT key, value FROM tags"))
        tables = {
            table: database.execute(f"SELECT key, value, timestamp, step, is_nan FROM {table}").fetchall()
            for table in ("metrics", "latest_metrics")
        }
        for number, config in enumerate(others, start=1):
            name = f"{number:032x}"
            own = dict(zip(columns, info, strict=True)) | {"run_uuid": name}
            own["start_time"] += 1000 * number
            insert(database, "runs", list(own), [tuple(own.values())])
            own_tags = tags | {PREFIX + key: value for key, value in described(config).items()}
            insert(database, "tags", ["run_uuid", "key", "value"], [(name, *tag) for tag in own_tags.items()])
            params = {**config.model_dump(mode="json"), "density": config.density}
            insert(database, "params", ["run_uuid", "key", "value"], [(name, k, str(v)) for k, v in params.items()])
            factor = 1 + 0.05 * rng.normal()
            for table, points in tables.items():
                rows = [(name, key, factor * value, *rest) for key, value, *rest in points]
                insert(database, table, ["run_uuid", "key", "value", "timestamp", "step", "is_nan"], rows)
    return store.uri


def described(config: RunConfig) -> dict[str, str]:
    """The tags of a run that depend on its configuration and that boards read."""
    return {
        "stream": config.stream,
        "stream_label": config.stream,
        "protocol": json.dumps(config.protocol(), sort_keys=True),
        "variant": json.dumps(config.variant(), sort_keys=True),
        "variant_defaults": json.dumps(config.default_variant(), sort_keys=True),
        "seed": str(config.seed),
    }


def insert(database: sqlite3.Connection, table: str, columns: list[str], rows: list[tuple]) -> None:
    places = ", ".join("?" * len(columns))
    database.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})", rows)


def seconds_of(*arguments: str) -> float:
    """Median time of ``python -m leaderboards``, from the start of its process to its end."""
    seconds = []
    for _ in range(ROUNDS):
        start = perf_counter()
        subprocess.run([sys.executable, "-m", "leaderboards", *arguments], check=True)
        seconds.append(perf_counter() - start)
    return median(seconds)


@pytest.mark.speed
def test_boards_of_many_runs_are_built_in_seconds(tmp_path, report):
    uri, output, page = fill(tmp_path), tmp_path / "boards", tmp_path / "page.html"
    boards = seconds_of("--tracking-uri", uri, "--output", str(output))
    pages = [page.read_text(encoding="utf-8") for page in output.glob("*.md")]
    assert sum(f"runs: {RUNS // len(STREAMS)};" in page for page in pages) == len(STREAMS)
    report(f"boards of {RUNS:,} runs, figures included", boards, "<= 10", unit=" s", note="the whole command")
    html = seconds_of("--tracking-uri", uri, "--html", str(page))
    report(f"one page of {RUNS:,} runs", html, "<= 20", unit=" s", note=f"{page.stat().st_size / 1e6:.1f} MB")
