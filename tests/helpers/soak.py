"""How many cases a law is tried on: some in every run of the suite, as many as asked for in a long one."""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, settings

ASKED = os.environ.get("ANYTIME_BENCH_SOAK")
"""Number of cases of the long form, each time others."""

KILLS = os.environ.get("ANYTIME_BENCH_KILLS")
"""Number of kills of the long form."""

SECONDS = "seconds from the signal to the end"
"""Property of a test whose command was told to end."""

HANG = 10.0
"""Seconds after which a case of the long form has failed."""


def is_long() -> bool:
    """Whether this is the long form of kills, whose machine has nothing else to do."""
    return KILLS is not None


def kills(short: int) -> int:
    """How often something is killed: ``short`` times, unless ``ANYTIME_BENCH_KILLS`` says otherwise."""
    return int(KILLS or short)


def cases(short: int, *, each: int = 1) -> Callable[[Callable], Callable]:
    """Decorator of a law that is tried on ``short`` cases, always the same; stands above hypothesis's ``given``.

    ``ANYTIME_BENCH_SOAK`` asks for another number: that many are tried then, others each time, and one that takes
    longer than :data:`HANG` has failed. A case that holds ``each`` things that are tried, or takes as long as so many
    others, counts for so many.
    """
    asked = settings(
        max_examples=short if ASKED is None else max(1, int(ASKED) // each),
        derandomize=ASKED is None,
        deadline=None,
        suppress_health_check=[
            HealthCheck.too_slow,
            HealthCheck.data_too_large,
            HealthCheck.function_scoped_fixture,
        ],
    )

    def decorate(law: Callable) -> Callable:
        if ASKED is not None:
            case = law.hypothesis.inner_test

            @functools.wraps(case)
            def bounded(*arguments, **options):
                with no_longer(HANG):
                    return case(*arguments, **options)

            law.hypothesis.inner_test = bounded
        return asked(law)

    return decorate


@contextmanager
def no_longer(seconds: float) -> Iterator[None]:
    """A context, in the main thread, that fails when it takes longer, also where it waits for something."""

    def fail(*_):
        pytest.fail(f"it has taken longer than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, fail)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
