"""Any folder of class folders."""

from __future__ import annotations

from pathlib import Path

from benchmark.errors import DataNotFound, UsageError
from benchmark.registry import STREAMS
from benchmark.streams.loading.images import StreamData, StreamRequest, channel_statistics, decoded, list_images
from leaderboards.text import printable, slug
from strategies.seeds import numpy_generator

TEST_FRACTION = 0.2
"""Held out of each class where the folder has no test split of its own."""


@STREAMS.register("imagefolder", megabatches=(10,), classes=10, train_per_class=540, test_per_class=100)
def imagefolder(request: StreamRequest) -> StreamData:
    """Any folder of class folders (--data-root), with or without train and test or val splits."""
    root = request.data_root
    if not root.is_dir():
        raise DataNotFound(f"{root} is no folder: point --data-root at a folder of class folders")
    # A folder of its own images named "train" is a class like any other; a split holds class folders.
    train_root = root / "train" if _holds_folders(root / "train") else root
    test_root = next((root / name for name in ("test", "val") if train_root != root and (root / name).is_dir()), None)
    classes = _class_folders(train_root)
    train = [(path, label) for label, name in enumerate(classes) for path in list_images(train_root / name)]
    if test_root is None:
        train, test = _hold_out(train, len(classes))
    else:
        if _class_folders(test_root) != classes:
            odd = sorted(set(_class_folders(test_root)) ^ set(classes))
            raise UsageError(f"{train_root} and {test_root} differ in their class folders, such as {odd[0]!r}")
        test = [(path, label) for label, name in enumerate(classes) for path in list_images(test_root / name)]
    for files, where in ((train, train_root), (test, test_root or train_root)):
        empty = set(range(len(classes))) - {label for _, label in files}
        if empty:
            raise UsageError(f"{where / classes[min(empty)]} has too few images: every class needs some in each split")
    name = root.resolve().name
    train_images, train_skipped = decoded(f"imagefolder-{slug(name)}-train", train, request)
    test_images, test_skipped = decoded(f"imagefolder-{slug(name)}-test", test, request)
    mean, std = channel_statistics(train_images)
    return StreamData(
        # Written into stores, which take text alone.
        label=f"imagefolder ({printable(name)})",
        train=train_images,
        test=test_images,
        classes=tuple(map(printable, classes)),
        mean=mean,
        std=std,
        skipped=train_skipped + test_skipped,
    )


def _holds_folders(folder: Path) -> bool:
    return folder.is_dir() and any(child.is_dir() for child in folder.iterdir())


def _class_folders(root: Path) -> list[str]:
    names = sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    if len(names) < 2:
        raise DataNotFound(f"{root} has {len(names)} class folders, at least 2 are needed: see --data-root")
    return names


def _hold_out(files: list[tuple[Path, int]], classes: int) -> tuple[list[tuple[Path, int]], list[tuple[Path, int]]]:
    """Training and test files; the draw depends on the files alone, so that all seeds share one test set."""
    rng = numpy_generator(0, "imagefolder test set")
    train, test = [], []
    for label in range(classes):
        own = [file for file in files if file[1] == label]
        chosen = set(rng.permutation(len(own))[: round(TEST_FRACTION * len(own))].tolist())
        train += [file for i, file in enumerate(own) if i not in chosen]
        test += [file for i, file in enumerate(own) if i in chosen]
    return train, test
