"""Every density schedule: where it begins and ends, with B = 1, and where B is not known."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies.pruning.schedules import Cubic, Linear, Progressive, progress
from strategies.registry import SCHEDULES

PRUNING = [name for name in SCHEDULES.names() if name != "none"]
MOVING = ["cubic", "exponent", "linear"]
every_schedule = pytest.mark.parametrize("name", PRUNING)
every_moving_one = pytest.mark.parametrize("name", MOVING)
taus = st.floats(1.01, 40)


def schedule(name, tau, megabatches):
    return SCHEDULES.load(name).target(0.8**tau, megabatches)


@every_schedule
@given(taus)
def test_one_megabatch_gets_the_final_density(name, tau):
    assert schedule(name, tau, 1)(0) == pytest.approx(0.8**tau, rel=1e-12)


@every_schedule
@given(taus, st.one_of(st.none(), st.integers(1, 150)))
def test_densities_never_grow_and_never_go_below_the_final_one(name, tau, megabatches):
    asked = schedule(name, tau, megabatches)
    densities = [d for t in range(160) if (d := asked(t)) is not None]
    assert all(1 >= before >= after >= 0.8**tau * (1 - 1e-12) for before, after in pairwise(densities))


@every_schedule
@given(taus, st.integers(2, 150))
def test_the_final_density_is_met_at_the_last_megabatch_and_kept(name, tau, megabatches):
    asked = schedule(name, tau, megabatches)
    densities = [d for t in range(megabatches) if (d := asked(t)) is not None]
    assert densities[-1] == pytest.approx(0.8**tau, rel=1e-9)
    assert asked(megabatches + 5) in (None, densities[-1])


@given(taus, st.integers(2, 150), st.integers(0, 149))
def test_cubic_is_the_equation_of_its_paper(tau, megabatches, t):
    """s_t = s_f + (s_i - s_f)(1 - (t - t_0) / (n dt)) ** 3 with s_i = 0, t_0 = 0, n dt = B - 1."""
    t = min(t, megabatches - 1)
    s_f = 1 - 0.8**tau
    expected = s_f + (0 - s_f) * (1 - t / (megabatches - 1)) ** 3
    assert 1 - Cubic(0.8**tau, megabatches)(t) == pytest.approx(expected, abs=1e-12)


@given(taus, st.integers(3, 150))
def test_linear_removes_the_same_share_at_every_step(tau, megabatches):
    densities = [Linear(0.8**tau, megabatches)(t) for t in range(megabatches)]
    steps = [before - after for before, after in pairwise(densities)]
    assert densities[0] == 1
    assert steps == pytest.approx([steps[0]] * len(steps), abs=1e-12)


@given(taus, st.integers(3, 150))
def test_exponent_removes_the_same_fraction_of_what_is_left(tau, megabatches):
    densities = [Progressive(0.8**tau, megabatches, first=1)(t) for t in range(megabatches)]
    ratios = [after / before for before, after in pairwise(densities)]
    assert densities[0] == 1
    assert ratios == pytest.approx([ratios[0]] * len(ratios), rel=1e-9)


@every_moving_one
@given(taus)
def test_a_stream_of_unknown_length_is_always_on_its_way(name, tau):
    """Useful at every t: it starts as with a known length, is half way at the third megabatch and never stops."""
    asked, known = schedule(name, tau, None), schedule(name, tau, 1000)
    assert asked(0) == known(0)
    assert all(asked(t) > asked(t + 1) > 0.8**tau for t in range(50))
    assert asked(10**7) == pytest.approx(0.8**tau, abs=1e-6)


def test_the_progress_of_an_unknown_length_is_the_documented_one():
    shown = {0: 0, 2: 0.5, 9: 0.82, 99: 0.98}
    assert {t: round(progress(t, None), 2) for t in shown} == shown


def test_unknown_length_gives_up_the_exact_end():
    assert Progressive(0.8**4.5, 10)(9) == pytest.approx(0.3664, abs=1e-4)
    assert Progressive(0.8**4.5, None)(9) == pytest.approx(0.4222, abs=1e-4)


@pytest.mark.parametrize("name", ["one_shot", "constant"])
def test_schedules_that_stand_still_do_not_ask_for_the_length(name):
    answers = [[schedule(name, 3.0, b)(t) for t in range(9)] for b in (1, 7, 100, None)]
    assert all(answer == answers[0] for answer in answers)


def test_no_schedule_prunes_nothing():
    assert [schedule("none", 4.5, 5)(t) for t in range(5)] == [None] * 5
