"""A package of another party, installed into a scratch environment: it is listed, runs, and lands on a board."""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from aftermath import Aftermath, differences
from commands import environment_of

from leaderboards.sources.collect import collect

PACKAGE = Path(__file__).parent / "package"

STEP = "avalanche.training.templates:SupervisedTemplate.backward"
"""Called at each step of a training."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The interpreter of a new environment that sees this one's packages, and has the example installed."""
    folder = tmp_path_factory.mktemp("scratch")
    venv.create(folder / "env", with_pip=True)
    executable = folder / "env" / "bin" / "python"
    own = packages_of(executable)
    # addsitedir, so that this environment's own .pth files (an editable install) count, too.
    parents = [sysconfig.get_path("purelib"), *site.getsitepackages()]
    lines = [f"import site; site.addsitedir({path!r})" for path in dict.fromkeys(parents)]
    (own / "parent.pth").write_text("\n".join(lines) + "\n")
    # A copy: building leaves files beside the source. No network is asked for a build environment.
    source = shutil.copytree(PACKAGE, folder / "package")
    build = f"from setuptools import build_meta; print(build_meta.build_wheel({str(folder)!r}))"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    [wheel] = folder.glob("*.whl")
    done = subprocess.run(
        [executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", wheel], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return executable


def packages_of(executable: Path) -> Path:
    """Where the packages of an environment lie."""
    look = "import site; print(site.getsitepackages()[0])"
    return Path(subprocess.check_output([executable, "-c", look], text=True).strip())


@pytest.fixture(scope="module")
def site_packages(python):
    return packages_of(python)


@pytest.fixture
def command(python, tmp_path):
    def run(*arguments):
        return subprocess.run(
            [python, "-m", "benchmark.run", *arguments],
            cwd=tmp_path,
            env={**os.environ, "COLUMNS": "160"},
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


def test_it_is_listed_with_its_package_and_not_known_elsewhere(command):
    listed = command("--list").stdout
    for name in ("halving", "first_come", "checkers"):
        line = next(line for line in listed.splitlines() if line.startswith(f"  {name} "))
        assert "Halves the network at every megabatch (halving-for-anytime-bench 0.3)" in line
    ours = subprocess.run([sys.executable, "-m", "benchmark.run", "--list"], capture_output=True, text=True).stdout
    assert "halving" not in ours


def test_it_runs_and_lands_on_a_board_beside_ours(command, tmp_path):
    done = command(
        "--stream", "checkers", "--strategy", "halving", "--strategy", "APP", "--score", "first_come",
        "--set", "kept=0.25", "--set", "kept=0.5", "--model", "cnn", "--epochs", "1", "--batch-size", "16",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    runs = collect(f"sqlite:///{tmp_path / 'results' / 'mlflow.db'}").runs
    densities = {
        (variant["strategy"], variant.get("kept")): density
        for variant, density in zip(runs.variant, runs["metrics.size/density"], strict=True)
    }
    assert densities == pytest.approx(
        {("halving", 0.25): 0.25**3, ("halving", 0.5): 0.5**3, ("APP", None): 0.8**4.5}, abs=1e-3
    )
    assert all(variant["strategy_version"] == 2 for variant in runs.variant if variant["strategy"] == "halving")
    [page] = [path for path in (tmp_path / "results" / "leaderboards").glob("*.md") if path.name != "README.md"]
    text = page.read_text()
    assert "| halving (first_come, kept 0.25)" in text and "| APP (first_come)" in text and "strategy v2" in text


@pytest.fixture
def forked(site_packages, tmp_path_factory, preloaded):
    """Function: the command in a process whose libraries were imported before, and which sees the new packages."""

    def run(*arguments, folder, **options):
        said = tmp_path_factory.mktemp("said") / "said.txt"
        environment = environment_of(folder / "cache", site=str(site_packages))
        return preloaded.start(
            *arguments, folder=folder, environment=environment, streams=[said, said], **options
        ).end()

    return run


def test_its_settings_are_checked_like_ours(forked, tmp_path):
    done = forked("--stream", "checkers", "--strategy", "halving", "--set", "kept=1.5", folder=tmp_path)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "kept=1.5" in done.stderr and "less than 1" in done.stderr
    assert not list(tmp_path.iterdir())


def test_its_strategy_is_interrupted_and_goes_on_to_the_same_bits(forked, tmp_path):
    arguments = [
        *("--stream", "checkers", "--strategy", "halving", "--score", "first_come", "--model", "mlp"),
        *("--epochs", "2", "--batch-size", "16"),
    ]
    results = []
    for name, signal_at in (
        ("undisturbed", None),
        # In the third of four megabatches.
        ("told", {"at": STEP, "call": 40, "when": "before", "number": 15}),
        ("killed", {"at": "benchmark.running.checkpoint:_sync_folder", "call": 2, "when": "after"}),
    ):
        folder = tmp_path / name
        folder.mkdir()
        first = forked(*arguments, "--checkpoint-every", "0", folder=folder, signal_at=signal_at)
        assert first.returncode == {"undisturbed": 0, "told": 143, "killed": -9}[name], first.stderr
        if signal_at is not None:
            again = forked(*arguments, "--checkpoint-every", "0", folder=folder)
            assert again.returncode == 0 and "goes on where it was interrupted" in again.stderr, again.stderr
        [result] = Aftermath(folder).results().values()
        results.append(result)
    assert len(results[0][1]) == 2, "weights and masks"
    assert [differences(results[0], other) for other in results[1:]] == [[], []]
