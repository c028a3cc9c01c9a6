"""A run of each board is made again from its record: what is true is equal, and what is not is told."""

from __future__ import annotations

import json
import shutil

import pytest
from click.testing import CliRunner

from benchmark.config.profiles import resolve
from benchmark.recording.store import Store
from benchmark.running.prepare import prepare
from benchmark.running.run import run
from benchmark.spot import main
from leaderboards.export import export
from leaderboards.record import identity_key


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """Records of a fast run and of a slower one, on one board."""
    folder = tmp_path_factory.mktemp("spot")
    store = Store(None, folder / "results", "digits")
    options = {"stream": "digits", "model": "mlp", "megabatches": 2, "epochs": 1, "shots": 30, "strategy": "OSP"}
    run(prepare(resolve(options, profile="demo"), data_root=folder, cache=folder), store=store, profile="demo")
    export(store.uri, folder / "records", last_only=["curve/*"])
    [path] = (folder / "records").glob("*/*.json")
    slower = json.loads(path.read_text())
    slower["metrics"]["time/train_seconds"]["last"] = 1e6
    slower |= {"run_id": "f" * 32, "seed": 7}
    path.with_name("slower.json").write_text(json.dumps(identified(slower)))
    return folder


def identified(record):
    fields = {name: record[name] for name in ("protocol", "variant", "seed", "data_fingerprint")}
    return record | {"identity": identity_key(**fields)}


@pytest.fixture
def spot(original, tmp_path):
    """Checks the records after a change of the faster one: exit code, output and errors."""
    shutil.copytree(original / "records", tmp_path / "records")

    def check(change=None, *options):
        [path] = [one for one in tmp_path.glob("records/*/*.json") if one.name != "slower.json"]
        record = json.loads(path.read_text())
        if change is not None:
            change(record)
        path.write_text(json.dumps(identified(record)))
        places = ["--data-root", str(original), "--cache", str(original)]
        found = CliRunner().invoke(main, [str(tmp_path / "records"), *places, *options])
        return found.exit_code, found.stdout

    return check


def test_a_true_record_is_equal(spot):
    code, said = spot()
    assert code == 0 and "osp-s0-" in said and "equal: every value of every metric" in said
    assert said.endswith("1 boards: 1 equal\n")


def test_one_digit_is_told(spot):
    def change(record):
        record["metrics"]["test/accuracy"]["values"][0] += 1e-12

    code, said = spot(change)
    assert code == 1 and "- test/accuracy at 1 is " in said and said.count("\n  - ") == 1


def test_where_sums_round_differently_there_is_a_tolerance(spot):
    def near(record):
        record["provenance"]["cpu_capability"] = "OTHER"
        record["metrics"]["test/accuracy"]["last"] += 0.04
        record["metrics"]["test/errors"]["last"] *= 1.09

    code, said = spot(near)
    assert code == 0 and "close: within the tolerance" in said and "recorded OTHER" in said

    def far(record):
        record["metrics"]["test/accuracy"]["last"] += 0.02
        record["metrics"]["no/such"] = {"last": 1.0, "steps": [], "values": []}

    code, said = spot(far)
    assert code == 1 and "test/accuracy is " in said and "no/such is not measured" in said


def test_what_this_code_does_not_make_is_passed_over_and_skipped_where_there_is_nothing_else(spot, tmp_path):
    def change(record):
        record["variant"]["strategy_version"] = 99

    assert "slower.json, trained in 1,000,000 s" in spot(change, "--dry-run")[1]
    next(tmp_path.glob("records/*/slower.json")).unlink()
    code, said = spot()
    assert code == 0 and "variant has strategy_version 99" in said and "1 boards: 1 skipped" in said


def test_other_images_or_none_are_skipped_with_the_reason(spot, original):
    def other(record):
        record["data_fingerprint"] = "0" * 16

    assert "the images of digits here are others" in spot(other)[1]

    def missing(record):
        record["protocol"] |= {"stream": "mnist", "model": "cnn"}
        record["stream"] = record["stream_label"] = "mnist"

    code, said = spot(missing, "--data-root", str(original / "nowhere"))
    assert code == 0 and "skipped" in said and "mnist is not in" in said


def test_what_is_no_folder_of_records_is_one_line(tmp_path):
    found = CliRunner().invoke(main, [str(tmp_path)])
    assert found.exit_code == 2 and found.stderr.startswith("Error: ") and found.stderr.count("\n") == 1
