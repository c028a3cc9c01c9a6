"""SIGINT and SIGTERM: a run that can save itself does so first."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

PATIENCE = 7.0
"""Seconds that a run has to come to a point at which it can be saved."""

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
        self._is_timed = False

    @contextmanager
    def handled(self, *signals: int) -> Iterator[None]:
        """A context, in the main thread, in which these signals are taken; each raises :class:`Interrupted`.

        Where a run is :meth:`delaying` them, it is raised by the run itself, by a second signal, or after
        :data:`PATIENCE` seconds.
        """
        heard = [number for number in signals if signal.getsignal(number) != signal.SIG_IGN]
        before = {number: signal.signal(number, self._take) for number in heard}
        if CAN_WAIT:
            before[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._lose_patience)
        try:
            yield
        finally:
            if self._is_timed:
                signal.setitimer(signal.ITIMER_REAL, 0)
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def delaying(self) -> Iterator[None]:
        """A context that asks by itself, often, whether it is to end."""
        self._waits = True
        try:
            yield
        finally:
            self._waits = False

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
        if second or not self._waits or not CAN_WAIT:
            self.end()
        self._is_timed = True
        signal.setitimer(signal.ITIMER_REAL, PATIENCE)

    def _lose_patience(self, number: int, frame: FrameType | None) -> None:
        self.end()
