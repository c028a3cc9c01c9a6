"""Scores rank weights as the literature defines them, and leave no trace."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest
from states import same
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from strategies.pruning.masks import Masks, keep_largest, prunable_weights
from strategies.pruning.scores.magnitude import magnitude
from strategies.pruning.scores.snip import snip, taylor_fo
from strategies.registry import SCORES

every_score = pytest.mark.parametrize("score", [SCORES.load(n).target for n in SCORES.names()], ids=SCORES.names())


@pytest.fixture(scope="module")
def samples():
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(24, 6, generator=generator, dtype=torch.float64)
    return x, torch.randint(3, (24,), generator=generator)


def cut(samples, *edges):
    x, y = samples
    bounds = [0, *edges, len(y)]
    return [((x[a:b],), y[a:b]) for a, b in pairwise(bounds)]


def bits(tensor):
    return None if tensor is None else (tensor.dtype, tuple(tensor.shape), tensor.detach().numpy().tobytes())


def everything_about(model):
    return {
        "tensors": {name: bits(value) for name, value in model.state_dict().items()},
        "storage": [p.data_ptr() for p in model.parameters()],
        "gradients": {name: bits(p.grad) for name, p in model.named_parameters()},
        "trainable": [p.requires_grad for p in model.parameters()],
        "modes": [module.training for module in model.modules()],
        "hooks": [len(m._forward_hooks) + len(m._backward_hooks) for m in model.modules()],
        "torch": bits(torch.get_rng_state()),
        "numpy": repr(np.random.get_state(legacy=False)["state"]["key"].tolist()),
        "python": random.getstate(),
    }


@every_score
def test_one_finite_score_for_each_prunable_weight(score, make_net, samples):
    model = make_net().double()
    scores = score(model, cut(samples))
    weights = prunable_weights(model)
    assert list(scores) == list(weights)
    for name, values in scores.items():
        assert values.shape == weights[name].shape
        assert torch.isfinite(values).all()
        assert not values.requires_grad


@every_score
@pytest.mark.parametrize("layer", [1, 4, 8, 10])
def test_scores_are_finite_where_a_layer_is_gone(score, layer, make_net, samples):
    """Without the classifier, the last of them, no gradient reaches any weight."""
    model = make_net().double()
    nn.init.zeros_(model[layer].weight)
    assert all(torch.isfinite(values).all() for values in score(model, cut(samples, 12)).values())


class TwoHeads(nn.Module):
    """A classifier for each task; the weights of the first count as prunable, as they are not the last ones."""

    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(6, 5)
        self.heads = nn.ModuleList([nn.Linear(5, 3), nn.Linear(5, 3)])

    def forward(self, x, task):
        return self.heads[int(task[0])](self.hidden(x))


@pytest.mark.parametrize("name", ["snip", "taylor", "grasp", "synflow", "iterative_snip", "force", "prospr"])
def test_what_the_samples_do_not_reach_scores_zero(name, samples):
    x, y = samples
    scores = SCORES.load(name).target(TwoHeads().double(), [((x, torch.ones_like(y)), y)])
    assert (scores["heads.0.weight"] == 0).all()
    assert (scores["hidden.weight"] != 0).all()


@every_score
def test_scoring_leaves_no_trace(score, make_net, samples):
    model = make_net(dropout=True).double()
    model(samples[0]).sum().backward()
    model[1].weight.grad = None
    model[4].weight.requires_grad_(False)
    model[2].eval()
    before = everything_about(model)
    score(model, cut(samples, 12))
    assert everything_about(model) == before


@every_score
def test_a_score_does_not_depend_on_modes_gradients_or_grad_mode(score, make_net, samples):
    model = make_net().double()
    expected = score(model, cut(samples, 12))
    model.eval()
    model(samples[0]).sum().backward()
    model.requires_grad_(False)
    with torch.no_grad():
        assert same(score(model, cut(samples, 12)), expected)


@every_score
def test_a_saved_and_loaded_model_scores_as_in_memory(score, make_net, samples, tmp_path):
    model = make_net(seed=1).double()
    model(samples[0])
    keep_largest(magnitude(model, ()), {n: w.numel() // 2 for n, w in prunable_weights(model).items()}).apply_(model)
    torch.save(model.state_dict(), tmp_path / "model.pt")
    loaded = make_net(seed=2).double()
    loaded.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True), strict=True)
    assert same(score(loaded, cut(samples, 12)), score(model, cut(samples, 12)))


class Counted:
    """Batches that count how many samples have been read."""

    def __init__(self, batches):
        self.batches = batches
        self.samples = 0

    def __iter__(self):
        for inputs, targets in self.batches:
            self.samples += len(targets)
            yield inputs, targets


@pytest.mark.parametrize("batches", [1, 2, 5])
@pytest.mark.parametrize("name", SCORES.names())
def test_a_score_costs_the_passes_that_are_counted_for_it(name, batches):
    """Measured with torch's counter; the first layer, which needs no gradient of its input, is a small part here."""
    model = nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(), nn.Conv2d(12, 12, 3, padding=1), nn.ReLU()
    )
    model.extend([nn.Conv2d(12, 12, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 3)])
    sample = (torch.randn(1, 1, 6, 6),), torch.zeros(1, dtype=torch.long)
    with FlopCounterMode(display=False) as training:
        nn.functional.cross_entropy(model(*sample[0]), sample[1]).backward()
    entry, read = SCORES.load(name), Counted([sample] * batches)
    with FlopCounterMode(display=False) as scoring:
        entry.target(model, read)
    counted = read.samples * entry.traits.passes
    assert scoring.get_total_flops() / training.get_total_flops() == pytest.approx(counted, rel=0.03)


@pytest.mark.parametrize("name", ["magnitude", "random"])
def test_scores_without_data_read_none(name, make_net):
    def unreadable():
        raise AssertionError("a batch was read")
        yield

    assert SCORES.load(name).target(make_net(), unreadable())


@pytest.mark.parametrize("name", ["snip", "taylor", "grasp", "synflow", "iterative_snip", "force", "prospr"])
def test_a_gradient_score_needs_a_sample(name, make_net):
    with pytest.raises(ValueError, match="at least one sample"):
        SCORES.load(name).target(make_net(), [])


def test_magnitude_is_the_absolute_weight(make_net):
    model = make_net()
    assert same(magnitude(model, ()), {name: abs(w.detach()) for name, w in prunable_weights(model).items()})


def test_snip_equals_weight_times_gradient_by_hand(samples):
    """One hidden layer, differentiated on paper: dL/dV = (p - y) h / n, dL/dW = ((p - y) V * [h > 0]) x / n."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)).double()
    hidden, classifier = model[0], model[2]
    x, y = samples[0].numpy(), samples[1].numpy()
    w, v = hidden.weight.detach().numpy(), classifier.weight.detach().numpy()
    h = np.maximum(x @ w.T + hidden.bias.detach().numpy(), 0)
    logits = h @ v.T + classifier.bias.detach().numpy()
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    gradient = ((p - np.eye(3)[y]) @ v * (h > 0)).T @ x / len(y)
    scores = snip(model, cut(samples))
    assert list(scores) == ["0.weight"]
    np.testing.assert_allclose(scores["0.weight"].numpy(), abs(w * gradient), rtol=1e-10)


def test_snip_equals_weight_times_gradient_of_the_network_in_training_mode(make_net, samples):
    model = make_net().double().train()
    nn.functional.cross_entropy(model(samples[0]), samples[1]).backward()
    for name, values in snip(model, cut(samples)).items():
        weight = prunable_weights(model)[name]
        torch.testing.assert_close(values, (weight * weight.grad).abs().detach(), rtol=1e-10, atol=1e-18)


@given(st.sets(st.integers(1, 23), max_size=4))
def test_one_batch_scores_as_any_cut_of_it(make_net, samples, edges):
    """Signed gradients are summed before the absolute value; exact where no batch norm ties samples together."""
    model = make_net(norm=False).double()
    for score in (snip, taylor_fo):
        whole, parts = score(model, cut(samples)), score(model, cut(samples, *sorted(edges)))
        for name in whole:
            torch.testing.assert_close(parts[name], whole[name], rtol=1e-9, atol=1e-15)


def test_opposite_gradients_cancel():
    """Both labels for one image, at equal odds: the loss does not depend on the weight to first order."""
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 2, bias=False))
    with torch.no_grad():
        model[0].weight.fill_(1.0)
        model[1].weight.fill_(0.5)
        model[1].weight[1] = -0.5
    x = torch.tensor([[1e-3]])
    apart = [((x,), torch.tensor([0])), ((x,), torch.tensor([1]))]
    alone = snip(model, apart[:1])["0.weight"].item()
    assert snip(model, apart)["0.weight"].item() < 1e-3 * alone


def test_snip_ignores_running_statistics(make_net, samples):
    model = make_net().double()
    expected = snip(model, cut(samples))
    model[2].running_mean += 7
    model[2].running_var *= 5
    assert same(snip(model, cut(samples)), expected)


@pytest.mark.parametrize(
    "name", ["snip", "taylor", "magnitude", "grasp", "synflow", "iterative_snip", "force", "prospr"]
)
def test_a_pruned_weight_scores_exactly_zero(name, make_net, samples):
    model, score = make_net().double(), SCORES.load(name).target
    kept = {name: weight.numel() // 3 for name, weight in prunable_weights(model).items()}
    masks = keep_largest(snip(model, cut(samples)), kept)
    masks.apply_(model)
    for name, values in score(model, cut(samples)).items():
        assert (values[~masks[name]] == 0).all()


def test_taylor_is_snip_squared_and_keeps_the_same_weights(make_net, samples):
    model = make_net().double()
    first, second = snip(model, cut(samples)), taylor_fo(model, cut(samples))
    kept = {name: values.numel() // 3 for name, values in first.items()}
    for name, values in first.items():
        torch.testing.assert_close(second[name], values**2)
    assert keep_largest(first, kept) == keep_largest(second, kept)


def test_random_repeats_for_the_same_weights_and_changes_with_them(make_net):
    draw = SCORES.load("random").target
    model = make_net()
    first = draw(model, ())
    torch.manual_seed(5)
    assert same(draw(make_net(), ()), first)
    with torch.no_grad():
        model[1].weight[0, 0, 0, 0] += 1e-6
    assert not any(torch.equal(values, first[name]) for name, values in draw(model, ()).items())


def test_random_is_uniform_and_knows_nothing_of_the_weights():
    layer = nn.Conv2d(16, 64, 3)
    values = SCORES.load("random").target(layer, ())["weight"]
    assert kstest(values.numpy().ravel(), "uniform").pvalue > 0.01
    by_magnitude = torch.stack([values.ravel(), layer.weight.detach().abs().ravel()])
    assert abs(torch.corrcoef(by_magnitude)[0, 1]) < 0.05


def test_a_score_ranks_zero_weights_too():
    model = nn.Conv2d(1, 2, 3)
    nn.init.zeros_(model.weight)
    assert keep_largest(magnitude(model, ()), {"weight": 7}).nonzeros == 7
    assert Masks.of(prunable_weights(model)).nonzeros == 0
