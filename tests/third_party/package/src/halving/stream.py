"""Checkerboards of four sizes."""

import numpy as np

from benchmark.registry import STREAMS
from benchmark.streams.loading.images import Images, StreamData, StreamRequest, channel_statistics


def draw(per_class: int, resolution: int, seed: int) -> Images:
    rng = np.random.default_rng(seed)
    targets = np.repeat(np.arange(4), per_class)
    y, x = np.mgrid[:resolution, :resolution]
    shifts = rng.integers(0, 8, (2, len(targets), 1, 1))
    size = (targets + 1)[:, None, None]
    boards = ((y + shifts[0]) // size + (x + shifts[1]) // size) % 2
    return Images((200 * boards + rng.integers(0, 50, boards.shape)).astype(np.uint8)[:, None], targets)


@STREAMS.register("checkers", megabatches=(4,), resolution=12, classes=4, train_per_class=60, test_per_class=20)
def checkers(request: StreamRequest) -> StreamData:
    """Checkerboards of four sizes, 12 px grey."""
    train, test = draw(60, request.resolution, 0), draw(20, request.resolution, 1)
    mean, std = channel_statistics(train)
    return StreamData("checkers", train, test, ("one", "two", "three", "four"), mean, std, flip=True)
