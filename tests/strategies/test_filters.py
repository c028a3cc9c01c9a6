"""Structured pruning removes whole channels, in the stated order and to the stated density, and keeps them silent."""

from __future__ import annotations

import math
import warnings
from fractions import Fraction
from functools import partial

import numpy as np
import pytest
import torch
from avalanche.core import SupervisedPlugin
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from benchmark.registry import MODELS
from strategies.anytime import AnytimeStrategy, Pruning
from strategies.pruning.channels import channel_groups, kept_channels
from strategies.pruning.distributions import global_ranking
from strategies.pruning.masks import Masks, prunable_weights
from strategies.pruning.parts import PruningParts
from strategies.pruning.plugin import PruningPlugin
from strategies.pruning.schedules import Progressive
from strategies.pruning.scores.bn_scale import bn_scale
from strategies.pruning.scores.magnitude import l2, magnitude
from strategies.pruning.structures.filters import Filters, UnreachableDensityWarning
from strategies.registry import DISTRIBUTIONS, STRATEGIES

every_scope = pytest.mark.parametrize("scope", DISTRIBUTIONS.names())
LOWEST = float(np.finfo(np.float32).min)


@pytest.fixture(scope="module")
def resnet():
    torch.manual_seed(0)
    return MODELS.load("resnet20s_1x1").target(10, 3, 32)


@pytest.fixture
def no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def random_scores(model, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.rand(w.shape, generator=generator) for name, w in prunable_weights(model).items()}


def constant_scores(model, value):
    return {name: torch.full_like(w, value).detach() for name, w in prunable_weights(model).items()}


def fractions_kept(model, masks):
    return [channels.double().mean().item() for channels in kept_channels(channel_groups(model), masks)]


# Which channels go


def masks_by_hand(groups, alive, scores):
    masks = {name: np.ones(score.shape, bool) for name, score in scores.items()}
    for group, channels in zip(groups, alive, strict=True):
        for layer in group.rows:
            masks[f"{layer}.weight"][~channels] = False
        for layer in group.columns:
            mask = masks.get(f"{layer}.weight")
            if mask is not None:
                mask.reshape(len(mask), group.size, -1)[:, ~channels] = False
    return masks


def walked(model, scores, density, distribution, alive=None):
    """One channel after the other, the weights counted anew each time: masks, and the density before the last."""
    groups = channel_groups(model)
    alive = (
        [np.ones(group.size, bool) for group in groups] if alive is None else [channels.copy() for channels in alive]
    )
    counts = distribution(scores, density, {name: score.numel() for name, score in scores.items()})
    stays = {}
    for g, group in enumerate(groups):
        own = [f"{layer}.weight" for layer in group.rows]
        rows = np.concatenate([scores[name].double().numpy().reshape(group.size, -1) for name in own], 1)
        mean = np.nan_to_num(rows, nan=LOWEST).mean(1)
        share = Fraction(sum(counts[n] for n in own), sum(scores[n].numel() for n in own))
        best_first = sorted(np.flatnonzero(alive[g]), key=lambda c, mean=mean: (-mean[c], c))
        for rank, c in enumerate(best_first, 1):
            by_share = -(rank / (group.size * share)) if share else -math.inf
            stays[g, c] = mean[c] if distribution is global_ranking else by_share
    size = sum(score.numel() for score in scores.values())
    before = 1.0
    while True:
        masks = masks_by_hand(groups, alive, scores)
        kept = sum(mask.sum() for mask in masks.values())
        candidates = [(stays[g, c], -g, -c) for g, c in stays if alive[g][c] and alive[g].sum() > 1]
        if kept <= round(density * size) or not candidates:
            return Masks({name: torch.from_numpy(mask) for name, mask in masks.items()}), before
        before = kept / size
        _, g, c = min(candidates)
        alive[-g][-c] = False


@every_scope
@settings(max_examples=20)
@given(seed=st.integers(0, 99), values=st.sampled_from([1, 2, 5, 10**6]), density=st.floats(0.05, 1))
def test_channels_are_removed_one_after_the_other_until_the_density_holds(
    make_net, distribution, scope, seed, values, density
):
    """Few different values: many ties, between channels of one group and of several."""
    model = make_net()
    generator = torch.Generator().manual_seed(seed)
    scores = {
        name: torch.randint(values, (len(w), *[1] * (w.dim() - 1)), generator=generator).float().expand(w.shape)
        for name, w in prunable_weights(model).items()
    }
    expected, before = walked(model, scores, density, distribution(scope))
    masks = Filters().select(model, scores, density, distribution(scope))
    assert masks == expected
    assert masks.nonzeros <= round(density * masks.size)
    assert density == 1 or before > density or masks.density == 1


@pytest.mark.parametrize("scope", ["global", "erk"])
def test_coupled_channels_are_ranked_by_the_mean_over_all_their_rows(resnet, distribution, scope):
    scores = random_scores(resnet)
    expected, _ = walked(resnet, scores, 0.6, distribution(scope))
    assert Filters().select(resnet, scores, 0.6, distribution(scope)) == expected


@every_scope
def test_a_nested_selection_starts_from_what_is_left(make_net, distribution, scope):
    model = make_net()
    first = Filters().select(model, random_scores(model), 0.6, distribution(scope))
    alive = [channels.numpy() for channels in kept_channels(channel_groups(model), first)]
    scores = random_scores(model, seed=1)
    expected, _ = walked(model, scores, 0.3, distribution(scope), alive)
    second = Filters().select(model, scores, 0.3, distribution(scope), within=first)
    assert second == expected
    assert second <= first
    assert second.nonzeros <= round(0.3 * second.size)


def test_no_weight_comes_back_that_another_structure_has_removed(make_net):
    model = make_net()
    unstructured = Masks({name: score > 0.3 for name, score in random_scores(model).items()})
    chosen = Filters().select(model, random_scores(model, 1), 0.5, global_ranking, within=unstructured)
    assert chosen <= unstructured
    assert not all(channels.all() for channels in kept_channels(channel_groups(model), chosen))


@every_scope
@pytest.mark.parametrize("value", [0.0, 1.0, -1.0, math.nan, math.inf, -math.inf], ids=str)
def test_of_tied_channels_the_earlier_ones_stay(make_net, distribution, scope, value):
    model = make_net()
    masks = Filters().select(model, constant_scores(model, value), 0.4, distribution(scope))
    assert masks.nonzeros <= round(0.4 * masks.size)
    for channels in kept_channels(channel_groups(model), masks):
        assert channels[: int(channels.sum())].all()


def test_a_nan_ranks_a_channel_last_and_alone(make_net):
    model = make_net()
    scores = constant_scores(model, 1.0)
    scores["4.weight"][2, 3, 0, 1] = math.nan
    kept = kept_channels(channel_groups(model), Filters().select(model, scores, 0.9, global_ranking))
    assert [channels.tolist() for channels in kept][1] == [True, True, False, True, True, True]


@every_scope
def test_density_one_removes_nothing(resnet, distribution, scope, no_warning):
    assert Filters().select(resnet, random_scores(resnet), 1.0, distribution(scope)).density == 1


@every_scope
@pytest.mark.parametrize("density", [0.8, 0.366, 0.1])
def test_masks_of_their_own_density_are_chosen_again(resnet, distribution, scope, density, no_warning):
    masks = Filters().select(resnet, random_scores(resnet), density, distribution(scope))
    again = Filters().select(resnet, random_scores(resnet), masks.density, distribution(scope), within=masks)
    assert again == masks


@every_scope
def test_more_may_have_been_removed_already(make_net, distribution, scope, no_warning):
    model = make_net()
    masks = Filters().select(model, random_scores(model), 0.3, distribution(scope))
    assert Filters().select(model, random_scores(model, 1), 0.5, distribution(scope), within=masks) == masks


@every_scope
@pytest.mark.parametrize("value", [0.0, math.nan, None], ids=str)
def test_one_channel_of_each_group_stays_and_a_density_below_that_warns(resnet, distribution, scope, value):
    scores = random_scores(resnet) if value is None else constant_scores(resnet, value)
    with pytest.warns(UnreachableDensityWarning, match=r"density 0\.0004 cannot be reached"):
        masks = Filters().select(resnet, scores, 0.0004, distribution(scope))
    assert {int(channels.sum()) for channels in kept_channels(channel_groups(resnet), masks)} == {1}


def test_the_best_channel_of_each_group_is_the_one_that_stays(make_net):
    model = make_net()
    scores = random_scores(model)
    with pytest.warns(UnreachableDensityWarning):
        masks = Filters().select(model, scores, 0.0, global_ranking)
    kept = kept_channels(channel_groups(model), masks)
    for channels, name in zip(kept, scores, strict=True):
        assert channels.nonzero().item() == scores[name].flatten(1).mean(1).argmax()


def test_a_model_without_removable_channels_warns_and_stays_dense():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sigmoid(), nn.Flatten(), nn.Linear(4, 2))
    with pytest.warns(UnreachableDensityWarning):
        masks = Filters().select(model, random_scores(model), 0.5, global_ranking)
    assert masks.density == 1
    assert Filters().silenced(model, masks) == {}


# Distributions


@pytest.mark.parametrize("density", [0.8, 0.366, 0.1])
def test_the_local_distribution_keeps_the_same_fraction_of_each_group(resnet, distribution, density):
    masks = Filters().select(resnet, random_scores(resnet), density, distribution("local"))
    kept = fractions_kept(resnet, masks)
    assert max(kept) - min(kept) <= 2 / 16


def test_custom_densities_are_relative_shares_of_the_groups(resnet):
    """A third of the share for the inner convolutions of the last stage."""
    custom = Pruning(scope="custom", layer_density={"blocks.[678].conv1": 1 / 3}).distribution()
    masks = Filters().select(resnet, random_scores(resnet), 0.2, custom)
    kept = dict(zip([group.rows for group in channel_groups(resnet)], fractions_kept(resnet, masks), strict=True))
    third = [fraction for rows, fraction in kept.items() if rows in [(f"blocks.{b}.conv1",) for b in (6, 7, 8)]]
    whole = [fraction for rows, fraction in kept.items() if rows[0] < "blocks.6" or "blocks.6.conv2" in rows]
    assert len(third) == 3
    assert third == pytest.approx([np.mean(whole) / 3] * 3, abs=0.03)
    assert max(whole) - min(whole) <= 2 / 16


def test_the_global_order_ignores_groups(resnet):
    scores = random_scores(resnet)
    for name in scores:
        if name.startswith("blocks.8.conv1"):
            scores[name] += 10
        if name.startswith("blocks.7.conv1"):
            scores[name] -= 10
    groups = [group.rows for group in channel_groups(resnet)]
    masks = Filters().select(resnet, scores, 0.5, global_ranking)
    kept = dict(zip(groups, fractions_kept(resnet, masks), strict=True))
    assert kept["blocks.8.conv1",] == 1
    assert kept["blocks.7.conv1",] == 1 / 64


# Training


class Silence(SupervisedPlugin, supports_distributed=False):
    """After every update: the largest thing found where a channel is removed, and how many parameters that is."""

    def __init__(self, pruning):
        super().__init__()
        self.pruning = pruning
        self.largest, self.held, self.names = [], [], set()

    def after_update(self, strategy, *args, **kwargs):
        groups = channel_groups(strategy.model)
        found = [torch.zeros(1)]
        for group, kept in zip(groups, kept_channels(groups, self.pruning.masks), strict=True):
            for layer in (*group.rows, *group.norms):
                for name, parameter in strategy.model.get_submodule(layer).named_parameters():
                    self.names.add(f"{layer}.{name}")
                    momentum = strategy.optimizer.state[parameter]["momentum_buffer"]
                    found += [tensor.detach()[~kept].abs().ravel() for tensor in (parameter, momentum)]
            for layer in group.columns:
                weight = strategy.model.get_submodule(layer).weight
                if f"{layer}.weight" in self.pruning.masks:
                    found.append(weight.detach().view(len(weight), group.size, -1)[:, ~kept].abs().ravel())
        self.largest.append(torch.cat(found).max().item())
        self.held.append(sum(map(len, found)))


@pytest.mark.parametrize("carry", [False, True])
def test_removed_channels_stay_silent_through_training(make_learner, make_stream, train, carry):
    pruning = PruningPlugin(PruningParts(score=magnitude, schedule=Progressive(0.8**4.5, 3), structure=Filters()))
    silence = Silence(pruning)
    train(
        AnytimeStrategy(learner=make_learner(carry_momentum=carry, plugins=[silence]), plugins=[pruning]), make_stream()
    )
    assert silence.names == {"1.weight", "2.weight", "2.bias", "4.weight", "4.bias", "8.weight", "8.bias"}
    assert len(silence.largest) == 2 * (1 + 2 + 3)
    assert max(silence.largest) == 0
    assert 1 < silence.held[0] < silence.held[-1]


def test_a_removed_channel_is_exactly_zero_whatever_the_statistics_of_batch_norm(make_learner, make_stream, train):
    pruning = PruningPlugin(PruningParts(score=magnitude, schedule=lambda _: 0.3, structure=Filters()))
    strategy = train(AnytimeStrategy(learner=make_learner(), plugins=[pruning]), make_stream())
    model, groups = strategy.model.eval(), channel_groups(strategy.model)
    model[2].running_mean += 3
    kept = kept_channels(groups, pruning.masks)
    outputs = [model[:3], model[:5], model[:9]]
    assert [group.rows for group in groups] == [("1",), ("4",), ("8",)]
    x = torch.randn(5, 6)
    for layers, channels in zip(outputs, kept, strict=True):
        assert (layers(x)[:, ~channels] == 0).all()
        assert (layers(x)[:, channels] != 0).any()


def test_without_nesting_batch_norm_comes_back_with_its_channel(make_learner, make_stream, train, distribution):
    class Gamma(SupervisedPlugin, supports_distributed=False):
        seen = ()

        def before_training_exp(self, strategy, *args, **kwargs):
            self.seen += (strategy.model[2].weight.detach().clone(),)

    schedule = (0.3, 1.0, 1.0)
    parts = {"score": magnitude, "distribution": distribution("local"), "structure": Filters()}
    pruning = PruningPlugin(PruningParts(schedule=lambda t: schedule[t], nested=False, **parts))
    gamma = Gamma()
    train(AnytimeStrategy(learner=make_learner(), plugins=[pruning, gamma]), make_stream())
    removed = gamma.seen[0] == 0
    assert removed.any()
    assert (gamma.seen[1][removed] == 1).all()


def test_app_prunes_filters_by_name_to_at_most_the_scheduled_density(make_learner, make_stream, train):
    class Densities(SupervisedPlugin, supports_distributed=False):
        seen = ()

        def after_training_exp(self, strategy, *args, **kwargs):
            self.seen += (Masks.of(prunable_weights(strategy.model)).density,)

    strategy = STRATEGIES.load("APP").target(make_learner(), Pruning(structure="filters"))
    densities = Densities()
    strategy.plugins.append(densities)
    train(strategy, make_stream())
    asked = [Progressive(0.8**4.5, 3)(t) for t in range(3)]
    # The coarsest channel of this network, one of the second convolution, holds 54 + 48 of its 666 weights.
    assert all(d - 102 / 666 < applied <= d for applied, d in zip(densities.seen, asked, strict=True))


# Scores for filters


def test_l2_sums_to_the_squared_norm_of_a_filter(resnet):
    for name, score in l2(resnet, ()).items():
        norms = torch.linalg.vector_norm(resnet.get_parameter(name).detach().flatten(1), dim=1)
        torch.testing.assert_close(score.flatten(1).sum(1), norms**2)


def test_bn_scale_ranks_the_scales_of_all_layers_against_each_other():
    """Wide and narrow layers alike; channels go in the order of abs(gamma) over the whole network."""
    torch.manual_seed(0)
    model = MODELS.load("cnn").target(10, 3, 32)
    gammas = torch.randn(80)
    norms = [module for module in model if isinstance(module, nn.BatchNorm2d)]
    for norm, gamma in zip(norms, gammas.split([16, 32, 32]), strict=True):
        norm.weight.data.copy_(gamma)
    scores = bn_scale(model, ())
    masks = Filters().select(model, scores, 0.4, global_ranking)
    kept = torch.cat(kept_channels(channel_groups(model), masks))
    assert gammas.abs()[kept].min() > gammas.abs()[~kept].max()
    assert 0 < kept.sum() < 80


def test_bn_scale_takes_a_layer_without_batch_norm_for_a_fresh_one(make_net):
    model = make_net()
    nn.init.constant_(model[2].weight, -0.3)
    scores = bn_scale(model, ())
    assert (scores["1.weight"] == 0.3).all()
    assert (scores["4.weight"] == 1).all()
    assert (scores["8.weight"] == 1).all()


def test_bn_scale_needs_a_batch_norm(make_net):
    with pytest.raises(ValueError, match="this network has none: use magnitude"):
        bn_scale(make_net(norm=False), ())


@pytest.mark.parametrize("score", [l2, bn_scale, partial(magnitude)])
def test_removed_filters_score_lowest(score, make_net):
    model = make_net()
    masks = Filters().select(model, random_scores(model), 0.3, global_ranking)
    masks.apply_(model)
    for name, zero in Filters().silenced(model, masks).items():
        model.get_parameter(name).data[zero] = 0
    removed = ~kept_channels(channel_groups(model), masks)[0]
    scores = score(model, ())["1.weight"].flatten(1).mean(1)
    assert (scores[removed] == 0).all()
    assert (scores[~removed] > 0).all()
