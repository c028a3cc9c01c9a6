"""SIGINT and SIGTERM: at once, or after a run has been saved."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress

import pytest

from benchmark.running import interruption
from benchmark.running.interruption import Interrupted, Interruption


@pytest.fixture
def told():
    """An interruption whose signals are handled; whatever handled them before does so again afterwards."""
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGALRM)]
    own = Interruption()
    with own.handled(signal.SIGTERM):
        yield own
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGALRM)] == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def send():
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.01)


def test_it_ends_at_once_where_nothing_is_to_be_saved(told):
    with pytest.raises(Interrupted) as ended:
        send()
    assert ended.value.signal == signal.SIGTERM and isinstance(ended.value, KeyboardInterrupt)


def test_a_run_that_saves_itself_chooses_where_it_ends(told):
    with told.delaying():
        send()
        assert told.signal == signal.SIGTERM
        with pytest.raises(Interrupted):
            told.end()


def test_a_second_signal_does_not_wait(told):
    with told.delaying():
        send()
        with pytest.raises(Interrupted):
            send()


def test_patience_has_an_end(told, monkeypatch):
    monkeypatch.setattr(interruption, "PATIENCE", 0.05)
    with told.delaying(), pytest.raises(Interrupted):
        send()
        time.sleep(30)


def caught():
    """As a library does that tries to import what need not be there."""
    with suppress(BaseException):
        send()


def test_where_others_catch_it_it_is_raised_again(told, monkeypatch):
    monkeypatch.setattr(interruption, "AGAIN", 0.02)
    with pytest.raises(Interrupted) as ended, told.insisting():
        caught()
        for _ in range(3):
            with suppress(BaseException):
                time.sleep(30)
        time.sleep(30)
    assert ended.value.signal == signal.SIGTERM


def test_what_was_caught_is_raised_at_the_end_at_the_latest(told):
    with pytest.raises(Interrupted), told.insisting():
        caught()
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_what_others_have_made_of_it_is_of_no_interest(told):
    with pytest.raises(Interrupted), told.insisting():
        try:
            send()
        except BaseException as error:
            raise ImportError("a library that is not there") from error


def test_who_tidies_up_afterwards_is_not_cut_short(told, monkeypatch):
    monkeypatch.setattr(interruption, "AGAIN", 0.02)
    tidied = False
    with pytest.raises(Interrupted):
        try:
            with told.insisting():
                send()
        finally:
            time.sleep(0.1)
            tidied = True
    assert tidied


class Broken:
    """Fails while it is finalised."""

    def __del__(self):
        raise RuntimeError("broken")


class Dying:
    """Sends the signal while it is finalised, where Python drops what is raised."""

    def __del__(self):
        send()


def test_what_python_drops_is_raised_again_and_not_shown(told, capsys):
    with told.handled(signal.SIGTERM), pytest.raises(Interrupted):
        Dying()
        time.sleep(30)
    assert capsys.readouterr() == ("", "")


def test_what_others_drop_is_shown_by_whoever_showed_it_before(monkeypatch):
    shown = []
    monkeypatch.setattr(sys, "unraisablehook", shown.append)
    with Interruption().handled(signal.SIGTERM):
        Broken()
    assert [str(dropped.exc_value) for dropped in shown] == ["broken"] and sys.unraisablehook == shown.append
