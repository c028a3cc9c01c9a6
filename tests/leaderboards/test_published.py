"""Published pages are what the published records give, byte for byte."""

from __future__ import annotations

import json
import re
from importlib.metadata import version
from pathlib import Path

import pytest

from benchmark.config.profiles import resolve
from benchmark.recording.store import Store
from benchmark.running.prepare import prepare
from benchmark.running.run import run
from leaderboards.errors import BoardError
from leaderboards.export import export
from leaderboards.publish import publish

PUBLISHED = Path(__file__).parents[2] / "leaderboards" / "published"

GUIDE = "../../docs/reading-a-board.md"

PUBLISHED_WITH = ({}, {"across": ["replay"]}, {"contrast": "precision"})
"""Options that pages are published with. The index is written by hand."""


PINNED = re.search(r"^matplotlib==(\S+)$", (PUBLISHED.parents[1] / "constraints.txt").read_text(), re.MULTILINE)
DRAWN_ALIKE = PINNED is not None and version("matplotlib") == PINNED[1]


def pages_of(folder: Path) -> dict[str, dict[str, bytes]]:
    """Name of a page -> path of each of its files, figures among them, -> content."""
    found = {}
    for page in folder.glob("*.md"):
        files = [page, *(folder / page.stem).glob("*.svg")]
        # Other versions of matplotlib write the same figure in other words.
        compared = {path: DRAWN_ALIKE or path == page for path in files}
        found[page.name] = {
            str(path.relative_to(folder)): path.read_bytes() if same else b"" for path, same in compared.items()
        }
    found.pop("README.md", None)
    return found


def flaws(published: Path, scratch: Path) -> list[str]:
    """What is wrong with published pages and their records."""
    pages = pages_of(published)
    found, rendered, runs, shown = [], {}, {}, set()
    for number, options in enumerate(PUBLISHED_WITH if (published / "records").exists() else ()):
        folder = scratch / str(number)
        try:
            uri = f"records:{published / 'records'}"
            reports = publish([uri], folder, guide=GUIDE, figures=False, say=found.append, **options)
            if {one.board.file_name for one in reports} & (pages.keys() - rendered.keys()):
                # Drawing takes most of the time: it is done of pages that no option before has given.
                reports = publish([uri], folder, guide=GUIDE, figures=True, say=found.append, **options)
        except BoardError as error:
            found += [] if "nothing to contrast" in str(error) else [str(error)]
            continue
        rendered = pages_of(folder) | rendered
        for report in reports:
            runs = dict.fromkeys(report.board.runs.run_id, report.board.file_name) | runs
            shown |= set(report.board.runs.run_id) if report.board.file_name in pages else set()
    found += [f"not what the records give: {name}" for name in pages if rendered.get(name, pages[name]) != pages[name]]
    alone = {svg.parent.name for svg in published.glob("*/*.svg")} - {name.removesuffix(".md") for name in pages}
    found += [f"figures without a page: {name}" for name in alone]
    found += [f"no records: {name}" for name in pages.keys() - rendered.keys()]
    found += [f"records without a page: {name}" for name in {runs[one] for one in runs.keys() - shown}]
    return found


def test_published_pages_are_those_of_their_records(tmp_path):
    assert flaws(PUBLISHED, tmp_path) == []


def test_the_first_board_of_the_readme_is_the_published_one():
    """Its table and its figure, so that neither goes stale."""
    root = PUBLISHED.parents[1]
    said = (root / "README.md").read_text(encoding="utf-8")
    [page] = {root / path for path in re.findall(r"\((leaderboards/published/fashion[^)/]*\.md)\)", said)}
    [first, *_] = [block for block in page.read_text(encoding="utf-8").split("\n\n") if block.startswith("|")]
    assert first in said
    figures = re.findall(r'(?:src|srcset)="(leaderboards/published/[^"]+)"', said)
    assert len(figures) == 2 and all((root / figure).is_file() for figure in figures)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Pages and records of a small run of the digits, and a page from before there were records."""
    folder = tmp_path_factory.mktemp("digits")
    store = Store(None, folder / "results", "digits")
    options = {"stream": "digits", "model": "mlp", "megabatches": 2, "epochs": 1}
    for strategy in ("dense", "static-random"):
        config = resolve({**options, "strategy": strategy}, profile="demo")
        run(prepare(config, data_root=folder, cache=folder), store=store, profile="demo")
    export(store.uri, folder / "published" / "records")
    publish([store.uri], folder / "published", guide=GUIDE, figures=True)
    return folder


def copied(digits, tmp_path):
    """The published files, to be spoilt."""
    for path in (digits / "published").rglob("*"):
        target = tmp_path / "published" / path.relative_to(digits / "published")
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            target.write_bytes(path.read_bytes())
    return tmp_path / "published"


@pytest.mark.slow
def test_records_of_a_real_run_hold_nothing_of_the_machine(digits):
    written = [path.read_text() for path in (digits / "published" / "records").rglob("*.json")]
    assert len(written) == 3 and max(map(len, written)) < 20_000
    for name in (str(digits), "/tmp", "/home", "file:", '"process"', "heartbeat", "artifact"):
        assert not [text for text in written if name in text], name


@pytest.mark.slow
def test_flaws_of_published_pages_are_found(digits, tmp_path):
    def found(spoil=Path.exists):
        place = copied(digits, tmp_path / str(len(list(tmp_path.iterdir()))))
        spoil(place)
        return flaws(place, place / "scratch")

    source = digits / "published"
    [page] = [path.name for path in source.glob("digits*.md")]
    records = sorted(one.relative_to(source) for one in source.glob("records/*/*.json"))
    other_figures = [f"not what the records give: {page}"]

    def change_a_digit(place):
        record = json.loads((place / records[0]).read_text())
        record["metrics"]["anytime/cer_rate"]["last"] += 0.1
        (place / records[0]).write_text(json.dumps(record))

    def damage(place):
        (place / records[0]).write_text("{")

    figure = min(one.relative_to(source) for one in source.glob("digits*/*.svg"))
    assert found() == []
    assert found(lambda place: (place / figure).unlink()) == other_figures
    assert found(lambda place: (place / figure).with_name("other.svg").write_text("<svg/>")) == other_figures
    assert found(lambda place: (place / page).write_text("# Better figures\n")) == other_figures
    assert found(change_a_digit) == other_figures
    assert found(lambda place: (place / records[0]).unlink()) == other_figures
    assert {*other_figures} < {*found(damage)} and any("damaged" in line for line in found(damage))
    assert found(lambda place: (place / "old.md").write_text("# An old page\n")) == ["no records: old.md"]
    alone = f"figures without a page: {page.removesuffix('.md')}"
    assert found(lambda place: (place / page).unlink()) == [alone, f"records without a page: {page}"]
    assert found(lambda place: (place / "records" / "glossary.json").unlink())
