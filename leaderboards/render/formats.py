"""Boards in formats that other programs read."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from leaderboards.numbers.reported import Reported
from leaderboards.render.files import write_all
from leaderboards.render.latex import board_table
from leaderboards.render.tables import name_of, tables
from leaderboards.text import printable

FORMULA = ("=", "+", "-", "@", "\t")
"""Beginnings of a text that a spreadsheet takes for a formula."""


def publish_formats(found: Reported, folder: Path, formats: Iterable[str]) -> list[str]:
    """Write what :func:`leaderboards.numbers.reported.reported` found in some formats of :data:`FORMATS`.

    ``csv``, ``parquet`` and ``json`` are the files ``rows``, ``runs`` and ``series`` of
    :class:`leaderboards.render.tables.Tables`; ``latex`` is a file a board.

    Returns:
        Names of the files.

    Raises:
        BoardError: the folder cannot be written. Nothing has been written then.
    """
    texts: dict[str, str | bytes] = {}
    for one in formats:
        texts |= FORMATS[one](found)
    write_all(texts, folder)
    return list(texts)


def _csv(found: Reported) -> dict[str, str | bytes]:
    return {f"{name}.csv": _harmless(table).to_csv(index=False) for name, table in _tables(found).items()}


def _parquet(found: Reported) -> dict[str, str | bytes]:
    files: dict[str, str | bytes] = {}
    for name, table in _tables(found).items():
        content = io.BytesIO()
        table.to_parquet(content, index=False)
        files[f"{name}.parquet"] = content.getvalue()
    return files


def _json(found: Reported) -> dict[str, str | bytes]:
    return {
        f"{name}.json": json.dumps(_records(table), indent=1, allow_nan=False) + "\n"
        for name, table in _tables(found).items()
    }


def _latex(found: Reported) -> dict[str, str | bytes]:
    return {f"{name_of(report)}.tex": board_table(report) for report in found.reports}


FORMATS: dict[str, Callable[[Reported], dict[str, str | bytes]]] = {
    "csv": _csv,
    "parquet": _parquet,
    "json": _json,
    "latex": _latex,
}
"""Name of a format -> names and contents of its files."""


def _tables(found: Reported) -> dict[str, pd.DataFrame]:
    return {name: table.apply(_of_one_kind) for name, table in tables(found.reports, found.series).named().items()}


def _of_one_kind(column: pd.Series) -> pd.Series:
    """A column that any format can hold: numbers, truths, moments or texts, some of them missing."""
    if column.dtype != object and not pd.api.types.is_string_dtype(column.dtype):
        return column
    values = [None if _is_missing(value) else _plain(value) for value in column.tolist()]
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int}:
        return pd.Series(values, index=column.index, dtype="Int64")
    if kinds <= {int, float}:
        return pd.Series(values, index=column.index, dtype="float64")
    if kinds == {bool}:
        return pd.Series(values, index=column.index, dtype="boolean")
    texts = [value if value is None or isinstance(value, str) else json.dumps(value) for value in values]
    return pd.Series(texts, index=column.index, dtype="string")


def _plain(value: Any) -> Any:
    """Fields of fields, lists and huge numbers as JSON."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict | list) or (isinstance(value, int) and not -(2**63) <= value < 2**63):
        return json.dumps(value, sort_keys=True)
    return value


def _is_missing(value: Any) -> bool:
    return value is None or value is pd.NaT or value is pd.NA or (isinstance(value, float) and math.isnan(value))


def _harmless(table: pd.DataFrame) -> pd.DataFrame:
    return table.map(lambda one: f"'{one}" if isinstance(one, str) and one.startswith(FORMULA) else one)


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Without what is missing, infinite or no number, which JSON cannot say."""
    found = []
    for row in table.astype(object).to_dict("records"):
        said = {str(name): value for name, value in row.items() if not _is_missing(value)}
        moments = {name: value.isoformat() for name, value in said.items() if isinstance(value, pd.Timestamp)}
        found.append({n: v for n, v in (said | moments).items() if not (isinstance(v, float) and math.isinf(v))})
    return found
