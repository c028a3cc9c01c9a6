"""Transforms on whole batches of uint8 images: random crop, flip, normalisation, on the images' device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad


class Normalise:
    """uint8 images to float32 with zero mean and unit deviation per channel; batches or single images.

    ``mean`` and ``std`` are those of values scaled to [0, 1], shape (channels,).
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]):
        self.shift = torch.tensor(mean).reshape(-1, 1, 1) * 255
        self.scale = 1 / (torch.tensor(std).reshape(-1, 1, 1) * 255)

    def __call__(self, images: Tensor) -> Tensor:
        """(..., channels, height, width) uint8 -> float32 of the same shape and memory format."""
        if images.device != self.shift.device:
            # Kept where the images are: sending them anew for every batch would make a GPU wait.
            with torch.inference_mode(False):
                self.shift, self.scale = self.shift.to(images.device), self.scale.to(images.device)
        return images.float().sub_(self.shift).mul_(self.scale)


class Augmentation(Protocol):
    """What happens to training images, each in a way of its own."""

    def __call__(self, images: Tensor) -> Tensor:
        """Batches of images, drawing from the global generator."""

    def draw(self, batch: int, generator: torch.Generator | None = None) -> Tensor:
        """What happens to each of ``batch`` images, int64 (n, batch)."""

    def cut(self, images: Tensor, drawn: Tensor) -> Tensor:
        """The images with what was drawn for each."""


class Untouched:
    """Training images as they are."""

    def __call__(self, images: Tensor) -> Tensor:
        """The images themselves."""
        return images

    def draw(self, batch: int, generator: torch.Generator | None = None) -> Tensor:
        """Nothing, int64 (0, batch)."""
        return torch.zeros((0, batch), dtype=torch.long)

    def cut(self, images: Tensor, drawn: Tensor) -> Tensor:
        """The images themselves."""
        return images


class Transformed:
    """A domain's transformation, then normalisation, for Avalanche's own loaders."""

    def __init__(self, domain: Callable[[Tensor], Tensor], normalise: Normalise):
        self.domain = domain
        self.normalise = normalise

    def __call__(self, images: Tensor) -> Tensor:
        """(..., channels, height, width) uint8 -> float32 of the same shape."""
        return self.normalise(self.domain(images))


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
        return self.cut(images, self.draw(len(images), generator).to(images.device))

    def draw(self, batch: int, generator: torch.Generator | None = None) -> Tensor:
        """What happens to each of ``batch`` images: offset down, offset to the right, mirrored; int64 (3, batch)."""
        offsets = torch.randint(2 * self.padding + 1, (2, batch), generator=generator)
        mirrored = torch.rand((1, batch), generator=generator) < (0.5 if self.flip else 0.0)
        return torch.cat([offsets, mirrored.long()])

    def cut(self, images: Tensor, drawn: Tensor) -> Tensor:
        """(batch, channels, height, width) uint8 and what was drawn for each, int64 (3, batch), on the same device.

        Returns images of the same shape and type in channels-last format.
        """
        batch, channels, height, width = images.shape
        down, right, mirrored = drawn.unsqueeze(-1)
        rows = torch.arange(height, device=images.device) + down
        columns = torch.arange(width, device=images.device)
        columns = torch.where(mirrored.bool(), width - 1 - columns, columns) + right
        # Channels last, an image's row is one piece of memory.
        padded = pad(images.permute(0, 2, 3, 1), [0, 0, *[self.padding] * 4])
        rows = rows.reshape(batch, height, 1, 1).expand(-1, -1, padded.shape[2], channels)
        columns = columns.reshape(batch, 1, width, 1).expand(-1, height, -1, channels)
        return padded.gather(1, rows).gather(2, columns).permute(0, 3, 1, 2)


class TrainTransform:
    """Per-sample form of the training transforms, for Avalanche's own loaders; draws from the global generator."""

    def __init__(self, augment: Augmentation, normalise: Callable[[Tensor], Tensor]):
        self.augment = augment
        self.normalise = normalise

    def __call__(self, image: Tensor) -> Tensor:
        """(channels, height, width) uint8 -> float32 of the same shape."""
        return self.normalise(self.augment(image.unsqueeze(0))[0])
