"""Trees of images by WordNet id, and groups of such ids that form the classes of a stream."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmark.console import say
from benchmark.errors import DataNotFound, UsageError
from benchmark.streams.loading.images import Images, StreamData, StreamRequest, channel_statistics, decoded, list_images

WnidFiles = Sequence[tuple[str, Sequence[Path]]]


def wnid_groups(table: str) -> dict[str, tuple[str, ...]]:
    """Lines ``group wnid wnid ...`` -> group -> wnids."""
    rows = (line.split() for line in table.strip().splitlines())
    return {group: tuple(wnids) for group, *wnids in rows}


def first_tree(candidates: Sequence[Path]) -> Path | None:
    """The first folder that holds ``train`` and ``val``, or None.

    Raises:
        DataNotFound: a folder holds only one of them.
    """
    for tree in candidates:
        found = [name for name in ("train", "val") if (tree / name).is_dir()]
        if len(found) == 2:
            return tree
        if found:
            missing = "val" if found == ["train"] else "train"
            raise DataNotFound(
                f"the tree in {tree} is half-empty: it has {found[0]}/ but no {missing}/; complete it, or name "
                "another folder with --data-root"
            )
    return None


def files_by_wnid(groups: Mapping[str, Sequence[str]], folder_of: Callable[[str], Path]) -> WnidFiles:
    """The image files of every wnid of ``groups``, none where its folder is not there."""
    folders = [(wnid, folder_of(wnid)) for wnids in groups.values() for wnid in wnids]
    return [(wnid, list_images(folder) if folder.is_dir() else []) for wnid, folder in folders]


def grouped(
    label: str,
    cache_name: str,
    groups: Mapping[str, Sequence[str]],
    train: WnidFiles,
    test: WnidFiles,
    request: StreamRequest,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
) -> StreamData:
    """Decode the files of all groups; mean and deviation are measured where they are not given.

    Raises:
        DataNotFound: a group has no training or no test image.
        UsageError: a wnid is there in one split only (a half-empty tree).
    """
    group_of = {wnid: label for label, wnids in enumerate(groups.values()) for wnid in wnids}
    present = [{wnid for wnid, files in part if files} for part in (train, test)]
    half = sorted(present[0] ^ present[1])
    if half:
        where = "test" if half[0] in present[0] else "training"
        raise UsageError(f"the tree in {request.data_root} is half-empty: {half[0]} has no {where} images")
    missing = [wnid for wnid in group_of if wnid not in present[0]]
    for group, wnids in groups.items():
        if all(wnid in missing for wnid in wnids):
            raise DataNotFound(f"no images of {group} ({', '.join(wnids)}) in {request.data_root}: complete the tree")
    if missing:
        say(f"{label}: {len(missing)} of {len(group_of)} wnids are not in the tree, such as {missing[0]}")
    images: dict[str, Images] = {}
    skipped: list[str] = []
    for name, part in (("train", train), ("test", test)):
        files = [(path, group_of[wnid]) for wnid, paths in part for path in paths]
        images[name], problems = decoded(f"{cache_name}-{name}", files, request)
        skipped += problems
    if mean is None or std is None:
        mean, std = channel_statistics(images["train"])
    return StreamData(label, images["train"], images["test"], tuple(groups), mean, std, skipped=tuple(skipped))
