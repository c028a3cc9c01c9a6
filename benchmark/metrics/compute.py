"""Compute: floating-point operations, wall time and peak memory of a run so far."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path

import torch
from avalanche.evaluation.metric_results import MetricValue
from avalanche.training.templates import SupervisedTemplate
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmark.metrics.gap import selection_of
from benchmark.metrics.series import SeriesMetric, on_test_stream
from strategies.pruning.masks import prunable_weights
from strategies.pruning.scores import scratch_copy

BACKWARD = 2
"""FLOPs of a backward pass, in forward passes."""


def layer_flops(model: nn.Module, x: Tensor) -> tuple[int, dict[str, int]]:
    """FLOPs of one forward pass of ``x``: all of them, and those of each prunable weight.

    A multiply-add counts as two operations, as in ``torch.utils.flop_counter``.
    """
    with scratch_copy(model) as copied, torch.no_grad(), FlopCounterMode(display=False) as counter:
        copied.eval()(x)
    counts = counter.get_flop_counts()
    root = type(model).__name__
    modules = {name: f"{root}.{name.removesuffix('.weight')}" for name in prunable_weights(model)}
    return counter.get_total_flops(), {name: sum(counts.get(path, {}).values()) for name, path in modules.items()}


def scored_samples(strategy: SupervisedTemplate) -> int:
    """Samples that the strategy's pruning plugins have scored with so far."""
    return sum(getattr(plugin, "scored_samples", 0) for plugin in strategy.plugins)


class Compute(SeriesMetric):
    """Theoretical FLOPs of training, scoring, validation and testing, each cumulative and counted apart.

    ``compute/train_flops`` is the sum of ``compute/forward_flops`` and ``compute/backward_flops`` (2x forward) of
    dense layers; ``compute/train_flops_if_skipped`` is what would be left of it if multiplications by zero weights
    were skipped, which no ordinary kernel does at these densities: it is a theoretical figure, not a speed. Scoring
    is forward and backward, too; ``compute/scoring_flops_if_skipped`` assumes the density that was there before the
    pruning. What a strategy computes outside its own training batches (EWC's importances, LwF's teacher) is not
    counted.
    """

    def __init__(self) -> None:
        super().__init__()
        self._forward: int | None = None
        self._layers: dict[str, int] = {}
        self._train_samples = 0
        self._test_samples = 0
        self._megabatch_samples = 0
        self._skipped_flops = 0.0
        self._skipped_scoring_flops = 0.0
        self._scored = 0
        self._skipped_before = 0.0
        self._tests = 0

    def before_training_exp(self, strategy: SupervisedTemplate) -> None:
        """Start counting the samples of this megabatch."""
        self._megabatch_samples = 0

    def after_training_iteration(self, strategy: SupervisedTemplate) -> None:
        """Count samples; the first batch also measures the network."""
        if self._forward is None:
            self._forward, self._layers = layer_flops(strategy.model, strategy.mb_x[:1])
        self._megabatch_samples += len(strategy.mb_y)

    def after_training_exp(self, strategy: SupervisedTemplate) -> None:
        """The density is constant within a megabatch, so its share of zeros is read once."""
        self._train_samples += self._megabatch_samples
        scored, self._scored = self._scored, scored_samples(strategy)
        self._skipped_scoring_flops += (self._scored - scored) * (1 + BACKWARD) * self._skipped_before
        skipped = 0.0
        for name, weight in prunable_weights(strategy.model).items():
            skipped += self._layers.get(name, 0) * (1 - int((weight != 0).sum()) / weight.numel())
        self._skipped_flops += self._megabatch_samples * (1 + BACKWARD) * skipped
        self._skipped_before = skipped

    def after_eval_iteration(self, strategy: SupervisedTemplate) -> None:
        """Count test samples."""
        if on_test_stream(strategy):
            self._test_samples += len(strategy.mb_y)

    def after_eval(self, strategy: SupervisedTemplate) -> list[MetricValue] | None:
        """Cumulative FLOPs up to this megabatch."""
        if not on_test_stream(strategy):
            return None
        self._tests += 1
        forward = self._forward or 0
        scoring = self._scored * (1 + BACKWARD) * forward
        selection = selection_of(strategy)
        train = self._train_samples * (1 + BACKWARD) * forward
        values = {
            "compute/forward_flops": float(self._train_samples * forward),
            "compute/backward_flops": float(self._train_samples * BACKWARD * forward),
            "compute/train_flops": float(train),
            "compute/train_flops_if_skipped": train - self._skipped_flops,
            "compute/scoring_flops": float(scoring),
            "compute/scoring_flops_if_skipped": scoring - self._skipped_scoring_flops,
            "compute/validation_flops": float((selection.evaluated_samples if selection else 0) * forward),
            "compute/test_flops": float(self._test_samples * forward),
        }
        return self.emit(values, step=self._tests)


class Resources(SeriesMetric):
    """Wall time of training in seconds, cumulative, and the peak memory so far in MiB.

    Time runs from the start of a megabatch's preparation to its selected model: scoring, pruning and validation
    are included, testing and measurements are not (list this metric after ModelSize and before CleanGap). Memory is
    the device's for CUDA, the process's otherwise.
    """

    def __init__(self) -> None:
        super().__init__()
        self._seconds = 0.0
        self._tests = 0
        self._started = 0.0

    def before_training(self, strategy: SupervisedTemplate) -> None:
        """Start the clock, and at first the memory mark."""
        if not self._started:
            _reset_peak(strategy.device)
        self._started = time.perf_counter()

    def after_training_exp(self, strategy: SupervisedTemplate) -> None:
        """Stop the clock once the device is done."""
        if strategy.device.type == "cuda":
            torch.cuda.synchronize(strategy.device)
        self._seconds += time.perf_counter() - self._started

    def after_eval(self, strategy: SupervisedTemplate) -> list[MetricValue] | None:
        """Time and memory up to this megabatch."""
        if not on_test_stream(strategy):
            return None
        self._tests += 1
        values = {"time/train_seconds": self._seconds, "memory/peak_mib": _peak_mib(strategy.device)}
        return self.emit(values, step=self._tests)


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
