"""Stand-in images: procedurally made, for machines without the real ones and for tests.

Each image shows a shape with a texture on a random background, among plain distractors and noise. The class is
the pair (shape, texture); its hue leans one way, so that there is something to learn from few images, too; place, size,
rotation, contrast, phase and background are random, so that a small network neither fails nor saturates and a dense
one overfits a few-shot stream. The pixels are a pure function of
(VERSION, part, class, index): the first n images of a class are the same whatever n is.
"""

from __future__ import annotations

import itertools
import math
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from benchmark.registry import STREAMS
from benchmark.streams.loading.images import Array, Images, StreamData, StreamRequest, cached, channel_statistics
from strategies.seeds import numpy_generator

VERSION = 1
"""Bumped when the generated pixels change: results on two versions never share a leaderboard."""

CHUNK = 64
"""Images drawn from one generator; part of what VERSION stands for."""

SHAPES = 7
TEXTURES = 2

HUES = 14
HUE_JITTER = 0.5
"""Standard deviation, in radians, of an object's hue around its class's: neighbouring classes overlap."""


@STREAMS.register(
    "synthetic", megabatches=(10, 30, 70, 120), shots=540, stratified=True, source="synthetic", classes=14
)
def synthetic(request: StreamRequest) -> StreamData:
    """14 classes of procedurally made images, 540 shots a class: no data needed; never mixed with real images."""
    return stand_in("synthetic", request, classes=14, train_per_class=540, test_per_class=100)


def stand_in(
    stream: str, request: StreamRequest, *, classes: int, train_per_class: int, test_per_class: int
) -> StreamData:
    """Procedural images in place of a stream's own: as many classes and images, at the asked resolution."""
    parts = {}
    for part, per_class in (("train", train_per_class), ("test", test_per_class)):
        size = request.resolution
        name = f"synthetic-v{VERSION}-{part}-{classes}x{per_class}-{size}px"

        def build(pixels: Array, part: str = part, per_class: int = per_class) -> tuple[list[int], list[str]]:
            def fill(place: tuple[int, int]) -> None:
                label, start = place
                own = pixels[label * per_class : (label + 1) * per_class]
                images = draw(label, part, start // CHUNK, request.resolution)
                own[start : start + CHUNK] = images[: per_class - start]

            with ThreadPoolExecutor(os.cpu_count()) as pool:
                # Going through the results lets an error out.
                list(pool.map(fill, itertools.product(range(classes), range(0, per_class, CHUNK))))
            return [label for label in range(classes) for _ in range(per_class)], []

        parts[part], _ = cached(name, (classes * per_class, 3, size, size), request.cache, build)
    mean, std = channel_statistics(parts["train"])
    return StreamData(
        label=stream,
        train=Images(parts["train"].pixels, parts["train"].targets),
        test=Images(parts["test"].pixels, parts["test"].targets),
        classes=tuple(f"synthetic_{label:03d}" for label in range(classes)),
        mean=mean,
        std=std,
        source="synthetic",
        version=VERSION,
    )


def draw(label: int, part: str, chunk: int, resolution: int) -> Array:
    """One chunk of images of a class: uint8 (CHUNK, 3, resolution, resolution).

    Computed in float64, so that the last bit of a sine, which differs between processors, never shows.
    """
    rng = numpy_generator(VERSION, f"synthetic {part}", label, chunk)
    axis = (np.arange(resolution) + 0.5) / resolution * 2 - 1
    y, x = np.meshgrid(axis, axis, indexing="ij")
    image = _background(rng, x, y)
    for _ in range(2):
        shape = rng.integers(SHAPES, size=CHUNK)
        u, v = _local(rng, x, y, spread=0.9, scales=(0.15, 0.3))
        inside = np.select([(shape == k)[:, None, None] for k in range(SHAPES)], _outlines(u, v))
        image = _paint(image, inside, _column(rng, 0.0, 1.0, 3)[:, :, None, None] * np.ones_like(u)[:, None])
    u, v = _local(rng, x, y, spread=0.35, scales=(0.4, 0.75))
    inside = _outlines(u, v)[label % SHAPES]
    texture = _texture(rng, u, v, kind=label // SHAPES % TEXTURES, frequency=label // (SHAPES * TEXTURES))
    colour = _hue(2 * math.pi * label / HUES + rng.normal(0, HUE_JITTER, CHUNK), rng)[:, :, None, None]
    contrast = _column(rng, 0.12, 0.4, 1)[:, :, None, None]
    image = _paint(image, inside, colour + contrast * texture[:, None])
    image = image + rng.normal(0, 1, image.shape) * _column(rng, 0.04, 0.14, 1)[:, :, None, None]
    return np.asarray(np.rint(np.clip(image, 0, 1) * 255), dtype=np.uint8)


def _background(rng: np.random.Generator, x: Array, y: Array) -> Array:
    """Smooth colour fields, (CHUNK, 3, height, width)."""
    image = np.zeros((CHUNK, 3, *x.shape)) + _column(rng, 0.2, 0.8, 3)[:, :, None, None]
    for _ in range(3):
        angle, phase = (_column(rng, 0, 2 * math.pi, 1)[:, :, None] for _ in range(2))
        wave = np.cos(_column(rng, 1, 5, 1)[:, :, None] * (np.cos(angle) * x + np.sin(angle) * y) + phase)
        image += _column(rng, -0.2, 0.2, 3)[:, :, None, None] * wave[:, None]
    return image


def _local(
    rng: np.random.Generator, x: Array, y: Array, spread: float, scales: tuple[float, float]
) -> tuple[Array, Array]:
    """Coordinates of every pixel in a randomly placed, turned and scaled frame, each (CHUNK, height, width)."""
    angle = _column(rng, 0, 2 * math.pi, 1)[:, :, None]
    scale = _column(rng, *scales, 1)[:, :, None]
    dx = x - _column(rng, -spread, spread, 1)[:, :, None]
    dy = y - _column(rng, -spread, spread, 1)[:, :, None]
    return (np.cos(angle) * dx + np.sin(angle) * dy) / scale, (np.cos(angle) * dy - np.sin(angle) * dx) / scale


def _outlines(u: Array, v: Array) -> list[Array]:
    """Signed distance-like fields of the seven shapes, negative inside."""
    radius, azimuth = np.hypot(u, v), np.arctan2(v, u)
    return [
        radius - 0.9,
        np.maximum(abs(u), abs(v)) - 0.8,
        np.maximum(abs(u) * 0.866 + v * 0.5, -v) - 0.5,
        abs(radius - 0.75) - 0.25,
        np.minimum(np.maximum(abs(u) - 0.3, abs(v) - 1.0), np.maximum(abs(v) - 0.3, abs(u) - 1.0)),
        radius - (0.65 + 0.35 * np.cos(5 * azimuth)),
        np.maximum(radius - 1.0, 0.8 - np.hypot(u - 0.5, v)),
    ]


def _hue(angle: Array, rng: np.random.Generator) -> Array:
    """RGB of the given hue angles with random saturation and brightness, (CHUNK, 3)."""
    wheel = np.cos(angle[:, None] - np.array([0, 2, 4]) * math.pi / 3)
    return _column(rng, 0.35, 0.65, 1) + _column(rng, 0.1, 0.35, 1) * wheel


def _texture(rng: np.random.Generator, u: Array, v: Array, kind: int, frequency: int) -> Array:
    """Stripes (0) or a grid of dots (1), in [-1, 1]; ``frequency`` tells further classes apart."""
    rate = _column(rng, 7, 9, 1)[:, :, None] * (1 + 0.25 * frequency)
    first, second = (_column(rng, 0, 2 * math.pi, 1)[:, :, None] for _ in range(2))
    across = np.cos(rate * u + first)
    return across if kind == 0 else across * np.cos(rate * v + second)


def _paint(image: Array, outline: Array, colour: Array) -> Array:
    """``colour`` over ``image`` where ``outline`` is negative, with a soft edge."""
    cover = 1 / (1 + np.exp(np.clip(outline * 25, -50, 50)))
    return image + cover[:, None] * (colour - image)


def _column(rng: np.random.Generator, low: float, high: float, width: int) -> Array:
    """Uniform draws, (CHUNK, width)."""
    return rng.uniform(low, high, (CHUNK, width))
