"""From a run's configuration to its stream: which images, cut down to the asked shots, as a protocol's scenario."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from avalanche.benchmarks import CLScenario

from benchmark.config.run_config import RunConfig
from benchmark.errors import UsageError
from benchmark.registry import PROTOCOL_OPTIONS, PROTOCOLS, STREAMS
from benchmark.streams.loading.dataset import ImageDataset
from benchmark.streams.loading.images import Images, StreamData
from benchmark.streams.loading.loader import ArrayLoader
from benchmark.streams.loading.transforms import CropAndFlip, Normalise, TrainTransform, Transformed, Untouched
from benchmark.streams.protocols.scenario import Arrangement, Asked, make_scenario
from strategies.seeds import numpy_generator

CHANNELS = 3
"""Of images that are not here."""


@dataclass(frozen=True)
class Stream:
    """A stream ready to learn from.

    Attributes:
        data: the images after shots were drawn.
        fingerprint: of all the images, before shots were drawn.
        scenario: train, valid and test streams.
        loader: batches without per-sample work.
        tasks: classes of each task, for a head each; empty where the learner is told no task.
    """

    data: StreamData
    fingerprint: str
    scenario: CLScenario
    loader: ArrayLoader
    tasks: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class StreamSizes:
    """How many images there are to train on and to test on.

    Attributes:
        trainings: of each training, one a megabatch unless the learner waits: images to train on, and to validate on.
        tested: images of a test.
        tasks: classes of each task, as :class:`Stream` has them.
        notes: lines for the user.
    """

    trainings: tuple[tuple[int, int], ...]
    tested: int
    tasks: tuple[tuple[int, ...], ...] = ()
    notes: tuple[str, ...] = ()


def build_stream(config: RunConfig, data: StreamData, device: str) -> Stream:
    """Shape ``data`` as ``config`` asks: shots, split, transforms and loader.

    Raises:
        UsageError: more shots than a class has, or an impossible split.
    """
    train, test = _cut(config, data)
    arrangement = _arranged(config, train, test, len(data.classes))
    normalise = Normalise(data.mean, data.std)
    augment = CropAndFlip(config.resolution, data.flip) if config.augment else Untouched()
    plain: list[Any] = [Transformed(domain, normalise) for domain in arrangement.domains] or [normalise]
    scenario = make_scenario(
        arrangement,
        ImageDataset(train),
        ImageDataset(test),
        train.targets,
        test.targets,
        train_transforms=[TrainTransform(augment, one) for one in plain],
        eval_transforms=plain,
        protocol=config.scenario,
        traits=PROTOCOLS.load(config.scenario).traits,
    )
    loader = ArrayLoader(
        train,
        test,
        augment=augment,
        normalise=normalise,
        seed=config.seed,
        device=device,
        tasks=_task_labels(arrangement, len(train), len(test)),
        domains=arrangement.domains,
    )
    return Stream(replace(data, train=train, test=test), data.fingerprint, scenario, loader, arrangement.tasks)


def outline_data(config: RunConfig) -> StreamData | None:
    """One image of noise in place of each that the stream has; None where it is registered without numbers of images.

    It takes no memory, and stands for images that are not here, where only times are looked at. Of black ones all
    scores would be zero.
    """
    traits = STREAMS.load(config.stream).traits
    if not all((traits.classes, traits.train_per_class, traits.test_per_class)):
        return None

    shape = (CHANNELS, config.resolution, config.resolution)
    noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)

    def same(per_class: int) -> Images:
        targets = np.repeat(np.arange(traits.classes), per_class)
        return Images(np.broadcast_to(noise, (len(targets), *shape)), targets)

    return StreamData(
        label=config.stream,
        train=same(traits.train_per_class),
        test=same(traits.test_per_class),
        classes=tuple(f"class {label}" for label in range(traits.classes)),
        mean=(0.5,) * CHANNELS,
        std=(0.3,) * CHANNELS,
    )


def measure_stream(config: RunConfig, data: StreamData) -> StreamSizes:
    """The sizes of what :func:`build_stream` will make, at a fraction of its cost.

    Raises:
        UsageError: it cannot be made: more shots than a class has, or an impossible split.
    """
    train, test = _cut(config, data)
    arrangement = _arranged(config, train, test, len(data.classes))
    trainings = tuple((len(part.train), len(part.valid)) for part in arrangement.trained)
    tested = sum(len(part.positions) for part in arrangement.tested)
    return StreamSizes(trainings, tested, arrangement.tasks, arrangement.notes)


def _arranged(config: RunConfig, train: Images, test: Images, classes: int) -> Arrangement:
    """Which images each experience of the configured protocol has."""
    asked = Asked(
        train.targets,
        test.targets,
        classes,
        config.megabatches,
        val_fraction=config.val_fraction,
        seed=config.seed,
        resolution=config.resolution,
        **{name: getattr(config, name) for name in PROTOCOL_OPTIONS},
    )
    arrangement: Arrangement = PROTOCOLS.load(config.scenario).target(asked)
    return arrangement


def _task_labels(arrangement: Arrangement, train: int, test: int) -> torch.Tensor | None:
    """Label of each sample by its id; None where the learner is told no task."""
    if not arrangement.tasks:
        return None
    labels = torch.zeros(train + test, dtype=torch.long)
    for part in arrangement.trained:
        labels[np.concatenate([part.train, part.valid])] = part.task
    for tested in arrangement.tested:
        labels[train + tested.positions] = tested.task
    return labels


def _cut(config: RunConfig, data: StreamData) -> tuple[Images, Images]:
    """Training and test images of the asked shots. Which images depends on the seed; the test set never does."""
    train = _shots(data.train, config.shots, config.seed, "--shots", data.classes)
    return train, _shots(data.test, config.test_shots, 0, "--test-shots", data.classes)


def _shots(images: Images, shots: int | None, seed: int, flag: str, classes: tuple[str, ...]) -> Images:
    """``shots`` images of each class, in the original order; all of them for None."""
    if shots is None:
        return images
    chosen = []
    for label, name in enumerate(classes):
        own = np.flatnonzero(images.targets == label)
        if len(own) < shots:
            raise UsageError(f"{flag} {shots}, but class {name} has only {len(own)} images: lower {flag}")
        chosen.append(numpy_generator(seed, flag, label).permutation(own)[:shots])
    return images.take(np.sort(np.concatenate(chosen)))
