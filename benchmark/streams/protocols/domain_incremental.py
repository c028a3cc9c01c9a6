"""Domain-incremental streams: the same classes in every experience, in images that are transformed otherwise."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.errors import UsageError
from benchmark.registry import PROTOCOLS
from benchmark.streams.protocols.scenario import Arrangement, Asked, Tested, Trained, Transform, hold_out
from strategies.seeds import numpy_generator, torch_generator


class Permuted:
    """Puts the pixels of images in another order, the same for all images and channels."""

    def __init__(self, order: Tensor):
        self.order = order

    def __call__(self, images: Tensor) -> Tensor:
        """(..., channels, height, width) -> the same shape and type."""
        self.order = self.order.to(images.device)
        return images.flatten(-2)[..., self.order].reshape(images.shape)


class Rotated:
    """Turns images about their centre by an angle, in degrees; what comes in from outside is black."""

    def __init__(self, degrees: float):
        self.degrees = degrees
        self._grid: Tensor | None = None

    def __call__(self, images: Tensor) -> Tensor:
        """(..., channels, height, width) uint8 -> the same shape and type, between pixels by bilinear interpolation."""
        batch = images.reshape(-1, *images.shape[-3:])
        grid = self._places(batch).expand(len(batch), -1, -1, -1)
        turned = F.grid_sample(batch.float(), grid, align_corners=False)
        return turned.round_().clamp_(0, 255).to(torch.uint8).reshape(images.shape)

    def _places(self, batch: Tensor) -> Tensor:
        """Where each pixel comes from, float32 (1, height, width, 2); made once for images of one size."""
        if self._grid is None or self._grid.shape[1:3] != batch.shape[2:] or self._grid.device != batch.device:
            angle = math.radians(self.degrees)
            turn = [[math.cos(angle), -math.sin(angle), 0.0], [math.sin(angle), math.cos(angle), 0.0]]
            theta = torch.tensor([turn], device=batch.device)
            self._grid = F.affine_grid(theta, [1, *batch.shape[1:]], align_corners=False)
        return self._grid


@PROTOCOLS.register(
    "domain-incremental",
    shifts=True,
    options=("domain",),
    reference="Goodfellow et al. 2013, arXiv 1312.6211; Lopez-Paz and Ranzato 2017, arXiv 1706.08840, section 4",
)
def domain_incremental(asked: Asked) -> Arrangement:
    """All classes in every experience, in images that are permuted or rotated otherwise each time: domain-IL.

    ``--domain permuted`` draws an order of the pixels for each experience, the first included; ``rotated`` an angle in
    [180 (t - 1) / T, 180 t / T) degrees for the t-th of T. Every experience has all images; which of them are for
    validation is drawn anew. A training image is cropped first and transformed then.
    """
    if asked.experiences < 1:
        raise UsageError(f"a stream needs at least 1 experience, not {asked.experiences}")
    everything = np.arange(len(asked.targets))
    trained = []
    for number in range(asked.experiences):
        rng = numpy_generator(asked.seed, "split of a domain", number + 1)
        part = hold_out(rng.permutation(everything), asked.targets, asked.val_fraction, rng, f"experience {number + 1}")
        trained.append(Trained(part.train, part.valid, number + 1, domain=number))
    tested = [Tested(np.arange(len(asked.test_targets)), domain=number) for number in range(asked.experiences)]
    return Arrangement(trained, tested, domains=_domains(asked))


def _domains(asked: Asked) -> Sequence[Transform]:
    if asked.domain == "permuted":
        pixels = asked.resolution**2
        return [
            Permuted(torch.randperm(pixels, generator=torch_generator(asked.seed, "permutation of pixels", number + 1)))
            for number in range(asked.experiences)
        ]
    rng = numpy_generator(asked.seed, "angles")
    return [Rotated(180 * (number + rng.random()) / asked.experiences) for number in range(asked.experiences)]
