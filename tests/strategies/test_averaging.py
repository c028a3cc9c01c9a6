"""EMA and SWA: the average is validated, selected and tested, and training goes on from the raw weights."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from avalanche.core import SupervisedPlugin
from states import Diary, copied, same

from strategies.anytime import AnytimeStrategy, Pruning
from strategies.learning.averaging import WeightAveraging
from strategies.learning.evaluation import count_correct
from strategies.learning.selection import BestValidation
from strategies.registry import STRATEGIES
from strategies.swa import StochasticAverage

COUNTER = "2.num_batches_tracked"
NAMES = ["EMA", "SWA"]


class AveragingDiary(Diary, supports_distributed=False):
    """The steps are lists of each epoch's; also which epoch was selected, and the state at the first forward."""

    def __init__(self):
        super().__init__()
        self.selected, self.first = [], []

    def before_forward(self, strategy, *args, **kwargs):
        if strategy.clock.train_exp_iterations == 0:
            self.first.append(copied(strategy.model))

    def after_update(self, strategy, *args, **kwargs):
        if strategy.clock.train_epoch_iterations == 0:
            self.steps[-1].append([])
        self.steps[-1][-1].append(copied(strategy.model))

    def after_training_exp(self, strategy, *args, **kwargs):
        super().after_training_exp(strategy)
        selection = next(plugin for plugin in strategy.plugins if isinstance(plugin, BestValidation))
        self.selected.append((selection.epoch, list(selection.epochs_correct)))


def close(state, expected, names=None):
    """Whether the state is what NumPy computed in float64; without the counter of batches, which has no average."""
    for name in names or state.keys() - {COUNTER}:
        np.testing.assert_allclose(state[name].numpy(), expected[name], rtol=1e-4, atol=1e-6, err_msg=name)


def build(name, learner, **settings):
    return STRATEGIES.load(name).target(learner, Pruning(), **settings)


def float64(state):
    return {name: value.double().numpy() for name, value in state.items()}


@pytest.fixture(scope="module")
def stream(make_stream):
    return make_stream(samples=120)


@pytest.fixture
def trained(make_learner, stream, train):
    """Function: name, settings -> diary of a run with four epochs a megabatch, and the strategy."""

    def run(name, epochs=4, ties="last", **settings):
        diary = AveragingDiary()
        learner = make_learner(epochs=epochs, lr=0.1, ties=ties, plugins=[diary])
        strategy = train(build(name, learner, **settings), stream)
        return diary, strategy

    return run


def test_ema_is_the_recurrence_over_the_steps_of_each_megabatch(trained):
    diary, _ = trained("EMA", decay=0.6)
    for t in range(3):
        average, n = None, 0
        for epoch, steps in enumerate(diary.steps[t]):
            for raw in map(float64, steps):
                decay = min(0.6, (1 + n) / (10 + n))
                average = raw if n == 0 else {k: decay * average[k] + (1 - decay) * raw[k] for k in raw}
                n += 1
            close(diary.epochs[t][epoch], average)


def test_swa_is_the_mean_over_the_later_epochs_of_each_megabatch(trained, make_net):
    diary, _ = trained("SWA", start=0.5)
    parameters = dict(make_net().named_parameters())
    for t in range(3):
        raw = [float64(steps[-1]) for steps in diary.steps[t]]
        for epoch in (0, 1):
            assert same(diary.epochs[t][epoch], diary.steps[t][epoch][-1])
        for epoch in (2, 3):
            mean = {name: np.mean([state[name] for state in raw[2 : epoch + 1]], axis=0) for name in parameters}
            close(diary.epochs[t][epoch], mean, parameters)


def test_swa_estimates_the_statistics_of_the_mean_on_the_training_data(make_learner, make_stream, train):
    """The mean over batches of each batch's mean and unbiased variance, of what the averaged convolution gives.

    Batches are those of training, so that the last one is smaller, but neither shuffled nor augmented.
    """
    stream = make_stream(samples=120, train_transform=lambda x: x + 100)
    model = train(build("SWA", make_learner(batch_size=20)), stream).model
    x = torch.cat([torch.stack([sample[0] for sample in e.dataset.eval()]) for e in stream.train_stream])
    with torch.no_grad():
        batches = [model[1](model[0](part)).double() for part in x.split(20)]
    expected = {
        "running_mean": torch.stack([batch.mean((0, 2, 3)) for batch in batches]).mean(0),
        "running_var": torch.stack([batch.var((0, 2, 3)) for batch in batches]).mean(0),
    }
    for name, value in expected.items():
        torch.testing.assert_close(getattr(model[2], name).double(), value, rtol=1e-4, atol=1e-6)


def test_swa_estimates_them_on_as_many_remembered_samples_as_training_has(make_learner, make_stream, train, numbers):
    class Forwarded(SupervisedPlugin, supports_distributed=False):
        def __init__(self):
            super().__init__()
            self.shares = []

        def before_training_exp(self, strategy, *args, **kwargs):
            [swa] = [plugin for plugin in strategy.plugins if isinstance(plugin, StochasticAverage)]
            newest, inputs = set(strategy.experience.dataset.sample_id), swa._inputs(strategy)
            self.shares.append([sum(one in newest for one in numbers(x)) / len(x) for x in inputs])

    diary, stream = Forwarded(), make_stream(samples=480)
    learner = make_learner(batch_size=64, epochs=1, replay="interleaved", buffer_size=9, plugins=[diary])
    train(build("SWA", learner), stream)
    assert set(diary.shares[0]) == {1.0}
    for shares in diary.shares[1:]:
        assert sum(shares) / len(shares) == pytest.approx(0.5, abs=0.02) and 0.2 < min(shares) <= max(shares) < 0.8


@pytest.mark.parametrize(("start", "averaged"), [(0.0, [0, 1, 2, 3]), (0.5, [2, 3]), (0.7, [2, 3]), (0.99, [3])])
def test_swa_hands_over_no_epoch_before_its_start(trained, start, averaged):
    diary, strategy = trained("SWA", start=start)
    for t, (epoch, correct) in enumerate(diary.selected):
        assert epoch == max(averaged, key=lambda e: (correct[e], e))
        assert same(diary.ended[t], diary.epochs[t][epoch])
    (plugin,) = [plugin for plugin in strategy.plugins if isinstance(plugin, WeightAveraging)]
    assert plugin.forwarded_samples == len(averaged) * (32 + 64 + 96)


def test_without_batch_norm_swa_runs_nothing_forward(make_learner, make_net, stream, train):
    strategy = train(build("SWA", make_learner(make_model=lambda k: make_net(k, norm=False))), stream)
    assert sum(getattr(plugin, "forwarded_samples", 0) for plugin in strategy.plugins) == 0


@pytest.mark.parametrize("name", NAMES)
def test_the_averaged_weights_are_validated_and_handed_over(trained, name, stream):
    diary, strategy = trained(name)
    for t, (epoch, _) in enumerate(diary.selected):
        assert same(diary.ended[t], diary.epochs[t][epoch])
        assert not same(diary.ended[t], diary.steps[t][epoch][-1])
    selection = next(plugin for plugin in strategy.plugins if isinstance(plugin, BestValidation))
    validation = stream.train_stream[0].valid_dataset
    for experience in stream.train_stream[1:]:
        validation = validation.concat(experience.valid_dataset)
    assert count_correct(strategy, validation) == selection.correct


@pytest.mark.parametrize("name", NAMES)
def test_training_goes_on_from_the_raw_weights_of_the_selected_epoch(trained, name):
    diary, _ = trained(name, epochs=6, ties="first")
    for t in (1, 2):
        epoch, _ = diary.selected[t - 1]
        assert same(diary.first[t], diary.steps[t - 1][epoch][-1])
    assert any(epoch < 5 for epoch, _ in diary.selected[:2])


@pytest.mark.parametrize("name", NAMES)
def test_averaging_does_not_touch_training(trained, name):
    """With one epoch a megabatch the same epoch is selected, and the raw weights are those of the dense run."""
    averaged, _ = trained(name, epochs=1)
    dense, _ = trained("dense", epochs=1)
    for ours, theirs in zip(averaged.steps, dense.steps, strict=True):
        assert all(same(one, other) for one, other in zip(ours[0], theirs[0], strict=True))


def test_an_average_without_memory_is_the_dense_run(trained):
    averaged, dense = trained("EMA", decay=0.0)[1], trained("dense")[1]
    assert same(copied(averaged.model), copied(dense.model))


@pytest.mark.parametrize("name", NAMES)
def test_it_learns_more_than_the_most_frequent_class(make_learner, make_stream, train, name):
    stream = make_stream(samples=120, megabatches=2)
    strategy = train(build(name, make_learner(epochs=20, lr=0.1, weight_decay=1e-4)), stream)
    tested = stream.test_stream[0].dataset
    assert isinstance(strategy, AnytimeStrategy)
    assert count_correct(strategy, tested) > Counter(map(int, tested.targets)).most_common(1)[0][1]
