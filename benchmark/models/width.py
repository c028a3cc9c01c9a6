"""How wide the layers of a network are."""

from __future__ import annotations


def widened(units: int, width: float) -> int:
    """So many channels or hidden units, times ``width``; one at least."""
    return max(1, round(units * width))
