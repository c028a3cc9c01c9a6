"""RunConfig: everything that defines one run, validated, serialisable, with one identity."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, field_validator, model_validator

from benchmark.config.fields import option, with_role
from benchmark.config.identity import Identity
from benchmark.errors import plain, shortened
from benchmark.registry import MODELS, PROTOCOL_OPTIONS, PROTOCOLS, STREAMS
from strategies.learning.recipe import Control, LearningRateSchedule, Optimiser, Ties
from strategies.pruning.schedules import FINAL_DENSITY
from strategies.registry import (
    DISTRIBUTIONS,
    OPTIONS,
    PRUNING,
    REPLAYS,
    SCHEDULES,
    SCORES,
    STRATEGIES,
    Registry,
    is_bounded,
    n_and_m,
    structure_entry,
    structure_name,
)

PROTOCOL_VERSION = 2
"""Bumped when the protocol itself changes meaning: results of two versions never share a leaderboard."""

NAMED: dict[str, Registry[Any]] = {
    "stream": STREAMS,
    "scenario": PROTOCOLS,
    "strategy": STRATEGIES,
    "score": SCORES,
    "schedule": SCHEDULES,
    "scope": DISTRIBUTIONS,
    "model": MODELS,
    "replay": REPLAYS,
}
"""Fields that hold the name of an entry -> its registry."""

VERSIONED: dict[str, Registry[Any]] = {"score": SCORES, "schedule": SCHEDULES, "scope": DISTRIBUTIONS}
"""Options of a variant that have versions of their own."""

ALMA = "alma"
"""The protocol of all runs from before there were others. Its runs do not record it: they stay what they were."""

RESOLUTIONS = (4, 1024)
"""Smallest and largest height and width of images, in pixels."""

MAX_PIXELS = 50_000_000
"""Of an image that is decoded unless more are allowed: 150 MB in each of several threads. Photographs of most cameras
have fewer."""

OWN_WIDTH = 1.0
"""Of every network of the suite. Runs of it do not record it: they stay what they were before there were others."""

WIDTHS = (1 / 64, 64.0)
"""Smallest and largest multiple of a network's own width."""

MOST = 10**9
"""Of anything that is counted. Larger numbers fit neither a store nor a clock."""

LARGEST = 1e38
"""Of numbers that are not counted: float32, in which networks are trained, holds hardly a larger one."""

LAYER_DENSITIES = (1e-6, 1e6)
"""Smallest and largest relative density of a layer: beyond them, sums over the weights of a network are inexact."""


LONGEST_PATTERN = 200
"""Characters of a pattern of layer names."""


class RunConfig(BaseModel):
    """One run, complete: nothing is left to a default that could change later.

    Field names are the command's options with underscores. Each field says its role: those of the protocol decide
    which runs can be compared, those of the variant which method it is, and those of execution change no result, or
    only its last digits.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    stream: str = option("protocol", "Stream", "which images, in which order")
    scenario: str = option(
        "protocol",
        "Stream",
        "how images arrive: alma, class-incremental, task-incremental, domain-incremental or blurry  [default: the "
        "stream's]",
        ALMA,
    )
    data: Literal["auto", "real", "synthetic"] = option(
        "protocol",
        "Stream",
        "real images, procedural stand-ins, or stand-ins only where images have no public download",
        "auto",
        single=True,
    )
    resolution: int = option(
        "protocol", "Stream", "height and width of the images in pixels", ge=RESOLUTIONS[0], le=RESOLUTIONS[1]
    )
    megabatches: int = option(
        "protocol",
        "Stream",
        "B: how many megabatches (experiences) the images arrive in; 'unknown' does not tell the learner",
        ge=1,
        le=MOST,
    )
    shots: int | None = option(
        "protocol",
        "Stream",
        "training images of each class, or 'all'  [default: the profile's, else all]",
        None,
        ge=1,
        le=MOST,
    )
    test_shots: int | None = option(
        "protocol",
        "Stream",
        "test images of each class, or 'all'  [default: the profile's, else all]",
        None,
        ge=1,
        le=MOST,
    )
    replay: str = option(
        "protocol", "Stream", "what is trained on at megabatch t: full, none, last, buffer or interleaved", "full"
    )
    buffer_size: int = option("protocol", "Stream", "earlier images that bounded memories keep", 1000, ge=1, le=MOST)
    wait: int = option(
        "protocol",
        "Stream",
        "train on every w-th megabatch and the last, on all that has arrived since",
        1,
        ge=1,
        le=MOST,
    )
    val_fraction: float = option(
        "protocol", "Stream", "part of each megabatch held out for validation", 0.1, gt=0, lt=1
    )
    ties: Ties = option(
        "protocol",
        "Stream",
        "which of equally good validation epochs is handed over: the first, the last, or that of the lowest loss",
        "last",
        earlier="first",
    )
    stratified: bool = option("protocol", "Stream", "deal every class out evenly over the megabatches")
    domain: Literal["permuted", "rotated"] = option(
        "protocol", "Stream", "of domain-incremental: what happens to the images of an experience", "permuted"
    )
    disjoint: int = option(
        "protocol", "Stream", "of blurry: percent of the classes that belong to one experience alone", 50, ge=0, le=100
    )
    blur: int = option(
        "protocol", "Stream", "of blurry: percent of the other classes' images that come elsewhere", 10, ge=0, le=100
    )
    head: Literal["fixed", "growing"] = option(
        "protocol",
        "Stream",
        "of class-incremental and blurry: whether the network answers for all classes, or for those that it has met",
        "fixed",
    )
    skip_corrupt: bool = option(
        "execution", "Stream", "leave out unreadable images and those that are too large, and say how many", False
    )
    max_pixels: int = option(
        "execution",
        "Stream",
        "pixels of the largest image that is decoded; images with more are refused, or left out with --skip-corrupt",
        MAX_PIXELS,
        single=True,
        ge=1,
        le=MOST,
    )

    strategy: str = option("variant", "Strategy", "how the learner learns")
    score: str = option("variant", "Strategy", "what ranks the weights; some strategies have another default", "snip")
    schedule: str = option("variant", "Strategy", "density of each megabatch; none prunes nothing", "exponent")
    density: float = option(
        "variant",
        "Strategy",
        "final density, the kept fraction; --tau writes it as 0.8 ** tau",
        FINAL_DENSITY,
        gt=0,
        le=1,
    )
    scope: str = option("variant", "Strategy", "where weights compete: global, local, erk or custom", "global")
    layer_density: dict[str, float] = option(
        "variant",
        "Strategy",
        "relative density of a layer (a pattern), for the scope custom; repeatable",
        {},
        single=True,
    )
    structure: str = option(
        "variant", "Strategy", "what is pruned together: unstructured, N:M (as 2:4) or filters", "unstructured"
    )
    nested: bool = option("variant", "Strategy", "a pruned weight stays pruned", True)
    score_fraction: float = option(
        "variant", "Strategy", "images a scoring reads, as part of one megabatch", 0.2, gt=0, le=1
    )
    control: Control = option(
        "variant",
        "Strategy",
        "check of a pruner: none, shuffle (its masks), reinitialise (its weights) or invert (its scores)",
        "none",
    )
    known_length: bool = option("variant", "Strategy", "tell the learner how many megabatches there will be", True)
    settings: dict[str, bool | int | float | str] = option(
        "variant", "Strategy", "a hyperparameter of the strategy's own; its page in docs/ lists them", {}
    )

    model: str = option("protocol", "Training", "network architecture")
    width: float = option(
        "protocol",
        "Training",
        "channels and hidden units of the network, as a multiple of its own: of resnet20s and other small ones",
        OWN_WIDTH,
        ge=WIDTHS[0],
        le=WIDTHS[1],
    )
    epochs: int = option("protocol", "Training", "epochs per megabatch", ge=1, le=MOST)
    batch_size: int = option(
        "protocol", "Training", "images per training batch; all of them where there are fewer", ge=2, le=MOST
    )
    optimizer: Optimiser = option("protocol", "Training", "sgd or adamw", "sgd", earlier="sgd")
    lr: float = option("protocol", "Training", "learning rate at the start of each megabatch", 0.1, gt=0, le=LARGEST)
    momentum: float = option("protocol", "Training", "of SGD", 0.9, ge=0, lt=1)
    weight_decay: float = option("protocol", "Training", "of the optimiser", 1e-4, ge=0, le=LARGEST)
    lr_schedule: LearningRateSchedule = option(
        "protocol",
        "Training",
        "of each megabatch: multistep decays at the milestones, cosine to zero, constant never",
        "multistep",
        earlier="multistep",
    )
    milestones: tuple[float, ...] = option(
        "protocol", "Training", "parts of a megabatch's epochs after which the rate decays", (0.4, 0.8), single=True
    )
    lr_decay: float = option("protocol", "Training", "factor of each decay of the rate", 0.1, gt=0, le=1)
    augment: bool = option(
        "protocol", "Training", "crop, and where that changes no meaning flip, training images at random", True
    )
    carry_momentum: bool = option(
        "protocol", "Training", "keep the optimiser's state from one megabatch to the next", False
    )
    precision: Literal["fp32", "bf16"] = option(
        "protocol",
        "Training",
        "fp32, or bf16 by autocast: convolutions and matrix products in bfloat16",
        "fp32",
        earlier="fp32",
    )
    compile: bool = option(
        "execution", "Training", "compile training batches of fixed shape; not part of the protocol", False
    )
    seed: int = option("seed", "Training", "of split, initialisation, batches and scoring", 0, ge=0, lt=2**32)
    device: str = option("execution", "Training", "auto, cpu or cuda; not part of the protocol", "auto", single=True)

    @field_validator(*NAMED)
    @classmethod
    def _known(cls, name: str, info: Any) -> str:
        return NAMED[info.field_name].check(name)

    @field_validator("shots", "test_shots", mode="before")
    @classmethod
    def _all_of_them(cls, shots: Any) -> Any:
        return None if shots == ALL else shots

    @field_validator("structure", mode="before")
    @classmethod
    def _one_way_to_write_it(cls, structure: Any) -> Any:
        if isinstance(structure, int):
            raise ValueError("YAML reads 2:4 as a number of base 60: write it in quotes, structure: '2:4'")
        return structure_name(str(structure))

    @field_validator("layer_density", mode="before")
    @classmethod
    def _names_of_layers(cls, densities: Any) -> Any:
        # YAML takes the layers of a plain Sequential, 0 and 3, for numbers.
        return (
            {str(layer): value for layer, value in densities.items()} if isinstance(densities, Mapping) else densities
        )

    @field_validator("layer_density")
    @classmethod
    def _positive_densities(cls, densities: dict[str, float]) -> dict[str, float]:
        smallest, largest = LAYER_DENSITIES
        for layer, value in densities.items():
            if not layer.isprintable() or len(layer) > LONGEST_PATTERN:
                raise ValueError(f"no layer is called {shortened(layer)}")
            if not smallest <= value <= largest:
                limits = f"a positive number, from {smallest:g} to {largest:g}"
                raise ValueError(f"a relative density is {limits}; {plain(layer)} has {value}")
        return densities

    @field_validator("device")
    @classmethod
    def _device_form(cls, device: str) -> str:
        if not re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,4})?", device):
            raise ValueError(f"unknown device {shortened(device)}: auto, cpu, cuda or cuda:N")
        return device

    @model_validator(mode="after")
    def _milestones_in_order(self) -> RunConfig:
        if not all(0 < m < 1 for m in self.milestones) or list(self.milestones) != sorted(self.milestones):
            raise ValueError("milestones are increasing fractions of a megabatch's epochs, each between 0 and 1")
        return self

    @model_validator(mode="after")
    def _layers_belong_to_custom(self) -> RunConfig:
        if (self.scope == "custom") != bool(self.layer_density):
            raise ValueError("--scope custom and --layer-density LAYER=X go together: give both or neither")
        return self

    @model_validator(mode="after")
    def _single_weights_are_shuffled(self) -> RunConfig:
        if self.control == "shuffle" and self.structure != "unstructured":
            raise ValueError("--control shuffle moves single weights: it goes with --structure unstructured")
        return self

    def options(self) -> list[str]:
        """The fields that the strategy reads, of those that not all do."""
        names = list(STRATEGIES.load(self.strategy).traits.options)
        if "schedule" in names and self.schedule == "none":
            # Nothing is pruned, so nothing about pruning is read.
            names = [name for name in names if name == "schedule" or name not in PRUNING]
        if "structure" in names and n_and_m(self.structure):
            names = [name for name in names if name != "scope"]
        if "scope" in names and self.scope == "custom":
            names.append("layer_density")
        if "score" in names and SCORES.load(self.score).traits.samples in (0, 1):
            # It looks at no sample, or at the shape of one.
            names = [name for name in names if name != "score_fraction"]
        return names

    def identity(self, data_fingerprint: str = "") -> Identity:
        """What the run is recorded, skipped, resumed and grouped by; with the images' fingerprint once it is known."""
        return Identity(self.protocol(), self.variant(), self.seed, data_fingerprint)

    def protocol(self) -> dict[str, Any]:
        """What two runs must have in common to be compared, but for the data themselves.

        Fields that the others make meaningless are left out, such as milestones without a multistep schedule, and those
        that came with other protocols than ALMA's where they say what all runs did before.
        Avalanche's strategies bring their own memory: their replay is ``own``, whatever was asked for. On a stream that
        shifts, memory is what methods differ in: there it belongs to the variant.
        """
        fields = self.model_dump(mode="json", include=set(with_role(RunConfig, "protocol")))
        if STRATEGIES.load(self.strategy).traits.memory == "own":
            fields["replay"] = "own"
        traits = PROTOCOLS.load(self.scenario).traits
        # Streams that there were before said neither; a command that leaves them out has to mean the same run.
        as_before = STREAMS.load(self.stream).traits.protocol == ALMA
        meaningless = {
            **{name: name not in traits.options for name in PROTOCOL_OPTIONS},
            "scenario": self.scenario == ALMA and as_before,
            "replay": traits.shifts,
            "augment": self.augment and as_before,
            "buffer_size": not is_bounded(fields["replay"]) or traits.shifts,
            "momentum": self.optimizer != "sgd",
            "milestones": self.lr_schedule != "multistep",
            "lr_decay": self.lr_schedule != "multistep",
            "width": self.width == OWN_WIDTH,
            "head": self.head == "fixed",
        }
        fields = {name: value for name, value in fields.items() if not meaningless.get(name, False)}
        versions = {
            "stream_version": STREAMS.load(self.stream).version,
            "model_version": MODELS.load(self.model).version,
            "protocol_version": PROTOCOL_VERSION,
        }
        if self.scenario != ALMA:
            versions["scenario_version"] = PROTOCOLS.load(self.scenario).version
        return fields | versions

    def variant(self) -> dict[str, Any]:
        """The options that tell this strategy from others on the same board: those it uses, and their versions.

        An option that came later is left out where it says what the strategy has always done.
        """
        entry = STRATEGIES.load(self.strategy)
        options = {name: getattr(self, name) for name in self.options()}
        options = {name: value for name, value in options.items() if (name, value) not in entry.traits.later.items()}
        versions = {"strategy_version": entry.version}
        for name, registry in VERSIONED.items():
            if name in options:
                versions[f"{name}_version"] = registry.load(options[name]).version
        if "structure" in options:
            versions["structure_version"] = structure_entry(self.structure).version
        return {"strategy": self.strategy, **options, **self._memory(), **self.settings, **versions}

    def _memory(self) -> dict[str, Any]:
        """What a strategy that replays as it is told remembers, where that belongs to the variant."""
        if STRATEGIES.load(self.strategy).traits.memory == "own" or not PROTOCOLS.load(self.scenario).traits.shifts:
            return {}
        return {"replay": self.replay} | ({"buffer_size": self.buffer_size} if is_bounded(self.replay) else {})

    def default_variant(self) -> dict[str, Any]:
        """The options of :meth:`variant` with the strategy's own defaults: a row is named by what differs."""
        entry = STRATEGIES.load(self.strategy)
        fields = {name: RunConfig.model_fields[name].default for name in OPTIONS}
        plain = self.model_copy(update={**fields, **entry.traits.defaults, "settings": entry.settings})
        # These three decide which options are read, and N:M which density there is.
        deciding = ("schedule", "scope", "structure")
        same = plain.model_copy(update={name: getattr(self, name) for name in deciding}).variant()
        options = same | {name: getattr(plain, name) for name in deciding if name in same}
        # A memory is named whatever it is: a row that replays nothing is no usual one, nor is one that replays all.
        options = {name: value for name, value in options.items() if name not in self._memory()}
        return options | ({"density": self.density} if n_and_m(self.structure) and "density" in same else {})


ALL = "all"
"""Number of shots that takes all images there are, whatever a profile says."""
