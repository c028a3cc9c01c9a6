"""Controls: masks shuffled within layers, weights drawn anew, scores inverted; all else stays as it is."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from avalanche.core import SupervisedPlugin
from hypothesis import given
from hypothesis import strategies as st

from strategies.anytime import Pruning
from strategies.pruning.controls import Inverted, shuffled
from strategies.pruning.masks import Masks, prunable_weights
from strategies.pruning.plugin import PruningPlugin
from strategies.pruning.scores.force import force
from strategies.pruning.scores.magnitude import magnitude
from strategies.registry import STRATEGIES

CONTROLLED = [
    name
    for name in STRATEGIES.names()
    # The stream here has one task with all classes.
    if "control" in (traits := STRATEGIES.load(name).traits).options and not traits.needs_new_classes
]

DENSE_AT_FIRST = ("GMP", "IMP", "LRR")
"""They prune nothing at the first megabatch."""


class MaskDiary(SupervisedPlugin, supports_distributed=False):
    """Weights and masks as training begins, in each megabatch."""

    def __init__(self):
        super().__init__()
        self.begun = []

    def before_training_epoch(self, strategy, *args, **kwargs):
        if strategy.clock.train_exp_epochs == 0:
            pruning = next(plugin for plugin in strategy.plugins if isinstance(plugin, PruningPlugin))
            weights = {name: w.detach().clone() for name, w in prunable_weights(strategy.model).items()}
            self.begun.append((weights, pruning.masks))


@pytest.fixture
def begun(make_learner, make_stream, train):
    """Function: strategy, control, options -> weights and masks as training begins, in each of three megabatches."""

    def run(name, control, **options):
        diary = MaskDiary()
        defaults = {"schedule": "exponent"} if STRATEGIES.load(name).traits.defaults.get("schedule") else {}
        pruning = Pruning(control=control, **{**defaults, **options})
        train(STRATEGIES.load(name).target(make_learner(plugins=[diary]), pruning), make_stream())
        return diary.begun

    return run


def counts(masks):
    return {name: int(mask.sum()) for name, mask in masks.items()}


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 5))
def test_shuffling_keeps_each_layers_count_and_stays_within(kept, allowed, seed):
    generator = torch.Generator().manual_seed(seed)
    places = torch.randperm(60, generator=generator)
    within, mask = torch.zeros(60, dtype=torch.bool), torch.zeros(60, dtype=torch.bool)
    within[places[:allowed]] = True
    mask[places[: min(kept, allowed)]] = True
    masks, limit = Masks({"w": mask.reshape(3, 20)}), Masks({"w": within.reshape(3, 20)})
    drawn = shuffled(masks, limit, generator)
    assert counts(drawn) == counts(masks) and drawn <= limit
    assert counts(shuffled(masks, None, generator)) == counts(masks)


def test_shuffling_moves_weights(make_net):
    scores = magnitude(make_net(), ())
    masks = Masks({name: score > score.median() for name, score in scores.items()})
    assert shuffled(masks, None, torch.Generator().manual_seed(0)) != masks


def test_inverting_turns_the_order_around_and_hands_on_what_a_score_is_called_with(make_net):
    model = make_net()
    plain, turned = magnitude(model, ()), Inverted(magnitude)(model, ())
    assert all(torch.equal(turned[name], -score) for name, score in plain.items())
    x, y = torch.randn(8, 6), torch.arange(8) % 3
    masks = Masks.full(prunable_weights(model))
    plain, turned = force(model, [((x,), y)], masks=masks), Inverted(force)(model, [((x,), y)], masks=masks)
    assert all(torch.equal(turned[name], -score) for name, score in plain.items())


@pytest.mark.parametrize("name", [name for name in CONTROLLED if name not in DENSE_AT_FIRST])
def test_shuffled_masks_have_the_layer_counts_of_the_pruners_own_at_first(begun, name):
    """Later masks depend on what was trained with the first ones."""
    own, moved = begun(name, "none", score="magnitude")[0], begun(name, "shuffle", score="magnitude")[0]
    assert counts(own[1]) == counts(moved[1]) and own[1] != moved[1]
    assert all(torch.equal(w != 0, moved[1][n]) for n, w in moved[0].items())


@pytest.mark.parametrize("name", CONTROLLED)
@pytest.mark.parametrize("control", ["shuffle", "invert"])
def test_nested_masks_stay_nested_and_at_their_density(begun, name, control):
    own, checked = begun(name, "none"), begun(name, control)
    # What an intersection of masks leaves depends on where they are.
    until = 1 if name == "APP-reference" else None
    assert [masks.nonzeros for _, masks in own[:until]] == [masks.nonzeros for _, masks in checked[:until]]
    assert all(later[1] <= earlier[1] for earlier, later in pairwise(checked))
    assert own[-1][1] != checked[-1][1]


def test_inverted_magnitudes_keep_the_smallest_weights(begun, make_net):
    _, masks = begun("OSP", "invert", score="magnitude")[0]
    initial = {name: w.detach().abs() for name, w in prunable_weights(make_net(0)).items()}
    kept = torch.cat([initial[name][masks[name]] for name in masks])
    pruned = torch.cat([initial[name][~masks[name]] for name in masks])
    assert kept.max() <= pruned.min()


@pytest.mark.parametrize("name", ["OSP", "APP", "IMP"])
def test_weights_drawn_anew_are_another_initialisation_under_the_same_kind_of_mask(begun, name, make_net):
    runs = begun(name, "reinitialise")
    once = name == "OSP"
    for t, (weights, masks) in enumerate(runs):
        if masks.density == 1 or (once and t > 0):
            continue
        fresh = dict(prunable_weights(make_net(1 + t)))
        assert all(torch.equal(w, torch.where(masks[n], fresh[n], 0)) for n, w in weights.items())
    own = begun(name, "none")
    first = 0 if once or name == "APP" else 1
    assert runs[first][1] == own[first][1], "the mask is the pruner's own; only the weights are not"
