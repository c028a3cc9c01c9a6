"""Whether a curve rises and falls beyond noise: what the nearest monotone curve is, and how often chance says so."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leaderboards.numbers.monotone import departure

VALUES = st.floats(-10, 10).map(lambda value: round(value, 3))


@given(st.lists(VALUES, min_size=1, max_size=30), st.booleans())
def test_a_monotone_curve_is_off_by_nothing(values, falling):
    assert departure([sorted(values, reverse=falling)]).rms == pytest.approx(0, abs=1e-9)


def test_the_nearest_curve_by_hand():
    # 3 and 1 are both 2 in the nearest falling curve of 5, 1, 3; rising it would be three times 3.
    found = departure([[5.0, 1.0, 3.0]])
    assert found.rms == pytest.approx(np.sqrt((1 + 1) / 3)) and found.p is None, "one curve has no scatter"


@given(st.lists(st.lists(VALUES, min_size=6, max_size=6), min_size=2, max_size=5), st.floats(0.1, 5), VALUES)
def test_it_does_not_depend_on_unit_sign_direction_or_order_of_seeds(curves, unit, shift):
    values = np.array(curves)
    one = departure(values)
    assert departure(unit * values + shift).rms == pytest.approx(unit * one.rms, abs=1e-6)
    assert departure(-values).rms == pytest.approx(one.rms, abs=1e-6)
    assert departure(values[:, ::-1]).rms == pytest.approx(one.rms, abs=1e-6)
    assert departure(values[::-1]).rms == pytest.approx(one.rms, abs=1e-6)


def noise(rng, seeds, megabatches):
    """Curves whose neighbouring points are alike, and that scatter more at the beginning."""
    drawn = rng.normal(size=(seeds, megabatches))
    for k in range(1, megabatches):
        drawn[:, k] = 0.5 * drawn[:, k - 1] + np.sqrt(0.75) * drawn[:, k]
    return drawn * (1 + 4 * np.exp(-np.arange(megabatches) / 6))


@pytest.mark.parametrize(("seeds", "level"), [(5, 0.05), (5, 0.1), (7, 0.01), (7, 0.05), (7, 0.1)])
@pytest.mark.parametrize("shape", ["flat", "falling"])
def test_chance_is_taken_for_a_bump_no_more_often_than_the_level_says(seeds, level, shape):
    rng = np.random.default_rng(3)
    steps = np.arange(30)
    mean = 0 * steps if shape == "flat" else 12 * np.exp(-steps / 6)
    found = [departure(mean + noise(rng, seeds, 30)).p for _ in range(150)]
    assert np.mean([p <= level for p in found]) <= level + 2.5 * np.sqrt(level * (1 - level) / 150)


def test_of_n_seeds_no_p_is_below_one_in_two_to_the_n():
    curves = [[0.0, 5.0, 0.0, 5.0, 0.0]] * 4
    assert departure(curves).p >= 1 / 2**4
    many = departure(np.array([[0.0, 5.0, 0.0]] * 20) + np.random.default_rng(0).normal(size=(20, 3)) / 10)
    assert many.p == pytest.approx(1e-4, rel=1.01), "what was observed among those drawn"


def test_a_bump_is_seen():
    rng = np.random.default_rng(4)
    steps = np.arange(30)
    mean = 12 * np.exp(-steps / 6) + 8 * np.exp(-((steps - 12) ** 2) / 8)
    found = [departure(mean + noise(rng, 10, 30)) for _ in range(20)]
    assert np.mean([one.p <= 0.05 for one in found]) >= 0.9
