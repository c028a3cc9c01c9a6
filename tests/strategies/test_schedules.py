"""APP's density schedule: d_t = 0.8 ** s_t, s = linspace(1, tau, B)."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies.pruning.schedules import OneShot, Progressive

taus = st.floats(0.01, 40)
lengths = st.integers(1, 200)


def test_published_schedule_of_eight_megabatches():
    schedule = Progressive(0.8**4.5, 8)
    assert [round(schedule(t), 3) for t in range(8)] == [0.8, 0.716, 0.64, 0.572, 0.512, 0.458, 0.41, 0.366]


@given(st.floats(1, 40), st.integers(2, 200))
def test_densities_are_powers_of_a_linspace(tau, megabatches):
    schedule = Progressive(0.8**tau, megabatches)
    expected = 0.8 ** np.linspace(1, tau, megabatches)
    np.testing.assert_allclose([schedule(t) for t in range(megabatches)], expected, rtol=1e-12)


@given(st.floats(1, 40), st.integers(2, 200))
def test_endpoints_are_one_step_and_the_target(tau, megabatches):
    schedule = Progressive(0.8**tau, megabatches)
    assert schedule(0) == pytest.approx(0.8, rel=1e-12)
    assert schedule(megabatches - 1) == 0.8**tau, "exactly, so that no rounding of counts depends on it"


@given(taus)
def test_one_megabatch_gets_the_target(tau):
    assert Progressive(0.8**tau, 1)(0) == 0.8**tau


@given(taus, lengths)
def test_density_never_grows_and_stays_in_range(tau, megabatches):
    schedule = Progressive(0.8**tau, megabatches)
    densities = [schedule(t) for t in range(megabatches + 3)]
    assert all(1 >= before >= after > 0 for before, after in pairwise(densities))
    assert densities[megabatches - 1 :] == [densities[-1]] * 4


@given(st.floats(0.01, 0.99), lengths)
def test_a_target_above_one_step_holds_from_the_start(tau, megabatches):
    assert [Progressive(0.8**tau, megabatches)(t) for t in range(megabatches)] == pytest.approx(
        [0.8**tau] * megabatches
    )


@given(taus, lengths)
def test_one_shot_prunes_once_to_where_the_progressive_schedule_ends(tau, megabatches):
    schedule = OneShot(0.8**tau)
    assert schedule(0) == pytest.approx(Progressive(0.8**tau, megabatches)(megabatches - 1))
    assert [schedule(t) for t in range(1, 9)] == [None] * 8
