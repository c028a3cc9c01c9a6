"""Folders of records as a source of runs: a folder a board, a file a run, and one glossary for all of them."""

from __future__ import annotations

import math
import stat
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json

from leaderboards.errors import BoardError
from leaderboards.glossary import Glossary, from_fields
from leaderboards.sources.record_file import LARGEST, SCHEMA_VERSION, RunFile, as_text
from leaderboards.sources.rows import LONGEST_REASON, Found, Point, reason, row
from leaderboards.text import printable

GLOSSARY = "glossary.json"
"""Name of the file by which a folder of records is known."""

ADVICE = "name a folder that 'python -m leaderboards export' has written"


@dataclass(frozen=True)
class RecordedRuns:
    """The runs whose records lie in ``folder``; they are read once."""

    folder: Path

    def runs(self, experiment: str | None) -> Found:
        """See :class:`leaderboards.sources.rows.Source`.

        Raises:
            BoardError: also where an experiment is asked for: records belong to none.
        """
        if experiment is not None:
            raise BoardError(f"records belong to no experiment ({self.folder}): leave {experiment!r} out")
        glossary = self.glossary()
        files, damaged = self.files()
        return Found([_row(one) for one in files.values()], damaged, glossary)

    def series(self, run_ids: Iterable[str], metrics: Iterable[str]) -> list[Point]:
        """See :class:`leaderboards.sources.rows.Source`."""
        self.glossary()
        known = {one.run_id: one.metrics for one in self.files()[0].values()}
        points: list[Point] = []
        for run_id, metric in product(run_ids, metrics):
            found = known.get(run_id, {}).get(metric)
            if found is not None:
                points += [(run_id, metric, *point) for point in zip(found.steps, found.values, strict=True)]
        return points

    def files(self) -> tuple[dict[str, RunFile], dict[str, str]]:
        """Path within the folder -> record, in alphabetical order; and of those that are damaged -> why.

        Raises:
            BoardError: a folder cannot be read.
        """
        return self._files

    @cached_property
    def _files(self) -> tuple[dict[str, RunFile], dict[str, str]]:
        files: dict[str, RunFile] = {}
        damaged: dict[str, str] = {}
        seen: dict[str, str] = {}
        for path in self._paths():
            name = path.relative_to(self.folder).as_posix()
            try:
                found = RunFile.of_text(_content(path))
                other = seen.setdefault(found.run_id, name)
                if other != name:
                    raise ValueError(f"it is of the same run as {other}")
            except ValidationError as error:
                damaged[printable(name)] = reason(error)
            except OSError as error:
                damaged[printable(name)] = f"it cannot be read ({error.strerror})"
            except ValueError as error:
                damaged[printable(name)] = printable(str(error))[:LONGEST_REASON]
            else:
                files[name] = found
        return files, damaged

    def glossary(self) -> Glossary:
        """What the folder says about metrics.

        Raises:
            BoardError: it is no folder of records.
        """
        path = self.folder / GLOSSARY
        try:
            said = from_json(_content(path))
            if said["schema_version"] != SCHEMA_VERSION:
                raise ValueError(f"it is of version {said['schema_version']}, known is {SCHEMA_VERSION}")
            return from_fields(said["measures"].values())
        except FileNotFoundError as error:
            raise BoardError(f"{self.folder} is no folder of records (there is no {GLOSSARY}): {ADVICE}") from error
        except OSError as error:
            raise BoardError(f"{path} cannot be read ({error.strerror}): {ADVICE}") from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            why = str(error)[:LONGEST_REASON]
            raise BoardError(f"{path} is damaged or no glossary of records ({why}): {ADVICE}") from error

    def _paths(self) -> list[Path]:
        try:
            # What has a dot in front is a draft.
            folders = [one for one in sorted(self.folder.iterdir()) if one.is_dir() and not one.name.startswith(".")]
            return [path for folder in folders for path in sorted(folder.iterdir()) if path.suffix == ".json"]
        except OSError as error:
            raise BoardError(f"{error.filename} cannot be read ({error.strerror}): {ADVICE}") from error


def glossary_text(glossary: Glossary) -> str:
    """The file that :meth:`RecordedRuns.glossary` reads."""
    measures: Mapping[str, Any] = {one.name: asdict(one) for one in glossary.values()}
    return as_text({"schema_version": SCHEMA_VERSION, "measures": measures})


def _content(path: Path) -> bytes:
    """The content of a file; of anything else, such as a pipe, reading might never end.

    Raises:
        ValueError: it is no file, or too large.
        OSError: it cannot be read.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("it is no file")
    with path.open("rb") as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise ValueError(f"it is larger than {LARGEST:,} bytes")
    return content


def _row(found: RunFile) -> dict[str, Any]:
    others = ("schema_version", "identity", "run_id", "started", "provenance", "metrics")
    described = {name: value for name, value in found if name not in others}
    described["density"] = math.nan if found.density is None else found.density
    last = {name: series.last for name, series in found.metrics.items()}
    return row(described, found.provenance, found.run_id, found.started, last)
