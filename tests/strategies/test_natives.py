"""Avalanche's own strategies: pruning on top of them, their settings, and what two of them do on an ALMA stream."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from avalanche.core import SupervisedPlugin
from states import Diary, copied, same

from strategies.anytime import Pruning
from strategies.learning.evaluation import count_correct
from strategies.pruning.masks import Masks, kept_count, prunable_weights
from strategies.pruning.plugin import PruningPlugin
from strategies.pruning.schedules import Progressive
from strategies.registry import STRATEGIES

NATIVES = ["Naive", "Cumulative", "Replay", "GDumb", "EWC", "SI", "LwF", "DER"]
DENSE = Pruning(schedule="none")
PRUNED = {f"{nested=}": Pruning(nested=nested) for nested in (True, False)}


class PruningDiary(Diary, supports_distributed=False):
    """Also the weights that are not zero after every iteration, and the largest momentum of those that are pruned."""

    def __init__(self):
        super().__init__()
        self.kept, self.momentum = [], 0.0

    def before_training_exp(self, strategy, *args, **kwargs):
        super().before_training_exp(strategy)
        self.kept.append([])

    def after_training_iteration(self, strategy, *args, **kwargs):
        weights = prunable_weights(strategy.model)
        masks = next(plugin for plugin in strategy.plugins if isinstance(plugin, PruningPlugin)).masks
        self.kept[-1].append(Masks.of(weights))
        for name, weight in weights.items():
            momentum = strategy.optimizer.state[weight]["momentum_buffer"]
            self.momentum = max(self.momentum, momentum[~masks[name]].abs().max().item())


class Path(SupervisedPlugin, supports_distributed=False):
    """SI's path integral by its definition, in float64: -sum_steps gradient * step, for each weight."""

    def __init__(self):
        super().__init__()
        self.integral = {}

    def before_training_exp(self, strategy, *args, **kwargs):
        self.first = self.weights(strategy)
        self.integral = {name: np.zeros_like(weight) for name, weight in self.first.items()}

    def before_update(self, strategy, *args, **kwargs):
        self.before = self.weights(strategy)
        self.gradients = {name: p.grad.double().numpy().copy() for name, p in strategy.model.named_parameters()}

    def after_update(self, strategy, *args, **kwargs):
        for name, weight in self.weights(strategy).items():
            self.integral[name] -= self.gradients[name] * (weight - self.before[name])

    @staticmethod
    def weights(strategy):
        return {name: p.detach().double().numpy().copy() for name, p in strategy.model.named_parameters()}


def build(name, learner, pruning=DENSE, **settings):
    return STRATEGIES.load(name).target(learner, pruning, **settings)


def trained(strategy, stream):
    """The strategy's state after the stream; batches do not depend on what else draws from the global generator."""
    for t, megabatch in enumerate(stream.train_stream):
        torch.manual_seed(t)
        strategy.train(megabatch, eval_streams=[])
    return strategy.model.state_dict()


@pytest.fixture(scope="module")
def stream(make_stream):
    return make_stream(samples=120)


# Pruning on top


@pytest.mark.parametrize("pruning", PRUNED.values(), ids=PRUNED)
@pytest.mark.parametrize("name", NATIVES)
def test_the_density_is_the_scheduled_one_and_nothing_revives_a_pruned_weight(
    make_learner, stream, train, name, pruning
):
    diary = PruningDiary()
    strategy = train(build(name, make_learner(epochs=3, buffer_size=24, plugins=[diary]), pruning), stream)
    size = sum(weight.numel() for weight in prunable_weights(strategy.model).values())
    for t, kept in enumerate(diary.kept):
        masks = Masks.of({n: diary.started[t][n] for n in prunable_weights(strategy.model)})
        assert masks.nonzeros == kept_count(Progressive(0.8**4.5, 3)(t), size)
        assert all(after == masks for after in kept)
        assert t == 0 or not pruning.nested or masks <= diary.kept[t - 1][-1]
    assert Masks.of(prunable_weights(strategy.model)).nonzeros == round(0.8**4.5 * size)
    assert diary.momentum == 0


@pytest.mark.parametrize("name", NATIVES)
def test_natives_prune_only_when_a_schedule_is_asked_for(make_learner, name):
    entry = STRATEGIES.load(name)
    assert entry.traits.defaults == {"schedule": "none"}
    assert {"score", "schedule", "density", "scope", "structure", "nested", "score_fraction"} <= {*entry.traits.options}
    for pruning in (DENSE, Pruning(schedule="cubic")):
        pruners = [
            plugin for plugin in build(name, make_learner(), pruning).plugins if isinstance(plugin, PruningPlugin)
        ]
        assert len(pruners) == (pruning is not DENSE)


@pytest.mark.parametrize("name", NATIVES)
def test_it_learns_more_than_the_most_frequent_class(make_learner, make_stream, train, name):
    stream = make_stream(samples=120, megabatches=2)
    learner = make_learner(epochs=20, lr=0.1, weight_decay=1e-4, buffer_size=60)
    strategy = train(build(name, learner), stream)
    tested = stream.test_stream[0].dataset
    assert count_correct(strategy, tested) > Counter(map(int, tested.targets)).most_common(1)[0][1]


# Settings


@pytest.mark.parametrize(("name", "setting"), [("EWC", "ewc_lambda"), ("SI", "si_lambda"), ("LwF", "alpha")])
def test_a_penalty_of_weight_zero_is_naive_and_a_large_one_is_not(make_learner, stream, name, setting):
    naive = trained(build("Naive", make_learner()), stream)
    assert same(naive, trained(build(name, make_learner(), **{setting: 0.0}), stream))
    assert not same(naive, trained(build(name, make_learner(), **{setting: 50.0}), stream))


@pytest.mark.parametrize(("name", "setting"), [("LwF", "temperature"), ("DER", "alpha"), ("DER", "beta")])
def test_other_settings_reach_the_loss(make_learner, stream, name, setting):
    learner = make_learner(buffer_size=24)
    default = trained(build(name, learner), stream)
    assert same(default, trained(build(name, learner, **{setting: STRATEGIES.load(name).settings[setting]}), stream))
    assert not same(default, trained(build(name, learner, **{setting: 3.0}), stream))


# SI


def test_si_importance_is_the_path_integral_over_the_squared_way(make_learner, stream):
    """One epoch, so that the weights handed over are the last of the path; Avalanche limits importance to 0.001."""
    path = Path()
    strategy = build("SI", make_learner(epochs=1, plugins=[path]))
    torch.manual_seed(0)
    strategy.train(stream.train_stream[0], eval_streams=[])
    (plugin,) = [plugin for plugin in strategy.plugins if hasattr(plugin, "ewc_data")]
    last = path.weights(strategy)
    assert plugin.ewc_data[1].keys() == last.keys() - {"2.weight", "2.bias"}, "batch norm has no importance"
    for name, found in plugin.ewc_data[1].items():
        importance = path.integral[name] / ((last[name] - path.first[name]) ** 2 + 1e-7)
        np.testing.assert_allclose(found.data, importance.clip(max=0.001).ravel(), rtol=1e-3, atol=1e-7)
    assert max(found.data.abs().max() for found in plugin.ewc_data[1].values()) > 0


def test_si_holds_weights_where_the_last_megabatch_left_them(make_learner, stream):
    """The penalty's gradient is lambda * importance * (w - w_old), so a strong one shortens the way."""
    ways = []
    for si_lambda in (0.0, 3e3):
        strategy = build("SI", make_learner(epochs=1, momentum=0.0, lr=0.1), si_lambda=si_lambda)
        torch.manual_seed(0)
        strategy.train(stream.train_stream[0], eval_streams=[])
        (plugin,) = [plugin for plugin in strategy.plugins if hasattr(plugin, "ewc_data")]
        important = {n: i.data.reshape(strategy.model.get_parameter(n).shape) for n, i in plugin.ewc_data[1].items()}
        before = {name: strategy.model.get_parameter(name).detach().clone() for name in important}
        strategy.train(stream.train_stream[1], eval_streams=[])
        moved = {n: (strategy.model.get_parameter(n) - w).detach() ** 2 for n, w in before.items()}
        ways.append(sum((moved[n][important[n] > 0.0005].sum().item()) for n in moved))
    assert 0 < ways[1] < ways[0]


# GDumb


def test_gdumb_starts_from_the_same_draw_and_trains_on_a_balanced_buffer(make_learner, make_net, stream, train):
    diary = Diary(lambda strategy: (copied(strategy.model), strategy.adapted_dataset))
    train(build("GDumb", make_learner(buffer_size=12, plugins=[diary])), stream)
    seen: set[int] = set()
    for megabatch, (state, data) in zip(stream.train_stream, diary.started, strict=True):
        seen |= set(megabatch.dataset.sample_id)
        assert same(make_net(0).state_dict(), state)
        numbers = list(data.sample_id)
        assert len(numbers) == len(set(numbers)) == 12
        assert set(numbers) <= seen
        assert set(Counter(map(int, data.targets)).values()) == {4}


def test_gdumb_prunes_its_fresh_weights_within_the_old_masks(make_learner, make_net, stream, train):
    diary = Diary()
    train(build("GDumb", make_learner(buffer_size=12, plugins=[diary]), Pruning()), stream)
    fresh = prunable_weights(make_net(0))
    for started in diary.started:
        for name, weight in fresh.items():
            assert torch.equal(started[name], torch.where(started[name] != 0, weight, 0))
