"""The HTML page: complete in itself, nothing in it but text of stores, and, in a real Chromium, what a reader does."""

from __future__ import annotations

import json
import math
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import chromium
import pytest
from click.testing import CliRunner
from odd_runs import ODD, records_of

from leaderboards.__main__ import main
from leaderboards.numbers.boards import boards
from leaderboards.numbers.report import report
from leaderboards.numbers.reported import reported
from leaderboards.render.page import document as drawn
from leaderboards.render.page.document import as_script, document
from leaderboards.render.page.payload import MOST_COMPARISONS, MOST_PAIRED, _most_paired

LARGEST = 3 * 10**6
"""Bytes of a page of 2,000 runs."""


class Elements(HTMLParser):
    """Tags with their attributes, the texts of scripts, and other text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.scripts, self.text, self.inside = [], [], [], None
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        self.inside = None

    def handle_data(self, data):
        if self.inside == "script":
            self.scripts[-1] += data
        else:
            self.text.append(data)


@pytest.fixture(scope="module")
def found(real_records):
    return reported([f"records:{real_records}"])


@pytest.fixture(scope="module")
def page(found):
    return document(found.reports)


def payload_of(page):
    return json.loads(Elements(page).scripts[0])


def test_the_page_loads_nothing(page):
    elements = Elements(page)
    for tag, attributes in elements.tags:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base", "form", "video", "audio"), tag
        assert not {"src", "srcset", "href", "action", "data", "poster"} & attributes.keys() - {"href"}, attributes
        assert attributes.get("href", "#").startswith("#")
        assert not [name for name in attributes if name.startswith("on")]
    assert not re.search(r"@import|url\(", re.search(r"<style>(.*?)</style>", page, re.S)[1])
    [policy] = [one["content"] for tag, one in elements.tags if one.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'" and "connect-src" not in rules
    assert re.fullmatch(r"'sha256-[^']+' 'sha256-[^']+'", rules["script-src"])


def test_the_page_holds_the_numbers_of_the_reports(found, page):
    said = payload_of(page)
    assert len(page.encode()) < LARGEST / 2 and len(said["boards"]) == len(found.reports)
    for board, own in zip(said["boards"], found.reports, strict=True):
        assert [row["name"] for row in board["rows"]] == [row.row.name for row in own.rows]
        assert sum(len(row["runs"]) for row in board["rows"]) == len(own.board.runs)
        for row, other in zip(board["rows"], own.rows, strict=True):
            for cell, column in zip(row["cells"], own.columns, strict=True):
                estimate = other.cells[column.key].estimate
                assert cell[0] == pytest.approx(estimate.mean, rel=1e-5)
                assert cell[2] == column.form.format(estimate.mean)
            assert row["curves"].keys() >= {"test/accuracy", "test/errors"}
            for run in row["runs"]:
                assert "--strategy" in board["commands"][run[6]] and board["provenances"][run[5]]
    assert document(found.reports) == page


def test_few_rows_are_compared_with_each_other_where_there_are_many(found):
    few = found.reports[0]
    many = replace(few, rows=[*few.rows] * 30)
    assert _most_paired([few]) == _most_paired([many]) == MOST_PAIRED and _most_paired([many] * 300) == 5
    for count in (4, 10, 40):
        most = _most_paired([many] * count)
        assert math.comb(most, 2) * 4 * count <= MOST_COMPARISONS < math.comb(most + 1, 2) * 4 * count


@pytest.mark.parametrize("text", ["</script><script>alert(1)</script>", "<!--<script>", "\u2028\u2029", "&lt;", *ODD])
def test_json_in_a_script_ends_no_script(text):
    script = as_script({"a": text, text: 1})
    assert not set(script) & set("<>&\u2028\u2029") and json.loads(script) == {"a": text, text: 1}


def test_names_from_outside_are_data_alone(monkeypatch):
    monkeypatch.setattr(drawn, "_libraries", lambda: "")
    shapes = set()
    for name in (
        "even",
        *(name for name in ODD if "\udcff" not in name),
        "\u2028",
        "</script><script>alert(1)</script>",
    ):
        odd = document([report(board) for board in boards(records_of(name))])
        elements = Elements(odd)
        shapes.add(json.dumps([elements.tags, elements.text]))
        assert len(elements.scripts) == 4 and not re.search(
            r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", odd
        )
        assert {board["label"] for board in json.loads(elements.scripts[0])["boards"]} != {""}
    assert len(shapes) == 1


def test_without_what_draws_it_the_page_is_refused_in_one_line(tmp_path, monkeypatch, real_records):
    monkeypatch.setitem(sys.modules, "altair", None)
    for name in [name for name in sys.modules if name.startswith("leaderboards.render.page.")]:
        monkeypatch.delitem(sys.modules, name)
    options = ["--tracking-uri", f"records:{real_records}", "--html", str(tmp_path / "page.html")]
    result = CliRunner().invoke(main, options)
    assert result.exit_code == 2 and result.stderr == (
        "Error: the page needs altair: pip install 'anytime-bench[page]'\n"
    )
    assert not list(tmp_path.iterdir())


def test_the_command_writes_the_page_alone(tmp_path, monkeypatch, page, real_records):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["--tracking-uri", f"records:{real_records}", "--html", "new/page.html"])
    assert (result.exit_code, result.output) == (0, "Page: new/page.html\n")
    assert [str(one) for one in Path().rglob("*") if one.is_file()] == ["new/page.html"]
    assert Path("new/page.html").read_text() == page
    result = CliRunner().invoke(main, ["--tracking-uri", f"records:{real_records}", "--html", "new"])
    assert result.exit_code == 2 and result.stderr.count("\n") == 1 and "is a folder" in result.stderr


needs_chromium = pytest.mark.skipif(chromium.installed() is None, reason="no Chromium is installed")


@pytest.fixture(scope="module")
def reader(tmp_path_factory, page):
    """The published page, open in a window."""
    folder = tmp_path_factory.mktemp("chromium")
    (folder / "page.html").write_text(page)
    with chromium.Chromium(folder / "profile") as found:
        found.open(folder / "page.html")
        yield found
        assert found.complaints == []
        assert {address.partition(":")[0] for address in found.requests} <= {"file", "data", "blob"}
        assert len([address for address in found.requests if address.startswith("file")]) == 1


NAMES = "#table tbody th.name button"


@needs_chromium
def test_the_table_is_sorted_by_clicks_and_keys(reader):
    first = reader.texts(NAMES)
    assert first[0] == "dense" and reader.texts('#table th[aria-sort="ascending"]')[0].startswith("#")
    by_accuracy = '#table [data-sort="accuracy"]'
    reader.click(by_accuracy)
    shown = [float(text.split()[0]) for text in reader.texts("#table tbody td:nth-child(6)")]
    assert shown == sorted(shown, reverse=True) and len(shown) == len(first)
    assert reader.run("document.querySelector('[data-sort=accuracy]').closest('th').ariaSort") == "descending"
    # The button that was clicked has the focus still: the keyboard turns the order round.
    reader.key("Enter", 13, "\r")
    again = [float(text.split()[0]) for text in reader.texts("#table tbody td:nth-child(6)")]
    assert again == sorted(again) and "ascending" in reader.texts("#status")[0]
    reader.click('#table [data-sort="rank"]')
    assert reader.texts(NAMES) == first


@needs_chromium
def test_the_table_is_filtered(reader):
    everything = reader.texts(NAMES)
    reader.click("#filter")
    reader.write("app 0.05")
    shown = reader.texts(NAMES)
    assert shown == [name for name in everything if "APP" in name] and shown
    assert reader.texts("#count") == [f"{len(shown)} of {len(everything)} rows"]
    reader.run("document.getElementById('filter').select()")
    reader.write("dynamic masks")
    assert reader.texts(NAMES) == [name for name in everything if "RigL" in name]
    reader.write(" nothing like this")
    assert reader.texts(NAMES) == [] and "No row fits." in reader.texts("#table")[0]
    reader.run(
        "(() => { const one = document.getElementById('filter'); one.value = ''; "
        "one.dispatchEvent(new Event('input')); })()"
    )
    assert reader.texts(NAMES) == everything


@needs_chromium
def test_two_strategies_are_picked_and_compared(reader):
    reader.drawn(lambda: reader.click("#clear"))
    assert reader.run("document.getElementById('compare-card').hidden")
    for number in (0, 2):
        reader.drawn(lambda number=number: reader.click(f"#pick-{number}"))
    names = [reader.texts(NAMES)[number] for number in (0, 2)]
    assert reader.texts("#picks .name") == names and reader.texts("#compare tbody th") == names
    assert len(reader.texts("#compare .difference")) == 4 and "p " in reader.texts("#compare .small")[0]
    lines = "document.querySelectorAll('#curves .mark-line path').length"
    assert reader.run(lines) == 2 and reader.run("document.querySelectorAll('#dots .mark-symbol path').length") == 10
    # The difference is the other way round where the reference is the other one.
    before = float(reader.texts("#compare .difference")[0].split()[1].replace("−", "-"))
    reader.run(
        "(() => { const one = document.getElementById('reference'); one.value = '2'; "
        "one.dispatchEvent(new Event('change')); })()"
    )
    after = float(reader.texts("#compare .difference")[0].split()[1].replace("−", "-"))
    assert before == -after != 0
    reader.hover("#curves svg", 0.6)
    reader.wait("!document.getElementById('tip').hidden")
    tip = reader.texts("#tip")[0]
    assert "megabatch" in tip and all(name in tip for name in names) and "±" in tip
    # A space on a box that has the focus.
    reader.run("document.getElementById('pick-3').focus()")
    reader.drawn(lambda: reader.key(" ", 32, " "))
    assert len(reader.texts("#picks .name")) == 3 and reader.run("document.activeElement.id") == "pick-3"


@needs_chromium
def test_a_strategy_shows_its_runs_and_the_command(reader):
    reader.click(f"{NAMES}[data-row='1']")
    assert reader.run("document.getElementById('detail').open")
    command = reader.texts("#command")[0]
    assert re.search(r"git checkout [0-9a-f]{40}\nOMP_NUM_THREADS=1 python -m benchmark.run .*--seed 0$", command)
    reader.click('#detail [data-run="3"]')
    assert reader.texts("#command")[0].endswith("--seed 3")
    words = reader.texts("#detail-body")[0].lower()
    assert "null" not in words and "undefined" not in words
    assert all(word in words for word in ("avx512", "torch", "strategy, version", "cer rate"))
    reader.key("Escape", 27)
    reader.wait("!document.getElementById('detail').open")


@needs_chromium
def test_phones_and_the_dark(reader, tmp_path):
    for width, dark in ((390, False), (390, True), (1280, True)):
        reader.drawn(lambda width=width, dark=dark: reader.resize(width, 844, dark=dark, mobile=width < 500))
        assert reader.run("document.documentElement.scrollWidth") <= width
        back, ink = (reader.run(f"getComputedStyle(document.body).{name}") for name in ("backgroundColor", "color"))
        brightness = [sum(map(int, re.findall(r"\d+", one)[:3])) for one in (back, ink)]
        assert (brightness[0] < brightness[1]) is dark
        reader.screenshot(tmp_path / f"{width}-{dark}.png")
        assert (tmp_path / f"{width}-{dark}.png").stat().st_size > 20_000
    smallest = (
        "Math.min(...[...document.querySelectorAll('main *')].map((one) => parseFloat(getComputedStyle(one).fontSize)))"
    )
    assert reader.run(smallest) >= 11


@needs_chromium
def test_hostile_names_run_nothing_in_a_browser(tmp_path):
    hostile = "<img src=x onerror=\"document.title='broken'\"></script><script>document.title='broken'</script>"
    place = tmp_path / "page.html"
    place.write_text(document([report(board) for board in boards(records_of(hostile))]))
    with chromium.Chromium(tmp_path / "profile") as reader:
        reader.open(place)
        reader.click(f"{NAMES}[data-row='0']")
        assert hostile in reader.texts("#label")[0] and "broken" not in reader.run("document.title").split("–")[1]
        assert reader.run("document.querySelectorAll('img').length") == 0
        assert reader.complaints == [] and {one.partition(":")[0] for one in reader.requests} == {"file"}
