"""Every number of docs/reproductions.md comes from the published records; its commands are the campaign."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest
import yaml

from benchmark.config.campaign import read_campaign
from benchmark.config.grid import expand
from leaderboards.numbers.statistics import estimate

ROOT = Path(__file__).parents[2]


@pytest.fixture
def reproductions(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "campaigns"))
    for name in ("reproductions", "answer"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import reproductions

    return reproductions


def test_the_page_is_what_the_records_give(reproductions):
    said = reproductions.PAGE.read_text(encoding="utf-8")
    assert reproductions.page(reproductions.RECORDS) == said, "python campaigns/reproductions.py writes it"


@pytest.mark.parametrize(
    ("accuracies", "words"),
    [
        ([0.90, 0.91, 0.92], "**reproduced** (theirs)"),
        ([0.9149, 0.9149, 0.9149], "lower"),
        ([0.915, 0.915, 0.915], "**reproduced** (theirs)"),
        ([0.9249, 0.9249, 0.9249], "**reproduced** (theirs)"),
        ([0.93, 0.93, 0.93], "higher"),
        ([0.99, 0.99, 0.991], "**reproduced** (the paper's)"),
        ([0.92], "one run"),
    ],
)
def test_what_is_called_reproduced(reproductions, accuracies, words):
    assert reproductions.verdict(estimate(accuracies), reproductions.Published(0.92, 0.99)) == words


def test_the_commands_are_the_campaign(reproductions):
    content = yaml.safe_load(reproductions.CAMPAIGN.read_text(encoding="utf-8"))
    campaign = read_campaign([content], {}, None)
    common = {name: value for name, value in content.items() if name not in ("name", "include")}
    assert len(campaign.grids) == len(content["include"]) == len(reproductions.PUBLISHED)
    for block, grid in zip(content["include"], campaign.grids, strict=True):
        words = shlex.split(reproductions.block_command(block, common))[3:]
        given: dict[str, list[str]] = {}
        while words:
            flag = words.pop(0)
            name, value = (
                ("--" + flag.removeprefix("--no-"), "False") if flag.startswith("--no-") else (flag, words.pop(0))
            )
            given.setdefault(name, []).append(value)
        runs = expand(grid, profile=None, data_root=ROOT)
        assert given["--seed"] == [str(run.config.seed) for run in runs] and given["--data-root"] == ["DIR"]
        config = runs[0].config
        for flag, values in given.items():
            if flag == "--set":
                assert {name: float(value) for name, _, value in (v.partition("=") for v in values)} == config.settings
            elif flag not in ("--seed", "--data-root"):
                name = {"--protocol": "scenario"}.get(flag, flag.removeprefix("--").replace("-", "_"))
                assert values == [str(block.get(flag.removeprefix("--").replace("-", "_"), common.get(name)))]
                recorded = getattr(config, name)
                told = "all" if recorded is None else str(recorded)
                assert told == values[0] or float(recorded) == float(values[0])
