"""Profiles, and how a configuration is completed: what was given, then profile and stream, then defaults."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from benchmark.config.density import with_density
from benchmark.config.run_config import LARGEST, MOST, NAMED, OWN_WIDTH, RunConfig
from benchmark.errors import UsageError, plain, shortened
from benchmark.registry import MODELS, PROTOCOL_OPTIONS, PROTOCOLS, STREAMS
from strategies.registry import OPTIONS, STRATEGIES, Entry, RegistryError, StrategyTraits, UnknownName

UNKNOWN = "unknown"
"""Number of megabatches that a learner is not told; the stream has its default number of them."""

PROFILES: dict[str, dict[str, Any]] = {
    "demo": {"model": "resnet20s", "epochs": 8, "batch_size": 32, "lr": 0.03, "shots": 108, "test_shots": 100},
    "paper": {"model": "resnet50", "epochs": 50},
}
"""Named recipes. ``paper`` is that of arXiv 2204.01640. ``demo`` ends within three minutes on two cores: it has a
fifth of the few-shot images, smaller batches for more steps, and a lower rate, because so few steps at 0.1 leave the
first megabatches at chance."""

ONLINE: dict[str, int] = {"epochs": 1, "batch_size": 10}
"""What ``online`` stands for: one pass in small batches, as in Lopez-Paz and Ranzato 2017 and what followed them."""

LONG_STREAM = 120
"""Megabatches of the few-shot streams from which the paper's recipe has batches of 32 instead of 64."""


def resolve(given: Mapping[str, Any], *, profile: str) -> RunConfig:
    """Complete the options that were given with the profile's and the stream's defaults.

    Args:
        given: option -> value, with or without underscores as in a configuration file; ``tau`` may stand in place of
            ``density``, ``online`` in place of :data:`ONLINE`.
        profile: name of a profile.

    Raises:
        UsageError: an unknown key or name, a value out of range, or options that exclude each other.
    """
    options = {name.replace("-", "_"): value for name, value in given.items()}
    if profile not in PROFILES:
        raise UsageError(f"unknown profile {shortened(profile)}: known are {', '.join(PROFILES)}")
    if options.get("megabatches") == UNKNOWN:
        del options["megabatches"]
        if options.setdefault("known_length", False):
            raise UsageError("--megabatches unknown and --known-length contradict each other: leave out one of them")
    if options.pop("online", False):
        for name, value in ONLINE.items():
            if str(options.setdefault(name, value)) != str(value):
                flag = f"--{name.replace('_', '-')}"
                raise UsageError(
                    f"--online and {flag} {plain(options[name])} contradict each other: leave out one of them"
                )
    try:
        traits = STREAMS.load(str(options.get("stream"))).traits
        entry = STRATEGIES.load(str(options.get("strategy")))
    except RegistryError as error:
        raise UsageError(str(error)) from error
    options["settings"] = complete_settings(entry, options.get("settings") or {})
    options = with_density(options, structured="structure" in entry.traits.options)
    defaults = {
        "resolution": traits.resolution,
        "megabatches": traits.megabatches[0],
        "shots": traits.shots,
        "stratified": traits.stratified,
        "scenario": traits.protocol,
        **PROFILES[profile],
        **({"model": traits.model} if traits.model else {}),
        **(traits.demo if profile == "demo" else traits.paper),
        **entry.traits.defaults,
    }
    completed = {**defaults, **options}
    try:
        # A first look, with any batch size, makes the number of megabatches a number.
        megabatches = RunConfig(**{"batch_size": 64, **completed}).megabatches
        completed.setdefault("batch_size", 32 if traits.shots is not None and megabatches >= LONG_STREAM else 64)
        config = RunConfig(**completed)
        _load_parts(config)
        model = MODELS.load(config.model).traits
    except ValidationError as error:
        raise UsageError(_first_problem(error)) from error
    except RegistryError as error:
        raise UsageError(str(error)) from error
    _check_protocol(config, options)
    if config.resolution < model.min_resolution:
        raise UsageError(
            f"{config.model} needs images of {model.min_resolution} px or more: raise --resolution or change --model"
        )
    if config.width != OWN_WIDTH and not model.widths:
        raise UsageError(f"{config.model} has one width: leave --width out or change --model")
    return config


def complete_settings(strategy: Entry[StrategyTraits], given: Mapping[str, Any]) -> dict[str, Any]:
    """All hyperparameters of the strategy's own, those that were given in place of its defaults.

    Raises:
        UsageError: the strategy has none of that name, or the value is of another type or out of range.
    """
    if not isinstance(given, Mapping):
        raise UsageError(f"settings must hold one 'name: value' a line, not {shortened(given)}")
    settings = dict(strategy.settings)
    for name, value in given.items():
        if name not in settings:
            raise UsageError(
                f"{strategy.name} has no setting {shortened(name)}: it has {', '.join(settings) or 'none'}"
            )
        flag = f"--set {name}={plain(value)}"
        try:
            settings[name] = TypeAdapter(strategy.setting_types[name]).validate_python(value)
        except ValidationError as error:
            raise UsageError(f"{flag}: {error.errors()[0]['msg']} ({strategy.name})") from error
        checked = settings[name]
        limit = LARGEST if isinstance(checked, float) else MOST
        if isinstance(checked, int | float) and not abs(checked) <= limit:
            raise UsageError(f"{flag}: a finite number of at most {limit:g} is needed ({strategy.name})")
    return settings


def _load_parts(config: RunConfig) -> None:
    """Import all that the run is made of: a part that cannot be imported is found out before anything starts."""
    read = config.options()
    for field, registry in NAMED.items():
        if field not in OPTIONS or field in read:
            registry.load(getattr(config, field))


def _check_protocol(config: RunConfig, given: Mapping[str, Any]) -> None:
    """Make sure that protocol and strategy go together, and that no option belongs to another protocol.

    Raises:
        UsageError: they do not, or one does.
    """
    told = PROTOCOLS.load(config.scenario).traits
    learner = STRATEGIES.load(config.strategy).traits
    for name in PROTOCOL_OPTIONS:
        usual = RunConfig.model_fields[name].default
        # Whether classes are dealt out evenly has a default of the stream's.
        if name in given and name not in told.options and name != "stratified" and getattr(config, name) != usual:
            able = [other for other in PROTOCOLS.names() if name in PROTOCOLS.load(other).traits.options]
            raise UsageError(f"--{name} belongs to --protocol {' or '.join(able)}: {config.scenario} does not read it")
    if config.head == "growing" and learner.task_labels != "heads":
        raise UsageError(f"{config.strategy} has heads of its own: leave out --head growing")
    if config.head == "growing" and not told.grows:
        able = [other for other in PROTOCOLS.names() if PROTOCOLS.load(other).traits.grows]
        raise UsageError(
            f"--head growing is for classes that come later, and {config.scenario} has none for a common head: "
            f"leave it out, or choose --protocol {' or '.join(able)}"
        )
    if learner.task_labels == "needed" and not told.tasks:
        raise UsageError(
            f"{config.strategy} needs the task of every image, and {config.scenario} does not tell it: "
            "choose --protocol task-incremental"
        )
    if learner.task_labels == "ignored" and told.tasks:
        raise UsageError(
            f"{config.strategy} runs networks that take no task labels, and {config.scenario} has a head for each "
            "task: choose --protocol class-incremental"
        )
    if learner.needs_new_classes and not told.new_classes:
        raise UsageError(
            f"{config.strategy} needs classes that are new in each experience, and {config.scenario} has none: "
            "choose --protocol class-incremental"
        )


def _first_problem(error: ValidationError) -> str:
    """The first thing that is wrong, in the words of the command line."""
    problem = error.errors()[0]
    name = str(problem["loc"][0]) if problem["loc"] else ""
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(name, RunConfig.model_fields, n=1)
        return f"unknown option {shortened(name)}" + (f": did you mean {near[0]!r}?" if near else "")
    message = str(problem["msg"]).removeprefix("Value error, ")
    if isinstance(problem.get("ctx", {}).get("error"), UnknownName):
        return message
    flag = f"--{name.replace('_', '-')}: " if name else ""
    message += {"megabatches": f" or '{UNKNOWN}'", "shots": " or 'all'", "test_shots": " or 'all'"}.get(name, "")
    own = problem["type"] == "value_error"
    return f"{flag}{message}" + (f", not {shortened(problem['input'])}" if name and not own else "")
