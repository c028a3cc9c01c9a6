"""The same command gives the same bits as at an earlier commit: ``tox -e bits -- COMMIT``.

For changes that must not change a figure. Both are run on this machine, on one thread, in checkouts of their own. Where
a version of the protocol lies between the two, ``RULES`` sets the new code to the old rules. Real images are compared,
too, if ANYTIME_BENCH_DATA names a folder with a Tiny ImageNet tree.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient

pytestmark = pytest.mark.bits

ROOT = Path(__file__).parents[2]

STRATEGIES = (
    *("dense", "APP", "OSP", "GMP", "IMP", "LRR", "SET", "RigL", "SparCL", "ebb-and-flow", "static-random"),
    *("from-scratch", "EMA", "SWA", "distillation", "Naive", "DER"),
)

STREAMS = {
    "digits": ("--stream", "digits", "--megabatches", "3", "--epochs", "3", "--batch-size", "16"),
    # A network without shortcuts: those of the small ResNets are others since protocol 2.
    "real images": (
        *("--stream", "tiny_restricted_imagenet_fewshot", "--data", "real", "--model", "cnn"),
        *("--megabatches", "3", "--epochs", "2", "--shots", "40"),
    ),
}

RULES = ("--ties", "first")
"""What protocol 1 did, in the words of protocol 2, which protocol 1 does not know."""

MASKS_ALONE = ("--set", "removed=0", "--set", "gradients=1")
"""What version 1 of SparCL did, in the words of version 2, which version 1 does not know."""

UNSTABLE = ("time/", "memory/")


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    """A checkout of the commit to compare with."""
    folder = tmp_path_factory.mktemp("earlier") / "checkout"
    git("worktree", "add", "--detach", str(folder), os.environ.get("BITS_AGAINST", "HEAD~1"))
    yield folder
    git("worktree", "remove", "--force", str(folder))


def at(checkout: Path) -> dict[str, str]:
    """The environment in which the code of ``checkout`` is what is imported."""
    return {**os.environ, "PYTHONPATH": str(checkout)}


def results(checkout: Path, folder: Path, *arguments: str):
    """Strategy -> (weights, metrics) of runs in ``checkout``."""
    knows_more = "removed:" in (checkout / "strategies" / "sparcl.py").read_text(encoding="utf-8")
    others = [word for name in STRATEGIES if name != "SparCL" for word in ("--strategy", name)]
    for chosen in (others, ["--strategy", "SparCL", *(MASKS_ALONE if knows_more else ())]):
        own = ["--profile", "demo", *arguments, *chosen, "--output", str(folder)]
        command = [sys.executable, "-m", "benchmark.run", *own]
        done = subprocess.run(command, cwd=checkout, env=at(checkout), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    found = {}
    for run in client.search_runs([e.experiment_id for e in client.search_experiments()]):
        if "strategy" in run.data.params:
            weights = torch.load(Path(run.info.artifact_uri.removeprefix("file://")) / "state_dict.pt")
            metrics = {n: v for n, v in run.data.metrics.items() if not n.startswith(UNSTABLE)}
            found[run.data.params["strategy"]] = weights, metrics
    return found


@pytest.mark.parametrize("stream", STREAMS)
def test_final_weights_and_metrics_are_those_of_the_earlier_commit(stream, earlier, tmp_path):
    if stream == "real images" and "ANYTIME_BENCH_DATA" not in os.environ:
        pytest.skip("no real images: name their folder in ANYTIME_BENCH_DATA")
    help_text = subprocess.run(
        [sys.executable, "-m", "benchmark.run", "--help"],
        cwd=earlier,
        env=at(earlier),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    before = results(earlier, tmp_path / "before", *STREAMS[stream], *(RULES if RULES[0] in help_text else ()))
    now = results(ROOT, tmp_path / "now", *STREAMS[stream], *RULES)
    assert before.keys() == now.keys() == set(STRATEGIES)
    for name, (weights, metrics) in before.items():
        ours, measured = now[name]
        assert weights.keys() == ours.keys()
        assert all(torch.equal(value, ours[key]) for key, value in weights.items()), name
        # Metrics may be added; those that were there stay what they were.
        assert {key: measured.get(key) for key in metrics} == metrics, name
