from __future__ import annotations

import pytest
import torch
from avalanche.core import SupervisedPlugin

from benchmark.metrics.gap import CleanGap, ReferenceGap


def accuracy(model, dataset):
    model.eval()
    with torch.no_grad():
        return sum(int(model(x.unsqueeze(0)).argmax()) == y for x, y, _ in dataset.eval()) / len(dataset)


def test_clean_gap_is_training_minus_test_accuracy_of_the_final_weights(scenario, trained):
    strategy = trained(CleanGap())
    seen = scenario.train_stream[0].dataset
    for experience in scenario.train_stream[1:]:
        seen = seen.concat(experience.dataset)
    train, test = accuracy(strategy.model, seen), accuracy(strategy.model, scenario.test_stream[0].dataset)
    last = strategy.evaluator.get_last_metrics()
    assert last["train/clean_accuracy"] == pytest.approx(train)
    assert last["gap/clean"] == pytest.approx(train - test)


class RunningAccuracy(SupervisedPlugin):
    """Training accuracy of each epoch, batch by batch, and validation accuracy at its end."""

    def __init__(self):
        super().__init__()
        self.epochs = []

    def before_training_exp(self, strategy, **kwargs):
        self.epochs = []

    def before_training_epoch(self, strategy, **kwargs):
        self.right = self.seen = 0

    def after_training_iteration(self, strategy, **kwargs):
        self.right += int((strategy.mb_output.argmax(1) == strategy.mb_y).sum())
        self.seen += len(strategy.mb_y)

    def after_training_epoch(self, strategy, **kwargs):
        valid = strategy.experience.benchmark.valid_stream
        parts = [e.dataset for e in valid[: strategy.experience.current_experience + 1]]
        right = sum(accuracy(strategy.model, part) * len(part) for part in parts)
        strategy.model.train()
        self.epochs.append((self.right / self.seen, right / sum(map(len, parts))))


def test_reference_gap_belongs_to_the_selected_epoch(trained):
    by_hand = RunningAccuracy()
    strategy = trained(ReferenceGap(), plugins=[by_hand], epochs=4)
    train, valid = max(by_hand.epochs, key=lambda epoch: epoch[1])
    last = strategy.evaluator.get_last_metrics()
    assert last["train/accuracy"] == pytest.approx(train)
    assert last["valid/accuracy"] == pytest.approx(valid)
    assert last["gap/reference"] == pytest.approx(train - valid)


def test_training_curves_have_a_point_for_each_epoch(trained):
    strategy = trained(ReferenceGap(), epochs=3)
    steps, _ = strategy.evaluator.get_all_metrics()["curve/train_loss"]
    assert len(steps) == 12 and steps == sorted(set(steps)) and steps[-1] == strategy.clock.train_iterations
