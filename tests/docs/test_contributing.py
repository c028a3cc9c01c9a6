"""The examples of CONTRIBUTING.md and the commands of README.md do what they say."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from avalanche.training.supervised import EWC
from mlflow import MlflowClient
from torch import nn
from torch.optim import SGD

from benchmark.streams.protocols.alma import alma_scenario
from leaderboards.sources.collect import collect
from strategies.pruning.parts import PruningParts
from strategies.pruning.plugin import PruningPlugin
from strategies.pruning.schedules import OneShot
from strategies.pruning.scores.magnitude import magnitude

ROOT = Path(__file__).parents[2]
PACKAGES = ("benchmark", "strategies", "leaderboards")


def examples() -> dict[str, str]:
    """File name -> content of each example: a code block right after a line that names a Python file."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^`([\w/]+\.py)`:\n\n```python\n(.*?)^```", text, flags=re.M | re.S))


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """A copy of the packages with the examples written where they say."""
    root = tmp_path_factory.mktemp("extended")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name, content in examples().items():
        assert not (root / name).exists()
        (root / name).write_text(content, encoding="utf-8")
    return root


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmark.run", *arguments], cwd=folder, capture_output=True, text=True, timeout=300
    )


def test_there_is_an_example_of_each_kind():
    assert [Path(name).parts[:-1] for name in examples()] == [
        ("strategies", "pruning", "scores"),
        ("strategies",),
        ("benchmark", "streams", "sources"),
        ("benchmark", "metrics"),
    ]


def test_examples_are_listed_with_their_descriptions(extended):
    listed = command(extended, "--list").stdout
    for line in ("stripes", "gradient_size", "late", "zeros"):
        assert re.search(rf"^  {line} +\w", listed, flags=re.M)


def test_an_example_is_one_file_of_under_60_lines():
    assert all(len(content.splitlines()) < 60 for content in examples().values())


@pytest.mark.slow
def test_examples_run_and_reach_a_board(extended, tmp_path):
    done = command(
        extended, "--stream", "stripes", "--strategy", "late", "--strategy", "APP", "--score", "gradient_size",
        "--set", "share=0.9", "--model", "cnn", "--epochs", "2", "--megabatches", "3",
        "--output", str(tmp_path / "out"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    store = f"sqlite:///{tmp_path / 'out' / 'mlflow.db'}"
    runs = collect(store).runs
    assert {(v["strategy"], v["score"]) for v in runs.variant} == {("late", "gradient_size"), ("APP", "gradient_size")}
    assert list(runs["metrics.size/density"]) == pytest.approx([0.8**4.5] * 2, abs=1e-4)
    [late] = [run.run_id for run in runs.itertuples() if run.variant["strategy"] == "late"]
    history = MlflowClient(store).get_metric_history(late, "size/density")
    assert [point.value for point in history] == pytest.approx([1, 1, 0.8**4.5], abs=1e-4)
    pages = list((tmp_path / "out" / "leaderboards").glob("stripes*.md"))
    assert len(pages) == 1 and "late (gradient_size, share 0.9)" in pages[0].read_text()
    assert "Zeros" in pages[0].read_text() and all(runs["metrics.size/zeros"] > 0.6 * 14_000)


def test_the_plugin_works_under_a_strategy_of_avalanche_as_shown():
    """The block has no file name: it is a fragment, and runs with what it names."""
    [block] = re.findall(r"```python\n(plugin = .*?)```", (ROOT / "CONTRIBUTING.md").read_text(), flags=re.S)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    names = {
        "PruningPlugin": PruningPlugin,
        "PruningParts": PruningParts,
        "magnitude": magnitude,
        "OneShot": OneShot,
        "EWC": EWC,
        "CrossEntropyLoss": nn.CrossEntropyLoss,
        "model": model,
        "optimizer": SGD(model.parameters(), lr=0.1),
    }
    exec(block, names)
    points = [(torch.randn(6), label % 3) for label in range(40)]
    labels = [label for _, label in points]
    scenario = alma_scenario(points, points, labels, labels, megabatches=2)
    for experience in scenario.train_stream:
        names["strategy"].train(experience, eval_streams=[])
    assert int((model[0].weight != 0).sum()) == round(0.2 * 48)


def test_readme_opens_with_the_two_commands():
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.S)
    assert blocks[0].rstrip().endswith("-m benchmark.run --stream restricted_imagenet_fewshot --strategy APP")
    assert blocks[1].rstrip().endswith("tox")


def test_links_of_the_pages_lead_somewhere():
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "leaderboards").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links to {target}"
