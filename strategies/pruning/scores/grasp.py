"""GraSP: keep the weights that the gradient flow depends on (Wang et al. 2020, arXiv 2002.07376)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from strategies.pruning.masks import prunable_weights
from strategies.pruning.scores import Batch, Scores, output_of, scratch_copy
from strategies.registry import SCORES

TEMPERATURE = 200.0
"""Divides the logits: near-uniform predictions make the loss surface, and with it the score, smooth."""


@SCORES.register("grasp", reference="Wang et al. 2020, arXiv 2002.07376, algorithms 1 and 2", balanced=True, passes=2.0)
def grasp(model: nn.Module, batches: Iterable[Batch], /, *, temperature: float = TEMPERATURE) -> Scores:
    """Weight times Hessian-gradient product: what the weight gives to the gradient flow (GraSP).

    1. g: gradient of the mean cross-entropy over all samples, logits divided by ``temperature``;
    2. H g: gradient of <g, gradient>, the first g held constant, summed over the batches;
    3. score: w * (H g). Shrinking a weight by a fraction e of itself changes <g, g> by -2 e times its score.

    The paper gives the removal of a weight the importance S = -w * (H g), the change of the gradient flow, and removes
    the weights with the highest S. Those have the lowest score here, and the highest scores are kept; there is no
    absolute value. Gradients are with respect to the weights of all Conv2d and Linear modules, the classifier's
    included, biases and batch norm not, as in the authors' code. The authors initialise the classifier anew before
    scoring; on a stream the trained one is scored.

    The sums over batches are exact: one batch of 2n samples equals two of n. Batch norm alone sees each batch for
    itself. A sample is read twice, for g (a forward and backward pass) and for H g (three times that: the second
    backward pass goes through the first and through the forward pass); hence 2 passes a reading.

    Raises:
        ValueError: there is no sample, the second reading differs from the first, or there is no gradient.
    """
    # Each reading works on a copy of its own, so that both start from one random state: dropout is the same in both.
    with scratch_copy(model) as copied:
        weights = layer_weights(copied)
        gradient = [torch.zeros_like(weight) for weight in weights]
        samples = 0
        for inputs, targets in batches:
            loss = F.cross_entropy(output_of(copied, inputs) / temperature, targets, reduction="sum")
            add_(gradient, torch.autograd.grad(loss, weights, materialize_grads=True))
            samples += len(targets)
        if samples == 0:
            raise ValueError("a gradient score needs at least one sample")
        gradient = [total / samples for total in gradient]
    with scratch_copy(model) as copied:
        weights, prunable = layer_weights(copied), prunable_weights(copied)
        product = [torch.zeros_like(weight) for weight in prunable.values()]
        unread = samples
        for inputs, targets in batches:
            loss = F.cross_entropy(output_of(copied, inputs) / temperature, targets, reduction="sum")
            slopes = torch.autograd.grad(loss, weights, create_graph=True, materialize_grads=True)
            along = torch.stack([(g * slope).sum() for g, slope in zip(gradient, slopes, strict=True)]).sum()
            add_(product, torch.autograd.grad(along, list(prunable.values()), materialize_grads=True))
            unread -= len(targets)
        if unread != 0:
            raise ValueError("GraSP reads its batches twice and found other samples the second time")
        return {
            name: weight.detach() * total / samples
            for (name, weight), total in zip(prunable.items(), product, strict=True)
        }


def layer_weights(model: nn.Module) -> list[Tensor]:
    """Weights of all Conv2d and Linear modules, a shared one once."""
    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    return list(dict.fromkeys(layer.weight for layer in layers))


def add_(totals: Sequence[Tensor], summands: Sequence[Tensor]) -> None:
    """Add one list of tensors to another, in place."""
    for total, summand in zip(totals, summands, strict=True):
        total += summand
