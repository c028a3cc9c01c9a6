"""How long a reader waits: for help, for the list, and for the first training step of the main job."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from statistics import median

import pytest

pytestmark = pytest.mark.speed

MAIN_JOB = ["--stream", "restricted_imagenet_fewshot", "--strategy", "APP"]

UNTIL_FIRST_STEP = """
import os, runpy, sys, time
from torch.optim.optimizer import register_optimizer_step_post_hook

def stop(*_):
    print(time.time(), flush=True)
    os._exit(0)

register_optimizer_step_post_hook(stop)
sys.argv = ["benchmark.run", *sys.argv[1:]]
runpy.run_module("benchmark.run", run_name="__main__")
"""


def command(*arguments, folder):
    environment = os.environ | {"ANYTIME_BENCH_CACHE": str(folder)}
    start = time.time()
    done = subprocess.run([sys.executable, *arguments], check=True, capture_output=True, text=True, env=environment)
    return start, done.stdout


@pytest.mark.parametrize("flag", ["--help", "--list"])
def test_help_and_list(flag, tmp_path, report):
    seconds = []
    for _ in range(6):
        start, _ = command("-m", "benchmark.run", flag, folder=tmp_path)
        seconds.append(time.time() - start)
    report(f"benchmark.run {flag}", median(seconds[1:]), "<= 0.5", unit=" s")


@pytest.mark.parametrize("images", ["to be made", "there"])
def test_first_training_step(images, tmp_path, report):
    seconds = []
    for number in range(4):
        cache = tmp_path / ("cache" if images == "there" else f"cache {number}")
        output = tmp_path / f"output {number}"
        start, out = command("-c", UNTIL_FIRST_STEP, *MAIN_JOB, "--output", output, folder=cache)
        seconds.append(float(out.splitlines()[-1]) - start)
    report(f"main job, to its first training step, stand-in images {images}", median(seconds[1:]), "<= 8", unit=" s")
