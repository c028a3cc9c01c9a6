"""SIGINT and SIGTERM: a run that can save itself does so first."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

PATIENCE = 7.0
"""Seconds that a run has to come to a point at which it can be saved."""

SOON = 0.01
"""Seconds after which an interruption is raised again that Python dropped."""

AGAIN = 0.5
"""Seconds after which an interruption is raised again that a library may have caught."""

CAN_WAIT = hasattr(signal, "setitimer")
"""Whether the system can end the patience."""


class Interrupted(KeyboardInterrupt):
    """The process was told to end.

    Attributes:
        signal: by which signal.
    """

    def __init__(self, number: int):
        super().__init__()
        self.signal = number


class Interruption:
    """Whether this process was told to end, for those who can choose where.

    Attributes:
        signal: the one that came; None while there was none.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._waits = False
        self._insists = False
        self._is_timed = False

    @contextmanager
    def handled(self, *signals: int) -> Iterator[None]:
        """A context, in the main thread, in which these signals are taken; each raises :class:`Interrupted`.

        Where a run is :meth:`delaying` them, it is raised by the run itself, by a second signal, or after
        :data:`PATIENCE` seconds. Python drops what is raised while it finalises an object or calls back for a
        dead reference: there it is raised again, a moment later.
        """
        heard = [number for number in signals if signal.getsignal(number) != signal.SIG_IGN]
        before = {number: signal.signal(number, self._take) for number in heard}
        shown = sys.unraisablehook
        if CAN_WAIT:
            before[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._lose_patience)
            sys.unraisablehook = lambda dropped: self._raise_again(dropped, else_=shown)
        try:
            yield
        finally:
            if self._is_timed:
                signal.setitimer(signal.ITIMER_REAL, 0)
            for number, handler in before.items():
                signal.signal(number, handler)
            sys.unraisablehook = shown

    @contextmanager
    def delaying(self) -> Iterator[None]:
        """A context that asks by itself, often, whether it is to end."""
        self._waits = True
        try:
            yield
        finally:
            self._waits = False

    @contextmanager
    def insisting(self) -> Iterator[None]:
        """A context that has nothing to tidy up, and in which others may catch whatever is raised.

        Libraries do while they are imported. An interruption is raised again and again, and at last at its end.

        Raises:
            Interrupted: the process was told to end.
        """
        self._insists = True
        try:
            yield
        finally:
            self._insists = False
            if self.signal is not None:
                # Whatever others have made of it.
                self.end()

    def end(self) -> None:
        """Raise what the signal would have raised.

        Raises:
            Interrupted: always.
        """
        if self._is_timed:
            # What is still to be done, such as saying so in the store, is not cut short by it.
            signal.setitimer(signal.ITIMER_REAL, 0)
        raise Interrupted(self.signal or signal.SIGINT)

    def _take(self, number: int, frame: FrameType | None) -> None:
        second, self.signal = self.signal is not None, number
        if self._insists and CAN_WAIT:
            self._wait(AGAIN)
            raise Interrupted(number)
        if second or not self._waits or not CAN_WAIT:
            self.end()
        self._wait(PATIENCE)

    def _wait(self, seconds: float) -> None:
        self._is_timed = True
        signal.setitimer(signal.ITIMER_REAL, seconds)

    def _lose_patience(self, number: int, frame: FrameType | None) -> None:
        if self._insists:
            self._wait(AGAIN)
            raise Interrupted(self.signal or signal.SIGINT)
        self.end()

    def _raise_again(self, dropped: sys.UnraisableHookArgs, else_: Callable[[sys.UnraisableHookArgs], Any]) -> None:
        if isinstance(dropped.exc_value, Interrupted):
            self._wait(SOON)
        else:
            else_(dropped)
