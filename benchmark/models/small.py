"""Networks that train in seconds, for digits and for tests."""

from __future__ import annotations

from torch import nn

from benchmark.models.width import widened
from benchmark.registry import MODELS


@MODELS.register("mlp", classifier="5", widths=True)
def mlp(classes: int, channels: int, resolution: int, width: float = 1.0) -> nn.Module:
    """Two hidden layers of 128 units; its hidden weights are what pruning works on."""
    inputs, units = channels * resolution**2, widened(128, width)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(inputs, units), nn.ReLU(), nn.Linear(units, units), nn.ReLU(), nn.Linear(units, classes)
    )


@MODELS.register("cnn", min_resolution=5, classifier="11", widths=True)
def cnn(classes: int, channels: int, resolution: int, width: float = 1.0) -> nn.Module:
    """Three convolutions with batch norm (16, 32, 32 channels): 14 k weights."""
    first, later = widened(16, width), widened(32, width)
    layers: list[nn.Module] = []
    for width_in, width_out, stride in ((channels, first, 1), (first, later, 2), (later, later, 2)):
        layers += [nn.Conv2d(width_in, width_out, 3, stride, 1, bias=False), nn.BatchNorm2d(width_out), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(later, classes))
