"""ALMA's protocol: the split of a data set into megabatches, and the scenario made from it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from avalanche.training.supervised import Cumulative, Naive
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from benchmark.errors import UsageError
from benchmark.streams.protocols.alma import alma_scenario, split_megabatches

fractions = st.sampled_from([0.1, 0.2, 1 / 3, 0.5])
seeds = st.integers(0, 10**6)
streams = st.integers(1, 12).flatmap(
    lambda b: st.tuples(st.lists(st.integers(0, 4), min_size=6 * b, max_size=12 * b), st.just(b))
)
"""Classes of all samples, at least six a megabatch, and the number of megabatches."""


class Samples:
    """Pairs of six features, the first of which is the sample's number, and a class."""

    def __init__(self, size, first=0):
        self.x = torch.randn(size, 6, generator=torch.Generator().manual_seed(first))
        self.x[:, 0] = torch.arange(first, first + size)
        self.y = (self.x[:, 1] > 0).long() + (self.x[:, 2] > 0).long()

    def __len__(self):
        return len(self.y)

    def __getitem__(self, index):
        return self.x[index], int(self.y[index])


def scenario(samples=60, megabatches=3, **options):
    train, test = Samples(samples), Samples(20, first=samples)
    return alma_scenario(train, test, train.y.numpy(), test.y.numpy(), megabatches=megabatches, **options)


def same(first, second):
    return all(
        np.array_equal(a.train, b.train) and np.array_equal(a.valid, b.valid)
        for a, b in zip(first, second, strict=True)
    )


def numbers(dataset):
    return [int(x[0]) for x, *_ in dataset]


# The split


@given(streams, fractions, seeds, st.booleans())
def test_a_split_partitions_the_samples_into_near_equal_megabatches(stream, fraction, seed, stratified):
    targets, megabatches = stream
    parts = split_megabatches(targets, megabatches, fraction, seed, stratified)
    dealt = np.concatenate([part for megabatch in parts for part in (megabatch.train, megabatch.valid)])
    assert sorted(dealt.tolist()) == list(range(len(targets)))
    sizes = [len(megabatch.train) + len(megabatch.valid) for megabatch in parts]
    assert len(parts) == megabatches
    assert max(sizes) - min(sizes) <= 1
    assert [len(megabatch.valid) for megabatch in parts] == [round(fraction * size) for size in sizes]
    assert all(len(megabatch.train) and len(megabatch.valid) for megabatch in parts)


@given(streams, fractions, seeds)
def test_a_stratified_split_deals_each_class_out_evenly(stream, fraction, seed):
    targets, megabatches = np.array(stream[0]), stream[1]
    parts = split_megabatches(targets, megabatches, fraction, seed, stratified=True)
    for label in np.unique(targets):
        counts = [np.sum(targets[np.concatenate([part.train, part.valid])] == label) for part in parts]
        assert max(counts) - min(counts) <= 1


@given(streams, fractions, seeds)
def test_a_stratified_validation_part_is_spread_over_the_classes(stream, fraction, seed):
    targets, megabatches = np.array(stream[0]), stream[1]
    for megabatch in split_megabatches(targets, megabatches, fraction, seed, stratified=True):
        whole = targets[np.concatenate([megabatch.train, megabatch.valid])]
        for label in np.unique(whole):
            share = np.sum(whole == label) * len(megabatch.valid) / len(whole)
            assert abs(np.sum(targets[megabatch.valid] == label) - share) < 1


@pytest.mark.parametrize(
    ("samples", "megabatches", "size"),
    [(50_000, 8, 6250), (50_000, 100, 500), (89_517, 3, 29_839), (7560, 10, 756), (7560, 30, 252), (7560, 70, 108)],
)
def test_published_streams_have_their_published_megabatches(samples, megabatches, size):
    parts = split_megabatches(np.arange(samples) % 10, megabatches, 0.1, seed=0)
    assert {len(part.train) + len(part.valid) for part in parts} == {size}


def test_a_few_shot_megabatch_of_the_longest_stream_shows_every_class_in_training():
    targets = np.repeat(np.arange(14), 540)
    for part in split_megabatches(targets, 120, 0.1, seed=0, stratified=True):
        assert (len(part.train), len(part.valid)) == (57, 6)
        assert set(targets[part.train]) == set(range(14))


@given(streams, seeds, st.booleans())
def test_a_split_depends_on_the_seed_alone(stream, seed, stratified):
    targets, megabatches = stream
    np.random.seed(7)
    first = split_megabatches(targets, megabatches, 0.2, seed, stratified)
    np.random.seed(11)
    torch.manual_seed(seed)
    assert same(first, split_megabatches(targets, megabatches, 0.2, seed, stratified))


@pytest.mark.parametrize("stratified", [False, True])
def test_every_seed_splits_differently(stratified):
    splits = [split_megabatches(np.arange(200) % 4, 4, 0.1, seed, stratified) for seed in range(10)]
    firsts = {tuple(sorted(parts[0].train.tolist())) for parts in splits}
    held_out = {tuple(sorted(parts[0].valid.tolist())) for parts in splits}
    assert len(firsts) == len(held_out) == 10


@pytest.mark.parametrize("stratified", [False, True])
def test_the_validation_fraction_does_not_move_samples_between_megabatches(stratified):
    few, many = (split_megabatches(np.arange(90) % 3, 4, f, 0, stratified) for f in (0.1, 0.5))
    for a, b in zip(few, many, strict=True):
        assert set(a.train) | set(a.valid) == set(b.train) | set(b.valid)


@pytest.mark.parametrize("stratified", [False, True])
def test_megabatches_come_from_one_distribution(stratified):
    """Sorted data must not arrive sorted: each megabatch has its share of every class and of every position."""
    targets = np.repeat(np.arange(4), 500)
    for part in split_megabatches(targets, 4, 0.1, seed=0, stratified=stratified):
        whole = np.concatenate([part.train, part.valid])
        assert np.bincount(targets[whole], minlength=4).min() > 90
        assert abs(whole.mean() - 1000) < 100


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"megabatches": 0}, "at least 1 megabatch, not 0"),
        ({"megabatches": 31}, "31 megabatches, but only 30 training images: lower --megabatches"),
        ({"megabatches": 30}, r"megabatch 1 has 1 images, of which 1 .* --val-fraction"),
        ({"megabatches": 10, "val_fraction": 0.9}, r"megabatch 1 has 3 images, of which 3 .* --val-fraction"),
        ({"megabatches": 2, "val_fraction": 0.0}, r"of which 0 would be for validation"),
        ({"megabatches": 2, "val_fraction": -0.5}, "change --val-fraction"),
        ({"megabatches": 2, "val_fraction": 1.0}, "change --val-fraction"),
        ({"megabatches": 2, "wait": 0}, "--wait counts megabatches and starts at 1, not 0"),
    ],
)
def test_impossible_splits_say_what_to_change(options, message):
    with pytest.raises(UsageError, match=message):
        scenario(30, **options)


@given(st.integers(0, 40), st.integers(-1, 45), st.floats(-0.5, 1.5), st.booleans())
def test_a_split_is_whole_or_refused(samples, megabatches, fraction, stratified):
    try:
        parts = split_megabatches(np.arange(samples) % 3, megabatches, fraction, 0, stratified)
    except UsageError:
        return
    assert sum(len(part.train) + len(part.valid) for part in parts) == samples
    assert all(len(part.train) and len(part.valid) for part in parts)


# The scenario


def test_a_scenario_serves_each_sample_under_its_number():
    stream = scenario()
    for experience in [*stream.train_stream, *stream.valid_stream, *stream.test_stream]:
        assert numbers(experience.dataset) == list(experience.dataset.sample_id)
        assert [sample[1] for sample in experience.dataset] == list(experience.dataset.targets)
    assert numbers(stream.test_stream[0].dataset) == list(range(60, 80))


def test_validation_parts_are_never_in_any_training_part():
    stream = scenario()
    trained = [i for experience in stream.train_stream for i in numbers(experience.dataset)]
    validated = [i for experience in stream.train_stream for i in numbers(experience.valid_dataset)]
    assert sorted(trained + validated) == list(range(60))
    assert [numbers(experience.dataset) for experience in stream.valid_stream] == [
        numbers(experience.valid_dataset) for experience in stream.train_stream
    ]


@given(st.integers(1, 12), st.integers(1, 14), st.integers(0, 100))
def test_waiting_merges_what_has_arrived_and_loses_nothing(megabatches, wait, seed):
    alone, merged = (scenario(60, megabatches, val_fraction=0.2, wait=w, seed=seed) for w in (1, wait))
    assert len(merged.train_stream) == -(-megabatches // wait)
    for k, experience in enumerate(merged.train_stream):
        arrived = alone.train_stream[k * wait : (k + 1) * wait]
        assert experience.last_megabatch == min((k + 1) * wait, megabatches) == arrived[-1].last_megabatch
        for part in ("dataset", "valid_dataset"):
            expected = [i for single in arrived for i in getattr(single, part).sample_id]
            assert list(getattr(experience, part).sample_id) == expected


def test_the_test_set_is_the_same_whatever_the_seed():
    first, second = (scenario(seed=seed) for seed in (0, 1))
    assert numbers(first.test_stream[0].dataset) == numbers(second.test_stream[0].dataset)
    assert numbers(first.train_stream[0].dataset) != numbers(second.train_stream[0].dataset)
    assert len(first.test_stream) == 1


def test_only_training_data_are_augmented():
    stream = scenario(train_transform=lambda x: x + 10_000, eval_transform=lambda x: x - 10_000)
    for experience in stream.train_stream:
        assert min(numbers(experience.dataset)) >= 10_000
        assert max(numbers(experience.dataset.eval())) < 0
        assert max(numbers(experience.valid_dataset)) < 0
    for experience in [*stream.valid_stream, *stream.test_stream]:
        assert max(numbers(experience.dataset)) < 0


def test_a_training_loop_cannot_switch_the_validation_part_to_augmentation():
    experience = scenario(train_transform=lambda x: x + 10_000).train_stream[0]
    assert max(numbers(experience.valid_dataset.train())) < 10_000


def test_all_task_labels_are_zero():
    stream = scenario()
    for experience in [*stream.train_stream, *stream.valid_stream, *stream.test_stream]:
        assert (experience.task_label, list(experience.task_labels)) == (0, [0])
        assert set(experience.dataset.targets_task_labels) == {0}
        assert {sample[2] for sample in experience.dataset} == {0}


def test_classes_and_their_timeline():
    stream = scenario()
    assert stream.n_classes == 3
    for experience in stream.train_stream:
        assert experience.classes_in_this_experience == experience.classes_seen_so_far == [0, 1, 2]
        assert experience.benchmark is stream
    assert [experience.current_experience for experience in stream.train_stream] == [0, 1, 2]


def test_a_class_that_only_the_test_set_has_counts():
    train, test = Samples(30), Samples(10, first=30)
    test.y[0] = 3
    assert alma_scenario(train, test, train.y.numpy(), test.y.numpy(), megabatches=2).n_classes == 4


@pytest.mark.parametrize("rival", [Naive, Cumulative])
@pytest.mark.parametrize("wait", [1, 2])
def test_avalanches_strategies_learn_from_a_scenario(rival, wait):
    torch.manual_seed(0)
    stream = scenario(300, 3, wait=wait, train_transform=lambda x: x * 1.0, eval_transform=lambda x: x)
    model = nn.Sequential(WithoutNumber(), nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))
    strategy = rival(
        model=model,
        optimizer=torch.optim.Adam(model.parameters(), lr=0.01),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=16,
        train_epochs=10,
        evaluator=None,
    )
    for experience in stream.train_stream:
        strategy.train(experience, eval_streams=[stream.valid_stream])
        strategy.eval(stream.test_stream)
    test = Samples(20, first=300)
    assert (model.eval()(test.x).argmax(1) == test.y).float().mean() >= 0.8


class WithoutNumber(nn.Module):
    """Hides the sample's number from the layers behind it."""

    def forward(self, x):
        return x * torch.tensor([0.0, 1, 1, 1, 1, 1])
