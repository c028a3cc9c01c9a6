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
from commands import environment_of

from leaderboards.sources.collect import collect

PACKAGE = Path(__file__).parent / "package"

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


def test_its_settings_are_checked_like_ours(site_packages, tmp_path, tmp_path_factory, preloaded):
    """In a process whose libraries were imported before, and which sees the new environment's packages."""
    streams = tmp_path_factory.mktemp("streams")
    done = preloaded.start(
        "--stream", "checkers", "--strategy", "halving", "--set", "kept=1.5", folder=tmp_path,
        environment=environment_of(tmp_path / "cache", site=str(site_packages)),
        streams=[streams / "stdout", streams / "stderr"],
    ).end()  # fmt: skip
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "kept=1.5" in done.stderr and "less than 1" in done.stderr
    assert not list(tmp_path.iterdir())
