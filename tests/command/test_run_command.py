from __future__ import annotations

import os
import re
import signal
import time

import pytest
from mlflow import MlflowClient
from states import same

from benchmark.registry import STREAMS
from leaderboards.sources.collect import collect

TINY = ("--megabatches", "2", "--epochs", "1", "--batch-size", "16", "--model", "cnn")
SMALL_STAND_IN = ("--data", "synthetic", "--shots", "20", "--test-shots", "5", "--profile", "demo")

pytestmark = pytest.mark.slow


def runs_in(folder):
    return collect(f"sqlite:///{folder / 'results' / 'mlflow.db'}").runs


def test_strategies_of_each_family_run_over_a_real_stream(command, tmp_path):
    """Each of the others is run by tests/entries."""
    names = ["APP", "APP-reference", "dense", "ensemble", "Naive", "RigL", "SWA"]
    flags = [part for name in names for part in ("--strategy", name)]
    done = command("--stream", "digits", *flags, *TINY)
    assert done.returncode == 0, done.stderr
    assert sorted(runs_in(tmp_path).variant.map(lambda v: v["strategy"])) == sorted(names)
    for name in names:
        assert re.search(rf"^Run \d+, digits {name} seed 0: .*CER rate", done.stdout, flags=re.M)
    index = (tmp_path / "results" / "leaderboards" / "README.md").read_text()
    assert "digits" in index and "Traceback" not in done.stderr


EMBEDDED = ("digits", "synthetic")
TREES = ("imagefolder", "restricted_imagenet", "restricted_imagenet_fewshot")
TINY_TREES = ("tiny_restricted_imagenet", "tiny_restricted_imagenet_fewshot")
DOWNLOADED = ("cifar10", "cifar100", "mnist", "fashion_mnist")


def test_every_stream_is_covered_here():
    """Those that arrive in another way have images of these: see tests/streams."""
    own = [name for name in STREAMS.names() if STREAMS.load(name).traits.protocol == "alma"]
    assert sorted(EMBEDDED + TREES + TINY_TREES + DOWNLOADED) == sorted(own)


@pytest.mark.parametrize("stream", TREES + TINY_TREES)
def test_streams_of_image_trees(command, tmp_path, stream, class_folders, imagenet_tree, tiny_imagenet_tree):
    root = {"imagefolder": class_folders}.get(stream, tiny_imagenet_tree if stream in TINY_TREES else imagenet_tree)
    shots = ("--shots", "6") if "fewshot" in stream else ()
    done = command("--stream", stream, "--strategy", "APP", "--data-root", str(root), "--data", "real", *TINY, *shots)
    assert done.returncode == 0, done.stderr
    assert list(runs_in(tmp_path).data) == ["real"] and "STAND-IN" not in done.stderr


@pytest.mark.parametrize("stream", ("synthetic", *DOWNLOADED))
def test_stand_ins_for_any_stream(command, tmp_path, stream):
    done = command("--stream", stream, "--strategy", "APP", *TINY, *SMALL_STAND_IN, "--resolution", "8")
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("STAND-IN IMAGES: ") and list(runs_in(tmp_path).data) == ["synthetic"]


def test_the_main_job_falls_back_to_stand_ins_and_says_so_first(command, tmp_path):
    small = ("--shots", "20", "--test-shots", "5", "--epochs", "1", "--resolution", "16")
    done = command("--stream", "restricted_imagenet_fewshot", "--strategy", "APP", *small, fresh=True)
    assert done.returncode == 0, done.stderr
    first, *progress = done.stderr.splitlines()
    assert first.startswith("STAND-IN IMAGES: restricted_imagenet_fewshot")
    # Libraries say nothing, as of what they deprecate: nobody who runs this can mend it.
    assert not [line for line in progress if not re.match("Run 1 of 1: |  about |  megabatch ", line)]
    [run] = runs_in(tmp_path).itertuples()
    assert run.data == "synthetic" and run.profile == "demo"
    heads = re.search(r"^ +megabatch .*$", done.stdout, flags=re.M)[0].split()
    rows = [line.split() for line in re.findall(r"^ +\d+ +\d\.\d{4}.*$", done.stdout, flags=re.M)]
    assert [int(row[0]) for row in rows] == list(range(1, 11))
    scheduled = [0.8 ** (1 + 3.5 * t / 9) for t in range(10)]
    # Counted from the end: the first megabatch has an empty cell.
    assert [float(row[heads.index("density") - len(heads)]) for row in rows] == pytest.approx(scheduled, abs=6e-5)
    for words in (
        "CER rate",
        "Anytime accuracy",
        "Gap (reference)",
        "Gap (clean)",
        "Mean density",
        "FLOPs",
        "MLflow store:",
    ):
        assert words in done.stdout


def test_same_seed_same_bits_and_another_seed_another_split(command, tmp_path):
    import torch

    arguments = ("--stream", "digits", "--strategy", "APP", *TINY)
    for seeds in (("0", "1"), ("0",)):
        flags = [part for seed in seeds for part in ("--seed", seed)]
        done = command(*arguments, *flags, "--rerun", "always")
        assert done.returncode == 0, done.stderr
    runs = runs_in(tmp_path)
    client = MlflowClient(f"sqlite:///{tmp_path / 'results' / 'mlflow.db'}")

    def loaded(run_id, name="state_dict.pt"):
        return torch.load(client.download_artifacts(run_id, name), weights_only=True)

    first, second = runs[runs.seed == 0].run_id
    [other] = runs[runs.seed == 1].run_id
    state = loaded(first)
    assert same(state, loaded(second)) and not same(state, loaded(other))
    assert all(bool((state[name][~mask] == 0).all()) for name, mask in loaded(first, "masks.pt").items())


def test_config_file_with_flags_winning_and_a_grid_in_it(command, tmp_path):
    (tmp_path / "grid.yaml").write_text(
        "stream: digits\nstrategy: [dense, OSP]\nepochs: 1\nmegabatches: 2\nmodel: mlp\nseed: [0, 1]\ntau: 2\n"
    )
    done = command("--config", "grid.yaml", "--seed", "5", "--density", "0.5")
    assert done.returncode == 0, done.stderr
    runs = runs_in(tmp_path)
    assert sorted(runs.seed) == [5, 5]
    osp = runs[runs.variant.map(lambda v: v["strategy"]) == "OSP"]
    assert float(osp["metrics.size/density"].iloc[0]) == pytest.approx(0.5, abs=1e-4)


def test_waiting_trains_less_often_and_is_tested_as_often(command, tmp_path):
    done = command(
        "--stream",
        "digits",
        "--strategy",
        "APP",
        "--wait",
        "2",
        "--megabatches",
        "5",
        "--epochs",
        "1",
        "--model",
        "mlp",
    )
    assert done.returncode == 0, done.stderr
    [run_id] = runs_in(tmp_path).run_id
    client = MlflowClient(f"sqlite:///{tmp_path / 'results' / 'mlflow.db'}")
    tested = client.get_metric_history(run_id, "test/errors")
    trained = client.get_metric_history(run_id, "train/accuracy")
    assert sorted(point.step for point in tested) == [1, 2, 3, 4, 5]
    assert sorted(point.step for point in trained) == [2, 4, 5]
    assert client.get_run(run_id).data.metrics["size/density"] == pytest.approx(0.8**4.5, abs=1e-4)


BAD = {
    "no such stream": (["--stream", "cifar"], "did you mean 'cifar10'"),
    "no such strategy": (["--strategy", "appp"], "did you mean 'APP'"),
    "no such option": (["--epoch", "3"], "--epochs"),
    "density beyond 1": (["--density", "1.2"], "--density: Input should be less than or equal to 1"),
    "density and tau": (["--density", "0.5", "--tau", "3"], "one of them"),
    "more megabatches than images": (["--megabatches", "5000"], "only 1437 training images"),
    "no training images": (["--megabatches", "1437"], "for validation"),
    "too many shots": (["--shots", "900"], "lower --shots"),
    "unreachable server": (["--tracking-uri", "http://127.0.0.1:9"], "no tracking server"),
    "unknown profile": (["--profile", "fast"], "known are demo, paper"),
    "missing config": (["--config", "none.yaml"], "cannot read none.yaml"),
    "no cuda": (["--device", "cuda:99"], "CUDA devices"),
    "unwritable output": (["--output", "/proc/nowhere"], "--output"),
    "half an epoch": (["--epochs", "2.5"], "'--epochs'"),
    "a score the model has no use for": (["--score", "bn_scale", "--model", "mlp"], "has none: use magnitude"),
    "a setting that is no pair": (["--set", "every"], "--set takes NAME=VALUE"),
    "a setting of another strategy": (["--set", "every=5"], "APP has none"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_leaves_nothing_behind(command, tmp_path, case):
    arguments, message = BAD[case]
    done = command(*_base(arguments), *arguments)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr and "Traceback" not in done.stderr
    assert [line[:7] for line in done.stderr.splitlines()] == ["Error: "]
    assert not list(tmp_path.iterdir())


def _base(arguments):
    defaults = {"--stream": "digits", "--strategy": "APP"}
    return [part for flag, value in defaults.items() if flag not in arguments for part in (flag, value)]


def test_real_images_that_are_not_there_are_explained(command, tmp_path):
    done = command("--stream", "restricted_imagenet_fewshot", "--strategy", "APP", "--data", "real")
    assert done.returncode == 2
    assert "ILSVRC2012" in done.stderr and "--data-root" in done.stderr and "Traceback" not in done.stderr
    done = command("--stream", "synthetic", "--strategy", "APP", "--data", "real")
    assert done.returncode == 2 and "synthetic by nature" in done.stderr
    assert not list(tmp_path.iterdir())


def test_corrupt_images_are_refused_or_skipped_and_counted(command, tmp_path, class_folders):
    import shutil

    root = tmp_path / "images"
    shutil.copytree(class_folders, root)
    (root / "ant" / "broken.jpg").write_bytes(b"not an image")
    arguments = ("--stream", "imagefolder", "--strategy", "dense", "--data-root", "images", *TINY)
    done = command(*arguments)
    assert done.returncode == 2 and "broken.jpg" in done.stderr and "--skip-corrupt" in done.stderr
    done = command(*arguments, "--skip-corrupt")
    assert done.returncode == 0, done.stderr
    assert "1 unreadable images left out" in done.stderr and list(runs_in(tmp_path).skipped_images) == ["1"]


BROKEN = """
from strategies.registry import STRATEGIES

@STRATEGIES.register("broken", options=())
def broken(learner, pruning):
    \"\"\"Raises.\"\"\"
    raise RuntimeError("out of ideas")
"""


def test_a_failing_run_says_why_and_does_not_stop_the_others(command, tmp_path):
    """The failing strategy comes in as a third-party package does: through an entry point."""
    site = tmp_path / "site"
    (site / "broken-1.0.dist-info").mkdir(parents=True)
    (site / "broken_strategy.py").write_text(BROKEN)
    (site / "broken-1.0.dist-info" / "METADATA").write_text(
        "Name: broken\nVersion: 1.0\nSummary: A strategy that fails\n"
    )
    (site / "broken-1.0.dist-info" / "entry_points.txt").write_text(
        "[anytime_bench.strategies]\nbroken = broken_strategy:broken\n"
    )
    listed = command("--list", site=str(site))
    assert "A strategy that fails (broken 1.0)" in listed.stdout
    done = command("--stream", "digits", "--strategy", "broken", "--strategy", "dense", *TINY, site=str(site))
    assert done.returncode == 1 and "out of ideas" in done.stderr and "Traceback" not in done.stderr
    assert [variant["strategy"] for variant in runs_in(tmp_path).variant] == ["dense"]
    client = MlflowClient(f"sqlite:///{tmp_path / 'results' / 'mlflow.db'}")
    statuses = {
        run.data.tags.get("anytime_bench.failure"): run.info.status
        for run in client.search_runs([e.experiment_id for e in client.search_experiments()])
        if "strategy" in run.data.params
    }
    assert statuses == {"RuntimeError: out of ideas": "FAILED", None: "FINISHED"}
    pages = "".join(page.read_text() for page in (tmp_path / "results" / "leaderboards").glob("*.md"))
    assert "dense" in pages and "broken" not in pages


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interruption_exits_with_its_signal_and_marks_the_runs(start_command, tmp_path, number):
    seeds = ["--seed", "0", "--seed", "1"]
    arguments = ["--stream", "digits", "--strategy", "dense", *seeds, "--epochs", "5000", "--megabatches", "2"]
    process = start_command(tmp_path, *arguments)
    process.wait_for("  about")
    time.sleep(0.5)
    os.kill(process.pid, number)
    ended = process.end()
    assert ended.returncode == 128 + number, ended.stderr
    assert "Interrupted" in ended.stderr and "Traceback" not in ended.stderr
    client = MlflowClient(f"sqlite:///{tmp_path / 'results' / 'mlflow.db'}")
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    # The run under way and the one that both belong to.
    assert [run.info.status for run in runs] == ["KILLED"] * 2


def test_warnings_about_pruning_are_notes(command):
    done = command(
        "--stream", "digits", "--strategy", "OSP", "--structure", "filters", "--density", "0.0001", *TINY
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Note: density 0.0001 cannot be reached" in done.stderr and "Warning" not in done.stderr
