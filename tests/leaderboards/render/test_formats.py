"""What is taken away in other formats is what the boards say, whatever names the runs have."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from odd_runs import ODD, records_of

from leaderboards.__main__ import main
from leaderboards.numbers.boards import boards
from leaderboards.numbers.report import report
from leaderboards.numbers.reported import Reported, reported
from leaderboards.render.formats import FORMATS, publish_formats
from leaderboards.render.latex import SPECIAL, escape
from leaderboards.text import printable


@pytest.fixture(scope="module")
def address(real_records):
    return f"records:{real_records}"


@pytest.fixture(scope="module")
def found(address):
    return reported([address])


@pytest.fixture(scope="module")
def folder(found, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    publish_formats(found, folder, FORMATS)
    return folder


def read(folder, kind):
    if kind == "csv":
        return [
            pd.read_csv(folder / f"{name}.csv", float_precision="round_trip") for name in ("rows", "runs", "series")
        ]
    if kind == "parquet":
        return [pd.read_parquet(folder / f"{name}.parquet") for name in ("rows", "runs", "series")]
    return [pd.DataFrame(json.loads((folder / f"{name}.json").read_text())) for name in ("rows", "runs", "series")]


@pytest.mark.parametrize("kind", ["csv", "parquet", "json"])
def test_tables_say_what_the_reports_say(found, folder, kind):
    rows, runs, series = read(folder, kind)
    told = {(one.board, one.name, one.key): one for one in rows.itertuples()}
    count = 0
    for one in found.reports:
        for row in one.rows:
            for key, cell in row.cells.items():
                said = told[one.board.file_name.removesuffix(".md"), row.row.name, key]
                count += 1
                assert (said.mean, said.seeds, said.rank) == (cell.estimate.mean, cell.estimate.n, row.rank)
                assert said.margin == cell.estimate.margin and bool(said.best) is cell.best
                tested = row.against_baseline.get(key)
                if tested is None:
                    assert math.isnan(said.difference) and math.isnan(said.p_holm)
                else:
                    assert said.difference == tested.comparison.difference.mean
                    assert (said.p, said.p_holm) == (tested.comparison.p, tested.corrected)
    assert count == len(rows) > 200 and set(told) == {(a.board, a.name, a.key) for a in rows.itertuples()}
    assert len(runs) == 35 and runs.run_id.is_unique and set(runs["variant.strategy"]) >= {"dense", "APP"}
    points = {(one.run_id, one.metric, one.step): one.value for one in series.itertuples()}
    assert points == {(*key, step): v for key, values in found.series.items() for step, v in values.items()}
    assert len(points) > 1000


def test_latex_tables_have_the_cells_of_the_board(found, folder):
    for one in found.reports:
        text = (folder / f"{one.board.file_name.removesuffix('.md')}.tex").read_text()
        lines = [line for line in text.splitlines() if line.endswith(r"\\")]
        columns = re.search(r"\\begin\{tabular\}\{(\w+)\}", text)[1]
        assert len(lines) == 1 + len(one.rows) and {line.count(" & ") + 1 for line in lines} == {len(columns)}
        for line, row in zip(lines[1:], one.rows, strict=True):
            assert escape(row.row.name) in line and f"{row.cells['cer_rate'].estimate.mean:.4f}" in line
        assert r"\textbf{0.2508 \ensuremath{\pm} 0.0107}" in text and text.count("rule\n") == 3


@pytest.mark.parametrize("text", [*ODD, "a--b---c", "<<>>", "``''", "50 % & $x_1^2$ #~\\{}"])
def test_names_are_text_for_latex(text):
    shown = escape(text)
    assert "\n" not in shown and not re.search(r"(?<!\\)[%$&#_]|[~^<>|\"'`]|--", shown)
    back = shown
    for character, written in sorted(SPECIAL.items(), key=lambda item: -len(item[1])):
        back = back.replace(written, "\0" + character) if len(written) == 2 else back.replace(written, character)
    assert re.sub(r"\0|(?<=-)\{\}(?=-)", "", back) == printable(text)


@pytest.mark.parametrize("name", [*ODD[:3], "\x1b[2J\u202e", "../../etc/passwd", "=1+1", "@SUM(A1)", "-2+3", "+x"])
def test_odd_names_are_text_in_every_format(tmp_path, name):
    records = records_of(name)
    odd = Reported(records, [report(board) for board in boards(records)], {})
    publish_formats(odd, tmp_path, FORMATS)
    files = {path.name for path in tmp_path.iterdir()}
    assert len(files) == 9 + len(odd.reports) and all(re.fullmatch(r"[a-z0-9_-]+\.[a-z]+", one) for one in files)
    for table in read(tmp_path, "parquet")[:2]:
        assert set(table.get("stream_label", table.stream)) == {printable(name)}
    assert json.loads((tmp_path / "runs.json").read_text())[0]["stream_label"] == printable(name)
    for line in csv.reader(io.StringIO((tmp_path / "runs.csv").read_text())):
        assert not [one for one in line if one.startswith(("=", "@", "+", "-"))]


def test_values_of_several_kinds_share_a_column(store, tmp_path):
    for seed, value in enumerate([1, "x", None, [1, {"a": 2}], 10**400, True, 0.5]):
        store.add("dense", seed, protocol={"odd": value}, anytime__cer_rate=float("inf") if seed else 0.5)
    publish_formats(reported([store.uri], across=["odd"]), tmp_path, FORMATS)
    for kind in ("csv", "parquet"):
        runs = read(tmp_path, kind)[1]
        said = {"1", "x", '[1, {"a": 2}]', str(10**400), "true", "0.5"}
        assert {one for one in runs["protocol.odd"] if isinstance(one, str)} == said and len(runs) == 7
    assert "NaN" not in (tmp_path / "rows.json").read_text() and "Infinity" not in (tmp_path / "runs.json").read_text()


def test_the_command_writes_what_is_named(tmp_path, monkeypatch, address):
    monkeypatch.chdir(tmp_path)
    run = lambda *options: CliRunner().invoke(main, ["--tracking-uri", address, "--output", "out", *options])  # noqa: E731
    result = run("--format", "csv", "--format", "csv")
    assert (result.exit_code, result.output) == (0, "Tables: out (rows.csv, runs.csv, series.csv)\n")
    assert sorted(path.name for path in Path("out").iterdir()) == ["rows.csv", "runs.csv", "series.csv"]
    result = run("--format", "excel")
    assert result.exit_code == 2 and "'excel' is not one of" in result.stderr
    result = run("--format", "csv", "--contrast", "precision")
    assert result.exit_code == 2 and "--format markdown" in result.stderr
    Path("file").write_text("")
    result = CliRunner().invoke(main, ["--tracking-uri", address, "--output", "file", "--format", "json"])
    assert result.exit_code == 2 and result.stderr.startswith("Error: cannot write to file")
    assert run("--format", "markdown").output == "Leaderboards: out/README.md\n"
    result = CliRunner().invoke(main, ["--format", "csv", "export", "--output", "x"])
    assert result.exit_code == 2 and "--format is for boards here" in result.stderr
