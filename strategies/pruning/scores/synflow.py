"""SynFlow: pruning without data by conserving synaptic flow (Tanaka et al. 2020, arXiv 2006.05467)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from strategies.pruning.masks import prunable_weights
from strategies.pruning.scores import Batch, Scores, output_of, scratch_copy
from strategies.registry import SCORES

ROUNDS = 100
"""Pruning rounds of the paper's experiments."""


@SCORES.register(
    "synflow", reference="Tanaka et al. 2020, arXiv 2006.05467, algorithm 1", rounds=ROUNDS, samples=1, passes=1.0
)
def synflow(model: nn.Module, batches: Iterable[Batch], /) -> Scores:
    """abs(w * dR/dw): the flow through a weight, R = sum f(ones; abs(theta)), in 100 rounds (SynFlow).

    1. make the network non-negative and linear on non-negative input: every parameter becomes its absolute value, every
       shift zero (:func:`linearise_`), in eval mode and float64;
    2. R: sum of the outputs for one input of ones;
    3. score: w * dR/dw, the sum over all paths through the weight of the products of the weights on the path.

    No sample is looked at, only the shape of one. ReLU, average and max pooling and addition keep the network
    positively homogeneous in the weights of each layer, hence the conservation law: the scores of a set of layers that
    every path from the input to the output meets exactly once add up to R. In a chain that is each layer for itself;
    in a residual network the stem, a block's first convolution together with its 1x1 shortcut, or its second with the
    shortcut. A block with an identity shortcut has the same sum in both its convolutions, and the rest of R takes the
    shortcut. Layers without that homogeneity (layer norm, sigmoid) are scored, but break the law.

    R grows by about the square root of the fan-in with every layer: it is 1e156 for the deepest network here, a wide
    ResNet-101, where float32 ends at 1e38. Hence float64, in which the scores stay.

    Raises:
        ValueError: there is no sample whose shape could be read, or the output carries no gradient.
    """
    first = next(iter(batches), None)
    if first is None:
        raise ValueError("SynFlow needs at least one sample to read its shape")
    inputs = tuple(ones_of(value) for value in first[0])
    with scratch_copy(model) as copied:
        copied.eval().double()
        linearise_(copied)
        weights = prunable_weights(copied)
        flow = output_of(copied, inputs).sum()
        slopes = torch.autograd.grad(flow, list(weights.values()), materialize_grads=True)
        return {
            name: (weight.detach() * slope).abs() for (name, weight), slope in zip(weights.items(), slopes, strict=True)
        }


@torch.no_grad()
def linearise_(model: nn.Module) -> None:
    """Make ``model`` non-negative and free of shifts, in place; in eval mode it is then homogeneous in each layer.

    Batch norm in eval mode is x -> scale * (x - running_mean) / sqrt(running_var + eps) + shift. Its scale is a weight
    and takes its absolute value; its shift and its running mean, and all other biases, add something that is not
    proportional to the layer's weights, and become zero; running_var and eps make a positive factor, and stay.
    (The authors' code takes absolute values of shifts and means instead of dropping them: no conservation.)
    """
    for name, parameter in model.named_parameters():
        parameter.copy_(torch.zeros_like(parameter) if name.endswith("bias") else parameter.abs())
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.zero_()


def ones_of(value: Tensor) -> Tensor:
    """One sample of ones, float64, in the shape of the samples of ``value``; integers (task labels) as they are."""
    return torch.ones_like(value[:1], dtype=torch.float64) if value.is_floating_point() else value[:1]
