"""The anytime learner of ALMA as an Avalanche strategy, and the ingredients that every rival shares."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from avalanche.benchmarks.utils import AvalancheDataset
from avalanche.benchmarks.utils.data_loader import ReplayDataLoader
from avalanche.core import SupervisedPlugin
from avalanche.training.plugins import EvaluationPlugin
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from strategies.learning.continuation import Continuable
from strategies.learning.execution import Executed, Execution
from strategies.learning.optimisation import MegabatchOptimisation, ScheduleFactory, schedule_factory
from strategies.learning.recipe import Control, LearningRateSchedule, Optimiser, Ties
from strategies.learning.replay import Memory, ReplayMegabatches
from strategies.learning.selection import BestValidation
from strategies.pruning.distributions import Distribution
from strategies.pruning.parts import PruningParts
from strategies.pruning.schedules import FINAL_DENSITY
from strategies.pruning.structures import structure_named
from strategies.registry import DISTRIBUTIONS, REPLAYS, SCHEDULES, SCORES

OptimizerFactory = Callable[[nn.Module], Optimizer]
"""Model -> an optimiser over its parameters."""


class Loader(Protocol):
    """Turns an Avalanche data set into batches [x, y, task label]."""

    def train_batches(
        self, dataset: AvalancheDataset, batch_size: int, megabatch: int, joined: int = 0
    ) -> Iterable[list[Tensor]]:
        """Shuffled, augmented batches; each iteration is a new epoch. Has a length.

        An epoch is over all samples but the first ``joined``, some of which join each batch. Only the replay policy
        ``interleaved`` asks for it.
        """

    def eval_batches(self, dataset: AvalancheDataset, batch_size: int) -> Iterable[list[Tensor]]:
        """Batches in order, without augmentation. Has a length."""


@dataclass(frozen=True)
class Learner:
    """Model, data handling and recipe of a run: all that rivals on one leaderboard have in common.

    Attributes:
        make_model: ``make_model(k)`` returns the model with its k-th random initialisation, the same for the same
            k and seed; the learner starts from k = 0.
        megabatches: how many times the learner will train (B, or fewer when it waits); None where it is not told.
        epochs: epochs per megabatch.
        batch_size, eval_batch_size: samples per training and evaluation batch.
        algorithm, lr, momentum, weight_decay: the optimiser and its parameters; momentum is SGD's.
        lr_schedule: how the rate falls within a megabatch.
        milestones, lr_decay: of multistep, fractions of a megabatch's epochs after which the rate is multiplied.
        carry_momentum: whether optimiser state survives from one megabatch to the next.
        replay: name of the replay policy.
        buffer_size: earlier training samples that bounded memories keep.
        val_fraction: fraction of each megabatch that is its validation part.
        ties: which of equally good validation epochs is handed over.
        seed: of everything random in the learner.
        device: where the model is trained.
        execution: in which precision the model is run, and whether compiled.
        evaluator: Avalanche's evaluation plugin; None measures and records nothing.
        loader: faster path to batches; None uses Avalanche's.
        plugins: further plugins, run after the learner's own.
    """

    make_model: Callable[[int], nn.Module]
    megabatches: int | None
    epochs: int = 50
    batch_size: int = 64
    eval_batch_size: int = 256
    algorithm: Optimiser = "sgd"
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4
    lr_schedule: LearningRateSchedule = "multistep"
    milestones: Sequence[float] = (0.4, 0.8)
    lr_decay: float = 0.1
    carry_momentum: bool = False
    replay: str = "full"
    buffer_size: int = 1000
    val_fraction: float = 0.1
    ties: Ties = "last"
    seed: int = 0
    device: str = "cpu"
    execution: Execution = field(default_factory=Execution)
    evaluator: EvaluationPlugin | None = None
    loader: Loader | None = None
    plugins: Sequence[SupervisedPlugin] = field(default_factory=tuple)

    def optimizer(self, model: nn.Module) -> Optimizer:
        """The recipe's optimiser over all parameters of ``model``, in its fused form on a GPU.

        On a CPU the fused form rounds differently, so that results would depend on the layers' sizes modulo the
        width of a vector, and gains less than a hundredth of a step.
        """
        fused = self.device.startswith("cuda") or None
        if self.algorithm == "adamw":
            return AdamW(model.parameters(), lr=self.lr, weight_decay=self.weight_decay, fused=fused)
        return SGD(model.parameters(), lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay, fused=fused)

    def template_arguments(
        self, model: nn.Module | None = None, optimizer: OptimizerFactory | None = None
    ) -> dict[str, Any]:
        """Keyword arguments of Avalanche's supervised templates, but for ``plugins``.

        ``model`` and ``optimizer``, which makes one for it, take the place of the learner's.
        """
        model = self.make_model(0) if model is None else model
        return {
            "model": model,
            "optimizer": (optimizer or self.optimizer)(model),
            "train_mb_size": self.batch_size,
            "train_epochs": self.epochs,
            "eval_mb_size": self.eval_batch_size,
            "device": self.device,
            "evaluator": self.evaluator,
        }

    def optimisation(self) -> MegabatchOptimisation:
        """The learning-rate schedule of the recipe, for the recipe's optimiser."""
        schedule = schedule_factory(self.lr_schedule, milestones=self.milestones, decay=self.lr_decay)
        return MegabatchOptimisation(schedule, carry_momentum=self.carry_momentum)

    def training_memory(self) -> Memory:
        """What is trained on at each megabatch."""
        return self._memory(self.replay, self.buffer_size, "training")

    def selection(self, replay: str | None = None) -> BestValidation:
        """Best-validation selection; earlier validation parts accumulate as ``replay`` (default: ours) has it."""
        capacity = round(self.buffer_size * self.val_fraction / (1 - self.val_fraction))
        return BestValidation(self._memory(replay or self.replay, capacity, "validation"), self.ties)

    def _memory(self, replay: str, capacity: int, role: str) -> Memory:
        memory: Memory = REPLAYS.load(replay).target(capacity=capacity, seed=self.seed, role=role)
        return memory


@dataclass(frozen=True)
class Pruning:
    """What the pruning strategies can be asked to vary.

    Attributes:
        density: the final one, the kept fraction of all prunable weights.
        score: name of the score that ranks the weights.
        schedule: name of the density schedule.
        scope: name of the distribution over layers.
        layer_density: relative densities of layers, for the scope ``custom``.
        structure: name of the structure, or ``N:M`` with numbers.
        nested: whether a pruned weight stays pruned for ever.
        score_fraction: samples a scoring uses, as a fraction of one megabatch.
        control: what the pruner is checked against.
    """

    density: float = FINAL_DENSITY
    score: str = "snip"
    schedule: str = "exponent"
    scope: str = "global"
    layer_density: Mapping[str, float] = field(default_factory=dict)
    structure: str = "unstructured"
    nested: bool = True
    score_fraction: float = 0.2
    control: Control = "none"

    def parts(self, learner: Learner) -> PruningParts:
        """The named parts, for a :class:`strategies.pruning.plugin.PruningPlugin`.

        A strategy that fixes one of them replaces it, by name, ``replace(pruning, score="magnitude").parts(learner)``,
        or the part itself, ``replace(pruning.parts(learner), schedule=...)``.
        """
        score = SCORES.load(self.score)
        return PruningParts(
            score=score.target,
            scoring=score.traits,
            distribution=self.distribution(),
            schedule=SCHEDULES.load(self.schedule).target(self.density, learner.megabatches),
            structure=structure_named(self.structure),
            sample_fraction=self.score_fraction,
            nested=self.nested,
            control=self.control,
            make_model=learner.make_model,
            seed=learner.seed,
        )

    def distribution(self) -> Distribution:
        """The distribution over layers; one with options is made with those given here."""
        scope = DISTRIBUTIONS.load(self.scope)
        chosen = {name: getattr(self, name) for name in scope.traits.options}
        distribution: Distribution = scope.target(**chosen) if chosen else scope.target
        return distribution


class AnytimeStrategy(Continuable, Executed):
    """The ALMA learner (arXiv 2106.09563, algorithm 1).

    For each megabatch: add it to what is replayed, train for some epochs with a schedule of its own, hand over
    the epoch with the best validation accuracy. ``plugins`` say what else happens, such as pruning; ``model`` and
    ``selection`` take the place of the learner's. An ``optimizer`` of the strategy's own keeps its rate, or has a
    ``schedule`` of its own.
    """

    def __init__(
        self,
        *,
        learner: Learner,
        plugins: Sequence[SupervisedPlugin] = (),
        model: nn.Module | None = None,
        optimizer: OptimizerFactory | None = None,
        schedule: ScheduleFactory | None = None,
        selection: BestValidation | None = None,
    ):
        optimisation = learner.optimisation()
        if optimizer is not None or schedule is not None:
            optimisation = MegabatchOptimisation(schedule, carry_momentum=learner.carry_momentum)
        # Order matters: the optimiser is ready before masks are put on it, and the best weights are restored
        # before the plugins that measure them.
        self.joined = 0
        super().__init__(
            **learner.template_arguments(model, optimizer),
            plugins=[
                ReplayMegabatches(learner.training_memory()),
                optimisation,
                *plugins,
                selection or learner.selection(),
                *learner.plugins,
            ],
        )
        self.execution = learner.execution
        self.loader = learner.loader

    def make_train_dataloader(self, **kwargs: Any) -> None:
        """Batches of the adapted data set, through the learner's loader if there is one."""
        if self.loader is not None:
            joined = {"joined": self.joined} if self.joined else {}
            self.dataloader = self.loader.train_batches(
                self.adapted_dataset, self.train_mb_size, self.clock.train_exp_counter, **joined
            )
        elif self.joined:
            everything = range(len(self.adapted_dataset))
            self.dataloader = ReplayDataLoader(
                self.adapted_dataset.subset(list(everything[self.joined :])),
                self.adapted_dataset.subset(list(everything[: self.joined])),
                oversample_small_tasks=True,
                batch_size=self.train_mb_size,
                batch_size_mem=min(self.train_mb_size, self.joined),
                shuffle=kwargs.get("shuffle", True),
            )
        else:
            super().make_train_dataloader(**kwargs)

    def make_eval_dataloader(self, **kwargs: Any) -> None:
        """Batches for evaluation, through the learner's loader if there is one."""
        if self.loader is None:
            super().make_eval_dataloader(**kwargs)
        else:
            self.dataloader = self.loader.eval_batches(self.adapted_dataset, self.eval_mb_size)
