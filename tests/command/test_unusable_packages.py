"""Installed packages that cannot be used are listed, and end only the commands that use them, in one line."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.slow

STRATEGY = """
from strategies.registry import STRATEGIES
from strategies.dense import dense

@STRATEGIES.register("terse", options=())
def terse(learner, pruning):
    \"\"\"Learns as dense does.\"\"\"
    return dense(learner, pruning)
"""

PACKAGES = {
    # Two without a description.
    "terse": ("Name: terse\nVersion: 1.0\n", "[anytime_bench.strategies]\nterse = terse:terse\n", STRATEGY),
    "bare": (
        "Name: bare\nVersion: 1.0\n",
        "[anytime_bench.scores]\nbare = bare:bare\n",
        "def bare():\n    'Registers nothing.'\n",
    ),
    "torn": (
        "Name: torn\nVersion: 2.0\nSummary: A model out of order\n",
        "[anytime_bench.models]\ntorn = torn:torn\n",
        "raise ImportError('no module\\nnamed anything')\n",
    ),
}
"""Package -> its metadata, its entry points and its module."""


@pytest.fixture
def site(tmp_path_factory):
    """A folder with the packages installed, for PYTHONPATH."""
    folder = tmp_path_factory.mktemp("site")
    for name, (metadata, points, source) in PACKAGES.items():
        about = folder / f"{name}-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(metadata)
        (about / "entry_points.txt").write_text(points)
        (folder / f"{name}.py").write_text(source)
    return str(folder)


def test_they_are_listed(command, site):
    done = command("--list", site=site)
    assert done.returncode == 0, done.stderr
    for words in ("terse:terse (terse 1.0)", "bare:bare (bare 1.0)", "A model out of order (torn 2.0)"):
        assert words in done.stdout


@pytest.mark.parametrize(
    ("use", "reason"),
    [
        (("--score", "bare"), "bare does not register the score 'bare' that its package announces: put @SCORES.reg"),
        (("--model", "torn"), "the model 'torn' cannot be used: importing torn failed (ImportError: no module named"),
    ],
)
def test_using_one_is_refused_in_one_line(command, site, tmp_path, use, reason):
    done = command("--stream", "digits", "--strategy", "APP", *use, site=site)
    assert done.returncode == 2 and done.stderr.startswith("Error: ") and reason in done.stderr
    assert len(done.stderr.splitlines()) == 1 and not list(tmp_path.iterdir())


def test_the_others_run(command, site):
    tiny = ("--megabatches", "2", "--epochs", "1")
    done = command("--stream", "digits", "--strategy", "terse", *tiny, site=site)
    assert done.returncode == 0, done.stderr
