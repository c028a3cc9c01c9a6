"""Training data that teach little: what is right anyway is left out while a megabatch is trained on."""

from __future__ import annotations

import numpy as np
from avalanche.benchmarks.utils import AvalancheDataset
from avalanche.core import SupervisedPlugin
from avalanche.training.templates import SupervisedTemplate

from strategies.learning.evaluation import which_are_correct
from strategies.seeds import numpy_generator


class DataRemoval(SupervisedPlugin):
    """Removes samples of the newest megabatch, in stages, those first that were predicted wrong least often.

    What replay brings from earlier megabatches stays. After each epoch before the last stage the newest samples that
    are left are predicted once more, as they are; each stage begins to count anew, and of samples that are equal some
    are drawn. What is removed is not trained on for the rest of the megabatch; one sample stays.

    Attributes:
        share: of the newest megabatch that is removed after all stages, equally many at each.
        stages: how many there are at the most.
        every: epochs from one stage to the next, see :func:`stage_epochs`.
        forwarded_samples: predicted for it, over the whole run.
    """

    def __init__(self, share: float, *, stages: int, every: int, seed: int):
        super().__init__()
        self.share = share
        self.stages = stages
        self.every = every
        self.seed = seed
        self.forwarded_samples = 0
        self._newest = 0
        self._wrong = np.zeros(0, dtype=int)
        self._at = range(0)
        self._whole: AvalancheDataset | None = None

    def before_training_exp(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """Start of a megabatch, of which all samples are there."""
        self._newest = len(strategy.experience.dataset)
        self._wrong = np.zeros(self._newest, dtype=int)
        self._at = stage_epochs(strategy.train_epochs, self.every)[: self.stages] if self.share else range(0)
        self._whole = strategy.adapted_dataset

    def after_training_epoch(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """Count, if a stage is still to come."""
        if self._at and strategy.clock.train_exp_epochs < self._at[-1]:
            left = len(self._wrong)
            before = len(strategy.adapted_dataset) - left
            newest = strategy.adapted_dataset.subset(list(range(before, before + left)))
            self._wrong += ~which_are_correct(strategy, newest).numpy()
            self.forwarded_samples += left

    def before_training_epoch(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """Remove samples, if it is time to."""
        epoch = strategy.clock.train_exp_epochs
        if epoch not in self._at:
            return
        stage = 1 + self._at.index(epoch)
        left = len(self._wrong)
        goal = max(1, self._newest - round(self.share * self._newest * stage / len(self._at)))
        rng = numpy_generator(self.seed, "data removal", strategy.clock.train_exp_counter, stage)
        kept = np.sort(np.lexsort((rng.random(left), self._wrong))[left - goal :])
        before = len(strategy.adapted_dataset) - left
        batches = strategy.dataloader
        strategy.adapted_dataset = strategy.adapted_dataset.subset([*range(before), *(before + kept).tolist()])
        strategy.make_train_dataloader()
        if hasattr(batches, "epoch"):
            # Other batches in each epoch, as if nothing had been removed.
            strategy.dataloader.epoch = batches.epoch
        self._wrong = np.zeros(goal, dtype=int)

    def after_training_exp(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """What was there to be trained on is measured as a whole."""
        strategy.adapted_dataset = self._whole
        self._whole = None
        self._wrong = np.zeros(0, dtype=int)


def stage_epochs(epochs: int, every: int) -> range:
    """The epochs, of ``epochs`` from 0, that something happens before: ``every``, 2 ``every`` and so on.

    Where that is too late even for the first there is one half way, of an odd number of epochs after the middle one.
    There is none before or after a single epoch.
    """
    half = -(-epochs // 2)
    return range(every, epochs, every) or range(half, min(half + 1, epochs))
