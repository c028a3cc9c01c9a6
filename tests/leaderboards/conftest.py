"""A store of made-up runs, written through MLflow's client, as another program would."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, RunTag

from leaderboards.glossary import Glossary, Measure, to_tags
from leaderboards.numbers.boards import boards
from leaderboards.numbers.report import report
from leaderboards.record import identity_key
from leaderboards.sources.collect import Records

PROTOCOL = {"stream": "toy", "megabatches": 4, "replay": "full", "model": "mlp", "epochs": 2}

GLOSSARY = (
    Measure(
        "anytime/cer_rate",
        "CER rate",
        "CER divided by B times the test images",
        "fraction",
        better=-1,
        key="cer_rate",
        position=10,
        places=("board", "baseline", "runs", "contrast"),
    ),
    Measure("anytime/cer", "CER", "errors", "test images", "{:,.0f}", -1, "cer", 20, ("board", "runs")),
    Measure(
        "test/accuracy",
        "Final accuracy",
        "test accuracy after the last megabatch",
        "fraction",
        better=1,
        key="accuracy",
        position=30,
        places=("board", "baseline", "runs", "contrast"),
    ),
    Measure("gap/clean", "Gap (clean)", "a gap", "fraction", "{:+.4f}", -1, "gap_clean", 70, ("board", "baseline")),
    Measure("size/density", "Density", "applied", "fraction", key="density", position=80, places=("board", "runs")),
    Measure("size/bytes_bitmask", "Bytes", "stored", "bytes", "{:,.0f}", -1, "bytes", 100, ("board",)),
    Measure(
        "time/train_seconds", "Time (s)", "wall time", "s", "{:,.0f}", key="seconds", position=140, places=("board",)
    ),
)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory):
    """An sqlite store with its tables made, to be copied: making them takes seconds."""
    folder = tmp_path_factory.mktemp("store")
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.create_experiment("toy", artifact_location=(folder / "artifacts").as_uri())
    for tag, text in to_tags(GLOSSARY).items():
        client.set_experiment_tag(experiment, tag, text)
    return folder / "mlflow.db"


@pytest.fixture
def store(empty_store, tmp_path):
    path = tmp_path / "mlflow.db"
    path.write_bytes(empty_store.read_bytes())
    return Toy(f"sqlite:///{path}")


class Toy:
    def __init__(self, uri: str):
        self.uri = uri
        self.client = MlflowClient(uri)
        self.experiment = self.client.get_experiment_by_name("toy").experiment_id
        self.clock = 0

    def add(
        self,
        strategy="dense",
        seed=0,
        status="FINISHED",
        data="real",
        fingerprint="f" * 16,
        protocol=None,
        tags=None,
        **metrics,
    ):
        """One run; metric names are given with two underscores for the slash."""
        self.clock += 1
        variant = {"strategy": strategy, "strategy_version": 1} if isinstance(strategy, str) else strategy
        own = {
            "stream": "toy",
            "stream_label": "toy | stream",
            "data": data,
            "data_version": "1",
            "data_fingerprint": fingerprint,
            "protocol": json.dumps({**PROTOCOL, "data": data, **(protocol or {})}),
            "variant": json.dumps(variant),
            "seed": str(seed),
            "commit": "abc",
            **(tags or {}),
        }
        run = self.client.create_run(self.experiment, start_time=self.clock)
        self.client.log_batch(
            run.info.run_id,
            metrics=[Metric(name.replace("__", "/"), value, 0, 4) for name, value in metrics.items()],
            tags=[RunTag("anytime_bench." + name, value) for name, value in own.items()],
        )
        if status != "RUNNING":
            self.client.set_terminated(run.info.run_id, status)
        return run.info.run_id


@pytest.fixture
def reported():
    """Makes the report of a board without any store: strategy -> metric -> a value a seed, or a list of a step each."""

    def make(rows, measures=(), **protocol):
        runs, series = [], {}
        for strategy, metrics in rows.items():
            for seed in range(max(map(len, metrics.values()))):
                variant = {"strategy": strategy, "strategy_version": 1}
                values = {name: of_seeds[seed] for name, of_seeds in metrics.items() if seed < len(of_seeds)}
                run_id = f"{len(runs):032x}"
                for name, value in values.items():
                    if isinstance(value, list):
                        series[run_id, name] = dict(enumerate(value, start=1))
                        values[name] = value[-1]
                whole = {**PROTOCOL, **protocol}
                key = identity_key(protocol=whole, variant=variant, seed=seed, data_fingerprint="f" * 16)
                runs.append(
                    {
                        **{"run_id": run_id, "started": pd.Timestamp(len(runs), unit="s", tz="UTC"), "identity": key},
                        **{"stream": "toy", "stream_label": "toy | stream", "data": "real", "data_version": "1"},
                        **{"data_fingerprint": "f" * 16, "protocol": whole, "variant": variant, "density": 0.5},
                        **{"variant_defaults": {}, "seed": seed, "commit": "abc"},
                        **{f"metrics.{name}": value for name, value in values.items()},
                    }
                )
        glossary = Glossary((*GLOSSARY, *measures)).completed(name for metrics in rows.values() for name in metrics)
        [board] = boards(Records(pd.DataFrame(runs), glossary))
        return report(board, series=series)

    return make


@pytest.fixture(scope="session")
def real_records(tmp_path_factory):
    """A folder of 35 published records: dense and six pruners at a density of .05, five seeds each, one board."""
    published = Path(__file__).parents[2] / "leaderboards" / "published" / "records"
    folder = tmp_path_factory.mktemp("records")
    shutil.copy(published / "glossary.json", folder)
    for pattern in (
        "fashion_mnist-real-b10-*/dense-s?-*.json",
        "fashion_mnist-real-b10-*/*-density-0-05-s[0-4]-*.json",
    ):
        for file in published.glob(pattern):
            if file.name.startswith(("dense-", "app-", "gmp-", "osp-", "rigl-", "static-random-")):
                (folder / file.parent.name).mkdir(exist_ok=True)
                shutil.copy(file, folder / file.parent.name)
    return folder
