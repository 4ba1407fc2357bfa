"""The signals that ask a node to stop."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import AsyncIterator, Iterator

import trio

__all__ = ["open_stop_signals"]

_STOPS = (signal.SIGTERM, signal.SIGINT)


@contextlib.contextmanager
def open_stop_signals() -> Iterator[AsyncIterator[int]]:
    """Receive SIGTERM and SIGINT; behind it they do nothing, for the process is about to end.

    Whoever asks twice must not kill what has stopped in order and still has its exit code to say.
    """
    with contextlib.ExitStack() as stack:
        with _held_back():
            for number in _STOPS:
                stack.callback(signal.signal, number, signal.SIG_IGN)
                # What Trio puts back, and tells of all that it has not passed on. Python takes its own handlers back before it ends.
                signal.signal(number, _do_nothing)
            signals = stack.enter_context(trio.open_signal_receiver(*_STOPS))
        yield signals


@contextlib.contextmanager
def _held_back() -> Iterator[None]:
    """Let signals that come now come a little later, where there is a way."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _do_nothing(_number: int, _frame: object) -> None:
    pass
