"""Generalisation gaps, two of them, always named apart."""

from __future__ import annotations

import torch
from avalanche.evaluation.metric_results import MetricValue
from avalanche.training.templates import SupervisedTemplate

from benchmark.metrics.series import SeriesMetric, Test, TestMetric, megabatch_of
from benchmark.registry import METRICS
from leaderboards.glossary import Measure
from strategies.learning.evaluation import count_correct
from strategies.learning.selection import BestValidation


def selection_of(strategy: SupervisedTemplate) -> BestValidation | None:
    """The strategy's model selection, if it has one."""
    return next((plugin for plugin in strategy.plugins if isinstance(plugin, BestValidation)), None)


@METRICS.register(
    "reference_gap",
    order=30,
    reference="the public code of Wadia et al. 2022",
    measures=(
        Measure(
            "train/accuracy",
            "Training accuracy",
            "running accuracy on augmented batches in train mode, selected epoch",
            "fraction",
            better=1,
            position=24,
            places=("megabatches",),
            short="train",
        ),
        Measure(
            "valid/accuracy",
            "Validation accuracy",
            "of the selected epoch",
            "fraction",
            better=1,
            position=26,
            places=("megabatches",),
            short="valid",
        ),
        Measure(
            "gap/reference",
            "Gap (reference)",
            "running training accuracy on augmented batches minus validation accuracy, selected epoch, last megabatch",
            "fraction",
            "{:+.4f}",
            -1,
            "gap_reference",
            60,
            ("board", "baseline", "runs", "totals"),
        ),
        Measure("curve/train_accuracy", "Training accuracy, curve", "each epoch, by iterations", "fraction", better=1),
        Measure("curve/train_loss", "Training loss, curve", "mean of each epoch, by iterations", "nats", better=-1),
        Measure(
            "curve/valid_accuracy", "Validation accuracy, curve", "each epoch, by iterations", "fraction", better=1
        ),
    ),
)
class ReferenceGap(SeriesMetric):
    """The gap as the APP paper's code has it: running training accuracy minus validation accuracy.

    Training accuracy is counted over the augmented batches in train mode while the weights move; both are those
    of the selected epoch. Also emits training curves, one point an epoch, at the iteration count.
    """

    def __init__(self) -> None:
        super().__init__()
        self._epochs: list[float] = []

    def before_training_exp(self, strategy: SupervisedTemplate) -> None:
        """Forget the last megabatch's epochs."""
        self._epochs = []

    def before_training_epoch(self, strategy: SupervisedTemplate) -> None:
        """Start counting."""
        self._correct = torch.zeros((), dtype=torch.long, device=strategy.device)
        self._loss = torch.zeros((), device=strategy.device)
        self._seen = 0

    def after_training_iteration(self, strategy: SupervisedTemplate) -> None:
        """Count right predictions and losses on the device, without waiting for them."""
        self._correct += (strategy.mb_output.argmax(1) == strategy.mb_y).sum()
        self._loss += strategy.loss.detach().sum() * len(strategy.mb_y)
        self._seen += len(strategy.mb_y)

    def after_training_epoch(self, strategy: SupervisedTemplate) -> list[MetricValue]:
        """One point of the training curves."""
        self._epochs.append(int(self._correct) / self._seen)
        values = {"curve/train_accuracy": self._epochs[-1], "curve/train_loss": float(self._loss) / self._seen}
        selection = selection_of(strategy)
        if selection is not None:
            values["curve/valid_accuracy"] = selection.epochs_correct[-1] / selection.samples
        return self.emit(values, step=strategy.clock.train_iterations)

    def after_training_exp(self, strategy: SupervisedTemplate) -> list[MetricValue] | None:
        """Training accuracy, validation accuracy and their difference at the selected epoch."""
        selection = selection_of(strategy)
        if selection is None:
            return None
        train, valid = self._epochs[selection.epoch], selection.correct / selection.samples
        values = {"train/accuracy": train, "valid/accuracy": valid, "gap/reference": train - valid}
        return self.emit(values, step=megabatch_of(strategy))


@METRICS.register(
    "clean_gap",
    order=60,
    measures=(
        Measure(
            "train/clean_accuracy", "Training accuracy (clean)", "eval mode, without augmentation", "fraction", better=1
        ),
        Measure(
            "gap/clean",
            "Gap (clean)",
            "eval-mode accuracy on the training data minus test accuracy, last megabatch",
            "fraction",
            "{:+.4f}",
            -1,
            "gap_clean",
            70,
            ("board", "baseline", "runs", "totals"),
        ),
    ),
)
class CleanGap(TestMetric):
    """Eval-mode accuracy on the training data, without augmentation, minus test accuracy, of the same weights.

    The training data are those that the strategy's data set holds after replay. Costs one forward pass over
    them at each megabatch, which is not counted as compute of the strategy.
    """

    counts_answers = True

    def __init__(self) -> None:
        super().__init__()
        self._train_accuracy: float | None = None
        self._trained_on = 0

    def after_training_exp(self, strategy: SupervisedTemplate) -> None:
        """Accuracy of the selected weights on what they were trained on."""
        self._train_accuracy = count_correct(strategy, strategy.adapted_dataset) / len(strategy.adapted_dataset)
        self._trained_on = megabatch_of(strategy)

    def after_test(self, strategy: SupervisedTemplate, test: Test) -> dict[str, float]:
        """The gap. A learner that waits is tested again and again: it belongs to the megabatch it trained on."""
        train, self._train_accuracy = self._train_accuracy, None
        if train is None:
            return {}
        return {"train/clean_accuracy": train, "gap/clean": train - test.correct / test.seen}

    def step_of(self, test: Test) -> int:
        """The megabatch that was trained on last."""
        return self._trained_on
