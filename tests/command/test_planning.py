"""From options to runs: what a profile says, what takes it back, and what is one run."""

from __future__ import annotations

import pytest
import yaml

from benchmark.command.session import Session
from benchmark.running import prepare as preparing
from benchmark.running.bf16 import SLOW_BF16

pytestmark = pytest.mark.slow

FOLDERS = ("--stream", "imagefolder", "--strategy", "dense", "--model", "mlp", "--megabatches", "2", "--epochs", "1")


@pytest.fixture
def planned(tmp_path):
    """Function: options -> the runs that they stand for."""

    def plan(given, documents=(), profile=None):
        file = None
        if documents:
            file = tmp_path / "runs.yaml"
            file.write_text("---\n".join(documents))
        session = Session(tmp_path, tmp_path, tmp_path, None, "tests")
        return [run.config for run in session.plan(given, file, profile)]

    return plan


def test_a_profiles_shots_are_lowered_to_what_the_classes_have(called, class_folders):
    """Classes of 20 images, of which 16 are for training."""
    root = ("--data-root", str(class_folders), "--profile", "demo")
    code, out, err = called(*FOLDERS, *root, "--dry-run")
    assert code == 0, err
    fields = yaml.safe_load(out)
    assert (fields["shots"], fields["test_shots"]) == (16, 4)
    assert "# Note: --shots 16 in place of the profile's 108: the smallest class has no more images." in out
    code, _, err = called(*FOLDERS, *root, "--seed", "0", "--seed", "1")
    assert code == 0 and err.count("--shots 16 in place of the profile's 108") == 1


def test_shots_that_were_asked_for_are_not_lowered(called, class_folders):
    code, _, err = called(*FOLDERS, "--data-root", str(class_folders), "--profile", "demo", "--shots", "17")
    assert code == 2 and "class ant has only 16 images: lower --shots" in err


def test_all_shots_take_a_profiles_value_back(planned):
    assert [one.shots for one in planned({"stream": "cifar10", "strategy": "dense"}, profile="demo")] == [108]
    given = {"stream": "cifar10", "strategy": "dense", "shots": "all"}
    assert [one.shots for one in planned(given, profile="demo")] == [None]
    document = "stream: cifar10\nstrategy: dense\nprofile: demo\nshots: [all, 20]\ntest-shots: all\n"
    assert [(one.shots, one.test_shots) for one in planned({}, [document])] == [(None, None), (20, None)]
    assert [one.shots for one in planned({"shots": ["all", "7"]}, [document])] == [None, 7]


def test_a_stream_takes_the_profile_it_names(planned):
    [digits] = planned({"stream": "digits", "strategy": "APP"})
    assert (digits.model, digits.epochs, digits.batch_size) == ("cnn", 10, 32)
    [asked] = planned({"stream": "digits", "strategy": "APP"}, profile="paper")
    assert asked.epochs == 50


def test_documents_that_differ_in_what_is_not_read_are_one_run(planned):
    documents = [f"stream: digits\nstrategy: dense\ndensity: {density}\nscore: {score}\n"
                 for density, score in ((0.1, "snip"), (0.2, "magnitude"))]  # fmt: skip
    assert len(planned({}, documents)) == 1
    assert len(planned({"strategy": "APP"}, documents)) == 2


def test_one_structure_in_several_spellings_is_one_run(planned):
    documents = [f"stream: digits\nstrategy: APP\nstructure: '{name}'\n" for name in ("2:4", "02:04", "\uff12:\uff14")]
    [run] = planned({}, documents)
    assert run.structure == "2:4"


@pytest.mark.parametrize("last", [(), ("--dry-run",)])
def test_slow_bf16_is_noted_once_a_command(called, monkeypatch, last):
    monkeypatch.setattr(preparing, "has_bf16_instructions", lambda: False)
    small = ("--stream", "digits", "--strategy", "dense", "--model", "mlp", "--megabatches", "1", "--epochs", "1")
    seeds = ("--seed", "0", "--seed", "1")
    code, out, err = called(*small, *seeds, "--precision", "bf16", "--device", "cpu", *last)
    assert code == 0 and (out + err).count(SLOW_BF16) == 1
