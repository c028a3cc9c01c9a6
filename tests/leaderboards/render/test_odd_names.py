"""Names from outside are shown as they are: never markdown, HTML, an instruction to a terminal or a path."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from odd_runs import ODD, records_of
from soak import cases

from leaderboards.errors import BoardError
from leaderboards.numbers.boards import boards
from leaderboards.numbers.contrast import contrasts
from leaderboards.numbers.names import contrast_name, page_name, variant_name
from leaderboards.numbers.report import report
from leaderboards.publish import publish
from leaderboards.render.board_page import board_page
from leaderboards.render.contrast_page import contrast_page
from leaderboards.render.index_page import index_page
from leaderboards.render.markup import escape, pipe
from leaderboards.render.terminal import board_head
from leaderboards.text import LONGEST_SLUG, printable, slug

reader = MarkdownIt("commonmark").enable(["table", "strikethrough"])

texts = st.one_of(
    st.sampled_from(ODD),
    st.text(st.sampled_from("ab 1\\`*_|#<>[]()!&;:~$+-.=\n\x1b/@\"'"), max_size=30),
    st.text(max_size=30),
)


def texts_of(tokens):
    """The texts of all inline parts of a page, which are nothing but text."""
    inline = [token for token in tokens if token.type == "inline"]
    assert {child.type for token in inline for child in token.children} <= {"text", "text_special"}
    return ["".join(child.content for child in token.children) for token in inline]


@cases(120)
@given(texts)
@example("[")
@example("a\\")
def test_a_reader_of_markdown_sees_the_text_and_nothing_else(text):
    shown = printable(text).strip()
    heading = reader.parse(f"# {escape(text)}")
    assert [token.type for token in heading] == ["heading_open", "inline", "heading_close"]
    assert texts_of(heading) == [shown]
    table = texts_of(reader.parse(pipe([[escape(text), escape(text)]], ["a", escape(text)])))
    assert table == ["a", shown, shown, shown]
    item = reader.parse(f"- Hardware: {escape(text)}.")
    assert [token.type for token in item][2:5] == ["paragraph_open", "inline", "paragraph_close"] and len(item) == 7
    assert texts_of(item) == [f"Hardware: {printable(text)}."]


@pytest.mark.parametrize(
    "text",
    [
        "APP (snip, tau 4.5, not nested, score_fraction 0.2)",
        "tiny_restricted_imagenet_fewshot",
        "imagefolder (cifar10-jpeg)",
        "-0.0157 ± 0.1235",
        "[0.4, 0.8]",
        "-",
        "Intel(R) Xeon(R) CPU @ 2.20GHz",
        "2.9.0+cpu",
        "Hunde & Katzen, 犬",
    ],
)
def test_ordinary_names_are_written_as_they_are(text):
    assert escape(text) == printable(text) == text


@pytest.mark.parametrize("address", ["http://a.b", "https://a.b", "ftp://a.b", "www.a.b", "a@b.c", "HTTP://a.b"])
def test_bare_addresses_do_not_become_links(address):
    """GitHub makes links of them where they stand as they are."""
    assert escape(address) != address and texts_of(reader.parse(escape(address))) == [address]


@cases(120)
@given(texts)
def test_what_is_printed_is_one_line_of_text(text):
    shown = printable(text)
    assert len(shown.splitlines()) <= 1 and not re.search(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", shown)
    shown.encode()
    assert printable(shown) == shown
    assert str(BoardError(text)) == shown


@cases(100)
@given(st.one_of(texts, st.text(min_size=200, max_size=400)))
def test_names_of_files_stay_in_their_folder_and_are_bounded(text):
    assert re.fullmatch(r"[a-z0-9_-]*", slug(text)) and len(slug(text)) <= LONGEST_SLUG
    for name in (page_name(text, "real", "f", {"model": text}), contrast_name(text)):
        assert re.fullmatch(r"[a-z0-9_-]+\.md", name) and len(name) < 150


def test_different_boards_and_fields_have_different_files():
    assert page_name("a", "real", "f", {"epochs": 1, "x": 1}) != page_name("a", "real", "f", {"epochs": 1, "x": 2})
    assert len({contrast_name(field) for field in ("a b", "a-b", "a/b", "A-b", "x" * 200, "x" * 201)}) == 6
    assert contrast_name("precision") == "contrast-precision.md"
    assert page_name("imagefolder (cifar10-jpeg)", "real", "f", {"megabatches": 10}).startswith(
        "imagefolder-cifar10-jpeg-real-b10-enone-"
    )


def test_odd_values_of_settings_have_names_too():
    odd = {"a": [1, "<b>"], "c": {"x": "y", "z": None}, "d": 10**400, "e": float("nan")}
    name = variant_name({"strategy": "s", **odd})
    assert name == f"s (a [1, '<b>'], x y, z None, d {10**400}, e nan)"


def pages_of(name):
    records = records_of(name)
    reports = [report(board) for board in boards(records)]
    pages = [board_page(one) for one in reports]
    pages += [index_page(reports, "precision"), contrast_page(contrasts(records, "precision"), "precision")]
    return reports, pages


def shape(page):
    """What a page is made of, without its texts."""
    tokens = reader.parse(page)
    inner = [child.type for token in tokens for child in token.children or ()]
    return [token.type for token in tokens], [kind for kind in inner if kind not in ("text", "text_special")]


EVEN = sorted(map(shape, pages_of("even")[1]))


@cases(15, each=5)
@given(texts.filter(lambda name: name.strip() and name != "fp32" and "\udcff" not in name))
@example("<img src=x onerror=alert(1)>")
@example("\n\n## a | b\n\n[c](d)")
def test_names_change_no_page_but_for_its_texts(name):
    reports, pages = pages_of(name)
    assert sorted(map(shape, pages)) == EVEN
    for page in pages:
        page.encode()
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", page)
    links = [t.attrs["href"] for token in reader.parse(pages[2]) for t in token.children or () if t.type == "link_open"]
    assert links == ["contrast-precision.md", *(one.board.file_name for one in reports)]
    for head in map(board_head, reports):
        assert len(head.splitlines()) == 6 and "".join(head.split("\n")) == printable("".join(head.split("\n")))


def test_pages_of_odd_names_lie_in_their_folder(tmp_path, monkeypatch):
    odd = "../../<b>a|b</b>\n\x1b[2J" + "x" * 300
    monkeypatch.setattr("leaderboards.numbers.reported.collect", lambda *_, **__: records_of(odd))
    publish(["any"], tmp_path / "out" / "boards", contrast="precision")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["boards"]
    names = sorted(path.name for path in (tmp_path / "out" / "boards").iterdir())
    assert len(names) == 4 and all(
        re.fullmatch(r"README\.md|(b-a-b-b-2jxxx|contrast-)[a-z0-9-]+\.md", n) for n in names
    )


def test_an_odd_field_is_no_code():
    page = contrast_page(contrasts(records_of("even"), "precision"), "a`<b>")
    assert page.startswith("# Contrast: a\\`&lt;b&gt;\n\nRuns that differ in a\\`&lt;b&gt; alone")
