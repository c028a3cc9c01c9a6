"""The page docs/reproductions.md: published accuracies of others beside ours, each number computed from the records.

    python campaigns/reproductions.py            writes the page
    python campaigns/reproductions.py --check    ends with 1 if the page is not what the records give

The rows are the blocks of ``reproductions.yaml``; a block without records says that it was not run.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from answer import table, write_or_check

from benchmark.config.run_config import ALMA
from benchmark.registry import STREAMS
from leaderboards import load
from leaderboards.numbers.statistics import Estimate, estimate

ROOT = Path(__file__).parents[1]
CAMPAIGN = ROOT / "campaigns" / "reproductions.yaml"
RECORDS = ROOT / "leaderboards" / "published" / "reproductions"
PAGE = ROOT / "docs" / "reproductions.md"
TEMPLATE = ROOT / "campaigns" / "reproductions.template.md"

ACC, ACCURACY = "metrics.continual/accuracy", "metrics.test/accuracy"


@dataclass(frozen=True)
class Published:
    """What others report of a block of the campaign.

    Attributes:
        theirs: accuracy of continual-learning-baselines, as their table has it, to two digits; None of a row that
            explains another.
        papers: that of the paper, where their table names one.
        note: what is otherwise here.
    """

    theirs: float | None
    papers: float | None = None
    note: str = ""


PUBLISHED = {
    ("split_mnist", "SI"): Published(0.97),
    ("split_mnist", "RWalk"): Published(0.99),
    ("split_mnist", "GDumb"): Published(0.97),
    ("mnist", "dense"): Published(None, note="what 4,400 images give: as many, of all classes at once"),
    ("split_mnist", "LwF"): Published(0.23, note="two hidden layers where they have one"),
    ("split_mnist", "Replay"): Published(0.92, note="two hidden layers of 512 where they have one with dropout"),
    ("permuted_mnist", "GEM"): Published(0.80),
    ("permuted_mnist", "A-GEM"): Published(0.81),
    ("permuted_mnist", "EWC"): Published(0.83, 0.94),
    ("permuted_mnist", "SI"): Published(0.83, 0.95),
}
"""(stream, strategy) -> what is published; one block each."""

ROUNDING = 0.005
"""Theirs are given to two digits."""


def block_command(block: Mapping[str, Any], common: Mapping[str, Any]) -> str:
    """The command that runs a block alone."""
    words = ["python", "-m", "benchmark.run"]
    for name, value in {**common, **block}.items():
        for one in value if isinstance(value, list) else [value]:
            if name == "settings":
                for setting, said in one.items():
                    words += ["--set", f"{setting}={said}"]
            else:
                flag = name.replace("_", "-")
                words += [f"--no-{flag}"] if one is False else [f"--{flag}", str(one)]
    return shlex.join([*words, "--data-root", "DIR"])


def runs_of(runs: pd.DataFrame, stream: str, strategy: str) -> pd.Series[float]:
    """Final accuracy of a block's runs by seed."""
    found = runs[(runs["stream"] == stream) & (runs["variant.strategy"] == strategy)]
    return found.set_index("seed")[ACC if found[ACC].notna().all() else ACCURACY].astype(float)


def accuracy(found: Estimate) -> str:
    """A mean with half of its interval."""
    return f"{found.mean:.3f}" + ("" if found.margin is None else f" ± {found.margin:.3f}")


def verdict(found: Estimate, published: Published) -> str:
    """Whether the interval of the mean and what the published figure was rounded from have something in common."""
    if found.margin is None:
        return "one run"
    low, high = found.mean - found.margin, found.mean + found.margin
    for name, value in (("theirs", published.theirs), ("the paper's", published.papers)):
        if value is not None and low <= value + ROUNDING and high >= value - ROUNDING:
            return f"**reproduced** ({name})"
    return "" if published.theirs is None else "higher" if low > published.theirs else "lower"


def page(records: Path) -> str:
    """The page that the records give."""
    campaign = yaml.safe_load(CAMPAIGN.read_text(encoding="utf-8"))
    common = {name: value for name, value in campaign.items() if name not in ("name", "include")}
    runs = load(f"records:{records}").runs
    rows, commands = [], []
    for block in campaign["include"]:
        key = block["stream"], block["strategy"]
        published = PUBLISHED[key]
        accuracies = runs_of(runs, *key)
        how = block.get("protocol") or STREAMS.load(key[0]).traits.protocol
        found = estimate(list(accuracies)) if len(accuracies) else None
        rows.append(
            [
                f"{block['strategy']}, `{key[0]}`" + (f", {how}" if how != ALMA else ""),
                "-" if published.theirs is None else f"{published.theirs:.2f}",
                "-" if published.papers is None else f"{published.papers:.2f}",
                "not run" if found is None else accuracy(found),
                str(len(accuracies)),
                "" if found is None else verdict(found, published),
                published.note,
            ]
        )
        commands.append(block_command(block, common))
    hours = runs["metrics.time/train_seconds"].sum() / 3600
    headers = ["strategy and stream", "theirs", "paper's", "ours: ACC", "seeds", "", "otherwise here"]
    return TEMPLATE.read_text(encoding="utf-8").format(
        table=table(headers, rows),
        commands="\n".join(commands),
        hours=f"{hours:.1f}",
        hardware=", ".join(sorted(set(runs["hardware"]))),
    )


if __name__ == "__main__":
    sys.exit(write_or_check(PAGE, page(RECORDS), sys.argv[1:]))
