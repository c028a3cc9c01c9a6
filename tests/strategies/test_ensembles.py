"""Ensembles: members learn as they would alone, and their probabilities are averaged."""

from __future__ import annotations

from collections import Counter
from itertools import chain

import numpy as np
import pytest
import torch
from scipy.special import softmax
from states import Diary, copied, same
from torch import nn

from strategies.anytime import AnytimeStrategy, Pruning
from strategies.growing_ensemble import GrowingMembers
from strategies.learning.evaluation import count_correct
from strategies.learning.members import Members, log_mean_probability
from strategies.learning.selection import BestValidation
from strategies.pruning.masks import Masks, kept_count, prunable_weights
from strategies.pruning.parts import PruningParts
from strategies.pruning.plugin import PruningPlugin
from strategies.pruning.scores.snip import snip
from strategies.registry import STRATEGIES


class LossDiary(Diary, supports_distributed=False):
    """Also the losses of tests."""

    def __init__(self):
        super().__init__()
        self.test_losses = []

    def after_eval_iteration(self, strategy, *args, **kwargs):
        self.test_losses.append(strategy.loss.item())


def member(state, i):
    prefix = f"members.{i}."
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def build(name, learner, **settings):
    return STRATEGIES.load(name).target(learner, Pruning(), **settings)


def mean_probabilities(model, dataset):
    """The mean of the members' probabilities in NumPy, and the labels."""
    x = torch.stack([sample[0] for sample in dataset])
    with torch.no_grad():
        logits = [network.eval()(x).double().numpy() for network in model.members]
    return np.mean([softmax(values, axis=1) for values in logits], axis=0), np.array([sample[1] for sample in dataset])


@pytest.fixture(scope="module")
def stream(make_stream):
    return make_stream(samples=120)


def test_the_output_is_the_logarithm_of_the_mean_probability():
    logits = [torch.randn(5, 3, dtype=torch.float64) for _ in range(4)]
    expected = np.mean([softmax(values.numpy(), axis=1) for values in logits], axis=0)
    np.testing.assert_allclose(log_mean_probability(logits).exp().numpy(), expected)


def test_confident_members_give_finite_logarithms():
    sure = torch.tensor([[1e4, 0.0], [0.0, 1e4]])
    torch.testing.assert_close(
        log_mean_probability([sure, sure.flip(1)]), torch.full((2, 2), 0.5).log(), rtol=1e-6, atol=1e-6
    )


# Ens: all members at every megabatch


def test_each_member_is_a_dense_run_from_its_own_initialisation(make_learner, make_net, stream, train):
    """With one epoch a megabatch there is nothing to select, and the law holds over the whole stream."""
    together = train(build("ensemble", make_learner(epochs=1), members=3), stream).model.state_dict()
    for k in range(3):
        alone = train(build("dense", make_learner(epochs=1, make_model=lambda _, k=k: make_net(k))), stream)
        assert same(member(together, k), copied(alone.model))


def test_until_the_selection_members_know_nothing_of_each_other(make_learner, make_net, make_stream, train):
    stream = make_stream(megabatches=1)
    diary = Diary()
    train(build("ensemble", make_learner(epochs=4, plugins=[diary]), members=2), stream)
    for k in range(2):
        alone = Diary()
        train(build("dense", make_learner(epochs=4, plugins=[alone], make_model=lambda _, k=k: make_net(k))), stream)
        assert all(
            same(member(one, k), other) for one, other in zip(*(chain(*d.epochs) for d in (diary, alone)), strict=True)
        )


def test_the_epoch_that_is_best_for_the_ensemble_is_handed_over(make_learner, stream, train):
    diary = Diary()
    strategy = train(build("ensemble", make_learner(epochs=6, lr=0.1, replay="none", plugins=[diary])), stream)
    selection = next(plugin for plugin in strategy.plugins if isinstance(plugin, BestValidation))
    assert same(copied(strategy.model), diary.epochs[-1][selection.epoch])
    probabilities, labels = mean_probabilities(strategy.model, stream.train_stream[2].valid_dataset)
    assert selection.correct == max(selection.epochs_correct) == (probabilities.argmax(1) == labels).sum()


@pytest.mark.parametrize("name", ["ensemble", "growing-ensemble"])
def test_the_test_loss_is_that_of_the_mean_probability(make_learner, stream, train, name):
    diary = LossDiary()
    strategy = train(build(name, make_learner(plugins=[diary])), stream)
    strategy.eval(stream.test_stream)
    probabilities, labels = mean_probabilities(strategy.model, stream.test_stream[0].dataset)
    np.testing.assert_allclose(diary.test_losses, [-np.log(probabilities[range(30), labels]).mean()], rtol=1e-5)


# gEns: a new member at every megabatch


@pytest.mark.parametrize("replay", ["none", "full"])
def test_the_new_member_is_a_dense_run_on_that_megabatch_alone(make_learner, make_net, make_stream, replay):
    """One epoch, so that the ensemble's validation accuracy and the member's own cannot choose differently."""
    stream = make_stream(samples=120, megabatches=3)
    options = {"epochs": 1, "replay": replay}
    growing = build("growing-ensemble", make_learner(**options))
    for t, megabatch in enumerate(stream.train_stream):
        alone = build("dense", make_learner(**options, make_model=lambda _, t=t: make_net(t)))
        if replay == "full":
            for earlier in list(stream.train_stream)[:t]:
                alone.plugins[0].memory.observe(earlier.dataset)
        for strategy in (growing, alone):
            torch.manual_seed(t)
            strategy.train(megabatch, eval_streams=[])
        assert len(growing.model.members) == t + 1
        assert same(member(copied(growing.model), t), copied(alone.model))


@pytest.mark.parametrize("carry_momentum", [False, True])
def test_earlier_members_never_change_again(make_learner, stream, train, carry_momentum):
    """Weight decay, momentum and batch-norm statistics included: after each epoch they are bit for bit as they were."""
    diary = Diary()
    learner = make_learner(epochs=3, weight_decay=0.5, carry_momentum=carry_momentum, plugins=[diary])
    train(build("growing-ensemble", learner), stream)
    for t in (1, 2):
        for state in diary.epochs[t]:
            assert all(same(member(state, k), member(diary.started[t], k)) for k in range(t))
            assert not same(member(state, t), member(diary.started[t], t))


def test_only_the_newest_member_trains_and_the_optimiser_gets_it_from_avalanche(make_learner, stream, train):
    strategy = train(build("growing-ensemble", make_learner(lr=0.3)), stream)
    strategy.model.train()
    training = [{module.training for module in network.modules()} for network in strategy.model.members]
    assert training == [{False}, {False}, {True}]
    assert [all(p.requires_grad for p in network.parameters()) for network in strategy.model.members] == [0, 0, 1]
    (group,) = strategy.optimizer.param_groups
    assert {id(p) for p in group["params"]} == {id(p) for p in strategy.model.parameters()}
    assert group["initial_lr"] == 0.3 and group["weight_decay"] == make_learner().weight_decay
    moved = {id(p) for p in strategy.optimizer.state if "momentum_buffer" in strategy.optimizer.state[p]}
    assert moved == {id(p) for p in strategy.model.members[-1].parameters()}


def test_tests_add_no_member(make_learner, stream):
    strategy = build("growing-ensemble", make_learner(epochs=1))
    for t, megabatch in enumerate(stream.train_stream):
        strategy.eval(stream.test_stream)
        strategy.train(megabatch, eval_streams=[])
        strategy.eval(stream.test_stream)
        assert len(strategy.model.members) == t + 1


def test_in_training_mode_only_the_newest_member_computes(make_net):
    model = GrowingMembers(make_net)
    model.members.append(make_net(1))
    x = torch.randn(4, 6)
    asked = []
    for k, network in enumerate(model.members):
        network.register_forward_hook(lambda *_, k=k: asked.append(k))
    assert torch.equal(model.train()(x), make_net(1)(x))
    model.eval()(x)
    assert asked == [1, 0, 1]


# Both


def test_prunable_weights_are_those_of_the_members(make_net):
    model = Members([make_net(0), Members([make_net(1), make_net(2)])])
    found = prunable_weights(model)
    networks = {"members.0": make_net(0), "members.1.members.0": make_net(1), "members.1.members.1": make_net(2)}
    expected = {f"{path}.{n}": w for path, network in networks.items() for n, w in prunable_weights(network).items()}
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())
    assert all(found[name] is model.get_parameter(name) for name in found)


def test_pruning_an_ensemble_leaves_every_classifier_whole(make_learner, make_net, stream, train):
    model = Members(make_net(k) for k in range(2))
    plugin = PruningPlugin(PruningParts(score=snip, schedule=lambda _: 0.3))
    train(AnytimeStrategy(learner=make_learner(), plugins=[plugin], model=model), stream)
    kept = Masks.of(prunable_weights(model))
    assert kept.nonzeros == kept_count(0.3, kept.size)
    classifiers = [[layer for layer in m if isinstance(layer, nn.Linear)][-1] for m in model.members]
    assert all((classifier.weight != 0).all() for classifier in classifiers)


@pytest.mark.parametrize("name", ["ensemble", "growing-ensemble"])
def test_it_learns_more_than_the_most_frequent_class(make_learner, make_stream, train, name):
    stream = make_stream(samples=120, megabatches=2)
    strategy = train(build(name, make_learner(epochs=20, lr=0.1, weight_decay=1e-4)), stream)
    tested = stream.test_stream[0].dataset
    assert count_correct(strategy, tested) > Counter(map(int, tested.targets)).most_common(1)[0][1]
