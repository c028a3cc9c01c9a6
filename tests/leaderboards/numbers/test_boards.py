from __future__ import annotations

import subprocess
import sys

import pytest

from leaderboards.errors import BoardError
from leaderboards.numbers.boards import boards
from leaderboards.numbers.names import variant_name
from leaderboards.numbers.report import report
from leaderboards.publish import publish
from leaderboards.render.board_page import board_page
from leaderboards.render.index_page import index_page
from leaderboards.render.markup import escape
from leaderboards.render.terminal import board_head
from leaderboards.sources.collect import collect


def rows(board):
    return [row.name for row in board.rows]


def test_only_finished_runs_enter(store):
    store.add(seed=0, anytime__cer_rate=0.3)
    for status in ("FAILED", "KILLED", "RUNNING"):
        store.add(seed=1, status=status, anytime__cer_rate=0.0)
    store.client.create_run(store.experiment)
    assert list(collect(store.uri).runs.seed) == [0]


def test_deleted_and_foreign_runs_are_passed_over(store):
    store.client.delete_run(store.add(anytime__cer_rate=0.1))
    foreign = store.client.create_run(store.experiment).info.run_id
    store.client.set_terminated(foreign, "FINISHED")
    assert collect(store.uri).runs.empty


def test_repeating_a_run_is_not_another_seed(store):
    store.add(seed=0, anytime__cer_rate=0.9)
    store.add(seed=0, anytime__cer_rate=0.4)
    [board] = boards(collect(store.uri))
    assert board.rows[0].estimates["cer_rate"].n == 1
    assert board.rows[0].estimates["cer_rate"].mean == 0.4


def test_images_and_protocol_part_the_boards(store):
    store.add()
    store.add(data="synthetic")
    store.add(fingerprint="e" * 16)
    store.add(protocol={"epochs": 3})
    store.add(strategy="APP")
    found = boards(collect(store.uri))
    assert sorted(len(board.rows) for board in found) == [1, 1, 1, 2]
    assert len({board.file_name for board in found}) == 4


def test_options_part_the_rows(store):
    for score in ("snip", "magnitude"):
        store.add(strategy={"strategy": "APP", "strategy_version": 1, "score": score})
    [board] = boards(collect(store.uri))
    assert sorted(rows(board)) == ["APP (magnitude)", "APP (snip)"]


@pytest.mark.parametrize("bumped", ["strategy_version", "score_version"])
def test_versions_never_meet_on_a_board_and_the_newest_stays(store, bumped):
    old = {"strategy": "APP", "score": "snip", "strategy_version": 1, "score_version": 1}
    store.add(strategy={**old, bumped: 2}, seed=0, anytime__cer_rate=0.2)
    store.add(strategy=old, seed=0, anytime__cer_rate=0.1)
    store.add(strategy=old, seed=1, anytime__cer_rate=0.1)
    store.add(strategy={**old, "score": "magnitude", "strategy_version": 2 if bumped == "strategy_version" else 1})
    store.add(strategy="dense")
    [board] = boards(collect(store.uri))
    assert sorted(rows(board)) == ["APP (magnitude)", "APP (snip)", "dense"]
    assert board.outdated == 2 and len(board.runs) == 3
    page = board_page(report(board))
    assert "Left out: 2 runs of earlier versions" in page and "0.2000" in page and "0.1000" not in page
    assert f"{bumped.removesuffix('_version')} v2" in folded(page, "Variants")


def test_rows_are_sorted_best_first_by_any_column(store):
    store.add("a", anytime__cer_rate=0.2, test__accuracy=0.7)
    store.add("b", anytime__cer_rate=0.1, test__accuracy=0.6)
    store.add("c")
    runs = collect(store.uri)
    assert rows(boards(runs)[0]) == ["b", "a", "c"]
    assert rows(boards(runs, sort="accuracy")[0]) == ["a", "b", "c"]
    assert rows(boards(runs, sort="accuracy", reverse=True)[0]) == ["b", "a", "c"]
    with pytest.raises(BoardError, match="no column"):
        boards(runs, sort="beauty")


def test_comparing_across_a_protocol_field(store):
    store.add(protocol={"replay": "full"}, anytime__cer_rate=0.1)
    store.add(protocol={"replay": "none"}, anytime__cer_rate=0.2)
    runs = collect(store.uri)
    assert len(boards(runs)) == 2
    [board] = boards(runs, across=["replay"])
    assert rows(board) == ["dense (replay full)", "dense (replay none)"]
    with pytest.raises(BoardError, match="no protocol field"):
        boards(runs, across=["weather"])


def test_a_field_that_came_later_has_the_value_that_earlier_runs_had(store):
    store.add(seed=0, anytime__cer_rate=0.1)
    store.add(seed=1, protocol={"precision": "fp32"}, anytime__cer_rate=0.2)
    store.add(seed=0, protocol={"precision": "bf16"}, anytime__cer_rate=0.3)
    runs = collect(store.uri)
    found = {board.protocol["precision"]: board.rows[0].by_seed("anytime/cer_rate") for board in boards(runs)}
    assert found == {"fp32": {0: 0.1, 1: 0.2}, "bf16": {0: 0.3}}
    [board] = boards(runs, across=["precision"])
    assert rows(board) == ["dense (precision fp32)", "dense (precision bf16)"]


def test_a_repeated_run_replaces_one_from_before_the_field(store):
    store.add(seed=0, anytime__cer_rate=0.1)
    store.add(seed=0, protocol={"precision": "fp32"}, anytime__cer_rate=0.2)
    [board] = boards(collect(store.uri))
    assert board.rows[0].by_seed("anytime/cer_rate") == {0: 0.2}


def test_page_shows_mean_interval_seeds_and_the_best(store):
    for seed, rate in enumerate((0.1, 0.2, 0.3)):
        store.add("dense", seed, anytime__cer_rate=rate + 0.05, test__accuracy=0.5)
        store.add("APP", seed, anytime__cer_rate=rate, test__accuracy=0.5)
    [board] = boards(collect(store.uri))
    page = board_page(report(board))
    # The margin is t(0.975, 2) * 0.1 / sqrt(3).
    assert cells_of(page, "1")[0][:3] == ["1", "APP", "**20.0\u00a0±\u00a024.8**"]
    assert cells_of(folded(page, "All columns"), "APP")[0][:3] == ["APP", "3", "**0.2000 ± 0.2484**"]
    assert "**0.5000" not in page and "**50.0" not in page, "equal means have no best"
    assert "**0.2500" not in page, "it loses the same with each seed"
    [cells] = cells_of(page.split("## Against dense")[1].split("<details>")[0], "APP")
    assert cells == ["APP", "**-5.00** (p\u00a0< .001)", "+0.00 (p\u00a01)"], "what none has is no column"
    assert "Real images." in page and "Synthetic" not in page


def test_synthetic_boards_say_so(store):
    store.add(data="synthetic")
    [board] = boards(collect(store.uri))
    assert "stand-in" in board_page(report(board)).split("\n\n")[1]


def test_bars_do_not_split_cells(store):
    store.add("a|b")
    [board] = boards(collect(store.uri))
    assert escape("a|b") == "a\\|b"
    for page in (board_page(report(board)), index_page([report(board)])):
        for table in [block for block in page.split("\n\n") if block.startswith("|")]:
            assert len({line.replace("\\|", "").count("|") for line in table.splitlines()}) == 1


def test_names_of_variants():
    variant = {"strategy": "APP", "score": "snip", "tau": 4.5, "nested": False, "strategy_version": 1}
    assert variant_name(variant) == "APP (snip, tau 4.5, not nested)"
    assert variant_name(variant, None, {**variant, "nested": True, "score": "force"}) == "APP (snip, not nested)"
    assert (
        variant_name({"strategy": "RigL", "every": 50, "layer_density": {"conv1": 0.5}}) == "RigL (every 50, conv1 0.5)"
    )
    assert variant_name(variant, {"replay": "none"}, variant) == "APP (replay none)"
    assert variant_name(variant, density=0.05) == "APP (snip, density 0.05, not nested)"
    assert variant_name({"strategy": "APP", "known_length": False}) == "APP (unknown length)"


def test_missing_stores_are_refused_and_not_created(tmp_path):
    with pytest.raises(BoardError, match="there is no store"):
        collect(f"sqlite:///{tmp_path / 'none.db'}")
    assert not list(tmp_path.iterdir())
    with pytest.raises(BoardError, match="no tracking server"):
        collect("http://127.0.0.1:9")


def test_the_command_writes_pages_and_index(store, tmp_path):
    store.add("dense", anytime__cer_rate=0.2)

    def command(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "leaderboards", *arguments], capture_output=True, text=True, cwd=tmp_path
        )

    done = command("--tracking-uri", store.uri, "--output", "out")
    assert done.returncode == 0, done.stderr
    index = (tmp_path / "out" / "README.md").read_text()
    [page] = [path for path in (tmp_path / "out").glob("*.md") if path.name != "README.md"]
    assert page.name in index
    wrong = command("--tracking-uri", store.uri, "--sort", "beauty")
    assert wrong.returncode == 2 and wrong.stderr.startswith("Error: ") and "Traceback" not in wrong.stderr
    unknown = command("--tracking-uri", store.uri, "--contrast", "weather", "--output", "other")
    assert unknown.returncode == 2 and unknown.stderr.startswith("Error: no protocol field 'weather'")
    assert len(unknown.stderr.splitlines()) == 1 and not (tmp_path / "other").exists()


def test_boards_of_several_stores_are_built_together(store, empty_store, tmp_path):
    other = tmp_path / "other.db"
    other.write_bytes(empty_store.read_bytes())
    store.add("dense", seed=0, anytime__cer_rate=0.2)
    type(store)(f"sqlite:///{other}").add("dense", seed=1, anytime__cer_rate=0.4)
    publish([store.uri, f"sqlite:///{other}"], tmp_path / "out")
    [page] = [path for path in (tmp_path / "out").glob("*.md") if path.name != "README.md"]
    assert "0.3000" in page.read_text() and "| dense" in page.read_text()


def test_every_run_is_listed(store):
    for seed, rate in enumerate((0.125, 0.25)):
        store.add("dense", seed, anytime__cer_rate=rate)
    [board] = boards(collect(store.uri))
    listed = folded(board_page(report(board)), "Every run")
    assert "0.1250" in listed and "0.2500" in listed


def test_the_index_tells_boards_apart(store):
    for wait in (1, 2):
        store.add(protocol={"wait": wait, "shots": None, "lr": 0.1})
    header, _, *lines = (
        index_page([report(board) for board in boards(collect(store.uri))]).split("\n\n")[-1].splitlines()
    )
    assert "Wait" in header and "Lr" not in header
    cells = [line.split("|")[2:-1] for line in lines if line]
    assert len(cells) == 2 and cells[0] != cells[1] and "None" not in "".join(lines)


def test_an_empty_store_makes_no_board(store, tmp_path):
    with pytest.raises(BoardError, match="no finished"):
        publish([store.uri], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def folded(page, summary):
    """What a page shows when that is opened."""
    return page.split(f"<summary>{summary}</summary>\n\n")[1].split("</details>")[0]


def cells_of(page, start):
    """Cells of the table rows of a page that begin with ``start``."""
    lines = [line for line in page.splitlines() if line.startswith(f"| {start}")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_each_run_names_its_commit_and_rows_of_several_commits_are_marked(store):
    one, other = "a" * 40, "b" * 40
    for seed, (commit, dirty) in enumerate([(one, "clean"), (other, "0123456789ab")]):
        store.add("APP", seed, tags={"commit": commit, "dirty": dirty}, anytime__cer_rate=0.1)
        store.add("dense", seed, tags={"commit": one, "dirty": "clean"}, anytime__cer_rate=0.2)
    [board] = boards(collect(store.uri))
    page = board_page(report(board))
    results, runs = page.split("## Against dense")[0], folded(page, "Every run")
    assert [cells[1] for cells in cells_of(results, "")][1:] == ["APP \u2020", "dense"]
    assert "several commits" in results
    assert [cells[-1] for cells in cells_of(runs, "APP")] == ["a" * 7, "b" * 7 + "+"]
    assert "had uncommitted changes" in runs
    assert page.count("\u2020") == 3, "the row, the legend and all columns"


def test_a_row_whose_networks_have_lost_a_layer_is_marked(store):
    for seed, layers in enumerate((0, 2, 1)):
        store.add("APP", seed, anytime__cer_rate=0.1, size__empty_layers=layers)
        store.add("dense", seed, anytime__cer_rate=0.2, size__empty_layers=0)
    [board] = boards(collect(store.uri))
    results = board_page(report(board)).split("## Against dense")[0]
    assert [cells[1] for cells in cells_of(results, "")][1:] == ["APP \u2205", "dense"]
    assert "\u2205 APP: whole layers have no weight left (seeds 1, 2)." in results
    assert "\u2205" not in folded(board_page(report(board)), "Every run")


def test_pages_of_an_earlier_protocol_say_so_beside_later_ones(store, tmp_path):
    store.add(anytime__cer_rate=0.1)
    publish([store.uri], tmp_path / "alone")
    store.add(protocol={"protocol_version": 2}, anytime__cer_rate=0.1)
    publish([store.uri], tmp_path / "both")

    def warned(folder):
        return sorted("Protocol version 1" in p.read_text() for p in folder.glob("toy*.md"))

    assert warned(tmp_path / "alone") == [False]
    assert warned(tmp_path / "both") == [False, True]


def test_provenance_says_what_decides_the_last_digits(store):
    store.add(tags={"cpu_family": "6", "cpu_capability": "AVX2"})
    [board] = boards(collect(store.uri))
    page = folded(board_page(report(board)), "Provenance")
    assert "- CPU family: 6." in page and "- Instruction set: AVX2." in page and "stepping" not in page


def test_the_head_of_a_board_ranks_its_first_rows(store):
    for number in range(5):
        for seed in (0, 1):
            store.add(f"s{number}", seed, anytime__cer_rate=number / 10 + seed / 100, test__accuracy=0.5)
    [board] = boards(collect(store.uri))
    head = board_head(report(board), rows=3)
    assert [line.split()[:3] for line in head.splitlines()[4:7]] == [
        ["1", "s0", "2"],
        ["2", "s1", "2"],
        ["3", "s2", "2"],
    ]
    assert "0.1050 ± 0.0635" in head and "0.5000 ±" not in head, "an interval of no width is not printed"
    assert head.endswith("... and 2 more rows")
