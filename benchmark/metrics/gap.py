"""Generalisation gaps, two of them, always named apart."""

from __future__ import annotations

import torch
from avalanche.evaluation.metric_results import MetricValue
from avalanche.training.templates import SupervisedTemplate

from benchmark.metrics.series import SeriesMetric, megabatch_of, on_test_stream
from strategies.learning.evaluation import count_correct
from strategies.learning.selection import BestValidation


def selection_of(strategy: SupervisedTemplate) -> BestValidation | None:
    """The strategy's model selection, if it has one."""
    return next((plugin for plugin in strategy.plugins if isinstance(plugin, BestValidation)), None)


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


class CleanGap(SeriesMetric):
    """Eval-mode accuracy on the training data, without augmentation, minus test accuracy, of the same weights.

    The training data are those that the strategy's data set holds after replay. Costs one forward pass over
    them at each megabatch, which is not counted as compute of the strategy.
    """

    def __init__(self) -> None:
        super().__init__()
        self._train_accuracy: float | None = None
        self._counting = False

    def after_training_exp(self, strategy: SupervisedTemplate) -> None:
        """Accuracy of the selected weights on what they were trained on."""
        self._train_accuracy = count_correct(strategy, strategy.adapted_dataset) / len(strategy.adapted_dataset)
        self._step = megabatch_of(strategy)

    def before_eval(self, strategy: SupervisedTemplate) -> None:
        """Start counting if it is the test stream that is evaluated."""
        self._counting = on_test_stream(strategy) and self._train_accuracy is not None
        self._correct = torch.zeros((), dtype=torch.long, device=strategy.device)
        self._seen = 0

    def after_eval_iteration(self, strategy: SupervisedTemplate) -> None:
        """Count right predictions on the device."""
        if self._counting:
            self._correct += (strategy.mb_output.argmax(1) == strategy.mb_y).sum()
            self._seen += len(strategy.mb_y)

    def after_eval(self, strategy: SupervisedTemplate) -> list[MetricValue] | None:
        """The gap, at the megabatch that was trained on last."""
        if not self._counting or self._train_accuracy is None:
            return None
        train = self._train_accuracy
        # A learner that waits is tested again and again: the gap belongs to the megabatch it trained on.
        self._train_accuracy = None
        values = {"train/clean_accuracy": train, "gap/clean": train - int(self._correct) / self._seen}
        return self.emit(values, step=self._step)
