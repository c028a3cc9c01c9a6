"""MLflow stores as a source of runs."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import MinLen
from pydantic import Field, Json, ValidationError

from leaderboards.errors import BoardError
from leaderboards.glossary import Glossary, from_tags
from leaderboards.record import PREFIX
from leaderboards.sources.addresses import is_database
from leaderboards.sources.database import Entry, database_series
from leaderboards.sources.entries import entries
from leaderboards.sources.rows import (
    Described,
    Fields,
    Found,
    Point,
    ProtocolFields,
    Started,
    VariantFields,
    reason,
    row,
)
from leaderboards.sources.served import served_series
from leaderboards.sources.store import reading


class _Tags(Described):
    """What boards need to know of a run; a store that other programs write to may hold anything."""

    protocol: Json[ProtocolFields]
    variant: Json[VariantFields]
    variant_defaults: Json[Fields] = Field(default_factory=dict)
    earlier: Json[Fields] = Field(default_factory=dict)
    density: float
    started: Started
    metrics: dict[Annotated[str, MinLen(1)], float]


@dataclass(frozen=True)
class TrackedRuns:
    """The runs of the MLflow store at ``uri``."""

    uri: str

    def runs(self, experiment: str | None) -> Found:
        """See :class:`leaderboards.sources.rows.Source`."""
        rows: list[dict[str, Any]] = []
        damaged: dict[str, str] = {}
        glossary = Glossary()
        with reading(self.uri) as client:
            experiments = client.search_experiments()
            chosen = [e for e in experiments if experiment in (None, e.name)]
            if not chosen:
                names = ", ".join(repr(e.name) for e in experiments)
                raise BoardError(f"no experiment {experiment!r} in {self.uri}: there are {names or 'none'}")
            for one in chosen:
                glossary |= from_tags(one.tags)
            for run in entries(client, [one.experiment_id for one in chosen], status="FINISHED", measured=True):
                try:
                    found = _row(run)
                except ValidationError as error:
                    damaged[run.run_id] = reason(error)
                else:
                    rows += [] if found is None else [found]
        return Found(rows, damaged, glossary)

    def series(self, run_ids: Iterable[str], metrics: Iterable[str]) -> list[Point]:
        """See :class:`leaderboards.sources.rows.Source`; of several points of one step the last logged one counts."""
        with reading(self.uri) as client:
            if is_database(self.uri):
                return database_series(self.uri, list(run_ids), list(metrics))
            return served_series(self.uri, client, list(run_ids), list(metrics))


def _row(run: Entry) -> dict[str, Any] | None:
    """The row of a run; None if it is none of the benchmark's.

    Raises:
        ValidationError: its record is damaged.
    """
    tags = {name.removeprefix(PREFIX): value for name, value in run.tags.items() if name.startswith(PREFIX)}
    # The run that groups those of one command has signs of life alone.
    if not tags.keys() & _Tags.model_fields.keys():
        return None
    # The parameter was there from the first version on; a store that other programs write to may lack it.
    asked = {"density": run.params.get("density", math.nan), "started": run.started}
    said = dict(_Tags.model_validate({**tags, **asked, "metrics": run.metrics}))
    metrics = said.pop("metrics")
    return row(said, tags, run.run_id, said["started"], metrics)
