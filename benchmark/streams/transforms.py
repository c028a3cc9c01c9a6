"""Transforms on whole batches of uint8 images: random crop, flip, normalisation, on the images' device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Normalise:
    """uint8 images to float32 with zero mean and unit deviation per channel; batches or single images.

    ``mean`` and ``std`` are those of values scaled to [0, 1], shape (channels,).
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]):
        self.shift = torch.tensor(mean).reshape(-1, 1, 1) * 255
        self.scale = 1 / (torch.tensor(std).reshape(-1, 1, 1) * 255)

    def __call__(self, images: Tensor) -> Tensor:
        """(..., channels, height, width) uint8 -> float32 of the same shape."""
        return (images.float() - self.shift.to(images.device)) * self.scale.to(images.device)


class CropAndFlip:
    """Random crop after zero padding by an eighth of the side (32 px: 4), and horizontal flip.

    Every image of a batch gets its own offset and flip; ``flip`` is off where a mirrored image means something
    else. The draws come from the generator that is passed in.
    """

    def __init__(self, resolution: int, flip: bool):
        self.padding = max(1, resolution // 8)
        self.flip = flip

    def __call__(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """(batch, channels, height, width) uint8 -> the same shape and type."""
        batch, channels, height, width = images.shape
        offsets = torch.randint(2 * self.padding + 1, (2, batch, 1), generator=generator)
        flipped = torch.rand((batch, 1), generator=generator) < (0.5 if self.flip else 0.0)
        columns = torch.arange(width).expand(batch, -1)
        columns = torch.where(flipped, width - 1 - columns, columns) + offsets[1]
        rows = torch.arange(height) + offsets[0]
        padded = torch.nn.functional.pad(images, [self.padding] * 4)
        index = [
            torch.arange(batch).reshape(-1, 1, 1, 1),
            torch.arange(channels).reshape(1, -1, 1, 1),
            rows.reshape(batch, 1, height, 1),
            columns.reshape(batch, 1, 1, width),
        ]
        return padded[tuple(i.to(images.device) for i in index)]


class TrainTransform:
    """Per-sample form of the training transforms, for Avalanche's own loaders; draws from the global generator."""

    def __init__(self, augment: CropAndFlip, normalise: Normalise):
        self.augment = augment
        self.normalise = normalise

    def __call__(self, image: Tensor) -> Tensor:
        """(channels, height, width) uint8 -> float32 of the same shape."""
        return self.normalise(self.augment(image.unsqueeze(0))[0])
