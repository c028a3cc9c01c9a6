"""SynFlow conserves synaptic flow, with batch norm and across residual connections too, and sees no data."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from benchmark.models.build import model_factory
from strategies.anytime import AnytimeStrategy, Pruning
from strategies.pruning.masks import EmptyLayerWarning, Masks, keep_largest, prunable_weights
from strategies.pruning.plugin import PruningPlugin
from strategies.pruning.rounds import choose
from strategies.pruning.scores.magnitude import magnitude
from strategies.pruning.scores.synflow import ROUNDS, synflow
from strategies.pruning.structures.unstructured import Unstructured
from strategies.registry import Scoring


@torch.no_grad()
def trained_looking(model, seed=0):
    """Signed weights, shifts and running statistics as training leaves them."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean):
                tensor.copy_(torch.randn(tensor.shape, generator=generator))
            module.running_var.copy_(torch.rand(module.running_var.shape, generator=generator) * 3 + 0.01)
        elif getattr(module, "bias", None) is not None:
            module.bias.copy_(torch.randn(module.bias.shape, generator=generator))
    return model


def shape_of(*size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [((torch.randn(size, generator=generator),), torch.zeros(size[0], dtype=torch.long))]


def sums(scores):
    return {name: values.sum().item() for name, values in scores.items()}


def prune_most(model):
    """Keep a third of each layer."""
    weights = prunable_weights(model)
    keep_largest(magnitude(model, ()), {n: -(-w.numel() // 3) for n, w in weights.items()}).apply_(model)


def test_synflow_equals_products_of_absolute_matrices():
    """Score of W2[i, j]: what flows in at j, times abs(W2[i, j]), times what flows out from i; so for W1."""
    torch.manual_seed(0)
    model = trained_looking(
        nn.Sequential(
            nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Dropout(), nn.Linear(4, 3)
        )
    ).double()
    w1, w2, w3 = (abs(model[k].weight.detach().numpy()) for k in (0, 3, 6))
    norm = model[1]
    scale = abs(norm.weight.detach().numpy()) / np.sqrt(norm.running_var.numpy() + norm.eps)
    out2 = w3.sum(0)
    out1 = (out2 @ w2) * scale
    scores = synflow(model, shape_of(9, 6))
    np.testing.assert_allclose(scores["0.weight"].numpy(), out1[:, None] * w1, rtol=1e-12)
    np.testing.assert_allclose(
        scores["3.weight"].numpy(), out2[:, None] * w2 * (scale * w1.sum(1))[None, :], rtol=1e-12
    )


@pytest.mark.parametrize("pruned", [False, True])
def test_every_layer_of_a_chain_has_the_same_sum(make_net, pruned):
    model = trained_looking(make_net())
    if pruned:
        prune_most(model)
    found = sums(synflow(model, shape_of(4, 6)))
    assert len(found) == 3
    assert list(found.values()) == pytest.approx([found["1.weight"]] * 3, rel=1e-12)
    assert found["1.weight"] > 0


def test_pooling_conserves_the_flow():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.MaxPool2d(2),
        nn.LeakyReLU(),
        nn.Conv2d(4, 5, 3),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(5, 3),
    )
    found = sums(synflow(model, shape_of(2, 2, 8, 8)))
    assert found["0.weight"] == pytest.approx(found["3.weight"], rel=1e-12)


@pytest.mark.parametrize("pruned", [False, True])
def test_every_cut_of_a_residual_network_has_the_same_sum(pruned):
    """Paths run through the stem, then through a block's convolutions or its shortcut."""
    model = trained_looking(model_factory("resnet20s", classes=10, channels=3, resolution=8, seed=0)(0))
    if pruned:
        prune_most(model)
    found = sums(synflow(model, shape_of(2, 3, 8, 8)))
    flow = found["conv1.weight"]
    assert 0 < flow < float("inf")
    for block in range(9):
        first, second = (found[f"blocks.{block}.conv{k}.weight"] for k in (1, 2))
        assert first == pytest.approx(second, rel=1e-12)
        shortcut = found.get(f"blocks.{block}.shortcut.0.weight")
        if shortcut is None:
            assert 0 < first < 0.999999 * flow
        else:
            assert block in (3, 6)
            assert first + shortcut == pytest.approx(flow, rel=1e-12)


def test_synflow_does_not_depend_on_the_data_or_how_much_of_it_there_is(make_net):
    model = trained_looking(make_net())
    first, second = (synflow(model, shape_of(size, 6, seed=size)) for size in (1, 17))
    assert all(torch.equal(values, second[name]) for name, values in first.items())


def test_signs_shifts_and_means_do_not_matter(make_net):
    model, other = trained_looking(make_net()), trained_looking(make_net())
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.neg_()
        other[4].bias.add_(5)
        other[2].bias.add_(3)
        other[2].running_mean.add_(2)
    first, second = (synflow(m, shape_of(2, 6)) for m in (model, other))
    assert all(torch.equal(values, second[name]) for name, values in first.items())


def test_deep_networks_do_not_overflow():
    """Sixty layers of fan-in 64 and standard normal weights: R is about 51 ** 60, beyond float32."""
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(64, 64) for _ in range(60)), nn.Linear(64, 2))
    for layer in model:
        nn.init.normal_(layer.weight)
    found = sums(synflow(model, shape_of(1, 64)))
    assert torch.finfo(torch.float32).max < found["0.weight"] < float("inf")
    assert list(found.values()) == pytest.approx([found["0.weight"]] * 60, rel=1e-11)


def test_one_sample_is_read_and_only_its_shape(make_net):
    def one_batch():
        yield (torch.full((1, 6), torch.nan),), torch.zeros(1, dtype=torch.long)
        raise AssertionError("a second batch was read")

    assert all(torch.isfinite(values).all() for values in synflow(make_net(), one_batch()).values())


def test_task_labels_are_no_signal():
    class TwoHeads(nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden = nn.Linear(4, 5)
            self.heads = nn.ModuleList([nn.Linear(5, 2), nn.Linear(5, 2)])

        def forward(self, x, task):
            return torch.stack([self.heads[t](h) for h, t in zip(self.hidden(x), task.tolist(), strict=True)])

    model = TwoHeads()
    batch = ((torch.zeros(3, 4), torch.tensor([1, 1, 1])), torch.zeros(3, dtype=torch.long))
    flow = model.heads[1].weight.detach().double().abs().sum(0)
    weight = model.hidden.weight.detach().double().abs()
    torch.testing.assert_close(synflow(model, [batch])["hidden.weight"], flow[:, None] * weight)


def test_rounds_avoid_layer_collapse(make_net, distribution):
    """A layer's weights share the same flow: the fewer are left, the higher they score. At once, large layers empty."""

    def masks_after(rounds):
        parts = {"distribution": distribution("global"), "structure": Unstructured()}
        return choose(make_net(), shape_of(1, 6), 0.012, score=synflow, scoring=Scoring(rounds=rounds), **parts)

    with pytest.warns(EmptyLayerWarning):
        once = masks_after(1)
    masks = masks_after(ROUNDS)
    assert once.nonzeros == masks.nonzeros == 8
    assert all(mask.any() for mask in masks.values())


def test_a_run_reads_one_sample_in_each_of_a_hundred_rounds(make_learner, make_stream, train):
    learner = make_learner(epochs=1, megabatches=2)
    plugin = PruningPlugin(Pruning(score="synflow").parts(learner))
    strategy = train(AnytimeStrategy(learner=learner, plugins=[plugin]), make_stream(megabatches=2))
    assert plugin.scored_samples == 2 * 100
    assert Masks.of(prunable_weights(strategy.model)).nonzeros == round(0.8**4.5 * 666)
