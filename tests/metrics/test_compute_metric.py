from __future__ import annotations

import pytest
import torch
from torch import nn

from benchmark.metrics.compute import Compute, Resources, layer_flops


def test_flops_of_a_convolution_by_hand():
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Flatten(), nn.Linear(8 * 16, 4))
    total, layers = layer_flops(net, torch.zeros(1, 3, 4, 4))
    convolution = 2 * 8 * 3 * 9 * 16
    assert layers == {"0.weight": convolution}
    assert total == convolution + 2 * 8 * 16 * 4


def test_counting_leaves_batch_norm_alone():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    layer_flops(net, torch.randn(2, 3, 4, 4))
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


FORWARD = 2 * (6 * 16 + 16 * 16 + 16 * 3)
"""FLOPs of one sample in the fixture's network."""


def test_training_flops_are_three_forward_passes_of_every_trained_sample(scenario, trained):
    last = trained(Compute(), epochs=3).evaluator.get_last_metrics()
    sizes = [len(e.dataset) for e in scenario.train_stream]
    trained_on = 3 * sum(sum(sizes[: t + 1]) for t in range(4))
    assert last["compute/train_flops"] == trained_on * 3 * FORWARD
    validated = [len(e.dataset) for e in scenario.valid_stream]
    assert last["compute/validation_flops"] == 3 * sum(sum(validated[: t + 1]) for t in range(4)) * FORWARD
    assert last["compute/test_flops"] == 4 * 70 * FORWARD
    assert last["compute/scoring_flops"] == sum(round(0.2 * size) for size in sizes) * 3 * FORWARD


def test_skipping_zeros_saves_what_is_pruned_and_no_more(scenario, trained):
    dense = trained(Compute(), tau=1e-12).evaluator.get_last_metrics()
    assert dense["compute/train_flops_if_skipped"] == pytest.approx(dense["compute/train_flops"])
    sparse = trained(Compute(), tau=4.5).evaluator.get_last_metrics()
    ratio = sparse["compute/train_flops_if_skipped"] / sparse["compute/train_flops"]
    assert 0.8**4.5 < ratio < 0.8


def test_time_and_memory_are_measured(trained):
    values = trained(Resources()).evaluator.get_all_metrics()
    seconds = values["time/train_seconds"][1]
    assert seconds == sorted(seconds) and seconds[0] > 0
    assert 50 < values["memory/peak_mib"][1][-1] < 100_000
