"""SparCL's masks: wider at first, then shrunk by what matters to old and new data, and grown back at random."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
import torch
from states import Diary

from strategies import sparcl as sparcl_module
from strategies.anytime import Pruning
from strategies.pruning.masks import prunable_weights
from strategies.pruning.regrow import kept_per_layer, update_steps
from strategies.registry import DISTRIBUTIONS, STRATEGIES
from strategies.sparcl import TaskAwareMasking, continual_gradient_importance, continual_weight_importance

SIZE = 54 + 324 + 288
"""Prunable weights of the network of ``make_net``."""

KEPT = round(0.8**4.5 * SIZE)


class PluginDiary(Diary, supports_distributed=False):
    """Masks, readiness and weights of a strategy that ``plugin`` prunes. Steps are noted before their update."""

    def __init__(self, plugin):
        super().__init__(self.look)
        self.plugin = plugin

    def look(self, strategy):
        weights = {name: w.detach().clone() for name, w in prunable_weights(strategy.model).items()}
        return self.plugin.masks, self.plugin.ready, weights

    def before_update(self, strategy, *args, **kwargs):
        self.steps[-1].append(self.note(strategy))

    def after_update(self, strategy, *args, **kwargs):
        pass


@pytest.fixture(scope="module")
def stream(make_stream):
    return make_stream()


@pytest.fixture
def trained(make_learner, train, stream):
    """Function: settings, recipe -> plugin and diary of a run."""

    def run(*, own=None, **recipe):
        pruning = Pruning(scope="local")
        masks_alone = {"removed": 0, "gradients": 1}
        learner = make_learner(**{"epochs": 6, **recipe})
        strategy = STRATEGIES.load("SparCL").target(learner, pruning, **{**masks_alone, **(own or {})})
        plugin = next(p for p in strategy.plugins if isinstance(p, TaskAwareMasking))
        diary = PluginDiary(plugin)
        strategy.plugins.append(diary)
        train(strategy, stream)
        return plugin, diary

    return run


@pytest.mark.parametrize("memory", [True, False])
def test_importance_is_equation_1(memory):
    rng = np.random.default_rng(0)
    w, now, before = rng.normal(size=(3, 4, 5))
    expected = abs(w) + 0.7 * abs(now) + (1.3 * abs(before) if memory else 0)
    tensors = [{"layer": torch.tensor(values)} for values in (w, abs(now), abs(before))]
    found = continual_weight_importance(*tensors[:2], tensors[2] if memory else None, alpha=0.7, beta=1.3)
    np.testing.assert_allclose(found["layer"].numpy(), expected)


@pytest.mark.parametrize("inter", [0.0, 0.05, 0.2, 1.0])
@pytest.mark.parametrize("every", [1, 2, 4, 9])
def test_it_is_wider_from_the_second_megabatch_on_until_the_first_adjustment(trained, inter, every):
    _, diary = trained(own={"inter": inter, "every": every})
    wide = min(KEPT + round(inter * SIZE), SIZE)
    assert [masks.nonzeros for masks, _, _ in diary.started] == [KEPT, wide, wide]
    steps = chain(*diary.steps)
    for t in range(3):
        first = update_steps(6 * (t + 1), every * (t + 1))[0]
        for step in range(6 * (t + 1)):
            masks, ready, _ = next(steps)
            settled = t == 0 or step >= first
            assert ready == settled
            assert masks.nonzeros == (KEPT if settled else wide)


def test_after_an_adjustment_every_layer_has_the_count_it_began_with(trained):
    _, diary = trained(own={"intra": 0.1, "inter": 0.2, "every": 1})
    sizes = {name: w.numel() for name, w in diary.started[0][2].items()}
    uniform = DISTRIBUTIONS.load("local").target(diary.started[0][2], 0.8**4.5, sizes)
    assert all(kept_per_layer(masks) == uniform for masks, ready, _ in chain(*diary.steps) if ready)
    assert sum(ready for _, ready, _ in chain(*diary.steps)) > 20
    wide = kept_per_layer(diary.started[1][0])
    for name, size in sizes.items():
        assert wide[name] / size == pytest.approx(0.8**4.5 + 0.2, abs=1 / size + 0.01)


def test_weights_that_widen_the_mask_are_zero_and_kept_ones_stay(trained):
    _, diary = trained(own={"inter": 0.2}, epochs=2)
    masks, _, weights = diary.started[1]
    zeros = sum(int((weights[name][mask] == 0).sum()) for name, mask in masks.items())
    assert zeros >= round(0.2 * SIZE)
    assert sum(int((w != 0).sum()) for w in weights.values()) > 0.9 * KEPT


def test_the_least_important_weights_of_each_layer_go_and_as_many_come(trained, monkeypatch):
    adjustments, exchange = [], TaskAwareMasking.exchange

    def importance(self, strategy, now, before):
        generator = torch.Generator().manual_seed(strategy.clock.train_exp_iterations)
        scores = {n: torch.rand(w.shape, generator=generator) for n, w in prunable_weights(strategy.model).items()}
        adjustments.append([scores, self.masks])
        return scores

    def remember(self, strategy, kept, grown):
        if kept != self.masks:
            adjustments[-1] += [kept, grown]
        exchange(self, strategy, kept, grown)

    monkeypatch.setattr(TaskAwareMasking, "importance", importance)
    monkeypatch.setattr(TaskAwareMasking, "exchange", remember)
    trained(own={"intra": 0.1, "inter": 0.2, "every": 1})
    assert len(adjustments) == 3 * 5
    for scores, before, kept, grown in adjustments:
        assert kept <= before
        assert kept <= grown
        assert kept.nonzeros == KEPT - round(0.1 * SIZE)
        assert grown.nonzeros == KEPT
        for name, mask in kept.items():
            assert scores[name][mask].min() > scores[name][before[name] & ~mask].max()


@pytest.mark.parametrize("replay", ["full", "last", "buffer", "none"])
def test_importance_is_measured_on_the_newest_megabatch_and_on_what_replay_brings(
    trained, stream, numbers, monkeypatch, replay
):
    looked_at, measure = [], sparcl_module.gradient_sizes

    def remember(model, batches):
        batches = list(batches)
        looked_at.append({number for (x,), _ in batches for number in numbers(x)})
        return measure(model, batches)

    monkeypatch.setattr(sparcl_module, "gradient_sizes", remember)
    plugin, _ = trained(replay=replay, buffer_size=8, epochs=4, own={"every": 2})
    samples = [set(experience.dataset.sample_id) for experience in stream.train_stream]
    newest, *rest = looked_at
    assert newest <= samples[0]
    for t in (1, 2):
        newest, *rest = rest
        assert newest <= samples[t]
        assert len(newest) == round(0.2 * 16)
        if replay != "none":
            earlier, *rest = rest
            assert len(earlier) == round(0.2 * 16)
            assert earlier <= set().union(*samples[:t])
    assert not rest
    assert plugin.scored_samples == len(looked_at) * round(0.2 * 16)


def test_one_step_leaves_no_room_for_wider_masks(trained):
    _, diary = trained(epochs=1, replay="none")
    assert all(ready and masks.nonzeros == KEPT for masks, ready, _ in chain(diary.started, *diary.steps))


@pytest.mark.parametrize("memory", [True, False])
def test_importance_of_gradients_is_equation_3(memory):
    now, before = np.random.default_rng(0).normal(size=(2, 4, 5))
    expected = 0.7 * abs(now) + (1.3 * abs(before) if memory else 0)
    tensors = [{"layer": torch.tensor(abs(values))} for values in (now, before)]
    found = continual_gradient_importance(tensors[0], tensors[1] if memory else None, alpha=0.7, beta=1.3)
    np.testing.assert_allclose(found["layer"].numpy(), expected)


class GradientDiary(Diary, supports_distributed=False):
    """Before each update: which weights have a gradient, which should, the masks, and the number of the step."""

    def __init__(self, plugin):
        super().__init__(self.look)
        self.plugin = plugin

    def look(self, strategy):
        moving = {name: w.grad != 0 for name, w in prunable_weights(strategy.model).items() if w.grad is not None}
        return moving, self.plugin.trained, self.plugin.masks, strategy.clock.train_exp_iterations

    def before_update(self, strategy, *args, **kwargs):
        self.steps[-1].append(self.note(strategy))

    def after_update(self, strategy, *args, **kwargs):
        pass


@pytest.mark.parametrize("replay", ["full", "none"])
def test_only_the_most_important_of_the_kept_weights_have_a_gradient(make_learner, train, stream, replay, monkeypatch):
    chosen, grown_ones, choose = [], [], TaskAwareMasking.choose_trained

    def remember(self, older, now, before):
        choose(self, older, now, before)
        importance = continual_gradient_importance(now, before, 0.5, 0.5)
        new = {name: mask & ~older[name] for name, mask in self.masks.items()}
        grown_ones.append(sum(int(mask.sum()) for mask in new.values()))
        assert all((self.trained[name] | ~mask).all() for name, mask in new.items()), "grown ones are trained"
        importance = {name: size.masked_fill(new[name], torch.inf) for name, size in importance.items()}
        chosen.append((importance, self.masks, self.trained))

    monkeypatch.setattr(TaskAwareMasking, "choose_trained", remember)
    learner = make_learner(epochs=4, replay=replay)
    own = {"removed": 0, "gradients": 0.5, "sampled": 3, "every": 2}
    strategy = STRATEGIES.load("SparCL").target(learner, Pruning(scope="local"), **own)
    plugin = next(p for p in strategy.plugins if isinstance(p, TaskAwareMasking))
    diary = GradientDiary(plugin)
    strategy.plugins.append(diary)
    train(strategy, stream)
    assert len(chosen) == 3 * 2, "at the start of each megabatch, and with its masks"
    assert grown_ones[0] == 0 and all(grown_ones[1:])
    for importance, masks, trained in chosen:
        assert trained <= masks
        assert kept_per_layer(trained) == {n: round(0.5 * kept) for n, kept in kept_per_layer(masks).items()}
        for name, mask in trained.items():
            assert importance[name][mask].min() >= importance[name][masks[name] & ~mask].max()
    masked = free = 0
    for moving, trained, _, step in chain(*diary.steps):
        beyond = sum(int((moving[name] & ~trained[name]).sum()) for name in moving)
        if step % 3:
            masked += 1
            assert beyond == 0 and any(mask.any() for mask in moving.values())
        else:
            free += beyond > 0
    assert masked > 5 and free > 2, "at every third step all have one"
