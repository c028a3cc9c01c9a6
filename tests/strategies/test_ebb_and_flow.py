"""Ebb and flow: a swollen mask is never handed over, and what mattered once is remembered."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
import torch
from avalanche.training.supervised import Naive
from hypothesis import given
from hypothesis import strategies as st
from states import Diary
from torch import nn
from torch.optim import SGD

from benchmark.streams.protocols.alma import alma_scenario
from strategies import ebb_and_flow as module
from strategies.anytime import AnytimeStrategy, Pruning
from strategies.ebb_and_flow import EbbAndFlow, RememberedImportance
from strategies.pruning.masks import Masks, prunable_weights
from strategies.pruning.parts import PruningParts
from strategies.pruning.plugin import PruningPlugin
from strategies.pruning.schedules import OneShot
from strategies.pruning.scores.snip import snip
from strategies.registry import STRATEGIES, Scoring

SIZE = 54 + 324 + 288
"""Prunable weights of the network of ``make_net``."""

KEPT = round(0.8**4.5 * SIZE)


def note_of(plugin):
    """What is noted of a strategy that ``plugin`` prunes: masks, readiness and weights."""

    def note(strategy):
        weights = {name: w.detach().clone() for name, w in prunable_weights(strategy.model).items()}
        return plugin.masks, getattr(plugin, "ready", True), weights

    return note


@pytest.fixture(scope="module")
def stream(make_stream):
    return make_stream()


@pytest.fixture
def trained(make_learner, train, stream):
    """Function: settings, options of pruning, recipe -> plugin and diary of a run."""

    def run(name="ebb-and-flow", *, own=None, pruning=None, on=stream, **recipe):
        learner = make_learner(**{"epochs": 4, **recipe})
        strategy = STRATEGIES.load(name).target(learner, Pruning(**(pruning or {})), **(own or {}))
        plugin = next(p for p in strategy.plugins if isinstance(p, PruningPlugin))
        diary = Diary(note_of(plugin))
        strategy.plugins.append(diary)
        train(strategy, on)
        return plugin, diary

    return run


# The density


@pytest.mark.parametrize("scope", ["global", "local", "erk"])
@pytest.mark.parametrize(("tau", "swell"), [(4.5, 0.3), (13.0, 1.0), (0.5, 0.3), (4.5, 0.0), (4.5, 50.0)])
@pytest.mark.filterwarnings("ignore::strategies.pruning.masks.EmptyLayerWarning")
def test_it_swells_by_its_share_and_is_handed_over_at_the_density(trained, scope, tau, swell):
    _, diary = trained(own={"swell": swell}, pruning={"density": 0.8**tau, "scope": scope})
    kept = round(0.8**tau * SIZE)
    swollen = min(round((1 + swell) * kept), SIZE)
    assert [masks.nonzeros for masks, _, _ in diary.started] == [kept, swollen, swollen]
    assert [masks.nonzeros for masks, _, _ in diary.ended] == [kept] * 3


@pytest.mark.parametrize("settle", [0.01, 0.25, 0.5, 1.0])
@pytest.mark.parametrize("epochs", [1, 2, 5])
@pytest.mark.parametrize("replay", ["none", "full"])
def test_it_is_swollen_until_it_has_settled_and_never_after(trained, settle, epochs, replay):
    _, diary = trained(own={"settle": settle}, epochs=epochs, replay=replay)
    states = chain(*diary.steps)
    for t in range(3):
        steps = epochs * (t + 1 if replay == "full" else 1)
        last = None
        for step in range(1, steps + 1):
            masks, ready, _ = next(states)
            settled = t == 0 or step >= max(1, round(settle * steps))
            assert ready == settled
            assert masks.nonzeros == (KEPT if settled else round(1.3 * KEPT))
            assert last is None or masks == last
            last = masks if settled else None
        assert ready


def test_an_ebb_takes_from_what_the_flow_left_and_the_flow_takes_nothing(trained):
    _, diary = trained(epochs=8)
    for t in (1, 2):
        handed_over, swollen, settled = diary.ended[t - 1][0], diary.started[t][0], diary.ended[t][0]
        assert handed_over <= swollen
        assert settled <= swollen
    assert settled != diary.ended[0][0]


def test_it_starts_where_one_shot_pruning_does(trained):
    for pruning in ({}, {"score": "magnitude"}, {"scope": "erk"}):
        _, ours = trained(pruning=pruning)
        _, once = trained("OSP", pruning=pruning)
        assert ours.started[0][0] == once.started[0][0]
        assert ours.ended[0][0] == once.ended[0][0]


# The flow


def test_it_grows_where_the_gradient_on_new_data_is_largest(trained, stream, numbers, monkeypatch):
    looked_at, sizes, measure = [], [], module.gradient_sizes

    def remember(model, batches):
        batches = list(batches)
        looked_at.append({number for (x,), _ in batches for number in numbers(x)})
        sizes.append(measure(model, batches))
        return sizes[-1]

    monkeypatch.setattr(module, "gradient_sizes", remember)
    _, diary = trained(replay="full")
    assert len(sizes) == 2
    for t in (1, 2):
        assert looked_at[t - 1] <= set(stream.train_stream[t].dataset.sample_id)
        handed_over, swollen = diary.ended[t - 1][0], diary.started[t][0]
        for name, size in sizes[t - 1].items():
            grown = swollen[name] & ~handed_over[name]
            assert grown.any()
            assert size[grown].min() >= size[~swollen[name]].max()
            assert (diary.started[t][2][name][grown] == 0).all()
            kept = int(handed_over[name].sum())
            assert int(grown.sum()) == pytest.approx(0.3 * kept, abs=1)


@pytest.mark.parametrize("replay", ["full", "none"])
def test_importance_is_measured_on_other_samples_of_what_is_trained_on(trained, stream, numbers, monkeypatch, replay):
    looked_at = {}

    def remember(name):
        measure = getattr(module, name)

        def measured(model, batches):
            batches = list(batches)
            looked_at.setdefault(name, []).append({number for (x,), _ in batches for number in numbers(x)})
            return measure(model, batches)

        monkeypatch.setattr(module, name, measured)

    remember("snip")
    remember("gradient_sizes")
    plugin, _ = trained(replay=replay, pruning={"score_fraction": 0.5})
    samples = [set(experience.dataset.sample_id) for experience in stream.train_stream]
    assert len(looked_at["snip"]) == 3
    for t, seen in enumerate(looked_at["snip"]):
        assert seen <= set().union(*samples[0 if replay == "full" else t : t + 1])
    assert (looked_at["snip"][2] <= samples[2]) == (replay == "none")
    assert all(map(set.__ne__, looked_at["snip"][1:], looked_at["gradient_sizes"]))
    # The first pruning, a flow at each later megabatch, an ebb at each.
    assert plugin.scored_samples == (1 + 2 + 3) * 8


def test_the_needs_of_the_score_are_those_of_the_first_pruning_alone(make_learner, train, stream):
    parts = PruningParts(score=snip, scoring=Scoring(samples=1, passes=7), schedule=OneShot(0.8**4.5))
    plugin = EbbAndFlow(parts, swell=0.3, settle=0.5, memory=0.9)
    train(AnytimeStrategy(learner=make_learner(), plugins=[plugin]), stream)
    assert plugin.scored_samples == 7 + (2 + 3) * round(0.2 * 16)


# The memory


@given(st.floats(0, 1), st.lists(st.lists(st.floats(0.1, 10), min_size=3, max_size=3), min_size=1, max_size=6))
def test_the_mean_of_a_weight_that_was_always_there(memory, measured):
    shares = np.array(measured) / np.sum(measured, axis=1, keepdims=True)
    weight = memory ** np.arange(len(measured) - 1, -1, -1.0)
    remembered = RememberedImportance(memory)
    for values in measured:
        mean = remembered.take_in({"a": torch.tensor(values[:2]), "b": torch.tensor(values[2:])})
    found = torch.cat([mean["a"], mean["b"]]).numpy()
    np.testing.assert_allclose(found, weight @ shares / weight.sum(), rtol=1e-4)


def test_a_weight_that_is_grown_again_has_no_past():
    remembered = RememberedImportance(0.9)
    remembered.take_in({"a": torch.tensor([3.0, 1.0])})
    remembered.forget(Masks({"a": torch.tensor([False, True])}))
    mean = remembered.take_in({"a": torch.tensor([1.0, 4.0])})["a"]
    np.testing.assert_allclose(mean.numpy(), [0.2, (0.9 * 0.25 + 0.8) / 1.9], rtol=1e-6)


def test_megabatches_count_alike_however_steep_their_loss_is():
    found = []
    for factor in (1.0, 1e-4, 1e4):
        remembered = RememberedImportance(0.5)
        remembered.take_in({"a": torch.tensor([3.0, 1.0])})
        found.append(remembered.take_in({"a": factor * torch.tensor([0.0, 2.0])})["a"])
    torch.testing.assert_close(found[1], found[0])
    torch.testing.assert_close(found[2], found[0])


@pytest.mark.parametrize("useless", [torch.nan, torch.inf, 0.0])
def test_a_diverged_megabatch_does_not_stay_in_the_memory(useless):
    remembered = RememberedImportance(0.9)
    remembered.take_in({"a": torch.tensor([3.0, 1.0, 2.0])})
    remembered.take_in({"a": torch.full((3,), useless)})
    mean = remembered.take_in({"a": torch.tensor([0.0, 0.0, 0.0])})["a"]
    assert torch.isfinite(mean).all()
    assert mean.argsort().tolist() == [1, 2, 0]


def test_a_weight_is_judged_by_the_megabatches_since_it_was_grown(trained, monkeypatch):
    means, measured, take_in = [], [], RememberedImportance.take_in

    def remember(self, now):
        measured.append(now)
        means.append(take_in(self, now))
        return means[-1]

    monkeypatch.setattr(RememberedImportance, "take_in", remember)
    _, diary = trained(replay="none", epochs=8, own={"swell": 1.0, "memory": 1.0})
    returned = 0
    for t in (1, 2):
        total = sum(float(score.sum()) for score in measured[t].values())
        for name, mean in means[t].items():
            grown = diary.started[t][0][name] & ~diary.ended[t - 1][0][name]
            torch.testing.assert_close(mean[grown], measured[t][name][grown] / total)
            returned += int((grown & (means[t - 1][name] > 0)).sum())
    assert returned > 0


class Fading:
    """Two classes that every feature tells apart, the first one best, until it fades to zero."""

    def __init__(self, size):
        self.y = torch.arange(size) % 2
        noise = torch.randn(size, 6, generator=torch.Generator().manual_seed(0))
        self.x = 2.0 * self.y[:, None] - 1 + 0.3 * noise
        self.x[:, 0] *= 1.5

    def __len__(self):
        return len(self.y)

    def __getitem__(self, index):
        return self.x[index], int(self.y[index])


@pytest.mark.parametrize("memory", [0.0, 0.9])
def test_what_mattered_to_data_that_are_gone_survives_by_memory_alone(trained, memory):
    data = Fading(240)
    fading = alma_scenario(data, data, data.y.numpy(), data.y.numpy(), megabatches=2, val_fraction=0.2)
    later = fading.train_stream[1]
    data.x[[*later.dataset.sample_id, *later.valid_dataset.sample_id], 0] = 0

    def model(k):
        with torch.random.fork_rng():
            torch.manual_seed(k)
            return nn.Sequential(nn.Linear(6, 24, bias=False), nn.ReLU(), nn.Linear(24, 2))

    recipe = {"make_model": model, "replay": "none", "weight_decay": 0.0, "batch_size": 32}
    _, diary = trained(own={"memory": memory}, pruning={"density": 0.8**6}, on=fading, **recipe)
    swollen, settled = diary.started[1][0]["0.weight"], diary.ended[1][0]["0.weight"]
    assert swollen[:, 0].sum() >= 5
    if memory:
        assert settled[:, 0].sum() >= swollen[:, 0].sum() / 2
    else:
        # In the second megabatch the weights of the first feature have a gradient of exactly zero.
        assert not settled[:, 0].any()


def test_memory_changes_nothing_where_there_is_no_past(trained):
    (_, with_memory), (_, without) = (trained(own={"memory": m}, replay="none") for m in (0.9, 0.0))
    assert with_memory.ended[0][0] == without.ended[0][0]
    assert with_memory.started[1][0] == without.started[1][0]
    assert with_memory.ended[2][0] != without.ended[2][0]


# Seeds


def test_the_same_seed_trains_the_same_masks(trained):
    def masks(seed):
        return [masks for masks, _, _ in chain(*trained(seed=seed, replay="none")[1].steps)]

    assert masks(0) == masks(0) != masks(1)


def test_the_plugin_works_under_one_of_avalanches_own_strategies(make_net, train, stream):
    plugin = EbbAndFlow(PruningParts(snip, OneShot(0.8**4.5)), swell=0.3, settle=0.5, memory=0.9)
    model = make_net()
    options = {"train_mb_size": 16, "train_epochs": 2, "evaluator": None, "plugins": [plugin]}
    strategy = Naive(
        model=model, optimizer=SGD(model.parameters(), lr=0.05), criterion=nn.CrossEntropyLoss(), **options
    )
    train(strategy, stream)
    assert plugin.ready
    assert plugin.masks.nonzeros == KEPT
    assert Masks.of(prunable_weights(model)) <= plugin.masks
