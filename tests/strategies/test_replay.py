"""Replay: what is trained on, and validated on, at megabatch t."""

from __future__ import annotations

from itertools import accumulate, chain

import numpy as np
import pytest
from avalanche.core import SupervisedPlugin
from scipy.stats import chi2

from strategies.anytime import AnytimeStrategy
from strategies.learning.selection import BestValidation
from strategies.registry import REPLAYS

every_policy = pytest.mark.parametrize("name", REPLAYS.names())


@pytest.fixture(scope="module")
def stream(make_stream):
    return make_stream(samples=80, megabatches=4)


def ids(dataset):
    return list(dataset.sample_id)


def arrivals(stream):
    return [ids(experience.dataset) for experience in stream.train_stream]


def observed(name, stream, capacity=10, seed=0, role="training"):
    memory = REPLAYS.load(name).target(capacity=capacity, seed=seed, role=role)
    return [ids(memory.observe(experience.dataset)) for experience in stream.train_stream]


@every_policy
def test_every_sample_is_used_once_and_the_newest_come_last(name, stream):
    for t, used in enumerate(observed(name, stream)):
        newest = arrivals(stream)[t]
        assert len(used) == len(set(used))
        assert used[-len(newest) :] == newest
        assert set(used) <= {i for megabatch in arrivals(stream)[: t + 1] for i in megabatch}


def test_full_replay_uses_everything_that_has_arrived(stream):
    assert observed("full", stream) == list(accumulate(arrivals(stream)))


def test_no_replay_uses_the_newest_megabatch(stream):
    assert observed("none", stream) == arrivals(stream)


def test_last_replay_uses_the_newest_two_megabatches(stream):
    first, second, third, fourth = arrivals(stream)
    assert observed("last", stream) == [first, first + second, second + third, third + fourth]


@pytest.mark.parametrize("capacity", [0, 1, 10, 16, 20, 33, 1000])
def test_the_buffer_holds_k_earlier_samples_or_all(stream, capacity):
    for t, used in enumerate(observed("buffer", stream, capacity)):
        assert len(used) - len(arrivals(stream)[t]) == min(capacity, sum(map(len, arrivals(stream)[:t])))


def test_a_buffer_beyond_the_stream_is_full_replay(stream):
    assert [sorted(used) for used in observed("buffer", stream, 1000)] == list(map(sorted, observed("full", stream)))


def test_each_earlier_sample_is_equally_likely_in_the_buffer(stream):
    """Inclusion counts over many seeds against sampling without replacement: chi-square, n - 1 degrees of freedom."""
    seeds, capacity = 500, 10
    earlier = [*chain(*arrivals(stream)[:3])]
    counts = dict.fromkeys(earlier, 0)
    for seed in range(seeds):
        for sample in observed("buffer", stream, capacity, seed)[3][: -len(arrivals(stream)[3])]:
            counts[sample] += 1
    p = capacity / len(earlier)
    found = np.array(list(counts.values()))
    statistic = ((found - seeds * p) ** 2).sum() / (seeds * p * (1 - p)) * (1 - 1 / len(earlier))
    assert found.sum() == seeds * capacity
    assert 0.001 < chi2.sf(statistic, len(earlier) - 1) < 0.999


def test_the_reservoir_repeats_with_the_seed_and_differs_between_roles(stream):
    first = observed("buffer", stream, seed=3)
    assert observed("buffer", stream, seed=3) == first
    assert observed("buffer", stream, seed=4) != first
    assert observed("buffer", stream, seed=3, role="validation") != first


def test_training_and_validation_fill_their_buffers_independently(stream, make_learner):
    learner = make_learner(replay="buffer", buffer_size=10, val_fraction=0.5)
    training, validation = learner.training_memory(), learner.selection().memory
    assert training.capacity == validation.capacity == 10
    used = [[ids(memory.observe(m.dataset)) for m in stream.train_stream] for memory in (training, validation)]
    assert set(used[0][3]) != set(used[1][3])


class SampleDiary(SupervisedPlugin, supports_distributed=False):
    """The numbers of the samples that each epoch trained on, megabatch by megabatch."""

    def __init__(self, numbers):
        super().__init__()
        self.numbers = numbers
        self.epochs = []
        self.validated = []

    def before_training_epoch(self, strategy, *args, **kwargs):
        self.epochs.append([])

    def before_training_iteration(self, strategy, *args, **kwargs):
        self.epochs[-1] += self.numbers(strategy.mb_x)

    def after_training_exp(self, strategy, *args, **kwargs):
        selection = next(plugin for plugin in strategy.plugins if isinstance(plugin, BestValidation))
        self.validated.append(selection.samples)


@every_policy
def test_training_sees_what_the_policy_says_and_nothing_of_validation(name, stream, make_learner, train, numbers):
    diary = SampleDiary(numbers)
    train(AnytimeStrategy(learner=make_learner(replay=name, buffer_size=10, plugins=[diary])), stream)
    expected = observed(name, stream)
    held_out = {i for experience in stream.train_stream for i in ids(experience.valid_dataset)}
    for epoch, trained_on in enumerate(diary.epochs):
        once = set(trained_on) if name == "interleaved" else trained_on
        assert sorted(once) == sorted(expected[epoch // 2])
        assert not held_out & set(trained_on)


def test_batches_of_new_samples_are_joined_by_as_many_remembered_ones(stream, make_learner, train, numbers):
    class Batches(SampleDiary):
        def before_training_iteration(self, strategy, *args, **kwargs):
            self.epochs[-1].append(numbers(strategy.mb_x))

    diary = Batches(numbers)
    learner = make_learner(replay="interleaved", buffer_size=10, batch_size=8, epochs=2, plugins=[diary])
    train(AnytimeStrategy(learner=learner), stream)
    for epoch, batches in enumerate(diary.epochs):
        newest = arrivals(stream)[epoch // 2]
        assert sorted(i for batch in batches for i in batch if i in newest) == sorted(newest)
        remembered = [[i for i in batch if i not in newest] for batch in batches]
        # Avalanche's loader goes through ten in batches of 8 and 2; ours is in tests/streams/test_loader.py.
        assert [len(batch) for batch in remembered] == ([8, 2] if epoch >= 2 else [0, 0])
        assert all(len(batch) == len(set(batch)) for batch in remembered)


@pytest.mark.parametrize(
    ("name", "expected"), [("full", [4, 8, 12, 16]), ("none", [4, 4, 4, 4]), ("last", [4, 8, 8, 8])]
)
def test_validation_parts_accumulate_like_the_training_parts(name, expected, stream, make_learner, train, numbers):
    diary = SampleDiary(numbers)
    train(AnytimeStrategy(learner=make_learner(replay=name, plugins=[diary])), stream)
    assert diary.validated == expected


def test_the_validation_buffer_is_as_large_a_share_as_the_validation_part(stream, make_learner, train, numbers):
    diary = SampleDiary(numbers)
    train(AnytimeStrategy(learner=make_learner(replay="buffer", buffer_size=24, plugins=[diary])), stream)
    assert diary.validated == [4, 4 + 4, 4 + 6, 4 + 6]


@every_policy
def test_accumulated_validation_is_not_augmented(name, make_stream):
    augmented = make_stream(train_transform=lambda x: x + 1000)
    memory = REPLAYS.load(name).target(capacity=5, seed=0, role="validation")
    for experience in augmented.train_stream:
        used = memory.observe(experience.valid_dataset)
        assert max(float(x.max()) for x, *_ in used) < 100
