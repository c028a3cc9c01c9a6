from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from leaderboards.numbers.statistics import Comparison, Estimate, equivalence, estimate, holm, paired, seeds_needed


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


def drawn(shift, deviation, seeds, count, seed=0):
    """Comparisons of made-up paired differences."""
    values = np.random.default_rng(seed).normal(shift, deviation, (count, seeds))
    return [Comparison(Estimate(row.mean(), None, seeds), None, row.std(ddof=1)) for row in values]


def test_equivalence_by_hand():
    # Differences .1, .2, .3 within 1: the nearer bound is .8 / (.1 / sqrt(3)) = 13.856 away, 2 degrees of freedom.
    found = paired({0: 0.1, 1: 0.2, 2: 0.3}, {0: 0, 1: 0, 2: 0})
    assert equivalence(found, 1) == pytest.approx(0.002583, abs=1e-6)
    assert equivalence(paired({0: 1.0}, {0: 1.0}), 1) is None
    same, far = paired({0: 1.0, 1: 2.0}, {0: 1.0, 1: 2.0}), paired({0: 3.0, 1: 4.0}, {0: 1.0, 1: 2.0})
    assert equivalence(same, 0.5) == 0.0 and equivalence(far, 0.5) == 1.0


def test_equivalence_is_claimed_as_often_as_the_level_says_and_no_more():
    """At the margin itself the test has its size; well inside it finds out, and beyond it does not."""
    shares = {
        shift: np.mean([equivalence(one, 1.0) <= 0.05 for one in drawn(shift, 0.3, 5, 4000)]) for shift in (0, 1, 1.2)
    }
    assert 0.04 < shares[1] < 0.06 and shares[0] > 0.95 and shares[1.2] < 0.01


@pytest.mark.parametrize("deviation", [0.4, 1.0, 1.7])
def test_so_many_seeds_see_the_difference_four_times_in_five_and_one_less_does_not(deviation):
    def power(seeds):
        values = np.random.default_rng(1).normal(1.0, deviation, (20_000, seeds))
        t = values.mean(axis=1) / (values.std(axis=1, ddof=1) / seeds**0.5)
        return np.mean(np.abs(t) > special.stdtrit(seeds - 1, 0.975))

    needed = seeds_needed(deviation, 1.0)
    assert power(needed) > 0.795 and power(needed - 1) < 0.8


def test_seeds_needed_at_the_ends():
    assert seeds_needed(0, 1) == 2 and seeds_needed(1e-6, 1) == 2
    assert seeds_needed(100, 1) is None and seeds_needed(float("inf"), 1) is None
    # Cohen's table: 34 pairs see half a standard deviation with a power of .8.
    assert seeds_needed(2, 1) == 34
