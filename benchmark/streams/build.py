"""From a run's configuration to its stream: which images, cut down to the asked shots, as an ALMA scenario."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from avalanche.benchmarks import CLScenario

from benchmark.config.run_config import RunConfig
from benchmark.config.source import source_of
from benchmark.errors import UsageError
from benchmark.registry import STREAMS
from benchmark.streams.loading.images import ImageDataset, Images, StreamData, StreamRequest
from benchmark.streams.loading.loader import ArrayLoader
from benchmark.streams.loading.transforms import CropAndFlip, Normalise, TrainTransform
from benchmark.streams.protocols.alma import alma_scenario, split_megabatches
from benchmark.streams.sources.synthetic import stand_in
from strategies.seeds import numpy_generator


@dataclass(frozen=True)
class Stream:
    """A stream ready to learn from.

    Attributes:
        data: the images after shots were drawn.
        fingerprint: of all the images, before shots were drawn.
        scenario: train, valid and test streams.
        loader: batches without per-sample work.
    """

    data: StreamData
    fingerprint: str
    scenario: CLScenario
    loader: ArrayLoader


def load_data(config: RunConfig, request: StreamRequest) -> StreamData:
    """All images of the configured stream, or their stand-ins.

    Raises:
        UsageError: the images are missing or unusable.
    """
    entry = STREAMS.load(config.stream)
    if source_of(config.stream, config.data, request.data_root) == "real" or entry.traits.source == "synthetic":
        data: StreamData = entry.target(request)
        return data
    sizes = {name: getattr(entry.traits, name) for name in ("classes", "train_per_class", "test_per_class")}
    for name, size in sizes.items():
        if not size:
            raise UsageError(f"the stream {config.stream} has no stand-in images: its registration does not say {name}")
    return stand_in(config.stream, request, **sizes)


def build_stream(config: RunConfig, data: StreamData, device: str) -> Stream:
    """Shape ``data`` as ``config`` asks: shots, split, transforms and loader.

    Raises:
        UsageError: more shots than a class has, or an impossible split.
    """
    train, test = _cut(config, data)
    normalise = Normalise(data.mean, data.std)
    augment = CropAndFlip(config.resolution, data.flip)
    scenario = alma_scenario(
        ImageDataset(train),
        ImageDataset(test),
        train.targets,
        test.targets,
        megabatches=config.megabatches,
        val_fraction=config.val_fraction,
        seed=config.seed,
        stratified=config.stratified,
        wait=config.wait,
        train_transform=TrainTransform(augment, normalise),
        eval_transform=normalise,
    )
    loader = ArrayLoader(train, test, augment=augment, normalise=normalise, seed=config.seed, device=device)
    return Stream(replace(data, train=train, test=test), data.fingerprint, scenario, loader)


def check_stream(config: RunConfig, data: StreamData) -> None:
    """Make sure that :func:`build_stream` will succeed, at a fraction of its cost.

    Raises:
        UsageError: more shots than a class has, or an impossible split.
    """
    train, _ = _cut(config, data)
    split_megabatches(train.targets, config.megabatches, config.val_fraction, config.seed, config.stratified)


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
