"""How long a mutator may run: interrupts Python code that goes on for ever, in the thread that runs it.

Used by the cache-owner round each group of mutations. One interval timer is armed a group (6 us); while it is armed, a signal
handler looks every quarter of the budget whether the same mutator is still running, and raises `MutatorTimedOut` in it at the
fifth look. Counting looks and not the clock, a machine that was asleep or a process that was stopped costs no mutator its life.
(Measured on Python 3.11: `sys.settrace` or `sys.setprofile` make a mutator three times as slow; `PyThreadState_SetAsyncExc` from
another thread cannot be taken back, so that it may hit whoever runs next.)

It hits only code that a mutator is responsible for: the exception is raised if and only if the interrupted frame was called,
however deep, by `call`. A mutator that has returned is out of reach, whenever the signal comes. What a mutator reads of the
cache is let finish, or it would be left in the middle of a change.

A block inside one C function is not interrupted: that is the watchdog's.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType

from syncd.model.recording import UNINTERRUPTED, MutatorTimedOut, Timekeeper, Untimed

__all__ = ["BUDGET_S", "budget"]

BUDGET_S = 0.1
"""What a mutator may take; the loop stands still meanwhile. The issue's number."""

LOOKS = 4
"""Looks a mutator survives: it is interrupted after one budget at least, and five quarters at most."""

_CAN_INTERRUPT = hasattr(signal, "setitimer")


class _Keeper:
    """Keeps the time of one mutator after the other."""

    __slots__ = ("_num_looks", "_period_s", "_uninterrupted", "is_overdue")

    def __init__(self, seconds: float, uninterrupted: Collection[CodeType]) -> None:
        self._period_s = seconds / LOOKS
        self._uninterrupted = uninterrupted
        self._num_looks = 0
        self.is_overdue = False

    def arm(self) -> tuple[float, float]:
        """Start looking; return the timer that was set before."""
        return signal.setitimer(signal.ITIMER_REAL, self._period_s, self._period_s)

    def call(self, run: Callable[..., object], /, *args: object, **arguments: object) -> object:
        """Run a mutator.

        Raises:
            MutatorTimedOut: it took too long, even if it swallowed that itself.
        """
        self._num_looks = 0
        self.is_overdue = False
        result = run(*args, **arguments)
        if self.is_overdue:
            raise MutatorTimedOut
        return result

    def look(self, _signal: int, frame: FrameType | None) -> None:
        """Handle the signal."""
        may_interrupt = self._judge(frame)
        if may_interrupt is None:
            return
        self._num_looks += 1
        if self._num_looks <= LOOKS:
            return
        self.is_overdue = True
        if may_interrupt:
            raise MutatorTimedOut

    def _judge(self, interrupted: FrameType | None) -> bool | None:
        """Tell whether the frame may be interrupted; None if it is no mutator's."""
        may_interrupt = True
        frame = interrupted
        while frame is not None:
            if frame.f_code is _CALL:
                return None if frame is interrupted else may_interrupt
            if frame.f_code in self._uninterrupted and frame is not interrupted:
                may_interrupt = False
            frame = frame.f_back
        return None


_CALL = _Keeper.call.__code__


@contextmanager
def budget(
    seconds: float = BUDGET_S, *, uninterrupted: Collection[CodeType] = UNINTERRUPTED
) -> Iterator[Timekeeper]:
    """Keep the time of mutators: what is run through `call` of what this yields is interrupted after `seconds`.

    What functions of `uninterrupted` have called is let finish; they look at `is_overdue` then. The timer and the handler of
    SIGALRM are as before afterwards. Outside of the main thread, and where there is no such timer, nobody keeps the time.
    """
    if not _CAN_INTERRUPT or threading.current_thread() is not threading.main_thread():
        yield Untimed()
        return
    keeper = _Keeper(seconds, uninterrupted)
    former_handler = signal.signal(signal.SIGALRM, keeper.look)
    former_timer = keeper.arm()
    try:
        yield keeper
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former_handler or signal.SIG_DFL)
        if former_timer[0]:
            signal.setitimer(signal.ITIMER_REAL, *former_timer)
