"""Choosing masks in rounds: exact counts, nested masks, and a model that is left alone."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from strategies.anytime import Pruning
from strategies.pruning.distributions import global_ranking
from strategies.pruning.masks import EmptyLayerWarning, Masks, keep_largest, kept_count, prunable_weights
from strategies.pruning.rounds import choose
from strategies.pruning.scores.magnitude import magnitude
from strategies.pruning.structures import select
from strategies.pruning.structures.filters import Filters
from strategies.pruning.structures.n_of_m import NofM
from strategies.pruning.structures.unstructured import Unstructured
from strategies.registry import DISTRIBUTIONS, SCORES, Scoring

SIZE = 54 + 324 + 288
"""Prunable weights of the network of ``make_net``."""

pytestmark = pytest.mark.filterwarnings("ignore::strategies.pruning.masks.EmptyLayerWarning")
every_score = pytest.mark.parametrize("name", SCORES.names())
revives = pytest.mark.parametrize("revives", [False, True], ids=["nested", "revives"])


@pytest.fixture(scope="module")
def batches():
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(24, 6, generator=generator)
    y = torch.randint(3, (24,), generator=generator)
    return [((x[:12],), y[:12]), ((x[12:],), y[12:])]


@pytest.fixture
def parts(make_learner, distribution):
    """Function: name of a score, scope -> how ``choose`` is called with it."""

    def make(name, scope="global"):
        whole = Pruning(score=name).parts(make_learner())
        chosen = {part: getattr(whole, part) for part in ("score", "scoring", "structure")}
        return {**chosen, "distribution": distribution(scope)}

    return make


@pytest.fixture
def half():
    """Function: model -> masks of half of each layer, applied to it."""

    def prune(model, divisor=2):
        weights = prunable_weights(model)
        masks = keep_largest(magnitude(model, ()), {n: w.numel() // divisor for n, w in weights.items()})
        masks.apply_(model)
        return masks

    return prune


class Changing:
    """A score that prefers other weights in every round; remembers the masks and the networks that it was shown."""

    def __init__(self):
        self.masks, self.left = [], []

    def __call__(self, model, batches, /, masks=None):
        self.masks.append(masks)
        self.left.append(Masks.of(prunable_weights(model)))
        generator = torch.Generator().manual_seed(len(self.left))
        return {n: torch.randn(w.shape, generator=generator) for n, w in prunable_weights(model).items()}


class Recording(Unstructured):
    """Unstructured pruning that remembers what it chose."""

    def __init__(self):
        self.chosen = []

    def select(self, *arguments):
        self.chosen.append(super().select(*arguments))
        return self.chosen[-1]


def options(distribution, score, structure=None, scope="global", **scoring):
    """How ``choose`` is called with a score of a test's own."""
    return {
        "score": score,
        "scoring": Scoring(**scoring),
        "distribution": distribution(scope),
        "structure": structure or Unstructured(),
    }


@revives
@pytest.mark.parametrize("scope", DISTRIBUTIONS.names())
@pytest.mark.parametrize("density", [0.8, 0.366, 0.02])
def test_every_round_keeps_exactly_its_count(make_net, distribution, scope, density, revives):
    structure = Recording()
    asked = options(distribution, Changing(), structure, scope, rounds=6, revives=revives)
    masks = choose(make_net(), (), density, **asked)
    expected = [kept_count(density ** (k / 6), SIZE) for k in range(1, 7)]
    assert [chosen.nonzeros for chosen in structure.chosen] == expected
    assert masks == structure.chosen[-1]
    assert masks.nonzeros == round(density * SIZE)


@revives
def test_the_density_falls_from_that_of_the_masks_before(make_net, distribution, half, revives):
    model, structure = make_net(), Recording()
    within = half(model)
    choose(model, (), 0.1, **options(distribution, Changing(), structure, rounds=4, revives=revives), within=within)
    expected = [kept_count(0.5 * (0.1 / 0.5) ** (k / 4), SIZE) for k in range(1, 5)]
    assert [chosen.nonzeros for chosen in structure.chosen] == expected
    assert all(chosen <= within for chosen in structure.chosen)


@revives
def test_what_is_asked_for_beyond_the_masks_before_keeps_them(make_net, distribution, half, revives):
    model = make_net()
    within = half(model)
    masks = choose(model, (), 0.7, **options(distribution, Changing(), rounds=5, revives=revives), within=within)
    assert masks == within


def test_without_revival_each_round_is_shown_what_the_last_one_left(make_net, distribution):
    score, structure = Changing(), Recording()
    choose(make_net(), (), 0.05, **options(distribution, score, structure, rounds=5))
    assert score.left == [Masks.full(prunable_weights(make_net())), *structure.chosen[:-1]]
    assert all(later <= earlier for earlier, later in pairwise(structure.chosen))


def test_with_revival_each_round_is_shown_the_dense_network_and_the_last_masks(make_net, distribution):
    score, structure = Changing(), Recording()
    choose(make_net(), (), 0.05, **options(distribution, score, structure, rounds=5, revives=True))
    assert score.masks == [None, *structure.chosen[:-1]]
    assert score.left == [Masks.full(prunable_weights(make_net()))] * 5
    assert not structure.chosen[1] <= structure.chosen[0]


@revives
def test_one_round_is_a_plain_selection(make_net, distribution, half, revives):
    model = make_net()
    within = half(model)
    for masks in (None, within):
        asked = options(distribution, magnitude, rounds=1, revives=revives)
        expected = select(magnitude(model, ()), 0.3, distribution("global"), masks)
        assert choose(model, (), 0.3, **asked, within=masks) == expected


def test_rounds_of_an_unchanging_score_choose_what_one_does(make_net, distribution):
    model = make_net()
    once, often = (choose(model, (), 0.3, **options(distribution, magnitude, rounds=k)) for k in (1, 9))
    assert once == often


def test_structures_hold_in_rounds(make_net, distribution):
    masks = choose(make_net(), (), 0.1, **options(distribution, Changing(), NofM(1, 3), rounds=5))
    assert masks["4.weight"].view(6, 2, 3, 9).sum(2).eq(1).all()


@every_score
def test_choosing_leaves_the_model_alone(make_net, parts, batches, name):
    model = make_net(dropout=True)
    model(batches[0][0][0]).sum().backward()
    gradients = [p.grad.clone() for p in model.parameters()]
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state = torch.get_rng_state()
    choose(model, batches, 0.5, **parts(name, "local"))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), gradients, strict=True))
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)


# Every registered score, in as many rounds as it takes


@every_score
@pytest.mark.parametrize("scope", DISTRIBUTIONS.names())
@pytest.mark.parametrize("value", [0.0, 0.1], ids=["all scores zero", "ties"])
def test_equal_weights_are_kept_in_the_exact_number(make_net, parts, batches, name, scope, value):
    model = make_net()
    for weight in prunable_weights(model).values():
        nn.init.constant_(weight, value)
    masks = choose(model, batches, 0.366, **parts(name, scope))
    assert masks.nonzeros == round(0.366 * SIZE)


@every_score
def test_vanishing_gradients_are_no_reason_to_fail(make_net, parts, batches, name):
    """A classifier of zeros: no gradient reaches any weight."""
    model = make_net()
    nn.init.zeros_(model[10].weight)
    masks = choose(model, batches, 0.366, **parts(name))
    assert masks.nonzeros == round(0.366 * SIZE)


@every_score
def test_pruned_networks_are_pruned_further_within_their_masks(make_net, parts, batches, half, name):
    model = make_net()
    within = half(model)
    masks = choose(model, batches, 0.2, **parts(name), within=within)
    assert masks <= within
    assert masks.nonzeros == round(0.2 * SIZE)


@every_score
def test_a_network_that_lost_a_layer_is_pruned_further(make_net, parts, batches, name):
    model = make_net()
    weights = prunable_weights(model)
    nn.init.zeros_(weights["4.weight"])
    within = Masks.of(weights)
    with pytest.warns(EmptyLayerWarning, match=r"4\.weight"):
        masks = choose(model, batches, 0.2, **parts(name), within=within)
    assert masks <= within
    assert masks.nonzeros == round(0.2 * SIZE)


def test_a_reviving_score_sees_removed_channels_silenced_and_their_weights_dense(make_net, batches):
    """Else a removed channel would go on sending the shift of its batch norm while the others are scored."""
    seen = []

    def score(model, batches, masks=None):
        seen.append((masks, {name: p.detach().clone() for name, p in model.named_parameters()}))
        return {name: w.detach().abs() * (name != "1.weight") for name, w in prunable_weights(model).items()}

    model = make_net()
    torch.nn.init.ones_(model[2].bias)
    dense = {name: p.detach().clone() for name, p in model.named_parameters()}
    choose(
        model,
        batches,
        0.3,
        score=score,
        scoring=Scoring(rounds=3, revives=True),
        distribution=global_ranking,
        structure=Filters(),
    )
    assert [masks is None for masks, _ in seen] == [True, False, False]
    removed = ~seen[2][0]["1.weight"].flatten(1).any(1)
    assert removed.any() and not removed.all()
    for name, value in seen[2][1].items():
        if name in ("2.weight", "2.bias"):
            assert torch.equal(value, dense[name].masked_fill(removed, 0))
        elif name.endswith("weight"):
            assert torch.equal(value, dense[name])
