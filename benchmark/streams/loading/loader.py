"""Batches straight from uint8 arrays: indexed, augmented and normalised whole, on the device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from avalanche.benchmarks.utils import AvalancheDataset
from torch import Tensor

from benchmark.streams.loading.images import Images
from benchmark.streams.loading.storage import RESIDENT_BYTES, Resident, storage_for
from benchmark.streams.loading.transforms import Augmentation, Normalise
from benchmark.streams.protocols.scenario import SAMPLE_ID, Transform
from strategies.seeds import torch_generator


class ArrayLoader:
    """Finds each sample of an Avalanche data set by its ``sample_id`` and never calls a per-sample loader.

    Works for any mixture of subsets and concatenations of the scenario's data sets, full replay included. Shuffling and
    augmentation depend on (seed, megabatch, epoch) alone, not on what ran before, nor on where the images lie.
    """

    def __init__(
        self,
        train: Images,
        test: Images,
        *,
        augment: Augmentation,
        normalise: Normalise,
        seed: int,
        device: str = "cpu",
        tasks: Tensor | None = None,
        domains: Sequence[Transform] = (),
    ):
        """Take images as they are stored.

        Args:
            train, test: labelled images.
            augment, normalise: what happens to training images, and to all.
            seed: of shuffling and augmentation.
            device: where batches are.
            tasks: label of each sample, int64 (n,), by its id; None: all are 0.
            domains: transformation of the images of each domain; empty: there is one, and nothing happens to them.
        """
        self.storage = storage_for(train, test, device)
        self.augment = augment
        self.normalise = normalise
        self.seed = seed
        self.device = torch.device(device)
        self.samples = len(train) + len(test)
        self.test_ids = torch.arange(len(train), self.samples)
        self.tasks = None if tasks is None else tasks.to(device)
        self.domains = domains
        self._normalised_test: Tensor | None = None

    def train_batches(
        self, dataset: AvalancheDataset, batch_size: int, megabatch: int, joined: int = 0
    ) -> TrainBatches:
        """Shuffled, augmented batches; each iteration over the result is the next epoch of ``megabatch``.

        An epoch is over all samples but the first ``joined``; as many of these as a batch has, or all, join each batch.
        They are taken in random order, all of them before any again.
        """
        ids = sample_ids(dataset)
        return TrainBatches(self, ids[joined:], batch_size, megabatch, joining=ids[:joined])

    def eval_batches(self, dataset: AvalancheDataset, batch_size: int) -> EvalBatches:
        """Batches in order, normalised only."""
        return EvalBatches(self, sample_ids(dataset), batch_size)

    def normalised_test(self) -> Tensor | None:
        """The test images, normalised once: float32 (n, channels, height, width); None where they are too large."""
        if self._normalised_test is None and isinstance(self.storage, Resident):
            test = self.storage.pixels[len(self.storage.pixels) - len(self.test_ids) :].permute(0, 3, 1, 2)
            if test.numel() * torch.float32.itemsize <= RESIDENT_BYTES:
                # Kept beyond the inference mode in which it may be asked for first.
                with torch.inference_mode(False):
                    self._normalised_test = self.normalise(test)
        return self._normalised_test

    def stored(self, parts: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """For each int64 tensor of ids: stored images, classes and task labels."""
        places = [part % self.samples for part in parts] if self.domains else parts
        for (pixels, y), place in zip(self.storage.batches(places), places, strict=True):
            labels = torch.zeros_like(y) if self.tasks is None else self.tasks[place.to(self.device)]
            yield pixels, y, labels

    def transformed(self, pixels: Tensor, ids: Tensor) -> Tensor:
        """Images as their domains have them; ``ids`` int64 (batch,) on the CPU."""
        if not self.domains:
            return pixels
        numbers = ids // self.samples
        found = numbers.unique().tolist()
        if len(found) == 1:
            return self.domains[found[0]](pixels)
        result = torch.empty_like(pixels)
        for number in found:
            own = (numbers == number).to(self.device)
            result[own] = self.domains[number](pixels[own])
        return result


class EvalBatches:
    """Batches [x, y, task label] of fixed samples in order, without augmentation; x float32, channels last."""

    def __init__(self, loader: ArrayLoader, ids: Tensor, batch_size: int):
        self.loader = loader
        self.ids = ids
        self.batch_size = batch_size

    def __len__(self) -> int:
        return -(-len(self.ids) // self.batch_size)

    def __iter__(self) -> Iterator[list[Tensor]]:
        loader, storage = self.loader, self.loader.storage
        plain = loader.tasks is None and not loader.domains
        if plain and torch.equal(self.ids, loader.test_ids) and isinstance(storage, Resident):
            images = loader.normalised_test()
            if images is not None:
                targets = storage.targets[-len(self.ids) :]
                for x, y in zip(images.split(self.batch_size), targets.split(self.batch_size), strict=True):
                    yield [x, y, torch.zeros_like(y)]
                return
        parts = self.ids.split(self.batch_size)
        for (pixels, y, labels), ids in zip(loader.stored(parts), parts, strict=True):
            yield [loader.normalise(loader.transformed(pixels, ids)), y, labels]


class TrainBatches:
    """Batches [x, y, task label] for training; every iteration reshuffles and augments anew, as a new epoch."""

    def __init__(self, loader: ArrayLoader, ids: Tensor, batch_size: int, megabatch: int, joining: Tensor):
        self.loader = loader
        self.ids = ids
        self.batch_size = batch_size
        self.megabatch = megabatch
        self.joining = joining
        self.epoch = 0
        self._skipped = 0

    def __len__(self) -> int:
        return -(-len(self.ids) // self.batch_size)

    def skip(self, batches: int) -> None:
        """Let the next iteration be the last epoch once more, without its first ``batches``."""
        self.epoch -= 1
        self._skipped = batches

    def __iter__(self) -> Iterator[list[Tensor]]:
        loader = self.loader
        generator = torch_generator(loader.seed, "training batches", self.megabatch, self.epoch)
        self.epoch += 1
        parts = self.ids[torch.randperm(len(self.ids), generator=generator)].split(self.batch_size)
        if len(self.joining):
            parts = self._joined(parts, generator)
        # All draws of an epoch at once: sending them batch by batch would make a GPU wait.
        drawn_parts = [loader.augment.draw(len(part), generator) for part in parts]
        parts, self._skipped = parts[self._skipped :], 0
        if not parts:
            return
        draws = torch.cat(drawn_parts[-len(parts) :], dim=1).to(loader.device)
        sizes = [len(part) for part in parts]
        for (pixels, y, labels), ids, drawn in zip(loader.stored(parts), parts, draws.split(sizes, dim=1), strict=True):
            yield [loader.normalise(loader.transformed(loader.augment.cut(pixels, drawn), ids)), y, labels]

    def _joined(self, parts: Sequence[Tensor], generator: torch.Generator) -> tuple[Tensor, ...]:
        """Each of ``parts`` with remembered samples behind it."""
        earlier, size = len(self.joining), min(self.batch_size, len(self.joining))
        rounds = -(-size * len(parts) // earlier)
        order = torch.cat([torch.randperm(earlier, generator=generator) for _ in range(rounds)])
        drawn = self.joining[order[: size * len(parts)]].split(size)
        return tuple(torch.cat(both) for both in zip(parts, drawn, strict=True))


def sample_ids(dataset: AvalancheDataset) -> Tensor:
    """The ids of all samples of ``dataset``, in order, int64 (n,)."""
    # Going through the attribute's data takes a thirtieth of the time of going through the attribute.
    return torch.tensor(list(getattr(dataset, SAMPLE_ID).data), dtype=torch.long)
