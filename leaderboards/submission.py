"""Records of a third party: what is wrong with them, and the change that brings sound ones to the published boards."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from leaderboards.console import say
from leaderboards.errors import BoardError
from leaderboards.export import KEPT, export
from leaderboards.glossary import Glossary, Measure
from leaderboards.numbers.curves import ACCURACY, ERRORS, MATRIX
from leaderboards.numbers.fronts import LOSS
from leaderboards.publish import publish
from leaderboards.render.files import write_all
from leaderboards.sources.record_file import RunFile, Series
from leaderboards.sources.recorded import GLOSSARY, RecordedRuns
from leaderboards.text import printable

LONGEST = 200
"""Characters of a text in a record."""

GUIDE = "../../docs/reading-a-board.md"
"""What published pages link to."""

INDEX = "README.md"
"""Of the published pages it is written by hand."""

PLAIN = re.compile(r"(?!.*://)[\w .,:;@()+/*-]*")
"""What texts of records are made of; pages escape all others, and nobody needs them."""

PATHS = re.compile(r"(^|[\s'(=])(/|~|[A-Za-z]:\\|\.\./)")
"""Folders of a machine: a record names none."""

NOT_NEGATIVE = ("test images", "bytes", "FLOPs", "s", "MiB", "weights", "layers", "nats", "images")
"""Units of what cannot be below zero."""

BY_EPOCH = "curve/"
"""Beginning of metrics whose steps are iterations, not megabatches."""

EXACT = 1e-6
"""Largest difference of two ways to say one number, as part of it."""

TOLERANCE = timedelta(days=1)
"""What a clock may be ahead."""


@dataclass(frozen=True)
class Submitted:
    """What a submission brings.

    Attributes:
        defects: a line each; nothing is written where there are any.
        records: names of the new records among the published ones.
        pages: names of the pages that have been rendered.
    """

    defects: list[str]
    records: list[str]
    pages: list[str]


def submit(
    folder: Path, published: Path, output: Path | None = None, *, say: Callable[[str], object] = say
) -> Submitted:
    """Check a folder of records and, if all are sound, put them among the published ones and render the boards.

    Args:
        folder: what ``python -m leaderboards export`` has written elsewhere.
        published: folder with published pages and their ``records``.
        output: of the pages; ``published`` if it is None, whose index is left alone.
        say: told what is to be noted in one line.

    Raises:
        BoardError: a folder cannot be read or written, or there is no record. Nothing has been written then.
    """
    submission, ours = RecordedRuns(folder), RecordedRuns(published / "records")
    found = defects(submission, ours)
    if found:
        return Submitted(found, [], [])
    with TemporaryDirectory() as scratch:
        # What cannot be rendered is not put among the published records.
        trial, rendered = Path(scratch) / "records", Path(scratch) / "pages"
        known = None
        if (published / "records").exists():
            shutil.copytree(published / "records", trial)
            known = ours.glossary()
        export(f"records:{folder}", trial, explained=known, say=say)
        publish([f"records:{trial}"], rendered, guide=GUIDE if output is None else None, figures=True, say=say)
        pages: dict[str, str | bytes] = {
            path.relative_to(rendered).as_posix(): path.read_bytes() for path in rendered.rglob("*") if path.is_file()
        }
    if output is None:
        del pages[INDEX]
    done = export(f"records:{folder}", published / "records", explained=known, say=_silent)
    write_all(pages, published if output is None else output)
    return Submitted([], done.written, sorted(pages))


def _silent(line: str) -> None:
    """What has been said of the trial is not said again."""


def defects(submission: RecordedRuns, published: RecordedRuns) -> list[str]:
    """One line for each thing that is wrong with records, in the order of their files.

    Raises:
        BoardError: a folder cannot be read, or there is no record.
    """
    own = submission.glossary()
    files, damaged = submission.files()
    there = (published.folder / GLOSSARY).exists()
    glossary = published.glossary() if there else Glossary()
    known = published.files()[0] if there else {}
    if not files and not damaged:
        raise BoardError(f"there is no record in {submission.folder}")
    found = [f"{name}: {why}" for name, why in damaged.items()]
    found += [f"{GLOSSARY}: {why}" for why in _of_glossary(own, glossary)]
    runs = {one.run_id: f"the published {name}" for name, one in known.items()}
    identities = {one.identity: f"the published {name}" for name, one in known.items()}
    version = max(map(_version, known.values()), default=None)
    measures = own | glossary
    for name, one in files.items():
        whys = [*_of_place(submission.folder / name), *_of_words(one)]
        for kind, key, seen in (("run", one.run_id, runs), ("variant, protocol and seed", one.identity, identities)):
            other = seen.setdefault(key, name)
            if other != name:
                whys.append(f"the same {kind} as {other}")
        if version is not None and _version(one) != version:
            whys.append(
                f"protocol version {_version(one)}, published boards are of {version}: run it again with their code"
            )
        found += [f"{printable(name)}: {why}" for why in (*whys, *_of_values(one, measures))]
    return found


def _version(one: RunFile) -> int:
    """Of the protocol; that it is a whole number has been checked. Records from before there were versions are of 1."""
    said = one.protocol.get("protocol_version", 1)
    return said if isinstance(said, int) else 1


def _of_glossary(own: Glossary, published: Glossary) -> Iterator[str]:
    for name, measure in own.items():
        # Words may have been mended since: the published ones stay.
        if name in published and (published[name].unit, published[name].better) != (measure.unit, measure.better):
            yield f"{printable(name)} is measured in another way than among published records"
        elif not all(_is_plain(one) for one in (name, measure.title, measure.key, measure.short)):
            yield f"{printable(name)[:LONGEST]}: a name has characters that names do not need"


def _of_place(path: Path) -> Iterator[str]:
    if path.is_symlink() or path.parent.is_symlink():
        yield "it is a link: copy the file itself"


def _of_words(one: RunFile) -> Iterator[str]:
    """Texts that are hostile, or say something of the machine."""
    for tag in one.provenance.keys() - set(KEPT):
        yield f"provenance says {printable(tag)[:LONGEST]!r}, which records do not keep: export them again"
    told = one.model_dump(include={"stream", "stream_label", "data", "data_version", "data_fingerprint", "density"})
    told |= {"protocol": one.protocol, "variant": one.variant, "variant_defaults": one.variant_defaults}
    told |= {"earlier": one.earlier, "provenance": one.provenance, "metrics": list(one.metrics)}
    for text in dict.fromkeys(_texts(told)):
        if not _is_plain(text):
            yield f"a text has characters that names do not need, or is too long: {printable(text)[:60]!r}"
        elif PATHS.search(text):
            yield f"a text names a folder: {printable(text)[:60]!r}"
    if one.protocol.get("stream", one.stream) != one.stream or one.protocol.get("data", one.data) != one.data:
        yield "protocol and record name different streams or images"
    if datetime.fromtimestamp(one.started / 1000, UTC) > datetime.now(UTC) + TOLERANCE:
        yield "it began in the future"
    if one.seed < 0:
        yield f"a seed is not negative: {one.seed}"


def _texts(said: Any) -> Iterator[str]:
    if isinstance(said, str):
        yield said
    elif isinstance(said, Mapping):
        for name, value in said.items():
            yield str(name)
            yield from _texts(value)
    elif isinstance(said, list):
        for value in said:
            yield from _texts(value)


def _is_plain(text: str) -> bool:
    return len(text) <= LONGEST and PLAIN.fullmatch(text) is not None and text == printable(text)


def _of_values(one: RunFile, measures: Glossary) -> Iterator[str]:
    """Numbers that cannot be, or contradict each other."""
    for name, series in one.metrics.items():
        measure = measures.get(name)
        if measure is None:
            yield f"{printable(name)[:LONGEST]} is a metric that no {GLOSSARY} explains"
            continue
        wrong = next((value for value in (series.last, *series.values) if not _is_possible(value, measure)), None)
        if wrong is not None:
            yield f"{printable(name)[:LONGEST]} cannot be {wrong:g} ({printable(measure.unit) or 'no unit'})"
        if series.steps and not _close(series.last, series.values[-1]):
            yield f"{printable(name)[:LONGEST]} ends with {series.values[-1]:g}, its last value is {series.last:g}"
        length = one.protocol.get("megabatches")
        if not isinstance(length, int) or not series.steps or name.startswith(BY_EPOCH):
            continue
        # The accuracy matrix has a step for each of its entries.
        last = length**2 if name == MATRIX else length
        if not 1 <= series.steps[0] <= series.steps[-1] <= last:
            yield f"{printable(name)[:LONGEST]} has steps outside of the {length} megabatches"
    yield from _contradictions(one)


def _is_possible(value: float, measure: Measure) -> bool:
    if not math.isfinite(value):
        return False
    if measure.unit == "fraction":
        # What is written with a sign is a difference of two fractions.
        return -1 <= value <= 1 if "+" in measure.form else 0 <= value <= 1 + EXACT
    return value >= 0 or measure.unit not in NOT_NEGATIVE


ALMA = "alma"
"""Protocol of all records that name none: its test set is always the same."""


def _contradictions(one: RunFile) -> Iterator[str]:
    """CER, its rate, errors and accuracies say one thing; a record that has one of them has all."""
    needed = {ACCURACY, ERRORS, "anytime/cer", LOSS}
    missing = sorted(needed - one.metrics.keys())
    if missing:
        yield f"{', '.join(missing)} is missing"
        return
    accuracy, errors, cer, rate = (one.metrics[name] for name in (ACCURACY, ERRORS, "anytime/cer", LOSS))
    length = one.protocol.get("megabatches")
    if not isinstance(length, int) or not (_whole(accuracy, length) and _whole(errors, length)):
        yield f"{ACCURACY} or {ERRORS} lacks some of the megabatches"
        return
    if not _close(cer.last, math.fsum(errors.values)):
        yield f"CER is {cer.last:g}, the errors of all megabatches are {math.fsum(errors.values):g}"
    if one.protocol.get("scenario", ALMA) != ALMA:
        # A stream that shifts is tested on what has been seen, which grows.
        return
    images = one.provenance.get("test_images", "")
    if not (images.isascii() and images.isdigit() and int(images)):
        yield "provenance does not say how many test_images there are"
        return
    if not _close(rate.last, cer.last / (int(images) * len(accuracy.steps))):
        yield f"the CER rate is {rate.last:g}, CER and {images} test images make another one"
    wrong = zip(accuracy.steps, accuracy.values, errors.values, strict=True)
    step = next((t for t, right, e in wrong if not _close(1 - right, e / int(images))), None)
    if step is not None:
        yield f"accuracy and errors of megabatch {step} contradict each other"


def _whole(series: Series, length: int) -> bool:
    return series.steps == list(range(1, length + 1))


def _close(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=EXACT, abs_tol=EXACT)
