"""Rows of a board against each other, seed by seed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from leaderboards.glossary import Measure
from leaderboards.numbers.boards import Row
from leaderboards.numbers.statistics import Comparison, paired


def paired_rows(rows: Sequence[Row], measure: Measure) -> list[Comparison | None]:
    """The second minus the first of each two rows, over common seeds, in the order of ``itertools.combinations``.

    None where two have no common seed. The p values are those of single comparisons: none is corrected.
    """
    by_seed = [row.by_seed(measure.name) for row in rows]
    return [paired(second, first) for first, second in combinations(by_seed, 2)]
