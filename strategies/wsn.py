"""WSN: winning subnetworks (Kang et al. 2022, ICML, Forget-free continual learning with winning subnetworks)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, NamedTuple

import torch
from annotated_types import Gt
from avalanche.training.templates import SupervisedTemplate
from torch import nn
from torch.optim import Optimizer

from strategies.anytime import AnytimeStrategy, Learner, Pruning
from strategies.pruning.masks import Masks, keep_largest, kept_count, prunable_weights
from strategies.pruning.task_masks import TaskMasks, Weights, copies, put_
from strategies.registry import STRATEGIES
from strategies.seeds import torch_generator


class WeightScores(nn.Module):
    """A score for each prunable weight, drawn from U(-b, b) with b = 1 / sqrt(weights of an output).

    That is how PyTorch draws the weights of linear layers and convolutions, and the authors the scores.
    """

    def __init__(self, weights: Weights, seed: int):
        super().__init__()
        self.names = tuple(weights)
        generator = torch_generator(seed, "scores of winning subnetworks")
        drawn = (2 * torch.rand(w.shape, generator=generator) - 1 for w in weights.values())
        bounds = (w[0].numel() ** -0.5 for w in weights.values())
        self.scores = nn.ParameterList(nn.Parameter(d * b) for d, b in zip(drawn, bounds, strict=True))

    def named(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Name of a weight, its scores."""
        return zip(self.names, self.scores, strict=True)

    def best(self, density: float) -> Masks:
        """The round(density n) weights of each layer with the highest scores."""
        scores = dict(self.named())
        return keep_largest(scores, {name: kept_count(density, one.numel()) for name, one in scores.items()})


class State(NamedTuple):
    """What belongs to the weights in the model: those outside of the mask too, scores and mask."""

    weights: Weights
    scores: Weights
    masks: Masks


class WinningSubnetworks(TaskMasks):
    """Learns a mask together with the weights: the highest scores of each layer, passed straight through.

    The model holds the network of the current task, so that whatever looks at it sees that. For the backward pass,
    dL/ds = dL/d(m w) w, the straight-through estimate; dL/dw = dL/d(m w) m, zero for weights that earlier tasks use.

    Args:
        density: c, kept of each layer by each task.
        scores: of the weights of the model.
        optimizer: of the scores.
        rate: its learning rate, in those of the weights at that step.
        carry: whether its state survives from one task to the next.
    """

    def __init__(self, density: float, scores: WeightScores, optimizer: Optimizer, *, rate: float, carry: bool):
        super().__init__()
        self.density = density
        self.scores = scores
        self.optimizer = optimizer
        self.rate = rate
        self.carry = carry
        self._weights: Weights = {}

    def before_training_exp(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """Start from the weights and the scores that the last task ended with."""
        super().before_training_exp(strategy)
        if not self._weights:
            self.scores.to(strategy.device)
            self._weights = copies(prunable_weights(strategy.model))
        if not self.carry:
            self.optimizer.state.clear()
        self._choose(strategy.model)

    @torch.no_grad()
    def after_backward(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """From the gradient of the masked weights to those of scores and weights; for the step, put all in place."""
        assert self.used is not None
        weights, mask = prunable_weights(strategy.model), self.masks[self.task]
        for name, score in self.scores.named():
            gradient = weights[name].grad
            if gradient is not None:
                score.grad = gradient * self._weights[name]
                gradient.mul_(mask[name] & ~self.used[name])
        put_(strategy.model, self._weights)

    def after_update(self, strategy: SupervisedTemplate, *args: object, **kwargs: object) -> None:
        """Move the scores, and put the network that now has the highest ones in place."""
        super().after_update(strategy)
        self._weights = copies(prunable_weights(strategy.model))
        for own, followed in zip(self.optimizer.param_groups, strategy.optimizer.param_groups, strict=True):
            own["lr"] = self.rate * followed["lr"]
        self.optimizer.step()
        self._choose(strategy.model)

    def stored(self, model: nn.Module) -> Weights:
        """All weights, those outside of the current mask included."""
        return self._weights or super().stored(model)

    def snapshot(self) -> State:
        """See :class:`strategies.learning.roles.PartOfPredictor`."""
        return State(self._weights, copies(dict(self.scores.named())), self.masks[self.task])

    @torch.no_grad()
    def restore(self, state: State) -> None:
        """Go back to a snapshot; the model has its network already."""
        self._weights = state.weights
        for name, score in self.scores.named():
            score.copy_(state.scores[name])
        self.masks[self.task] = state.masks

    def _choose(self, model: nn.Module) -> None:
        self.masks[self.task] = self.scores.best(self.density)
        put_(model, self._weights, self.masks[self.task])


@STRATEGIES.register(
    "WSN",
    options=("density",),
    memory="own",
    replays="none",
    task_labels="needed",
    test_config={"stream": "split_digits", "scenario": "task-incremental"},
    reference="Kang et al. 2022, ICML, proceedings.mlr.press/v162/kang22b, algorithm 1",
)
def wsn(learner: Learner, pruning: Pruning, *, score_rate: Annotated[float, Gt(0)] = 10.0) -> AnytimeStrategy:
    """WSN, winning subnetworks: each task learns which weights it uses, and shares those of earlier tasks.

    For task t:

    1. in each step run the network of the weights with the highest scores, a fraction c of each layer;
    2. move their weights by the gradient, unless an earlier task uses them, and all scores by the straight-through
       gradient, as if the mask were the scores;
    3. hand over the best epoch. Its mask is the task's, and its weights are frozen.

    An image is answered with the mask and the head of its task. Scores go on from task to task, as in the paper's
    algorithm. No image is replayed, and nothing is forgotten.

    ``density`` is c, that of the network of each task; all tasks together use more, which is the density that boards
    show, with the tasks' own beside it. Scores are ranked as they are (the authors' code takes their absolute values)
    and learnt with the recipe's optimiser at ``score_rate`` times its rate: their gradients are those of the weights
    times the weights, which are about a tenth. (The authors use Adam, which asks for no scale.) The authors' networks
    have no biases; here biases and batch norm, statistics included, are the first task's.

    Scores outside of the mask need gradients, too: the FLOPs that are left if zeros are skipped do not count these.
    """
    model = learner.make_model(0)
    scores = WeightScores(prunable_weights(model), learner.seed)
    optimizer, carry = learner.optimizer(scores), learner.carry_momentum
    plugin = WinningSubnetworks(pruning.density, scores, optimizer, rate=score_rate, carry=carry)
    return AnytimeStrategy(learner=replace(learner, replay="none"), plugins=[plugin], model=model)
