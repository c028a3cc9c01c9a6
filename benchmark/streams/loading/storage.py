"""Where batches are read from: resident tensors on the device, or a memory-mapped file, read ahead of its use."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from benchmark.streams.loading.images import Images

RESIDENT_BYTES = 2 * 2**30
"""Image arrays up to this size, training and test images together, are held in main memory."""

GPU_SHARE = 4
"""On a GPU the images may take one part in this many of its memory."""

AHEAD = 2
"""Batches that are read from a mapped file before they are asked for."""


class Storage(Protocol):
    """All images of a scenario, by ``sample_id``: those of the training set, then those of the test set."""

    def batches(self, ids: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """For each int64 tensor of ids on the CPU: uint8 images (batch, channels, height, width) and classes (batch,).

        Both lie on the device; the images in channels-last format.
        """


def storage_for(train: Images, test: Images, device: str) -> Storage:
    """Resident images if they fit, else mapped ones."""
    limit = RESIDENT_BYTES
    if device.startswith("cuda"):
        limit = torch.cuda.get_device_properties(device).total_memory // GPU_SHARE
    return (Resident if train.nbytes + test.nbytes <= limit else Mapped)(train, test, device)


class Resident:
    """Images held as one tensor on the device.

    Attributes:
        pixels: uint8 (n, height, width, channels), so that a row of an image is one piece of memory.
        targets: classes, int64 (n,).
    """

    def __init__(self, train: Images, test: Images, device: str):
        _, channels, height, width = train.shape
        self.pixels = torch.empty((len(train) + len(test), height, width, channels), dtype=torch.uint8, device=device)
        start = 0
        for chunk in (*train.chunks(), *test.chunks()):
            self.pixels[start : start + len(chunk)] = torch.from_numpy(chunk).permute(0, 2, 3, 1)
            start += len(chunk)
        self.targets = torch.from_numpy(np.concatenate([train.targets, test.targets])).to(device)

    def batches(self, ids: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """See :class:`Storage`; the ids are sent to the device at once, not batch by batch."""
        parts = list(ids)
        if not parts:
            return
        for own in torch.cat(parts).to(self.pixels.device).split([len(part) for part in parts]):
            yield self.pixels.index_select(0, own).permute(0, 3, 1, 2), self.targets.index_select(0, own)


class Mapped:
    """Images in a mapped file. A thread reads the next batches while the network computes."""

    def __init__(self, train: Images, test: Images, device: str):
        self.parts = (train, test)
        self.targets = np.concatenate([train.targets, test.targets])
        self.device = torch.device(device)

    def batches(self, ids: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """See :class:`Storage`."""
        with ThreadPoolExecutor(1, thread_name_prefix="images") as reader:
            read: deque[Future[tuple[Tensor, Tensor]]] = deque()
            for part in ids:
                read.append(reader.submit(self._read, part.numpy()))
                if len(read) > AHEAD:
                    yield self._sent(*read.popleft().result())
            while read:
                yield self._sent(*read.popleft().result())

    def _read(self, ids: np.ndarray) -> tuple[Tensor, Tensor]:
        train, test = self.parts
        from_test = ids >= len(train)
        pixels = np.empty((len(ids), *train.shape[1:]), dtype=np.uint8)
        pixels[~from_test] = train.read(ids[~from_test])
        pixels[from_test] = test.read(ids[from_test] - len(train))
        images = torch.from_numpy(pixels).contiguous(memory_format=torch.channels_last)
        targets = torch.from_numpy(self.targets[ids])
        # Only what lies in pinned memory is sent without waiting for it.
        return (images.pin_memory(), targets.pin_memory()) if self.device.type == "cuda" else (images, targets)

    def _sent(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return images.to(self.device, non_blocking=True), targets.to(self.device, non_blocking=True)
