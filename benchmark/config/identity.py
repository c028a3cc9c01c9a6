"""The identity of a run: what two runs must agree in to be the same one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from leaderboards.record import identity_key


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
        return identity_key(
            protocol=self.protocol, variant=self.variant, seed=self.seed, data_fingerprint=self.data_fingerprint
        )
