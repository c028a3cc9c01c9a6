"""Distributions divide exactly round(density * n) kept weights among the layers."""

from __future__ import annotations

import math
import re
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmark.registry import MODELS
from strategies.pruning.distributions import (
    PerLayer,
    apportion,
    erdos_renyi_kernel,
    global_ranking,
    matches,
    uniform,
    unmatched,
)
from strategies.pruning.masks import kept_count, prunable_weights
from strategies.registry import DISTRIBUTIONS

densities = st.floats(0, 1)
layers = st.lists(st.tuples(st.integers(1, 200), st.integers(0, 200)), min_size=1, max_size=8).map(
    lambda pairs: [(size, min(size, capacity)) for size, capacity in pairs]
)


@pytest.fixture(scope="module")
def resnet_scores():
    return {n: torch.rand_like(w) for n, w in prunable_weights(MODELS.load("resnet20s_1x1").target(10, 3, 32)).items()}


def layer_scores(sizes):
    generator = torch.Generator().manual_seed(0)
    return {str(i): torch.rand(size, generator=generator) for i, size in enumerate(sizes)}


def filled(shares, capacity, total):
    """Exact amounts in proportion to ``shares``; what a full layer cannot take goes to the others."""
    amounts, free = {}, dict(shares)
    while free:
        scale = Fraction(total - sum(amounts.values())) / sum(free.values())
        full = [name for name in free if free[name] * scale > capacity[name]]
        if not full:
            return amounts | {name: share * scale for name, share in free.items()}
        for name in full:
            amounts[name] = Fraction(capacity[name])
            del free[name]
    return amounts


@given(layers, densities, st.data())
def test_apportion_rounds_by_largest_remainder_to_the_exact_sum(sizes_and_capacities, density, data):
    scores = layer_scores([size for size, _ in sizes_and_capacities])
    capacity = {str(i): room for i, (_, room) in enumerate(sizes_and_capacities)}
    shares = {name: data.draw(st.integers(1, 1000)) for name in scores}
    counts = apportion({name: float(share) for name, share in shares.items()}, density, capacity, scores)
    size = sum(score.numel() for score in scores.values())
    total = min(kept_count(density, size), sum(capacity.values()))
    exact = filled({name: Fraction(share) for name, share in shares.items()}, capacity, total)
    assert list(counts) == list(scores)
    assert sum(counts.values()) == total
    assert all(0 <= count <= capacity[name] for name, count in counts.items())
    above = [counts[name] - exact[name] for name in counts]
    assert max(above) - min(above) <= 1 + 1e-9


@pytest.mark.parametrize("name", DISTRIBUTIONS.names())
@given(layers, densities, st.sampled_from(["random", "zero", "nan", "one layer"]))
def test_every_distribution_keeps_the_exact_total_within_capacity(
    distribution, name, sizes_and_capacities, density, kind
):
    scores = layer_scores([size for size, _ in sizes_and_capacities])
    capacity = {str(i): room for i, (_, room) in enumerate(sizes_and_capacities)}
    if kind == "one layer":
        scores["0"] += 10
    elif kind != "random":
        scores = {layer: torch.full_like(score, 0 if kind == "zero" else math.nan) for layer, score in scores.items()}
    for layer, score in scores.items():
        score[capacity[layer] :] = -torch.inf
    counts = distribution(name)(scores, density, capacity)
    size = sum(score.numel() for score in scores.values())
    assert sum(counts.values()) == min(kept_count(density, size), sum(capacity.values()))
    assert all(0 <= counts[layer] <= capacity[layer] for layer in scores)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=5), densities)
def test_global_ranking_keeps_the_highest_of_the_whole_network(sizes, density):
    scores = layer_scores(sizes)
    everything = np.concatenate([score.numpy() for score in scores.values()])
    threshold = np.sort(everything)[::-1][: kept_count(density, len(everything))]
    counts = global_ranking(scores, density, dict(zip(scores, sizes, strict=True)))
    for name, score in scores.items():
        assert counts[name] == np.isin(score.numpy(), threshold).sum()


@given(st.lists(st.integers(1, 500), min_size=1, max_size=8), densities)
def test_uniform_keeps_the_same_fraction_of_each_layer(sizes, density):
    scores = layer_scores(sizes)
    counts = uniform(scores, density, dict(zip(scores, sizes, strict=True)))
    applied = Fraction(kept_count(density, sum(sizes)), sum(sizes))
    assert all(abs(counts[name] - applied * size) < 1 + 1e-9 for name, size in zip(scores, sizes, strict=True))


@pytest.mark.parametrize("density", [0.02, 0.1, 0.366, 0.8**4.5, 0.5, 0.8, 0.95, 1.0])
def test_erk_reaches_the_target_although_layers_saturate(resnet_scores, density):
    sizes = {name: score.numel() for name, score in resnet_scores.items()}
    counts = erdos_renyi_kernel(resnet_scores, density, sizes)
    assert sum(counts.values()) == kept_count(density, sum(sizes.values()))
    assert all(count <= sizes[name] for name, count in counts.items())


def test_clamped_erk_without_redistribution_would_miss_the_target(resnet_scores):
    sizes = {name: score.numel() for name, score in resnet_scores.items()}
    shares = {name: sum(score.shape) for name, score in resnet_scores.items()}
    scale = 0.366 * sum(sizes.values()) / sum(shares.values())
    clamped = sum(min(sizes[name], share * scale) for name, share in shares.items()) / sum(sizes.values())
    assert clamped < 0.34
    counts = erdos_renyi_kernel(resnet_scores, 0.366, sizes)
    assert any(counts[name] == sizes[name] for name in sizes)
    assert sum(counts.values()) == round(0.366 * sum(sizes.values()))


@pytest.mark.parametrize("density", [0.02, 0.366])
def test_erk_densities_follow_the_sum_of_dimensions_over_their_product(resnet_scores, density):
    counts = erdos_renyi_kernel(resnet_scores, density, {name: s.numel() for name, s in resnet_scores.items()})
    free = {name: counts[name] for name, score in resnet_scores.items() if counts[name] < score.numel()}
    scale = sum(free.values()) / sum(sum(resnet_scores[name].shape) for name in free)
    for name, count in free.items():
        out_channels, in_channels, height, width = resnet_scores[name].shape
        assert count == pytest.approx(scale * (out_channels + in_channels + height + width), abs=1)


@pytest.mark.parametrize("name", DISTRIBUTIONS.names())
def test_an_impossible_density_is_refused(name, distribution):
    with pytest.raises(ValueError, match="density is the kept fraction"):
        distribution(name)({"a": torch.ones(4)}, 1.5, {"a": 4})


def test_custom_densities_are_relative_and_add_up(resnet_scores):
    """Half of the density for one stage, and the stem left as full as it can be."""
    custom = PerLayer({"blocks.[6-8].*": 0.5, "conv1": 1e9})
    sizes = {name: score.numel() for name, score in resnet_scores.items()}
    counts = custom(resnet_scores, 0.3, sizes)
    assert sum(counts.values()) == kept_count(0.3, sum(sizes.values()))
    assert counts["conv1.weight"] == sizes["conv1.weight"]
    densities = {name: counts[name] / sizes[name] for name in sizes if name != "conv1.weight"}
    halved = [d for name, d in densities.items() if re.match(r"blocks\.[6-8]\.", name)]
    whole = [d for name, d in densities.items() if not re.match(r"blocks\.[6-8]\.", name)]
    assert halved == pytest.approx([halved[0]] * len(halved), abs=2e-3)
    assert whole == pytest.approx([2 * halved[0]] * len(whole), abs=4e-3)


def test_of_several_patterns_the_last_one_counts():
    custom = PerLayer({"*": 0.1, "blocks.0.*": 0.2, "blocks.0.conv1": 0.3})
    names = ("conv1.weight", "blocks.0.conv2.weight", "blocks.0.conv1.weight")
    assert [custom.relative(name) for name in names] == [0.1, 0.2, 0.3]
    assert PerLayer({"other": 0.1}).relative("conv1.weight") == 1.0


def test_patterns_that_name_no_layer_are_found(resnet_scores):
    assert unmatched(["conv1", "blocks.*", "layer9", "conv1.weight"], resnet_scores) == ["layer9", "conv1.weight"]
    assert matches("conv1", "conv1.weight") and not matches("conv1", "blocks.0.conv1.weight")
