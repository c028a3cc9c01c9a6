"""What a store says of earlier runs, and a run that goes on in the same record."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
from mlflow.entities import RunTag

from benchmark.recording import heartbeat as signs
from benchmark.recording.heartbeat import heartbeat, is_alive, own_process, signs_of_life
from benchmark.recording.ledger import Ledger
from benchmark.recording.record import RunRecord
from benchmark.recording.store import Store
from leaderboards.record import PREFIX


@pytest.fixture
def store(tmp_path):
    return Store(None, tmp_path, "tests")


def record(**tags):
    return RunRecord("a run", {"seed": 0}, {PREFIX + name: text for name, text in tags.items()})


def begin(store, status=None, **tags):
    """A run as a process leaves it that dies, or ends with ``status``."""
    run_id = store.client.create_run(store.experiment_id, tags=record(**tags).tags).info.run_id
    if status is not None:
        store.client.set_terminated(run_id, status)
    return run_id


@pytest.fixture(scope="module")
def gone():
    """The sign of a process that has ended."""
    look = "from benchmark.recording.heartbeat import own_process; print(own_process())"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_this_process_is_alive_and_one_that_has_ended_is_not(gone):
    assert is_alive({"process": own_process()}) and not is_alive({"process": gone})
    machine, pid, started = own_process().split(" ")
    assert not is_alive({"process": f"{machine} {pid} {int(started) - 100}"}), "its number was given again"
    assert not is_alive({"process": f"{machine}-before-a-boot {pid} {started}"})
    assert not is_alive({"process": f"{machine} many {started}"})


@pytest.mark.parametrize("hours", [-720, -5, 5, 720])
def test_of_this_machine_no_clock_is_asked(monkeypatch, gone, hours):
    signs_then, now = {"heartbeat": str(time.time())}, time.time
    monkeypatch.setattr(time, "time", lambda: now() + 3600 * hours)
    assert is_alive({"process": own_process(), **signs_then}) and not is_alive({"process": gone, **signs_then})


def test_of_another_machine_the_last_sign_decides(monkeypatch):
    elsewhere = {"process": "elsewhere 1 20"}
    assert is_alive({**elsewhere, "heartbeat": str(time.time() - signs.SILENCE / 2)})
    assert not is_alive({**elsewhere, "heartbeat": str(time.time() - signs.SILENCE * 2)})
    assert is_alive({**elsewhere, "heartbeat": str(time.time() + 3600)}), "clocks differ"
    assert not is_alive(elsewhere) and not is_alive({**elsewhere, "heartbeat": "soon"}) and not is_alive({})


def test_a_run_shows_signs_of_life_until_it_ends(store):
    run_id = begin(store, identity="a")
    store.client.log_batch(run_id, tags=[RunTag(PREFIX + "heartbeat", "0")])
    with heartbeat(store.client, run_id, interval=0.05):
        deadline = time.monotonic() + 30
        while store.client.get_run(run_id).data.tags[PREFIX + "heartbeat"] == "0" and time.monotonic() < deadline:
            time.sleep(0.05)
    assert float(store.client.get_run(run_id).data.tags[PREFIX + "heartbeat"]) == pytest.approx(time.time(), abs=60)


def test_the_ledger_tells_states_apart(store, gone):
    runs = {
        "finished": begin(store, "FINISHED", identity="a"),
        "failed": begin(store, "FAILED", identity="a"),
        "killed": begin(store, "KILLED", identity="a"),
        "alive": begin(store, identity="a", process=own_process()),
        "gone": begin(store, identity="a", process=gone),
        "other": begin(store, "FINISHED", identity="b"),
        "foreign": begin(store),
        "group": store.client.create_run(store.experiment_id, tags={PREFIX + "process": gone}).info.run_id,
    }
    ledger = Ledger(store.client, store.experiment_id)
    states = {run.run_id: run.state for run in ledger.of("a")}
    assert states == {
        runs["finished"]: "finished",
        runs["failed"]: "failed",
        runs["killed"]: "interrupted",
        runs["alive"]: "under way",
        runs["gone"]: "interrupted",
    }
    assert {run.run_id for run in ledger.abandoned()} == {runs["gone"], runs["group"]}, "foreign runs are left alone"
    assert ledger.over() == {runs["finished"], runs["failed"], runs["other"]}
    assert [run.run_id for run in Ledger(store.client, store.experiment_id, "b").of("b")] == [
        runs["other"]
    ] and not ledger.of("c")


def test_a_run_goes_on_in_its_own_record_without_a_repeated_or_a_missing_point(store):
    with pytest.raises(KeyboardInterrupt), store.run(record(identity="a", code="old")) as logger:
        for step in range(5):
            logger.log_single_metric("x", step / 10, step)
            logger.log_single_metric("twice", 1.0, step)
            logger.log_single_metric("twice", 2.0, step)
        logger.flush()
        # Emitted, and lost with the process.
        logger.log_single_metric("x", 0.5, 5)
        raise KeyboardInterrupt
    run_id = logger.run_id
    killed = store.client.get_run(run_id)
    assert killed.info.status == "KILLED" and killed.data.tags[PREFIX + "failure"] == "interrupted"
    with store.run(record(identity="a"), resume=run_id) as again:
        assert store.client.get_run(run_id).info.status == "RUNNING"
        again.go_on(record(identity="a", code="new").tags)
        # From a checkpoint at step 2.
        again.emitted.update({**{("x", step): 1 for step in range(3)}, **{("twice", step): 2 for step in range(3)}})
        for step in range(3, 8):
            again.log_single_metric("x", step / 10, step)
            again.log_single_metric("twice", 1.0, step)
            again.log_single_metric("twice", 2.0, step)
    ended = store.client.get_run(run_id)
    assert ended.info.status == "FINISHED" and ended.data.tags[PREFIX + "resumed"] == "1"
    assert PREFIX + "failure" not in ended.data.tags
    assert (ended.data.tags[PREFIX + "code"], ended.data.tags[PREFIX + "resumed_from_code"]) == ("new", "old")
    points = [(m.step, m.value) for m in store.client.get_metric_history(run_id, "x")]
    assert sorted(points) == [(step, step / 10) for step in range(8)]
    twice = sorted((m.step, m.value) for m in store.client.get_metric_history(run_id, "twice"))
    assert twice == [(step, value) for step in range(8) for value in (1.0, 2.0)]
    assert len(store.client.search_runs([store.experiment_id])) == 1


def test_a_run_that_cannot_be_put_back_can_still_be_gone_on_with(store):
    run_id = begin(store, "KILLED", identity="a", code="old")
    # Its device, say, is no part of its identity, and MLflow lets no parameter change.
    store.client.log_param(run_id, "device", "auto")
    changed = RunRecord("a run", {"seed": 0, "device": "cpu"}, record(identity="a", code="new").tags)
    with pytest.raises(OSError), store.run(changed, resume=run_id):
        raise OSError("no room")
    left = store.client.get_run(run_id)
    assert left.info.status == "KILLED" and left.data.params == {"seed": "0", "device": "auto"}
    assert left.data.tags[PREFIX + "code"] == "old" and "no room" in left.data.tags[PREFIX + "failure"]


def test_a_run_that_was_taken_up_meanwhile_is_not_closed(store, gone):
    dead, alive = begin(store, process=gone), begin(store, process=own_process())
    for run_id in (dead, alive):
        store.close(run_id)
    assert [store.client.get_run(run_id).info.status for run_id in (dead, alive)] == ["KILLED", "RUNNING"]


def test_signs_of_life_name_this_process():
    assert signs_of_life()[PREFIX + "process"] == own_process() and str(os.getpid()) in own_process()


@pytest.mark.parametrize("resumed", [False, True])
def test_an_interruption_while_a_run_begins_is_marked_too(store, monkeypatch, resumed):
    """Its id has not come back by then."""
    earlier = begin(store, "KILLED", identity="a") if resumed else None
    other = begin(store, identity="b", process=own_process())
    call = "update_run" if resumed else "create_run"
    real = getattr(type(store.client), call)

    def interrupted(*arguments, **options):
        real(*arguments, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(type(store.client), call, interrupted)
    with pytest.raises(KeyboardInterrupt), store.run(record(identity="a"), resume=earlier):
        pass
    [run] = Ledger(store.client, store.experiment_id, "a").of("a")
    assert (run.state, run.marked_running, run.tags["failure"]) == ("interrupted", False, "interrupted")
    assert store.client.get_run(other).info.status == "RUNNING"
