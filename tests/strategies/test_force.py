"""Iterative SNIP never takes a weight back, FORCE does; both are SNIP when there is one round."""

from __future__ import annotations

import copy
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from strategies.anytime import AnytimeStrategy, Pruning
from strategies.pruning.masks import Masks, keep_largest, kept_count, prunable_weights
from strategies.pruning.plugin import PruningPlugin
from strategies.pruning.rounds import choose
from strategies.pruning.scores.force import force, iterative_snip
from strategies.pruning.scores.magnitude import magnitude
from strategies.pruning.scores.snip import snip
from strategies.pruning.structures import select
from strategies.pruning.structures.unstructured import Unstructured
from strategies.registry import Scoring

SIZE = 54 + 324 + 288
"""Prunable weights of the network of ``make_net``."""


@pytest.fixture(scope="module")
def batches():
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(24, 6, generator=generator, dtype=torch.float64)
    y = torch.randint(3, (24,), generator=generator)
    return [((x[:12],), y[:12]), ((x[12:],), y[12:])]


@pytest.fixture
def in_rounds(distribution):
    """Function: model, batches, density, score, rounds -> masks after each round."""

    def run(model, batches, density, score, rounds, within=None):
        seen = []
        structure = Unstructured()

        class Recording:
            silenced = staticmethod(structure.silenced)

            def select(self, *arguments):
                seen.append(structure.select(*arguments))
                return seen[-1]

        options = {"distribution": distribution("global"), "structure": Recording(), "within": within}
        scoring = Scoring(rounds=rounds, revives=score is force)
        last = choose(model, batches, density, score=score, scoring=scoring, **options)
        assert last == seen[-1]
        return seen

    return run


@pytest.mark.parametrize("score", [iterative_snip, force])
def test_one_round_is_snip(make_net, batches, in_rounds, distribution, score):
    model = make_net().double()
    expected = select(snip(model, batches), 0.2, distribution("global"))
    assert in_rounds(model, batches, 0.2, score, rounds=1) == [expected]


@pytest.mark.parametrize("score", [iterative_snip, force])
def test_the_density_falls_by_the_same_factor_in_every_round(make_net, batches, in_rounds, score):
    masks = in_rounds(make_net().double(), batches, 0.07, score, rounds=7)
    assert [m.nonzeros for m in masks] == [kept_count(0.07 ** (k / 7), SIZE) for k in range(1, 8)]
    assert masks[-1].nonzeros == round(0.07 * SIZE)


@pytest.mark.parametrize("seed", range(5))
def test_iterative_snip_never_revives_and_scores_what_the_round_before_left(make_net, batches, in_rounds, seed):
    masks = in_rounds(make_net(seed).double(), batches, 0.05, iterative_snip, rounds=6)
    assert all(later <= earlier for earlier, later in pairwise(masks))
    left = make_net(seed).double()
    masks[-2].apply_(left)
    scores = snip(left, batches)
    chosen = torch.cat([scores[n][masks[-1][n]] for n in scores])
    dropped = torch.cat([scores[n][masks[-2][n] & ~masks[-1][n]] for n in scores])
    assert chosen.min() >= dropped.max()


def opposed():
    """Weights 10, 0.1, 1, 0.1 in front of the logits (h, 0).

    The first of two samples of class 0 sees the first two weights, the other the last two. While both are there
    the first sample is right beyond doubt, so that its weights have no gradient to speak of; without them it is open.
    """
    model = nn.Sequential(nn.Linear(4, 1, bias=False), nn.Linear(1, 2, bias=False)).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[10.0, 0.1, 1.0, 0.1]]))
        model[1].weight.copy_(torch.tensor([[1.0], [0.0]]))
    x = torch.tensor([[1.0, 1, 0, 0], [0, 0, 1, 1]], dtype=torch.float64)
    return model, [((x,), torch.tensor([0, 0]))]


def test_force_takes_back_a_weight_that_the_pruned_network_misses(in_rounds):
    model, batches = opposed()
    first, second = in_rounds(model, batches, 0.25, force, rounds=2)
    assert first["0.weight"].tolist() == [[False, False, True, True]]
    assert second["0.weight"].tolist() == [[True, False, False, False]]
    _, nested = in_rounds(model, batches, 0.25, iterative_snip, rounds=2)
    assert nested["0.weight"].tolist() == [[False, False, True, False]]


def test_force_scores_by_hand(in_rounds):
    """Both samples are of class 0, dL/dh = (sigmoid(h) - 1) / 2; without weights 0 and 1 the first has h = 0."""
    model, batches = opposed()
    masks = Masks({"0.weight": torch.tensor([[False, False, True, True]])})
    scores = force(model, batches, masks=masks)["0.weight"]
    second = (1 - torch.sigmoid(torch.tensor(1.1, dtype=torch.float64))) / 2
    expected = torch.stack([torch.tensor(0.25 * 10.0), torch.tensor(0.25 * 0.1), second * 1.0, second * 0.1])
    torch.testing.assert_close(scores[0], expected.double(), rtol=1e-7, atol=0)


def test_force_is_the_dense_weight_times_the_gradient_of_the_pruned_network(make_net, batches):
    model = make_net().double()
    masks = keep_largest(magnitude(model, ()), {n: w.numel() // 3 for n, w in prunable_weights(model).items()})
    pruned = copy.deepcopy(model).train()
    masks.apply_(pruned)
    for (x,), y in batches:
        (F.cross_entropy(pruned(x), y, reduction="sum") / 24).backward()
    revived = 0.0
    for name, values in force(model, batches, masks=masks).items():
        gradient = prunable_weights(pruned)[name].grad
        torch.testing.assert_close(values, (prunable_weights(model)[name] * gradient).abs().detach())
        revived = max(revived, values[~masks[name]].max().item())
    assert revived > 0


def test_force_never_leaves_the_masks_of_earlier_megabatches(make_net, batches, in_rounds):
    model = make_net().double()
    within = keep_largest(magnitude(model, ()), {n: w.numel() // 2 for n, w in prunable_weights(model).items()})
    within.apply_(model)
    masks = in_rounds(model, batches, 0.1, force, rounds=5, within=within)
    assert all(m <= within for m in masks)
    assert masks[-1].nonzeros == round(0.1 * SIZE)


@pytest.mark.parametrize("name", ["iterative_snip", "force"])
def test_a_run_reads_its_sample_in_each_of_ten_rounds(make_learner, make_stream, train, name):
    learner = make_learner(epochs=1)
    plugin = PruningPlugin(Pruning(score=name).parts(learner))
    train(AnytimeStrategy(learner=learner, plugins=[plugin]), make_stream())
    assert plugin.scored_samples == 3 * 10 * round(0.2 * 16)
