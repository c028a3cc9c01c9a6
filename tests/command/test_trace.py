"""``--profile-trace``: what a traced run records, and that tracing changes nothing else."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from avalanche.core import SupervisedPlugin

from benchmark.config.profiles import resolve
from benchmark.recording.store import Store
from benchmark.recording.trace import AFTER_PLUGINS, BEFORE_PLUGINS, RECORDED_STEPS, TRACE, StepRecorder
from benchmark.running.prepare import prepare
from benchmark.running.run import run
from strategies.anytime import AnytimeStrategy

pytestmark = pytest.mark.slow

STEP = ("zero gradients", "forward", "loss", "backward", "optimiser step")
"""Phases that a training step has once each."""


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(None, tmp_path_factory.mktemp("output"), "tests")


@pytest.fixture
def prepared(cache, tmp_path):
    """Function: a small run over the digits, prepared."""

    def make(**options):
        small = {"stream": "digits", "strategy": "APP", "model": "mlp", "megabatches": 3, "epochs": 2, **options}
        return prepare(resolve(small, profile="demo"), data_root=tmp_path, cache=cache)

    return make


@pytest.fixture(scope="module")
def files_of(store):
    """Function: result -> the folder of its files."""

    def find(result):
        return Path(store.client.get_run(result.run_id).info.artifact_uri.removeprefix("file://"))

    return find


@pytest.fixture(scope="module")
def events_of(files_of):
    """Function: result -> the events in its trace."""

    def read(result):
        with gzip.open(files_of(result) / TRACE, "rt", encoding="utf-8") as file:
            return json.load(file)["traceEvents"]

    return read


def traced_steps(result):
    """What the reader is told; 0 where no trace is spoken of."""
    return sum(int(number) for line in result.files for number in re.findall(r"\((\d+) training steps", line))


def spans(events, names):
    """(begin, end, name) of the events with one of ``names``, in order."""
    return sorted((e["ts"], e["ts"] + e["dur"], e["name"]) for e in events if e.get("ph") == "X" and e["name"] in names)


@pytest.fixture(scope="module")
def traced_run(store, cache, tmp_path_factory):
    options = {"stream": "digits", "strategy": "APP", "model": "cnn", "megabatches": 3, "epochs": 2}
    one = prepare(resolve(options, profile="demo"), data_root=tmp_path_factory.mktemp("data"), cache=cache)
    return run(one, store=store), run(one, store=store, artifacts=["trace"])


def test_the_trace_names_the_phases_of_a_step_and_the_operations_in_them(traced_run, events_of):
    _, result = traced_run
    events = events_of(result)
    assert traced_steps(result) == RECORDED_STEPS
    counts = Counter(event["name"] for event in events if event.get("cat") == "user_annotation")
    assert {name: counts[name] for name in STEP} == dict.fromkeys(STEP, RECORDED_STEPS)
    assert counts["selection"] >= 1, "an epoch of 14 batches ends within 20 steps"
    operations = {event["name"] for event in events if event.get("cat") == "cpu_op"}
    assert {"aten::conv2d", "aten::linear"} <= operations
    for part, phase in (("autograd::engine::evaluate_function: AddmmBackward0", "backward"),
                        ("Optimizer.step#SGD.step", "optimiser step"),
                        ("aten::cross_entropy_loss", "loss")):  # fmt: skip
        of_steps = spans(events, {phase})
        found = [(b, e) for b, e, _ in spans(events, {part}) if b >= of_steps[0][0] and e <= of_steps[-1][1]]
        inside = [any(b >= begin and e <= end for begin, end, _ in of_steps) for b, e in found]
        assert sum(inside) == RECORDED_STEPS, (part, phase)


def test_phases_follow_each_other_without_overlap(traced_run, events_of):
    _, result = traced_run
    phases = spans(events_of(result), {*BEFORE_PLUGINS.values(), *AFTER_PLUGINS.values()})
    assert all(end <= begin for (_, end, _), (begin, _, _) in pairwise(phases))
    names = [name for _, _, name in phases]
    step = [name for name in names[names.index("zero gradients") :] if name != "plugins and metrics"][:6]
    assert step == [*STEP, "batch"]


def test_a_traced_run_has_the_same_bits(traced_run, files_of):
    plain, traced = traced_run
    for name in plain.series:
        if not name.startswith(("time/", "memory/")):
            assert plain.series[name] == traced.series[name], name
    states = [torch.load(files_of(one) / "state_dict.pt", weights_only=True) for one in traced_run]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert traced_steps(plain) == 0 and not (files_of(plain) / TRACE).exists()


@pytest.mark.parametrize("batch_size", [1000, 2000])
def test_a_training_of_one_or_two_steps_has_one_in_its_trace(store, prepared, batch_size, events_of):
    result = run(prepared(megabatches=1, epochs=1, batch_size=batch_size), store=store, artifacts=["trace"])
    assert traced_steps(result) == len(spans(events_of(result), {"optimiser step"})) == 1


def test_a_run_that_trains_no_step_has_no_trace_and_says_so(store, prepared, capsys, monkeypatch, files_of):
    def no_training(self, *args, **kwargs):
        pass

    monkeypatch.setattr(AnytimeStrategy, "train", no_training)
    result = run(prepared(strategy="dense"), store=store, artifacts=["trace"])
    assert "no trace was written: the run trained no step" in capsys.readouterr().err
    assert traced_steps(result) == 0 and not (files_of(result) / TRACE).exists()


def test_a_megabatch_without_steps_makes_no_trace(tmp_path):
    recorder = StepRecorder("cpu")
    recorder.before_training_exp(SimpleNamespace(dataloader=[], train_epochs=1))
    recorder.stop()
    with pytest.raises(ValueError, match="no step"):
        recorder.export(tmp_path / TRACE)


class Bomb(SupervisedPlugin):
    """Fails at a training step."""

    def __init__(self, step):
        super().__init__()
        self.left = step

    def before_backward(self, strategy, *args, **kwargs):
        self.left -= 1
        if not self.left:
            raise RuntimeError("out of ideas")


@pytest.mark.parametrize("step", [1, 8])
def test_a_failing_run_leaves_no_profiler_behind(store, prepared, step):
    with pytest.raises(RuntimeError, match="out of ideas"):
        run(prepared(), store=store, plugins=[Bomb(step)], artifacts=["trace"])
    assert not torch.autograd._profiler_enabled()
    assert traced_steps(run(prepared(), store=store, artifacts=["trace"])) == RECORDED_STEPS


class Upkeep(SupervisedPlugin):
    """Computes something at many hooks that nothing else computes."""

    def before_forward(self, strategy, *args, **kwargs):
        torch.erfinv(torch.zeros(3))

    after_forward = before_backward = after_backward = before_update = after_update = before_forward
    before_training_iteration = after_training_iteration = before_forward


def test_what_plugins_compute_is_not_taken_for_training(store, prepared, events_of):
    events = events_of(run(prepared(), store=store, plugins=[Upkeep()], artifacts=["trace"]))
    phases = spans(events, {*BEFORE_PLUGINS.values(), *AFTER_PLUGINS.values()})
    upkeep = [begin for begin, _, _ in spans(events, {"aten::erfinv"})]
    around = Counter(name for at in upkeep for begin, end, name in phases if begin <= at < end)
    assert 8 * (RECORDED_STEPS - 1) < around.total() <= 8 * RECORDED_STEPS + 1
    assert set(around) == {"plugins and metrics"}
