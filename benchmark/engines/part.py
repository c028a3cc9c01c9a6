"""Parts of a campaign, for machines that know nothing of each other."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from benchmark.errors import UsageError, shortened


@dataclass(frozen=True)
class Part:
    """The ``number``-th of ``parts`` of the runs of a campaign, from 1."""

    number: int
    parts: int

    def __str__(self) -> str:
        return f"{self.number}/{self.parts}"

    @classmethod
    def parse(cls, text: str) -> Part:
        """The part that ``3/20`` names.

        Raises:
            UsageError: it names none.
        """
        found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
        number, parts = (int(found[1]), int(found[2])) if found else (0, 0)
        if not 1 <= number <= parts:
            raise UsageError(f"--shard takes K/N, the K-th of N parts such as 3/20, not {shortened(text)}")
        return cls(number, parts)

    def of(self, identities: Sequence[str]) -> list[int]:
        """Which runs are in it, given the identities of all: their positions, ascending.

        Dealt out by identity, not by position: neighbours in a grid often take equally long, and parts should not.
        Every run is in one part, whatever the order of the campaign.
        """
        dealt = sorted(range(len(identities)), key=lambda position: identities[position])
        return sorted(dealt[self.number - 1 :: self.parts])
