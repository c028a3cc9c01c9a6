from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from leaderboards.errors import BoardError
from leaderboards.numbers.contrast import contrasts
from leaderboards.publish import publish
from leaderboards.render.contrast_page import contrast_page
from leaderboards.sources.collect import collect

BF16 = {"precision": "bf16"}


def fill(store, strategies=("APP", "dense"), seeds=5, **board):
    """Runs under both values; returns strategy -> value -> metric -> seed -> value."""
    rng = np.random.default_rng(0)
    values = {}
    for number, strategy in enumerate(strategies):
        values[strategy] = {}
        for value in ("fp32", "bf16"):
            found = {
                "anytime__cer_rate": rng.uniform(0.2, 0.3, seeds) + 0.02 * number * (value == "bf16"),
                "test__accuracy": rng.uniform(0.6, 0.7, seeds),
                "time__train_seconds": rng.uniform(50, 60, seeds) / (1 + (value == "bf16")),
            }
            values[strategy][value] = found
            protocol = {**board.get("protocol", {}), "precision": value}
            for seed in range(seeds):
                metrics = {name: series[seed] for name, series in found.items()}
                store.add(strategy, seed, **{**board, "protocol": protocol}, **metrics)
    return values


def by_name(contrast):
    return {line.name: line for line in contrast.lines}


def cells(page):
    """First cell -> the others, of the page's tables; a later table replaces an earlier one."""
    lines = [line.strip("|").split("|") for line in page.splitlines() if line.startswith("|")]
    return {first.strip(): [cell.strip() for cell in others] for first, *others in lines}


def test_figures_are_those_of_scipy(store):
    values = fill(store)
    [contrast] = contrasts(collect(store.uri), "precision")
    assert (contrast.reference, contrast.other) == ("fp32", "bf16")
    assert set(by_name(contrast)) == set(values)
    for strategy, line in by_name(contrast).items():
        old, new = values[strategy]["fp32"], values[strategy]["bf16"]
        assert line.seeds == 5
        for key, metric in (("cer_rate", "anytime__cer_rate"), ("accuracy", "test__accuracy")):
            found = line.compared[key]
            test = stats.ttest_rel(new[metric], old[metric])
            low, high = test.confidence_interval(0.95)
            assert found.reference.mean == pytest.approx(old[metric].mean())
            assert found.other.mean == pytest.approx(new[metric].mean())
            assert found.comparison.difference.mean == pytest.approx((low + high) / 2)
            assert found.comparison.difference.margin == pytest.approx((high - low) / 2)
            assert found.comparison.p == pytest.approx(test.pvalue)
        ratios = new["time__train_seconds"] / old["time__train_seconds"]
        assert line.time_ratio == pytest.approx(stats.gmean(ratios))


def test_variants_are_averaged_within_a_seed_before_the_interval(store):
    values = fill(store)
    [contrast] = contrasts(collect(store.uri), "precision")
    metric = "anytime__cer_rate"
    differences = np.mean([found["bf16"][metric] - found["fp32"][metric] for found in values.values()], axis=0)
    low, high = stats.t.interval(0.95, 4, differences.mean(), stats.sem(differences))
    pooled = contrast.pooled.compared["cer_rate"]
    assert pooled.comparison.difference.n == contrast.pooled.seeds == 5
    assert pooled.comparison.difference.mean == pytest.approx(differences.mean())
    assert pooled.comparison.difference.margin == pytest.approx((high - low) / 2)
    assert pooled.comparison.p == pytest.approx(stats.ttest_1samp(differences, 0).pvalue)
    assert pooled.corrected is None
    times = [found["bf16"]["time__train_seconds"] / found["fp32"]["time__train_seconds"] for found in values.values()]
    assert contrast.pooled.time_ratio == pytest.approx(stats.gmean(times, axis=None))


def test_a_seed_weighs_the_same_however_many_variants_have_it(store):
    for strategy, seed, change in (("a", 0, 0.1), ("b", 0, 0.3), ("a", 1, 0.4)):
        store.add(strategy, seed, anytime__cer_rate=0.2)
        store.add(strategy, seed, protocol=BF16, anytime__cer_rate=0.2 + change)
    store.add("b", 1, anytime__cer_rate=0.9)
    [contrast] = contrasts(collect(store.uri), "precision")
    assert contrast.pooled.compared["cer_rate"].comparison.difference.mean == pytest.approx((0.2 + 0.4) / 2)


def test_holm_is_over_all_variants_of_the_page_and_one_metric(store):
    fill(store)
    fill(store, protocol={"epochs": 3})
    fill(store, strategies=("SET",), fingerprint="e" * 16)
    found = contrasts(collect(store.uri), "precision")
    assert len(found) == 3
    for key in ("cer_rate", "accuracy"):
        compared = [line.compared[key] for contrast in found for line in contrast.lines]
        compared.sort(key=lambda one: one.comparison.p)
        assert len(compared) == 5
        expected = np.maximum.accumulate([(5 - rank) * one.comparison.p for rank, one in enumerate(compared)])
        assert [one.corrected for one in compared] == pytest.approx(np.minimum(expected, 1))


def test_seeds_of_one_value_alone_do_not_count(store):
    for seed, rate in enumerate((0.1, 0.2, 0.9)):
        store.add("dense", seed, anytime__cer_rate=rate)
    for seed, rate in ((0, 0.2), (1, 0.4), (7, 0.0)):
        store.add("dense", seed, protocol=BF16, anytime__cer_rate=rate)
    store.add("APP", 0, anytime__cer_rate=0.1)
    store.add("SET", 1, anytime__cer_rate=0.1)
    store.add("SET", 2, protocol=BF16, anytime__cer_rate=0.1)
    [contrast] = contrasts(collect(store.uri), "precision")
    [line] = contrast.lines
    found = line.compared["cer_rate"]
    assert line.seeds == 2 and contrast.unpaired == 2
    assert found.reference.mean == pytest.approx(0.15) and found.other.mean == pytest.approx(0.3)
    assert found.comparison.difference.mean == pytest.approx(0.15)
    assert "Left out: 2 without a common seed" in contrast_page([contrast], "precision")


@pytest.mark.parametrize(
    "other",
    [
        {"protocol": {**BF16, "epochs": 3}},
        {"protocol": BF16, "fingerprint": "e" * 16},
        {"protocol": BF16, "data": "synthetic"},
        {"protocol": BF16, "seed": 1},
        {"protocol": BF16, "strategy": "APP"},
        {"protocol": BF16, "strategy": {"strategy": "dense", "strategy_version": 1, "score": "snip"}},
        {"protocol": BF16, "strategy": {"strategy": "dense", "strategy_version": 2}},
        {"protocol": BF16, "status": "FAILED"},
    ],
)
def test_runs_that_differ_in_anything_else_are_not_compared(store, other):
    store.add(anytime__cer_rate=0.2)
    store.add(**other, anytime__cer_rate=0.2)
    with pytest.raises(BoardError, match="nothing to contrast"):
        contrasts(collect(store.uri), "precision")


def test_the_reference_is_what_most_runs_have_then_what_earlier_runs_had(store):
    def reference():
        return contrasts(collect(store.uri), "precision")[0].reference

    store.add(protocol=BF16, anytime__cer_rate=0.2)
    store.add(protocol={"precision": "fp32"}, anytime__cer_rate=0.1)
    assert reference() == "fp32"
    store.add("APP", protocol=BF16, anytime__cer_rate=0.2)
    assert reference() == "bf16"


def test_every_further_value_is_compared_with_the_reference(store):
    for replay, rate in (("none", 0.3), ("full", 0.1), ("buffer", 0.2)):
        size = {"buffer_size": 50} if replay == "buffer" else {}
        store.add(protocol={"replay": replay, **size}, anytime__cer_rate=rate)
    store.add("APP", protocol={"replay": "full"}, anytime__cer_rate=0.1)
    found = contrasts(collect(store.uri), "replay")
    differences = {c.other: c.lines[0].compared["cer_rate"].comparison.difference.mean for c in found}
    assert {contrast.reference for contrast in found} == {"full"}
    assert differences == pytest.approx({"buffer, buffer_size 50": 0.1, "none": 0.2})


def test_the_page_says_what_was_computed(store):
    for seed, (old, new) in enumerate(((0.1, 0.2), (0.2, 0.4), (0.3, 0.6))):
        metrics = {"test__accuracy": 0.5, "time__train_seconds": 10.0}
        store.add("a|b", seed, anytime__cer_rate=old, **metrics)
        store.add("a|b", seed, protocol=BF16, anytime__cer_rate=new, **{**metrics, "time__train_seconds": 5.0})
    page = contrast_page(contrasts(collect(store.uri), "precision"), "precision")
    [table] = [block for block in page.split("\n\n") if block.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in table.splitlines()}) == 1
    # Differences 0.1, 0.2, 0.3: t = 2 sqrt(3) with 2 degrees of freedom, p = 0.0742; margin 4.3027 0.1 / sqrt(3).
    cer_rate = ["0.2000 ± 0.2484", "0.4000 ± 0.4968", "+0.2000 ± 0.2484", "0.074", "0.074"]
    accuracy = ["0.5000", "0.5000", "+0.0000", "1.000", "1.000"]
    found = cells(page.replace("\\|", "/"))
    assert found["a/b"] == ["3", *cer_rate, *accuracy, "0.500"]
    assert found["All variants"] == ["3", *cer_rate[:4], "-", *accuracy[:4], "-", "0.500"]


def test_the_page_says_where_the_runs_come_from(store):
    store.add(anytime__cer_rate=0.1)
    store.add(protocol=BF16, anytime__cer_rate=0.2)
    page = contrast_page(contrasts(collect(store.uri), "precision"), "precision")
    assert "- Code commit: abc." in page.partition("## Provenance")[2]


def test_a_single_seed_has_no_interval_and_no_p(store):
    store.add(anytime__cer_rate=0.1)
    store.add(protocol=BF16, anytime__cer_rate=0.2)
    page = contrast_page(contrasts(collect(store.uri), "precision"), "precision")
    assert cells(page)["dense"] == ["1", "0.1000", "0.2000", "+0.1000", "-", "-", "-"]


def test_the_index_links_the_page_and_nothing_is_written_without_one(store, tmp_path):
    store.add(anytime__cer_rate=0.1)
    with pytest.raises(BoardError, match="nothing to contrast: all runs have precision fp32"):
        publish([store.uri], tmp_path / "out", contrast="precision")
    with pytest.raises(BoardError, match="no protocol field ''"):
        publish([store.uri], tmp_path / "out", contrast="")
    assert not (tmp_path / "out").exists()
    store.add(protocol=BF16, anytime__cer_rate=0.2)
    publish([store.uri], tmp_path / "out", contrast="precision")
    index = tmp_path / "out" / "README.md"
    assert "(contrast-precision.md)" in index.read_text()
    assert (tmp_path / "out" / "contrast-precision.md").read_text().startswith("# Contrast: precision")
    publish([store.uri], tmp_path / "plain")
    assert "contrast" not in (tmp_path / "plain" / "README.md").read_text()


def test_times_of_other_machines_are_not_compared(store):
    fill(store, seeds=3)
    records = collect(store.uri)

    def ratios(elsewhere):
        """Where ``elsewhere`` are the seeds whose bf16 run was on another machine."""
        precisions = [protocol["precision"] for protocol in records.runs["protocol"]]
        hardware = [
            precision if seed in elsewhere else "A"
            for precision, seed in zip(precisions, records.runs["seed"], strict=True)
        ]
        [contrast] = contrasts(replace(records, runs=records.runs.assign(hardware=hardware)), "precision")
        return [line.time_ratio for line in (*contrast.lines, contrast.pooled)]

    assert all(ratio == pytest.approx(0.5, rel=0.2) for ratio in (*ratios({}), *ratios({0})))
    assert ratios({}) != ratios({0})
    assert ratios({0, 1, 2}) == [None] * 3


def test_columns_that_no_line_has_are_left_out(store):
    fill(store)
    page = contrast_page(contrasts(collect(store.uri), "precision"), "precision")
    assert "CER rate difference" in page and "Final accuracy difference" in page
    assert "Forgetting" not in page and "BWT" not in page
