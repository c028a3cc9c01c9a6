"""One finished run as a row of the table that boards are made of, whatever it is read from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

import pandas as pd
from annotated_types import Ge, Lt
from pydantic import AfterValidator, BaseModel, JsonValue, ValidationError

from leaderboards.glossary import Glossary
from leaderboards.text import printable

METRIC = "metrics."
"""Of the columns that hold the last values of metrics."""

LONGEST_REASON = 300
"""Characters of what is said about a damaged run: names in it come from outside."""

Point = tuple[str, str, int, float]
"""Of a series: id of the run, metric, step and value."""


def _ordered(value: JsonValue) -> JsonValue:
    if isinstance(value, dict):
        return {name: _ordered(value[name]) for name in sorted(value)}
    return [_ordered(one) for one in value] if isinstance(value, list) else value


def _fields_ordered(fields: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """In alphabetical order: pages show fields in that of their record, and sources keep none."""
    return {name: _ordered(fields[name]) for name in sorted(fields)}


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


Fields = Annotated[dict[str, JsonValue], AfterValidator(_fields_ordered)]
ProtocolFields = Annotated[Fields, AfterValidator(_with_version)]
VariantFields = Annotated[Fields, AfterValidator(_with_versions)]
Seed = Annotated[int, Ge(-(2**63)), Lt(2**63)]
Started = Annotated[int, Ge(0), Lt(2**43)]
"""Milliseconds since the epoch."""


class Described(BaseModel):
    """What any source says of a run in plain words."""

    stream: str
    stream_label: str
    data: str
    data_version: str
    data_fingerprint: str
    seed: Seed


@dataclass(frozen=True)
class Found:
    """What one source holds.

    Attributes:
        rows: a mapping a finished run, see :func:`row`.
        damaged: what cannot be read (id of a run, name of a file) -> why.
        glossary: what the source says about its metrics.
    """

    rows: list[dict[str, Any]]
    damaged: dict[str, str]
    glossary: Glossary


class Source(Protocol):
    """Where runs are read from: an MLflow store, or a folder of records."""

    def runs(self, experiment: str | None) -> Found:
        """All finished runs of the benchmark, or those of one experiment.

        Raises:
            BoardError: the source or the experiment cannot be read.
        """

    def series(self, run_ids: Iterable[str], metrics: Iterable[str]) -> list[Point]:
        """Points of all ``metrics`` of each run, in this order and by step; of one step there is one point.

        Raises:
            BoardError: the source cannot be read.
        """


def row(
    described: Mapping[str, Any], tags: Mapping[str, str], run_id: str, started: int, metrics: Mapping[str, float]
) -> dict[str, Any]:
    """The row of a run: ``tags`` under their names, but for those that name other columns."""
    others = {name: value for name, value in tags.items() if not name.startswith(METRIC)}
    own = {"run_id": run_id, "started": pd.Timestamp(started, unit="ms", tz="UTC")}
    return {**others, **described, **own, **{METRIC + name: value for name, value in metrics.items()}}


def reason(error: ValidationError) -> str:
    """Why a run is damaged, in one line."""
    wrong = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(map(str, wrong["loc"]))
    return printable(f"{place}: {wrong['msg']}" if place else wrong["msg"])[:LONGEST_REASON]
