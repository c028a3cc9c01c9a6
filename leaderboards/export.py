"""Exporting: from a source of runs to a folder of records, from which the same boards can be made."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from leaderboards.console import say
from leaderboards.errors import BoardError
from leaderboards.glossary import Glossary
from leaderboards.numbers.boards import comparable
from leaderboards.numbers.names import page_name, row_name
from leaderboards.numbers.report import PROVENANCE
from leaderboards.render.files import write_all
from leaderboards.sources.collect import Records, collect, latest_per_seed
from leaderboards.sources.memory import collector_paused
from leaderboards.sources.record_file import LARGEST, SCHEMA_VERSION, RunFile
from leaderboards.sources.recorded import GLOSSARY, RecordedRuns, glossary_text
from leaderboards.sources.rows import METRIC, Described, reason
from leaderboards.sources.source import source
from leaderboards.text import printable, slug

KEPT = (
    *PROVENANCE,
    "cpu_vendor",
    "platform",
    "version.numpy",
    "train_images",
    "test_images",
    "profile",
    "code",
    "resumed",
    "resumed_from_code",
)
"""Tags that records keep as provenance. Others name machines, processes or folders: what is not here stays at home."""


@dataclass(frozen=True)
class Exported:
    """Paths of records within their folder.

    Attributes:
        written: new ones, and those of newer runs in place of older ones.
        replaced: older ones that are gone, or have been overwritten.
        unchanged: those that said the same.
        kept: those that say something else, of the same run or of a newer one.
        damaged: id of a run that no record can be made of -> why.
    """

    written: list[str]
    replaced: list[str]
    unchanged: list[str]
    kept: list[str]
    damaged: Mapping[str, str]

    @property
    def notes(self) -> list[str]:
        """A line for each kind of thing that a reader may not expect."""
        lines = []
        if self.replaced:
            lines.append(f"Note: records replaced by those of newer runs: {_counted(self.replaced)}")
        if self.kept:
            lines.append(
                "Note: records left as they are, although what was read says something else of the same run, or an "
                f"older one: {_counted(self.kept)}; remove them to export them again"
            )
        if self.damaged:
            lines.append(
                f"Note: runs that no record can be made of: {_counted(list(self.damaged))}: "
                f"{next(iter(self.damaged.values()))}"
            )
        return lines


@collector_paused()
def export(
    tracking_uri: str,
    folder: Path,
    *,
    experiment: str | None = None,
    last_only: Sequence[str] = (),
    explained: Glossary | None = None,
    say: Callable[[str], object] = say,
) -> Exported:
    """Write the record of each finished run that boards count: the newest of each identity.

    A record lies in the folder of its board, ``BOARD/VARIANT-sSEED-IDENTITY.json``; what the metrics mean lies beside
    the boards, in ``glossary.json``. A record that is there already is replaced if the run is newer.

    Args:
        tracking_uri, experiment: see :func:`leaderboards.sources.collect.collect`.
        folder: of the records, new or written by an earlier export.
        last_only: patterns of metrics, such as ``curve/*``, whose last values are written without their series: curves
            have a point an epoch and are half of a record, and no board shows them.
        explained: what metrics mean, whatever the source says of them.
        say: told in one line of runs that are passed over and of records that are replaced or kept, if there are any.

    Raises:
        BoardError: the source or the folder cannot be read, there is no finished run, or the folder cannot be written.
            Nothing has been written then: records are put in their places once all of them are on the disk.
    """
    records = collect(tracking_uri, experiment=experiment)
    if records.note is not None:
        say(records.note)
    if records.runs.empty:
        raise BoardError(f"no finished benchmark run in {tracking_uri}")
    before = _there(folder)
    own = before.files()[0] if before else {}
    of_run = {one.run_id: name for name, one in own.items()}
    of_identity = {one.identity: name for name, one in sorted(own.items(), key=lambda item: item[1].started)}
    damaged: dict[str, str] = {}
    done = Exported([], [], [], [], damaged)
    texts: dict[str, str] = {}
    for name, new in _files(tracking_uri, records, last_only, damaged):
        text = new.text()
        if len(text) > LARGEST:
            damaged[new.run_id] = f"its record would be larger than {LARGEST:,} bytes"
            continue
        old = of_run.get(new.run_id) or of_identity.get(new.identity)
        if old is not None and own[old].started >= new.started:
            (done.unchanged if old == name and own[old].text() == text else done.kept).append(old)
            continue
        if old is not None:
            done.replaced.append(old)
        done.written.append(name)
        texts[name] = text
    glossary = (before.glossary() if before else Glossary()) | records.glossary.explained()
    glossary |= explained or Glossary()
    outdated = [name for name in done.replaced if name not in texts]
    write_all({GLOSSARY: glossary_text(glossary)} | texts, folder, outdated=outdated)
    for line in done.notes:
        say(line)
    return done


def _there(folder: Path) -> RecordedRuns | None:
    """What is in the folder already; None if it is no folder of records yet."""
    return RecordedRuns(folder) if (folder / GLOSSARY).exists() else None


def _files(
    tracking_uri: str, records: Records, last_only: Sequence[str], damaged: dict[str, str]
) -> Iterator[tuple[str, RunFile]]:
    """Path and content of each record; of what none can be made is written down why in ``damaged``."""
    runs = latest_per_seed(records.runs)
    metrics = [name for name in runs.columns if name.startswith(METRIC)]
    points: dict[tuple[str, str], tuple[list[int], list[float]]] = defaultdict(lambda: ([], []))
    named = [name.removeprefix(METRIC) for name in metrics]
    with_series = [name for name in named if not any(fnmatchcase(name, pattern) for pattern in last_only)]
    for run_id, metric, step, value in source(tracking_uri).series(runs.run_id.tolist(), with_series):
        steps, values = points[run_id, metric]
        steps.append(step)
        values.append(value)
    for together, protocol in comparable(runs):
        head = together.iloc[0]
        board = page_name(head.stream_label, head.data, head.data_fingerprint, protocol).removesuffix(".md")
        for number, run in enumerate(together.to_dict("records")):
            try:
                found = _file(run, metrics, points)
            except ValidationError as error:
                damaged[run["run_id"]] = reason(error)
                continue
            variant = slug(row_name(together.iloc[[number]])) or "variant"
            yield f"{board}/{variant}-s{found.seed}-{found.identity}.json", found


def _file(
    run: Mapping[Any, Any], metrics: list[str], points: Mapping[tuple[str, str], tuple[list[int], list[float]]]
) -> RunFile:
    """The record of a row of the table.

    Raises:
        ValidationError: no record can say it.
    """
    measured = {}
    for column in metrics:
        steps, values = points.get((run["run_id"], name := column.removeprefix(METRIC)), ([], []))
        # Of a metric that only other runs have, the table holds NaN.
        if steps or not math.isnan(run[column]):
            measured[name] = {"last": run[column], "steps": steps, "values": values}
    same = ("run_id", "identity", *Described.model_fields, "protocol", "variant", "variant_defaults", "earlier")
    return RunFile.model_validate(
        {name: run[name] for name in same}
        | {
            "schema_version": SCHEMA_VERSION,
            "started": run["started"].value // 10**6,
            "density": None if math.isnan(run["density"]) else run["density"],
            "provenance": {tag: run[tag] for tag in KEPT if isinstance(run.get(tag), str)},
            "metrics": measured,
        }
    )


def _counted(names: Sequence[str]) -> str:
    shown = printable(names[0])
    return shown if len(names) == 1 else f"{len(names)}, the first is {shown}"
