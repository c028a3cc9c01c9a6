"""Torchvision's ResNets and Wide ResNets, with the CIFAR stem for small images and their own for large ones."""

from __future__ import annotations

from torch import nn
from torchvision import models

from benchmark.registry import MODELS

# Below 16 px the last stage is a single pixel, and batch norm fails on a last batch of one image.

IMAGENET_STEM_FROM = 112
"""Resolution in pixels from which the 7x7 stem with max pooling is used; 224 is what it was made for."""


def _with_stem(model: models.ResNet, channels: int, resolution: int) -> nn.Module:
    """Below IMAGENET_STEM_FROM: a 3x3 stem with stride 1 and no max pooling."""
    if resolution < IMAGENET_STEM_FROM:
        model.conv1 = nn.Conv2d(channels, 64, 3, 1, 1, bias=False)
        model.maxpool = nn.Identity()
    elif channels != 3:
        model.conv1 = nn.Conv2d(channels, 64, 7, 2, 3, bias=False)
    nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    return model


@MODELS.register("resnet18", min_resolution=16, classifier="fc")
def resnet18(classes: int, channels: int, resolution: int) -> nn.Module:
    """ResNet-18: 11.2 M weights (He et al. 2016)."""
    return _with_stem(models.resnet18(num_classes=classes), channels, resolution)


@MODELS.register("resnet34", min_resolution=16, classifier="fc")
def resnet34(classes: int, channels: int, resolution: int) -> nn.Module:
    """ResNet-34: 21.3 M weights (He et al. 2016)."""
    return _with_stem(models.resnet34(num_classes=classes), channels, resolution)


@MODELS.register("resnet50", min_resolution=16, classifier="fc")
def resnet50(classes: int, channels: int, resolution: int) -> nn.Module:
    """ResNet-50: 23.5 M weights (He et al. 2016), the paper profile's default."""
    return _with_stem(models.resnet50(num_classes=classes), channels, resolution)


@MODELS.register("resnet101", min_resolution=16, classifier="fc")
def resnet101(classes: int, channels: int, resolution: int) -> nn.Module:
    """ResNet-101: 42.5 M weights (He et al. 2016)."""
    return _with_stem(models.resnet101(num_classes=classes), channels, resolution)


@MODELS.register("wide_resnet50_2", min_resolution=16, classifier="fc")
def wide_resnet50_2(classes: int, channels: int, resolution: int) -> nn.Module:
    """Wide ResNet-50-2: 66.9 M weights (Zagoruyko and Komodakis 2016)."""
    return _with_stem(models.wide_resnet50_2(num_classes=classes), channels, resolution)


@MODELS.register("wide_resnet101_2", min_resolution=16, classifier="fc")
def wide_resnet101_2(classes: int, channels: int, resolution: int) -> nn.Module:
    """Wide ResNet-101-2: 124.8 M weights (Zagoruyko and Komodakis 2016)."""
    return _with_stem(models.wide_resnet101_2(num_classes=classes), channels, resolution)
