"""The glossary: what each metric means, how it is written and which way is better. It travels with the store."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import TypeAdapter
from pydantic_core import from_json

from leaderboards.record import PREFIX

TAG = PREFIX + "measure."
"""Of the experiment's tags that hold the glossary, one a measure."""

PLACES = ("board", "baseline", "runs", "contrast", "megabatches", "totals")
"""Where a measure may be shown: as a column of a board; as a paired difference from the dense baseline; in the table of
every run; in contrasts; in the terminal's table of megabatches; among the terminal's totals."""

DEFAULT_SORT = "anytime/cer_rate"
"""Metric by which boards are sorted, lowest first, unless told otherwise."""

SHIFTING_SORT = "continual/accuracy"
"""Metric in its place on boards of streams that shift, highest first."""


@dataclass(frozen=True)
class Measure:
    """One series that runs emit.

    Attributes:
        name: of the MLflow metric. One whose last part begins with a colon, such as ``density/:layer``, explains all
            metrics that begin like it and have no measure of their own.
        title: heading of its column.
        meaning: half a sentence.
        unit: of its values; ``fraction`` for what lies between 0 and 1.
        form: how a value is written, as ``str.format`` has it.
        better: +1 where higher is better, -1 where lower is, 0 where it is a fact and no merit.
        key: short word for ``--sort``; the name if empty.
        position: where it stands among the others, ascending.
        places: those of :data:`PLACES` where it is shown.
        short: heading where room is short; the title if empty.

    Raises:
        ValueError: a field has an impossible value.
    """

    name: str
    title: str
    meaning: str
    unit: str
    form: str = "{:.4f}"
    better: int = 0
    key: str = ""
    position: int = 1000
    places: tuple[str, ...] = ()
    short: str = ""

    def __post_init__(self) -> None:
        unknown = set(self.places) - set(PLACES)
        if unknown:
            raise ValueError(f"measure {self.name!r}: places are among {', '.join(PLACES)}, not {sorted(unknown)[0]!r}")
        if self.better not in (-1, 0, 1):
            raise ValueError(f"measure {self.name!r}: better is -1, 0 or 1, not {self.better!r}")
        if not self.name or not self.title:
            raise ValueError(f"measure {self.name!r}: it needs a name and a title")
        try:
            self.form.format(0.5)
        except (ValueError, IndexError, KeyError) as error:
            raise ValueError(f"measure {self.name!r}: {self.form!r} is no format of a number") from error
        for field, empty in (("key", self.name), ("short", self.title)):
            if not getattr(self, field):
                object.__setattr__(self, field, empty)

    @property
    def family(self) -> str:
        """What the names of all its metrics begin with, before the last slash; empty if it explains one metric."""
        first, _, last = self.name.rpartition("/")
        return first if last.startswith(":") else ""

    @classmethod
    def unexplained(cls, name: str) -> Measure:
        """A metric that runs have and no glossary explains, as in stores from before there was one."""
        return cls(name, title=name, meaning="not explained by this store", unit="", form="{:.5g}", places=("board",))


class Glossary(Mapping[str, Measure]):
    """Name of a metric -> its measure, in order of position; iteration passes each measure once, by its own name."""

    def __init__(self, measures: Iterable[Measure] = ()):
        ordered = sorted({one.name: one for one in measures}.values(), key=lambda one: (one.position, one.name))
        self._measures = {one.name: one for one in ordered}
        self._families = {family: one for one in ordered if (family := one.family)}

    def __getitem__(self, name: str) -> Measure:
        if name in self._measures:
            return self._measures[name]
        for family, one in self._families.items():
            if name.startswith(f"{family}/"):
                return one
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._measures)

    def __len__(self) -> int:
        return len(self._measures)

    def __or__(self, other: Glossary) -> Glossary:
        """Both; of measures of one name those of ``other``."""
        return Glossary([*self.values(), *other.values()])

    def find(self, word: str) -> Measure | None:
        """The measure with this key or name."""
        return next((one for one in self.values() if word in (one.key, one.name)), None)

    def in_place(self, place: str) -> list[Measure]:
        """Measures that are shown in one of :data:`PLACES`, in order."""
        return [one for one in self.values() if place in one.places]

    def explained(self) -> Glossary:
        """Without the measures that :meth:`completed` adds."""
        return Glossary(one for one in self.values() if one != Measure.unexplained(one.name))

    def completed(self, names: Iterable[str]) -> Glossary:
        """With an unexplained measure for each metric of ``names`` that it lacks."""
        return self | Glossary([Measure.unexplained(name) for name in names if name not in self])


def to_tags(measures: Iterable[Measure]) -> dict[str, str]:
    """Tags of an MLflow experiment that hold the glossary."""
    return {TAG + one.name: json.dumps(asdict(one), sort_keys=True) for one in measures}


MEASURE = TypeAdapter(Measure)
"""Checks types, and leaves out fields of later versions."""


def from_tags(tags: Mapping[str, str]) -> Glossary:
    """The glossary that tags hold; what is damaged is passed over, and so are fields of later versions."""
    found = []
    for tag, text in tags.items():
        if tag.startswith(TAG):
            try:
                found.append(from_json(text))
            except ValueError:
                continue
    return from_fields(found)


def from_fields(measures: Iterable[Any]) -> Glossary:
    """The glossary of what may be the fields of measures; what is damaged is passed over, as in :func:`from_tags`."""
    found = []
    for said in measures:
        try:
            places = [place for place in said.get("places", ()) if place in PLACES]
            found.append(MEASURE.validate_python({**said, "places": places}))
        except (ValueError, TypeError, AttributeError):
            continue
    return Glossary(found)
