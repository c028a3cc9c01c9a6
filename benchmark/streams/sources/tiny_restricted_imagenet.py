"""Tiny Restricted ImageNet: 28 classes of Tiny ImageNet in 14 groups, the freely downloadable counterpart."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmark.console import say
from benchmark.errors import DataNotFound, NotDownloaded
from benchmark.registry import STREAMS
from benchmark.streams.loading.images import StreamData, StreamRequest, list_images
from benchmark.streams.sources.wnid_tree import files_by_wnid, first_tree, grouped, wnid_groups

GROUPS = wnid_groups("""
bird n01855672 n02056570
amphibian n01629819 n01641577
reptile n01698640 n01742172
spider n01774384 n01774750
lobster n01983481 n01984695
dog n02094433 n02113799
cat n02123045 n02123394
big_cat n02125311 n02129165
insect n02165456 n02233338
butterfly n02279972 n02281406
monkey n02481823 n02486410
mollusc n01944390 n01950731
fruit n07747607 n07749582
ungulate n02395406 n02423022
""")

FOLDER = "tiny-imagenet-200"
SIZES: dict[str, Any] = {"classes": 14, "train_per_class": 1000, "test_per_class": 100}


@STREAMS.register("tiny_restricted_imagenet", megabatches=(10,), **SIZES)
def tiny_restricted_imagenet(request: StreamRequest) -> StreamData:
    """Tiny Restricted ImageNet: 14,000 + 1,400 images of 28 Tiny ImageNet classes in 14 groups, 64 px at most."""
    return _from_tree("tiny_restricted_imagenet", request)


@STREAMS.register(
    "tiny_restricted_imagenet_fewshot",
    megabatches=(10, 30, 70, 120),
    shots=540,
    stratified=True,
    **{**SIZES, "train_per_class": 540},
)
def tiny_restricted_imagenet_fewshot(request: StreamRequest) -> StreamData:
    """Few-shot Tiny Restricted ImageNet: 540 shots of each of the 14 groups (7,560 images)."""
    return _from_tree("tiny_restricted_imagenet_fewshot", request)


def tiny_imagenet(request: StreamRequest) -> StreamData:
    """Tiny ImageNet with a class for each wnid that the tree has, 64 px at most; all 200 of them in a whole one."""
    tree = _tree(request.data_root) or _downloaded(request)
    wnids = sorted(folder.name for folder in (tree / "train").iterdir() if (folder / "images").is_dir())
    if len(wnids) < 2:
        raise DataNotFound(f"{tree}/train holds {len(wnids)} classes, at least 2 are needed: unpack the archive anew")
    return _of_tree("tiny_imagenet", "tiny_imagenet", {wnid: (wnid,) for wnid in wnids}, tree, request)


def _from_tree(label: str, request: StreamRequest) -> StreamData:
    tree = _tree(request.data_root) or _downloaded(request)
    return _of_tree(label, "tiny_restricted_imagenet", GROUPS, tree, request)


def _of_tree(
    label: str, cache_name: str, groups: Mapping[str, Sequence[str]], tree: Path, request: StreamRequest
) -> StreamData:
    train = files_by_wnid(groups, lambda wnid: tree / "train" / wnid / "images")
    # Tiny ImageNet's own test images have no labels: its validation images are the test set.
    folder, annotations = tree / "val" / "images", tree / "val" / "val_annotations.txt"
    images = {path.name: path for path in (list_images(folder) if folder.is_dir() else [])}
    validation: dict[str, list[Path]] = {}
    try:
        if not annotations.is_file():
            raise FileNotFoundError(annotations)
        for line in annotations.read_text(encoding="utf-8").splitlines():
            name, wnid, *_ = line.split("\t")
            if name in images:
                validation.setdefault(wnid, []).append(images[name])
    except (OSError, ValueError) as error:
        raise DataNotFound(f"{tree}/val/val_annotations.txt is missing or damaged: unpack it anew") from error
    test = [(wnid, sorted(validation.get(wnid, []))) for wnid, _ in train]
    return grouped(label, cache_name, groups, train, test, request)


def _tree(root: Path) -> Path | None:
    return first_tree((root, root / FOLDER))


def _downloaded(request: StreamRequest) -> Path:
    """Let Avalanche fetch the archive.

    Its data-set class insists on all 200 classes when it reads a tree, so it only downloads here.
    """
    from avalanche.benchmarks.datasets import TinyImagenet

    root = request.data_root
    if not request.download:
        raise NotDownloaded(f"no Tiny ImageNet tree in {root}: a run would download it (237 MB)")
    is_new = not root.exists()
    say(f"no Tiny ImageNet tree in {root}: downloading it (237 MB)")
    try:
        TinyImagenet(root=str(root), download=True)
    except (OSError, RuntimeError) as error:
        if is_new:
            shutil.rmtree(root, ignore_errors=True)
        raise DataNotFound(
            f"no Tiny ImageNet tree in {root}, and it could not be downloaded ({type(error).__name__}): unpack "
            f"tiny-imagenet-200.zip (Stanford CS231n) there, name its folder with --data-root, "
            "or use stand-in images with --data synthetic"
        ) from error
    tree = _tree(root)
    if tree is None:
        raise DataNotFound(f"the download into {root} left no {FOLDER} folder: unpack tiny-imagenet-200.zip by hand")
    return tree
