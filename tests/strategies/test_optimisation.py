"""The recipe within a megabatch: learning rate, momentum, and the whole algorithm against a plain loop."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from avalanche.core import SupervisedPlugin
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LinearLR

from strategies.anytime import AnytimeStrategy, Learner, Pruning
from strategies.pruning.masks import Masks, prunable_weights
from strategies.registry import STRATEGIES


class OptimiserDiary(SupervisedPlugin, supports_distributed=False):
    """Learning rate of each epoch; momentum buffers at the first step of each megabatch."""

    def __init__(self):
        super().__init__()
        self.lr, self.momenta, self.ended = [], [], []

    def before_training_exp(self, strategy, *args, **kwargs):
        self.lr.append([])

    def before_training_epoch(self, strategy, *args, **kwargs):
        if not self.lr[-1]:
            self.momenta.append(self.momentum_of(strategy))
        self.lr[-1].append(strategy.optimizer.param_groups[0]["lr"])

    def after_training_exp(self, strategy, *args, **kwargs):
        self.ended.append(self.momentum_of(strategy))

    def momentum_of(self, strategy):
        states = [strategy.optimizer.state[p] for p in strategy.model.parameters()]
        return [state["momentum_buffer"].clone() for state in states if state.get("momentum_buffer") is not None]


@pytest.fixture(scope="module")
def stream(make_stream):
    return make_stream()


def test_the_default_recipe_is_the_papers(make_net):
    learner = Learner(make_model=make_net, megabatches=8)
    (group,) = learner.optimizer(make_net()).param_groups
    assert (group["lr"], group["momentum"], group["weight_decay"], group["nesterov"]) == (0.1, 0.9, 1e-4, False)
    assert (learner.epochs, learner.batch_size, learner.replay, learner.val_fraction) == (50, 64, "full", 0.1)


@pytest.mark.parametrize(
    ("epochs", "decays"), [(50, (20, 40)), (10, (4, 8)), (5, (2, 4)), (3, (1, 2)), (2, (1, 2)), (1, (1, 1))]
)
def test_learning_rate_falls_at_two_and_four_fifths_of_every_megabatch(epochs, decays, stream, make_learner, train):
    diary = OptimiserDiary()
    train(AnytimeStrategy(learner=make_learner(epochs=epochs, lr=0.1, batch_size=64, plugins=[diary])), stream)
    expected = [0.1 * 0.1 ** sum(epoch >= decay for decay in decays) for epoch in range(epochs)]
    assert diary.lr == [pytest.approx(expected)] * 3


def test_milestones_and_decay_can_be_chosen(stream, make_learner, train):
    diary = OptimiserDiary()
    learner = make_learner(epochs=4, lr=0.2, milestones=(0.5,), lr_decay=0.5, plugins=[diary])
    train(AnytimeStrategy(learner=learner), stream)
    assert diary.lr == [pytest.approx([0.2, 0.2, 0.1, 0.1])] * 3


def rates(learner_of, stream, train, **options):
    """Learning rate of each epoch of each megabatch."""
    diary = OptimiserDiary()
    train(AnytimeStrategy(learner=learner_of(plugins=[diary], batch_size=64, **options)), stream)
    return diary.lr


def test_a_cosine_falls_from_the_rate_towards_zero_in_every_megabatch(stream, make_learner, train):
    """Lr / 2 (1 + cos(pi e / E)) at epoch e of E (Loshchilov and Hutter 2017, equation 5, one cycle)."""
    expected = [0.2 / 2 * (1 + math.cos(math.pi * epoch / 4)) for epoch in range(4)]
    found = rates(make_learner, stream, train, epochs=4, lr=0.2, lr_schedule="cosine")
    assert found == [pytest.approx(expected)] * 3


def test_a_constant_rate_stays(stream, make_learner, train):
    assert rates(make_learner, stream, train, epochs=4, lr=0.2, lr_schedule="constant") == [[0.2] * 4] * 3


def test_adamw_is_torchs_with_the_recipes_rate_and_decay(make_learner, make_net):
    optimizer = make_learner(algorithm="adamw", lr=0.01, weight_decay=0.3).optimizer(make_net())
    (group,) = optimizer.param_groups
    assert isinstance(optimizer, AdamW) and (group["lr"], group["weight_decay"]) == (0.01, 0.3)


def test_adamw_learns_and_keeps_pruned_weights_at_zero(stream, make_learner, train):
    learner = make_learner(algorithm="adamw", lr=0.01, epochs=4, lr_schedule="cosine")
    strategy = train(STRATEGIES.load("APP").target(learner, Pruning()), stream)
    kept = Masks.of(prunable_weights(strategy.model))
    assert kept.nonzeros == round(0.8**4.5 * kept.size)


@pytest.mark.parametrize(
    "schedule", [None, lambda optimizer, epochs: LinearLR(optimizer, 0.5, 1.0, total_iters=epochs)]
)
def test_an_optimiser_that_a_strategy_brings_keeps_its_own_rate_or_schedule(schedule, stream, make_learner, train):
    diary = OptimiserDiary()
    learner = make_learner(epochs=4, lr=0.2, batch_size=64, plugins=[diary])
    own = {"optimizer": lambda model: AdamW(model.parameters(), lr=0.003), "schedule": schedule}
    strategy = train(AnytimeStrategy(learner=learner, **own), stream)
    assert isinstance(strategy.optimizer, AdamW)
    expected = [0.003] * 4 if schedule is None else [0.003 * (0.5 + 0.5 * epoch / 4) for epoch in range(4)]
    assert diary.lr == [pytest.approx(expected)] * 3


def test_momentum_starts_afresh_with_every_megabatch(stream, make_learner, train):
    diary = OptimiserDiary()
    train(AnytimeStrategy(learner=make_learner(plugins=[diary])), stream)
    assert diary.momenta == [[], [], []]
    assert diary.ended[0]


def test_momentum_is_carried_over_if_asked(stream, make_learner, train):
    diary = OptimiserDiary()
    train(AnytimeStrategy(learner=make_learner(carry_momentum=True, plugins=[diary])), stream)
    assert diary.momenta[0] == []
    for t in (1, 2):
        assert len(diary.momenta[t]) == len(diary.ended[t - 1]) > 0
        assert all(map(torch.equal, diary.momenta[t], diary.ended[t - 1]))


@pytest.mark.parametrize("replay", ["full", "none"])
def test_the_learner_is_almas_algorithm(replay, make_stream, make_learner, make_net, train):
    """Against a loop over tensors without Avalanche, one batch an epoch and in float64: only rounding may differ."""
    recipe = {"epochs": 5, "lr": 0.2, "momentum": 0.9, "weight_decay": 1e-2}
    stream = make_stream(samples=90, dtype=torch.float64)
    learner = make_learner(make_model=lambda k: make_net(k).double(), batch_size=1000, replay=replay, **recipe)
    strategy = train(AnytimeStrategy(learner=learner), stream)

    def tensors(datasets):
        samples = [sample for dataset in datasets for sample in dataset]
        return torch.stack([sample[0] for sample in samples]), torch.tensor([sample[1] for sample in samples])

    model = make_net(0).double()
    for t in range(3):
        used = stream.train_stream[: t + 1] if replay == "full" else stream.train_stream[t : t + 1]
        x, y = tensors([experience.dataset for experience in used])
        x_valid, y_valid = tensors([experience.valid_dataset for experience in used])
        velocity = [torch.zeros_like(p) for p in model.parameters()]
        best, best_correct = None, 0
        for epoch in range(5):
            lr = 0.2 * 0.1 ** ((epoch >= 2) + (epoch >= 4))
            model.train()
            gradients = torch.autograd.grad(nn.functional.cross_entropy(model(x), y), list(model.parameters()))
            with torch.no_grad():
                for p, g, v in zip(model.parameters(), gradients, velocity, strict=True):
                    v.mul_(0.9).add_(g + 1e-2 * p)
                    p.sub_(lr * v)
                correct = int((model.eval()(x_valid).argmax(1) == y_valid).sum())
            if correct >= best_correct:
                best, best_correct = copy.deepcopy(model), correct
        model = best
    for name, value in strategy.model.state_dict().items():
        torch.testing.assert_close(value, model.state_dict()[name], rtol=1e-7, atol=1e-9)
