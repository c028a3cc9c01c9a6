"""The page docs/answer.md: what APP's claims come to, each number computed from the published records.

    python campaigns/answer.py            writes the page
    python campaigns/answer.py --check    ends with 1 if the page is not what the records give

What has no records yet is not spoken of, but for a line that says so.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import fmean

import pandas as pd

from leaderboards import load
from leaderboards.numbers.monotone import departure
from leaderboards.numbers.statistics import Comparison, Estimate, holm, paired

ROOT = Path(__file__).parents[1]
PUBLISHED = ROOT / "leaderboards" / "published"
RECORDS = PUBLISHED / "records"
PAGE = ROOT / "docs" / "answer.md"
TEMPLATE = ROOT / "campaigns" / "answer.template.md"

PAPERS_DENSITY = 0.8**4.5
"""Final density of the paper: tau 4.5."""

ACCURACY, CER, GAP = "test/accuracy", "anytime/cer_rate", "gap/clean"

FLOPS = "compute/train_flops_if_skipped"
"""Of training, where what is pruned costs nothing."""

CLAIMED_ACCURACY = 7.0
"""Per cent, of the abstract: about."""

CLAIMED_GAP = -22.0
"""Per cent, of the abstract: about."""

CLAIMED_SIZE, ABOUT = 1 / 3, 0.05
"""Share of the weights, of the abstract, and how far from it is still about that."""

SIGNIFICANT = 0.05

FACTORS = {
    "weights": ("fresh", "trained", "scores of freshly initialised weights, not of the trained ones"),
    "combination": ("intersection", "newest", "the intersection of all masks, not the newest mask"),
    "scoring_set": ("first", "current", "the first megabatch scored each time, not the current one"),
}
"""Setting of APP-reference -> the authors' value, the paper's, and what the former is."""

PARTS = {
    "APP": {"score": "snip", "schedule": "exponent", "structure": "unstructured"},
    "OSP": {"score": "snip", "structure": "unstructured"},
}
"""Of strategies that have been run with other parts, too: their own."""

EQUAL_MEANS = {PAPERS_DENSITY: 0.558, 0.05: 0.288}
"""Final density of APP -> the constant one that is as dense on average over the megabatches."""

CAMPAIGNS = {
    "fashion_mnist": ["fashion_mnist.yaml --data-root DIR"],
    "tiny_restricted_imagenet_fewshot": ["tiny_restricted_imagenet.yaml --data-root DIR"],
    "digits": ["digits.yaml", "digits_long.yaml"],
}
"""Stream -> what its runs here are made with."""

LONG = 100
"""Megabatches of the long stream."""

BLOCKS = 5
"""Parts of a long stream whose mean gaps are compared, one with the next."""


class Rows:
    """The runs on one stream, by strategy and options."""

    def __init__(self, runs: pd.DataFrame, series: pd.DataFrame):
        self.runs, self.series = runs, series

    def of(self, strategy: str, **options: object) -> pd.DataFrame:
        """Runs of a strategy; ``density`` is the final one that was asked for, the paper's unless told otherwise."""
        found = self.runs[self.runs["variant.strategy"] == strategy]
        usual = {"control": "none", "known_length": True, "density": PAPERS_DENSITY, **PARTS.get(strategy, {})}
        wanted = {**usual, **options}
        for name, value in wanted.items():
            column = f"variant.{name}"
            if column not in found or found[column].isna().all():
                continue
            same = (found[column] - value).abs() < 1e-9 if isinstance(value, float) else found[column] == value
            found = found[same]
        return found

    def by_seed(self, metric: str, strategy: str, **options: object) -> dict[int, float]:
        """Seed -> last value of a metric."""
        found = self.of(strategy, **options)
        if found["seed"].duplicated().any():
            raise ValueError(f"several variants of {strategy} are taken for one: {sorted(set(found['name']))}")
        return dict(zip(found["seed"].astype(int), found[f"metrics.{metric}"].astype(float), strict=True))

    def against_dense(self, metric: str, strategy: str, **options: object) -> Comparison | None:
        """A strategy minus dense, seed by seed."""
        return paired(self.by_seed(metric, strategy, **options), self.by_seed(metric, "dense"))

    def mean(self, metric: str, strategy: str, **options: object) -> float:
        """Mean of a metric over the runs of a strategy."""
        return fmean(self.by_seed(metric, strategy, **options).values())

    def curves(self, metric: str, strategy: str) -> dict[int, list[float]]:
        """Seed -> a metric after each megabatch."""
        found = self.series[self.series.metric == metric].sort_values("step")
        runs = self.of(strategy)["seed"].astype(int).to_dict()
        by_seed = sorted((seed, run_id) for run_id, seed in runs.items())
        return {seed: found[found.run_id == run_id]["value"].tolist() for seed, run_id in by_seed}


def points(value: Estimate) -> str:
    """A difference in points."""
    margin = "" if value.margin is None else f" ± {100 * value.margin:.1f}"
    return f"{100 * value.mean:+.1f}{margin}"


def p_value(p: float | None) -> str:
    """As it stands behind a difference."""
    return "" if p is None else (" (p < .001)" if p < 0.001 else f" (p {p:.3f})".replace("0.", "."))


def compared(comparisons: Sequence[Comparison | None]) -> list[str]:
    """Differences with their p values, which are Holm-corrected over all of them."""
    corrected = iter(holm([one.p for one in comparisons if one is not None and one.p is not None]))
    texts = []
    for one in comparisons:
        if one is None:
            texts.append("-")
        else:
            texts.append(points(one.difference) + p_value(None if one.p is None else next(corrected)))
    return texts


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A markdown table."""
    lines = [headers, [":--", *["--:"] * (len(headers) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


@dataclass(frozen=True)
class Verdict:
    """What became of a claim."""

    claim: str
    measured: str
    verdict: str


def judged(found: Rows) -> tuple[str, str]:
    """What the claims of accuracy and of the gap come to on one stream, for APP at the paper's density."""
    accuracy, cer, gap = (found.against_dense(metric, "APP") for metric in (ACCURACY, CER, GAP))
    assert accuracy is not None and cer is not None and gap is not None
    if accuracy.difference.margin is None or gap.difference.margin is None:
        return "not seen", "not seen"
    # Read as relative, which is the smaller claim.
    claimed = CLAIMED_ACCURACY / 100 * found.mean(ACCURACY, "dense")
    top = accuracy.difference.mean + accuracy.difference.margin
    dense_gap = found.mean(GAP, "dense")
    bottom = gap.difference.mean - gap.difference.margin
    # Where dense has no gap there is none to be smaller.
    excluded = dense_gap > 0 and bottom > CLAIMED_GAP / 100 * dense_gap
    # Equal in every seed, two rows have no p.
    p_accuracy, _, p_gap = holm([1.0 if one.p is None else one.p for one in (accuracy, cer, gap)])
    better = accuracy.difference.mean > 0 and p_accuracy < SIGNIFICANT
    smaller = gap.difference.mean < 0 and p_gap < SIGNIFICANT
    return (
        "holds" if better else "does not hold" if top < claimed else "not seen",
        "holds" if smaller else "does not hold" if excluded else "not seen",
    )


def verdicts(few: Rows, long: Rows | None) -> list[Verdict]:
    """The four claims of the abstract, beside what was measured."""
    accuracy, cer, gap = (few.against_dense(metric, "APP") for metric in (ACCURACY, CER, GAP))
    assert accuracy is not None and cer is not None and gap is not None
    texts = compared([accuracy, cer, gap])
    better, smaller = judged(few)
    dense_gap = few.mean(GAP, "dense")
    share, half = (100 * value / dense_gap for value in (gap.difference.mean, gap.difference.margin or 0.0))
    weights = few.mean("size/density", "APP")
    bytes_kept = few.mean("size/bytes_bitmask", "APP") / few.mean("size/bytes_bitmask", "dense")
    found = [
        Verdict(
            f"accuracy about +{CLAIMED_ACCURACY:.0f} %",
            f"final accuracy {texts[0]} points, CER rate {texts[1]} points",
            better,
        ),
        Verdict(
            f"generalisation gap about {CLAIMED_GAP:.0f} %",
            f"clean gap {texts[2]} points of dense's {100 * dense_gap:.1f}: {share:+.0f} ± {half:.0f} %",
            smaller,
        ),
        Verdict(
            "size about 1/3 of dense",
            f"{100 * weights:.1f} % of the prunable weights; {100 * bytes_kept:.0f} % of the stored bytes",
            "holds" if abs(weights - CLAIMED_SIZE) < ABOUT else "does not hold",
        ),
    ]
    return [*found, non_monotone(long)]


def non_monotone(long: Rows | None) -> Verdict:
    """Whether the clean gap of APP rises and falls between parts of a long stream, beyond noise."""
    claim = "gap non-monotone over very many megabatches"
    if long is None:
        return Verdict(claim, "no long stream has records yet", "not tested yet")
    told = {name: fifths(list(long.curves(GAP, name).values())) for name in ("APP", "dense")}
    moves = {name: {sign for _, sign in steps} for name, steps in told.items()}
    verdict = "holds" if moves["APP"] >= {-1, 1} else "not seen"
    if all(one >= {-1, 1} for one in moves.values()):
        verdict += ", and for dense, too"
    shown = "; ".join(f"{name} {', '.join(text for text, _ in steps)}" for name, steps in told.items())
    return Verdict(claim, f"clean gap, from each fifth of the stream to the next, in points: {shown}", verdict)


def fifths(curves: Sequence[Sequence[float]]) -> list[tuple[str, int]]:
    """From each part of a long stream to the next: the difference of mean values, and which way it is shown to go."""
    blocks = [_blocks(values) for values in curves]
    found = [
        paired({s: b[k + 1] for s, b in enumerate(blocks)}, {s: b[k] for s, b in enumerate(blocks)})
        for k in range(BLOCKS - 1)
    ]
    steps = [step for step in found if step is not None and step.p is not None]
    corrected = holm([step.p for step in steps if step.p is not None])
    signs = [
        (step.difference.mean > 0) - (step.difference.mean < 0) if p < SIGNIFICANT else 0
        for step, p in zip(steps, corrected, strict=True)
    ]
    return list(zip(compared(steps), signs, strict=True))


def long_gap(long: Rows | None) -> str:
    """The gap over the long stream, as the published board draws it; empty where there is none."""
    if long is None:
        return ""
    board = min(PUBLISHED.glob(f"digits-real-b{LONG}-full-*.md"))
    folder = f"../leaderboards/published/{board.stem}"
    off = {name: departure(list(long.curves(GAP, name).values())) for name in ("APP", "dense", "OSP", "GMP")}
    told = ", ".join(f"{name} {100 * one.rms:.2f}{p_value(one.p)}" for name, one in off.items())
    return (
        f"## The gap over {LONG} megabatches\n\n"
        f'<picture><source media="(prefers-color-scheme: dark)" srcset="{folder}/gap-dark.svg">'
        f'<img src="{folder}/gap-light.svg" alt="Clean gap after each of {LONG} megabatches" width="720"></picture>\n\n'
        f"Means and 95 % bands on the digits ([board]({folder}.md)). The comparison of fifths was fixed before the "
        "runs. Within the first ten megabatches the means go up and down, for dense as for the pruners. A test that "
        "was thought of when this was seen, how far the mean curve is from any that only rises or falls (root mean "
        f"square in points; wild bootstrap over seeds, `leaderboards/numbers/monotone.py`; raw p), gives {told}.\n\n"
    )


def _blocks(values: Sequence[float]) -> list[float]:
    size = len(values) // BLOCKS
    return [fmean(values[k * size : (k + 1) * size]) for k in range(BLOCKS)]


def densities(few: Rows) -> str:
    """Each method against dense, at each density that has records."""
    rows, comparisons = [], []
    for strategy in ("SWA", "from-scratch"):
        runs = few.of(strategy)
        if len(runs) >= 2:
            rows.append([f"{strategy}, dense", str(len(runs)), "100"])
            comparisons.append([few.against_dense(metric, strategy) for metric in (CER, ACCURACY, GAP)])
    for strategy in ("APP", "GMP", "static-random", "RigL", "OSP", "APP-reference", "LRR", "IMP", "SET"):
        for density in (PAPERS_DENSITY, 0.1, 0.05, 0.02):
            runs = few.of(strategy, density=density, **_as_published(strategy))
            if len(runs) < 2:
                continue
            kept = [100 * runs[f"metrics.size/{name}"].mean() for name in ("mean_density", "density")]
            rows.append([f"{strategy}, {density:.3g}", str(len(runs)), f"{kept[0]:.3g} → {kept[1]:.2g}"])
            comparisons.append(
                [
                    few.against_dense(m, strategy, density=density, **_as_published(strategy))
                    for m in (CER, ACCURACY, GAP)
                ]
            )
    headers = ["minus dense, in points", "seeds", "density, %: mean → final", "CER rate", "final accuracy", "clean gap"]
    return compared_table(headers, rows, comparisons)


def streams(runs: pd.DataFrame, series: pd.DataFrame) -> str | None:
    """APP minus dense wherever both have been run with full replay; None before there is more than one such board."""
    columns = ["stream", "protocol.megabatches", "protocol.model"]
    rows, comparisons, verdicts = [], [], []
    for (stream, megabatches, model), own in runs[runs["protocol.replay"] == "full"].groupby(columns):
        found = Rows(own, series)
        for density in (PAPERS_DENSITY, 0.05):
            seeds = found.by_seed(CER, "APP", density=density).keys() & found.by_seed(CER, "dense").keys()
            if len(seeds) >= 2:
                name = f"{stream}, {megabatches} megabatches, {model}, {density:.3g}"
                rows.append([name, str(len(seeds)), f"{100 * found.mean(GAP, 'dense'):.1f}"])
                comparisons.append([found.against_dense(m, "APP", density=density) for m in (CER, ACCURACY, GAP)])
                verdicts.append(judged(found) if density == PAPERS_DENSITY else ("", ""))
    if len({row[0].rpartition(",")[0] for row in rows}) < 2:
        return None
    headers = ["APP minus dense, in points", "seeds", "dense's clean gap", "CER rate", "final accuracy", "clean gap"]
    told = (
        "The last two columns are what the claims of accuracy and gap come to on each stream, by the rule of the first "
        "table, and by p values that are corrected as there, over the three differences of a row.\n\n"
    )
    return told + compared_table([*headers, "accuracy", "gap"], rows, comparisons, verdicts)


def _as_published(strategy: str) -> dict[str, object]:
    return {name: values[0] for name, values in FACTORS.items()} if strategy == "APP-reference" else {}


def factorial(few: Rows) -> str | None:
    """Main effects of the parts of the authors' code; None before all eight combinations have two seeds in common."""
    cells = {
        choice: few.of("APP-reference", **dict(zip(FACTORS, choice, strict=True)))
        for choice in product(*(values[:2] for values in FACTORS.values()))
    }
    seeds = sorted(set.intersection(*(set(runs["seed"].astype(int)) for runs in cells.values())))
    if len(seeds) < 2:
        return None
    rows, comparisons = [], []
    for number, (authors, papers, words) in enumerate(FACTORS.values()):
        effects = []
        for metric in (CER, ACCURACY, GAP, "size/density"):
            sides = []
            for value in (authors, papers):
                those = [runs.set_index("seed")[f"metrics.{metric}"] for c, runs in cells.items() if c[number] == value]
                sides.append({seed: fmean(float(one[seed]) for one in those) for seed in seeds})
            effects.append(paired(*sides))
        rows.append([words])
        comparisons.append(effects)
    headers = [f"effect in points, {len(seeds)} seeds", "CER rate", "final accuracy", "clean gap", "final density"]
    return compared_table(headers, rows, comparisons)


def equal_footing(few: Rows) -> str | None:
    """APP minus what is as dense all the time as APP is on average; None before there is any."""
    rows, comparisons = [], []
    for density, mean in EQUAL_MEANS.items():
        for strategy in ("static-random", "RigL", "OSP"):
            if len(few.of(strategy, density=mean)) < 2:
                continue
            flops = few.mean(FLOPS, "APP", density=density) / few.mean(FLOPS, strategy, density=mean)
            rows.append([f"APP, {density:.3g}, minus {strategy}, {mean:.3g}", f"{100 * flops:.0f} %"])
            comparisons.append(
                [
                    paired(few.by_seed(m, "APP", density=density), few.by_seed(m, strategy, density=mean))
                    for m in (CER, ACCURACY, GAP)
                ]
            )
    if not rows:
        return None
    headers = ["in points", "training FLOPs of APP", "CER rate", "final accuracy", "clean gap"]
    return compared_table(headers, rows, comparisons)


def unknown_length(few: Rows) -> str | None:
    """Learners that are not told the number of megabatches, minus those that are; None before there are any."""
    rows, comparisons = [], []
    for strategy in ("APP", "GMP"):
        runs = few.of(strategy, known_length=False)
        if len(runs) >= 2:
            rows.append([strategy, f"{100 * runs['metrics.size/density'].mean():.2g} %"])
            comparisons.append(
                [
                    paired(few.by_seed(m, strategy, known_length=False), few.by_seed(m, strategy))
                    for m in (CER, ACCURACY)
                ]
            )
    if not rows:
        return None
    return compared_table(
        ["not told minus told, in points", "final density", "CER rate", "final accuracy"], rows, comparisons
    )


def compared_table(
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    comparisons: Sequence[Sequence[Comparison | None]],
    last: Sequence[Sequence[str]] = (),
) -> str:
    """A table with columns of differences, each Holm-corrected by itself, and behind them what is in ``last``."""
    columns = [compared([row[number] for row in comparisons]) for number in range(len(comparisons[0]))]
    differences = zip(*columns, strict=True)
    ends = last or [()] * len(rows)
    return table(headers, [[*a, *b, *c] for a, b, c in zip(rows, differences, ends, strict=True)])


def controls(few: Rows) -> str | None:
    """What APP and OSP lose by their controls; None before there are any."""
    rows, comparisons = [], []
    for strategy in ("APP", "OSP"):
        own = {metric: few.by_seed(metric, strategy, density=0.05) for metric in (CER, ACCURACY)}
        for control in ("shuffle", "reinitialise", "invert"):
            runs = few.of(strategy, density=0.05, control=control)
            if len(runs) >= 2:
                rows.append([f"{strategy}, {control}", str(len(runs))])
                comparisons.append(
                    [paired(few.by_seed(m, strategy, density=0.05, control=control), own[m]) for m in (CER, ACCURACY)]
                )
    if not rows:
        return None
    headers = ["density .05, control minus plain, in points", "seeds", "CER rate", "final accuracy"]
    return compared_table(headers, rows, comparisons)


def page(records: Path) -> str:
    """The page that the records give."""
    loaded = load(f"records:{records}")
    # What bf16 does is on the page of the contrast.
    all_runs = loaded.runs[loaded.runs["protocol.precision"] == "fp32"]
    found = {stream: Rows(runs, loaded.series) for stream, runs in all_runs.groupby("stream")}
    few, long = found["fashion_mnist"], found.get("digits")
    if long is not None:
        runs = long.runs[long.runs["protocol.megabatches"] == LONG]
        long = None if runs.empty else Rows(runs, long.series)
    seeds = few.of("APP")["seed"].nunique()
    used = all_runs[all_runs["stream"].isin(CAMPAIGNS)]
    hours = used["metrics.time/train_seconds"].sum() / 3600
    hardware = ", ".join(sorted(set(used["hardware"])))
    parts = {
        "APP on each stream": streams(all_runs, loaded.series),
        "What the authors' code does besides": factorial(few),
        "What chooses the weights, against controls": controls(few),
        "Equal mean density": equal_footing(few),
        "Without knowing the length": unknown_length(few),
    }
    missing = [title[0].lower() + title[1:] for title, part in parts.items() if part is None]
    campaigns = [words for stream in CAMPAIGNS if stream in found for words in CAMPAIGNS[stream]]
    verdict_rows = [[one.claim, one.measured, f"**{one.verdict}**"] for one in verdicts(few, long)]
    return TEMPLATE.read_text(encoding="utf-8").format(
        seeds=seeds,
        verdicts=table(["claimed", "measured", "verdict"], verdict_rows),
        long_gap=long_gap(long),
        densities=densities(few),
        parts="".join(f"## {title}\n\n{part}\n\n" for title, part in parts.items() if part is not None),
        missing=f"Not measured yet: {'; '.join(missing)}." if missing else "",
        commands=", ".join(f"`python -m benchmark.sweep campaigns/{words}`" for words in campaigns),
        hours=f"{hours:.1f}",
        hardware=hardware,
    )


def write_or_check(page: Path, text: str, arguments: Sequence[str]) -> int:
    """Write a page, or with ``--check`` compare it; the exit code."""
    if list(arguments) == ["--check"]:
        return int(page.read_text(encoding="utf-8") != text)
    page.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(write_or_check(PAGE, page(RECORDS), sys.argv[1:]))
