"""Runs of a store are the same whether its database is read or MLflow's client is asked."""

from __future__ import annotations

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

from leaderboards.sources import entries as module
from leaderboards.sources.entries import entries

STATUSES = ("FINISHED", "FAILED", "KILLED", "RUNNING", "SCHEDULED", "FINISHED", "FINISHED")
BAD = (float("nan"), float("inf"), float("-inf"))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A client of a store with runs of every status in two experiments, and some of their ids."""
    client = MlflowClient(f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}")
    first, second = client.create_experiment("first"), client.create_experiment("second")
    made = []
    for number, status in enumerate(STATUSES):
        # Some start at the same moment, and not in the order that they are made in.
        run_id = client.create_run(first if number % 3 else second, start_time=1000 - number // 2).info.run_id
        made.append(run_id)
        client.log_batch(
            run_id,
            [Metric("x", number + step, step, step) for step in range(3)]
            + [Metric(f"bad{place}", value, 0, 0) for place, value in enumerate(BAD)],
            [Param("density", str(number)), Param("empty", "")],
            [RunTag("identity", "even" if number % 2 == 0 else "odd"), RunTag("quotes", 'it\'s "one"')],
        )
        client.set_terminated(run_id, status) if status != "RUNNING" else None
    client.log_metric(made[0], "x", 7.5, timestamp=0, step=9)
    client.log_metric(made[0], "bad0", 0.5, timestamp=1, step=1)
    client.create_run(first)
    client.delete_run(made[-1])
    return client, [first, second], made


@pytest.mark.parametrize("measured", [True, False])
@pytest.mark.parametrize("tag", [None, ("identity", "even"), ("identity", "none")])
@pytest.mark.parametrize("status", [None, "FINISHED", "RUNNING"])
@pytest.mark.parametrize("several", [True, False])
def test_a_database_says_what_the_client_says(store, monkeypatch, several, status, tag, measured):
    client, experiments, made = store
    asked = {"status": status, "tag": tag, "measured": measured}
    chosen = experiments if several else experiments[:1]
    read = entries(client, chosen, **asked)
    monkeypatch.setattr(module, "is_database", lambda _: False)
    monkeypatch.setattr(module, "PAGE", 2)
    answered = entries(client, chosen, **asked)
    everything = ("run_id", "status", "started", "tags", *(("params", "metrics") if measured else ()))
    for name in everything:
        # MLflow writes infinity as the largest number, and NaN equals nothing.
        assert repr([_ordered(getattr(one, name)) for one in read]) == repr(
            [_ordered(getattr(one, name)) for one in answered]
        ), name
    assert made[-1] not in {one.run_id for one in read}, "it is deleted"
    if tag is None and status != "RUNNING":
        assert read
    if not measured:
        assert not any(one.params or one.metrics for one in read), "nobody asked for them"


def _ordered(value):
    return sorted(value.items()) if isinstance(value, dict) else value


def test_a_run_is_read_whole(store):
    client, experiments, made = store
    [run] = [one for one in entries(client, experiments, measured=True) if one.run_id == made[0]]
    assert (run.status, run.started, run.params) == ("FINISHED", 1000, {"density": "0", "empty": ""})
    assert run.tags["quotes"] == 'it\'s "one"' and run.metrics["x"] == 7.5, "the last point is that of the last step"
