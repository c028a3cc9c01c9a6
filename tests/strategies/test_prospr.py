"""ProsPr differentiates the loss after some training steps by the mask before them."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from strategies.anytime import AnytimeStrategy, Pruning
from strategies.pruning.masks import prunable_weights
from strategies.pruning.plugin import PruningPlugin
from strategies.pruning.scores.prospr import prospr
from strategies.pruning.scores.snip import snip


@pytest.fixture(scope="module")
def batches():
    """Five batches of unequal size."""
    generator = torch.Generator().manual_seed(3)
    sizes = (12, 9, 14, 10, 8)
    x = [torch.randn(n, 6, generator=generator, dtype=torch.float64) for n in sizes]
    return [((values,), torch.randint(3, (len(values),), generator=generator)) for values in x]


def small_net(features=6):
    torch.manual_seed(2)
    return nn.Sequential(nn.Linear(features, 5), nn.Tanh(), nn.Linear(5, 3)).double()


def test_without_inner_steps_prospr_is_snip(make_net, batches):
    model = make_net().double()
    expected = snip(model, batches[:1])
    for name, values in prospr(model, batches, steps=0).items():
        # A score that is a difference of larger terms has their rounding, which depends on the processor.
        torch.testing.assert_close(values, expected[name], rtol=1e-12, atol=1e-17)


def loss_after_training(arrays, mask, batches, lr):
    """Loss of a tanh network on the last batch after a gradient step on each of the others; complex numbers pass."""

    def forward(w, b, v, c, x):
        h = np.tanh(x @ w.T + b)
        odds = np.exp(h @ v.T + c)
        return h, odds / odds.sum(1, keepdims=True)

    w, b, v, c = arrays
    w = mask * w
    for x, y in batches[:-1]:
        h, p = forward(w, b, v, c, x)
        error = (p - np.eye(3)[y]) / len(y)
        back = error @ v * (1 - h**2)
        w, b, v, c = w - lr * back.T @ x, b - lr * back.sum(0), v - lr * error.T @ h, c - lr * error.sum(0)
    x, y = batches[-1]
    return -np.log(forward(w, b, v, c, x)[1][np.arange(len(y)), y]).mean()


@pytest.mark.parametrize("steps", [0, 1, 2, 3])
def test_prospr_equals_the_complex_step_derivative_of_training_by_hand(batches, steps):
    """A second implementation in NumPy: Im L(mask + i e) / e is the derivative without any rounding."""
    model, lr = small_net(), 0.3
    arrays = [p.detach().numpy().astype(complex) for p in model.parameters()]
    given = [(x.numpy(), y.numpy()) for (x,), y in batches[: steps + 1]]
    expected = np.zeros((5, 6))
    for position in np.ndindex(5, 6):
        mask = np.ones((5, 6), dtype=complex)
        mask[position] += 1e-30j
        expected[position] = abs(loss_after_training(arrays, mask, given, lr).imag / 1e-30)
    scores = prospr(model, batches, steps=steps, lr=lr)
    assert list(scores) == ["0.weight"]
    np.testing.assert_allclose(scores["0.weight"].numpy(), expected, rtol=1e-9)


def test_prospr_equals_differences_of_real_training_with_batch_norm(make_net, batches):
    """Three steps of torch's own SGD, in training mode, from weights times a mask a little above and below 1."""
    model, step = make_net().double(), 1e-5
    scores = prospr(model, batches, steps=3, lr=0.1)

    def loss(name, position, factor):
        trained = copy.deepcopy(model).train()
        with torch.no_grad():
            prunable_weights(trained)[name].view(-1)[position] *= factor
        optimizer = torch.optim.SGD(trained.parameters(), lr=0.1)
        for (x,), y in batches[:3]:
            optimizer.zero_grad()
            F.cross_entropy(trained(x), y).backward()
            optimizer.step()
        (x,), y = batches[3]
        return F.cross_entropy(trained(x), y).item()

    for name, values in scores.items():
        for position in (values.argmax().item(), values.numel() // 2):
            slope = (loss(name, position, 1 + step) - loss(name, position, 1 - step)) / (2 * step)
            assert values.view(-1)[position].item() == pytest.approx(abs(slope), rel=1e-4, abs=1e-9)


def test_pruned_weights_stay_pruned_during_the_inner_steps(batches):
    """A network without two of its inputs scores as one that never had them."""
    model, smaller = small_net(), small_net(features=4)
    with torch.no_grad():
        model[0].weight[:, 4:] = 0
        smaller[0].weight.copy_(model[0].weight[:, :4])
        smaller[0].bias.copy_(model[0].bias)
        smaller[2].load_state_dict(model[2].state_dict())
    scores = prospr(model, batches)["0.weight"]
    expected = prospr(smaller, [((x[:, :4],), y) for (x,), y in batches])["0.weight"]
    torch.testing.assert_close(scores[:, :4], expected, rtol=1e-10, atol=0)
    assert (scores[:, 4:] == 0).all()


def test_batches_are_taken_from_the_beginning_again(batches):
    model, first, second = small_net(), *batches[:2]
    scores, expected = prospr(model, [first, second]), prospr(model, [first, second, first, second])
    assert torch.equal(scores["0.weight"], expected["0.weight"])
    assert not torch.allclose(prospr(model, [first])["0.weight"], expected["0.weight"])


def test_a_look_ahead_sees_what_snip_does_not(batches):
    model = small_net()
    ahead, now = prospr(model, batches, lr=1.0)["0.weight"], snip(model, batches[3:4])["0.weight"]
    assert not torch.equal(ahead.ravel().argsort(), now.ravel().argsort())
    torch.testing.assert_close(prospr(model, batches, lr=0.0)["0.weight"], now)


def test_a_run_counts_three_steps_there_and_back(make_learner, make_stream, train):
    """One batch of the scoring sample is read four times, at 2.5 forward and backward passes on average."""
    learner = make_learner(epochs=1)
    plugin = PruningPlugin(Pruning(score="prospr").parts(learner))
    train(AnytimeStrategy(learner=learner, plugins=[plugin]), make_stream())
    assert plugin.scored_samples == 3 * 4 * 2.5 * round(0.2 * 16)
