"""The record of a run in an MLflow store: what its tags are called, and what makes two runs the same one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

PREFIX = "anytime_bench."
"""Of the tags that the benchmark writes; a run without them is not a benchmark run and is passed over."""

EARLIER = {"precision": "fp32"}
"""Protocol fields that came later -> the value of all runs that do not record them. Newer records say this themselves,
in the tag ``earlier``."""


def fingerprint(fields: Mapping[str, Any]) -> str:
    """12 hex digits, equal for equal fields in any order."""
    return hashlib.sha256(json.dumps(dict(fields), sort_keys=True).encode()).hexdigest()[:12]


def identity_key(*, protocol: Mapping[str, Any], variant: Mapping[str, Any], seed: int, data_fingerprint: str) -> str:
    """12 hex digits for what a run is recorded, skipped, resumed and grouped by.

    Args:
        protocol: what the run shares with all that it can be compared with; versions included.
        variant: the strategy with the options that it reads; versions included.
        seed: of everything random.
        data_fingerprint: of the images.
    """
    return fingerprint({"protocol": protocol, "variant": variant, "seed": seed, "data": data_fingerprint})
