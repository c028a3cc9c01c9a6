"""The small ResNets of CIFAR: ResNet-20s, 44s, 56s (He et al. 2016, section 4.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.registry import MODELS


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, 1x1 where the shape changes (option B)."""

    def __init__(self, channels_in: int, channels_out: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels_out, 1, stride, bias=False), nn.BatchNorm2d(channels_out)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in, h, w) -> (batch, out, h / stride, w / stride)."""
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class CifarResNet(nn.Module):
    """Three stages of 16, 32 and 64 channels with ``blocks`` blocks each: depth 6 * blocks + 2."""

    def __init__(self, blocks: int, classes: int, channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        stages = []
        width = 16
        for stage, wider in enumerate((16, 32, 64)):
            stages.append(BasicBlock(width, wider, 1 if stage == 0 else 2))
            stages += [BasicBlock(wider, wider, 1) for _ in range(blocks - 1)]
            width = wider
        self.blocks = nn.Sequential(*stages)
        self.classifier = nn.Linear(64, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, h, w) -> logits (batch, classes)."""
        features = self.blocks(F.relu(self.bn1(self.conv1(x))))
        return self.classifier(torch.flatten(F.adaptive_avg_pool2d(features, 1), 1))


@MODELS.register("resnet20s")
def resnet20s(classes: int, channels: int, resolution: int) -> nn.Module:
    """ResNet-20 for small images: 0.27 M weights."""
    return CifarResNet(3, classes, channels)


@MODELS.register("resnet44s")
def resnet44s(classes: int, channels: int, resolution: int) -> nn.Module:
    """ResNet-44 for small images: 0.66 M weights."""
    return CifarResNet(7, classes, channels)


@MODELS.register("resnet56s")
def resnet56s(classes: int, channels: int, resolution: int) -> nn.Module:
    """ResNet-56 for small images: 0.85 M weights."""
    return CifarResNet(9, classes, channels)
