"""Runs that others have recorded, or that are damaged, keep nobody from their boards; nor does a full disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from leaderboards.drafts import LOCK, PREFIX
from leaderboards.errors import BoardError
from leaderboards.glossary import TAG, Measure, to_tags
from leaderboards.numbers.boards import boards
from leaderboards.numbers.names import page_name, variant_name
from leaderboards.publish import publish
from leaderboards.sources.collect import collect

DEEP = "[" * 3000 + "]" * 3000

DAMAGED = {
    "stream": None,
    "data_version": None,
    "seed": [None, "", "none", "1.5", "[1]", "9" * 40],
    "protocol": [None, "", "{", "[]", "3", "null", '"text"', DEEP, '{"protocol_version": "new"}', '{"a": "\\ud800"}'],
    "variant": [None, "{}", "[]", '{"strategy": null}', '{"strategy": "x", "score_version": "two"}'],
    "variant_defaults": ["", "[1]", "no"],
    "earlier": ["", "[1]", "no"],
}

CASES = [(tag, value) for tag, values in DAMAGED.items() for value in values or [None]]


def damage(store, tag, value):
    """A good run, but for one tag."""
    run_id = store.add("strange", seed=5, anytime__cer_rate=0.0)
    if value is None:
        store.client.delete_tag(run_id, "anytime_bench." + tag)
    else:
        store.client.set_tag(run_id, "anytime_bench." + tag, value)
    return run_id


def test_damaged_runs_are_passed_over_counted_and_the_first_is_named(store, tmp_path):
    lost = [damage(store, tag, value) for tag, value in CASES]
    store.add("dense", anytime__cer_rate=0.25)
    records = collect(store.uri)
    assert list(records.damaged) == lost
    lines = []
    [report] = publish([store.uri], tmp_path / "out", say=lines.append)
    assert [row.row.name for row in report.rows] == ["dense"]
    assert lines == [
        f"Note: {len(lost)} runs are passed over, their records are damaged; "
        f"the first is {lost[0]}: stream: Field required"
    ]
    assert "\n" not in records.note


def test_a_note_is_said_also_where_no_run_is_left(store, tmp_path, capsys):
    lost = damage(store, "seed", "none")
    with pytest.raises(BoardError, match="no finished benchmark run"):
        publish([store.uri], tmp_path / "out")
    assert capsys.readouterr().err.startswith(f"Note: run {lost} is passed over, its record is damaged: seed: ")


def test_a_density_that_is_no_number_is_damage(store):
    lost = store.add()
    store.client.log_param(lost, "density", "thin")
    assert list(collect(store.uri).damaged) == [lost]


def test_runs_of_other_programs_and_groups_of_runs_are_no_damage(store):
    for tags in ({"strategy": "dense"}, {"anytime_bench.process": "here 1 2", "anytime_bench.heartbeat": "3"}):
        run_id = store.client.create_run(store.experiment, tags=tags).info.run_id
        store.client.set_terminated(run_id, "FINISHED")
    assert collect(store.uri).note is None


STRANGE = {
    "no metrics": {},
    "not a number": {"anytime__cer_rate": float("nan"), "test__accuracy": float("nan")},
    "infinite": {"anytime__cer_rate": float("inf"), "test__accuracy": float("-inf"), "gap__clean": float("inf")},
    "other metrics": {"loss": 1.0},
    "no field of the protocol": {"tags": {"protocol": "{}"}},
    "unknown fields": {"protocol": {"weather": {"wind": ["n", None]}, "moon": None, "replay": {"a": "b"}}},
    "no numbers": {"tags": {"protocol": '{"a": NaN, "megabatches": "many", "epochs": [1e999]}'}},
    "large numbers": {"protocol": {"replay": 10**400, "epochs": -(10**400)}, "seed": 2**62},
    "long words": {"protocol": {"replay": "x" * 3000}, "tags": {"stream_label": "y" * 3000}},
    "lines": {"tags": {"stream_label": "a\nb\x00|c", "commit": "\n|"}, "strategy": {"strategy": "a\n|b"}},
    "options": {"strategy": {"strategy": "x", "a": None, "b": [], "c": {"d": "e", "f": None}, "g": 10**400}},
    "tags named as columns": {
        "tags": dict.fromkeys(["run_id", "started", "density", "identity", "metrics.anytime/cer_rate"], "x")
    },
}


@pytest.mark.filterwarnings("error")
def test_strange_runs_have_boards_beside_everybody_elses(store, tmp_path):
    for seed in (0, 1):
        for strategy in ("dense", "APP"):
            store.add(strategy, seed, anytime__cer_rate=0.25, test__accuracy=0.5)
        for case in STRANGE.values():
            store.add(**{"seed": seed, "strategy": "rival", **case})
    lines = []
    for across in ([], ["replay"]):
        reports = publish([store.uri], tmp_path / "out", across=across, say=lines.append)
        assert sum(len(report.board.runs) for report in reports) > len(STRANGE)
        assert any(row.row.name.startswith("APP") for report in reports for row in report.rows)
    assert lines == []


def test_damaged_explanations_are_passed_over(store, tmp_path):
    good = Measure("anytime/cer_rate", "CER rate", "errors", "fraction")
    wrong = {
        "title": [1, None, []], "name": [[], {}, 3], "key": [[], 5], "position": ["first", None, 1e400],
        "form": [5, None, "{:d}", "{"], "better": ["up", 2], "places": [5], "meaning": [None, {}], "short": [{}],
    }  # fmt: skip
    fields = json.loads(to_tags([good])[TAG + good.name])
    texts = [json.dumps({**fields, name: value}) for name, values in wrong.items() for value in values]
    for number, text in enumerate([*texts, DEEP[:5000], '{"name": "\\ud800", "title": "x"}']):
        store.client.set_experiment_tag(store.experiment, f"{TAG}wrong {number}", text)
    store.add(anytime__cer_rate=0.25, wrong=0.5)
    records = collect(store.uri)
    assert [one.title for one in records.glossary.values() if one.name == "anytime/cer_rate"] == ["CER rate"]
    assert len(boards(records)) == 1
    publish([store.uri], tmp_path / "out")


def test_fields_that_only_some_runs_have_can_be_compared_across(store):
    store.add(tags={"protocol": "{}"})
    store.add("APP")
    assert {row.name for board in boards(collect(store.uri), across=["replay"]) for row in board.rows} == {
        "dense",
        "APP (replay full)",
    }


def test_names_of_pages_are_not_longer_than_file_systems_take():
    name = page_name("y" * 3000, "real", "f", {"replay": "x" * 3000})
    assert len(name) < 255 and name != page_name("y" * 3000, "real", "f", {"replay": "x" * 3001})


def test_options_of_any_kind_can_be_named():
    variant = {"strategy": "x", "b": [1], "c": {"d": "e", "f": 0.50}, "g": 10**400, "h": True}
    assert variant_name(variant) == f"x (b [1], d e, f 0.5, g {10**400}, h)"


@pytest.mark.parametrize("full", ["write_bytes", "mkdir"])
def test_where_pages_cannot_be_written_the_old_ones_stay_whole(store, tmp_path, monkeypatch, full):
    folder = tmp_path / "out"
    store.add(anytime__cer_rate=0.25)
    publish([store.uri], folder)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    store.add(data="synthetic", anytime__cer_rate=0.5)
    done = []
    real = getattr(Path, full)

    def fail(path, *args, **kwargs):
        done.append(path)
        if full == "mkdir" or len(done) == 3:
            if full == "write_bytes":
                real(path, b"half a p")
            raise OSError(28, "No space left on device")
        return real(path, *args, **kwargs)

    monkeypatch.setattr(Path, full, fail)
    with pytest.raises(BoardError, match=f"cannot write to {folder}: No space left on device"):
        publish([store.uri], folder)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_what_a_killed_writer_has_left_is_cleared_by_the_next_one(store, tmp_path):
    folder = tmp_path / "out"
    left = folder / f"{PREFIX}abc"
    left.mkdir(parents=True)
    (left / LOCK).touch()
    (left / "README.md").write_text("half a p")
    store.add(anytime__cer_rate=0.25)
    publish([store.uri], folder)
    assert {path.suffix for path in folder.iterdir()} == {".md"}


def test_commands_that_write_the_same_pages_do_not_take_each_others_drafts(store, tmp_path, monkeypatch):
    folder = tmp_path / "out"
    store.add(anytime__cer_rate=0.25)
    write = Path.write_bytes
    depth = []

    def interrupted(path, text, **kwargs):
        write(path, text, **kwargs)
        if not depth:
            depth.append(path)
            publish([store.uri], folder)

    monkeypatch.setattr(Path, "write_bytes", interrupted)
    publish([store.uri], folder)
    assert depth and all(path.suffix == ".md" for path in folder.iterdir())
