"""A plain thread that notices a loop that stands still, and says in the log what holds it.

Owns: its thread, while the block is open. Four times in each `stall_s` it asks the loop for a sign of life, which costs some
microseconds a second and nothing per message. Whoever holds the interpreter lock the whole time (a C function that never lets
go of it) holds this thread as well: its stall is told when it is over, with its length, but with the stack of a moment later.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
import traceback
from types import TracebackType
from typing import Self

import structlog
import trio

__all__ = ["Watchdog"]

_log = structlog.get_logger("syncd.watchdog")

SIGNS_PER_STALL = 4
STACK_FRAMES = 60
"""The innermost ones; above them is Trio's own loop."""
STOP_S = 1.0
"""For the thread to end; it waits for nothing but events."""


class Watchdog:
    """Watches the Trio run that opens it as a context manager, until the block is left."""

    def __init__(self, stall_s: float) -> None:
        """Make it; `stall_s` is how long the loop may stand still untold, above 0."""
        self.num_stalls = 0
        """Times the loop stood still for longer."""
        self._stall_s = stall_s
        self._is_over = threading.Event()
        self._has_answered = threading.Event()
        self._answered_at = 0.0

    def __enter__(self) -> Self:
        self._token = trio.lowlevel.current_trio_token()
        self._root = trio.lowlevel.current_root_task()
        self._loop_thread = threading.get_ident()
        self._thread = threading.Thread(target=self._watch, name="syncd-watchdog", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._is_over.set()
        self._has_answered.set()
        self._thread.join(STOP_S)

    # ---------------------------------------------------------------- the loop's thread

    def _answer(self) -> None:
        self._answered_at = time.monotonic()
        self._has_answered.set()

    # ---------------------------------------------------------------- the thread

    def _watch(self) -> None:
        while not self._is_over.wait(self._stall_s / SIGNS_PER_STALL):
            self._has_answered.clear()
            asked_at = time.monotonic()
            try:
                self._token.run_sync_soon(self._answer)
            except trio.RunFinishedError:
                return
            if self._has_answered.wait(self._stall_s):
                continue
            self._tell_stall()
            self._has_answered.wait()
            if not self._is_over.is_set():
                _log.error("loop_went_on", stalled_s=round(self._answered_at - asked_at, 3))

    def _tell_stall(self) -> None:
        self.num_stalls += 1
        frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001 - documented; there is no other way to see a thread that stands
        stack = "" if frame is None else "".join(traceback.format_stack(frame, STACK_FRAMES))
        _log.error("loop_stalled", after_s=self._stall_s, task=self._running_task(), stack=stack)

    def _running_task(self) -> str | None:
        """Return the name of the task that holds the loop; None when none does, or it just let go."""
        unseen: list[trio.lowlevel.Task] = [] if self._root is None else [self._root]
        with contextlib.suppress(RuntimeError):  # the loop goes on meanwhile and changes the sets
            while unseen:
                task = unseen.pop()
                if getattr(task.coro, "cr_running", False):
                    return task.name
                for nursery in task.child_nurseries:
                    unseen.extend(nursery.child_tasks)
        return None
