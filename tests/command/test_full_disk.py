"""A run whose files find no room is kept, and the same command goes on with it."""

from __future__ import annotations

import pytest
from mlflow import MlflowClient

pytestmark = pytest.mark.slow

RUN = (
    "--stream",
    "digits",
    "--strategy",
    "APP",
    "--megabatches",
    "2",
    "--epochs",
    "1",
    "--model",
    "mlp",
    "--shots",
    "20",
)


def test_files_without_room_leave_the_run_to_be_gone_on_with(called, tmp_path, monkeypatch):
    write = MlflowClient.log_artifacts

    def no_room(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(MlflowClient, "log_artifacts", no_room)
    code, _, err = called(*RUN, "--checkpoint-every", "0")
    line = err.splitlines()[-1]
    assert code == 1 and line.startswith("Run 1 failed: its files could not be written to ")
    assert "No space left on device; make room and give the command again" in line
    client = MlflowClient(f"sqlite:///{tmp_path / 'results' / 'mlflow.db'}")
    [left] = client.search_runs(["1"])
    assert left.info.status == "KILLED" and (tmp_path / "results" / "checkpoints" / left.info.run_id).is_dir()

    monkeypatch.setattr(MlflowClient, "log_artifacts", write)
    code, _, err = called(*RUN)
    assert code == 0 and "goes on where it was interrupted" in err and "megabatch 1" not in err
    [run] = client.search_runs(["1"])
    assert run.info.run_id == left.info.run_id and run.info.status == "FINISHED"
    assert {file.path for file in client.list_artifacts(run.info.run_id)} >= {"state_dict.pt", "masks.pt"}
    assert not (tmp_path / "results" / "checkpoints" / run.info.run_id).exists()
    steps = [point.step for point in client.get_metric_history(run.info.run_id, "test/accuracy")]
    assert steps == [1, 2]
