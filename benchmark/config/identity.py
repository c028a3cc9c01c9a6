"""The identity of a run: what two runs must agree in to be the same one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


def fingerprint(fields: Mapping[str, Any]) -> str:
    """12 hex digits, equal for equal fields in any order."""
    return hashlib.sha256(json.dumps(dict(fields), sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Identity:
    """What a run is recorded, skipped, resumed and grouped by.

    Attributes:
        protocol: what it shares with all runs that it can be compared with; versions included.
        variant: the strategy with the options that it reads; versions included.
        seed: of everything random.
        data_fingerprint: of the images; empty as long as they have not been read.
    """

    protocol: Mapping[str, Any]
    variant: Mapping[str, Any]
    seed: int
    data_fingerprint: str = ""

    @property
    def key(self) -> str:
        """12 hex digits that stand for all of it."""
        parts = {"protocol": self.protocol, "variant": self.variant, "seed": self.seed, "data": self.data_fingerprint}
        return fingerprint(parts)
