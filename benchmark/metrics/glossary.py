"""All registered metrics: made for a run, and what their series mean."""

from __future__ import annotations

from avalanche.evaluation import PluginMetric

from benchmark.registry import METRICS
from leaderboards.glossary import Glossary


def make_metrics() -> list[PluginMetric]:
    """A new metric of each registered kind, in the order in which they measure."""
    entries = sorted(
        (METRICS.load(name) for name in METRICS.names()), key=lambda entry: (entry.traits.order, entry.name)
    )
    return [entry.target() for entry in entries]


def glossary() -> Glossary:
    """What every series means that runs of this installation emit."""
    return Glossary([measure for name in METRICS.names() for measure in METRICS.load(name).traits.measures])
