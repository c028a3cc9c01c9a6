"""The images of a stream, or their stand-ins. ``python -m`` makes stand-ins beforehand, without waiting for torch."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from benchmark.config.source import source_of
from benchmark.errors import UsageError
from benchmark.registry import STREAMS
from benchmark.streams.loading.images import StreamData, StreamRequest
from benchmark.streams.sources.synthetic import stand_in


def load_data(stream: str, data: str, request: StreamRequest) -> StreamData:
    """All images of ``stream``, or their stand-ins where ``data``, which may be ``auto``, comes to that.

    Raises:
        UsageError: the images are missing or unusable, or all of a class were left out.
    """
    entry = STREAMS.load(stream)
    if source_of(stream, data, request.data_root) == "real" or entry.traits.source == "synthetic":
        try:
            images: StreamData = entry.target(request)
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            raise UsageError(f"the images of {stream} cannot be read ({where}{error.strerror or error})") from error
        _refuse_emptied_classes(images)
        return images
    sizes = {name: getattr(entry.traits, name) for name in ("classes", "train_per_class", "test_per_class")}
    for name, size in sizes.items():
        if not size:
            raise UsageError(f"the stream {stream} has no stand-in images: its registration does not say {name}")
    return stand_in(stream, request, **sizes)


def _refuse_emptied_classes(data: StreamData) -> None:
    """Leaving out files must not leave a class without any, no more than its folder may be empty."""
    if not data.skipped:
        return
    for part, images in (("training", data.train), ("test", data.test)):
        left = np.bincount(images.targets, minlength=len(data.classes))
        for name, number in zip(data.classes, left, strict=False):
            if not number:
                raise UsageError(
                    f"{data.label}: all {part} images of the class {name} are unreadable: every class needs some; "
                    "mend them, or remove the class"
                )


def make_stand_ins(stream: str, data: str, resolution: str, data_root: str, cache: str) -> None:
    """Put stand-in images into the cache, if that is what the stream would use; nothing is done about real ones."""
    if source_of(stream, data, Path(data_root)) == "synthetic":
        side = int(resolution) if resolution else STREAMS.load(stream).traits.resolution
        load_data(stream, data, StreamRequest(Path(data_root), Path(cache), side))


if __name__ == "__main__":
    make_stand_ins(*sys.argv[1:])
