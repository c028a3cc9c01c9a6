"""Whole runs: what measuring costs, what many megabatches cost, and runs side by side."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from statistics import median
from time import perf_counter

import pytest
from avalanche.training.plugins import EvaluationPlugin

from benchmark.config.profiles import resolve
from benchmark.metrics import gap
from benchmark.recording.store import Store
from benchmark.running import run as run_module
from benchmark.running.prepare import prepare
from benchmark.running.progress import RunProgress
from benchmark.running.run import run
from strategies.learning import selection
from strategies.learning.selection import BestValidation

pytestmark = pytest.mark.speed

EVENTS = [
    f"{when}_{what}"
    for when in ("before", "after")
    for what in (
        *("training", "training_exp", "training_epoch", "training_iteration", "forward", "backward", "update"),
        *("eval", "eval_exp", "eval_iteration", "eval_forward"),
        *("train_dataset_adaptation", "eval_dataset_adaptation"),
    )
]


class Clock:
    """Adds up the seconds spent within the functions that it has wrapped; a function within another counts once."""

    def __init__(self):
        self.seconds = 0.0
        self._depth = 0

    def wrap(self, function):
        @functools.wraps(function)
        def timed(*args, **kwargs):
            with self:
                return function(*args, **kwargs)

        return timed

    def __enter__(self):
        self._depth += 1
        if self._depth == 1:
            self._start = perf_counter()

    def __exit__(self, *error):
        self._depth -= 1
        if self._depth == 0:
            self.seconds += perf_counter() - self._start


@pytest.mark.parametrize(
    "options",
    [{"model": "resnet20s", "megabatches": 10, "shots": 108}, {"model": "resnet18", "megabatches": 3, "shots": 40}],
    ids=["the demo's size", "resnet18"],
)
def test_share_of_measuring(options, device, tmp_path, monkeypatch, report):
    measuring, forward = Clock(), Clock()
    for module, name in ((selection, "correct_and_loss"), (gap, "count_correct")):
        monkeypatch.setattr(module, name, forward.wrap(getattr(module, name)))
    monkeypatch.setattr(run_module, "write_artifacts", measuring.wrap(run_module.write_artifacts))
    build = run_module.build_strategy

    def observed(*args, **kwargs):
        strategy = build(*args, **kwargs)
        for plugin in strategy.plugins:
            if isinstance(plugin, EvaluationPlugin | BestValidation | RunProgress):
                for event in EVENTS:
                    if hasattr(plugin, event):
                        setattr(plugin, event, measuring.wrap(getattr(plugin, event)))
        return strategy

    monkeypatch.setattr(run_module, "build_strategy", observed)
    config = resolve({"stream": "synthetic", "strategy": "APP", "device": device, **options}, profile="demo")
    prepared = prepare(config, data_root=tmp_path, cache=tmp_path)
    store = Store(None, tmp_path, "speed")
    start = perf_counter()
    run(prepared, store=store, plugins=[RunProgress(config)])
    total = perf_counter() - start
    value = 100 * (measuring.seconds - forward.seconds) / total
    note = f"without the forward passes of validation and clean gap, {100 * forward.seconds / total:.1f} %"
    target = f"<= {5 if device == 'cuda' else 3}"
    name = f"{config.model}: metrics, selection and tracking, share of a run"
    report(name, value, target, device=device, unit=" %", note=note)


ALONE = """
import json, sys, time
from benchmark.config.profiles import resolve
from benchmark.running.prepare import prepare
from benchmark.running.run import run
options, folder = json.loads(sys.argv[1]), sys.argv[2]
config = resolve(options, profile="demo")
prepared = prepare(config, data_root=folder, cache=folder)
warm_up = prepare(resolve({**options, "megabatches": 1}, profile="demo"), data_root=folder, cache=folder)
run(warm_up)
start = time.perf_counter()
result = run(prepared)
print(json.dumps({
    "seconds": time.perf_counter() - start,
    "training": result.final("time/train_seconds"),
    "memory": result.final("memory/peak_mib"),
    "flops": result.final("compute/train_flops"),
}))
"""
"""A run in a process of its own, so that its peak of memory is its own; prints what it took."""


def alone(folder, **options):
    command = [sys.executable, "-c", ALONE, json.dumps(options), str(folder)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def test_many_megabatches(device, tmp_path, report):
    options = {"stream": "synthetic", "strategy": "APP", "epochs": 2, "device": device, "batch_size": 64}
    options |= {"shots": 40, "test_shots": 5}
    few, many = zip(*[[alone(tmp_path, megabatches=b, **options) for b in (10, 120)] for _ in range(2)], strict=True)

    def growth(what):
        return median(long[what] / short[what] for short, long in zip(few, many, strict=True))

    # FLOPs of training are the same for every trained image.
    value = growth("seconds") / growth("flops")
    note = f"training alone: {growth('training') / growth('flops'):.2f}"
    target = f"<= {1.3 if device == 'cuda' else 1.15}"
    report("cost of a trained image, B = 120 / B = 10", value, target, device=device, note=note)
    report("peak memory, B = 120 / B = 10", growth("memory"), "<= 1.05", device=device)


def test_a_very_long_stream_finishes(tmp_path, report):
    taken = alone(tmp_path, stream="digits", strategy="APP", megabatches=500, epochs=1)
    report("digits, B = 500, one epoch, to the end", taken["seconds"], "<= 600", unit=" s")


def test_runs_side_by_side(tmp_path, report):
    cores = len(os.sched_getaffinity(0))

    def seconds(jobs):
        seeds = [argument for seed in range(4 * cores) for argument in ("--seed", str(seed))]
        command = ["--profile", "demo", "--stream", "digits", "--strategy", "APP", *seeds, "--jobs", str(jobs)]
        start = perf_counter()
        arguments = [sys.executable, "-m", "benchmark.run", *command, "--output", tmp_path / f"{jobs}"]
        environment = os.environ | {"ANYTIME_BENCH_CACHE": str(tmp_path)}
        subprocess.run(arguments, check=True, capture_output=True, env=environment)
        return perf_counter() - start

    seconds(cores)
    value = seconds(1) / seconds(cores)
    report(f"{4 * cores} runs on digits: one after the other / {cores} at once", value, ">= 1")
