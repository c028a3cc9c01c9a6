"""Across streams: what is pooled, and that what is computed has the size and the coverage that it says."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import chromium
import numpy as np
import pandas as pd
import pytest
from markdown_it import MarkdownIt
from odd_runs import ODD
from scipy import special, stats

from leaderboards.glossary import SHIFTING_SORT, Glossary, Measure
from leaderboards.numbers.across import pools
from leaderboards.numbers.boards import boards
from leaderboards.numbers.fronts import LOSS
from leaderboards.numbers.iqm import interquartile_mean, iqm
from leaderboards.numbers.names import ACROSS
from leaderboards.numbers.ranks import critical_difference, friedman, ranks
from leaderboards.numbers.report import report
from leaderboards.numbers.reported import Reported
from leaderboards.publish import publish_markdown, publish_page
from leaderboards.record import identity_key
from leaderboards.render.across_page import across_page
from leaderboards.render.formats import publish_formats
from leaderboards.render.index_page import index_page
from leaderboards.render.rank_plot import draw_ranks
from leaderboards.sources.collect import Records

GLOSSARY = Glossary([Measure(LOSS, "CER rate", "a rate", "fraction", better=-1, key="cer_rate", places=("board",))])


@pytest.fixture
def many():
    """Makes boards: a list of (stream, protocol, strategy -> a loss a seed)."""

    def make(*told):
        runs = []
        for stream, changed, rows in told:
            protocol = {"stream": stream, "megabatches": 4, "replay": "full", "model": "mlp", "epochs": 2} | changed
            for strategy, losses in rows.items():
                variant = {"strategy": strategy, "strategy_version": 1}
                for seed, loss in enumerate(losses):
                    key = identity_key(protocol=protocol, variant=variant, seed=seed, data_fingerprint=stream)
                    runs.append(
                        {
                            **{"run_id": f"{len(runs):032x}", "started": pd.Timestamp(len(runs), unit="s", tz="UTC")},
                            **{"identity": key, "stream": stream, "stream_label": stream, "data_version": "1"},
                            **{"data": changed.get("data", "real"), "data_fingerprint": stream, "protocol": protocol},
                            **{"variant": variant, "variant_defaults": {}, "density": 0.5, "seed": seed},
                            **{"commit": "abc", f"metrics.{LOSS}": loss},
                        }
                    )
        return Records(pd.DataFrame(runs), GLOSSARY)

    return make


def pooled(records):
    return pools(boards(records))


def streams(count, strategies=("dense", "APP", "GMP", "OSP"), seeds=3, apart=0.02):
    """Each strategy is ``apart`` worse than the one before it, on every stream."""
    return [
        (
            f"s{number}",
            {"epochs": 2 + number},
            {
                name: [0.1 * number + apart * place + 0.001 * seed * (1 + place) for seed in range(seeds)]
                for place, name in enumerate(strategies)
            },
        )
        for number in range(count)
    ]


# ---- what is computed --------------------------------------------------------------------------------------------


def test_ranks_and_statistic_by_hand():
    losses = np.array([[0.1, 0.2, 0.3], [0.1, 0.3, 0.2], [0.2, 0.2, 0.4], [0.1, 0.2, 0.3], [0.2, 0.1, 0.3], [1, 2, 3]])
    found = ranks(losses)
    assert found.tolist()[:3] == [[1, 2, 3], [1, 3, 2], [1.5, 1.5, 3]]
    chi2 = stats.friedmanchisquare(*losses.T).statistic
    assert friedman(losses).statistic == pytest.approx(5 * chi2 / (12 - chi2))
    assert friedman(losses).freedom == (2, 10)
    # Demsar's table 5: q is 2.343 for three methods and 3.164 for ten.
    assert critical_difference(6, 3) == pytest.approx(2.343 * (3 * 4 / 36) ** 0.5, abs=1e-3)
    assert critical_difference(10, 10) == pytest.approx(3.164 * (10 * 11 / 60) ** 0.5, abs=1e-3)


def test_ranks_at_the_ends():
    same, ordered = np.ones((6, 4)), np.tile(np.arange(4.0), (6, 1))
    assert friedman(same).p == 1.0 and friedman(ordered).p == 0.0
    assert friedman(ordered[:5]) is None and critical_difference(5, 4) is None
    assert friedman(ordered[:, :2]) is None and critical_difference(6, 1) is None


@pytest.mark.parametrize("methods", [3, 8])
def test_methods_that_are_equal_are_told_apart_as_often_as_the_level_says(methods):
    """The Friedman test at six streams, and the largest of all differences of ranks against the critical one."""
    drawn = np.random.default_rng(0).normal(size=(1000, 6, methods))
    tested = [friedman(losses).p <= 0.05 for losses in drawn[:400]]
    assert 0.025 < np.mean(tested) < 0.08
    means = ranks(drawn.reshape(-1, methods)).reshape(drawn.shape).mean(axis=1)
    beyond = np.ptp(means, axis=1) > critical_difference(6, methods)
    assert 0.01 < beyond.mean() < 0.06


def test_the_interquartile_mean_is_the_mean_of_the_middle_half():
    assert interquartile_mean(np.array([9.0, 1, 2, 3, 4, 5, -7, 6])) == pytest.approx(np.mean([2, 3, 4, 5]))
    # Of five a quarter is one and a quarter: the second and the fourth count three quarters.
    assert interquartile_mean(np.array([1.0, 2, 3, 4, 50])) == pytest.approx((0.75 * 2 + 3 + 0.75 * 4) / 2.5)
    assert interquartile_mean(np.array([3.0])) == 3.0
    eight = np.random.default_rng(0).normal(size=(5, 8))
    assert interquartile_mean(eight) == pytest.approx(stats.trim_mean(eight, 0.25, axis=1))
    assert iqm([[0.1], [0.2, 0.3]]).low is None
    with pytest.raises(ValueError):
        iqm([[0.1], []])


@pytest.mark.parametrize(("count", "seeds"), [(2, 5), (6, 5), (6, 3)])
def test_intervals_of_the_interquartile_mean_cover_what_they_say(count, seeds):
    """Of streams that differ in level and spread. The percentiles of the resamples alone cover some 90 %."""
    rng = np.random.default_rng(count + seeds)
    levels, deviations = rng.normal(0, 0.7, (count, 1)), rng.uniform(0.5, 1.5, (count, 1))
    quantiles = special.ndtri((np.arange(4000) + 0.5) / 4000)
    truth = interquartile_mean((levels + deviations * quantiles).ravel())
    found = [iqm((levels + deviations * one).tolist()) for one in rng.normal(size=(400, count, seeds))]
    assert 0.91 < np.mean([one.low <= truth <= one.high for one in found]) < 0.985


# ---- what is pooled ----------------------------------------------------------------------------------------------


def test_strategies_are_ranked_over_the_streams_that_all_of_them_have(many):
    told = streams(3)
    told[1][2]["RigL"] = [0.0, 0.0, 0.0]
    [pool] = pooled(many(*told))
    assert pool.streams == ["s0", "s1", "s2"] and pool.left_out == ["RigL"]
    assert [(one.name, one.mean_rank) for one in pool.placed] == [("dense", 1), ("APP", 2), ("GMP", 3), ("OSP", 4)]
    assert pool.test is None and pool.critical is None
    # Differences from dense with the same seed: .02, and .001 more with each seed, alike on all streams.
    assert pool.against == "dense"
    assert pool.placed[0].iqm.value == 0.0 and pool.placed[1].iqm.value == pytest.approx(0.021)


@pytest.mark.parametrize("changed", [{"replay": "none"}, {"data": "synthetic"}, {"protocol_version": 3}, {"lr": 0.5}])
def test_boards_of_another_protocol_are_not_pooled(many, changed):
    first, second, third = streams(3)
    [pool] = pooled(many(first, second, (third[0], changed, third[2])))
    assert pool.streams == ["s0", "s1"]


def test_boards_of_one_stream_count_once(many):
    """Half of the runs of a stream at another length are no further stream."""
    one, other = streams(2)
    assert pooled(many(one, (one[0], {"megabatches": 9}, one[2]))) == []
    worse = {name: [loss + 0.5 * (name == "dense") for loss in losses[:2]] for name, losses in one[2].items()}
    [pool] = pooled(many(one, (one[0], {"megabatches": 9}, worse), other))
    assert len(pool.boards) == 3 and pool.streams == ["s0", "s1"]
    # Dense, .25 worse in the mean of both, is the last there.
    assert {placed.name: placed.ranks for placed in pool.placed}["dense"] == [4, 1]


def test_streams_that_shift_are_ranked_by_what_their_boards_lead_with(many):
    """The highest is the best there."""
    acc = Measure(SHIFTING_SORT, "ACC", "accuracy", "fraction", better=1, places=("board",))
    records = many(*((stream, {"scenario": "class-incremental"}, rows) for stream, _, rows in streams(2)))
    runs = records.runs.rename(columns={f"metrics.{LOSS}": f"metrics.{SHIFTING_SORT}"})
    [pool] = pooled(replace(records, runs=runs, glossary=Glossary([*GLOSSARY.values(), acc])))
    assert pool.measure == acc and [one.name for one in pool.placed] == ["OSP", "GMP", "APP", "dense"]
    assert pool.placed[0].iqm.value == pytest.approx(0.063)


def test_the_index_shows_what_each_board_leads_with(many):
    acc = Measure(SHIFTING_SORT, "ACC", "accuracy", "fraction", better=1, places=("board",))
    usual, other = streams(2)
    records = many(usual, (other[0], {"scenario": "class-incremental"}, other[2]))
    glossary = Glossary([*GLOSSARY.values(), acc])
    runs = records.runs
    runs[f"metrics.{SHIFTING_SORT}"] = runs[f"metrics.{LOSS}"].where(runs.stream == other[0])

    def cells(wanted):
        of = [report(board) for board in boards(Records(wanted, glossary))]
        lines = index_page(of).split("\n\n")[-1].strip().splitlines()
        return [[cell.strip() for cell in line.strip("|").split("|")][-1] for line in (lines[0], *lines[2:])]

    both = cells(runs)
    assert both[0] in ("CER rate/ACC", "ACC/CER rate") and sorted(cell.split(" 0")[0] for cell in both[1:]) == [
        "ACC",
        "CER rate",
    ]
    assert cells(runs[runs.stream == usual[0]])[0] == "CER rate"
    [title, only] = cells(runs[runs.stream == other[0]])
    assert title == "ACC" and only.startswith("0")


def test_without_the_baseline_values_stay_as_they_are(many):
    [pool] = pooled(many(*streams(2, ("APP", "OSP"))))
    assert pool.against is None
    assert pool.placed[0].iqm.value == pytest.approx(np.mean([0.001, 0.101]))


def test_what_has_diverged_or_stands_alone_is_left_out(many):
    told = streams(2)
    told[0][2]["OSP"] = [float("inf")] * 3
    [pool] = pooled(many(*told))
    assert pool.left_out == ["OSP"]
    [pool] = pooled(many(("a", {}, {"dense": [0.1]}), ("b", {}, {"APP": [0.1]})))
    assert pool.placed == [] and pool.left_out == ["APP", "dense"]
    assert "nothing can be ranked" in across_page([pool])


# ---- what is shown -----------------------------------------------------------------------------------------------


def publish_all(records, folder, figures=True):
    found = Reported(records, [report(board) for board in boards(records)], {})
    publish_markdown(found, folder, figures=figures)
    return found


def test_the_page_is_written_with_its_figure_and_goes_with_its_boards(many, tmp_path):
    publish_all(many(*streams(6)), tmp_path)
    page = (tmp_path / ACROSS).read_text()
    assert f"({ACROSS})" in (tmp_path / "README.md").read_text()
    linked = re.findall(r'(?:srcset|src)="([^"]+)"', page)
    assert len(linked) == 2 and all((tmp_path / path).is_file() for path in linked)
    assert all((tmp_path / path).is_file() for path in re.findall(r"\(([^)]*\.md)\)", page))
    assert "p < .001: ranks differ" in page
    publish_all(many(*streams(5)), tmp_path)
    assert "No test of the ranks and no rank plot: they need 6 streams, there are 5." in (tmp_path / ACROSS).read_text()
    assert not (tmp_path / linked[0]).exists()
    publish_all(many(*streams(1)), tmp_path)
    assert not (tmp_path / ACROSS).exists() and ACROSS not in (tmp_path / "README.md").read_text()


def test_bold_is_what_is_not_told_apart_from_the_first(many):
    [pool] = pooled(many(*streams(6, ("dense", "a", "b", "c", "d"))))
    # Ranks 1 to 5 on each stream, and a critical difference of 2.49.
    lines = [line for line in across_page([pool]).splitlines() if line.startswith("| ")]
    assert [re.findall(r"\*\*(.*?)\*\*", line) for line in lines[:6] if "IQM" not in line] == [
        ["1.00"],
        ["2.00"],
        ["3.00"],
        [],
        [],
    ]


@pytest.mark.parametrize("name", ODD)
def test_names_from_outside_are_text(many, name):
    label = name.replace("\udcff", "")
    told = [(f"{stream} {label}", {**fields, "replay": name}, rows) for stream, fields, rows in streams(2, ("a", name))]
    told[0][2][f"{name} alone"] = [0.1]
    [pool] = pooled(many(*told))
    page = across_page([pool])
    tokens = MarkdownIt("commonmark").enable("table").parse(page)
    assert [one.content for one in tokens if one.type == "html_block" and "details" not in one.content] == []
    assert len([one for one in tokens if one.type == "table_open"]) == 3
    assert len(re.findall(r"\n#", page)) == 1


def test_the_figure_is_the_same_twice_and_holds_long_names(many):
    [pool] = pooled(many(*streams(6, ("dense", "x" * 500, "$\\frac{a}{$ <b>"))))
    first = draw_ranks(pool)
    assert draw_ranks(pool) == first and first["light"] != first["dark"]
    assert "x" * 40 not in first["light"] and "<b>" not in first["light"]


@pytest.mark.skipif(chromium.installed() is None, reason="no Chromium is installed")
def test_the_html_page_shows_the_pool(many, tmp_path):
    records = many(*streams(2, ("dense", "<b>x</b>")))
    place = tmp_path / "page.html"
    publish_page(Reported(records, [report(board) for board in boards(records)], {}), place)
    with chromium.Chromium(tmp_path / "profile") as reader:
        reader.open(place)
        reader.run("document.getElementById('across').open = true")
        assert reader.texts("#across tbody th") == ["dense", "<b>x</b>"]
        cells = [text.replace("\N{NO-BREAK SPACE}", " ") for text in reader.texts("#across tbody td")]
        assert cells == ["1.00", "+0.0", "2.00", "+2.1 (+2.0 to +2.2)"]
        reader.resize(390, 844, mobile=True)
        assert reader.run("document.documentElement.scrollWidth") <= 390
        reader.screenshot(tmp_path / "across.png")
        assert "they need 6 streams, there are 2" in reader.texts("#across")[0]
        assert reader.complaints == []


def test_the_table_to_take_away_says_the_same(many, tmp_path):
    records = many(*streams(6))
    found = Reported(records, [report(board) for board in boards(records)], {})
    assert "across.json" in publish_formats(found, tmp_path, ["json", "csv"])
    [pool] = pooled(records)
    told = json.loads((tmp_path / "across.json").read_text())
    assert [one["rank"] for one in told] == [one.mean_rank for one in pool.placed]
    assert told[1]["low"] == pool.placed[1].iqm.low and told[0]["critical_difference"] == pool.critical
