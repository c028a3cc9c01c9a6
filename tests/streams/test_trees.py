"""Image trees on disk: every file ends up in the right class of the right split, or the tree is refused."""

from __future__ import annotations

import os
import shutil
from collections import Counter

import numpy as np
import pytest
import torch
import torchvision
from avalanche.benchmarks import datasets as avalanche_datasets

from benchmark.errors import DataNotFound, UsageError
from benchmark.registry import STREAMS
from benchmark.streams.sources import restricted_imagenet, tiny_restricted_imagenet
from benchmark.streams.sources.load import load_data

LAYOUTS = {
    "restricted_imagenet": restricted_imagenet.GROUPS,
    "restricted_imagenet_fewshot": restricted_imagenet.GROUPS,
    "tiny_restricted_imagenet": tiny_restricted_imagenet.GROUPS,
    "tiny_restricted_imagenet_fewshot": tiny_restricted_imagenet.GROUPS,
}
TRAIN, TEST = 1, 2


@pytest.fixture
def make_tree(tmp_path, write_image):
    """Function: stream -> a tree in its layout; the colours of the images tell group, wnid and split."""

    def colour(groups, wnid, split):
        group = next(g for g, wnids in enumerate(groups.values()) if wnid in wnids)
        return (10 * group, sum(int(digit) for digit in wnid[1:]), split)

    def make(name, without_train=(), without_test=(), foreign=(), train=2, test=1):
        groups = LAYOUTS[name]
        root = tmp_path / name
        tiny = name.startswith("tiny")
        annotations = []
        for wnid in [wnid for wnids in groups.values() for wnid in wnids] + list(foreign):
            known = wnid not in foreign
            if wnid not in without_train:
                folder = root / "train" / wnid / ("images" if tiny else "")
                for k in range(train):
                    write_image(folder / f"{wnid}_{k}.JPEG", colour(groups, wnid, TRAIN) if known else (255,) * 3)
            if wnid not in without_test:
                for k in range(test):
                    name_of_file = f"val_{wnid}_{k}.JPEG" if tiny else f"ILSVRC2012_val_{wnid}_{k}.JPEG"
                    folder = root / "val" / ("images" if tiny else wnid)
                    write_image(folder / name_of_file, colour(groups, wnid, TEST) if known else (255,) * 3)
                    annotations.append(f"{name_of_file}\t{wnid}\t0\t0\t62\t62\n")
        if tiny:
            (root / "val" / "val_annotations.txt").write_text("".join(reversed(annotations)))
        return root

    return make


def groups_by_colour(part):
    return (part.pixels[:, 0, 0, 0] // 10).tolist()


def load(name, request):
    return STREAMS.load(name).target(request)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Downloads fail, as they do on a machine without a network."""

    def unreachable(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(avalanche_datasets, "TinyImagenet", unreachable)


# Groups of WordNet ids


def test_the_groups_have_their_published_sizes():
    published = restricted_imagenet.GROUPS
    assert all(len(wnids) == (4 if group == "monkey" else 5) for group, wnids in published.items())
    assert (len(published), sum(map(len, published.values()))) == (14, 69)
    tiny = tiny_restricted_imagenet.GROUPS
    assert {len(wnids) for wnids in tiny.values()} == {2}
    assert (len(tiny), sum(map(len, tiny.values()))) == (14, 28)


@pytest.mark.parametrize("groups", [restricted_imagenet.GROUPS, tiny_restricted_imagenet.GROUPS])
def test_no_wnid_is_in_two_groups_and_each_is_well_formed(groups):
    wnids = [wnid for members in groups.values() for wnid in members]
    assert max(Counter(wnids).values()) == 1
    assert all(len(wnid) == 9 and wnid[0] == "n" and wnid[1:].isdigit() for wnid in wnids)


def test_groups_are_runs_of_the_sorted_list():
    wnids = [wnid for members in restricted_imagenet.GROUPS.values() for wnid in members]
    assert wnids == sorted(wnids)


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_image_is_in_its_group_and_split(make_tree, request_for, name):
    data = load(name, request_for(make_tree(name)))
    wnids = sum(map(len, LAYOUTS[name].values()))
    assert data.label == name
    assert data.classes == tuple(LAYOUTS[name])
    for part, split, each in ((data.train, TRAIN, 2), (data.test, TEST, 1)):
        assert len(part) == each * wnids
        assert part.targets.tolist() == groups_by_colour(part)
        assert (part.pixels[:, 2] == split).all()
        assert len(np.unique(part.pixels[:, :2, 0, 0], axis=0)) > 14


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_tree_with_missing_classes_still_maps_right(make_tree, request_for, name, capsys):
    """Every wnid but the last of each group is missing."""
    missing = [wnid for wnids in LAYOUTS[name].values() for wnid in wnids[:-1]]
    data = load(name, request_for(make_tree(name, without_train=missing, without_test=missing)))
    assert data.train.targets.tolist() == groups_by_colour(data.train) == sorted(list(range(14)) * 2)
    assert data.test.targets.tolist() == groups_by_colour(data.test) == list(range(14))
    assert f"{len(missing)} of {len(missing) + 14} wnids are not in the tree" in capsys.readouterr().err


@pytest.mark.parametrize("name", LAYOUTS)
def test_classes_beyond_the_groups_are_left_alone(make_tree, request_for, name):
    data = load(name, request_for(make_tree(name, foreign=["n00000001", "n99999999"])))
    assert (data.train.pixels[:, 2] == TRAIN).all()
    assert (data.test.pixels[:, 2] == TEST).all()


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_whole_group_missing_is_refused(make_tree, request_for, name):
    wnids = LAYOUTS[name]["monkey"]
    with pytest.raises(DataNotFound, match=f"no images of monkey .*{wnids[0]}"):
        load(name, request_for(make_tree(name, without_train=wnids, without_test=wnids)))


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize(("split", "missing"), [("without_train", "training"), ("without_test", "test")])
def test_a_half_empty_tree_is_refused(make_tree, request_for, name, split, missing):
    wnid = LAYOUTS[name]["monkey"][1]
    with pytest.raises(UsageError, match=f"half-empty: {wnid} has no {missing} images"):
        load(name, request_for(make_tree(name, **{split: [wnid]})))


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_missing_tree_says_what_to_download(request_for, name):
    archive = r"tiny-imagenet-200\.zip" if name.startswith("tiny") else "ILSVRC2012"
    with pytest.raises(DataNotFound, match=rf"{archive}.*--data-root"):
        load(name, request_for())


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("part", ["train", "val"])
def test_half_a_tree_is_not_taken_for_none(tmp_path, request_for, name, part):
    (tmp_path / part).mkdir()
    with pytest.raises(DataNotFound, match=rf"half-empty: it has {part}/.*--data-root"):
        load(name, request_for())


@pytest.mark.parametrize("name", ["restricted_imagenet", "tiny_restricted_imagenet"])
@pytest.mark.parametrize(("split", "part"), [("train", "training"), ("val", "test")])
def test_a_group_of_unreadable_images_alone_is_refused_by_its_name(make_tree, request_for, name, split, part):
    root, wnids = make_tree(name), LAYOUTS[name]["monkey"]
    for path in (root / split).rglob("*.JPEG"):
        if any(wnid in path.name for wnid in wnids):
            path.write_bytes(b"broken")
    with pytest.raises(UsageError, match=f"{name}: all {part} images of the class monkey are unreadable"):
        load_data(name, "real", request_for(root, skip_corrupt=True))


@pytest.mark.parametrize("damage", ["no file", "no tabs", "not text", "a pipe", "a folder"])
def test_a_damaged_list_of_validation_images_is_refused(make_tree, request_for, damage):
    root = make_tree("tiny_restricted_imagenet")
    annotations = root / "val" / "val_annotations.txt"
    if damage in ("no file", "a pipe", "a folder"):
        annotations.unlink()
        {"no file": str, "a pipe": os.mkfifo, "a folder": os.mkdir}[damage](annotations)
    else:
        annotations.write_bytes(b"no tabs here\n" if damage == "no tabs" else b"\xff\xfe\x00")
    with pytest.raises(DataNotFound, match=r"val_annotations\.txt is missing or damaged"):
        load("tiny_restricted_imagenet", request_for(root))


def test_a_list_of_validation_images_names_none_beyond_their_folder(make_tree, request_for, write_image, tmp_path):
    root, name = make_tree("tiny_restricted_imagenet"), "tiny_restricted_imagenet"
    outside, wnid = write_image(tmp_path / "outside.JPEG"), LAYOUTS[name]["bird"][0]
    with (root / "val" / "val_annotations.txt").open("a") as annotations:
        for odd in (outside, "../../../outside.JPEG", "x" * 5000, "a\0b", ""):
            annotations.write(f"{odd}\t{wnid}\t0\t0\t62\t62\n")
    assert len(load(name, request_for(root)).test) == 28


@pytest.mark.parametrize(
    ("name", "folder"),
    [("tiny_restricted_imagenet", "tiny-imagenet-200"), ("restricted_imagenet", "imagenet")],
)
def test_the_tree_may_lie_in_its_own_folder_below_the_root(make_tree, request_for, tmp_path, name, folder):
    (tmp_path / "above").mkdir()
    make_tree(name).rename(tmp_path / "above" / folder)
    data = load(name, request_for(tmp_path / "above"))
    assert data.train.targets.tolist() == groups_by_colour(data.train)


def test_few_shot_and_full_streams_of_one_tree_decode_it_once(make_tree, request_for, tmp_path):
    root = make_tree("tiny_restricted_imagenet")
    load("tiny_restricted_imagenet", request_for(root))
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()}
    load("tiny_restricted_imagenet_fewshot", request_for(root))
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()} == written


def test_published_normalisation_is_used_where_there_is_one(make_tree, request_for):
    data = load("restricted_imagenet", request_for(make_tree("restricted_imagenet")))
    assert data.mean == (0.4717, 0.4499, 0.3837)
    assert data.std == (0.26, 0.2516, 0.2575)


# Folders of class folders


@pytest.fixture
def make_folder(tmp_path, write_image):
    """Function: number of images for each class of each split -> a folder; the colours tell class and number."""

    def make(name="pets", **splits):
        for split, classes in splits.items():
            for label, (group, number) in enumerate(classes.items()):
                folder = tmp_path / name / (split if split != "whole" else "") / group
                folder.mkdir(parents=True)
                for k in range(number):
                    write_image(folder / f"{k}.png", (label, k, sum(map(ord, split)) % 256))
        return tmp_path / name

    return make


def colours(part):
    return [tuple(image[:2, 0, 0].tolist()) for image in part.pixels]


@pytest.mark.parametrize("test", ["test", "val"])
def test_a_folder_with_a_test_split_keeps_it(make_folder, request_for, test):
    data = load("imagefolder", request_for(make_folder(train={"cat": 3, "dog": 4}, **{test: {"cat": 1, "dog": 2}})))
    assert data.classes == ("cat", "dog")
    assert data.label == "imagefolder (pets)"
    assert data.train.targets.tolist() == [0] * 3 + [1] * 4
    assert data.test.targets.tolist() == [0] + [1] * 2
    assert (data.train.pixels[:, 0, 0, 0] == data.train.targets).all()
    assert (data.test.pixels[:, 2] == sum(map(ord, test)) % 256).all()


@pytest.mark.parametrize("split", ["whole", "train"])
def test_a_folder_without_a_test_split_holds_a_fifth_of_each_class_out(make_folder, request_for, split):
    data = load("imagefolder", request_for(make_folder(**{split: {"cat": 10, "dog": 20, "fox": 7}})))
    assert np.bincount(data.test.targets).tolist() == [2, 4, 1]
    everything = colours(data.train) + colours(data.test)
    assert sorted(everything) == sorted((c, k) for c, n in enumerate((10, 20, 7)) for k in range(n))
    for part in (data.train, data.test):
        assert [label for label, _ in colours(part)] == part.targets.tolist()


def test_the_held_out_images_are_the_same_every_time_and_everywhere(make_folder, request_for, tmp_path):
    """A run's seed is not even known here: all seeds share one test set."""
    root = make_folder(whole={"cat": 10, "dog": 20})
    first = load("imagefolder", request_for(root))
    shutil.copytree(root, tmp_path / "elsewhere" / "pets")
    np.random.seed(5)
    again = load("imagefolder", request_for(tmp_path / "elsewhere" / "pets", cache=tmp_path / "other", resolution=4))
    assert colours(again.test) == colours(first.test)
    assert colours(first.test) != [(label, k) for label, n in ((0, 2), (1, 4)) for k in range(n)]


def test_hidden_folders_and_other_files_are_no_classes(make_folder, request_for):
    root = make_folder(train={"cat": 2, "dog": 2}, test={"cat": 1, "dog": 1})
    (root / "train" / ".cache").mkdir()
    (root / "train" / "cat" / "notes.txt").write_text("none")
    (root / "train" / "labels.csv").write_text("none")
    data = load("imagefolder", request_for(root))
    assert (data.classes, len(data.train)) == (("cat", "dog"), 4)


@pytest.mark.parametrize(
    ("splits", "error", "message"),
    [
        ({"train": {"cat": 2, "dog": 2}, "test": {"cat": 1}}, UsageError, "class folders"),
        ({"train": {"cat": 2, "dog": 2}, "test": {"cat": 1, "fox": 1}}, UsageError, "differ in their class.*'dog'"),
        ({"train": {"cat": 2, "dog": 0}, "test": {"cat": 1, "dog": 1}}, UsageError, "dog has too few images"),
        ({"train": {"cat": 2, "dog": 2}, "test": {"cat": 0, "dog": 1}}, UsageError, "cat has too few images"),
        ({"whole": {"cat": 9, "dog": 1}}, UsageError, "dog has too few images"),
        ({"whole": {"cat": 9}}, DataNotFound, "1 class folders, at least 2 are needed: see --data-root"),
    ],
)
def test_a_folder_that_cannot_be_a_stream_is_refused(make_folder, request_for, splits, error, message):
    with pytest.raises(error, match=message):
        load("imagefolder", request_for(make_folder(**splits)))


def test_a_missing_folder_is_refused(tmp_path, request_for):
    with pytest.raises(DataNotFound, match="nowhere is no folder: point --data-root"):
        load("imagefolder", request_for(tmp_path / "nowhere"))


@pytest.mark.parametrize("name", ["imagefolder", "tiny_restricted_imagenet"])
def test_skipped_files_are_reported_for_both_splits(make_folder, make_tree, request_for, name):
    if name == "imagefolder":
        root = make_folder(train={"cat": 2, "dog": 2}, test={"cat": 2, "dog": 1})
        bad = [root / "train" / "cat" / "0.png", root / "test" / "cat" / "1.png"]
    else:
        root = make_tree(name, test=2)
        bad = [next((root / "train").rglob("*.JPEG")), next((root / "val").rglob("*.JPEG"))]
    for path in bad:
        path.write_bytes(b"broken")
    with pytest.raises(UsageError, match="--skip-corrupt"):
        load(name, request_for(root))
    data = load(name, request_for(root, skip_corrupt=True))
    assert [line.split(": ")[0] for line in data.skipped] == list(map(str, bad))


# Data sets that come as arrays


def test_the_digits_have_one_balanced_test_set(request_for):
    first, again = (load("digits", request_for(resolution=side)) for side in (8, 16))
    assert (len(first.train) + len(first.test), first.train.pixels.shape[1:]) == (1797, (1, 8, 8))
    assert first.test.targets.tolist() == again.test.targets.tolist()
    assert np.bincount(first.test.targets).min() >= 35
    assert again.train.pixels.shape[-1] == 16
    assert first.flip is False
    train, test = ({image.tobytes() for image in part.pixels} for part in (first.train, first.test))
    assert len(train & test) < 3


class DownloadedColour:
    """CIFAR as torchvision serves it: an array with channels last; the levels tell split, channel and top row."""

    classes = ("first", "second")

    def __init__(self, root, train, download):
        self.data = np.full((3, 8, 8, 3), 100 if train else 0, np.uint8) + np.array([10, 20, 30], np.uint8)
        self.data[:, 0] += 1
        self.targets = [0, 1, 1]


class DownloadedGrey:
    """MNIST as torchvision serves it: a tensor without channels."""

    classes = ("first", "second")

    def __init__(self, root, train, download):
        self.data = torch.full((3, 8, 8), 110 if train else 10, dtype=torch.uint8)
        self.data[:, 0] += 1
        self.targets = torch.tensor([0, 1, 1])


@pytest.mark.parametrize(
    ("name", "source"),
    [("cifar10", "CIFAR10"), ("cifar100", "CIFAR100"), ("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")],
)
def test_downloaded_arrays_are_put_channels_first(monkeypatch, request_for, name, source):
    channels = 1 if "mnist" in name else 3
    monkeypatch.setattr(torchvision.datasets, source, DownloadedGrey if channels == 1 else DownloadedColour)
    data = load(name, request_for())
    assert (data.label, data.classes) == (name, ("first", "second"))
    for part, level in ((data.train, 100), (data.test, 0)):
        assert part.targets.tolist() == [0, 1, 1]
        assert part.pixels.shape == (3, channels, 8, 8)
        for channel in range(channels):
            assert (part.pixels[:, channel, 0] == level + 10 * (channel + 1) + 1).all()
            assert (part.pixels[:, channel, 1:] == level + 10 * (channel + 1)).all()


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "mnist", "fashion_mnist"])
def test_a_failed_download_says_what_to_do(monkeypatch, request_for, name):
    def unreachable(*args, **kwargs):
        raise RuntimeError("no network")

    for source in ("CIFAR10", "CIFAR100", "MNIST", "FashionMNIST"):
        monkeypatch.setattr(torchvision.datasets, source, unreachable)
    with pytest.raises(DataNotFound, match=rf"{name} is not in .* --data-root, or use stand-in images"):
        load(name, request_for())
