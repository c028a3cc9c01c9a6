"""The plugin prunes to exactly the density asked for, and pruned weights stay at zero."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from dataclasses import replace
from functools import partial
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from avalanche.core import SupervisedPlugin
from avalanche.training.supervised import EWC, Naive, Replay
from hypothesis import given
from hypothesis import strategies as st
from states import Diary, copied
from torch import nn
from torch.optim import SGD, Adam

from strategies import app_reference
from strategies.anytime import AnytimeStrategy, Pruning
from strategies.app_reference import ReferencePruning
from strategies.learning.selection import BestValidation
from strategies.pruning import plugin as plugin_module
from strategies.pruning.distributions import global_ranking
from strategies.pruning.masks import EmptyLayerWarning, Masks, kept_count, prunable_weights
from strategies.pruning.parts import PruningParts
from strategies.pruning.plugin import PruningPlugin
from strategies.pruning.schedules import Progressive
from strategies.pruning.scores import weights_and_gradients
from strategies.pruning.scores.snip import snip
from strategies.pruning.structures import select
from strategies.registry import DISTRIBUTIONS, SCORES, STRATEGIES

CRITERION = nn.CrossEntropyLoss()
NATIVES = {
    "Naive": partial(Naive, criterion=CRITERION),
    "Replay": partial(Replay, criterion=CRITERION, mem_size=12),
    "EWC": partial(EWC, criterion=CRITERION, ewc_lambda=0.4),
}
OPTIMIZERS = {
    "SGD": partial(SGD, lr=0.05, momentum=0.9, weight_decay=1e-2),
    "Adam": partial(Adam, lr=0.01, weight_decay=1e-2),
}
SIZE = 54 + 324 + 288
"""Prunable weights of the network of ``make_net``."""


class Zeros(SupervisedPlugin, supports_distributed=False):
    """After every update: how many weights are kept, and the largest thing found where a weight is pruned."""

    def __init__(self, pruning):
        super().__init__()
        self.pruning = pruning
        self.kept = []
        self.largest = []

    def after_update(self, strategy, *args, **kwargs):
        weights = prunable_weights(strategy.model)
        found = [torch.zeros(1)]
        for name, weight in weights.items():
            state = [v for v in strategy.optimizer.state[weight].values() if v.shape == weight.shape]
            assert state
            found += [tensor.detach()[~self.pruning.masks[name]].abs() for tensor in (weight, *state)]
        self.largest.append(torch.cat(found).max().item())
        self.kept.append(Masks.of(weights).nonzeros)


def nonzeros(strategy):
    return Masks.of(prunable_weights(strategy.model)).nonzeros


def plugin_of(strategy):
    return next(plugin for plugin in strategy.plugins if isinstance(plugin, PruningPlugin))


def make_pruning(score=snip, schedule=None, distribution=global_ranking, **options):
    return PruningPlugin(
        PruningParts(score=score, distribution=distribution, schedule=schedule or Progressive(0.8**4.5, 3), **options)
    )


@pytest.fixture(scope="module")
def stream(make_stream):
    return make_stream()


@pytest.fixture
def native(make_net):
    """Function: name, plugins -> one of Avalanche's own strategies."""

    def make(name, plugins, optimizer="SGD", **options):
        model = make_net()
        own = {"train_mb_size": 16, "train_epochs": 2, "evaluator": None, **options}
        return NATIVES[name](model=model, optimizer=OPTIMIZERS[optimizer](model.parameters()), plugins=plugins, **own)

    return make


# Which weights are kept


@pytest.mark.parametrize("scope", DISTRIBUTIONS.names())
@pytest.mark.parametrize("value", [0.0, 1.0, math.nan, math.inf, None], ids=str)
@pytest.mark.parametrize("density", [0.9, 0.8**4.5, 0.1])
def test_ties_zeros_and_nan_keep_the_exact_count(make_net, scope, value, density, distribution):
    scores = {name: torch.full_like(w, value or 0).detach() for name, w in prunable_weights(make_net()).items()}
    if value is None:
        scores = {
            name: torch.where(torch.rand_like(s) < 0.5, math.nan, torch.rand_like(s)) for name, s in scores.items()
        }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EmptyLayerWarning)
        masks = select(scores, density, distribution(scope))
        assert masks.nonzeros == round(density * SIZE)
        fewer = select(scores, density / 2, distribution(scope), within=masks)
    assert fewer.nonzeros == round(density / 2 * SIZE)
    assert fewer <= masks


def twelve(values):
    return st.lists(values, min_size=12, max_size=12)


@pytest.mark.parametrize("lowest", [math.nan, -math.inf], ids=str)
@pytest.mark.parametrize("scope", DISTRIBUTIONS.names())
@given(twelve(st.sampled_from([0.0, 1.0, -1.0, math.inf, None])), twelve(st.booleans()), st.floats(0, 1))
def test_no_score_revives_a_weight_outside_the_mask(distribution, scope, lowest, values, kept, density):
    values = [lowest if value is None else value for value in values]
    scores = {"a": torch.tensor(values[:8]).reshape(2, 4), "b": torch.tensor(values[8:])}
    within = Masks({"a": torch.tensor(kept[:8]).reshape(2, 4), "b": torch.tensor(kept[8:])})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EmptyLayerWarning)
        chosen = select(scores, density, distribution(scope), within)
    assert chosen <= within
    assert chosen.nonzeros == min(kept_count(density, 12), sum(kept))


def test_emptying_a_layer_warns_and_keeping_one_weight_does_not():
    scores = {"weak": torch.zeros(10), "strong": torch.ones(10)}
    with pytest.warns(EmptyLayerWarning, match="weak"):
        select(scores, 0.5, global_ranking)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        select(scores, 0.55, global_ranking)


# What training does to the kept and the pruned


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", NATIVES)
def test_pruned_weights_and_their_momentum_are_zero_after_every_update(native, train, stream, name, optimizer):
    pruning = make_pruning()
    zeros = Zeros(pruning)
    strategy = train(native(name, [pruning, zeros], optimizer), stream)
    assert zeros.largest == [0.0] * strategy.clock.train_iterations
    steps = strategy.clock.train_iterations // 3
    densities = [kept_count(Progressive(0.8**4.5, 3)(t), SIZE) for t in range(3) for _ in range(steps)]
    assert zeros.kept == densities


@pytest.mark.parametrize("carry", [False, True])
def test_pruned_weights_stay_zero_while_the_anytime_learner_trains(make_learner, train, stream, carry):
    pruning = make_pruning()
    zeros = Zeros(pruning)
    train(AnytimeStrategy(learner=make_learner(carry_momentum=carry, plugins=[zeros]), plugins=[pruning]), stream)
    assert len(zeros.largest) == 2 * (1 + 2 + 3)
    assert max(zeros.largest) == 0


def test_pruned_weights_stay_zero_when_training_diverges(native, train, stream):
    pruning = make_pruning()
    strategy = native("Naive", [pruning])
    strategy.optimizer.param_groups[0]["lr"] = 1e30
    train(strategy, stream)
    assert not all(torch.isfinite(weight).all() for weight in strategy.model.parameters())
    for name, weight in prunable_weights(strategy.model).items():
        assert (weight[~pruning.masks[name]] == 0).all()


@pytest.mark.parametrize("scope", DISTRIBUTIONS.names())
@pytest.mark.parametrize("score", SCORES.names())
def test_applied_density_is_the_requested_one_after_every_megabatch(make_learner, make_stream, train, score, scope):
    learner = make_learner(megabatches=4, epochs=1)
    strategy = STRATEGIES.load("APP").target(learner, Pruning(score=score, scope=scope))
    diary = Diary(nonzeros)
    strategy.plugins.append(diary)
    train(strategy, make_stream(megabatches=4))
    assert diary.ended == [round(0.8**s * SIZE) for s in np.linspace(1, 4.5, 4)]


@pytest.mark.parametrize("name", ["APP", "OSP"])
def test_one_megabatch_reaches_the_target_density(make_learner, make_stream, train, name):
    strategy = STRATEGIES.load(name).target(make_learner(megabatches=1), Pruning())
    train(strategy, make_stream(megabatches=1))
    assert nonzeros(strategy) == round(0.8**4.5 * SIZE)


def test_pruning_to_density_one_changes_nothing(make_learner, train, stream):
    trained = [
        train(AnytimeStrategy(learner=make_learner(), plugins=plugins), stream).model.state_dict()
        for plugins in ([], [make_pruning(schedule=lambda _: 1.0)])
    ]
    assert all(torch.equal(value, trained[1][name]) for name, value in trained[0].items())


# Nested masks, and masks whose weights come back


def test_nested_masks_are_subsets(native, train, stream):
    pruning = make_pruning(score=SCORES.load("random").target)
    diary = Diary(lambda _: pruning.masks)
    train(native("Naive", [pruning, diary]), stream)
    assert diary.started[2] <= diary.started[1] <= diary.started[0]
    assert diary.started[2] != diary.started[0]


def test_without_nesting_weights_come_back_with_the_value_they_had(make_learner, make_stream, weights_of, train):
    pruning = make_pruning(score=SCORES.load("random").target, schedule=lambda t: (0.7, 0.3, 0.6, 0.5)[t], nested=False)
    before = Diary(lambda strategy: weights_of(strategy.model))
    after = Diary(lambda strategy: weights_of(strategy.model))
    train(AnytimeStrategy(learner=make_learner(), plugins=[before, pruning, after]), make_stream(megabatches=4))
    held = np.zeros(SIZE)
    for t in range(4):
        was_kept = np.ones(SIZE, bool) if t == 0 else after.started[t - 1] != 0
        is_kept = after.started[t] != 0
        held = np.where(was_kept, before.started[t], held)
        assert is_kept.sum() == kept_count((0.7, 0.3, 0.6, 0.5)[t], SIZE)
        np.testing.assert_array_equal(after.started[t], np.where(is_kept, held, 0))
        assert t == 0 or (is_kept & ~was_kept).any()


def test_without_nesting_the_global_order_decides_anew(native, train, stream, distribution):
    def forward_then_backward(model, batches):
        sign = -1 if pruning.masks else 1
        return {n: sign * torch.arange(w.numel()).reshape(w.shape).float() for n, w in prunable_weights(model).items()}

    local = {"distribution": distribution("local"), "nested": False}
    pruning = make_pruning(forward_then_backward, schedule=lambda _: 0.5, **local)
    diary = Diary(lambda _: pruning.masks)
    train(native("Naive", [pruning, diary]), stream)
    assert (diary.started[0] & diary.started[1]).nonzeros == 0


def test_one_shot_pruning_never_changes_its_mask(make_learner, train, stream):
    strategy = STRATEGIES.load("OSP").target(make_learner(), Pruning())
    diary = Diary(lambda s: (plugin_of(s).masks, Masks.of(prunable_weights(s.model))))
    strategy.plugins.append(diary)
    train(strategy, stream)
    first, _ = diary.started[0]
    assert all(masks == first for masks, _ in diary.started) and all(kept == first for _, kept in diary.ended)
    assert first.nonzeros == round(0.8**4.5 * SIZE)


def test_the_dense_baseline_prunes_nothing(make_learner, train, stream):
    assert nonzeros(train(STRATEGIES.load("dense").target(make_learner(), Pruning()), stream)) == SIZE


# What is scored


class Scorer:
    """SNIP that remembers the numbers of the samples it was given and the model's state."""

    def __init__(self, numbers):
        self.numbers = numbers
        self.samples, self.batches, self.models = [], [], []

    def __call__(self, model, batches):
        return snip(model, self.remember(model, batches))

    def gradients(self, model, batches):
        return weights_and_gradients(model, self.remember(model, batches))

    def remember(self, model, batches):
        batches = list(batches)
        self.models.append({name: value.clone() for name, value in model.state_dict().items()})
        self.samples.append(sorted(number for (x,), _ in batches for number in self.numbers(x)))
        self.batches.append([len(y) for _, y in batches])
        return batches


@pytest.mark.parametrize("replay", ["full", "none", "last"])
def test_the_scoring_sample_is_a_fifth_of_a_megabatch_out_of_what_is_trained_on(
    make_learner, train, stream, numbers, replay
):
    scorer = Scorer(numbers)
    pruning = make_pruning(scorer)
    diary = Diary(lambda strategy: set(strategy.adapted_dataset.sample_id))
    train(AnytimeStrategy(learner=make_learner(replay=replay), plugins=[pruning, diary]), stream)
    for trained_on, scored in zip(diary.started, scorer.samples, strict=True):
        assert len(scored) == len(set(scored)) == round(0.2 * 16)
        assert set(scored) <= trained_on
    assert pruning.scored_samples == 3 * round(0.2 * 16)


def test_scoring_reaches_back_to_replayed_megabatches(make_learner, train, make_stream, numbers):
    scorer = Scorer(numbers)
    stream = make_stream(samples=240)
    train(AnytimeStrategy(learner=make_learner(epochs=1), plugins=[make_pruning(scorer)]), stream)
    newest = set(stream.train_stream[2].dataset.sample_id)
    assert 0 < len(newest & set(scorer.samples[2])) < len(scorer.samples[2])


@pytest.mark.parametrize("size", [3, 7, 100])
def test_scoring_sees_remembered_samples_as_often_as_training(make_learner, train, make_stream, numbers, size):
    class InOrder(Scorer):
        def remember(self, model, batches):
            batches = list(batches)
            self.samples.append([number for (x,), _ in batches for number in self.numbers(x)])
            return batches

    scorer, stream = InOrder(numbers), make_stream(samples=480)
    learner = make_learner(epochs=1, replay="interleaved", buffer_size=size)
    train(AnytimeStrategy(learner=learner, plugins=[make_pruning(scorer)]), stream)
    mixed = 0
    for experience, scored in zip(stream.train_stream, scorer.samples, strict=True):
        newest = [one for one in scored if one in set(experience.dataset.sample_id)]
        earlier = Counter(one for one in scored if one not in set(newest))
        assert len(scored) == round(0.2 * len(experience.dataset)) and len(newest) == len(set(newest))
        assert earlier.total() == (len(scored) // 2 if experience.current_experience else 0)
        assert len(earlier) == min(size, earlier.total()) and max(earlier.values(), default=0) <= -(
            -earlier.total() // size
        )
        first = scored[: len(scored) // 2]
        mixed += 0 < sum(one in earlier for one in first) < len(first)
    assert mixed == 2, "old and new ones stand in one batch"


def test_scoring_never_sees_augmented_images(make_learner, train, make_stream, numbers):
    scorer = Scorer(numbers)
    stream = make_stream(train_transform=lambda x: x + 1000)
    train(AnytimeStrategy(learner=make_learner(epochs=1), plugins=[make_pruning(scorer)]), stream)
    assert max(max(samples) for samples in scorer.samples) < 60


def test_the_scoring_sample_depends_on_the_seed_and_the_megabatch(native, train, stream, numbers):
    def scored(seed):
        scorer = Scorer(numbers)
        train(native("Naive", [make_pruning(scorer, seed=seed)]), stream)
        return scorer.samples

    assert scored(0) == scored(0) != scored(1)


def test_a_second_look_at_one_megabatch_scores_other_samples(native, stream, numbers):
    scorer = Scorer(numbers)
    strategy = native("Naive", [make_pruning(scorer, sample_fraction=0.5)])
    for _ in range(2):
        strategy.train(stream.train_stream[0], eval_streams=[])
    assert scorer.samples[0] != scorer.samples[1]


@pytest.mark.parametrize("size", [5, 8, 9, 13, 57, 240])
def test_a_scoring_set_is_cut_into_near_equal_batches(make_stream, native, monkeypatch, numbers, size):
    """A last batch of one sample would put batch norm in front of nothing to normalise over."""
    monkeypatch.setattr(plugin_module, "SCORING_BATCH", 8)
    scorer = Scorer(numbers)
    strategy = native("Naive", [make_pruning(scorer, sample_fraction=1.0)], train_epochs=1)
    stream = make_stream(samples=2 * size, megabatches=1, val_fraction=0.5)
    strategy.train(stream.train_stream[0], eval_streams=[])
    sizes = scorer.batches[0]
    assert sum(sizes) == size
    assert max(sizes) <= 8
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("score", ["magnitude", "random"])
def test_scores_without_data_cost_no_samples(native, train, stream, score):
    pruning = make_pruning(SCORES.load(score).target)
    train(native("Naive", [pruning]), stream)
    assert pruning.scored_samples == 0


def test_app_scores_the_best_validation_model_of_the_megabatch_before(make_learner, make_net, train, stream, numbers):
    scorer = Scorer(numbers)
    strategy = AnytimeStrategy(learner=make_learner(epochs=4), plugins=[make_pruning(scorer)])
    handed_over = Diary()
    strategy.plugins.append(handed_over)
    train(strategy, stream)
    for scored, expected in zip(scorer.models, [make_net(0).state_dict(), *handed_over.ended], strict=False):
        assert all(torch.equal(value, expected[name]) for name, value in scored.items())


def test_the_same_seed_trains_the_same_sparse_model(make_learner, train, stream):
    app = STRATEGIES.load("APP").target
    first, again, other = (
        train(app(make_learner(seed=seed), Pruning()), stream).model.state_dict() for seed in (0, 0, 1)
    )
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert not all(torch.equal(value, other[name]) for name, value in first.items())


# The authors' public code


@pytest.fixture
def reference(make_learner, make_stream, train, numbers, monkeypatch):
    """Function: settings -> a run of APP-reference over four megabatches: stream, scorer, state after each pruning."""

    def run(**settings):
        learner = make_learner(megabatches=4, make_model=make_learner().make_model)
        scorer = Scorer(numbers)
        strategy = STRATEGIES.load("APP-reference").target(learner, Pruning(), **settings)
        pruning = plugin_of(strategy)
        pruning.parts = replace(pruning.parts, score=scorer)
        monkeypatch.setattr(app_reference, "weights_and_gradients", scorer.gradients)
        diary = Diary(lambda s: (pruning.masks, copied(s.model)))
        strategy.plugins.append(diary)
        stream = make_stream(megabatches=4, samples=160)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", EmptyLayerWarning)
            train(strategy, stream)
        return stream, scorer, diary.started

    return run


ASKED = [0.8 ** (1 + 3.5 * t / 3) for t in range(4)]
"""Densities of four megabatches by the schedule."""


def test_the_reference_trains_sparser_than_it_was_asked(reference):
    masks = [masks for masks, _ in reference()[2]]
    densities = [one.density for one in masks]
    assert densities[0] == pytest.approx(ASKED[0], abs=1 / SIZE)
    assert all(applied < 0.95 * scheduled for applied, scheduled in zip(densities[1:], ASKED[1:], strict=True))
    assert densities[-1] < 0.8 * ASKED[-1], "it chooses weights that are masked already, too"
    assert all(later <= earlier for earlier, later in pairwise(masks))


def whole_megabatch(stream, t):
    """Samples of a megabatch, its validation part included."""
    experience = stream.train_stream[t]
    return {*experience.dataset.sample_id, *experience.valid_dataset.sample_id}


def test_the_reference_always_scores_the_same_fifth_of_the_whole_first_megabatch(reference):
    stream, scorer, _ = reference()
    first = whole_megabatch(stream, 0)
    assert len(scorer.samples) == 4 and all(sample == scorer.samples[0] for sample in scorer.samples)
    assert len(scorer.samples[0]) == round(0.2 * len(first)) and first > set(scorer.samples[0])


def test_its_scoring_set_can_be_of_the_newest_megabatch_instead(reference):
    stream, scorer, _ = reference(scoring_set="current")
    assert all(set(scorer.samples[t]) < whole_megabatch(stream, t) for t in range(4))


def test_the_reference_scores_fresh_convolutions_through_the_old_masks(reference, make_net):
    """Batch norm, the classifier and the old masks load from the checkpoint; the convolutions do not."""
    _, scorer, started = reference()
    convolutions = set(prunable_weights(make_net()))
    for t in range(1, 4):
        (old, before), (_, trained) = started[t - 1], started[t]
        for name, scored in scorer.models[t].items():
            if name not in convolutions:
                assert torch.equal(scored, trained[name]) or name.endswith(".bias"), name
                continue
            assert torch.equal(scored != 0, old[name]), "all and only masked weights are zero"
            # PyTorch's default for a layer of that fan-in: uniform up to 1 / sqrt(fan-in).
            limit = scored[0].numel() ** -0.5
            assert 0.7 * limit < scored.abs().max() <= limit
            assert not torch.equal(scored, before[name])


def test_it_can_score_the_trained_weights_instead_and_is_then_nested_and_at_the_schedule(reference):
    _, _, started = reference(weights="trained")
    masks = [masks for masks, _ in started]
    assert [one.nonzeros for one in masks] == [round(asked * SIZE) for asked in ASKED]
    assert all(later <= earlier for earlier, later in pairwise(masks))


def test_the_newest_mask_alone_is_at_the_schedule_and_not_nested(reference):
    masks = [masks for masks, _ in reference(combination="newest")[2]]
    assert [one.nonzeros for one in masks] == [round(asked * SIZE) for asked in ASKED]
    assert not masks[1] <= masks[0]


def test_the_reference_carries_momentum_and_validates_on_augmented_images(make_learner, make_stream):
    augmented = []
    stream = make_stream(megabatches=2, samples=80, train_transform=lambda x: augmented.append(x) or x)
    strategy = STRATEGIES.load("APP-reference").target(make_learner(megabatches=2), Pruning())
    strategy.train(stream.train_stream[0], eval_streams=[])
    momentum = [state["momentum_buffer"].clone() for state in strategy.optimizer.state.values()]
    diary = Diary(lambda s: len(s.optimizer.state))
    strategy.plugins.append(diary)
    strategy.train(stream.train_stream[1], eval_streams=[])
    assert momentum and diary.started == [len(momentum)]
    selection = next(plugin for plugin in strategy.plugins if isinstance(plugin, BestValidation))
    asked = []
    strategy.loader = SimpleNamespace(train_batches=lambda *arguments: asked.append(arguments) or [])
    selection.validate(strategy, stream.train_stream[0].valid_dataset)
    assert [dataset for dataset, *_ in asked] == [stream.train_stream[0].valid_dataset]


def test_an_intersection_that_empties_a_layer_warns(native, train, stream, monkeypatch, distribution):
    """Each mask keeps another half of the layer: neither empties it, both together do."""
    calls = []

    def halves(model, batches):
        calls.append(1)
        sign = (-1) ** len(calls)
        return {n: sign * torch.arange(w.numel()).reshape(w.shape).float() for n, w in prunable_weights(model).items()}

    monkeypatch.setattr(
        ReferencePruning, "_scores_of_fresh_weights", lambda _, strategy, __: halves(strategy.model, [])
    )
    local = {"distribution": distribution("local")}
    pruning = ReferencePruning(PruningParts(halves, lambda t: 0.5 if t < 2 else None, **local))
    with pytest.warns(EmptyLayerWarning):
        train(native("Naive", [pruning]), stream)
    assert pruning.masks.nonzeros == 0
