"""Before a run: find and decode the images, and make sure that nothing will stop the training half way."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmark.config.run_config import RunConfig
from benchmark.errors import UsageError
from benchmark.models.build import model_factory
from benchmark.models.heads import TaskHeads, with_growing_head
from benchmark.running.bf16 import SLOW_BF16, has_bf16_instructions
from benchmark.streams.build import StreamSizes, measure_stream
from benchmark.streams.loading.images import Images, StreamData, StreamRequest
from benchmark.streams.sources.load import load_data
from strategies.pruning.distributions import unmatched
from strategies.pruning.masks import prunable_weights
from strategies.registry import SCORES, STRATEGIES


@dataclass(frozen=True)
class Prepared:
    """A run whose images were found and whose stream can be made.

    Attributes:
        config: of the run; ``config.data`` is real or synthetic.
        data: all images of the stream.
        sizes: how many of them each training and test has.
        device: cpu, or cuda with or without a number.
        notes: lines for the user, each about something that is not quite as it may have been meant.
    """

    config: RunConfig
    data: StreamData
    sizes: StreamSizes
    device: str
    notes: tuple[str, ...] = ()


def prepare(
    config: RunConfig,
    *,
    data_root: str | Path,
    cache: str | Path,
    loaded: dict[Any, StreamData] | None = None,
    given: Collection[str] | None = None,
    download: bool = True,
) -> Prepared:
    """Find and decode the images and make sure that the stream can be made of them; trains nothing.

    Args:
        config: of the run.
        data_root: folder that images are looked for in, and downloaded to.
        cache: folder of decoded images.
        loaded: image sets kept between calls, for several runs.
        given: names of the options that the user gave; None: all. A number of shots that is none of them is a
            profile's: it becomes that of the smallest class where that has fewer images.
        download: whether missing images may be downloaded.

    Raises:
        UsageError: anything about data, stream or device that the user has to mend.
    """
    choose_device(config)
    request = StreamRequest(
        Path(data_root), Path(cache), config.resolution, config.skip_corrupt, download, config.max_pixels
    )
    loaded = {} if loaded is None else loaded
    key = (config.stream, config.data, request)
    if key not in loaded:
        loaded[key] = load_data(config.stream, config.data, request)
    return prepare_on(config, loaded[key], given=given)


def prepare_on(config: RunConfig, data: StreamData, *, given: Collection[str] | None = None) -> Prepared:
    """Make sure that the run can be carried out on images that were found; ``given`` as :func:`prepare` has it.

    Raises:
        UsageError: anything about stream, network or device that the user has to mend.
    """
    device = choose_device(config)
    fewer = _fewer_shots(config, data, given)
    notes = [
        f"Note: --{name.replace('_', '-')} {shots} in place of the profile's {getattr(config, name)}: the smallest "
        "class has no more images."
        for name, shots in fewer.items()
    ]
    config = config.model_copy(update={"data": data.source, **fewer})
    if config.precision == "bf16" and device == "cpu" and has_bf16_instructions() is False:
        notes.append(SLOW_BF16)
    sizes = measure_stream(config, data)
    notes += sizes.notes
    _check_parts(config, data, sizes)
    return Prepared(config, data, sizes, device, tuple(notes))


def choose_device(config: RunConfig) -> str:
    """The device that the run asks for, or the best one there is.

    Raises:
        UsageError: it is not there, or cannot compute in the asked precision.
    """
    device = _device(config.device)
    if config.precision == "bf16" and device.startswith("cuda") and not torch.cuda.is_bf16_supported():
        raise UsageError(f"--precision bf16, but {torch.cuda.get_device_name(device)} has no bfloat16: use fp32")
    return device


def model_maker(config: RunConfig, data: StreamData, tasks: Sequence[Sequence[int]] = ()) -> Any:
    """``make(k)``: the configured model for these images, with its k-th random initialisation.

    With the classes of ``tasks`` it has a head for each of them; else it can have one that grows.
    """
    make = model_factory(
        config.model,
        classes=len(data.classes),
        channels=data.train.pixels.shape[1],
        resolution=config.resolution,
        seed=config.seed,
        width=config.width,
    )
    if config.head == "growing":
        return lambda draw: with_growing_head(make(draw))
    return (lambda draw: TaskHeads(make(draw), tasks)) if tasks else make


def _fewer_shots(config: RunConfig, data: StreamData, given: Collection[str] | None) -> dict[str, int]:
    """Numbers of shots that were not asked for and are more than there are images."""
    if given is None:
        return {}
    fewer = {}
    for name, images in (("shots", data.train), ("test_shots", data.test)):
        asked, smallest = getattr(config, name), _smallest_class(images, len(data.classes))
        if name not in given and asked is not None and 0 < smallest < asked:
            fewer[name] = smallest
    return fewer


def _smallest_class(images: Images, classes: int) -> int:
    return int(np.bincount(images.targets, minlength=classes).min())


def _check_parts(config: RunConfig, data: StreamData, sizes: StreamSizes) -> None:
    compiler = shlex.split(os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++"))[0]
    if config.compile and not shutil.which(compiler):
        raise UsageError(
            f"--compile needs a C++ compiler, and there is no {compiler}: install it or leave out --compile"
        )
    check = SCORES.load(config.score).traits.check
    if check is not None and "score" in config.options():
        try:
            check(model_maker(config, data, sizes.tasks)(0))
        except ValueError as error:
            raise UsageError(f"--score {config.score} with --model {config.model}: {error}") from error
    able = STRATEGIES.load(config.strategy).traits.check
    if able is not None:
        try:
            able(model_maker(config, data, sizes.tasks)(0), config.epochs)
        except ValueError as error:
            raise UsageError(f"--strategy {config.strategy} with --model {config.model}: {error}") from error
    if config.layer_density:
        layers = prunable_weights(model_maker(config, data, sizes.tasks)(0))
        for pattern in unmatched(config.layer_density, layers):
            names = ", ".join(name.removesuffix(".weight") for name in layers)
            raise UsageError(f"--layer-density {pattern}: {config.model} has no such layer; it has {names}")


def _device(name: str) -> str:
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda"):
        index = int(name.partition(":")[2] or 0)
        if index >= torch.cuda.device_count():
            raise UsageError(f"--device {name}, but PyTorch sees {torch.cuda.device_count()} CUDA devices: use cpu")
    return name
