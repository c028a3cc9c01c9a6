"""MLflow store -> one tidy table, a row a finished run, and the glossary of its metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import pandas as pd
from annotated_types import Ge, Lt
from mlflow.entities import Run
from pydantic import AfterValidator, BaseModel, Json, JsonValue, ValidationError

from leaderboards.errors import BoardError
from leaderboards.glossary import Glossary, from_tags
from leaderboards.record import EARLIER, PREFIX, identity_key
from leaderboards.store import reading

PAGE = 1000

METRIC = "metrics."
"""Of the columns that hold the last values of metrics."""

Fields = dict[str, JsonValue]


def _with_version(protocol: Fields) -> Fields:
    if type(protocol.get("protocol_version", 1)) is not int:
        raise ValueError("protocol_version is no whole number")
    return protocol


def _with_versions(variant: Fields) -> Fields:
    """A strategy with its options and the versions of its parts, which are compared."""
    if not isinstance(variant.get("strategy"), str):
        raise ValueError("there is no strategy")
    wrong = next((n for n, value in variant.items() if n.endswith("_version") and type(value) is not int), None)
    if wrong is not None:
        raise ValueError(f"{wrong!r} is no whole number")
    return variant


class _Record(BaseModel):
    """What boards need to know of a run; a store that other programs write to may hold anything."""

    stream: str
    stream_label: str
    data: str
    data_version: str
    data_fingerprint: str
    protocol: Annotated[Json[Fields], AfterValidator(_with_version)]
    variant: Annotated[Json[Fields], AfterValidator(_with_versions)]
    variant_defaults: Json[Fields] = {}
    earlier: Json[Fields] = {}
    seed: Annotated[int, Ge(-(2**63)), Lt(2**63)]
    density: float
    started: Annotated[int, Ge(0), Lt(2**43)]


@dataclass(frozen=True)
class Records:
    """What a store holds.

    Attributes:
        runs: a row a finished run, oldest first. Columns: ``run_id``, ``started`` (UTC), the tags without their
            prefix (``protocol``, completed with what earlier runs had, ``variant`` and ``variant_defaults`` as
            dictionaries, ``seed`` as an integer), ``identity``, ``density``, the final density that was asked for, and
            ``metrics.NAME`` with the last value of each metric.
        glossary: what the metrics mean; every metric of the runs is in it.
        damaged: id of a benchmark run whose record cannot be read -> why; it is passed over.
    """

    runs: pd.DataFrame
    glossary: Glossary
    damaged: Mapping[str, str] = field(default_factory=dict)

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
    """All finished benchmark runs of one or several stores. Failed, killed and unfinished runs never enter.

    Args:
        tracking_uris: any MLflow stores.
        experiment: name of one experiment; None reads all.

    Raises:
        BoardError: a store or the experiment cannot be read.
    """
    rows: list[dict[str, Any]] = []
    glossary = Glossary()
    damaged: dict[str, str] = {}
    for uri in tracking_uris:
        found, unread, said = _read(uri, experiment)
        rows += found
        damaged |= unread
        glossary |= said
    earlier = dict(EARLIER)
    for row in rows:
        earlier |= row.pop("earlier")
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
    return Records(runs, glossary.completed(measured), damaged)


def _read(tracking_uri: str, experiment: str | None) -> tuple[list[dict[str, Any]], dict[str, str], Glossary]:
    rows: list[dict[str, Any]] = []
    damaged: dict[str, str] = {}
    glossary = Glossary()
    with reading(tracking_uri) as client:
        experiments = client.search_experiments()
        chosen = [e for e in experiments if experiment in (None, e.name)]
        if not chosen:
            names = ", ".join(repr(e.name) for e in experiments)
            raise BoardError(f"no experiment {experiment!r} in {tracking_uri}: there are {names or 'none'}")
        for one in chosen:
            glossary |= from_tags(one.tags)
        token = None
        while True:
            page = client.search_runs(
                [one.experiment_id for one in chosen],
                "attributes.status = 'FINISHED'",
                max_results=PAGE,
                page_token=token,
                order_by=["start_time ASC"],
            )
            for run in page:
                try:
                    row = _row(run)
                except ValidationError as error:
                    wrong = error.errors()[0]
                    damaged[run.info.run_id] = f"{'.'.join(map(str, wrong['loc']))}: {wrong['msg']}"
                else:
                    rows += [] if row is None else [row]
            token = page.token
            if not token:
                break
    return rows, damaged, glossary


def latest_per_seed(runs: pd.DataFrame) -> pd.DataFrame:
    """One run of each identity: repeating a run must not count as another seed; the newest stays."""
    if runs.empty:
        return runs
    return runs[~runs.identity.duplicated(keep="last")].reset_index(drop=True)


def _row(run: Run) -> dict[str, Any] | None:
    """The row of a run; None if it is none of the benchmark's.

    Raises:
        ValidationError: its record is damaged.
    """
    tags = {name.removeprefix(PREFIX): value for name, value in run.data.tags.items() if name.startswith(PREFIX)}
    if not tags:
        return None
    # The parameter was there from the first version on; a store that other programs write to may lack it.
    asked = {"density": run.data.params.get("density", math.nan), "started": run.info.start_time}
    record = _Record.model_validate({**tags, **asked})
    others = {name: value for name, value in tags.items() if not name.startswith(METRIC)}
    metrics = {f"{METRIC}{name}": value for name, value in run.data.metrics.items()}
    own = {"run_id": run.info.run_id, "started": pd.Timestamp(record.started, unit="ms", tz="UTC")}
    return {**others, **dict(record), **own, **metrics}
