"""Data removal: of the newest megabatch those are left out that were predicted wrong least often."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from states import Diary

from strategies.anytime import AnytimeStrategy
from strategies.learning import removal as removal_module
from strategies.learning.removal import DataRemoval, stage_epochs

NEWEST = 16
"""Training samples of a megabatch of ``make_stream``."""


@pytest.fixture(scope="module")
def stream(make_stream):
    return make_stream()


@pytest.fixture
def trained(make_learner, train, stream):
    """Function: settings, recipe -> plugin, and the ids that each epoch trained on."""

    def run(*, share=0.5, stages=2, every=2, **recipe):
        plugin = DataRemoval(share, stages=stages, every=every, seed=3)
        learner = make_learner(**{"epochs": 6, **recipe})
        strategy = AnytimeStrategy(learner=learner, plugins=[plugin])
        diary = Diary(lambda strategy: list(strategy.adapted_dataset.sample_id))
        strategy.plugins.append(diary)
        train(strategy, stream)
        return plugin, diary

    return run


@given(st.integers(1, 30), st.integers(1, 30))
def test_stages_come_every_so_many_epochs_or_once_half_way(epochs, every):
    found = list(stage_epochs(epochs, every))
    regular = [epoch for epoch in range(1, epochs) if epoch % every == 0]
    assert found == (regular or ([(epochs + 1) // 2] if epochs > 1 else []))


@pytest.mark.parametrize("replay", ["full", "last", "buffer", "none"])
def test_only_the_newest_samples_go_as_many_as_asked_for_at_each_stage(trained, stream, replay):
    _, diary = trained(replay=replay, buffer_size=8)
    for t, (started, epochs) in enumerate(zip(diary.started, diary.epochs, strict=True)):
        newest = set(stream.train_stream[t].dataset.sample_id)
        earlier = set(started) - newest
        assert [len(newest & set(ids)) for ids in epochs] == [16, 16, 12, 12, 8, 8]
        assert diary.ended[t] == started, "measured as a whole"
        for before, after in zip([started, *epochs], epochs, strict=False):
            assert earlier <= set(after) <= set(before) and len(set(after)) == len(after)


@pytest.mark.parametrize(("epochs", "left"), [(1, [16]), (2, [16, 8]), (3, [16, 16, 8]), (5, [16, 16, 12, 12, 8])])
def test_a_short_megabatch_has_one_stage_half_way(trained, epochs, left):
    every = 2 if epochs == 5 else 9
    _, diary = trained(epochs=epochs, every=every, replay="none")
    assert [[len(ids) for ids in megabatch] for megabatch in diary.epochs] == [left] * 3


def test_no_more_stages_than_asked_for_and_one_sample_stays(trained):
    _, diary = trained(share=0.99, stages=3, every=1, replay="none")
    assert [len(ids) for ids in diary.epochs[0]] == [16, 11, 5, 1, 1, 1]


def test_nothing_is_removed_and_nothing_predicted_for_a_share_of_zero(trained):
    plugin, diary = trained(share=0.0)
    assert plugin.forwarded_samples == 0
    assert all(ids == diary.started[t] for t, megabatch in enumerate(diary.epochs) for ids in megabatch)


def test_those_go_first_that_were_wrong_least_often_since_the_last_stage(trained, stream, monkeypatch):
    asked = []

    def predicted(strategy, dataset):
        ids = list(dataset.sample_id)
        # Half of the samples are always right, the others wrong by chance.
        wrong = np.random.default_rng(len(asked)).random(len(ids)) < np.array([(i % 2) * 0.7 for i in ids])
        asked.append((strategy.clock.train_exp_counter, dict(zip(ids, wrong.tolist(), strict=True))))
        return torch.tensor(~wrong)

    monkeypatch.setattr(removal_module, "which_are_correct", predicted)
    plugin, diary = trained()
    assert [number for number, _ in asked] == [t for t in range(3) for _ in range(4)], "none after the last stage"
    assert plugin.forwarded_samples == 3 * (16 + 16 + 12 + 12)
    for t in range(3):
        own = [wrong for number, wrong in asked if number == t]
        for stage, (before, after) in enumerate(((1, 2), (3, 4))):
            gone = set(diary.epochs[t][before]) - set(diary.epochs[t][after])
            counts = {i: sum(one[i] for one in own[2 * stage : 2 * stage + 2]) for i in own[2 * stage]}
            stayed = counts.keys() - gone
            assert len(gone) == 4 and max(counts[i] for i in gone) <= min(counts[i] for i in stayed)


def test_equal_samples_are_drawn_and_the_same_ones_for_the_same_seed(trained, monkeypatch):
    monkeypatch.setattr(
        removal_module, "which_are_correct", lambda _, dataset: torch.ones(len(dataset), dtype=torch.bool)
    )
    (_, first), (_, second) = trained(replay="none"), trained(replay="none")
    assert first.epochs == second.epochs
    kept = [ids for megabatch in first.epochs for ids in megabatch[-1:]]
    starts = [ids[-8:] for ids in first.started]
    assert kept != starts, "not simply the last ones"
