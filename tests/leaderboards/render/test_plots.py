"""Figures of a board."""

from __future__ import annotations

import math
import re
import warnings
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import style
from mlflow.entities import Metric

from leaderboards.numbers.curves import ACCURACY, ERRORS
from leaderboards.numbers.fronts import LOSS
from leaderboards.numbers.report import DRAWN
from leaderboards.publish import publish
from leaderboards.render.canvas import COLOURS, FONTS
from leaderboards.render.pictures import every_path, path_of, pictures
from leaderboards.render.plots import APART, draw, spread
from leaderboards.text import printable

SVG = "{http://www.w3.org/2000/svg}"

PARTS = {"svg", "metadata", "defs", "style", "g", "path", "use", "text", "clipPath", "rect"}
"""Elements that figures are made of: none that runs or fetches anything."""


def rows(*names, seeds=2):
    """A board on which every figure has something to show."""
    found = {}
    for place, name in enumerate(names):
        reach = 0.9 - 0.05 * place
        found[name] = {
            ACCURACY: [[reach - 0.2 + 0.01 * seed, reach - 0.1, reach] for seed in range(seeds)],
            ERRORS: [[10.0 + place, 5.0 + seed, 3.0] for seed in range(seeds)],
            "gap/clean": [[0.1, 0.05, 0.02 * seed] for seed in range(seeds)],
            "size/density": [[0.9, 0.5, 0.1 * (place + 1)] for _ in range(seeds)],
            LOSS: [0.2 + 0.02 * place + 0.001 * seed for seed in range(seeds)],
            "size/bytes_bitmask": [1000.0 / (place + 1)] * seeds,
        }
    return found


def texts(svg):
    return ["".join(one.itertext()) for one in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_each_figure_is_drawn_in_both_schemes_and_twice_the_same(reported):
    found = reported(rows("dense", "APP", "OSP"))
    drawn = draw(found)
    assert [one.name for one in pictures(found)] == ["accuracy", "paid", "gap", "density", "bytes"]
    assert set(drawn) <= set(every_path(found.board.file_name)) and len(drawn) == 10
    assert draw(found) == drawn
    for path, svg in drawn.items():
        assert {"dense", "APP", "OSP"} <= set(texts(svg)), path
        own, other = COLOURS["dark" if "dark" in path else "light"], COLOURS["light" if "dark" in path else "dark"]
        used = set(re.findall('#[0-9a-f]{6}(?=[;"])', svg))
        assert own.ink in used and used <= set(own.all) | {"#000000"} and not used & set(other.all) - set(own.all)


def test_a_scatter_names_the_baseline_and_the_best_of_the_front(reported):
    """Though other figures show other rows."""
    found = rows("dense", *(f"r{number:02}" for number in range(14)))
    for name, metrics in found.items():
        metrics["size/bytes_bitmask"] = [10.0 if name == "r13" else 500.0 if name == "r12" else 1000.0] * 2
    svg = draw(reported(found))[path_of(reported(found).board.file_name, "bytes", "light")]
    assert {one for one in texts(svg) if one in found} == {"dense", "r12", "r13"}


def test_what_a_user_has_set_for_figures_of_his_own_changes_nothing(reported):
    found = reported(rows("dense", "APP"))
    before = draw(found)
    with style.context("dark_background"):
        assert draw(found) == before


def test_figures_hold_nothing_of_the_day_or_the_machine(reported):
    for svg in draw(reported(rows("dense", "APP"))).values():
        assert "date" not in svg and "creator" not in svg
        assert FONTS[0] in svg and "glyph" not in svg


@pytest.mark.parametrize(
    "name",
    [
        "<script>alert(1)</script> & ]]> -->",
        "$\\frac{a}{$ $x^2$ \\",
        "a\n\x1b[2J\u202e\udcff",
        "stroke: #1166ff; fill: #1f2328",
        "犬 Ω ̈",
        "x" * 500,
    ],
)
def test_names_from_outside_are_text_and_nothing_else(reported, name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = draw(reported(rows("dense", name)))
    for svg in drawn.values():
        root = ElementTree.fromstring(svg)
        assert {one.tag.removeprefix(SVG) for one in root.iter() if one.tag.startswith(SVG)} <= PARTS
        shown = [text for text in texts(svg) if text[:5] == printable(name)[:5]]
        assert shown and all(len(text) <= 34 for text in shown)
        assert not re.search(r"[\x00-\x09\x0b-\x1f]", svg) and not re.search(r"href=\"(?!#)", svg)


def test_a_figure_has_so_many_lines_at_most(reported):
    svg = next(iter(draw(reported(rows("dense", *(f"s{number:02}" for number in range(12))))).values()))
    assert len([text for text in texts(svg) if re.fullmatch(r"dense|s\d\d", text)]) == DRAWN


@pytest.mark.parametrize("odd", [-math.inf, 1e308, 1e23, -1.0, 5e-324])
def test_odd_numbers_spoil_no_figure(reported, odd):
    """Of one row, and of all."""
    for spoilt in (["APP"], ["dense", "APP", "OSP"]):
        board = rows("dense", "APP", "OSP")
        for name in spoilt:
            for metric, values in board[name].items():
                board[name][metric] = [[odd, *value[1:]] if isinstance(value, list) else odd for value in values]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            drawn = draw(reported(board))
        for svg in drawn.values():
            ElementTree.fromstring(svg)
            assert not re.search(r"\b(nan|inf)\b", svg)


def test_a_density_of_zero_is_below_the_scale_and_its_name_at_the_foot(reported):
    board = rows("dense", "APP")
    board["APP"]["size/density"] = [[0.5, 0.0, 0.0]] * 2
    found = reported(board)
    root = ElementTree.fromstring(draw(found)[path_of(found.board.file_name, "density", "light")])
    height = float(root.get("viewBox").split()[3])
    numbers = [float(y) for one in root.iter(f"{SVG}path") for y in re.findall(r"[ML] \S+ (\S+)", one.get("d"))]
    assert max(numbers) <= height and min(numbers) >= -height
    places = {"".join(one.itertext()): float(one.get("y")) for one in root.iter(f"{SVG}text")}
    assert 0 < places["dense"] < places["APP"] < height


def test_a_board_without_series_has_no_curves(reported):
    found = reported({"dense": {LOSS: [0.1]}, "APP": {LOSS: [0.2]}})
    assert draw(found) == {}


@given(st.lists(st.floats(-0.5, 1.5), max_size=9).map(sorted))
def test_names_beside_lines_keep_their_order_and_distance(heights):
    places = spread(heights, APART)
    assert len(places) == len(heights)
    assert all(-1e-9 <= place <= 1 + 1e-9 for place in places)
    assert all(after - before >= APART - 1e-9 for before, after in pairwise(places))


def test_names_that_are_apart_stay_where_they_are():
    assert spread([0.1, 0.5, 0.9], 0.1) == [0.1, 0.5, 0.9]
    assert spread([0.5, 0.5], 0.1) == pytest.approx([0.45, 0.55])
    assert spread([0.5, 0.52, 0.9], 0.1) == pytest.approx([0.46, 0.56, 0.9])
    assert spread([1.0, 1.0], 0.1) == pytest.approx([0.9, 1.0])


def test_figures_lie_beside_their_page_and_go_with_it(store, tmp_path):
    for strategy in ("dense", "APP"):
        run_id = store.add(strategy, anytime__cer_rate=0.2)
        store.client.log_batch(run_id, [Metric("test/accuracy", 0.1 * step, step, step) for step in (1, 2, 3)])
    out = tmp_path / "out"
    [one] = publish([store.uri], out, figures=True)
    page = (out / one.board.file_name).read_text()
    linked = set(re.findall(r'(?:srcset|src)="([^"]+)"', page))
    assert linked and all(ElementTree.parse(out / path).getroot().tag == f"{SVG}svg" for path in linked)
    (out / "toy" / "mine.txt").parent.mkdir()
    publish([store.uri], out)
    assert sorted(path.name for path in out.iterdir()) == sorted(["README.md", one.board.file_name, "toy"])
    assert "<picture" not in (out / one.board.file_name).read_text()
