"""Spot checks: a small run of each board is made again from its record, and everything it measured is compared."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from benchmark.config.fields import earlier_values
from benchmark.config.profiles import resolve
from benchmark.config.run_config import RunConfig
from benchmark.errors import UsageError
from benchmark.recording.logger import legal_name
from benchmark.recording.provenance import provenance
from benchmark.running.prepare import Prepared, prepare
from benchmark.running.run import run
from leaderboards.glossary import Glossary
from leaderboards.sources.record_file import RunFile
from leaderboards.sources.recorded import RecordedRuns
from leaderboards.text import printable
from strategies.learning.divergence import Diverged

Verdict = Literal["equal", "close", "differs", "skipped"]

DECIDING = (
    "cpu_capability",
    "threads",
    "version.torch",
    "version.torchvision",
    "version.avalanche-lib",
    "version.numpy",
)
"""Provenance that has to be the same for results to have the same bits."""

POINTS, SHARE = 0.05, 0.1
"""Where it is not the same, sums round differently, and a run is as if it had another seed: last values may then differ
by so much, fractions by the first, others by the second of the recorded value."""

UNSTABLE = ("time/", "memory/")
"""Metrics of the machine and its load, which are not compared."""

SECONDS = "time/train_seconds"

SHOWN = 5
"""Differences that are told of a run."""


@dataclass(frozen=True)
class Spot:
    """What became of the check of one board.

    Attributes:
        board: name of its folder.
        record: name of the record's file.
        verdict: ``equal``: every value of every series is the same; ``close``: last values are within the tolerance,
            where nothing more can be asked for.
        lines: why it was skipped, what differs, or what keeps it from being equal.
    """

    board: str
    record: str
    verdict: Verdict
    lines: Sequence[str] = ()


def choose(records: RecordedRuns) -> dict[str, tuple[str, RunFile]]:
    """Board -> name and record of the run that was trained the fastest, of those that this code makes again.

    Where it makes none of them, it is the fastest of all, whose check says why.

    Raises:
        BoardError: they cannot be read.
    """
    boards: dict[str, list[tuple[str, RunFile]]] = defaultdict(list)
    for path, one in sorted(records.files()[0].items(), key=lambda item: (_seconds(item[1]), item[0])):
        board, _, name = path.partition("/")
        boards[board].append((name, one))
    return {
        board: next((one for one in members if not _is_of_other_code(one[1])), members[0])
        for board, members in sorted(boards.items())
    }


def _is_of_other_code(record: RunFile) -> bool:
    try:
        config_of(record)
    except UsageError:
        return True
    return False


def check(board: str, name: str, record: RunFile, glossary: Glossary, *, data_root: Path, cache: Path) -> Spot:
    """Make a recorded run again, without recording it, and compare; takes as long as the run."""
    threads = torch.get_num_threads()
    try:
        prepared = again(record, data_root, cache)
        own = record.provenance.get("threads", "")
        torch.set_num_threads(int(own) if own.isdecimal() and int(own) else threads)
        here = provenance(prepared.device)
        result = run(prepared)
    except UsageError as error:
        return Spot(board, name, "skipped", [str(error)])
    except Diverged as error:
        return Spot(board, name, "differs", [str(error)])
    finally:
        torch.set_num_threads(threads)
    others = elsewhere(record.provenance, here)
    if prepared.device != "cpu":
        others.append(f"it was made again on {here['hardware']}")
    series = {legal_name(metric): values for metric, values in result.series.items()}
    found = list(close(record, series, glossary) if others else equal(record, series))
    if found:
        more = [f"and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
        return Spot(board, name, "differs", [*found[:SHOWN], *more, *others])
    return Spot(board, name, "close" if others else "equal", others)


def again(record: RunFile, data_root: Path, cache: Path) -> Prepared:
    """The recorded run, ready to be trained; images are not downloaded for it.

    Raises:
        UsageError: its images are not here, or :func:`config_of` refuses it.
    """
    prepared = prepare(config_of(record), data_root=data_root, cache=cache, download=False)
    if prepared.data.fingerprint != record.data_fingerprint:
        raise UsageError(
            f"the images of {record.stream_label} here are others: fingerprint {prepared.data.fingerprint}, recorded "
            f"{record.data_fingerprint}"
        )
    return prepared


def config_of(record: RunFile) -> RunConfig:
    """The configuration that a record describes.

    Raises:
        UsageError: it names what is not there, or was recorded with other versions of the protocol or of its parts.
    """
    said = {n: v for n, v in {**_protocol(record), **record.variant}.items() if not n.endswith("_version")}
    if said.get("replay") == "own":
        del said["replay"]
    options = {name: value for name, value in said.items() if name in RunConfig.model_fields or name == "tau"}
    options["settings"] = {name: value for name, value in said.items() if name not in options}
    options |= {
        "seed": record.seed,
        "compile": record.provenance.get("compiled") == "yes",
        "skip_corrupt": record.provenance.get("skipped_images", "0") != "0",
    }
    config = resolve(options, profile=record.provenance.get("profile", "demo"))
    for part, recorded, ours in (
        ("protocol", _protocol(record), config.protocol()),
        ("variant", record.variant, config.variant()),
    ):
        for field in sorted(recorded.keys() | ours.keys()):
            if recorded.get(field) != ours.get(field):
                words = f"{field} {printable(str(recorded.get(field)))}, with this code {ours.get(field)}"
                raise UsageError(f"its {part} has {words}: check out its commit")
    return config


def _protocol(record: RunFile) -> dict[str, Any]:
    """With the values that all runs had of fields that came later."""
    return {**earlier_values(RunConfig), **record.protocol}


def elsewhere(recorded: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    """What, of all that decides the last digits, is not the same."""
    return [
        f"{name} {here.get(name, 'unknown')}, recorded {printable(recorded.get(name, 'unknown'))}"
        for name in DECIDING
        if here.get(name) != recorded.get(name)
    ]


Measured = Mapping[str, tuple[Sequence[int], Sequence[float]]]
"""Metric -> steps and values."""


def equal(record: RunFile, series: Measured) -> Iterator[str]:
    """What is not the same, bit by bit; a metric that the record lacks is none of its business."""
    for name, said in _compared(record):
        steps, values = series.get(name, ((), ()))
        if not values:
            yield f"{name} is not measured"
        elif not said.steps and not _same(said.last, values[-1]):
            yield f"{name} is {values[-1]!r}, recorded {said.last!r}"
        elif said.steps and list(steps) != said.steps:
            yield f"{name} has other steps"
        elif said.steps:
            for step, ours, theirs in zip(steps, values, said.values, strict=True):
                if not _same(ours, theirs):
                    yield f"{name} at {step} is {ours!r}, recorded {theirs!r}"
                    break


def close(record: RunFile, series: Measured, glossary: Glossary) -> Iterator[str]:
    """Last values that are further away than :data:`POINTS` or :data:`SHARE`."""
    for name, said in _compared(record):
        _, values = series.get(name, ((), ()))
        measure = glossary.get(name)
        fraction = measure is not None and measure.unit == "fraction"
        room = POINTS if fraction else SHARE * abs(said.last)
        if not values:
            yield f"{name} is not measured"
        elif not _same(said.last, values[-1]) and not abs(values[-1] - said.last) <= room:
            yield f"{name} is {values[-1]:.6g}, recorded {said.last:.6g}"


def _compared(record: RunFile) -> Iterator[tuple[str, Any]]:
    return ((name, said) for name, said in sorted(record.metrics.items()) if not name.startswith(UNSTABLE))


def _same(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))


def took(record: RunFile) -> str:
    """How long its training took, in words."""
    seconds = _seconds(record)
    return f"{seconds:,.0f} s" if math.isfinite(seconds) else "a time that it does not say"


def _seconds(record: RunFile) -> float:
    found = record.metrics.get(SECONDS)
    return math.inf if found is None or math.isnan(found.last) else found.last
