"""The page of a board: what is shown, what is folded, and that it fits."""

from __future__ import annotations

import re

from markdown_it import MarkdownIt

from leaderboards.numbers.curves import ACCURACY
from leaderboards.numbers.fronts import LOSS
from leaderboards.render.board_page import AT_ONCE, MAIN, ONE_TABLE, board_page
from leaderboards.render.markup import bars
from leaderboards.render.pictures import every_path, pictures

NO_BREAK = "\u00a0"

BYTES, DENSE_BYTES, GAP = "size/bytes_bitmask", "size/dense_bytes_bitmask", "gap/clean"


def tables(page):
    """Tables of a page, each a list of rows of cells, without the line below the headings."""
    found = [block.splitlines() for block in page.split("\n\n") if block.startswith("|")]
    cells = [[[cell.strip() for cell in line.strip("|").split("|")] for line in lines] for lines in found]
    return [[row for number, row in enumerate(table) if number != 1] for table in cells]


def visible(page):
    return re.sub(r"<details>.*?</details>", "", page, flags=re.DOTALL)


def long_board():
    names = [
        "SWA",
        "third",
        "dense",
        "OSP",
        "static-random",
        "RigL",
        "EWC",
        *(f"more{number:02}" for number in range(19)),
    ]
    return {name: {LOSS: [0.1 + 0.01 * place, 0.101 + 0.01 * place]} for place, name in enumerate(names)}


def test_the_first_table_says_it_in_seven_columns(reported):
    sizes = {DENSE_BYTES: [1000.0] * 2, "size/mean_density": [0.5] * 2}
    page = board_page(
        reported(
            {
                "dense": {
                    LOSS: [0.2, 0.22],
                    ACCURACY: [[0.5, 0.6, 0.8]] * 2,
                    GAP: [0.02, 0.04],
                    BYTES: [1000.0] * 2,
                    **sizes,
                },
                "APP": {
                    **{LOSS: [0.3, 0.34], ACCURACY: [[0.4, 0.6, 0.7]] * 2, GAP: [0.01, 0.03], BYTES: [123.0] * 2},
                    **{"size/density": [0.05, 0.05], **sizes},
                },
            }
        )
    )
    headings, dense, app = tables(page)[0]
    assert len(headings) == 2 + len(MAIN) == 7
    assert headings == ["", "Strategy", "CER rate, %", "Final accuracy, %", "Gap (clean), %", "Density, %", "Bytes"]
    assert dense[:3] == ["1", "dense", f"**21.0{NO_BREAK}±{NO_BREAK}12.7**"]
    assert app[2:] == [
        f"**32.0{NO_BREAK}±{NO_BREAK}25.4**",
        "70.00 ▁▄▆",
        f"**+2.0{NO_BREAK}±{NO_BREAK}12.7**",
        f"50{NO_BREAK}→{NO_BREAK}5",
        f"**123{NO_BREAK}(12{NO_BREAK}%)**{NO_BREAK}◆",
    ]
    assert dense[3] == "**80.00** ▃▄█"
    assert "Lowest CER rate: **dense**, 21.0" in page and "Not told apart from it: APP." in page


def test_a_long_board_shows_the_first_of_each_group_and_folds_the_rest(reported):
    found = reported(long_board())
    assert len(found.rows) == ONE_TABLE + 1
    page = board_page(found)
    shown = [row[1] for row in tables(visible(page))[0][1:]]
    assert shown == [
        "Dense:<br>SWA",
        "Others:<br>third",
        "Dense:<br>dense",
        "Fixed masks:<br>OSP",
        "Dynamic masks:<br>RigL",
        "Avalanche's:<br>EWC",
    ]
    folded = page.split("<summary>Others: all 20 rows</summary>")[1].split("</details>")[0]
    assert [row[1] for row in tables(folded)[0][1:]] == ["third", *(f"more{number:02}" for number in range(19))]
    assert [row[0] for row in tables(folded)[0][1:3]] == ["2", "8"], "ranks are those of the board"
    assert len(tables(visible(page))[1]) == 6, "differences of the shown rows but dense"


def test_a_short_board_shows_every_row_without_groups(reported):
    rows = long_board()
    del rows["more00"]
    page = board_page(reported(rows))
    assert len(tables(visible(page))[0]) == 1 + ONE_TABLE and "<br>" not in page and "all 20 rows" not in page


def test_what_folds_is_markdown_inside_and_closed(reported):
    page = board_page(reported(long_board()))
    assert page.count("<details>") == page.count("</details>") > 8
    for opened in page.split("<details>\n")[1:]:
        assert re.match(r"<summary>[^<\n]+</summary>\n\n\S", opened) and "\n\n</details>" in opened
    kinds = [token.type for token in MarkdownIt("commonmark", {"html": True}).enable("table").parse(page)]
    assert kinds.count("table_open") == len(tables(page))


def test_no_table_has_more_columns_than_fit(reported):
    many = {f"made/up_{number:02}": [1.0, 2.0] for number in range(30)}
    page = board_page(reported({"dense": many, "APP": many}))
    widest = max(len(table[0]) for table in tables(page))
    assert widest <= 7 and sum("made/up" in cell for table in tables(page) for cell in table[0]) >= 30
    assert AT_ONCE + 2 <= 7


def test_figures_are_shown_where_they_lie_in_both_schemes(reported):
    found = reported({"dense": {ACCURACY: [[0.5, 0.6]], LOSS: [0.4]}, "APP": {ACCURACY: [[0.4, 0.6]], LOSS: [0.5]}})
    page = board_page(found, figures=True)
    linked = re.findall(r'(?:srcset|src)="([^"]+)"', page)
    assert len(linked) == 2 * len(pictures(found)) and set(linked) <= set(every_path(found.board.file_name))
    assert "<picture" not in board_page(found) and re.search(r'alt="[^"]{10,}"', page)


def test_the_guide_is_linked_if_there_is_one(reported):
    found = reported({"dense": {LOSS: [0.4]}})
    assert "[How to read this page](a/b.md)" in board_page(found, guide="a/b.md") and "How to read" not in board_page(
        found
    )


def test_the_headline_claims_nothing_of_rows_that_cannot_be_tested(reported):
    alone = {"dense": {LOSS: [0.1, 0.2, 0.3]}, "far": {LOSS: [0.5, 0.6, 0.7]}}
    assert "Every other row is told apart from it.\n" in board_page(reported(alone))
    page = board_page(reported({**alone, "once": {LOSS: [0.4]}}))
    assert "Every other row that can be tested is told apart from it. Rows that share too few seeds" in page


def test_with_one_seed_nothing_is_told_apart(reported):
    page = board_page(reported({"a": {LOSS: [0.1]}, "dense": {LOSS: [0.2]}}))
    assert "nothing can be told apart" in page and "±" not in tables(page)[0][1][2]


def test_equivalence_and_power_are_said_in_words(reported):
    wobble = [-0.002, -0.001, 0.0, 0.001, 0.002]
    page = board_page(
        reported(
            {
                "dense": {LOSS: [0.2] * 5},
                "same": {LOSS: [0.2 + one for one in wobble]},
                "near": {LOSS: [0.205 + one for one in wobble]},
                "far": {LOSS: [0.25 + one for one in wobble]},
                "loose": {LOSS: [0.21 + 30 * one for one in wobble]},
            }
        )
    )
    folded = page.split("equivalence and power</summary>")[1].split("</details>")[0]
    said = {row[0]: row[2:] for row in tables(folded)[1][1:]}
    assert said["same"][1:] == ["3", "less than 1 point apart"]
    assert said["near"][2] == "worse, less than 1 point apart" and said["far"] == ["1", "3", "worse"]
    assert said["loose"][1:] == ["179", "nothing yet"]


def test_a_row_that_is_no_number_has_no_bars_and_spoils_no_others(reported):
    odd = {"a": {ACCURACY: [[0.1, 0.5]]}, "b": {ACCURACY: [[float("inf"), 0.5]]}, "c": {ACCURACY: [[0.2, 0.9]]}}
    cells = {row[1]: row[2] for row in tables(board_page(reported(odd)))[0][1:]}
    assert cells == {"a": "50.00 ▁▅", "b": "50.00", "c": "**90.00** ▂█"}


def test_bars_go_from_the_lowest_to_the_highest_and_end_with_the_last():
    assert bars([0.0, 0.5, 1.0], 0.0, 1.0) == "▁▅█"
    many = bars([number / 119 for number in range(120)], 0.0, 1.0)
    assert len(many) == 10 and many[-1] == "█" and many == "".join(sorted(many))
    assert bars([1.0], 1.0, 1.0) == "" and bars([float("nan")], 0.0, 1.0) == ""
    assert bars([1e308], -1e308, 1e308) == "" and bars([1e308], 0.0, 1e308) == "█"
