"""Avalanche's own strategies on the same streams, models and recipe, dense or with any pruning on top.

They bring their own memory, so the stream's replay option does not apply to them; the trait ``replays`` names the
replay policy that costs about as much, for estimates of time. Learning-rate schedule and best-validation selection
are the anytime learner's: every rival hands over its best predictor. From the command line they are dense unless a
``--schedule`` is asked for: then the weights are pruned at the start of each megabatch and held at zero, whatever the
strategy's penalties and memories do to the gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt, Interval
from avalanche.benchmarks.utils.data_loader import GroupBalancedInfiniteDataLoader
from avalanche.core import SupervisedPlugin
from avalanche.models import DynamicModule, MultiTaskModule
from avalanche.models.packnet import PackNetModel, PackNetModule, PackNetPlugin, WeightAndBiasPackNetModule
from avalanche.training.plugins import AGEMPlugin, RWalkPlugin, SynapticIntelligencePlugin
from avalanche.training.supervised import DER as AvalancheDER
from avalanche.training.supervised import ER_ACE as AvalancheERACE
from avalanche.training.supervised import EWC as AvalancheEWC
from avalanche.training.supervised import GEM as AvalancheGEM
from avalanche.training.supervised import MAS as AvalancheMAS
from avalanche.training.supervised import Cumulative as AvalancheCumulative
from avalanche.training.supervised import GDumb as AvalancheGDumb
from avalanche.training.supervised import ICaRL as AvalancheICaRL
from avalanche.training.supervised import LwF as AvalancheLwF
from avalanche.training.supervised import Naive as AvalancheNaive
from avalanche.training.supervised import Replay as AvalancheReplay
from avalanche.training.templates import SupervisedTemplate
from torch import Tensor, nn

from strategies.anytime import Learner, Pruning
from strategies.learning.execution import Executed
from strategies.pruning.masks import classifier_of
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
def synaptic_intelligence(
    learner: Learner, pruning: Pruning, *, si_lambda: Weight = 1.0, eps: Annotated[float, Gt(0)] = 1e-7
) -> SupervisedTemplate:
    """Avalanche's SI: synaptic intelligence, a penalty by each weight's share in lowering the loss.

    It is Avalanche's variant, which limits the importance of a weight to 0.001, with one correction; the path that is
    integrated runs through all epochs, also those after the best one, from which training goes on. ``eps`` damps the
    importance of weights that hardly moved (the paper's xi, equation 5).
    """
    penalty = SynapticIntelligence(si_lambda=si_lambda, eps=eps)
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


def _stored_logits_stay(model: nn.Module, epochs: int) -> None:
    if any(isinstance(m, DynamicModule) and not isinstance(m, MultiTaskModule) for m in model.modules()):
        raise ValueError("it stores logits, which say nothing of classes that came later: leave out --head growing")


@STRATEGIES.register(
    "DER",
    check=_stored_logits_stay,
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


@STRATEGIES.register(
    "ER-ACE",
    options=("buffer_size", *PRUNING),
    defaults=DENSE,
    memory="own",
    replays="last",
    reference="Caccia et al. 2022, arXiv 2104.05025; " + AVALANCHE,
)
def er_ace(learner: Learner, pruning: Pruning) -> SupervisedTemplate:
    """Avalanche's ER-ACE: experience replay where new images are told apart among new classes alone.

    The newest experience enters the buffer before it is trained on. Nothing is replayed in the first experience, nor
    while the buffer holds fewer samples than a batch of them.
    """
    return _made(
        AvalancheERACE,
        learner,
        pruning,
        validate_on="buffer",
        mem_size=learner.buffer_size,
        batch_size_mem=min(learner.batch_size, learner.buffer_size),
    )


@STRATEGIES.register(
    "MAS",
    options=PRUNING,
    defaults=DENSE,
    memory="own",
    replays="none",
    reference="Aljundi et al. 2018, arXiv 1711.09601; " + AVALANCHE,
)
def mas(
    learner: Learner, pruning: Pruning, *, lambda_reg: Weight = 1.0, alpha: Annotated[float, Interval(ge=0, le=1)] = 0.5
) -> SupervisedTemplate:
    """Avalanche's MAS: memory aware synapses, a penalty by how much each weight moves the length of the output."""
    return _made(AvalancheMAS, learner, pruning, validate_on="none", lambda_reg=lambda_reg, alpha=alpha)


@STRATEGIES.register(
    "RWalk",
    options=PRUNING,
    defaults=DENSE,
    memory="own",
    replays="none",
    test_config={"stream": "split_digits", "scenario": "task-incremental", "lr": 0.03, "augment": False},
    reference="Chaudhry et al. 2018, arXiv 1801.10112; " + AVALANCHE,
)
def rwalk(
    learner: Learner,
    pruning: Pruning,
    *,
    ewc_lambda: Weight = 0.1,
    ewc_alpha: Annotated[float, Interval(ge=0, le=1)] = 0.9,
    delta_t: Annotated[int, Ge(1)] = 10,
) -> SupervisedTemplate:
    """Avalanche's RWalk: Riemannian walk, EWC's penalty and SI's in one.

    What weights have done is looked at every ``delta_t`` steps; an experience that has fewer makes the loss no number.
    """
    walk = RWalkPlugin(ewc_lambda=ewc_lambda, ewc_alpha=ewc_alpha, delta_t=delta_t)
    return _made(AvalancheNaive, learner, pruning, validate_on="none", plugins=[walk])


@STRATEGIES.register(
    "GEM",
    options=PRUNING,
    defaults=DENSE,
    memory="own",
    replays="none",
    reference="Lopez-Paz and Ranzato 2017, arXiv 1706.08840; " + AVALANCHE,
)
def gem(
    learner: Learner,
    pruning: Pruning,
    *,
    patterns_per_exp: Annotated[int, Ge(1)] = 100,
    memory_strength: Weight = 0.5,
) -> SupervisedTemplate:
    """Avalanche's GEM: gradients are turned until no remembered experience gets worse by them.

    It remembers ``patterns_per_exp`` images of each experience and runs all of them in every step.
    """
    return _made(
        AvalancheGEM,
        learner,
        pruning,
        validate_on="buffer",
        patterns_per_exp=patterns_per_exp,
        memory_strength=memory_strength,
    )


class AveragedMemory(AGEMPlugin):
    """Avalanche's A-GEM with batches that are drawn anew in each experience.

    Avalanche goes on with one iterator through all of them, which no other process could go on with.
    """

    def before_training_exp(self, strategy: SupervisedTemplate, **kwargs: object) -> None:
        """Begin to draw."""
        if self.buffers:
            size = max(1, self.sample_size // len(self.buffers))
            self.buffer_dataloader = GroupBalancedInfiniteDataLoader(self.buffers, batch_size=size)
            self.buffer_dliter = iter(self.buffer_dataloader)

    def after_training_exp(self, strategy: SupervisedTemplate, **kwargs: object) -> None:
        """Remember some images of the experience, and end drawing."""
        super().after_training_exp(strategy, **kwargs)
        self.buffer_dataloader = self.buffer_dliter = None


@STRATEGIES.register(
    "A-GEM",
    options=PRUNING,
    defaults=DENSE,
    memory="own",
    replays="none",
    reference="Chaudhry et al. 2019, arXiv 1812.00420; " + AVALANCHE,
)
def a_gem(
    learner: Learner,
    pruning: Pruning,
    *,
    patterns_per_exp: Annotated[int, Ge(1)] = 100,
    sample_size: Annotated[int, Ge(1)] = 64,
) -> SupervisedTemplate:
    """Avalanche's A-GEM: gradients are turned until a sample of what is remembered gets no worse by them.

    It remembers ``patterns_per_exp`` images of each experience and runs ``sample_size`` of them in every step.
    """
    memory = AveragedMemory(patterns_per_experience=patterns_per_exp, sample_size=sample_size)
    # Avalanche looks at gradients as flat pieces of memory.
    network = learner.make_model(0).to(memory_format=torch.contiguous_format)
    return _made(AvalancheNaive, learner, pruning, validate_on="buffer", plugins=[memory], network=network)


def _has_one_linear_classifier(model: nn.Module, epochs: int) -> None:
    if not isinstance(model.get_submodule(classifier_of(model) or ""), nn.Linear):
        raise ValueError("its classifier is no single linear layer, whose inputs would be the features")


@STRATEGIES.register(
    "iCaRL",
    options=("buffer_size", *PRUNING),
    defaults=DENSE,
    memory="own",
    replays="last",
    task_labels="ignored",
    needs_new_classes=True,
    check=_has_one_linear_classifier,
    test_config={"stream": "split_digits", "epochs": 6, "augment": False},
    reference="Rebuffi et al. 2017, arXiv 1611.07725; " + AVALANCHE,
)
def icarl(learner: Learner, pruning: Pruning) -> SupervisedTemplate:
    """Avalanche's iCaRL: features that are distilled, and the class of the nearest mean of remembered images.

    The means are of images and their mirror images, whatever they show. Remembered images are chosen at the end of an
    experience, so that epochs cannot be told apart before: the last one is handed over, and nothing is validated.
    """
    network = learner.make_model(0)
    name = classifier_of(network) or ""
    classifier = network.get_submodule(name)
    assert isinstance(classifier, nn.Linear)
    parent, _, last = name.rpartition(".")
    setattr(network.get_submodule(parent), last, nn.Identity())
    both = nn.ModuleDict({"features": network, "classifier": classifier})
    arguments = {**learner.template_arguments(both), "feature_extractor": network, "classifier": classifier}
    del arguments["model"]
    pruner = [] if pruning.schedule == "none" else [PruningPlugin(pruning.parts(learner))]
    strategy = type("ICaRL", (AvalancheICaRL, Executed), {})(
        **arguments,
        memory_size=learner.buffer_size,
        buffer_transform=None,
        fixed_memory=True,
        plugins=[learner.optimisation(), *pruner, *learner.plugins],
    )
    strategy.model.classifier_name = "train_classifier"
    strategy.model.eval_classifier.init_missing_classes(
        range(classifier.out_features), classifier.in_features, torch.device(learner.device)
    )
    strategy.execution = learner.execution
    return strategy


class PackedTasks(PackNetModel):
    """A network with task heads whose weights below them belong to one task each.

    Avalanche would prune the heads, too, and hand no task on to them.

    Attributes:
        classifier_name: the heads, which are not pruned.
    """

    classifier_name = "wrappee.heads"

    def __init__(self, network: MultiTaskModule):
        PackNetModule.__init__(self)
        network.features = PackNetModel.wrap(network.features)
        self.wrappee = network

    def forward(self, x: Tensor, task_labels: Tensor | None = None) -> Tensor:
        """Logits of the images' task, by the weights of it and of those before; without one, by those at hand."""
        if task_labels is None:
            return self.wrappee.all_heads(x)
        # Tests run in inference mode, and training goes on with the masks.
        with torch.inference_mode(False):
            self.activate_task(min(int(task_labels[0]), self.task_count))
        return self.wrappee(x, task_labels)


class PackNet(PackNetPlugin):
    """Avalanche's PackNet, which also keeps momentum and weight decay away from weights of earlier tasks.

    Attributes:
        ready: whether the weights are down to what the task keeps; epochs before are not handed over.
    """

    ready = False

    def __init__(self, post_prune_epochs: int, prune_proportion: float):
        super().__init__(post_prune_epochs, partial(_always, prune_proportion))
        self._frozen: dict[str, tuple[Tensor, Tensor]] = {}

    def before_training_exp(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """Note which weights belong to earlier tasks, and their values."""
        model = self._get_model(strategy)
        model.activate_task(model.task_count)
        self.ready = False
        self._frozen = {
            name: (~module.unfrozen_mask, module.wrappee.weight.detach().clone())
            for name, module in model.named_modules()
            if isinstance(module, WeightAndBiasPackNetModule)
        }

    def before_training_epoch(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """Prune, once it is time to."""
        super().before_training_epoch(strategy, *args, **kwargs)
        self.ready = self._get_model(strategy).state == PackNetModule.State.POST_PRUNE

    @torch.no_grad()
    def after_update(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """Give earlier tasks their weights back."""
        for name, (theirs, values) in self._frozen.items():
            weight = strategy.model.get_submodule(name).wrappee.weight
            weight.copy_(torch.where(theirs, values, weight))

    def after_training_exp(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """The task's weights are its own now; copies of earlier tasks' are needed no longer."""
        super().after_training_exp(strategy, *args, **kwargs)
        self._frozen = {}


def _always(value: float, task: int) -> float:
    return value


def _can_be_packed(model: nn.Module, epochs: int) -> None:
    if epochs < 2:
        raise ValueError("it trains, prunes and trains on, which takes --epochs 2 or more")
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules()):
        raise ValueError("Avalanche's PackNet has no batch norm: choose --model mlp")


@STRATEGIES.register(
    "PackNet",
    options=(),
    memory="own",
    replays="none",
    task_labels="needed",
    check=_can_be_packed,
    test_config={"stream": "split_digits", "scenario": "task-incremental", "epochs": 6, "augment": False},
    reference="Mallya and Lazebnik 2018, arXiv 1711.05769; " + AVALANCHE,
)
def packnet(
    learner: Learner,
    pruning: Pruning,
    *,
    prune_proportion: Annotated[float, Interval(ge=0, lt=1)] = 0.5,
    retrain: Annotated[float, Interval(gt=0, lt=1)] = 0.3,
) -> SupervisedTemplate:
    """Avalanche's PackNet: each task keeps some of the weights that are left, and nothing ever changes them again.

    1. Train on the task with all weights that belong to no earlier one; those of earlier ones take part as they are.
    2. Give up ``prune_proportion`` of the trained ones, the smallest of each layer, for later tasks.
    3. Train the others for the last ``retrain`` of the epochs. The best of these is handed over.

    A test image says its task, whose weights and those of tasks before it are used. Biases are the first task's. All
    weights are stored, so that the density that is measured is 1.
    """
    post = min(max(1, round(retrain * learner.epochs)), learner.epochs - 1)
    plugin = PackNet(post, prune_proportion)
    packed = PackedTasks(learner.make_model(0))
    alone = replace(pruning, schedule="none")
    return _made(AvalancheNaive, learner, alone, validate_on="none", plugins=[plugin], network=packed)


def _made(
    template: type[SupervisedTemplate],
    learner: Learner,
    pruning: Pruning,
    *,
    validate_on: str,
    plugins: Sequence[SupervisedPlugin] = (),
    network: nn.Module | None = None,
    **own: Any,
) -> SupervisedTemplate:
    """Avalanche's ``template`` with the learner's recipe and execution, pruned if a schedule is asked for."""
    pruner = [] if pruning.schedule == "none" else [PruningPlugin(pruning.parts(learner))]
    strategy = type(template.__name__, (template, Executed), {})(
        **learner.template_arguments(network),
        criterion=nn.CrossEntropyLoss(),
        plugins=[learner.optimisation(), *pruner, learner.selection(validate_on), *learner.plugins, *plugins],
        **own,
    )
    strategy.execution = learner.execution
    return strategy
