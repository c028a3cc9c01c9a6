"""Little images on disk and in memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

from benchmark.streams.loading.images import StreamRequest

settings.register_profile("laws", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("laws")


@pytest.fixture
def write_image():
    """Function: path, pixels -> the path, an image file by then; without loss whatever the suffix."""

    def write(path, pixels=(90, 120, 150), size=(8, 8), mode=None, format="PNG"):
        pixels = np.asarray(pixels, dtype=np.uint8)
        if pixels.ndim == 1:
            pixels = np.broadcast_to(pixels, (*size, len(pixels)))
        image = Image.fromarray(np.ascontiguousarray(pixels))
        path.parent.mkdir(parents=True, exist_ok=True)
        (image.convert(mode) if mode else image).save(path, format=format)
        return path

    return write


@pytest.fixture
def request_for(tmp_path):
    """Function: root -> what a source is asked for, with a cache folder of its own."""

    def make(root=tmp_path, **options):
        return StreamRequest(**{"data_root": root, "cache": tmp_path / "cache", "resolution": 8, **options})

    return make
