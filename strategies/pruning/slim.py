"""Slimming: removed channels leave the network, so that it is smaller and faster on any hardware."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor, nn

from strategies.pruning.channels import channel_groups, kept_channels
from strategies.pruning.masks import Masks, prunable_weights
from strategies.pruning.structures.filters import Filters


def slimmed(model: nn.Module, masks: Masks) -> nn.Module:
    """A copy of ``model`` without the channels that ``masks`` remove; it computes the same function.

    Gone are rows and columns of convolutions and linear layers, biases, batch-norm parameters and running statistics.
    The model is the masked one: pruned weights are zero, and so is what the structure ``filters`` silences with them.
    An optimiser of the copy has to be made anew.

    Raises:
        ValueError: the masks do not fit the model, remove no whole channel or have not been applied to it.
    """
    masks.check(prunable_weights(model))
    groups = channel_groups(model)
    kept = kept_channels(groups, masks)
    if all(channels.all() for channels in kept):
        raise ValueError(f"these masks remove no whole channel of {type(model).__name__}: there is nothing to slim")
    pruned = {name: ~mask for name, mask in masks.items()} | Filters().silenced(model, masks)
    for name, where in pruned.items():
        value = model.get_parameter(name)
        if value[where.to(value.device)].any():
            raise ValueError(f"the masks have not been applied to this model: {name!r} is not zero where it is pruned")
    slim = copy.deepcopy(model)
    for group, channels in zip(groups, kept, strict=True):
        for layer in group.rows:
            _keep_rows(slim.get_submodule(layer), channels)
        for layer in group.norms:
            _keep_features(slim.get_submodule(layer), channels)
        for layer in group.columns:
            _keep_columns(slim.get_submodule(layer), channels)
    return slim


def export(model: nn.Module, example_input: Tensor, path: str | Path) -> None:
    """Write ``model`` in eval mode as a program that plain PyTorch runs, on the CPU, for batches of any size.

    ``torch.export.load(path).module()`` is the network; neither its class nor this project is needed to read it.
    ``example_input`` is a batch of inputs, on any device.
    """
    # A batch of one would be taken for a constant.
    example = torch.cat([example_input[:1], example_input[:1]]).cpu()
    plain = copy.deepcopy(model).cpu().to(memory_format=torch.contiguous_format).eval()
    shapes = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(plain, (example,), dynamic_shapes=shapes)
    torch.export.save(program, path)


def export_slim(model: nn.Module, masks: Masks, example_input: Tensor, path: str | Path) -> None:
    """Write the slimmed model as :func:`export` does.

    Raises:
        ValueError: the model cannot be slimmed with these masks (see :func:`slimmed`).
    """
    export(slimmed(model, masks), example_input, path)


def _keep_rows(layer: nn.Module, channels: Tensor) -> None:
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    layer.weight = _taken(layer.weight, channels, 0)
    if layer.bias is not None:
        layer.bias = _taken(layer.bias, channels, 0)
    if isinstance(layer, nn.Linear):
        layer.out_features = len(layer.weight)
    else:
        if layer.groups > 1:
            # Depthwise: what it reads are the same channels.
            layer.in_channels = layer.groups = len(layer.weight)
        layer.out_channels = len(layer.weight)


def _keep_columns(layer: nn.Module, channels: Tensor) -> None:
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    layer.weight = _taken(layer.weight, channels, 1)
    if isinstance(layer, nn.Linear):
        layer.in_features = layer.weight.shape[1]
    else:
        layer.in_channels = layer.weight.shape[1]


def _keep_features(norm: nn.Module, channels: Tensor) -> None:
    assert isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)
    norm.weight, norm.bias = _taken(norm.weight, channels, 0), _taken(norm.bias, channels, 0)
    for name in ("running_mean", "running_var"):
        if getattr(norm, name) is not None:
            setattr(norm, name, _entries(getattr(norm, name), channels, 0))
    norm.num_features = len(norm.weight)


def _taken(parameter: Tensor, channels: Tensor, dimension: int) -> nn.Parameter:
    return nn.Parameter(_entries(parameter.detach(), channels, dimension), requires_grad=parameter.requires_grad)


def _entries(values: Tensor, channels: Tensor, dimension: int) -> Tensor:
    """The entries of the kept channels along ``dimension``, in the memory format of ``values``."""
    # A flattened map is read by several columns.
    each = values.shape[dimension] // len(channels)
    index = channels.to(values.device).repeat_interleave(each).nonzero().ravel()
    last = values.dim() == 4 and values.is_contiguous(memory_format=torch.channels_last) and not values.is_contiguous()
    layout = torch.channels_last if last else torch.contiguous_format
    return values.index_select(dimension, index).contiguous(memory_format=layout)
