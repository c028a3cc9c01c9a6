"""The registries of streams, protocols, models and metrics; those of strategies are in :mod:`strategies.registry`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from leaderboards.glossary import Measure
from strategies.registry import Registry, RegistryError


@dataclass(frozen=True)
class StreamTraits:
    """What is to be known of a stream before its images are.

    Attributes:
        megabatches: numbers of megabatches that it is run with, the default first.
        resolution: height and width of the images in pixels, unless told otherwise.
        shots: training images of each class, unless told otherwise; None: all.
        stratified: whether every class is dealt out evenly, unless told otherwise.
        model: the model, unless told otherwise; empty: the profile's.
        profile: the profile that it takes, unless told otherwise; empty: ``demo`` on stand-in images, ``paper`` on real
            ones.
        demo, paper: options in place of the profile's.
        source: ``synthetic`` for a stream of procedurally made images.
        classes, train_per_class, test_per_class: of stand-in images; 0 where the stream has none.
        locate: data root -> the folder of the images, or None; for streams without public download.
        protocol: the protocol, unless told otherwise.
    """

    megabatches: tuple[int, ...]
    resolution: int = 32
    shots: int | None = None
    stratified: bool = False
    model: str = ""
    profile: Literal["", "demo", "paper"] = ""
    demo: Mapping[str, Any] = field(default_factory=dict)
    paper: Mapping[str, Any] = field(default_factory=dict)
    source: Literal["images", "synthetic"] = "images"
    classes: int = 0
    train_per_class: int = 0
    test_per_class: int = 0
    locate: Callable[[Path], Path | None] | None = None
    protocol: str = "alma"

    def __post_init__(self) -> None:
        numbers = isinstance(self.megabatches, tuple) and all(isinstance(one, int) for one in self.megabatches)
        if not numbers or not self.megabatches or min(self.megabatches) < 1:
            raise RegistryError(f"megabatches are numbers from 1 on, the default first; not {self.megabatches!r}")


PROTOCOL_OPTIONS = ("stratified", "wait", "domain", "disjoint", "blur")
"""Options that only some protocols read."""


@dataclass(frozen=True)
class ProtocolTraits:
    """What is to be known of a protocol before it arranges a stream.

    Attributes:
        options: those of :data:`PROTOCOL_OPTIONS` that it reads.
        shifts: whether the distribution changes over the stream: forgetting is measured then, and memory belongs to the
            method, not to the protocol.
        new_classes: whether each class belongs to one experience.
        tasks: whether the learner is told the task of each image, and has a head for each.
        grows: whether a later experience can bring classes to a head that all experiences share.
    """

    options: tuple[str, ...] = ()
    shifts: bool = False
    new_classes: bool = False
    tasks: bool = False
    grows: bool = False

    def __post_init__(self) -> None:
        unknown = sorted(set(self.options) - set(PROTOCOL_OPTIONS))
        if unknown:
            raise RegistryError(f"options are among {', '.join(PROTOCOL_OPTIONS)}, not {unknown[0]!r}")


@dataclass(frozen=True)
class ModelTraits:
    """What is to be known of a model before it is made.

    Attributes:
        min_resolution: height and width in pixels of the smallest images that it takes.
        classifier: name of the submodule that is its classifier, which is not pruned; empty: ``classifier`` where it
            has one, else its last linear layer.
        widths: whether it takes a fourth argument, ``width``, the multiple of its own channels and hidden units.
    """

    min_resolution: int = 1
    classifier: str = ""
    widths: bool = False


@dataclass(frozen=True)
class MetricTraits:
    """What is to be known of a metric before it measures.

    Attributes:
        measures: the glossary of the series that it emits, all of them.
        order: where it stands among the metrics of a run, ascending. Those below 50 belong to the run; the clock of
            ``resources`` stops at 50; those above it look at the data once more, which no clock counts.
    """

    measures: tuple[Measure, ...]
    order: int = 100

    def __post_init__(self) -> None:
        if not all(isinstance(one, Measure) for one in self.measures):
            raise RegistryError("measures are a tuple of leaderboards.glossary.Measure")


STREAMS = Registry("stream", "STREAMS", "benchmark.streams", "anytime_bench.streams", StreamTraits)
PROTOCOLS = Registry("protocol", "PROTOCOLS", "benchmark.streams.protocols", "anytime_bench.protocols", ProtocolTraits)
MODELS = Registry("model", "MODELS", "benchmark.models", "anytime_bench.models", ModelTraits)
METRICS = Registry("metric", "METRICS", "benchmark.metrics", "anytime_bench.metrics", MetricTraits)
