"""What a dry run shows: the runs side by side, what they have in common, and how long they would take."""

from __future__ import annotations

import textwrap
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from tabulate import tabulate

from benchmark.command.differences import compare, read_options
from benchmark.config.grid import Planned
from benchmark.console import track
from benchmark.errors import NotDownloaded
from benchmark.running.forecast import forecast_seconds, measure_rate
from benchmark.running.prepare import Prepared, prepare, prepare_on
from benchmark.running.progress import duration, planned_samples
from benchmark.streams.build import outline_data
from benchmark.streams.loading.images import StreamData

WIDTH = 110

CAVEAT = (
    "Timed here, on the first training steps of each strategy and network; what a strategy does beside them (scoring, "
    "further networks later in the stream, compiling) comes on top."
)


@dataclass(frozen=True)
class Expected:
    """A run that could start.

    Attributes:
        prepared: the run; on black images where its own have still to be downloaded.
        is_here: whether its images are here.
        seconds: how long it would take; None where no step could be timed.
    """

    prepared: Prepared
    is_here: bool
    seconds: float | None


def expect(runs: Sequence[Planned], *, data_root: Path, cache: Path) -> list[Expected]:
    """Prepare all runs, downloading nothing, and time some training steps of each strategy and network.

    Raises:
        UsageError: a run could not start, or a strategy fails in its first steps.
    """
    loaded: dict[Any, StreamData] = {}
    found = [_find(run, data_root, cache, loaded) for run in runs]
    first = {_what_sets_the_pace(prepared): prepared for prepared, _ in reversed(found)}
    timed = track(first.items(), len(first), "timing some training steps")
    rates = {pace: measure_rate(prepared) for pace, prepared in timed}
    expected = []
    for prepared, is_here in found:
        rate = rates[_what_sets_the_pace(prepared)]
        expected.append(Expected(prepared, is_here, None if rate is None else forecast_seconds(prepared, rate)))
    return expected


def describe(
    expected: Sequence[Expected],
    profiles: Sequence[str],
    notes: Sequence[str],
    states: Sequence[str],
    at_once: int = 1,
) -> str:
    """A configuration file of a single run, which ``--config`` takes; of several a table of what varies.

    Args:
        expected: the runs.
        profiles: names of the profiles that completed them.
        notes: lines in front of everything else.
        states: what the store knows of each run, in a word or two.
        at_once: how many runs would be carried out at a time.
    """
    left = [one for one, state in zip(expected, states, strict=True) if _is_left(state)]
    totals = _totals(expected, [one for one in expected if one not in left], at_once)
    if len(expected) == 1:
        notes = [*notes, f"State: {states[0]}"]
        fields = {"profile": profiles[0], **expected[0].prepared.config.model_dump(mode="json")}
        about = [f"# {line}" for line in (*notes, *totals)]
        return "\n".join([*about, yaml.safe_dump(fields, sort_keys=False).rstrip()])
    options = [
        {"--profile": profile, **read_options(one.prepared.config)}
        for one, profile in zip(expected, profiles, strict=True)
    ]
    common, varying = compare(options)
    rows = [
        [number, *(own.get(flag, "") for flag in varying), f"{_trained(one):,.0f}", _duration(one.seconds), state]
        for number, (one, own, state) in enumerate(zip(expected, options, states, strict=True), start=1)
    ]
    table = tabulate(rows, ["run", *varying, "images trained on", "time", "state"], disable_numparse=True)
    shared = textwrap.wrap(
        "All of them, as far as they read it: " + " ".join(f"{flag} {value}" for flag, value in common.items()),
        WIDTH,
        subsequent_indent="  ",
        break_on_hyphens=False,
    )
    return "\n".join([*notes, table, "", *shared, "", *totals])


def _find(run: Planned, data_root: Path, cache: Path, loaded: dict[Any, StreamData]) -> tuple[Prepared, bool]:
    try:
        one = prepare(run.config, data_root=data_root, cache=cache, loaded=loaded, given=run.given, download=False)
    except NotDownloaded:
        outline = outline_data(run.config)
        if outline is None:
            raise
        return prepare_on(run.config, outline, given=run.given), False
    return one, True


def _what_sets_the_pace(prepared: Prepared) -> Hashable:
    """Equal for runs whose training steps take equally long."""
    config = prepared.config
    shape = (len(prepared.data.classes), prepared.data.train.shape[1], config.resolution)
    learner = (config.strategy, *sorted(config.settings.items()), config.model, config.optimizer)
    return (*learner, *shape, config.batch_size, config.precision, prepared.device)


def _is_left(state: str) -> bool:
    """Whether a run of this state would not be trained."""
    return state in ("finished", "under way", "failed, left")


def _totals(expected: Sequence[Expected], to_do: Sequence[Expected], at_once: int) -> list[str]:
    lines = []
    for one in {_images(one): one for one in expected}.values():
        lines.append(f"Images of {_images(one)}")
    known = [one.seconds for one in to_do if one.seconds is not None]
    if len(to_do) < len(expected):
        lines.append(f"{len(expected)} runs, of which {len(expected) - len(to_do)} are left as they are.")
    if not to_do:
        return lines
    what = "1 run" if len(to_do) == 1 else f"{len(to_do)} runs"
    trained = sum(map(_trained, to_do))
    at_a_time = min(at_once, len(to_do))
    # No run can be shared between workers.
    seconds = max(sum(known) / at_a_time, max(known, default=0.0))
    time = f"about {duration(seconds)}" if len(known) == len(to_do) else "for a time that could not be measured"
    after = "" if len(to_do) == 1 else ", one run after the other" if at_a_time == 1 else f", {at_a_time} at once"
    return [*lines, f"{what}, training on {trained:,.0f} images, {time}{after}.", *textwrap.wrap(CAVEAT, WIDTH)]


def _images(one: Expected) -> str:
    prepared = one.prepared
    what = {"real": "real images", "synthetic": "stand-in images"}[prepared.config.data]
    numbers = f"{len(prepared.data.train):,} for training, {len(prepared.data.test):,} for tests"
    if one.is_here:
        return f"{prepared.data.label}: {what}, {numbers}"
    return f"{prepared.data.label}: not found (a run would download them; {numbers})"


def _trained(one: Expected) -> float:
    return planned_samples(one.prepared.sizes, one.prepared.config)[0]


def _duration(seconds: float | None) -> str:
    return "?" if seconds is None else duration(seconds)
