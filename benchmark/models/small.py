"""Networks that train in seconds, for digits and for tests."""

from __future__ import annotations

from torch import nn

from benchmark.registry import MODELS


@MODELS.register("mlp", classifier="5")
def mlp(classes: int, channels: int, resolution: int) -> nn.Module:
    """Two hidden layers of 128 units; its hidden weights are what pruning works on."""
    inputs = channels * resolution**2
    return nn.Sequential(
        nn.Flatten(), nn.Linear(inputs, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, classes)
    )


@MODELS.register("cnn", min_resolution=5, classifier="11")
def cnn(classes: int, channels: int, resolution: int) -> nn.Module:
    """Three convolutions with batch norm (16, 32, 32 channels): 14 k weights."""
    layers: list[nn.Module] = []
    for width_in, width_out, stride in ((channels, 16, 1), (16, 32, 2), (32, 32, 2)):
        layers += [nn.Conv2d(width_in, width_out, 3, stride, 1, bias=False), nn.BatchNorm2d(width_out), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, classes))
