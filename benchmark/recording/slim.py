"""What ``--slim`` writes: the trained network without its removed channels, as a file for plain PyTorch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from avalanche.training.templates import SupervisedTemplate

from benchmark.config import RunConfig
from benchmark.errors import UsageError
from benchmark.streams.loading.images import StreamData
from strategies.pruning.plugin import PruningPlugin
from strategies.pruning.slim import export, export_slim

PROGRAM = "slim.pt2"

STRUCTURE = "filters"


@dataclass(frozen=True)
class SlimFile:
    """Sizes in bytes of the slim network's file and of the same file made of the network before it was slimmed."""

    bytes: int
    whole_bytes: int


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


def write_slim(strategy: SupervisedTemplate, data: StreamData, resolution: int, folder: Path) -> SlimFile:
    """Write ``slim.pt2`` and, beside it, what its inputs and outputs mean, ``slim.json``.

    ``torch.export.load("slim.pt2").module()`` maps normalised images (batch, channels, height, width), float32, to
    logits (batch, classes).

    Raises:
        ValueError: the network has no removed channel.
    """
    masks = next((p.masks for p in strategy.plugins if isinstance(p, PruningPlugin)), None)
    if masks is None:
        raise ValueError("nothing was pruned")
    channels = data.train.pixels.shape[1]
    example = torch.zeros(1, channels, resolution, resolution)
    export_slim(strategy.model, masks, example, folder / PROGRAM)
    export(strategy.model, example, whole := folder / "whole.pt2")
    sizes = SlimFile((folder / PROGRAM).stat().st_size, whole.stat().st_size)
    whole.unlink()
    about = {
        "input": ["batch", channels, resolution, resolution],
        "pixels": "from 0 to 1, then (x - mean) / std",
        "mean": list(map(float, data.mean)),
        "std": list(map(float, data.std)),
        "classes": list(data.classes),
    }
    (folder / "slim.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    return sizes
