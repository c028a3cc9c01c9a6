"""Avalanche's own strategies on the same streams, models and recipe, dense or with any pruning on top.

They bring their own memory, so the stream's replay option does not apply to them; the trait ``replays`` names the
replay policy that costs about as much, for estimates of time. Learning-rate schedule and best-validation selection
are the anytime learner's: every rival hands over its best predictor. From the command line they are dense unless a
``--schedule`` is asked for: then the weights are pruned at the start of each megabatch and held at zero, whatever the
strategy's penalties and memories do to the gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from annotated_types import Ge, Gt
from avalanche.core import SupervisedPlugin
from avalanche.training.plugins import SynapticIntelligencePlugin
from avalanche.training.supervised import DER as AvalancheDER
from avalanche.training.supervised import EWC as AvalancheEWC
from avalanche.training.supervised import Cumulative as AvalancheCumulative
from avalanche.training.supervised import GDumb as AvalancheGDumb
from avalanche.training.supervised import LwF as AvalancheLwF
from avalanche.training.supervised import Naive as AvalancheNaive
from avalanche.training.supervised import Replay as AvalancheReplay
from avalanche.training.templates import SupervisedTemplate
from torch import nn

from strategies.anytime import Learner, Pruning
from strategies.learning.execution import Executed
from strategies.pruning.plugin import PruningPlugin
from strategies.registry import STRATEGIES

AVALANCHE = "avalanche-lib 0.6"

PRUNING = ("score", "schedule", "density", "scope", "structure", "nested", "score_fraction", "control", "known_length")
"""Options of the pruning that any of them can have on top."""

DENSE = {"schedule": "none"}

Weight = Annotated[float, Ge(0)]
"""Factor of a part of the loss."""


@STRATEGIES.register("Naive", options=PRUNING, defaults=DENSE, memory="own", replays="none", reference=AVALANCHE)
def naive(learner: Learner, pruning: Pruning) -> SupervisedTemplate:
    """Avalanche's Naive: fine-tuning on each megabatch alone."""
    return _made(AvalancheNaive, learner, pruning, validate_on="none")


@STRATEGIES.register("Cumulative", options=PRUNING, defaults=DENSE, memory="own", replays="full", reference=AVALANCHE)
def cumulative(learner: Learner, pruning: Pruning) -> SupervisedTemplate:
    """Avalanche's Cumulative: training on all megabatches so far."""
    return _made(AvalancheCumulative, learner, pruning, validate_on="full")


@STRATEGIES.register(
    "Replay", options=("buffer_size", *PRUNING), defaults=DENSE, memory="own", replays="last", reference=AVALANCHE
)
def replay(learner: Learner, pruning: Pruning) -> SupervisedTemplate:
    """Avalanche's Replay: each batch is joined by as many samples from a bounded buffer."""
    return _made(AvalancheReplay, learner, pruning, validate_on="buffer", mem_size=learner.buffer_size)


@STRATEGIES.register(
    "GDumb",
    options=("buffer_size", *PRUNING),
    defaults=DENSE,
    memory="own",
    replays="none",
    reference="Prabhu et al. 2020; " + AVALANCHE,
)
def gdumb(learner: Learner, pruning: Pruning) -> SupervisedTemplate:
    """Avalanche's GDumb: a network from scratch at each megabatch, trained on a class-balanced buffer alone.

    Avalanche starts from the same initialisation every time. With pruning, it is those fresh weights that are scored.
    """
    return _made(AvalancheGDumb, learner, pruning, validate_on="buffer", mem_size=learner.buffer_size)


@STRATEGIES.register(
    "EWC",
    options=PRUNING,
    defaults=DENSE,
    memory="own",
    replays="none",
    reference="Kirkpatrick et al. 2017; " + AVALANCHE,
)
def ewc(learner: Learner, pruning: Pruning, *, ewc_lambda: Weight = 0.4) -> SupervisedTemplate:
    """Avalanche's EWC: elastic weight consolidation."""
    return _made(AvalancheEWC, learner, pruning, validate_on="none", ewc_lambda=ewc_lambda)


class SynapticIntelligence(SynapticIntelligencePlugin):
    """Avalanche's plugin, with copies of the weights where it keeps views of them.

    On a CPU the weights that Avalanche remembers from before a step are views of those in training: no weight ever
    seems to have moved, and the penalty is zero.
    """

    def before_training_exp(self, strategy: SupervisedTemplate, **kwargs: object) -> None:
        """Copy where the megabatch starts from."""
        super().before_training_exp(strategy, **kwargs)
        for anchor in self.ewc_data[0].values():
            anchor.data = anchor.data.clone()

    def before_training_iteration(self, strategy: SupervisedTemplate, **kwargs: object) -> None:
        """Copy where the step starts from."""
        super().before_training_iteration(strategy, **kwargs)
        for weight in self.syn_data["old_theta"].values():
            weight.data = weight.data.clone()


@STRATEGIES.register(
    "SI", options=PRUNING, defaults=DENSE, memory="own", replays="none", reference="Zenke et al. 2017; " + AVALANCHE
)
def synaptic_intelligence(learner: Learner, pruning: Pruning, *, si_lambda: Weight = 1.0) -> SupervisedTemplate:
    """Avalanche's SI: synaptic intelligence, a penalty by each weight's share in lowering the loss.

    It is Avalanche's variant, which limits the importance of a weight to 0.001, with one correction; the path that is
    integrated runs through all epochs, also those after the best one, from which training goes on.
    """
    penalty = SynapticIntelligence(si_lambda=si_lambda)
    return _made(AvalancheNaive, learner, pruning, validate_on="none", plugins=[penalty])


@STRATEGIES.register(
    "LwF",
    options=PRUNING,
    defaults=DENSE,
    memory="own",
    replays="none",
    reference="Li and Hoiem 2017; " + AVALANCHE,
)
def lwf(
    learner: Learner, pruning: Pruning, *, alpha: Weight = 1.0, temperature: Annotated[float, Gt(0)] = 2.0
) -> SupervisedTemplate:
    """Avalanche's LwF: learning without forgetting, the last predictor's answers beside the labels.

    Avalanche leaves the teacher in training mode: it answers with the statistics of the batch, not as it was tested.
    """
    return _made(AvalancheLwF, learner, pruning, validate_on="none", alpha=alpha, temperature=temperature)


@STRATEGIES.register(
    "DER",
    options=("buffer_size", *PRUNING),
    defaults=DENSE,
    memory="own",
    replays="last",
    reference="Buzzega et al. 2020; " + AVALANCHE,
)
def der(learner: Learner, pruning: Pruning, *, alpha: Weight = 0.1, beta: Weight = 0.5) -> SupervisedTemplate:
    """Avalanche's DER: dark experience replay, of logits (alpha) and, unless beta is 0, of labels (DER++).

    Avalanche stores the logits of the last epoch's model, before the best one is restored. It replays nothing while its
    buffer holds fewer samples than a batch of them, so that such batches are never larger than the buffer.
    """
    return _made(
        AvalancheDER,
        learner,
        pruning,
        validate_on="buffer",
        mem_size=learner.buffer_size,
        batch_size_mem=min(learner.batch_size, learner.buffer_size),
        alpha=alpha,
        beta=beta,
    )


def _made(
    template: type[SupervisedTemplate],
    learner: Learner,
    pruning: Pruning,
    *,
    validate_on: str,
    plugins: Sequence[SupervisedPlugin] = (),
    **own: Any,
) -> SupervisedTemplate:
    """Avalanche's ``template`` with the learner's recipe and execution, pruned if a schedule is asked for."""
    pruner = [] if pruning.schedule == "none" else [PruningPlugin(pruning.parts(learner))]
    strategy = type(template.__name__, (template, Executed), {})(
        **learner.template_arguments(),
        criterion=nn.CrossEntropyLoss(),
        plugins=[learner.optimisation(), *pruner, learner.selection(validate_on), *learner.plugins, *plugins],
        **own,
    )
    strategy.execution = learner.execution
    return strategy
