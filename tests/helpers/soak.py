"""How many cases a law is tried on: some in every run of the suite, as many as asked for in a long one."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

ASKED = os.environ.get("ANYTIME_BENCH_SOAK")
"""Number of cases of the long form, each time others."""


KILLS = os.environ.get("ANYTIME_BENCH_KILLS")
"""Number of kills of the long form."""


def kills(short: int) -> int:
    """How often something is killed: ``short`` times, unless ``ANYTIME_BENCH_KILLS`` says otherwise."""
    return int(KILLS or short)


def cases(short: int) -> settings:
    """Of a law that is tried on ``short`` cases, always the same, unless ``ANYTIME_BENCH_SOAK`` says otherwise."""
    return settings(
        max_examples=int(ASKED or short),
        derandomize=ASKED is None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
