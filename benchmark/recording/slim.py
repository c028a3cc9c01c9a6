"""What ``--slim`` writes: the trained network without its removed channels, as a file for plain PyTorch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmark.config.run_config import RunConfig
from benchmark.errors import UsageError
from benchmark.recording.writer import ArtifactWriter, Finished
from strategies.pruning.slim import export, export_slim

PROGRAM = "slim.pt2"

STRUCTURE = "filters"


def can_be_slimmed(config: RunConfig) -> bool:
    """Whether the run prunes whole channels."""
    return "structure" in config.options() and config.structure == STRUCTURE


def check_slim(configs: Sequence[RunConfig]) -> list[str]:
    """A note for each strategy that removes no channels.

    Raises:
        UsageError: none does.
    """
    if not any(map(can_be_slimmed, configs)):
        able = any("structure" in config.options() for config in configs)
        what = f"add --structure {STRUCTURE}" if able else "choose a strategy that has --structure, such as APP"
        raise UsageError(f"--slim removes whole channels, and nothing here prunes them: {what}")
    others = sorted({config.strategy for config in configs if not can_be_slimmed(config)})
    return [f"Note: {name} prunes no whole channels: no slim network is written." for name in others]


class SlimNetwork(ArtifactWriter):
    """``slim.pt2`` and, beside it, what its inputs and outputs mean, ``slim.json``.

    ``torch.export.load("slim.pt2").module()`` maps normalised images (batch, channels, height, width), float32, to
    logits (batch, classes).
    """

    def write(self, run: Finished, folder: Path) -> str:
        """Write both.

        Raises:
            ValueError: the network has no removed channel.
        """
        if run.masks is None:
            raise ValueError("no slim network was written: nothing was pruned")
        channels, resolution = run.data.train.pixels.shape[1], run.config.resolution
        example = torch.zeros(1, channels, resolution, resolution)
        try:
            export_slim(run.strategy.model, run.masks, example, folder / PROGRAM)
        except ValueError as error:
            raise ValueError(f"no slim network was written: {error}") from error
        # The same file of the network before it was slimmed, for comparison.
        export(run.strategy.model, example, whole := folder / "whole.pt2")
        sizes = (folder / PROGRAM).stat().st_size, whole.stat().st_size
        whole.unlink()
        about = {
            "input": ["batch", channels, resolution, resolution],
            "pixels": "from 0 to 1, then (x - mean) / std",
            "mean": list(map(float, run.data.mean)),
            "std": list(map(float, run.data.std)),
            "classes": list(run.data.classes),
        }
        (folder / "slim.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        return f"Slim network:  {{place}}/{PROGRAM} ({sizes[0]:,} bytes, {sizes[1]:,} with the removed channels)"
