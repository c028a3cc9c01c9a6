"""How much faster a slimmed network is than the masked one: python -m pytest tests/speed -m speed -s.

Batches of 64 images of 32 px, on as many CPU threads as PyTorch takes; masked and slimmed network in turns, medians of
several rounds. Every group of channels keeps the same fraction, as the distribution ``local`` has it.
"""

from __future__ import annotations

from statistics import median
from time import perf_counter

import pytest
import torch
from torch.nn import functional as F
from torch.optim import SGD

from benchmark.registry import MODELS
from strategies.pruning.distributions import uniform
from strategies.pruning.rounds import zero_pruned_
from strategies.pruning.scores.magnitude import magnitude
from strategies.pruning.slim import slimmed
from strategies.pruning.structures.filters import Filters

ROUNDS = 7


def evaluate(model, x, y):
    with torch.inference_mode():
        model.eval()(x)


def train(model, x, y):
    optimizer = SGD(model.train().parameters(), lr=1e-3, momentum=0.9)
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
    optimizer.zero_grad()


def seconds(step, *arguments):
    start = perf_counter()
    step(*arguments)
    return perf_counter() - start


@pytest.mark.speed
@pytest.mark.parametrize("step", [evaluate, train])
@pytest.mark.parametrize("density", [0.366, 0.1])
@pytest.mark.parametrize("name", ["resnet20s", "resnet18"])
def test_a_slimmed_network_is_faster(name, density, step):
    torch.manual_seed(0)
    masked = MODELS.load(name).target(10, 3, 32).to(memory_format=torch.channels_last)
    masks = Filters().select(masked, magnitude(masked, ()), density, uniform)
    zero_pruned_(masked, masks, Filters())
    slim = slimmed(masked, masks)
    x = torch.randn(64, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    y = torch.randint(10, (64,))
    for model in (masked, slim):
        step(model, x, y)
    rounds = [[seconds(step, model, x, y) for model in (masked, slim)] for _ in range(ROUNDS)]
    slow, fast = (median(times) for times in zip(*rounds, strict=True))
    print(
        f"\n| {name} | density {masks.density:.3f} | {step.__name__} | {torch.get_num_threads()} threads "
        f"| masked {1e3 * slow:.1f} ms | slimmed {1e3 * fast:.1f} ms | {slow / fast:.2f} times faster |"
    )
    assert slow / fast > 1
