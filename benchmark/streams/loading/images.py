"""Images as uint8 arrays: decoded once, in parallel, into a checksummed cache that later runs map into memory."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from PIL import Image

from benchmark.config.run_config import MAX_PIXELS
from benchmark.console import say, track
from benchmark.errors import UsageError
from benchmark.streams.loading.room import reserve
from leaderboards.drafts import clear_dead_drafts, draft_folder
from leaderboards.text import printable

Array: TypeAlias = "np.ndarray"

DECODING_VERSION = 2
"""Bumped when the same files give other pixels, or others of them are refused."""

MAX_ELONGATION = 100
"""Times that the longer side of an image may be the shorter one: it is scaled as a whole before it is cut."""

CHUNK = 4096
"""Images read at a time where all of them are gone through."""

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm"})


@dataclass(frozen=True)
class Images:
    """Labelled images, in memory or in a mapped file.

    Attributes:
        pixels: uint8 (m, channels, height, width).
        targets: class of each of the n images, int64 (n,).
        rows: which of the m images they are, in order; all of them for None. Choosing images copies none, so that
            what is chosen from a mapped file stays there.
    """

    pixels: Array
    targets: Array
    rows: Array | None = None

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, channels, height, width)."""
        return (len(self), *self.pixels.shape[1:])

    @property
    def nbytes(self) -> int:
        """Size of the images in memory."""
        return int(np.prod(self.shape))

    def take(self, positions: Array) -> Images:
        """The images at ``positions``."""
        rows = positions if self.rows is None else self.rows[positions]
        return Images(self.pixels, self.targets[positions], rows)

    def read(self, positions: Array) -> Array:
        """Pixels at ``positions``, in that order; a copy in memory."""
        rows = positions if self.rows is None else self.rows[positions]
        # Reading a map in ascending order is what a disk likes.
        order = np.argsort(rows, kind="stable")
        result = np.empty((len(rows), *self.pixels.shape[1:]), dtype=np.uint8)
        result[order] = self.pixels[rows[order]]
        return result

    def chunks(self) -> Iterator[Array]:
        """The pixels in order, some thousand images at a time."""
        for start in range(0, len(self), CHUNK):
            yield self.read(np.arange(start, min(start + CHUNK, len(self))))


@dataclass(frozen=True)
class StreamRequest:
    """What a stream's source is asked for.

    Attributes:
        data_root: folder that data are looked for in, and downloaded to.
        cache: folder of decoded images.
        resolution: height and width of the images in pixels.
        skip_corrupt: leave out unreadable files instead of refusing them.
        download: missing images may be fetched from their public place.
        max_pixels: of an image that is decoded; one that has more counts as unreadable.
    """

    data_root: Path
    cache: Path
    resolution: int
    skip_corrupt: bool = False
    download: bool = True
    max_pixels: int = MAX_PIXELS


@dataclass(frozen=True)
class StreamData:
    """The images of a stream before the protocol shapes them.

    Attributes:
        label: what the data are called on a leaderboard, such as ``imagefolder (cifar10-jpeg)``.
        train, test: labelled images of the same classes.
        classes: name of each class.
        mean, std: per channel, of pixel values scaled to [0, 1].
        source: ``real`` or ``synthetic``.
        version: of the source's meaning.
        skipped: files that were left out.
        flip: whether a mirrored image keeps its meaning (not so for digits).
    """

    label: str
    train: Images
    test: Images
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    source: str = "real"
    version: int = 1
    skipped: tuple[str, ...] = ()
    flip: bool = True

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over all pixels, targets and class names: equal only for equal data."""
        digest = hashlib.sha256(json.dumps([self.classes, self.train.shape, self.test.shape]).encode())
        for part in (self.train, self.test):
            for chunk in part.chunks():
                digest.update(chunk.data)
            digest.update(np.ascontiguousarray(part.targets, dtype="<i8").data)
        return digest.hexdigest()[:16]


def list_images(folder: Path) -> list[Path]:
    """Image files directly in ``folder``, sorted by name; files of other kinds are ignored."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())


def decoded(name: str, files: Sequence[tuple[Path, int]], request: StreamRequest) -> tuple[Images, tuple[str, ...]]:
    """Decode image files, or map what an earlier run decoded.

    An image is scaled so that its shorter side is ``resolution`` and cut to a centred square. Greyscale files
    are read as RGB with three equal channels, of an animation its first picture. What has more pixels than are asked
    for counts as unreadable: its size is known before it is decoded. Of those with over :data:`MAX_PIXELS` one is
    decoded at a time.

    Args:
        name: of the stream and part, used in file names and messages.
        files: pairs (path, class).
        request: resolution, cache folder and what to do about unreadable files.

    Returns:
        The images and the files that were left out.

    Raises:
        UsageError: unreadable files without ``skip_corrupt``, no file left, or an unwritable cache.
    """
    listing = [[str(path), path.stat().st_size, path.stat().st_mtime_ns, target] for path, target in files]
    asked: list[object] = [DECODING_VERSION, request.resolution, request.skip_corrupt, listing]
    if request.max_pixels != MAX_PIXELS:
        asked.append(request.max_pixels)
    key = hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]

    def build(pixels: Array) -> tuple[list[int], list[str]]:
        kept: list[int] = []
        skipped: list[str] = []
        allowed = _allowed(request.max_pixels)
        with warnings.catch_warnings(), allowed, ThreadPoolExecutor(os.cpu_count()) as pool:
            # Pillow warns of oddities of single files without naming them.
            warnings.simplefilter("ignore")
            results = pool.map(lambda file: _decode(file[0], request.resolution, request.max_pixels), files)
            try:
                for position, result in enumerate(track(results, len(files), f"decoding {name}", "img")):
                    if isinstance(result, str):
                        skipped.append(printable(f"{files[position][0]}: {result}"))
                    else:
                        pixels[len(kept)] = result
                        kept.append(files[position][1])
            except BaseException:
                # Whoever was told to end does not wait for the files that were not begun.
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return kept, skipped

    shape = (len(files), 3, request.resolution, request.resolution)
    images, skipped = cached(f"{name}-{request.resolution}px-{key}", shape, request.cache, build, request.skip_corrupt)
    if skipped:
        say(f"{name}: {len(skipped)} unreadable images left out:")
        for problem in skipped:
            say(f"  {problem}")
    return images, skipped


def cached(
    name: str,
    shape: tuple[int, ...],
    folder: Path,
    build: Callable[[Array], tuple[list[int], list[str]]],
    skip_corrupt: bool = False,
) -> tuple[Images, tuple[str, ...]]:
    """Images from the cache file ``name``, which ``build`` fills if it is missing or damaged.

    ``build`` writes images of ``shape`` and returns their targets and the problems it met; it may leave rows at
    the end unused. The cache appears under its name only when complete, so that an interruption leaves nothing
    half-written, and is checked against its checksum whenever it is read. Its room on the disk is reserved before
    it is built. What processes that were killed left in ``folder`` is removed.

    Raises:
        UsageError: problems without ``skip_corrupt``, nothing left, or a folder that is unwritable or too full.
    """
    clear_dead_drafts(folder)
    described = folder / f"{name}.json"
    stored = folder / f"{name}.npy"
    found = _read_cache(described, stored, shape)
    if found is not None:
        return found
    if described.exists() and stored.exists():
        say(f"the cache file {stored} is damaged and is made anew")
    needed = len(_header(shape)) + math.prod(shape)
    try:
        with draft_folder(folder) as drafts:
            draft, about = drafts / "pixels.npy", drafts / "about.json"
            with draft.open("wb") as file:
                file.write(_header(shape))
                reserve(file, needed)
            pixels = _mapped(draft, shape, "r+")
            targets, skipped = build(pixels)
            if skipped and not skip_corrupt:
                raise UsageError(
                    f"{len(skipped)} unusable images, the first is {skipped[0]}; "
                    "mend, shrink or remove them, or leave them out with --skip-corrupt"
                )
            if not targets:
                raise UsageError(f"{name}: none of the {shape[0]} images can be read")
            pixels.flush()
            shape = (len(targets), *shape[1:])
            with draft.open("r+b") as file:
                # Of the same length whatever the number of images.
                file.write(_header(shape))
                file.truncate(len(_header(shape)) + math.prod(shape))
            pixels = _mapped(draft, shape, "r")
            description = {"sha256": _checksum(pixels, targets, skipped), "targets": targets, "skipped": skipped}
            about.write_text(json.dumps(description), encoding="utf-8")
            for made, place in ((draft, stored), (about, described)):
                if place.is_dir() and not place.is_symlink():
                    shutil.rmtree(place)
                made.replace(place)
    except OSError as error:
        raise UsageError(
            f"cannot write the image cache {folder}: {error.strerror or error}; it takes {needed:,} bytes: make room "
            "for it, or choose another folder with --cache"
        ) from error
    return Images(pixels, np.array(targets, dtype=np.int64)), tuple(skipped)


def channel_statistics(images: Images) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, of values scaled to [0, 1]."""
    channels = images.pixels.shape[1]
    total, squares, count = np.zeros(channels, np.int64), np.zeros(channels, np.int64), 0
    for chunk in images.chunks():
        # Sums of whole numbers are exact, and fast.
        total += chunk.sum(axis=(0, 2, 3), dtype=np.int64)
        squares += np.square(chunk, dtype=np.uint16).sum(axis=(0, 2, 3), dtype=np.int64)
        count += chunk.size // channels
    mean = total / count / 255
    std = np.sqrt(np.maximum(squares / count / 255**2 - mean**2, 0))
    return tuple(round(float(m), 4) for m in mean), tuple(max(round(float(s), 4), 1e-4) for s in std)


@contextmanager
def _allowed(pixels: int) -> Iterator[None]:
    """A context in which Pillow refuses no image of so many pixels."""
    before = Image.MAX_IMAGE_PIXELS
    if before is not None:
        Image.MAX_IMAGE_PIXELS = max(before, pixels)
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


_large = threading.Lock()
"""Held by who decodes an image of over :data:`MAX_PIXELS`: several of them at once need gigabytes."""


def _decode(path: Path, resolution: int, max_pixels: int) -> Array | str:
    """Pixels (3, resolution, resolution), or what is wrong with the file."""
    try:
        if not path.is_file():
            return "it is no regular file"  # Opening a pipe would wait for whoever writes to it.
        with Image.open(path) as image:
            if problem := _problem(image, max_pixels):
                return problem
            with _large if image.width * image.height > MAX_PIXELS else nullcontext():
                return _square(image, resolution)
    except Image.DecompressionBombError:
        return f"it has far more than {max_pixels:,} pixels (--max-pixels)"
    except MemoryError as error:
        # No fault of the file: to leave it out would make the images depend on the machine.
        raise UsageError(f"too little memory to decode {path}: shrink it, or close other programs") from error
    except Exception as error:
        # Damaged files make decoders raise whatever comes to hand, such as struct.error and IndexError.
        return f"cannot be decoded ({type(error).__name__})"


def _square(image: Image.Image, resolution: int) -> Array:
    """Pixels (3, resolution, resolution) of an image that was opened."""
    image.draft("RGB", (resolution, resolution))
    # To convert what is RGB would copy it.
    rgb = image if image.mode == "RGB" else image.convert("RGB")
    if rgb.size != (resolution, resolution):
        scale = resolution / min(rgb.size)
        width, height = (max(resolution, round(side * scale)) for side in rgb.size)
        left, top = (width - resolution) // 2, (height - resolution) // 2
        rgb = rgb.resize((width, height), Image.Resampling.BILINEAR)
        rgb = rgb.crop((left, top, left + resolution, top + resolution))
    return np.asarray(rgb).transpose(2, 0, 1)


def _problem(image: Image.Image, max_pixels: int) -> str | None:
    """Why an image is not decoded, as far as its header says."""
    width, height = image.size
    if not width * height:
        return "it has no pixels"
    if width * height > max_pixels:
        return f"it has {width * height:,} pixels, more than {max_pixels:,} (--max-pixels)"
    if max(image.size) > MAX_ELONGATION * min(image.size):
        return f"it has {width} x {height} pixels: one side is over {MAX_ELONGATION} times the other"
    return None if image.mode in ("RGB", "L") else f"its mode is {image.mode}, not RGB"


def _read_cache(described: Path, stored: Path, shape: tuple[int, ...]) -> tuple[Images, tuple[str, ...]] | None:
    """What the two files of a cache hold, or None if they are not exactly what was written."""
    if not (described.is_file() and stored.is_file()):
        return None
    try:
        about = json.loads(described.read_bytes())
        targets, skipped = about["targets"], about["skipped"]
        if not (_are(int, targets) and _are(str, skipped) and 0 < len(targets) <= shape[0]):
            return None
        if min(targets) < 0 or max(targets) > np.iinfo(np.int64).max:
            return None
        shape = (len(targets), *shape[1:])
        # Compared, not parsed: a parser of damaged headers may raise anything, and take anything for granted.
        header = _header(shape)
        with stored.open("rb") as file:
            if file.read(len(header)) != header or stored.stat().st_size != len(header) + math.prod(shape):
                return None
        pixels = _mapped(stored, shape, "r")
        if _checksum(pixels, targets, skipped) != about["sha256"]:
            return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None  # Whatever an interrupted disk left there, the remedy is the same.
    return Images(pixels, np.array(targets, dtype=np.int64)), tuple(skipped)


def _are(kind: type, values: object) -> bool:
    return isinstance(values, list) and all(type(value) is kind for value in values)


def _header(shape: tuple[int, ...]) -> bytes:
    """Of an .npy file of uint8."""
    header = BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return header.getvalue()


def _mapped(path: Path, shape: tuple[int, ...], mode: Literal["r", "r+"]) -> np.memmap:
    return np.memmap(path, dtype=np.uint8, mode=mode, offset=len(_header(shape)), shape=shape)


def _checksum(pixels: Array, targets: Sequence[int], skipped: Sequence[str]) -> str:
    digest = hashlib.sha256(json.dumps([pixels.shape, list(targets), list(skipped)]).encode())
    for start in range(0, len(pixels), CHUNK):
        digest.update(np.ascontiguousarray(pixels[start : start + CHUNK]).data)
    return digest.hexdigest()
