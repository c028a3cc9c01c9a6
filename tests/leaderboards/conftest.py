"""A store of made-up runs, written through MLflow's client, as another program would."""

from __future__ import annotations

import json

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, RunTag

PROTOCOL = {"stream": "toy", "megabatches": 4, "replay": "full", "model": "mlp", "epochs": 2}


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory):
    """An sqlite store with its tables made, to be copied: making them takes seconds."""
    folder = tmp_path_factory.mktemp("store")
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    client.create_experiment("toy", artifact_location=(folder / "artifacts").as_uri())
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
        self, strategy="dense", seed=0, status="FINISHED", data="real", fingerprint="f" * 16, protocol=None, **metrics
    ):
        """One run; metric names are given with two underscores for the slash."""
        self.clock += 1
        variant = {"strategy": strategy, "strategy_version": 1} if isinstance(strategy, str) else strategy
        tags = {
            "stream": "toy",
            "stream_label": "toy | stream",
            "data": data,
            "data_version": "1",
            "data_fingerprint": fingerprint,
            "protocol": json.dumps({**PROTOCOL, **(protocol or {})}),
            "variant": json.dumps(variant),
            "seed": str(seed),
            "commit": "abc",
        }
        run = self.client.create_run(self.experiment, start_time=self.clock)
        self.client.log_batch(
            run.info.run_id,
            metrics=[Metric(name.replace("__", "/"), value, 0, 4) for name, value in metrics.items()],
            tags=[RunTag("anytime_bench." + name, value) for name, value in tags.items()],
        )
        if status != "RUNNING":
            self.client.set_terminated(run.info.run_id, status)
        return run.info.run_id
