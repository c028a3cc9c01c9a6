"""Batches straight from uint8 arrays: indexed, augmented and normalised whole, on the device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from avalanche.benchmarks.utils import AvalancheDataset
from torch import Tensor

from benchmark.streams.alma import SAMPLE_ID
from benchmark.streams.images import Images
from benchmark.streams.transforms import CropAndFlip, Normalise
from strategies.seeds import torch_generator

RESIDENT_BYTES = 2 * 2**30
"""Image arrays up to this size are held in the device's memory; larger ones are read from the mapped cache."""


class ArrayLoader:
    """Finds each sample of an Avalanche data set by its ``sample_id`` and never calls a per-sample loader.

    Works for any mixture of subsets and concatenations of the scenario's data sets, full replay included.
    Shuffling and augmentation depend on (seed, megabatch, epoch) alone, not on what ran before.
    """

    def __init__(
        self,
        train: Images,
        test: Images,
        *,
        augment: CropAndFlip,
        normalise: Normalise,
        seed: int,
        device: str = "cpu",
    ):
        self.train = _Part.of(train, device)
        self.test = _Part.of(test, device)
        self.first_test_id = len(train)
        self.augment = augment
        self.normalise = normalise
        self.seed = seed
        self.device = device

    def train_batches(self, dataset: AvalancheDataset, batch_size: int, megabatch: int) -> TrainBatches:
        """Shuffled, augmented batches; each iteration over the result is the next epoch of ``megabatch``."""
        return TrainBatches(self, sample_ids(dataset), batch_size, megabatch)

    def eval_batches(self, dataset: AvalancheDataset, batch_size: int) -> EvalBatches:
        """Batches in order, normalised only."""
        return EvalBatches(self, sample_ids(dataset), batch_size)

    def fetch(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 images (batch, channels, height, width) and classes (batch,) on the loader's device."""
        from_test = ids >= self.first_test_id
        if not from_test.any():
            return self.train.take(ids, self.device)
        if from_test.all():
            return self.test.take(ids - self.first_test_id, self.device)
        pixels, targets = self.train.take(ids.masked_fill(from_test, 0), self.device)
        pixels[from_test], targets[from_test] = self.test.take(ids[from_test] - self.first_test_id, self.device)
        return pixels, targets

    def batch(self, ids: Tensor, generator: torch.Generator | None = None) -> list[Tensor]:
        """[x, y, task label]; x float32, augmented if a generator is given."""
        pixels, targets = self.fetch(ids)
        if generator is not None:
            pixels = self.augment(pixels, generator)
        x = self.normalise(pixels).contiguous(memory_format=torch.channels_last)
        return [x, targets, torch.zeros_like(targets)]


@dataclass(frozen=True)
class EvalBatches:
    """Batches of fixed samples in order, without augmentation."""

    loader: ArrayLoader
    ids: Tensor
    batch_size: int

    def __len__(self) -> int:
        return -(-len(self.ids) // self.batch_size)

    def __iter__(self) -> Iterator[list[Tensor]]:
        for ids in self.ids.split(self.batch_size):
            yield self.loader.batch(ids)


class TrainBatches:
    """Batches for training; every iteration reshuffles and augments anew, as a new epoch."""

    def __init__(self, loader: ArrayLoader, ids: Tensor, batch_size: int, megabatch: int):
        self.loader = loader
        self.ids = ids
        self.batch_size = batch_size
        self.megabatch = megabatch
        self.epoch = 0

    def __len__(self) -> int:
        return -(-len(self.ids) // self.batch_size)

    def __iter__(self) -> Iterator[list[Tensor]]:
        generator = torch_generator(self.loader.seed, "training batches", self.megabatch, self.epoch)
        self.epoch += 1
        for ids in self.ids[torch.randperm(len(self.ids), generator=generator)].split(self.batch_size):
            yield self.loader.batch(ids, generator)


@dataclass(frozen=True)
class _Part:
    """One image array: resident tensors, or a memory map that batches are read from."""

    images: Images
    resident: Tensor | None
    targets: Tensor

    @classmethod
    def of(cls, images: Images, device: str) -> _Part:
        resident = None
        if images.nbytes <= RESIDENT_BYTES:
            resident = torch.from_numpy(images.read(np.arange(len(images)))).to(device)
        return cls(images, resident, torch.from_numpy(images.targets).to(device))

    def take(self, positions: Tensor, device: str) -> tuple[Tensor, Tensor]:
        targets = self.targets[positions.to(self.targets.device)]
        if self.resident is not None:
            return self.resident[positions.to(self.resident.device)], targets
        return torch.from_numpy(self.images.read(positions.numpy())).to(device), targets


def sample_ids(dataset: AvalancheDataset) -> Tensor:
    """The ids of all samples of ``dataset``, in order, int64 (n,)."""
    return torch.tensor(list(getattr(dataset, SAMPLE_ID)), dtype=torch.long)
