"""ProsPr: prospect pruning, meta-gradients through training steps (Alizadeh et al. 2022, arXiv 2202.08132)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from strategies.pruning.masks import Masks, prunable_weights
from strategies.pruning.scores import Batch, Scores, output_of, scratch_copy
from strategies.registry import SCORES

INNER_STEPS = 3
"""K, as in the authors' code."""

INNER_LR = 0.1
"""Learning rate of the inner steps: the default of the authors' command, without momentum or weight decay."""


@SCORES.register("prospr", reference="Alizadeh et al. 2022, arXiv 2202.08132, section 3", samples=512, passes=2.5)
def prospr(model: nn.Module, batches: Iterable[Batch], /, *, steps: int = INNER_STEPS, lr: float = INNER_LR) -> Scores:
    """abs(dL(theta_K)/dmask) through K = 3 inner SGD steps (ProsPr).

    1. theta_0 = mask * theta, with a mask of ones: it multiplies the weights that may be pruned;
    2. theta_k+1 = theta_k - lr * dL_k/dtheta_k, k = 0..K-1, for all parameters, each step on the next batch;
    3. score: abs(dL_K(theta_K)/dmask), on the batch after those, differentiated through all the steps.

    Without inner steps (K = 0) that is SNIP. Batches are taken from the beginning again when they run out; the plugin
    cuts 512 samples into a batch of 128 for each step and one for the last loss. Batch norm is in training mode.
    Weights that are pruned already are zero: they are held there during the inner steps, as in the training that is
    foreseen, and score zero.

    A sample of an inner step costs three forward and backward passes (the step; twice that for the way back through
    it), one of the last loss costs one: (3 K + 1) / (K + 1) = 2.5 a reading. All K graphs are in memory at once.

    Raises:
        ValueError: there is no sample, or the output carries no gradient.
    """
    with scratch_copy(model) as copied:
        weights = prunable_weights(copied)
        kept = Masks.of(weights)
        theta: dict[str, Tensor] = dict(copied.named_parameters())
        *inner, last = cycled(batches, steps + 1)
        for inputs, targets in inner:
            loss = F.cross_entropy(output_of(copied, inputs, theta), targets)
            slopes = torch.autograd.grad(loss, list(theta.values()), create_graph=True, materialize_grads=True)
            theta = {
                name: value - lr * (slope * kept[name] if name in kept else slope)
                for (name, value), slope in zip(theta.items(), slopes, strict=True)
            }
        inputs, targets = last
        loss = F.cross_entropy(output_of(copied, inputs, theta), targets)
        # theta_0 is the mask times the weights, so that the derivative by the mask is the weight times that by theta_0.
        slopes = torch.autograd.grad(loss, list(weights.values()), materialize_grads=True)
        return {
            name: (weight.detach() * slope).abs() for (name, weight), slope in zip(weights.items(), slopes, strict=True)
        }


def cycled(batches: Iterable[Batch], count: int) -> Iterator[Batch]:
    """``count`` batches, from the beginning again when they run out.

    Raises:
        ValueError: there are none.
    """
    while count > 0:
        left = count
        for batch in islice(batches, count):
            yield batch
            count -= 1
        if count == left:
            raise ValueError("a gradient score needs at least one sample")
