"""Two strategies, stores or commits beside each other: paired by seed, in the terminal."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from leaderboards.__main__ import main
from leaderboards.errors import BoardError
from leaderboards.export import export
from leaderboards.numbers.compare import compare
from leaderboards.numbers.statistics import holm, paired

OLD, NEW = "a1" * 20, "b2" * 20


def fill(store, commit=OLD, shift=0.0, seeds=range(4)):
    for seed in seeds:
        for strategy, cer_rate in (("dense", 0.2), ("APP", 0.25), ("RigL", 0.3)):
            value = cer_rate + shift + 0.01 * seed**2 + 0.003 * (seed * len(strategy) % 4)
            store.add(strategy, seed, tags={"commit": commit}, anytime__cer_rate=value, test__accuracy=1 - value)


def text_of(*words):
    result = CliRunner().invoke(main, ["compare", *words])
    return result.exit_code, result.stdout, result.stderr


def test_two_rows_are_paired_by_seed(store):
    fill(store)
    store.add("APP", 9, anytime__cer_rate=0.0)
    changes = compare("dense", "app", [store.uri])
    [[line]] = [change.lines for change in changes.found]
    found = line.compared["cer_rate"]
    values = [
        {seed: 0.01 * seed**2 + base + 0.003 * (seed * n % 4) for seed in range(4)} for base, n in ((0.25, 3), (0.2, 5))
    ]
    expected = paired(*values)
    assert line.seeds == 4 and found.comparison.difference.mean == pytest.approx(expected.difference.mean)
    assert found.comparison.p == pytest.approx(expected.p) and found.corrected == found.comparison.p
    code, text, said = text_of("dense", "APP", "--tracking-uri", store.uri)
    assert (code, said) == (0, "") and "+0.0500 ± " in text and "CER rate" in text and "-0.0500" in text
    assert text.splitlines()[0] == "A is dense, B is APP: B - A, seed by seed"


def test_two_stores_and_two_commits_say_the_same(store, tmp_path):
    fill(store)
    export(store.uri, tmp_path / "before")
    store.add("only before", 0, tags={"commit": OLD}, anytime__cer_rate=0.5)
    fill(store, NEW, shift=0.02, seeds=range(1, 5))
    commits = compare(OLD[:8], NEW, [store.uri])
    assert (commits.first, commits.second, commits.unpaired) == (OLD, NEW, 1)
    [change] = commits.found
    assert [line.name for line in change.lines] == ["dense", "APP", "RigL"]
    p_values = []
    for line in change.lines:
        found = line.compared["cer_rate"].comparison
        assert (line.seeds, found.difference.n) == (3, 3) and found.difference.mean == pytest.approx(0.02)
        p_values.append(found.p)
    assert [line.compared["cer_rate"].corrected for line in change.lines] == holm(p_values)
    # The newest run of each seed counts: in the store, that of the other commit.
    stores = compare(f"records:{tmp_path / 'before'}", store.uri, ["none"])
    assert [(line.name, line.seeds) for line in stores.found[0].lines] == [("dense", 4), ("APP", 4), ("RigL", 4)]
    means = [line.compared["cer_rate"].comparison.difference.mean for line in stores.found[0].lines]
    assert means == pytest.approx([0.015] * 3)
    code, text, _ = text_of(f"records:{tmp_path / 'before'}", store.uri)
    assert code == 0 and "Left out: 1 rows" in text and text.count("RigL") == 2


def test_protocols_that_grew_are_the_same(store, tmp_path):
    fill(store, seeds=range(2))
    export(store.uri, tmp_path / "before")
    newer = '{"optimizer": "sgd"}'
    for seed in range(2):
        store.add("dense", seed, protocol={"optimizer": "sgd"}, tags={"earlier": newer}, anytime__cer_rate=0.1)
    assert compare(f"records:{tmp_path / 'before'}", store.uri, []).found


def test_what_cannot_be_compared_is_said_in_one_line(store, tmp_path):
    fill(store)
    store.add("lonely", 77, anytime__cer_rate=0.5)
    store.add("elsewhere", 0, protocol={"epochs": 9}, anytime__cer_rate=0.5)
    for score in ("snip", "taylor"):
        store.add({"strategy": "OSP", "score": score}, 0, anytime__cer_rate=0.5)
    export(store.uri, tmp_path / "records")
    cases = {
        ("dense", "dense"): "are the same",
        ("dense", "AP"): "no strategy, store or commit 'AP' in ",
        ("dense", "x\x1b[2J"): r"'x\x1b[2J'",
        ("dense", "lonely"): "no common seed",
        ("dense", "elsewhere"): "no board has both",
        ("dense", "OSP"): "has 2 rows of OSP: name one of them, such as 'OSP (snip)', 'OSP (taylor)'",
        ("dense", store.uri): "of different kinds",
        (f"records:{tmp_path / 'none'}", store.uri): "cannot be read",
        ("sqlite:///none.db", store.uri): "there is no store",
        ("abcdef1", "abcdef2"): "no strategy, store or commit 'abcdef1'",
    }
    for words, expected in cases.items():
        code, text, said = text_of(*words, "--tracking-uri", store.uri)
        assert (code, text, said.count("\n")) == (2, "", 1) and "\x1b" not in said, (words, said)
        assert said.startswith("Error: ") and (expected in said or "is no folder of records" in said), (words, said)


def test_stores_without_common_runs(store, tmp_path):
    store.add("dense", 0, anytime__cer_rate=0.5)
    export(store.uri, tmp_path / "before")
    store.add("dense", 0, protocol={"epochs": 3}, anytime__cer_rate=0.5)
    export(store.uri, tmp_path / "after")
    for path in (tmp_path / "after").rglob("*e2*/*.json"):
        path.unlink()
    with pytest.raises(BoardError, match="nothing can be paired"):
        compare(f"records:{tmp_path / 'before'}", f"records:{tmp_path / 'after'}", [])
