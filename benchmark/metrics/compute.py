"""Compute: floating-point operations, wall time and peak memory of a run so far."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from avalanche.training.templates import SupervisedTemplate
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmark.metrics.gap import selection_of
from benchmark.metrics.series import Test, TestMetric
from benchmark.registry import METRICS
from leaderboards.glossary import Measure
from strategies.learning.roles import ForwardsSamples, ScoresSamples
from strategies.pruning.masks import prunable_weights
from strategies.pruning.scores import scratch_copy

BACKWARD = 2
"""FLOPs of a backward pass, in forward passes."""


def layer_flops(model: nn.Module, x: Tensor, training: bool = False) -> tuple[int, dict[str, int]]:
    """FLOPs of one forward pass of ``x``: all of them, and those of each prunable weight.

    A multiply-add counts as two operations, as in ``torch.utils.flop_counter``. Some networks compute something else
    in ``training`` mode.
    """
    with scratch_copy(model) as copied, torch.no_grad(), FlopCounterMode(display=False) as counter:
        copied.train(training)(x)
    counts = counter.get_flop_counts()
    root = type(model).__name__
    modules = {name: f"{root}.{name.removesuffix('.weight')}" for name in prunable_weights(model)}
    return counter.get_total_flops(), {name: sum(counts.get(path, {}).values()) for name, path in modules.items()}


def flops_of_a_sample(model: nn.Module, x: Tensor) -> float:
    """FLOPs of one forward pass of one of the samples ``x``, in eval mode."""
    return float(layer_flops(model, x[:1])[0])


def zero_shares(model: nn.Module) -> dict[str, float]:
    """Fraction of zeros in each prunable weight."""
    weights = prunable_weights(model)
    # Fetched from the device together, not one after the other.
    nonzeros = torch.stack([weight.count_nonzero() for weight in weights.values()]).tolist()
    return {n: 1 - count / weight.numel() for (n, weight), count in zip(weights.items(), nonzeros, strict=True)}


def scored_samples(strategy: SupervisedTemplate) -> float:
    """Samples that the strategy's plugins have run forward and backward to score weights with, so far."""
    return sum(plugin.scored_samples for plugin in strategy.plugins if isinstance(plugin, ScoresSamples))


def forwarded_samples(strategy: SupervisedTemplate) -> int:
    """Samples that the strategy's plugins have run forward, and no more, to train with, so far."""
    return sum(plugin.forwarded_samples for plugin in strategy.plugins if isinstance(plugin, ForwardsSamples))


@dataclass
class _Tally:
    """Counts of one megabatch, before it is known what one sample costs.

    Attributes:
        example: two samples to measure the network with.
        epoch: samples trained on in the current epoch.
        trained, scored: samples that training and scoring have run forward and backward.
        trained_on_zeros, scored_with_zeros: the same, times the fraction of zeros that each weight had.
    """

    example: Tensor | None = None
    epoch: int = 0
    trained: int = 0
    scored: float = 0.0
    trained_on_zeros: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    scored_with_zeros: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))


def _flops(name: str, title: str, meaning: str, position: int, key: str = "") -> Measure:
    places = ("board", "totals") if key else ("totals",)
    return Measure(f"compute/{name}", title, meaning, "FLOPs", "{:.3e}", -1, key, position, places)


@METRICS.register(
    "compute",
    order=70,
    measures=(
        _flops("train_flops", "Training FLOPs", "dense kernels, forward and backward", 120, "flops"),
        _flops(
            "train_flops_if_skipped",
            "FLOPs if zeros skipped",
            "theoretical: no ordinary kernel skips zeros at these densities",
            130,
            "flops_if_skipped",
        ),
        _flops("scoring_flops", "Scoring FLOPs", "forward and backward passes that scores take", 132),
        _flops("validation_flops", "Validation FLOPs", "forward passes of model selection", 134),
        _flops("test_flops", "Test FLOPs", "forward passes of testing", 136),
        Measure("compute/forward_flops", "Forward FLOPs", "of training", "FLOPs", "{:.3e}", -1),
        Measure(
            "compute/backward_flops", "Backward FLOPs", "of training, twice the forward ones", "FLOPs", "{:.3e}", -1
        ),
        Measure(
            "compute/scoring_flops_if_skipped", "Scoring FLOPs if zeros skipped", "theoretical", "FLOPs", "{:.3e}", -1
        ),
    ),
)
class Compute(TestMetric):
    """Theoretical FLOPs of training, scoring, validation and testing, each cumulative and counted apart.

    ``compute/train_flops`` is the sum of ``compute/forward_flops`` and ``compute/backward_flops`` (2x forward) of
    dense layers; ``compute/train_flops_if_skipped`` is what would be left of it if multiplications by zero weights
    were skipped, which no ordinary kernel does at these densities: it is a theoretical figure, not a speed. The zeros
    of an epoch are those at its end. Scoring is forward and backward, too; ``compute/scoring_flops_if_skipped`` takes
    the zeros that there were before the epoch or the pruning.

    The network is measured once for each megabatch, because it may grow, in training mode and in eval mode, because
    they may differ: of a growing ensemble only the newest member trains, and all members predict. Forward passes that
    training needs beside its own batches (a teacher's answers, statistics of batch norm) count as
    ``compute/forward_flops``, if a plugin says how many in ``forwarded_samples``. What Avalanche's own plugins compute
    there (EWC's importances, LwF's teacher) is not counted.
    """

    def __init__(self) -> None:
        super().__init__()
        self._tally = _Tally()
        self._forward = self._backward = self._skipped = 0.0
        self._scoring = self._skipped_scoring = 0.0
        self._validation = self._test = 0.0
        self._zeros: dict[str, float] = {}
        self._eval_flops = 0.0
        # How much is accounted for of what others count over the whole run.
        self._scored = 0.0
        self._forwarded = 0
        self._validated = 0

    def before_training_exp(self, strategy: SupervisedTemplate) -> None:
        """Start counting the samples of this megabatch."""
        self._tally = _Tally()

    def after_training_iteration(self, strategy: SupervisedTemplate) -> None:
        """Count samples."""
        if self._tally.example is None:
            # Batch norm in training mode may need more than one sample.
            self._tally.example = strategy.mb_x[:2].clone()
        self._tally.epoch += len(strategy.mb_y)

    def after_training_epoch(self, strategy: SupervisedTemplate) -> None:
        """Masks may change within a megabatch, so the share of zeros is read at the end of each epoch."""
        self._count(strategy)

    def after_training_exp(self, strategy: SupervisedTemplate) -> None:
        """Measure the network and turn the counts of this megabatch into FLOPs."""
        self._count(strategy)
        tally = self._tally
        if tally.example is None:
            return
        samples = len(tally.example)
        total, layers = layer_flops(strategy.model, tally.example, training=True)
        train = total / samples
        self._eval_flops = flops_of_a_sample(strategy.model, tally.example)
        both = 1 + BACKWARD
        forwarded, self._forwarded = self._forwarded, forwarded_samples(strategy)
        self._forward += tally.trained * train + (self._forwarded - forwarded) * self._eval_flops
        self._backward += tally.trained * BACKWARD * train
        self._scoring += tally.scored * both * train
        for name, flops in layers.items():
            self._skipped += tally.trained_on_zeros[name] * both * flops / samples
            self._skipped_scoring += tally.scored_with_zeros[name] * both * flops / samples
        selection = selection_of(strategy)
        validated, self._validated = self._validated, selection.evaluated_samples if selection else 0
        self._validation += (self._validated - validated) * self._eval_flops

    def after_eval_iteration(self, strategy: SupervisedTemplate) -> None:
        """Count the FLOPs of testing."""
        if self._testing:
            # A learner that waits is tested before it has trained at all.
            self._eval_flops = self._eval_flops or flops_of_a_sample(strategy.model, strategy.mb_x)
            self._test += len(strategy.mb_y) * self._eval_flops

    def after_test(self, strategy: SupervisedTemplate, test: Test) -> dict[str, float]:
        """Cumulative FLOPs up to this megabatch."""
        train = self._forward + self._backward
        return {
            "compute/forward_flops": self._forward,
            "compute/backward_flops": self._backward,
            "compute/train_flops": train,
            "compute/train_flops_if_skipped": train - self._skipped,
            "compute/scoring_flops": self._scoring,
            "compute/scoring_flops_if_skipped": self._scoring - self._skipped_scoring,
            "compute/validation_flops": self._validation,
            "compute/test_flops": self._test,
        }

    def _count(self, strategy: SupervisedTemplate) -> None:
        tally, zeros = self._tally, zero_shares(strategy.model)
        before, self._scored = self._scored, scored_samples(strategy)
        for name, share in zeros.items():
            tally.trained_on_zeros[name] += tally.epoch * share
            tally.scored_with_zeros[name] += (self._scored - before) * self._zeros.get(name, 0.0)
        tally.trained += tally.epoch
        tally.scored += self._scored - before
        tally.epoch = 0
        self._zeros = zeros


@METRICS.register(
    "resources",
    order=50,
    measures=(
        Measure(
            "time/train_seconds",
            "Time (s)",
            "wall time of training, on the hardware of the run",
            "s",
            "{:,.0f}",
            key="seconds",
            position=140,
            places=("board", "totals"),
        ),
        Measure(
            "memory/peak_mib",
            "Peak memory (MiB)",
            "of the process, or of the GPU",
            "MiB",
            "{:,.0f}",
            -1,
            position=150,
            places=("totals",),
        ),
    ),
)
class Resources(TestMetric):
    """Wall time of training in seconds, cumulative, and the peak memory so far in MiB.

    Time runs from the start of a megabatch's preparation to its selected model: scoring, pruning and validation
    are included, testing and measurements are not (its order says where the clock stops). Memory is
    the device's for CUDA, the process's otherwise.
    """

    def __init__(self) -> None:
        super().__init__()
        self._seconds = 0.0
        self._started = 0.0
        self._runs = False

    def __getstate__(self) -> dict[str, Any]:
        """The time so far: a clock means nothing to another process."""
        running = time.perf_counter() - self._started if self._runs else 0.0
        return {**self.__dict__, "_seconds": self._seconds + running}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Go on from now."""
        self.__dict__.update(state)
        self._started = time.perf_counter()

    def before_training(self, strategy: SupervisedTemplate) -> None:
        """Start the clock, and at first the memory mark."""
        if not self._started:
            _reset_peak(strategy.device)
        self._started = time.perf_counter()
        self._runs = True

    def after_training_exp(self, strategy: SupervisedTemplate) -> None:
        """Stop the clock once the device is done."""
        if strategy.device.type == "cuda":
            torch.cuda.synchronize(strategy.device)
        self._seconds += time.perf_counter() - self._started
        self._runs = False

    def after_test(self, strategy: SupervisedTemplate, test: Test) -> dict[str, float]:
        """Time and memory up to this megabatch."""
        return {"time/train_seconds": self._seconds, "memory/peak_mib": _peak_mib(strategy.device)}


def _reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    # Linux keeps a high-water mark for the life of a process; writing 5 starts it anew for this run.
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak_mib(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 2**10
    except (OSError, IndexError):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (2**20 if sys.platform == "darwin" else 2**10)
