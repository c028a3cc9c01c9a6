"""RunConfig: everything that defines one run, validated, serialisable and hashable; and the named profiles."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo

from benchmark.errors import UsageError
from benchmark.registry import MODELS, STREAMS
from strategies.pruning.schedules import density_of, tau_of
from strategies.registry import (
    DISTRIBUTIONS,
    REPLAYS,
    SCHEDULES,
    SCORES,
    STRATEGIES,
    Entry,
    UnknownName,
    n_and_m,
    structure_named,
)

PROTOCOL_VERSION = 2
"""Bumped when the protocol itself changes meaning: results of two versions never share a leaderboard."""


def option(group: str, description: str, default: Any = ..., **constraints: Any) -> Any:
    """A field that becomes a command-line option: ``group`` is its heading in ``--help``."""
    return Field(default, description=description, json_schema_extra={"group": group}, **constraints)


class RunConfig(BaseModel):
    """One run, complete: nothing is left to a default that could change later.

    Field names are the command's options with underscores. ``stream``, ``data`` and everything that shapes
    stream and recipe form the protocol, ``strategy`` and its pruning options the variant.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    stream: str = option("Stream", "which images, in which order")
    data: Literal["auto", "real", "synthetic"] = option(
        "Stream", "real images, procedural stand-ins, or stand-ins only where images have no public download", "auto"
    )
    resolution: int = option("Stream", "height and width of the images in pixels", ge=4, le=1024)
    megabatches: int = option(
        "Stream", "B: how many megabatches the images arrive in; 'unknown' does not tell the learner", ge=1
    )
    shots: int | None = option("Stream", "training images of each class; all of them if not given", None, ge=1)
    test_shots: int | None = option("Stream", "test images of each class; all of them if not given", None, ge=1)
    replay: str = option("Stream", "what is trained on at megabatch t: full, none, last or buffer", "full")
    buffer_size: int = option("Stream", "earlier images that bounded memories keep", 1000, ge=1)
    wait: int = option("Stream", "train on every w-th megabatch and the last, on all that has arrived since", 1, ge=1)
    val_fraction: float = option("Stream", "part of each megabatch held out for validation", 0.1, gt=0, lt=1)
    ties: Literal["first", "last", "loss"] = option(
        "Stream",
        "which of equally good validation epochs is handed over: the first, the last, or that of the lowest loss",
        "last",
    )
    stratified: bool = option("Stream", "deal every class out evenly over the megabatches")
    skip_corrupt: bool = option("Stream", "leave out unreadable images, and say how many", False)

    strategy: str = option("Strategy", "how the learner learns")
    score: str = option("Strategy", "what ranks the weights; some strategies have another default", "snip")
    schedule: str = option("Strategy", "density of each megabatch; none prunes nothing", "exponent")
    tau: float = option("Strategy", "final density as 0.8 ** tau", 4.5, gt=0, le=1000)
    scope: str = option("Strategy", "where weights compete: global, local, erk or custom", "global")
    layer_density: dict[str, float] = option(
        "Strategy", "relative density of a layer (a pattern), for the scope custom; repeatable", {}
    )
    structure: str = option(
        "Strategy", "what is pruned together: unstructured, N:M (as 2:4) or filters", "unstructured"
    )
    nested: bool = option("Strategy", "a pruned weight stays pruned", True)
    score_fraction: float = option("Strategy", "images a scoring reads, as part of one megabatch", 0.2, gt=0, le=1)
    known_length: bool = option("Strategy", "tell the learner how many megabatches there will be", True)
    settings: dict[str, bool | int | float | str] = option(
        "Strategy", "a hyperparameter of the strategy's own; its page in docs/ lists them", {}
    )

    model: str = option("Training", "network architecture")
    epochs: int = option("Training", "epochs per megabatch", ge=1)
    batch_size: int = option("Training", "images per training batch", ge=2)
    lr: float = option("Training", "learning rate at the start of each megabatch", 0.1, gt=0)
    momentum: float = option("Training", "of SGD", 0.9, ge=0, lt=1)
    weight_decay: float = option("Training", "of SGD", 1e-4, ge=0)
    milestones: tuple[float, ...] = option(
        "Training", "parts of a megabatch's epochs after which the rate decays", (0.4, 0.8)
    )
    lr_decay: float = option("Training", "factor of each decay of the rate", 0.1, gt=0, le=1)
    carry_momentum: bool = option("Training", "keep the optimiser's state from one megabatch to the next", False)
    precision: Literal["fp32", "bf16"] = option(
        "Training", "fp32, or bf16 by autocast: convolutions and matrix products in bfloat16", "fp32"
    )
    compile: bool = option("Training", "compile training batches of fixed shape; not part of the protocol", False)
    seed: int = option("Training", "of split, initialisation, batches and scoring", 0, ge=0, lt=2**32)
    device: str = option("Training", "auto, cpu or cuda; not part of the protocol", "auto")

    @field_validator("stream", "strategy", "score", "schedule", "scope", "model", "replay")
    @classmethod
    def _known(cls, name: str, info: Any) -> str:
        registries = {
            "stream": STREAMS,
            "strategy": STRATEGIES,
            "score": SCORES,
            "schedule": SCHEDULES,
            "scope": DISTRIBUTIONS,
            "model": MODELS,
            "replay": REPLAYS,
        }
        return registries[info.field_name].check(name)

    @field_validator("structure", mode="before")
    @classmethod
    def _structure_form(cls, structure: Any) -> Any:
        if isinstance(structure, int):
            raise ValueError("YAML reads 2:4 as a number of base 60: write it in quotes, structure: '2:4'")
        structure_named(str(structure))
        return structure

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
        for layer, value in densities.items():
            if not 0 < value < float("inf"):
                raise ValueError(f"a relative density is a positive number; {layer} has {value}")
        return densities

    @field_validator("device")
    @classmethod
    def _device_form(cls, device: str) -> str:
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
            raise ValueError(f"unknown device {device!r}: auto, cpu, cuda or cuda:N")
        return device

    @model_validator(mode="after")
    def _milestones_in_order(self) -> RunConfig:
        if not all(0 < m < 1 for m in self.milestones) or list(self.milestones) != sorted(self.milestones):
            raise ValueError("milestones are increasing fractions of a megabatch's epochs, each between 0 and 1")
        return self

    @property
    def density(self) -> float:
        """Final density, 0.8 ** tau."""
        return density_of(self.tau)

    @model_validator(mode="after")
    def _layers_belong_to_custom(self) -> RunConfig:
        if (self.scope == "custom") != bool(self.layer_density):
            raise ValueError("--scope custom and --layer-density LAYER=X go together: give both or neither")
        return self

    def options(self) -> list[str]:
        """The fields that the strategy reads, of those that not all do."""
        entry = STRATEGIES.load(self.strategy)
        names = list(entry.traits["options"])
        if "schedule" in names and self.schedule == "none":
            # Nothing is pruned, so nothing about pruning is read.
            names = [name for name in names if name == "schedule" or name not in PRUNING]
        if "structure" in names and n_and_m(self.structure):
            names = [name for name in names if name != "scope"]
        if "scope" in names and self.scope == "custom":
            names.append("layer_density")
        if "score" in names and SCORES.load(self.score).traits.get("samples") in (0, 1):
            # It looks at no sample, or at the shape of one.
            names = [name for name in names if name != "score_fraction"]
        return names

    def variant(self) -> dict[str, Any]:
        """The options that tell this strategy from others on the same board: those it uses, and their versions."""
        options = {name: getattr(self, name) for name in self.options()}
        versions = {"strategy_version": STRATEGIES.load(self.strategy).version}
        for name, registry in VERSIONED.items():
            if name in options:
                versions[f"{name}_version"] = registry.load(options[name]).version
        if "structure" in options:
            versions["structure_version"] = structure_named(self.structure).version
        return {"strategy": self.strategy, **options, **self.settings, **versions}

    def usual(self) -> dict[str, Any]:
        """The options of :meth:`variant` with the strategy's own defaults: a row is named by what differs."""
        entry = STRATEGIES.load(self.strategy)
        fields = {name: self.__class__.model_fields[name].default for name in (*PRUNING, "buffer_size")}
        plain = self.model_copy(update={**fields, **entry.traits.get("defaults", {}), "settings": entry.settings})
        # These three decide which options are read, and N:M which density there is.
        deciding = ("schedule", "scope", "structure")
        same = plain.model_copy(update={name: getattr(self, name) for name in deciding}).variant()
        options = same | {name: getattr(plain, name) for name in deciding if name in same}
        return options | ({"tau": self.tau} if n_and_m(self.structure) and "tau" in same else {})

    def protocol(self) -> dict[str, Any]:
        """What two runs must have in common to be compared, but for the data themselves.

        Avalanche's strategies bring their own memory: their replay is ``own``, whatever was asked for.
        """
        fields = {name: value for name, value in self.model_dump(mode="json").items() if name in PROTOCOL_FIELDS}
        if STRATEGIES.load(self.strategy).traits.get("memory") == "own":
            fields["replay"] = "own"
        if fields["replay"] != "buffer":
            del fields["buffer_size"]
        fields["stream_version"] = STREAMS.load(self.stream).version
        fields["model_version"] = MODELS.load(self.model).version
        fields["protocol_version"] = PROTOCOL_VERSION
        return fields


PRUNING = (
    "score",
    "schedule",
    "tau",
    "scope",
    "layer_density",
    "structure",
    "nested",
    "score_fraction",
    "known_length",
)
"""Fields that pruning strategies may read."""

VERSIONED = {"score": SCORES, "schedule": SCHEDULES, "scope": DISTRIBUTIONS}

_NOT_PROTOCOL = {"strategy", *PRUNING, "settings", "seed", "device", "compile", "skip_corrupt"}
PROTOCOL_FIELDS = [name for name in RunConfig.model_fields if name not in _NOT_PROTOCOL]


def fingerprint(fields: Mapping[str, Any]) -> str:
    """12 hex digits, equal for equal fields in any order."""
    return hashlib.sha256(json.dumps(dict(fields), sort_keys=True).encode()).hexdigest()[:12]


SINGLE = frozenset({"data", "milestones", "device", "layer_density"})
"""Options that have one value for all runs of a grid; ``milestones`` and ``layer_density`` are themselves several."""

UNKNOWN = "unknown"
"""Number of megabatches that a learner is not told; the stream has its default number of them."""

PROFILES: dict[str, dict[str, Any]] = {
    "demo": {"model": "resnet20s", "epochs": 8, "batch_size": 32, "lr": 0.03, "shots": 108, "test_shots": 100},
    "paper": {"model": "resnet50", "epochs": 50},
}
"""Named recipes. ``paper`` is that of arXiv 2204.01640. ``demo`` ends within three minutes on two cores: it has a
fifth of the few-shot images, smaller batches for more steps, and a lower rate, because so few steps at 0.1 leave the
first megabatches at chance."""

LONG_STREAM = 120
"""Megabatches of the few-shot streams from which the paper's recipe has batches of 32 instead of 64."""


def resolved(given: Mapping[str, Any], *, profile: str) -> RunConfig:
    """Complete the options that were given with the profile's and the stream's defaults.

    Args:
        given: option -> value, with or without underscores as in a configuration file; ``density`` may stand in
            place of ``tau``.
        profile: name of a profile.

    Raises:
        UsageError: an unknown key or name, a value out of range, or options that exclude each other.
    """
    options = {name.replace("-", "_"): value for name, value in given.items()}
    if options.get("megabatches") == UNKNOWN:
        del options["megabatches"]
        if options.setdefault("known_length", False):
            raise UsageError("--megabatches unknown and --known-length contradict each other: leave out one of them")
    try:
        traits = STREAMS.load(str(options.get("stream"))).traits
        entry = STRATEGIES.load(str(options.get("strategy")))
    except UnknownName as error:
        raise UsageError(str(error)) from error
    options["settings"] = settings_for(entry, options.get("settings") or {})
    options |= _tau(options, structured="structure" in entry.traits["options"])
    defaults = {
        "resolution": traits.get("resolution", 32),
        "megabatches": traits["megabatches"][0],
        "shots": traits.get("shots"),
        "stratified": traits.get("stratified", False),
        **PROFILES[profile],
        **({"model": traits["model"]} if "model" in traits else {}),
        **traits.get(profile, {}),
        **entry.traits.get("defaults", {}),
    }
    merged = {**defaults, **options}
    try:
        # A first look, with any batch size, makes the number of megabatches a number.
        megabatches = RunConfig(**{"batch_size": 64, **merged}).megabatches
        merged.setdefault("batch_size", 32 if "shots" in traits and megabatches >= LONG_STREAM else 64)
        config = RunConfig(**merged)
    except ValidationError as error:
        raise UsageError(_first_problem(error)) from error
    smallest = MODELS.load(config.model).traits.get("min_resolution", 1)
    if config.resolution < smallest:
        raise UsageError(f"{config.model} needs images of {smallest} px or more: raise --resolution or change --model")
    return config


def _tau(options: dict[str, Any], structured: bool) -> dict[str, float]:
    """Tau, where something else says it: a density, or the numbers of N:M where the strategy has a structure.

    Takes ``density`` out of ``options``.
    """
    density = options.pop("density", None)
    if density is not None and "tau" in options:
        raise UsageError("--tau and --density say the same thing: give one of them")
    try:
        numbers = n_and_m(str(options.get("structure", ""))) if structured else ()
        if numbers and 0 < numbers[0] <= numbers[1]:
            share = numbers[0] / numbers[1]
            asked = float(density) if density is not None else density_of(float(options.get("tau", tau_of(share))))
            if abs(asked - share) > 1e-9:
                raise UsageError(
                    f"--structure {options['structure']} ends at density {share:g}: leave out --density and --tau"
                )
            density = share
        # Density 1 is tau 0; the smallest positive tau keeps every weight all the same.
        return {} if density is None else {"tau": max(tau_of(float(density)), 1e-12)}
    except (TypeError, ValueError) as error:
        raise UsageError(f"--density: {error}") from error


def settings_for(strategy: Entry, given: Mapping[str, Any]) -> dict[str, Any]:
    """All hyperparameters of the strategy's own, those that were given in place of its defaults.

    Raises:
        UsageError: the strategy has none of that name, or the value is of another type or out of range.
    """
    settings = dict(strategy.settings)
    for name, value in given.items():
        if name not in settings:
            raise UsageError(f"{strategy.name} has no setting {name!r}: it has {', '.join(settings) or 'none'}")
        try:
            settings[name] = TypeAdapter(strategy.setting_types[name]).validate_python(value)
        except ValidationError as error:
            raise UsageError(f"--set {name}={value}: {error.errors()[0]['msg']} ({strategy.name})") from error
        if settings[name] in (math.inf, -math.inf) or settings[name] != settings[name]:
            raise UsageError(f"--set {name}={value}: a finite number is needed ({strategy.name})")
    return settings


def load_file(path: Path) -> list[dict[str, Any]]:
    """Options from a YAML file, one mapping for each of its documents; ``set`` is another word for ``settings``.

    Raises:
        UsageError: it cannot be read, or does not hold mappings.
    """
    import yaml

    try:
        documents = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid YAML: {str(error).splitlines()[0]}") from error
    if not documents or not all(isinstance(content, dict) for content in documents):
        raise UsageError(f"{path} must hold options, one 'name: value' a line")
    renamed = {"set": "settings"}
    return [
        {renamed.get(str(name), str(name).replace("-", "_")): value for name, value in content.items()}
        for content in documents
    ]


def options_by_group() -> dict[str, dict[str, FieldInfo]]:
    """Heading of ``--help`` -> field name -> field, in the order of the class."""
    groups: dict[str, dict[str, FieldInfo]] = {}
    for name, info in RunConfig.model_fields.items():
        extra = info.json_schema_extra
        assert isinstance(extra, dict)
        groups.setdefault(str(extra["group"]), {})[name] = info
    return groups


def _first_problem(error: ValidationError) -> str:
    """The first thing that is wrong, in the words of the command line."""
    import difflib

    problem = error.errors()[0]
    name = str(problem["loc"][0]) if problem["loc"] else ""
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(name, RunConfig.model_fields, n=1)
        return f"unknown option {name!r}" + (f": did you mean {near[0]!r}?" if near else "")
    message = str(problem["msg"]).removeprefix("Value error, ")
    if isinstance(problem.get("ctx", {}).get("error"), UnknownName):
        return message
    flag = f"--{name.replace('_', '-')}: " if name else ""
    if name == "megabatches":
        message += f" or '{UNKNOWN}'"
    own = problem["type"] == "value_error"
    return f"{flag}{message}" + (f", not {problem['input']!r}" if name and not own else "")
