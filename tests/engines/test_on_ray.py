"""Runs on Ray: on two nodes of which one is lost, interrupted, and in workers that are killed."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress
from threading import Thread

import pytest
from mlflow import MlflowClient
from soak import kills

from benchmark.config.profiles import resolve
from benchmark.engines.job import Failure, Job, Place
from benchmark.engines.on_ray import OnRay, Share
from benchmark.errors import UsageError
from benchmark.recording.store import Store
from benchmark.running.checkpoint import CheckpointFile
from benchmark.running.course import Policy
from benchmark.running.interruption import Interrupted, Interruption
from benchmark.running.prepare import prepare
from benchmark.running.result import RunResult
from benchmark.running.run import run
from leaderboards.record import PREFIX

pytest.importorskip("ray", reason="Ray is an extra package")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

MEASURED = ("time/", "memory/")
"""Metrics that no two runs share."""

# Ray takes some seconds to tell a task to end: on a fast machine a run has to last longer than that.
OPTIONS = {"stream": "digits", "model": "mlp", "megabatches": 3, "epochs": 200, "batch_size": 32, "shots": 60}


def job(number, **options):
    return Job(number, resolve({**OPTIONS, **options}, profile="demo"), "demo")


JOBS = [job(number, strategy=name, seed=seed) for number, (name, seed) in enumerate(
    [("dense", 0), ("APP", 0), ("RigL", 1)], start=1
)]  # fmt: skip


DIVERGING = job(len(JOBS) + 1, strategy="dense", lr=1e30, epochs=1)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def undisturbed(cache):
    """Number of a job -> the series of its run in this process."""
    found = {}
    for one in JOBS:
        result = run(prepare(one.config, data_root=cache / "none", cache=cache))
        found[one.number] = unmeasured(result.series)
    return found


def unmeasured(series):
    return {name: values for name, values in series.items() if not name.startswith(MEASURED)}


@pytest.fixture
def place(tmp_path, cache):
    store = Store(None, tmp_path / "results", "tests")
    policy = Policy(checkpoint_every=0.0)
    return Place(cache / "none", cache, tmp_path / "results", store.uri, "tests", policy=policy), store


def records(store):
    return store.client.search_runs([store.experiment_id])


def as_recorded(store, undisturbed):
    """Whether each job is recorded once, with the points that it has where nothing disturbs it."""
    found = records(store)
    assert len(found) == len(JOBS) and {one.info.status for one in found} == {"FINISHED"}
    for one in JOBS:
        name = (one.config.strategy, str(one.config.seed))
        [own] = [r for r in found if (r.data.params["strategy"], r.data.params["seed"]) == name]
        for metric, (steps, values) in undisturbed[one.number].items():
            points = store.client.get_metric_history(own.info.run_id, metric)
            assert [(point.step, point.value) for point in points] == list(zip(steps, values, strict=True)), metric
    return True


def resumed(store):
    """Runs that went on from a checkpoint."""
    return [one for one in records(store) if PREFIX + "resumed" in one.data.tags]


def saved(where, store):
    """Runs under way that have a checkpoint to go on from."""
    running = [one.info.run_id for one in records(store) if one.info.status == "RUNNING"]
    return [run_id for run_id in running if CheckpointFile(where.checkpoints / run_id).exists()]


def under_way(uri, experiment):
    """Process ids of runs that have trained for a while."""
    client = MlflowClient(uri)
    found = client.search_runs([experiment], "attributes.status = 'RUNNING'")
    begun = [one for one in found if "test/accuracy" in one.data.metrics]
    return [int(one.data.tags[PREFIX + "process"].split()[1]) for one in begun]


def when(event, act):
    """Do something in a thread, once something is so."""

    def wait():
        while not (found := event()):
            time.sleep(0.1)
        act(found)

    Thread(target=wait, daemon=True).start()


def test_a_lost_node_and_an_interruption_cost_no_run_and_no_bit(place, undisturbed):
    """What was interrupted goes on when the jobs are given again, and what a lost node had under way elsewhere."""
    from ray.cluster_utils import Cluster

    where, store = place
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})

    def carry_out():
        return list(OnRay(Share(retries=5), Interruption(), address=cluster.address)(JOBS, where, store, {}))

    def both_saved():
        return len(saved(where, store)) == 2

    try:
        second = cluster.add_node(num_cpus=1)
        when(both_saved, lambda _: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Interrupted) as told:
            carry_out()
        assert told.value.signal == signal.SIGTERM
        left = records(store)
        assert "RUNNING" not in {one.info.status for one in left}
        ends = {one.info.run_id: one.info.status for one in left}
        assert any(ends[run_id] == "KILLED" for run_id in ends if (where.checkpoints / run_id).is_dir()), ends
        when(both_saved, lambda _: cluster.remove_node(second, allow_graceful=False))
        carry_out()
        assert not cluster.worker_nodes
    finally:
        cluster.shutdown()
    assert resumed(store) and {one.info.status for one in records(store)} == {"FINISHED"}
    assert gone_on_with(place, undisturbed)


def gone_on_with(place, undisturbed):
    """Whether the same jobs, given again on this machine, end as undisturbed ones; what diverges is not begun again."""
    where, store = place
    engine = OnRay(Share(), Interruption(), at_once=1)
    ended = {one.number: outcome for one, outcome in engine([*JOBS, DIVERGING], where, store, {})}
    failure = ended.pop(DIVERGING.number)
    assert isinstance(failure, Failure) and "diverged" in failure.reason
    [failed] = [one for one in records(store) if one.info.status == "FAILED"]
    store.client.delete_run(failed.info.run_id)
    series = {number: unmeasured(one.series) for number, one in ended.items() if isinstance(one, RunResult)}
    assert series == {number: undisturbed[number] for number in series}, ended
    return as_recorded(store, undisturbed)


@pytest.mark.skipif(not kills(0), reason="takes minutes: ANYTIME_BENCH_KILLS says how many workers are killed")
def test_workers_that_are_killed_at_random_cost_no_run_and_no_bit(place, undisturbed):
    where, store = place
    killed, over = [], []

    def kill_some():
        chance = random.Random(0)
        while len(killed) < kills(0) and not over:
            time.sleep(chance.uniform(0.1, 2.0))
            alive = under_way(where.tracking_uri, store.experiment_id)
            if alive:
                killed.append(chance.choice(alive))
                with suppress(ProcessLookupError):
                    os.kill(killed[-1], signal.SIGKILL)

    killer = Thread(target=kill_some, daemon=True)
    killer.start()
    engine = OnRay(Share(retries=kills(0) + 5), Interruption(), at_once=2)
    ended = [outcome for _, outcome in engine(JOBS, where, store, {})]
    over.append(True)
    killer.join()
    assert len(killed) == kills(0), "the runs were over before"
    assert all(isinstance(outcome, RunResult) for outcome in ended), ended
    assert resumed(store) and as_recorded(store, undisturbed)


def test_a_share_that_no_machine_has_is_refused(place):
    where, store = place
    with pytest.raises(UsageError, match="no machine has 1 core and 1 GPUs"):
        list(OnRay(Share(gpus=1.0), Interruption())(JOBS, where, store, {}))
    with pytest.raises(UsageError, match="there is no Ray cluster at"):
        list(OnRay(Share(), Interruption(), address="127.0.0.1:9")(JOBS, where, store, {}))
    assert not records(store)
