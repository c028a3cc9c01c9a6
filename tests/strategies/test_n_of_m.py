"""N:M keeps the N best of each M consecutive input channels, at every position of the kernel."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from avalanche.core import SupervisedPlugin
from hypothesis import given
from hypothesis import strategies as st

from strategies.anytime import AnytimeStrategy, Pruning
from strategies.pruning.distributions import uniform
from strategies.pruning.masks import Masks, prunable_weights
from strategies.pruning.parts import PruningParts
from strategies.pruning.plugin import PruningPlugin
from strategies.pruning.schedules import Progressive
from strategies.pruning.scores.magnitude import magnitude
from strategies.pruning.structures.n_of_m import NofM
from strategies.registry import STRATEGIES

values = st.sampled_from([0.0, -0.0, 1.0, 2.0, -1.0, math.nan, math.inf, -math.inf]) | st.floats(-9, 9, width=32)
patterns = st.tuples(st.integers(1, 5), st.integers(1, 5)).map(sorted)


def select(scores, n, m, density=0.0, within=None):
    return NofM(n, m).select(torch.nn.Identity(), scores, density, uniform, within)


def random_layer(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def groups_of(weight, m):
    """(output channel, group, kernel position) -> the entries of one group, with its number of channels."""
    flat = weight.reshape(weight.shape[0], weight.shape[1], -1)
    for o in range(flat.shape[0]):
        for position in range(flat.shape[2]):
            for start in range(0, flat.shape[1], m):
                yield flat[o, start : start + m, position]


def kept_per_group(mask, m):
    return [(int(group.sum()), len(group)) for group in groups_of(mask, m)]


@st.composite
def layers(draw):
    channels = draw(st.integers(1, 9))
    kernel = draw(st.sampled_from([(), (1, 1), (1, 3)]))
    shape = (draw(st.integers(1, 2)), channels, *kernel)
    entries = draw(st.lists(values, min_size=math.prod(shape), max_size=math.prod(shape)))
    return torch.tensor(entries).reshape(shape)


@given(layers(), patterns)
def test_the_best_of_each_group_stay_and_of_tied_ones_the_earlier(score, pattern):
    """NaN counts as the lowest finite number, before minus infinity."""
    n, m = pattern
    mask = select({"w": score}, n, m)["w"]
    assert mask.shape == score.shape
    for scores, kept in zip(groups_of(score.numpy(), m), groups_of(mask.numpy(), m), strict=True):
        rank = [float(np.finfo(np.float32).min) if math.isnan(value) else value for value in scores.tolist()]
        best = sorted(range(len(rank)), key=lambda i, rank=rank: (-rank[i], i))[:n]
        assert np.flatnonzero(kept).tolist() == sorted(best)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("n", "m"), [(1, 2), (2, 4), (1, 4), (4, 8), (3, 3)])
def test_each_full_group_keeps_exactly_n(n, m, memory_format):
    score = random_layer(8, 16, 3, 3).contiguous(memory_format=memory_format)
    counts = kept_per_group(select({"w": score}, n, m)["w"], m)
    assert all(kept == min(n, size) for kept, size in counts)
    assert {size for _, size in counts} >= {m}


@pytest.mark.parametrize(("channels", "expected"), [(1, [1]), (3, [2]), (5, [2, 1]), (6, [2, 2]), (7, [2, 2])])
def test_a_last_group_that_is_smaller_keeps_as_many_as_it_can(channels, expected):
    mask = select({"stem": random_layer(1, channels, 1, 1)}, 2, 4)["stem"]
    assert [kept for kept, _ in kept_per_group(mask, 4)] == expected


def test_linear_layers_have_groups_of_inputs():
    mask = select({"w": random_layer(6, 8)}, 2, 4)["w"]
    assert (mask.reshape(6, 2, 4).sum(-1) == 2).all()


def test_groups_lie_along_input_channels_and_not_along_the_kernel():
    score = torch.arange(4.0).reshape(1, 4, 1, 1) + torch.zeros(1, 4, 2, 2)
    assert select({"w": score}, 1, 4)["w"][0].flatten(1).all(1).tolist() == [False, False, False, True]


@pytest.mark.parametrize(
    ("density", "kept"),
    [(1.0, 4), (0.8, 4), (0.75, 3), (0.6, 3), (0.51, 3), (0.5, 2), (0.366, 2), (0.0, 2)],
)
def test_on_the_way_a_density_keeps_the_smallest_number_of_each_m_that_is_enough(density, kept):
    mask = select({"w": random_layer(4, 8, 3, 3)}, 2, 4, density)["w"]
    assert {count for count, _ in kept_per_group(mask, 4)} == {kept}


def test_a_density_that_is_met_up_to_rounding_is_met():
    density = 0.8 ** math.log(0.25, 0.8)
    assert 0.25 < density < 0.25 + 1e-15
    mask = select({"w": random_layer(4, 8, 3, 3)}, 1, 4, density)["w"]
    assert {count for count, _ in kept_per_group(mask, 4)} == {1}


@given(layers(), layers(), patterns)
def test_nested_masks_are_subsets_and_stay_in_the_pattern(first, second, pattern):
    n, m = pattern
    second = second.flatten().repeat(first.numel())[: first.numel()].reshape(first.shape)
    wide = select({"w": first}, n, m, density=1.0 if n == m else (n + 1) / m)
    narrow = select({"w": second}, n, m, within=wide)
    assert narrow <= wide
    assert all(kept == min(n, size) for kept, size in kept_per_group(narrow["w"], m))


@given(layers(), st.integers(0, 9))
def test_within_any_masks_at_most_n_stay_and_only_weights_kept_there(score, seed):
    within = Masks({"w": random_layer(*score.shape, seed=seed) > 0.5})
    chosen = select({"w": score}, 2, 4, within=within)
    assert chosen <= within
    available = [count for count, _ in kept_per_group(within["w"], 4)]
    assert [count for count, _ in kept_per_group(chosen["w"], 4)] == [min(2, count) for count in available]


@pytest.mark.parametrize(("n", "m"), [(0, 4), (5, 4), (-1, 4), (0, 0)])
def test_an_impossible_pattern_is_refused(n, m):
    with pytest.raises(ValueError, match=rf"0 < N <= M; got {n}:{m}"):
        NofM(n, m)


def test_nothing_else_is_silenced(make_net):
    model = make_net()
    assert NofM(2, 4).silenced(model, Masks.full(prunable_weights(model))) == {}


class Patterns(SupervisedPlugin, supports_distributed=False):
    """After every update: the most nonzeros found in a group of four, in weights and in their momentum."""

    def __init__(self):
        super().__init__()
        self.most = []

    def after_update(self, strategy, *args, **kwargs):
        tensors = []
        for weight in prunable_weights(strategy.model).values():
            tensors += [weight.detach(), strategy.optimizer.state[weight]["momentum_buffer"]]
        self.most.append(max(kept for tensor in tensors for kept, _ in kept_per_group(tensor != 0, 4)))


def test_weights_stay_in_the_pattern_through_training(make_learner, make_stream, train):
    pruning = PruningPlugin(PruningParts(score=magnitude, schedule=Progressive(0.8**4.5, 3), structure=NofM(2, 4)))
    patterns = Patterns()
    strategy = train(AnytimeStrategy(learner=make_learner(plugins=[patterns]), plugins=[pruning]), make_stream())
    densities = [Progressive(0.8**4.5, 3)(t) for t in range(3)]
    allowed = [max(2, math.ceil(4 * density)) for density in densities]
    assert allowed == [4, 3, 2]
    assert patterns.most == [most for t, most in enumerate(allowed) for _ in range(2 * (t + 1))]
    for name, weight in prunable_weights(strategy.model).items():
        assert all(kept == min(2, size) for kept, size in kept_per_group(weight != 0, 4)), name


def test_app_takes_the_pattern_by_its_numbers(make_learner, make_stream, train):
    strategy = STRATEGIES.load("APP").target(make_learner(), Pruning(structure="1:3", density=0.8**9.0))
    train(strategy, make_stream())
    for weight in prunable_weights(strategy.model).values():
        assert all(kept <= 1 for kept, _ in kept_per_group(weight != 0, 3))
