"""Avalanche's own strategies on the same streams, models and recipe.

They bring their own memory, so the stream's replay option does not apply to them; the trait ``replays`` names the
replay policy that costs about as much, for estimates of time. Learning-rate schedule and
best-validation selection are the anytime learner's: every rival hands over its best predictor.
"""

from __future__ import annotations

from typing import Any

from avalanche.training.supervised import DER as AvalancheDER
from avalanche.training.supervised import EWC as AvalancheEWC
from avalanche.training.supervised import Cumulative as AvalancheCumulative
from avalanche.training.supervised import LwF as AvalancheLwF
from avalanche.training.supervised import Naive as AvalancheNaive
from avalanche.training.supervised import Replay as AvalancheReplay
from avalanche.training.templates import SupervisedTemplate
from torch import nn

from strategies.anytime import Learner, Pruning
from strategies.registry import STRATEGIES

AVALANCHE = "avalanche-lib 0.6"


@STRATEGIES.register("Naive", options=(), memory="own", replays="none", reference=AVALANCHE)
def naive(learner: Learner, pruning: Pruning) -> SupervisedTemplate:
    """Avalanche's Naive: fine-tuning on each megabatch alone."""
    return AvalancheNaive(**_arguments(learner, validate_on="none"))


@STRATEGIES.register("Cumulative", options=(), memory="own", replays="full", reference=AVALANCHE)
def cumulative(learner: Learner, pruning: Pruning) -> SupervisedTemplate:
    """Avalanche's Cumulative: training on all megabatches so far."""
    return AvalancheCumulative(**_arguments(learner, validate_on="full"))


@STRATEGIES.register("Replay", options=("buffer_size",), memory="own", replays="last", reference=AVALANCHE)
def replay(learner: Learner, pruning: Pruning) -> SupervisedTemplate:
    """Avalanche's Replay: each batch is joined by as many samples from a bounded buffer."""
    return AvalancheReplay(**_arguments(learner, validate_on="buffer"), mem_size=learner.buffer_size)


@STRATEGIES.register("EWC", options=(), memory="own", replays="none", reference="Kirkpatrick et al. 2017; " + AVALANCHE)
def ewc(learner: Learner, pruning: Pruning) -> SupervisedTemplate:
    """Avalanche's EWC: elastic weight consolidation, lambda 0.4."""
    return AvalancheEWC(**_arguments(learner, validate_on="none"), ewc_lambda=0.4)


@STRATEGIES.register("LwF", options=(), memory="own", replays="none", reference="Li and Hoiem 2017; " + AVALANCHE)
def lwf(learner: Learner, pruning: Pruning) -> SupervisedTemplate:
    """Avalanche's LwF: learning without forgetting, alpha 1, temperature 2."""
    return AvalancheLwF(**_arguments(learner, validate_on="none"), alpha=1.0, temperature=2.0)


@STRATEGIES.register(
    "DER", options=("buffer_size",), memory="own", replays="last", reference="Buzzega et al. 2020; " + AVALANCHE
)
def der(learner: Learner, pruning: Pruning) -> SupervisedTemplate:
    """Avalanche's DER: dark experience replay, alpha 0.1, beta 0.5 (DER++).

    Avalanche stores the logits of the last epoch's model, before the best one is restored.
    """
    return AvalancheDER(**_arguments(learner, validate_on="buffer"), mem_size=learner.buffer_size)


def _arguments(learner: Learner, validate_on: str) -> dict[str, Any]:
    plugins = [learner.optimisation(), learner.selection(validate_on), *learner.plugins]
    return {**learner.template_arguments(), "criterion": nn.CrossEntropyLoss(), "plugins": plugins}
