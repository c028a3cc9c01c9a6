"""What makes GMP, LRR, IMP and static random sparsity what they are."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from avalanche.core import SupervisedPlugin

from strategies.anytime import Pruning
from strategies.pruning.distributions import erdos_renyi_kernel
from strategies.pruning.masks import Masks, kept_count, prunable_weights
from strategies.registry import STRATEGIES

TAU = 4.5
MEGABATCHES = 4


class AtStart(SupervisedPlugin):
    """Notes a copy of the weights at the start of each megabatch, before or after pruning, and at its end."""

    def __init__(self):
        super().__init__()
        self.started, self.ended = [], []

    def before_training_exp(self, strategy, *args, **kwargs):
        self.started.append(state(strategy))

    def after_training_exp(self, strategy, *args, **kwargs):
        self.ended.append(state(strategy))


def state(strategy):
    return {name: value.clone() for name, value in strategy.model.state_dict().items()}


@pytest.fixture
def run(make_learner, make_stream, train):
    """Function: name of a strategy -> its trained weights: before and after pruning, and handed over."""

    def of(name, pruning=None, megabatches=MEGABATCHES, known=True, **settings):
        learner = make_learner(megabatches=megabatches if known else None, epochs=2)
        strategy = STRATEGIES.load(name).target(learner, pruning or Pruning(density=0.8**TAU), **settings)
        before, after = AtStart(), AtStart()
        # Right before the pruning plugin, and after selection.
        strategy.plugins.insert(0, before)
        strategy.plugins.append(after)
        train(strategy, make_stream(samples=200, megabatches=megabatches))
        names = list(prunable_weights(strategy.model))
        return names, before.started, after.started, after.ended

    return of


def flat(names, weights):
    return np.concatenate([weights[name].numpy().ravel() for name in names])


def kept(names, weights):
    return flat(names, weights) != 0


def test_gmp_starts_dense_and_ends_at_the_target_along_the_cubic(run):
    names, _, pruned, _ = run("GMP")
    size = len(flat(names, pruned[0]))
    s_f = 1 - 0.8**TAU
    expected = [kept_count(1 - s_f * (1 - (1 - t / 3) ** 3), size) for t in range(MEGABATCHES)]
    assert [int(kept(names, weights).sum()) for weights in pruned] == expected
    assert expected[0] == size and expected[-1] == kept_count(0.8**TAU, size)


def test_lrr_removes_the_same_fraction_each_time(run):
    names, _, pruned, _ = run("LRR")
    size = len(flat(names, pruned[0]))
    expected = [kept_count(0.8 ** (TAU * t / 3), size) for t in range(MEGABATCHES)]
    assert [int(kept(names, weights).sum()) for weights in pruned] == expected


@pytest.mark.parametrize("name", ["GMP", "LRR", "IMP"])
def test_the_smallest_trained_weights_go_and_masks_are_nested(run, name):
    names, before, pruned, _ = run(name)
    for t in range(1, MEGABATCHES):
        trained, stays = np.abs(flat(names, before[t])), kept(names, pruned[t])
        was = kept(names, pruned[t - 1])
        assert (stays <= was).all() and stays.sum() < was.sum()
        assert trained[stays].min() >= trained[was & ~stays].max()


@pytest.mark.parametrize("name", ["GMP", "LRR"])
def test_what_stays_keeps_its_value(run, name):
    names, before, pruned, _ = run(name)
    for earlier, later in zip(before, pruned, strict=True):
        stays = kept(names, later)
        np.testing.assert_array_equal(flat(names, earlier)[stays], flat(names, later)[stays])


@pytest.mark.parametrize("rewind_to", [0, 1, 2])
def test_imp_rewinds_to_the_weights_of_that_time(run, rewind_to):
    """After ``rewind_to`` megabatches: everything, batch norm too, starts from there again, but for what is pruned."""
    names, before, pruned, _ = run("IMP", rewind_to=rewind_to)
    early = before[rewind_to]
    for t in range(rewind_to + 1, MEGABATCHES):
        for name, value in pruned[t].items():
            expected = torch.where(value != 0, early[name], 0) if name in names else early[name]
            assert torch.equal(value, expected), name
        assert not torch.equal(before[t][names[0]], early[names[0]]), "training had moved them"


def test_imp_rewinds_to_the_initialisation_and_not_to_another(run, make_net):
    names, _, pruned, _ = run("IMP")
    first = make_net(0).state_dict()
    last = flat(names, pruned[-1])
    np.testing.assert_array_equal(last[last != 0], flat(names, first)[last != 0])


def test_imp_starts_without_the_momentum_of_what_it_leaves_behind(make_learner, make_stream, train):
    """Although the recipe carries momentum from megabatch to megabatch, as LRR shows."""

    def momentum(name):
        found = []

        class Note(SupervisedPlugin):
            def before_training_iteration(self, strategy, *args, **kwargs):
                if strategy.clock.train_exp_iterations == 0:
                    found.append(len(strategy.optimizer.state))

        strategy = STRATEGIES.load(name).target(make_learner(carry_momentum=True), Pruning())
        strategy.plugins.append(Note())
        train(strategy, make_stream())
        return found

    assert momentum("IMP") == [0, 0, 0]
    assert momentum("LRR")[1:] != [0, 0]


@pytest.mark.parametrize("name", ["LRR", "IMP"])
def test_rewinding_is_nested_whatever_was_asked(run, name):
    names, _, pruned, _ = run(name, Pruning(density=0.8**TAU, nested=False))
    assert all((kept(names, later) <= kept(names, earlier)).all() for earlier, later in pairwise(pruned))


@pytest.mark.parametrize("name", ["GMP", "LRR", "IMP"])
def test_one_megabatch_ends_at_the_target(run, name):
    names, _, _, ended = run(name, megabatches=1)
    assert kept(names, ended[0]).sum() == kept_count(0.8**TAU, len(kept(names, ended[0])))


@pytest.mark.parametrize("name", ["APP", "GMP", "LRR", "IMP"])
def test_without_the_length_each_megabatch_is_sparser_and_none_as_sparse_as_the_target(run, name):
    names, _, pruned, _ = run(name, known=False)
    counts = [int(kept(names, weights).sum()) for weights in pruned]
    assert sorted(counts, reverse=True) == counts and len(set(counts)) == MEGABATCHES
    assert counts[-1] > kept_count(0.8**TAU, len(flat(names, pruned[0])))


def test_static_random_keeps_one_erk_mask_for_ever(run):
    names, _, pruned, ended = run("static-random", Pruning(density=0.8**TAU, scope="erk"))
    first = Masks({name: pruned[0][name] != 0 for name in names})
    sizes = {name: mask.numel() for name, mask in first.items()}
    expected = erdos_renyi_kernel({n: torch.zeros(m.shape) for n, m in first.items()}, 0.8**TAU, sizes)
    assert {name: int(mask.sum()) for name, mask in first.items()} == expected
    assert all((kept(names, weights) == kept(names, pruned[0])).all() for weights in ended)


def test_static_random_masks_differ_between_seeds(make_learner, make_net, make_stream, train):
    def mask(seed):
        learner = make_learner(seed=seed, make_model=lambda _: make_net(seed), epochs=1)
        strategy = STRATEGIES.load("static-random").target(learner, Pruning(scope="erk"))
        return Masks.of(prunable_weights(train(strategy, make_stream()).model))

    assert mask(0) == mask(0) != mask(1)
