"""Restricted ImageNet, balanced: 69 ImageNet classes in 14 groups, from an ImageNet tree on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmark.errors import DataNotFound
from benchmark.registry import STREAMS
from benchmark.streams.loading.images import StreamData, StreamRequest
from benchmark.streams.sources.wnid_tree import files_by_wnid, first_tree, grouped, wnid_groups

GROUPS = wnid_groups("""
bird n01530575 n01531178 n01532829 n01534433 n01537544
turtle n01664065 n01665541 n01667114 n01667778 n01669191
lizard n01687978 n01688243 n01689811 n01692333 n01693334
spider n01773157 n01773549 n01773797 n01774384 n01774750
crab n01978287 n01978455 n01980166 n01981276 n01983481
dog n02097474 n02097658 n02098105 n02098286 n02098413
cat n02123045 n02123159 n02123394 n02123597 n02124075
big_cat n02125311 n02127052 n02128385 n02128757 n02128925
beetle n02167151 n02168699 n02169497 n02172182 n02174001
butterfly n02277742 n02279972 n02280649 n02281406 n02281787
monkey n02486261 n02486410 n02487347 n02488291
fish n02607072 n02640242 n02641379 n02643566 n02655020
fruit n07742313 n07745940 n07747607 n07749582 n07753113
fungus n12998815 n13037406 n13040303 n13044778 n13052670
""")
"""Group -> its ImageNet classes by WordNet id, so that a tree with missing classes still maps right."""

MEAN, STD = (0.4717, 0.4499, 0.3837), (0.2600, 0.2516, 0.2575)


def find_tree(root: Path) -> Path | None:
    """The ImageNet tree at or below ``root``, or None.

    Raises:
        DataNotFound: there is half of one.
    """
    return first_tree((root, root / "imagenet", root / "ILSVRC2012"))


TRAITS: dict[str, Any] = {"classes": 14, "locate": find_tree, "train_per_class": 6394, "test_per_class": 246}


@STREAMS.register("restricted_imagenet", megabatches=(3,), **TRAITS)
def restricted_imagenet(request: StreamRequest) -> StreamData:
    """Restricted ImageNet: 89,517 + 3,450 images of 69 ImageNet classes in 14 groups; needs an ImageNet tree."""
    return _from_tree("restricted_imagenet", request)


@STREAMS.register(
    "restricted_imagenet_fewshot",
    megabatches=(10, 30, 70, 120),
    shots=540,
    stratified=True,
    **{**TRAITS, "train_per_class": 540, "test_per_class": 100},
)
def restricted_imagenet_fewshot(request: StreamRequest) -> StreamData:
    """Few-shot Restricted ImageNet: 540 shots of each of the 14 groups (7,560 images), the main job's stream."""
    return _from_tree("restricted_imagenet_fewshot", request)


def _from_tree(label: str, request: StreamRequest) -> StreamData:
    tree = find_tree(request.data_root)
    if tree is None:
        raise DataNotFound(
            f"no ImageNet tree in {request.data_root}: download ILSVRC2012 (registration at image-net.org), lay it "
            "out as train/<wnid>/*.JPEG and val/<wnid>/*.JPEG, and name its folder with --data-root"
        )
    train = files_by_wnid(GROUPS, lambda wnid: tree / "train" / wnid)
    val = files_by_wnid(GROUPS, lambda wnid: tree / "val" / wnid)
    return grouped(label, "restricted_imagenet", GROUPS, train, val, request, MEAN, STD)
