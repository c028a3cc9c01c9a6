"""``--dry-run``: it says no to what a run would refuse, shows what varies, and does nothing."""

from __future__ import annotations

import re

import pytest
import yaml
from avalanche.core import SupervisedPlugin

from benchmark.command.differences import compare, read_options
from benchmark.config.profiles import resolve
from benchmark.errors import UsageError
from benchmark.running.forecast import forecast_seconds, measure_rate
from benchmark.running.prepare import prepare
from benchmark.running.progress import planned_samples
from benchmark.running.run import run
from strategies.registry import STRATEGIES

pytestmark = pytest.mark.slow

DIGITS = ("--stream", "digits", "--strategy", "APP", "--megabatches", "3", "--epochs", "2", "--model", "mlp")

REFUSED = {
    "too many shots": (["--shots", "900"], "lower --shots"),
    "more megabatches than images": (["--megabatches", "5000"], "only 1437 training images"),
    "unknown layers": (["--scope", "custom", "--layer-density", "stem=0.5"], "mlp has no such layer"),
    "no such device": (["--device", "cuda:99"], "CUDA devices"),
    "a score the network has no use for": (["--score", "bn_scale"], "has none: use magnitude"),
    "missing images": (["--stream", "restricted_imagenet", "--data", "real", "--resolution", "32"], "ILSVRC2012"),
    "unwritable output": (["--output", "/proc/nowhere"], "--output"),
    "a store that would be lost": (["--tracking-uri", "sqlite://"], "names no file"),
    "unreachable server": (["--tracking-uri", "http://127.0.0.1:9"], "no tracking server"),
    "more shots than the images to be downloaded have": (["--stream", "cifar10", "--shots", "5001"], "lower --shots"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_run_would_refuse_is_refused(called, tmp_path, case):
    arguments, message = REFUSED[case]
    code, out, err = called(*DIGITS, *arguments, "--dry-run")
    assert (code, out) == (2, "") and message in err
    assert [line[:7] for line in err.splitlines()] == ["Error: "] and not list(tmp_path.iterdir())


def test_compiling_without_a_compiler_is_refused(called, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    code, _, err = called(*DIGITS, "--compile", "--dry-run")
    assert code == 2 and "there is no no-such-compiler" in err


def test_a_single_run_is_a_configuration_file_that_gives_the_same_run(called, tmp_path):
    code, out, _ = called(*DIGITS, "--seed", "3", "--dry-run")
    assert code == 0 and not list(tmp_path.iterdir())
    fields = yaml.safe_load(out)
    assert fields.pop("profile") == "demo"
    assert resolve(fields, profile="demo") == resolve(
        {
            "stream": "digits",
            "strategy": "APP",
            "megabatches": 3,
            "epochs": 2,
            "model": "mlp",
            "seed": 3,
            "data": "real",
        },
        profile="demo",
    )
    (tmp_path / "run.yaml").write_text(out)
    _, again, _ = called("--config", "run.yaml", "--dry-run")
    assert yaml.safe_load(again) == yaml.safe_load(out)


def test_several_runs_are_a_row_each_with_what_varies_and_totals(called, tmp_path):
    several = ("--strategy", "dense", "--seed", "0", "--seed", "7", "--set", "every=5", "--strategy", "RigL")
    code, out, _ = called(*DIGITS, *several, "--score", "snip", "--dry-run")
    assert code == 0 and not list(tmp_path.iterdir())
    assert out.splitlines()[:2] == ["Note: dense does not use --score.", "Note: RigL does not use --score."]
    rows = [re.split(r" {2,}", row.strip()) for row in out.split("\n\n")[0].splitlines() if row[:1].isdigit()]
    assert len(rows) == 6
    table, common, totals = out.split("\n\n")
    assert "--strategy" in table and "--seed" in table and "--epochs" not in table
    assert "--epochs 2" in common and "--seed" not in common and "--strategy" not in common
    assert "Images of digits: real images, 1,437 for training, 360 for tests" in totals
    assert {row[-1] for row in rows} == {"new"}
    trained = [int(row[-3].replace(",", "")) for row in rows]
    assert f"6 runs, training on {sum(trained):,} images, about " in totals


def test_a_grid_of_sixty_runs_is_read_on_one_page(called):
    seeds = [part for seed in range(30) for part in ("--seed", str(seed))]
    code, out, _ = called(*DIGITS, "--strategy", "dense", *seeds, "--dry-run")
    assert code == 0 and len(out.splitlines()) < 80 and "60 runs" in out


def test_images_that_would_be_downloaded_are_not_found_and_no_error(called, tmp_path):
    cifar = ("--stream", "cifar10", "--strategy", "dense", "--model", "mlp", "--profile", "demo", "--resolution", "8")
    code, out, err = called(*cifar, "--dry-run")
    assert code == 0, err
    assert "cifar10: not found (a run would download them; 50,000 for training, 10,000 for tests)" in out
    assert not list(tmp_path.iterdir())


def test_a_strategy_that_fails_at_once_is_refused(called, request):
    def broken(learner, pruning):
        """Raises."""
        raise RuntimeError("out of\nideas")

    # Only this entry goes: a strategy first loaded in between could not be loaded again.
    request.addfinalizer(lambda: STRATEGIES._entries.pop("broken"))
    STRATEGIES.register("broken", options=())(broken)
    code, _, err = called(*DIGITS, "--strategy", "broken", "--dry-run")
    assert code == 2 and err == "Error: broken on digits fails as soon as it trains: RuntimeError: out of ideas\n"


class Counter(SupervisedPlugin):
    """Counts training images."""

    def __init__(self):
        super().__init__()
        self.seen = 0

    def after_training_iteration(self, strategy, *args, **kwargs):
        self.seen += len(strategy.mb_y)


@pytest.mark.parametrize(
    "options",
    [
        *(
            {},
            {"replay": "none"},
            {"replay": "last"},
            {"replay": "buffer", "buffer_size": 100},
            {"wait": 2},
            {"shots": 30},
        ),
        *({"replay": "interleaved", "buffer_size": size} for size in (20, 100)),
    ],
    ids=str,
)
def test_as_many_images_are_planned_as_are_trained_on(options, tmp_path, cache):
    small = {"stream": "digits", "strategy": "dense", "model": "mlp", "megabatches": 5, "epochs": 2, **options}
    prepared = prepare(resolve(small, profile="demo"), data_root=tmp_path, cache=cache)
    counter = Counter()
    run(prepared, plugins=[counter])
    assert planned_samples(prepared.sizes, prepared.config)[0] == counter.seen


def test_joined_images_are_trained_on_more_often_and_measured_once(tmp_path, cache):
    def planned(replay):
        small = {"stream": "digits", "strategy": "dense", "megabatches": 5, "replay": replay, "buffer_size": 20}
        prepared = prepare(resolve(small, profile="demo"), data_root=tmp_path, cache=cache)
        return planned_samples(prepared.sizes, prepared.config)

    (added, measured), (joined, as_many) = planned("buffer"), planned("interleaved")
    assert joined > 1.2 * added and as_many == measured


def test_twice_the_epochs_are_expected_to_take_nearly_twice_the_time(tmp_path, cache):
    def prepared(epochs):
        options = {"stream": "digits", "strategy": "APP", "model": "mlp", "epochs": epochs}
        return prepare(resolve(options, profile="demo"), data_root=tmp_path, cache=cache)

    rate = measure_rate(prepared(10))
    short, long = (forecast_seconds(prepared(epochs), rate) for epochs in (10, 20))
    assert 1.8 < long / short <= 2


def test_a_rate_is_measured_whatever_the_learning_rate(tmp_path, cache):
    options = {"stream": "digits", "strategy": "dense", "model": "mlp", "lr": 1e30}
    assert measure_rate(prepare(resolve(options, profile="demo"), data_root=tmp_path, cache=cache)) > 0


def test_what_not_all_runs_read_is_common_to_those_that_do():
    read = [
        read_options(resolve({"stream": "digits", "strategy": strategy, "epochs": epochs}, profile="demo"))
        for strategy, epochs in (("APP", 3), ("dense", 4))
    ]
    common, varying = compare(read)
    assert varying == ["--strategy", "--epochs"]
    assert common["--score"] == "snip" and common["--shots"] == "all" and "--buffer-size" not in common


def test_images_that_are_nowhere_are_an_error_with_their_place(tmp_path, cache):
    options = {"stream": "mnist", "strategy": "dense"}
    with pytest.raises(UsageError, match="a run would download it"):
        prepare(resolve(options, profile="demo"), data_root=tmp_path, cache=cache, download=False)
