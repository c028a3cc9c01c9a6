from __future__ import annotations

import numpy as np
import pytest

from leaderboards.statistics import estimate, holm, paired


def test_interval_by_hand():
    # t(0.975, 2) = 4.302653; sd of 1, 2, 3 is 1.
    found = estimate([1.0, 2.0, 3.0])
    assert found.mean == 2.0 and found.n == 3
    assert found.margin == pytest.approx(4.302653 / 3**0.5, rel=1e-6)


def test_a_single_run_has_no_interval():
    assert estimate([0.5]).margin is None
    with pytest.raises(ValueError):
        estimate([])


def test_intervals_at_three_seeds_cover_what_they_say():
    rng = np.random.default_rng(0)
    covered = 0
    for sample in rng.normal(size=(4000, 3)):
        found = estimate(sample.tolist())
        covered += abs(found.mean) <= found.margin
    assert 0.94 < covered / 4000 < 0.96


def test_pairs_are_made_of_common_seeds():
    found = paired({0: 1.0, 1: 2.0, 7: 100.0}, {0: 0.5, 1: 1.0, 3: -5.0})
    assert found.difference.n == 2 and found.difference.mean == pytest.approx(0.75)
    assert paired({0: 1.0}, {1: 1.0}) is None
    assert paired({0: 1.0}, {0: 0.0}).p is None


def test_p_value_by_hand():
    # Differences 1, 2, 3: t = 2 * sqrt(3) = 3.4641 with 2 degrees of freedom, two-sided p = 0.0742.
    assert paired({0: 1, 1: 2, 2: 3}, {0: 0, 1: 0, 2: 0}).p == pytest.approx(0.0742, abs=1e-4)


def test_equal_methods_are_not_significant():
    assert paired({0: 1.0, 1: 2.0}, {0: 1.0, 1: 2.0}).p == 1.0


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
