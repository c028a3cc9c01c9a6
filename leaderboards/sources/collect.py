"""Sources of runs -> one tidy table, a row a finished run, and the glossary of its metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from leaderboards.glossary import Glossary
from leaderboards.record import EARLIER, identity_key
from leaderboards.sources.rows import METRIC, Source
from leaderboards.sources.source import source


@dataclass(frozen=True)
class Records:
    """What one or several sources hold.

    Attributes:
        runs: a row a finished run, oldest first. Columns: ``run_id``, ``started`` (UTC), the tags without their
            prefix (``protocol``, completed with what earlier runs had, ``variant``, ``variant_defaults`` and
            ``earlier`` as dictionaries, ``seed`` as an integer), ``identity``, ``density``, the final density that was
            asked for, and ``metrics.NAME`` with the last value of each metric.
        glossary: what the metrics mean; every metric of the runs is in it.
        damaged: id of a benchmark run whose record cannot be read, or name of its file -> why; it is passed over.
        sources: what was read, to be asked for series.
    """

    runs: pd.DataFrame
    glossary: Glossary
    damaged: Mapping[str, str] = field(default_factory=dict)
    sources: Sequence[Source] = ()

    @property
    def note(self) -> str | None:
        """One line about what has been passed over; None if nothing has."""
        if not self.damaged:
            return None
        first, why = next(iter(self.damaged.items()))
        if len(self.damaged) == 1:
            return f"Note: run {first} is passed over, its record is damaged: {why}"
        return f"Note: {len(self.damaged)} runs are passed over, their records are damaged; the first is {first}: {why}"


def collect(*tracking_uris: str, experiment: str | None = None) -> Records:
    """All finished benchmark runs of one or several sources. Failed, killed and unfinished runs never enter.

    Args:
        tracking_uris: any MLflow stores, and folders of records (``records:DIR``).
        experiment: name of one experiment of MLflow; None reads all.

    Raises:
        BoardError: a source or the experiment cannot be read.
    """
    rows: list[dict[str, Any]] = []
    glossary = Glossary()
    damaged: dict[str, str] = {}
    sources = [source(uri) for uri in tracking_uris]
    for one in sources:
        found = one.runs(experiment)
        rows += found.rows
        damaged |= found.damaged
        glossary |= found.glossary
    # Of runs that began at the same moment the same one is the last, whatever order they are read in.
    rows.sort(key=lambda row: (row["started"], row["run_id"]))
    earlier = dict(EARLIER)
    for row in rows:
        earlier |= row["earlier"]
    for row in rows:
        row["protocol"] = earlier | row["protocol"]
        row["identity"] = identity_key(
            protocol=row["protocol"],
            variant=row["variant"],
            seed=row["seed"],
            data_fingerprint=row["data_fingerprint"],
        )
    runs = pd.DataFrame(rows)
    measured = [name.removeprefix(METRIC) for name in runs.columns if name.startswith(METRIC)]
    return Records(runs, glossary.completed(measured), damaged, sources)


def latest_per_seed(runs: pd.DataFrame) -> pd.DataFrame:
    """One run of each identity: repeating a run must not count as another seed; the newest stays."""
    if runs.empty:
        return runs
    return runs[~runs.identity.duplicated(keep="last")].reset_index(drop=True)
