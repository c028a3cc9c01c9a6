"""Ens: an ensemble of networks that are all trained at every megabatch (ALMA)."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from strategies.anytime import AnytimeStrategy, Learner, Pruning
from strategies.learning.execution import in_float32
from strategies.learning.members import Members, log_mean_probability
from strategies.registry import STRATEGIES


class EnsembleStrategy(AnytimeStrategy):
    """The ALMA learner with several networks, each of which learns as it would alone."""

    model: Members

    def __init__(self, *, learner: Learner, members: int):
        super().__init__(learner=learner, model=Members(learner.make_model(k) for k in range(members)))

    def predict(self) -> Tensor:
        """The ensemble's prediction; the members' own logits are kept for the loss."""
        self.mb_member_outputs = [in_float32(logits) for logits in self.through(self.model.outputs)]
        return log_mean_probability(self.mb_member_outputs)

    def criterion(self) -> Tensor:
        """In training the sum of the members' losses; in evaluation the ensemble's loss.

        The gradient of the sum with respect to one member's weights is that of its own loss, undivided.
        """
        if not self.is_training:
            return super().criterion()
        return torch.stack([self._criterion(logits, self.mb_y) for logits in self.mb_member_outputs]).sum()


@STRATEGIES.register(
    "ensemble", options=(), task_labels="ignored", reference="Caccia et al. 2021, arXiv 2106.09563 (Ens)"
)
def ensemble(learner: Learner, pruning: Pruning, *, members: Annotated[int, Ge(1)] = 3) -> AnytimeStrategy:
    """ALMA's Ens: several networks trained side by side, whose probabilities are averaged.

    1. Draw ``members`` random initialisations.
    2. At every megabatch train each of them on the replayed data, on the same batches, with its own loss.
    3. The predictor is the mean of their probabilities; the epoch with the best validation accuracy of the ensemble
       is handed over.

    Members differ in nothing but their initialisation. Training, storage and testing cost ``members`` times one
    network's: 3 by default where the paper has 5. One selection serves all members, which are restored together. The
    training loss that is recorded is the sum of the members'.
    """
    return EnsembleStrategy(learner=learner, members=members)
