"""The array loader yields exactly the samples of a data set, whichever way it was put together."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import ClassVar

import numpy as np
import pytest
import torch

from benchmark.streams.loading import storage as storage_module
from benchmark.streams.loading.dataset import ImageDataset
from benchmark.streams.loading.images import Images
from benchmark.streams.loading.loader import ArrayLoader
from benchmark.streams.loading.storage import AHEAD, Mapped, Resident
from benchmark.streams.loading.transforms import CropAndFlip, Normalise
from benchmark.streams.protocols.alma import alma_scenario
from strategies.registry import REPLAYS

NORMALISE = Normalise((0.5, 0.4, 0.3), (0.2, 0.25, 0.3))


class Unaugmented(CropAndFlip):
    """Leaves every image as it is."""

    def __init__(self):
        super().__init__(8, flip=True)

    def cut(self, images, drawn):
        return images


def random_images(size, seed):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (size, 3, 8, 8), dtype=np.uint8)
    return Images(pixels, rng.integers(0, 4, size))


@pytest.fixture(scope="module")
def images():
    return random_images(50, 0), random_images(20, 1)


@pytest.fixture(scope="module")
def stream(images):
    train, test = images
    return alma_scenario(
        ImageDataset(train),
        ImageDataset(test),
        train.targets,
        test.targets,
        megabatches=4,
        val_fraction=0.2,
        train_transform=NORMALISE,
        eval_transform=NORMALISE,
    )


@pytest.fixture(params=["resident", "mapped"])
def make_loader(request, images, tmp_path, monkeypatch):
    """Function: augmentation, seed -> a loader, once with images in memory and once with images in a mapped file."""
    if request.param == "mapped":
        monkeypatch.setattr(storage_module, "RESIDENT_BYTES", 0)
        mapped = []
        for number, part in enumerate(images):
            np.save(tmp_path / f"{number}.npy", part.pixels)
            mapped.append(Images(np.load(tmp_path / f"{number}.npy", mmap_mode="r"), part.targets))
    else:
        mapped = images

    def make(augment=None, seed=0):
        return ArrayLoader(*mapped, augment=augment or Unaugmented(), normalise=NORMALISE, seed=seed)

    return make


def data_sets(stream):
    first, second, third, fourth = (experience.dataset for experience in stream.train_stream)
    memory = REPLAYS.load("buffer").target(capacity=7, seed=0, role="training")
    buffered = [memory.observe(dataset) for dataset in (first, second, third, fourth)][-1]
    return {
        "megabatch": first,
        "validation": stream.valid_stream[1].dataset,
        "test": stream.test_stream[0].dataset,
        "full replay": first.concat(second).concat(third).concat(fourth),
        "buffer replay": buffered,
        "subset": third.subset([4, 1, 3]),
        "subset of a concatenation": first.concat(fourth).subset([15, 0, 3, 9, 2]),
        "repeated samples": first.subset([0, 0, 1]).concat(first),
        "one sample": second.subset([5]),
        "training and validation": first.concat(stream.valid_stream[0].dataset),
        "training and test": first.concat(stream.test_stream[0].dataset),
        "test and training": stream.test_stream[0].dataset.concat(first),
    }


every_data_set = pytest.mark.parametrize(
    "kind",
    [
        "megabatch",
        "validation",
        "test",
        "full replay",
        "buffer replay",
        "subset",
        "subset of a concatenation",
        "repeated samples",
        "one sample",
        "training and validation",
        "training and test",
        "test and training",
    ],
)


def samples_of(dataset):
    x, y, task = zip(*dataset, strict=True)
    return torch.stack(x), torch.tensor(y), torch.tensor(task)


def joined(batches):
    return [torch.cat(parts) for parts in zip(*batches, strict=True)]


def in_order(x, y):
    return sorted((bytes(image.contiguous().numpy().tobytes()), int(label)) for image, label in zip(x, y, strict=True))


@every_data_set
@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_evaluation_batches_are_the_samples_in_order(make_loader, stream, kind, batch_size):
    dataset = data_sets(stream)[kind]
    batches = make_loader().eval_batches(dataset, batch_size)
    found = list(batches)
    assert len(batches) == len(found) == -(-len(dataset) // batch_size)
    assert all(len(batch[1]) == batch_size for batch in found[:-1])
    for part, expected in zip(joined(found), samples_of(dataset.eval()), strict=True):
        assert part.dtype == expected.dtype
        assert torch.equal(part, expected)


@every_data_set
def test_a_training_epoch_has_every_sample_once(make_loader, stream, kind):
    dataset = data_sets(stream)[kind]
    batches = make_loader().train_batches(dataset, 4, megabatch=0)
    found = list(batches)
    assert len(batches) == len(found) == -(-len(dataset) // 4)
    x, y, task = joined(found)
    expected_x, expected_y, _ = samples_of(dataset)
    assert in_order(x, y) == in_order(expected_x, expected_y)
    assert not task.any()


@pytest.mark.parametrize(("earlier", "each"), [(3, 3), (4, 4), (9, 4)])
def test_remembered_samples_join_each_batch_and_all_before_any_again(make_loader, stream, earlier, each):
    dataset = stream.train_stream[0].dataset
    new = len(dataset) - earlier
    loader = make_loader()
    batches = loader.train_batches(dataset, 4, megabatch=0, joined=earlier)
    images, _, _ = samples_of(dataset)
    number = {image.numpy().tobytes(): position for position, image in enumerate(images)}
    assert len(number) == len(dataset)
    for _ in range(2):
        found = [[number[image.contiguous().numpy().tobytes()] for image in x] for x, *_ in batches]
        assert len(found) == len(batches) == -(-new // 4)
        assert sorted(i for batch in found for i in batch if i >= earlier) == list(range(earlier, len(dataset)))
        remembered = [[i for i in batch if i < earlier] for batch in found]
        assert [len(batch) for batch in remembered] == [each] * len(found)
        times = Counter(i for batch in remembered for i in batch)
        assert max(times.values()) - min(times[i] for i in range(earlier)) <= 1


def epochs(loader, dataset, count, megabatch=0):
    batches = loader.train_batches(dataset, 8, megabatch)
    return [joined(batches)[0] for _ in range(count)]


def test_epochs_differ_and_the_same_one_repeats(make_loader, stream):
    dataset = stream.train_stream[0].dataset
    augment = CropAndFlip(8, flip=True)
    first = epochs(make_loader(augment), dataset, 3)
    torch.manual_seed(99)
    np.random.seed(99)
    again = epochs(make_loader(augment), dataset, 3)
    assert all(map(torch.equal, first, again))
    others = epochs(make_loader(augment, seed=1), dataset, 1) + epochs(make_loader(augment), dataset, 1, megabatch=1)
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(first + others, 2))


def test_reading_validation_in_between_does_not_change_an_epoch(make_loader, stream):
    loader = make_loader(CropAndFlip(8, flip=True))
    dataset, valid = stream.train_stream[0].dataset, stream.valid_stream[0].dataset
    undisturbed = epochs(loader, dataset, 1)[0]
    disturbed = []
    for batch in loader.train_batches(dataset, 8, megabatch=0):
        disturbed.append(batch)
        list(loader.eval_batches(valid, 4))
    assert torch.equal(joined(disturbed)[0], undisturbed)


def test_loading_leaves_the_global_generators_alone(make_loader, stream):
    state = torch.get_rng_state()
    epochs(make_loader(CropAndFlip(8, flip=True)), stream.train_stream[0].dataset, 1)
    list(make_loader().eval_batches(stream.test_stream[0].dataset, 4))
    assert torch.equal(torch.get_rng_state(), state)


def test_evaluation_is_never_augmented(make_loader, stream):
    class Refuse(CropAndFlip):
        def cut(self, images, drawn):
            raise AssertionError("an evaluation image was augmented")

    loader = make_loader(Refuse(8, flip=True))
    assert list(loader.eval_batches(stream.train_stream[0].dataset, 4))
    with pytest.raises(AssertionError):
        list(loader.train_batches(stream.train_stream[0].dataset, 4, megabatch=0))


def test_mapped_and_resident_images_give_the_same_batches(images, stream, monkeypatch):
    def batches(kind):
        loader = ArrayLoader(*images, augment=CropAndFlip(8, flip=True), normalise=NORMALISE, seed=0)
        assert isinstance(loader.storage, kind)
        train = loader.train_batches(data_sets(stream)["full replay"], 8, megabatch=0)
        return joined([*train, *train, *loader.eval_batches(stream.test_stream[0].dataset, 3)])

    resident = batches(Resident)
    monkeypatch.setattr(storage_module, "RESIDENT_BYTES", 0)
    assert all(map(torch.equal, batches(Mapped), resident))


def test_images_are_channels_last(make_loader, stream):
    dataset = stream.train_stream[0].dataset
    for batches in (make_loader().train_batches(dataset, 4, 0), make_loader().eval_batches(dataset, 4)):
        assert all(x.is_contiguous(memory_format=torch.channels_last) for x, *_ in batches)


class Slow(Images):
    """Images that note when they are read."""

    reads: ClassVar[list[int]] = []

    def read(self, positions):
        self.reads.append(len(positions))
        return super().read(positions)


def test_the_next_batches_of_mapped_images_are_read_ahead_but_not_all(images):
    train, test = images
    storage = Mapped(Slow(train.pixels, train.targets), test, "cpu")
    Slow.reads.clear()
    batches = storage.batches(torch.arange(50).split(5))
    next(batches)
    batches.close()
    assert Slow.reads == [5] * (1 + AHEAD)


def test_an_error_while_reading_ahead_reaches_who_asks_for_the_batch(images):
    train, test = images
    storage = Mapped(train, test, "cpu")
    batches = storage.batches(iter([torch.arange(4), torch.tensor([1000])]))
    assert len(next(batches)[1]) == 4
    with pytest.raises(IndexError):
        next(batches)


def test_the_test_set_is_normalised_once(make_loader, stream, monkeypatch):
    loader = make_loader()
    first = joined(loader.eval_batches(stream.test_stream[0].dataset, 7))
    if isinstance(loader.storage, Resident):
        monkeypatch.setattr(loader, "normalise", None)
        assert all(map(torch.equal, joined(loader.eval_batches(stream.test_stream[0].dataset, 6)), first))


@pytest.mark.parametrize("skipped", [0, 1, 2, 4])
def test_an_epoch_can_begin_in_its_middle(make_loader, stream, skipped):
    loader, dataset = make_loader(CropAndFlip(8, flip=True)), stream.train_stream[0].dataset
    whole = loader.train_batches(dataset, 3, megabatch=1)
    next(iter(whole))
    second = [x for x, *_ in whole]
    again = loader.train_batches(dataset, 3, megabatch=1)
    next(iter(again))
    iterator = iter(again)
    for _ in range(skipped):
        next(iterator)
    if not skipped:
        next(iterator)
    again.skip(skipped)
    rest = [x for x, *_ in again]
    assert len(second) == 4 and len(rest) == 4 - skipped
    assert all(torch.equal(one, other) for one, other in zip(second[skipped:], rest, strict=True))
    third, expected = ([x for x, *_ in batches] for batches in (again, whole))
    assert all(torch.equal(one, other) for one, other in zip(third, expected, strict=True))
