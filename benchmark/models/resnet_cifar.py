"""The small ResNets of CIFAR: ResNet-20s, 44s, 56s (He et al. 2016, section 4.2), with either kind of shortcut."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.models.width import widened
from benchmark.registry import MODELS


class SubsampleAndPad(nn.Module):
    """Shortcut without parameters (option A): every other pixel, and channels of zeros, half before and half after."""

    def __init__(self, channels_in: int, channels_out: int, stride: int):
        super().__init__()
        self.stride = stride
        self.before = (channels_out - channels_in) // 2
        self.after = channels_out - channels_in - self.before

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in, h, w) -> (batch, out, h / stride, w / stride)."""
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.after))


def projection(channels_in: int, channels_out: int, stride: int) -> nn.Module:
    """Shortcut by a 1x1 convolution with batch norm (option B)."""
    return nn.Sequential(nn.Conv2d(channels_in, channels_out, 1, stride, bias=False), nn.BatchNorm2d(channels_out))


Shortcut = Callable[[int, int, int], nn.Module]
"""(channels in, channels out, stride) -> what leads past a block where the shape changes."""


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut around them."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, shortcut: Shortcut):
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels_out:
            self.shortcut = shortcut(channels_in, channels_out, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in, h, w) -> (batch, out, h / stride, w / stride)."""
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class CifarResNet(nn.Module):
    """Three stages of 16, 32 and 64 channels, times ``width``, with ``blocks`` blocks each: depth 6 * blocks + 2."""

    def __init__(self, blocks: int, classes: int, channels: int, width: float, shortcut: Shortcut = SubsampleAndPad):
        super().__init__()
        sizes = [widened(size, width) for size in (16, 32, 64)]
        self.conv1 = nn.Conv2d(channels, sizes[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(sizes[0])
        stages = []
        before = sizes[0]
        for stage, size in enumerate(sizes):
            stages.append(BasicBlock(before, size, 1 if stage == 0 else 2, shortcut))
            stages += [BasicBlock(size, size, 1, shortcut) for _ in range(blocks - 1)]
            before = size
        self.blocks = nn.Sequential(*stages)
        self.classifier = nn.Linear(before, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, h, w) -> logits (batch, classes)."""
        features = self.blocks(F.relu(self.bn1(self.conv1(x))))
        return self.classifier(torch.flatten(F.adaptive_avg_pool2d(features, 1), 1))


@MODELS.register("resnet20s", version=2, classifier="classifier", widths=True)
def resnet20s(classes: int, channels: int, resolution: int, width: float = 1.0) -> nn.Module:
    """ResNet-20 for small images, parameter-free shortcuts (option A): 0.27 M weights in 19 convolutions."""
    return CifarResNet(3, classes, channels, width)


@MODELS.register("resnet44s", version=2, classifier="classifier", widths=True)
def resnet44s(classes: int, channels: int, resolution: int, width: float = 1.0) -> nn.Module:
    """ResNet-44 for small images, parameter-free shortcuts (option A): 0.66 M weights."""
    return CifarResNet(7, classes, channels, width)


@MODELS.register("resnet56s", version=2, classifier="classifier", widths=True)
def resnet56s(classes: int, channels: int, resolution: int, width: float = 1.0) -> nn.Module:
    """ResNet-56 for small images, parameter-free shortcuts (option A): 0.85 M weights."""
    return CifarResNet(9, classes, channels, width)


@MODELS.register("resnet20s_1x1", classifier="classifier", widths=True)
def resnet20s_1x1(classes: int, channels: int, resolution: int, width: float = 1.0) -> nn.Module:
    """ResNet-20 for small images with 1x1 shortcuts (option B), which ``resnet20s`` was until its version 2."""
    return CifarResNet(3, classes, channels, width, projection)
