"""The record of one run as a file: what it says, and how that is written."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, Self

from annotated_types import Ge, Lt, MaxLen, MinLen
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    JsonValue,
    PlainSerializer,
    StringConstraints,
    model_validator,
)
from pydantic_core import from_json

from leaderboards.record import identity_key
from leaderboards.sources.rows import Described, Fields, ProtocolFields, Started, VariantFields

SCHEMA_VERSION = 1

LARGEST = 2**24
"""Bytes of a file: a thousand times what a run of ten megabatches takes."""

WORDS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
"""How values are written that JSON has no numbers for."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

MOMENT = "%Y-%m-%dT%H:%M:%S.%fZ"


def _numbers(values: Any) -> Any:
    if not isinstance(values, list):
        return values
    return [WORDS.get(one, one) if isinstance(one, str) else one for one in values]


def _words(values: list[float]) -> list[float | str]:
    return [one if math.isfinite(one) else json.dumps(one) for one in values]


def _milliseconds(moment: Any) -> Any:
    if not isinstance(moment, str):
        return moment
    return (datetime.strptime(moment, MOMENT).replace(tzinfo=UTC) - EPOCH) // timedelta(milliseconds=1)


def _moment(milliseconds: int) -> str:
    said = EPOCH + timedelta(milliseconds=milliseconds)
    return f"{said.replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


def _standard(fields: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """As they are, if JSON can say it.

    Raises:
        ValueError: there is a number that is infinite or none.
    """
    json.dumps(fields, allow_nan=False)
    return fields


Number = Annotated[
    float,
    BeforeValidator(lambda value: WORDS.get(value, value) if isinstance(value, str) else value),
    PlainSerializer(lambda value: _words([value])[0]),
]
Standard = AfterValidator(_standard)


class Series(BaseModel):
    """What a run measured: the last value, and that of each step, ascending; no steps where only the last is kept."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    last: Number
    steps: list[Annotated[int, Ge(-(2**63)), Lt(2**63)]]
    values: Annotated[list[float], BeforeValidator(_numbers), PlainSerializer(_words)]

    @model_validator(mode="after")
    def _a_value_for_each_step(self) -> Self:
        if len(self.steps) != len(self.values) or sorted(set(self.steps)) != self.steps:
            raise ValueError("a series has ascending steps, and a value for each")
        return self


class RunFile(Described):
    """The record of one finished run: all that boards and trajectories say of it, and nothing of the machine's names.

    Attributes:
        identity: what the run is recognised by, with the protocol completed by what earlier runs had.
        started: when the run began, in milliseconds since the epoch; written in UTC, as ISO 8601 has it.
        density: the final density that was asked for.
        provenance: tags without prefix.
        metrics: name -> series.

    Raises:
        ValidationError: something is missing, unknown, of the wrong type, or the identity is of another run.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    schema_version: Literal[1]
    run_id: Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z_-]{1,64}$")]
    identity: str
    started: Annotated[Started, BeforeValidator(_milliseconds), PlainSerializer(_moment)]
    density: Number | None
    protocol: Annotated[ProtocolFields, Standard]
    variant: Annotated[VariantFields, Standard]
    variant_defaults: Annotated[Fields, Standard]
    earlier: Annotated[Fields, Standard]
    provenance: dict[str, str]
    metrics: dict[Annotated[str, MinLen(1), MaxLen(250)], Series]

    @model_validator(mode="after")
    def _one_identity(self) -> Self:
        own = identity_key(
            protocol=self.protocol, variant=self.variant, seed=self.seed, data_fingerprint=self.data_fingerprint
        )
        if self.identity != own:
            raise ValueError(f"protocol, variant, seed and images are those of {own}, the identity is another one")
        return self

    def text(self) -> str:
        """The file: the same run has the same bytes."""
        return as_text(self.model_dump())

    @classmethod
    def of_text(cls, content: bytes) -> Self:
        """What a file says.

        Raises:
            ValueError: it is no record.
        """
        return cls.model_validate(from_json(content, allow_inf_nan=False))


def as_text(document: Mapping[str, Any]) -> str:
    """JSON in ASCII, with sorted names, and a line for each field of a field, so that differences are readable."""
    parts = []
    for name in sorted(document):
        value = document[name]
        if isinstance(value, Mapping) and value:
            inner = ",\n".join(f"  {json.dumps(one)}: {_in_one_line(value[one])}" for one in sorted(value))
            parts.append(f" {json.dumps(name)}: {{\n{inner}\n }}")
        else:
            parts.append(f" {json.dumps(name)}: {_in_one_line(value)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _in_one_line(value: Any) -> str:
    return json.dumps(value, sort_keys=True, allow_nan=False)
