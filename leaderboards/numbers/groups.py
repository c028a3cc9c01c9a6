"""Groups of rows, for boards that have too many to be read in one table.

They are told from what runs record, so that records of any age have them; a test sees to it that every strategy of
the suite is here. A strategy of a third party is among the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DENSE, FIXED, PROGRESSIVE = "Dense", "Fixed masks", "Progressive pruning"
DYNAMIC, STRUCTURED, AVALANCHE, OTHER = "Dynamic masks", "Structured", "Avalanche's", "Others"
PER_TASK = "Masks per task"

GROUPS = (DENSE, FIXED, PROGRESSIVE, DYNAMIC, PER_TASK, STRUCTURED, AVALANCHE, OTHER)
"""In the order in which pages show them."""

OF_STRATEGY = {
    **dict.fromkeys(
        (
            "dense",
            "from-scratch",
            "shrink-and-perturb",
            "ensemble",
            "growing-ensemble",
            "EMA",
            "SWA",
            "distillation",
        ),
        DENSE,
    ),
    **dict.fromkeys(("OSP", "static-random"), FIXED),
    **dict.fromkeys(("APP", "APP-reference", "GMP", "IMP", "LRR"), PROGRESSIVE),
    **dict.fromkeys(("SET", "RigL", "SparCL", "ebb-and-flow"), DYNAMIC),
    **dict.fromkeys(("PackNet-masks", "WSN"), PER_TASK),
    **dict.fromkeys(
        (
            *("Naive", "Cumulative", "Replay", "GDumb", "EWC", "SI", "LwF", "DER"),
            *("MAS", "RWalk", "GEM", "A-GEM", "ER-ACE", "iCaRL", "PackNet"),
        ),
        AVALANCHE,
    ),
}


def group_of(variant: Mapping[str, Any]) -> str:
    """The group of a strategy variant: whatever prunes channels or N:M patterns, Avalanche's apart, is structured."""
    found = OF_STRATEGY.get(variant["strategy"], OTHER)
    structured = variant.get("structure", "unstructured") != "unstructured"
    return STRUCTURED if structured and found != AVALANCHE else found
