"""Several runs of one command: what belongs together, what is shown of each, and what a failure leaves."""

from __future__ import annotations

import pytest
from mlflow import MlflowClient

from benchmark.command.differences import name_group
from benchmark.config.profiles import resolve
from leaderboards.sources.collect import collect

pytestmark = pytest.mark.slow

TINY = ("--stream", "digits", "--megabatches", "2", "--epochs", "1", "--model", "mlp")


def recorded(folder):
    """The run that all others belong to, and the others by the first word of their strategy and their rate."""
    client = MlflowClient(f"sqlite:///{folder / 'results' / 'mlflow.db'}")
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    [parent] = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    own = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert len(own) == len(runs) - 1
    return parent, {(run.data.params["strategy"], float(run.data.params["lr"])): run for run in own}


def test_runs_of_one_command_belong_together_and_are_compared(called, tmp_path):
    code, out, err = called(*TINY, "--strategy", "APP", "--strategy", "dense", "--score", "magnitude")
    assert code == 0, err
    parent, runs = recorded(tmp_path)
    assert parent.info.status == "FINISHED" and parent.data.tags["mlflow.source.name"]
    assert parent.info.run_name == "2 runs on digits: strategy APP, dense"
    assert {run.info.run_name for run in runs.values()} == {"digits APP (magnitude) seed 0", "digits dense seed 0"}
    for run in runs.values():
        [images] = run.inputs.dataset_inputs
        assert images.dataset.digest == run.data.tags["anytime_bench.data_fingerprint"]
    lines = out.splitlines()
    assert lines[0].startswith("Run 1, digits APP (magnitude) seed 0: ") and lines[1].startswith("Run 2, digits dense")
    head, _, rest = out.partition("strategy  ")
    assert "digits (real images), 2 megabatches, mlp" in head and "MLflow store:" not in head
    board = rest.partition("MLflow store:")[0]
    assert "APP (magnitude)" in board and "dense" in board
    found = collect(f"sqlite:///{tmp_path / 'results' / 'mlflow.db'}").runs
    assert set(found.run_id) == {run.info.run_id for run in runs.values()}, "the parent is no result"


def test_a_run_that_diverges_fails_alone_and_reaches_no_board(called, tmp_path):
    code, out, err = called(*TINY, "--strategy", "dense", "--lr", "1e30", "--lr", "0.03")
    assert code == 1 and "Traceback" not in err
    assert "Run 1 failed, the others go on: diverged at megabatch 1, epoch 1: the " in err
    parent, runs = recorded(tmp_path)
    bad, good = runs["dense", 1e30], runs["dense", 0.03]
    assert (parent.info.status, bad.info.status, good.info.status) == ("FAILED", "FAILED", "FINISHED")
    assert "diverged at megabatch 1, epoch 1" in bad.data.tags["anytime_bench.failure"]
    assert list(collect(f"sqlite:///{tmp_path / 'results' / 'mlflow.db'}").runs.run_id) == [good.info.run_id]
    assert out.startswith("Run 2, digits dense seed 0: ")


def test_a_group_is_named_by_what_varies():
    def name(*options):
        return name_group([resolve({"stream": "digits", **one}, profile="demo") for one in options])

    seeds = [{"strategy": "RigL", "seed": seed, "settings": {"every": every}} for seed in range(9) for every in (5, 50)]
    assert name(*seeds) == "18 runs on digits: set every 5, 50; seed 0, ..., 8"
    both = [{"strategy": "dense"}, {"strategy": "dense", "stream": "synthetic", "model": "mlp"}]
    assert name(*both).startswith("2 runs on digits, synthetic: ") and "stream digits" not in name(*both)
