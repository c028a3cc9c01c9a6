"""VGG-16 with batch normalisation."""

from __future__ import annotations

from torch import nn
from torchvision import models

from benchmark.registry import MODELS


@MODELS.register("vgg16_bn", min_resolution=32, classifier="3")
def vgg16_bn(classes: int, channels: int, resolution: int) -> nn.Module:
    """VGG-16 with batch norm, its convolutions and one linear classifier: 14.7 M weights; from 32 px on."""
    model = models.vgg16_bn(num_classes=classes)
    if channels != 3:
        model.features[0] = nn.Conv2d(channels, 64, 3, padding=1)
        nn.init.kaiming_normal_(model.features[0].weight, mode="fan_out", nonlinearity="relu")
    # The three dense layers of the ImageNet network hold 120 M weights, of no use on small images.
    return nn.Sequential(model.features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, classes))
