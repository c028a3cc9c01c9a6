"""From scratch and shrink and perturb: what each megabatch starts from."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from states import Diary, copied, same

from strategies.anytime import AnytimeStrategy, Pruning
from strategies.learning.evaluation import count_correct
from strategies.registry import STRATEGIES
from strategies.shrink_and_perturb import shrink_and_perturb_


def build(name, learner, **settings):
    return STRATEGIES.load(name).target(learner, Pruning(), **settings)


@pytest.fixture(scope="module")
def stream(make_stream):
    return make_stream(samples=120)


@pytest.mark.parametrize("carry_momentum", [False, True])
def test_from_scratch_is_another_dense_run_on_each_megabatch(make_learner, make_net, stream, carry_momentum):
    options = {"epochs": 3, "replay": "none", "carry_momentum": carry_momentum}
    scratch = build("from-scratch", make_learner(**options))
    for t, megabatch in enumerate(stream.train_stream):
        alone = build("dense", make_learner(**options, make_model=lambda _, t=t: make_net(t)))
        for strategy in (scratch, alone):
            torch.manual_seed(t)
            strategy.train(megabatch, eval_streams=[])
        assert same(copied(scratch.model), copied(alone.model))


def test_from_scratch_recovers_from_weights_that_diverged(make_learner, stream):
    strategy = build("from-scratch", make_learner())
    strategy.train(stream.train_stream[0], eval_streams=[])
    for value in strategy.model.state_dict().values():
        value.fill_(float("nan") if value.is_floating_point() else 0)
    strategy.train(stream.train_stream[1], eval_streams=[])
    assert all(torch.isfinite(value).all() for value in strategy.model.state_dict().values())


def test_shrink_and_perturb_adds_a_fresh_network_to_a_smaller_old_one(make_learner, make_net, stream, train):
    diary = Diary()
    strategy = build("shrink-and-perturb", make_learner(plugins=[diary]), shrink=0.6, perturb=0.25)
    train(strategy, stream)
    assert same(diary.started[0], copied(make_net(0)))
    for t in (1, 2):
        fresh = make_net(t).state_dict()
        for name, value in diary.ended[t - 1].items():
            counter = not value.is_floating_point()
            expected = value if counter else 0.6 * value.double() + 0.25 * fresh[name].double()
            torch.testing.assert_close(diary.started[t][name], expected.to(value.dtype))


def test_its_ends_are_dense_and_from_scratch(make_learner, stream, train):
    for settings, name in (
        ({"shrink": 1.0, "perturb": 0.0}, "dense"),
        ({"shrink": 0.0, "perturb": 1.0}, "from-scratch"),
    ):
        first = train(build("shrink-and-perturb", make_learner(epochs=3), **settings), stream).model.state_dict()
        second = train(build(name, make_learner(epochs=3)), stream).model.state_dict()
        assert all(torch.equal(first[key], second[key]) for key in first if first[key].is_floating_point())


def test_the_noise_repeats_with_the_seed_and_differs_between_megabatches(make_net):
    models = [make_net(7) for _ in range(3)]
    for model, draw in zip(models, (1, 1, 2), strict=True):
        shrink_and_perturb_(model, make_net(draw), 0.4, 0.1)
    assert same(copied(models[0]), copied(models[1]))
    assert not torch.equal(models[0][1].weight, models[2][1].weight)


@pytest.mark.parametrize("name", ["from-scratch", "shrink-and-perturb"])
def test_it_learns_more_than_the_most_frequent_class(make_learner, make_stream, train, name):
    stream = make_stream(samples=120, megabatches=2)
    strategy = train(build(name, make_learner(epochs=25, lr=0.1, weight_decay=1e-4)), stream)
    tested = stream.test_stream[0].dataset
    assert isinstance(strategy, AnytimeStrategy)
    assert count_correct(strategy, tested) > Counter(map(int, tested.targets)).most_common(1)[0][1]
