"""GraSP is the weight times the Hessian-gradient product, with the sign that preserves gradient flow."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from avalanche.training.supervised import Naive
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from strategies.anytime import Pruning
from strategies.pruning.plugin import PruningPlugin
from strategies.pruning.scores.grasp import TEMPERATURE, grasp
from strategies.registry import SCORES


@pytest.fixture(scope="module")
def samples():
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(24, 6, generator=generator, dtype=torch.float64)
    return x, torch.randint(3, (24,), generator=generator)


def cut(samples, *edges):
    x, y = samples
    bounds = [0, *edges, len(y)]
    return [((x[a:b],), y[a:b]) for a, b in pairwise(bounds)]


def small_net(last):
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Unflatten(1, (1, 2, 3)),
        nn.Conv2d(1, 3, 2, bias=True),
        nn.BatchNorm2d(3),
        last,
        nn.Flatten(),
        nn.Linear(6, 3),
    ).double()


def weights_of(model):
    """Convolution and classifier, as one vector."""
    return torch.cat([model[1].weight.detach().ravel(), model[5].weight.detach().ravel()])


def loss_by_weights(model, batches, temperature):
    """Mean loss in training mode as a function of that vector; random numbers repeat from call to call."""

    def loss(vector):
        own = {"1.weight": vector[:12].view(3, 1, 2, 2), "5.weight": vector[12:].view(3, 6)}
        total = torch.zeros((), dtype=torch.float64)
        torch.manual_seed(7)
        for inputs, targets in batches:
            logits = functional_call(model, own, inputs) / temperature
            total = total + F.cross_entropy(logits, targets, reduction="sum")
        return total / sum(len(targets) for _, targets in batches)

    return loss


@pytest.mark.parametrize("temperature", [1.0, TEMPERATURE])
@pytest.mark.parametrize("edges", [(), (10,)], ids=["one batch", "two batches"])
@pytest.mark.parametrize("last", [nn.Tanh(), nn.Dropout(0.4)], ids=["tanh", "dropout"])
def test_grasp_equals_an_explicit_hessian_product(samples, last, edges, temperature):
    """Batch norm sees each batch for itself; dropout draws the same in g as in H."""
    model, batches = small_net(last), cut(samples, *edges)
    torch.manual_seed(7)
    scores = grasp(model, batches, temperature=temperature)
    loss, vector = loss_by_weights(model.train(), batches, temperature), weights_of(model)
    gradient = torch.autograd.functional.jacobian(loss, vector)
    product = torch.autograd.functional.hessian(loss, vector) @ gradient
    expected = (vector * product)[:12].view(3, 1, 2, 2)
    assert expected.abs().max() > 1e-12
    torch.testing.assert_close(scores["1.weight"], expected, rtol=1e-8, atol=1e-10 * expected.abs().max().item())


@pytest.mark.parametrize("temperature", [1.0, TEMPERATURE])
def test_grasp_equals_differences_of_a_gradient_on_paper(samples, temperature):
    """One hidden layer of tanh units: dL/dV = (p - y) h / (n T), dL/dW = ((p - y) V * (1 - h^2)) x / (n T)."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    x, y = samples[0].numpy(), samples[1].numpy()
    w, v = model[0].weight.detach().numpy(), model[2].weight.detach().numpy()
    b, c = model[0].bias.detach().numpy(), model[2].bias.detach().numpy()

    def gradient(w, v):
        h = np.tanh(x @ w.T + b)
        odds = np.exp((h @ v.T + c) / temperature)
        error = (odds / odds.sum(1, keepdims=True) - np.eye(3)[y]) / (len(y) * temperature)
        return (error @ v * (1 - h**2)).T @ x, error.T @ h

    gw, gv = gradient(w, v)
    step = 1e-5 / np.sqrt((gw**2).sum() + (gv**2).sum())
    above, _ = gradient(w + step * gw, v + step * gv)
    below, _ = gradient(w - step * gw, v - step * gv)
    expected = w * (above - below) / (2 * step)
    scores = grasp(model, cut(samples), temperature=temperature)
    assert list(scores) == ["0.weight"]
    np.testing.assert_allclose(scores["0.weight"].numpy(), expected, rtol=1e-4, atol=1e-6 * abs(expected).max())


def test_shrinking_a_weight_takes_from_the_gradient_flow_what_its_score_says(samples):
    """The squared gradient norm falls by 2 e times the score when a weight is multiplied by 1 - e: keep the highest."""
    model, batches, step = small_net(nn.Tanh()), cut(samples), 1e-5
    loss, vector = loss_by_weights(model.train(), batches, TEMPERATURE), weights_of(model)

    def flow(at):
        return torch.autograd.functional.jacobian(loss, at).square().sum().item()

    scores = grasp(model, batches)["1.weight"].ravel()
    assert scores.min() < 0 < scores.max()
    for position in (scores.argmin(), scores.argmax(), 0):
        change = torch.zeros_like(vector)
        change[position] = step * vector[position]
        slope = (flow(vector - change) - flow(vector + change)) / (2 * step)
        assert slope == pytest.approx(-2 * scores[position].item(), rel=1e-4)


@settings(max_examples=20)
@given(st.sets(st.integers(1, 23), max_size=4))
def test_one_batch_scores_as_any_cut_of_it(make_net, samples, edges):
    """Gradients are summed over all samples before the product; exact where no batch norm ties samples together."""
    model = make_net(norm=False).double()
    whole, parts = grasp(model, cut(samples)), grasp(model, cut(samples, *sorted(edges)))
    for name, expected in whole.items():
        torch.testing.assert_close(parts[name], expected, rtol=1e-8, atol=1e-9 * expected.abs().max().item())


def test_batches_that_can_be_read_only_once_are_refused(make_net, samples):
    """Without the second reading every score would be zero, and the choice arbitrary."""
    with pytest.raises(ValueError, match="twice"):
        grasp(make_net().double(), iter(cut(samples, 12)))


def test_the_scoring_sample_has_every_class_equally_often(make_learner, make_net, make_stream):
    seen = []

    def recorded(model, batches):
        seen.extend(torch.cat([targets for _, targets in batches]).bincount(minlength=3).tolist())
        return grasp(model, batches)

    model, parts = make_net(), Pruning(score="grasp", score_fraction=0.4).parts(make_learner())
    plugin = PruningPlugin(replace(parts, score=recorded))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    strategy = Naive(
        model=model, optimizer=optimizer, criterion=nn.CrossEntropyLoss(), evaluator=None, plugins=[plugin]
    )
    stream = make_stream(samples=180)
    strategy.train(stream.train_stream[0], eval_streams=[])
    available = torch.tensor(list(stream.train_stream[0].dataset.targets)).bincount().tolist()
    assert max(available) - min(available) > 2
    assert sum(seen) == round(0.4 * len(stream.train_stream[0].dataset))
    assert max(seen) - min(seen) <= 1


def test_the_registered_temperature_is_the_papers(make_net, samples):
    model, batches = make_net().double(), cut(samples)
    registered = SCORES.load("grasp").target(model, batches)
    assert all(torch.equal(values, grasp(model, batches, temperature=200)[n]) for n, values in registered.items())
