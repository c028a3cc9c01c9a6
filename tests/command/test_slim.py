"""``--slim`` on a structured run: a smaller file that plain PyTorch reads."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmark.registry import MODELS

pytestmark = pytest.mark.slow

RUN = ("--stream", "digits", "--strategy", "APP", "--score", "l2", "--model", "cnn", "--epochs", "1")

READ = """
import sys
sys.modules.update(dict.fromkeys(("benchmark", "strategies", "leaderboards", "avalanche")))  # Importing them fails.
import torch
network = torch.export.load(sys.argv[1]).module()
torch.save([network(torch.load(path)) for path in sys.argv[2:]], "outputs.pt")
"""


@pytest.mark.filterwarnings("ignore")
def test_the_slim_network_loads_in_plain_pytorch_and_computes_the_same(command, tmp_path):
    done = command(*RUN, "--megabatches", "3", "--structure", "filters", "--density", "0.2", "--slim")
    assert done.returncode == 0, done.stderr
    path, size, whole = re.search(r"Slim network: +(\S+) \(([\d,]+) bytes, ([\d,]+) with", done.stdout).groups()
    slim = Path(path)
    assert slim.stat().st_size == int(size.replace(",", "")) < int(whole.replace(",", ""))

    model = MODELS.load("cnn").target(10, 1, 8)
    model.load_state_dict(torch.load(slim.parent / "state_dict.pt", weights_only=True))
    batches = [torch.randn(size, 1, 8, 8) for size in (1, 7)]
    for number, batch in enumerate(batches):
        torch.save(batch, tmp_path / f"{number}.pt")
    subprocess.run([sys.executable, "-c", READ, slim, "0.pt", "1.pt"], cwd=tmp_path, check=True, capture_output=True)
    with torch.no_grad():
        for batch, output in zip(batches, torch.load(tmp_path / "outputs.pt", weights_only=True), strict=True):
            torch.testing.assert_close(output, model.eval()(batch), atol=1e-5, rtol=1e-5)

    about = json.loads((slim.parent / "slim.json").read_text())
    assert about["input"] == ["batch", 1, 8, 8] and len(about["classes"]) == 10
    masks = torch.load(slim.parent / "masks.pt", weights_only=True)
    kept = sum(int(mask.sum()) for mask in masks.values())
    program = torch.export.load(slim)
    weights = [w for name, w in program.state_dict.items() if w.dim() == 4]
    assert sum(w.numel() for w in weights) == kept, "masked weights are gone, all of them"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "add --structure filters"),
        (("--structure", "2:4"), "add --structure filters"),
    ],
)
def test_slim_without_removed_channels_is_refused(command, tmp_path, arguments, message):
    done = command(*RUN, *arguments, "--slim")
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_grid_may_hold_strategies_that_remove_no_channel(command):
    done = command(*RUN, "--strategy", "RigL", "--structure", "filters", "--slim", "--dry-run")
    assert done.returncode == 0 and "Note: RigL prunes no whole channels" in done.stdout.splitlines()[1]
    alone = command("--stream", "digits", "--strategy", "RigL", "--structure", "filters", "--slim")
    assert alone.returncode == 2 and "choose a strategy that has --structure" in alone.stderr


def test_a_network_that_lost_no_channel_is_said_to_be_so(command):
    done = command(*RUN, "--megabatches", "1", "--structure", "filters", "--density", "1", "--slim")
    assert done.returncode == 0 and "no slim network was written" in done.stderr


def test_unknown_layers_are_refused(command, tmp_path):
    done = command(*RUN, "--scope", "custom", "--layer-density", "stem=0.5")
    assert done.returncode == 2 and "cnn has no such layer; it has 0, 3, 6" in done.stderr
    assert not list(tmp_path.iterdir())
