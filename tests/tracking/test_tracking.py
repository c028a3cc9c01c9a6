from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from threading import Barrier

import pytest
import torch
from avalanche.evaluation.metrics import accuracy_metrics
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.supervised import Naive
from mlflow import MlflowClient
from mlflow.entities import Dataset
from torch import nn
from torch.optim import SGD

from benchmark.config.profiles import resolve
from benchmark.errors import UsageError
from benchmark.recording.logger import BATCH, legal_name
from benchmark.recording.provenance import provenance
from benchmark.recording.record import RunRecord, describe_run
from benchmark.recording.store import Store
from benchmark.running.prepare import prepare
from benchmark.streams.build import build_stream
from benchmark.streams.protocols.alma import alma_scenario
from leaderboards.sources.collect import collect


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(None, tmp_path_factory.mktemp("output"), "tests")


def test_names_are_made_legal():
    assert (
        legal_name("Top1_Acc_Stream/eval_phase/test_stream/Task000") == "Top1_Acc_Stream/eval_phase/test_stream/Task000"
    )
    assert legal_name("/density d_t=0.8²|x/") == "density d_t_0.8__x"


def test_points_are_sent_in_batches_with_their_steps(store):
    calls = []

    class Counting(MlflowClient):
        def log_batch(self, *args, **kwargs):
            calls.append(len(kwargs.get("metrics", ())))
            return super().log_batch(*args, **kwargs)

    with store.run(RunRecord("batches", {}, {})) as logger:
        logger.client = Counting(store.uri)
        for step in range(BATCH + 5):
            logger.log_single_metric("series", step / 2, step)
        logger.log_single_metric("picture", object(), 0)
        logger.log_single_metric("flag", True, 0)
    assert calls == [BATCH, 5]
    history = store.client.get_metric_history(logger.run_id, "series")
    assert [(point.step, point.value) for point in sorted(history, key=lambda p: p.step)] == [
        (step, step / 2) for step in range(BATCH + 5)
    ]
    assert store.client.get_run(logger.run_id).data.metrics.keys() == {"series"}


def test_a_failed_run_says_why(store):
    with pytest.raises(ZeroDivisionError), store.run(RunRecord("fails", {"a": 1}, {})) as logger:
        _ = 1 / 0
    run = store.client.get_run(logger.run_id)
    assert run.info.status == "FAILED"
    assert run.data.tags["anytime_bench.failure"] == "ZeroDivisionError: division by zero"
    assert "1 / 0" in Path(store.client.download_artifacts(logger.run_id, "failure.txt")).read_text()


def test_an_interrupted_run_is_killed(store):
    with pytest.raises(KeyboardInterrupt), store.run(RunRecord("stops", {}, {})) as logger:
        raise KeyboardInterrupt
    assert store.client.get_run(logger.run_id).info.status == "KILLED"


def test_two_runs_may_record_the_same_data_set_at_once(store):
    start = Barrier(2)

    def record(number):
        for data_set in range(20):
            start.wait(timeout=60)
            images = Dataset(f"images {data_set}", "digest", "local", "{}")
            with store.run(RunRecord(f"run {number}", {}, {}, images)) as logger:
                pass
        return logger.run_id

    with ThreadPoolExecutor(2) as threads:
        last = list(threads.map(record, range(2)))
    for run_id in last:
        run = store.client.get_run(run_id)
        assert run.info.status == "FINISHED"
        assert [given.dataset.name for given in run.inputs.dataset_inputs] == ["images 19"]


def test_artifacts_lie_under_an_absolute_address(store):
    with store.run(RunRecord("artifacts", {}, {})) as logger:
        pass
    assert store.client.get_run(logger.run_id).info.artifact_uri.startswith("file:///")


def test_a_local_store_is_written_at_once(store):
    with store.run(RunRecord("local", {}, {})) as logger:
        logger.log_single_metric("series", 1.0, 0)
        logger.flush()
        assert store.client.get_run(logger.run_id).data.metrics == {"series": 1.0}
    assert not logger.undelivered and not (store.output / "spool").exists()


def test_provenance_names_versions_and_hardware():
    tags = provenance()
    for name in ("commit", "dirty", "hardware", "python", "version.torch", "version.avalanche-lib"):
        assert tags[name]


def test_provenance_says_what_decides_the_last_digits():
    tags = provenance()
    assert tags["cpu_capability"] == torch.backends.cpu.get_cpu_capability()
    assert tags["threads"] == str(torch.get_num_threads())
    if Path("/proc/cpuinfo").exists():
        said = Path("/proc/cpuinfo").read_text()
        facts = [("cpu_family", "cpu family"), ("cpu_model", "model"), ("cpu_stepping", "stepping")]
        for tag, line in [(tag, line) for tag, line in facts if f"{line}\t" in said]:
            assert re.search(rf"^{line}\s*: {re.escape(tags[tag])}$", said, flags=re.M)


def test_a_run_is_recorded_with_its_name_source_images_and_parent(tmp_path):
    config = resolve({"stream": "digits", "strategy": "IMP", "density": 0.1, "seed": 4}, profile="demo")
    prepared = prepare(config, data_root=tmp_path, cache=tmp_path)
    record = describe_run(config, build_stream(config, prepared.data, "cpu"), "demo", "cpu")
    assert record.name == "digits IMP (density 0.1) seed 4"
    base = Store(None, tmp_path, "tests")
    with base.group("2 runs") as parent, Store(None, tmp_path, "tests", parent=parent).run(record) as logger:
        pass
    run = base.client.get_run(logger.run_id)
    assert run.info.run_name == record.name
    assert run.data.tags["mlflow.parentRunId"] == parent
    assert run.data.tags["mlflow.source.name"] and run.data.tags["mlflow.source.type"] == "LOCAL"
    [images] = run.inputs.dataset_inputs
    assert (images.dataset.name, images.dataset.digest) == ("digits", run.data.tags["anytime_bench.data_fingerprint"])
    assert run.data.tags["anytime_bench.identity"] == config.identity(images.dataset.digest).key
    assert base.client.get_run(parent).info.status == "FINISHED"
    [recorded] = collect(base.uri).runs.itertuples()  # the parent is no result
    assert recorded.identity == run.data.tags["anytime_bench.identity"], "boards go by the same identity"


def test_a_campaign_has_its_environment_as_a_file_once(store, tmp_path, monkeypatch):
    def files(run_id):
        found = [one.path for one in store.client.list_artifacts(run_id)]
        return [path for path in found if path.startswith("environment-")]

    def carry_out(**what):
        with store.campaign("many", [{"identity": "a", "name": "a run"}], {}, **what) as parent:
            return parent

    parent = carry_out()
    [name] = files(carry_out())
    said = Path(store.client.download_artifacts(parent, name, str(tmp_path))).read_text()
    assert f"mlflow=={version('mlflow')}\n" in said and "/" not in said
    monkeypatch.setattr("benchmark.recording.environment.environment", lambda: "other==1\n")
    # Of a command that carries nothing out nobody asks what was installed.
    assert carry_out(finished=["a"]) == parent and files(parent) == [name]
    assert carry_out() == parent and len(files(parent)) == 2


@pytest.mark.parametrize(
    ("error", "status"), [(KeyboardInterrupt, "KILLED"), (SystemExit, "KILLED"), (OSError, "FAILED")]
)
def test_a_group_ends_as_what_ended_it(store, error, status):
    with pytest.raises(error), store.group("two runs") as parent:
        raise error
    assert store.client.get_run(parent).info.status == status


def test_a_group_fails_with_any_of_its_runs(store, tmp_path):
    with store.group("two runs", {"some": "tag"}) as parent:
        own = Store(store.uri, tmp_path, "tests", parent=parent)
        with own.run(RunRecord("good", {}, {})):
            pass
        with pytest.raises(OSError), own.run(RunRecord("bad", {}, {})):
            raise OSError
    run = store.client.get_run(parent)
    assert (run.info.status, run.info.run_name, run.data.tags["some"]) == ("FAILED", "two runs", "tag")


def test_unwritable_output_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="--output"):
        Store(None, tmp_path / "file" / "output", "tests")


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "https://127.0.0.1:9"])
def test_an_unreachable_server_is_refused_at_once(tmp_path, uri):
    began = time.monotonic()
    with pytest.raises(UsageError, match="no tracking server"):
        Store(uri, tmp_path / "output", "tests")
    assert time.monotonic() - began < 30 and not (tmp_path / "output").exists()


def test_a_wrong_store_address_is_refused(tmp_path):
    with pytest.raises(UsageError, match="tracking store"):
        Store("nonsense://somewhere", tmp_path, "tests")


@pytest.mark.slow
def test_any_avalanche_strategy_can_be_tracked_on_a_server(server, tmp_path):
    import torch

    points = [(torch.randn(6), i % 2) for i in range(80)]
    targets = [y for _, y in points]
    scenario = alma_scenario(points, points[:20], targets, targets[:20], megabatches=2)
    store = Store(server, tmp_path, "remote")
    with store.run(RunRecord("naive", {"lr": 0.1}, {"kind": "test"})) as logger:
        model = nn.Sequential(nn.Linear(6, 2))
        strategy = Naive(
            model=model,
            optimizer=SGD(model.parameters(), lr=0.1),
            evaluator=EvaluationPlugin(accuracy_metrics(epoch=True, stream=True), loggers=[logger]),
        )
        for experience in scenario.train_stream:
            strategy.train(experience, eval_streams=[])
            strategy.eval(scenario.test_stream)
        (tmp_path / "note.txt").write_text("kept")
        logger.client.log_artifact(logger.run_id, str(tmp_path / "note.txt"))
    run = MlflowClient(server).get_run(logger.run_id)
    assert run.info.status == "FINISHED" and run.data.params == {"lr": "0.1"} and run.data.tags["kind"] == "test"
    series = MlflowClient(server).get_metric_history(run.info.run_id, "Top1_Acc_Stream/eval_phase/test_stream/Task000")
    assert len(series) == 2
    assert [a.path for a in MlflowClient(server).list_artifacts(run.info.run_id)] == ["note.txt"]
    assert not list(tmp_path.glob("*.db"))
