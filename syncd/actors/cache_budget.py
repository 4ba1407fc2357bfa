"""How long a mutator may run: interrupts Python code that goes on for ever, in the thread that runs it.

Used by the cache-owner: one `Budget` for its life, `running()` round each group of mutations. While a group runs, one coarse interval
timer ticks every quarter of the budget; a call only notes that it begins. The handler looks whether the same mutator is still running,
and raises `MutatorTimedOut` in it at the fifth look. Counting looks and not the clock, a machine that was asleep or a process that was
stopped costs no mutator its life. (Measured on Python 3.11: `sys.settrace` or `sys.setprofile` make a mutator three times as slow;
`PyThreadState_SetAsyncExc` from another thread cannot be taken back, so that it may hit whoever runs next.)

It hits only what a mutator is responsible for. The exception is raised if the interrupted frame was called, however deep, by
`Budget.call`, and nothing between the two outlives the mutation: not the cache (`UNINTERRUPTED`), not a tracer or profiler, not the
import system, not code that holds locks of the whole process. Otherwise the next tick tries again. A mutator that has returned is out
of reach, whenever the signal comes.

Why tracers matter: coverage's calls Python functions from its C code, with the mutator's frame below. Raised in the one that
takes its lock (`Collector.lock_data` before coverage 7.17), the exception left the lock taken for good, and the same thread waited for it
at the next new file. A frame does not show that a tracer called it, but the interpreter does: it reports no events while one runs.

What it cannot end, and the watchdog must: a block inside one C function; a mutator that catches `BaseException` in a loop
within a loop, which is interrupted at each tick and goes on; one in a thread other than the main one.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any

from syncd.model.recording import UNINTERRUPTED, MutatorTimedOut

__all__ = ["BUDGET_S", "Budget"]

BUDGET_S = 0.1
"""What a mutator may take; the loop stands still meanwhile. The issue's number."""

LOOKS = 4
"""Looks a mutator survives: it is interrupted after one budget at least, and five quarters at most."""

CAN_INTERRUPT = hasattr(signal, "setitimer")

_UNSAFE_MODULES = frozenset(
    {"_weakrefset", "importlib", "logging", "queue", "structlog", "threading", "trio", "weakref"}
)
"""Their functions hold locks or keep tables of the whole process: interrupted halfway they would stay as they are."""


class Budget:
    """Keeps the time of one mutator after the other; implements `Timekeeper`.

    Args:
        seconds: What each may take.
        uninterrupted: Functions that are let finish, with what they call; they look at `is_overdue` then.
    """

    __slots__ = ("_is_running", "_num_looks", "_period_s", "_uninterrupted", "is_overdue")

    def __init__(
        self, seconds: float = BUDGET_S, *, uninterrupted: Collection[CodeType] = UNINTERRUPTED
    ) -> None:
        self._period_s = seconds / LOOKS
        self._uninterrupted = uninterrupted
        self._num_looks = 0
        self._is_running = False
        self.is_overdue = False

    def call(self, run: Callable[..., object], /, *args: object, **arguments: object) -> object:
        """Run a mutator; nobody keeps its time outside of `running()`.

        Raises:
            MutatorTimedOut: it took too long, even if it swallowed that itself.
        """
        self._num_looks = 0
        self.is_overdue = False
        result = run(*args, **arguments)
        if self.is_overdue:
            raise MutatorTimedOut
        return result

    @contextmanager
    def running(self) -> Iterator[None]:
        """Keep the time of what is called meanwhile; the timer and the handler of SIGALRM are as before afterwards.

        Outside of the main thread, and where there is no such timer, nobody keeps the time. Budgets may nest: while an inner
        one runs, the time of the outer one's mutator stands still.
        """
        is_main = threading.current_thread() is threading.main_thread()
        if not CAN_INTERRUPT or not is_main or self._is_running:
            yield
            return
        former_handler = signal.signal(signal.SIGALRM, self.look)
        former_timer = signal.setitimer(signal.ITIMER_REAL, self._period_s, self._period_s)
        self._is_running = True
        try:
            yield
        finally:
            self._is_running = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            # A signal that came before is handled in here, by `look`, before the handler changes.
            signal.signal(signal.SIGALRM, former_handler or signal.SIG_DFL)
            if former_timer[0]:
                signal.setitimer(signal.ITIMER_REAL, *former_timer)

    def look(self, _signal: int, frame: FrameType | None) -> None:
        """Handle the signal."""
        is_safe = self._judge(frame)
        if is_safe is None:
            return
        self._num_looks += 1
        if self._num_looks <= LOOKS:
            return
        self.is_overdue = True
        if is_safe and not is_in_tracer():
            raise MutatorTimedOut

    def _judge(self, interrupted: FrameType | None) -> bool | None:
        """Tell whether the exception may be raised in a frame; None if it is no mutator's."""
        is_safe = True
        frame = interrupted
        while frame is not None:
            code = frame.f_code
            if code is _CALL:
                return None if frame is interrupted else is_safe
            if code is _LOOK:
                return None
            if code in self._uninterrupted or _is_unsafe(frame):
                is_safe = False
            frame = frame.f_back
        return None


_CALL = Budget.call.__code__
_LOOK = Budget.look.__code__


def _is_unsafe(frame: FrameType) -> bool:
    """Tell whether a frame's work outlives the mutation, or is a finalizer's, whose exceptions nobody sees."""
    code = frame.f_code
    if code.co_name == "__del__" or code.co_filename.startswith("<frozen importlib"):
        return True
    module = frame.f_globals.get("__name__")
    return type(module) is str and module.partition(".")[0] in _UNSAFE_MODULES


def is_in_tracer() -> bool:
    """Tell whether a trace or profile function is on the stack of this thread: it gets no events as long as it runs.

    With both a tracer and a profiler installed there is no place for the probe, and the answer is always yes.
    """
    events = []

    def note(_frame: FrameType, event: str, _arg: Any) -> None:
        events.append(event)

    if sys.getprofile() is None:
        sys.setprofile(note)
        _nothing()
        sys.setprofile(None)
    elif sys.gettrace() is None:
        sys.settrace(note)
        _nothing()
        sys.settrace(None)
    return not events


def _nothing() -> None:
    """Be called."""
