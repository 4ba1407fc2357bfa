"""Where the store actor's blocking work runs: one long-lived thread, or inline for tests and simulation.

The thread is fed by a queue and answers through the Trio token: about a tenth of what a round trip through Trio's thread
pool costs. Trio's autojump clock would fire timers while a thread works, so simulated time needs `InlineWorker`.
"""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

import trio

__all__ = ["InlineWorker", "Job", "ThreadWorker", "Worker"]

T = TypeVar("T")


class Job(Generic[T]):
    """One piece of blocking work and, once it was performed, what came of it."""

    __slots__ = ("_error", "_event", "_value", "_work")

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._event = trio.Event()
        self._value: list[T] = []
        self._error: BaseException | None = None

    def perform(self) -> None:
        """Do the work, in whichever thread; its exception is for whoever waits."""
        try:
            self._value.append(self._work())
        except BaseException as error:  # noqa: BLE001, ASYNC103 - raised again by `wait`
            self._error = error

    def finish(self) -> None:
        """Wake whoever waits. On the Trio thread."""
        self._event.set()

    @property
    def is_done(self) -> bool:
        """Whether `wait` returns at once."""
        return self._event.is_set()

    async def wait(self) -> T:
        """Return the work's value or raise its exception. Cancelled: the work goes on and may be waited for again."""
        await self._event.wait()
        if self._error is not None:
            raise self._error
        return self._value[0]


class Worker(Protocol):
    """Performs jobs one after the other, in the order they were given."""

    def start(self) -> None:
        """Be ready for jobs. On the Trio thread; a second call does nothing."""

    def submit(self, work: Callable[[], T]) -> Job[T]:
        """Queue a piece of work. Never waits (but for `InlineWorker`, which does it now)."""

    def stop(self) -> None:
        """End after the jobs given so far. Never waits."""


class InlineWorker:
    """Performs each job at once, on the caller's thread."""

    def start(self) -> None:
        """See `Worker.start`."""

    def submit(self, work: Callable[[], T]) -> Job[T]:
        """See `Worker.submit`."""
        job = Job(work)
        job.perform()
        job.finish()
        return job

    def stop(self) -> None:
        """See `Worker.stop`."""


class ThreadWorker:
    """Performs jobs in one thread of its own, a daemon: a disk that hangs does not keep the process from exiting."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._thread: threading.Thread | None = None
        # Bounded by its one user, who waits for each job before giving the next.
        self._jobs: queue.SimpleQueue[Job[Any] | None] = queue.SimpleQueue()

    def start(self) -> None:
        """See `Worker.start`."""
        if self._thread is None:
            token = trio.lowlevel.current_trio_token()
            self._thread = threading.Thread(
                target=self._serve, args=(token,), name=self._name, daemon=True
            )
            self._thread.start()

    def submit(self, work: Callable[[], T]) -> Job[T]:
        """See `Worker.submit`."""
        job = Job(work)
        self._jobs.put(job)
        return job

    def stop(self) -> None:
        """See `Worker.stop`."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread = None

    def _serve(self, token: trio.lowlevel.TrioToken) -> None:
        if hasattr(signal, "pthread_sigmask"):
            # The tick of a mutator's budget is the main thread's; here it would only cut system calls short.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
        while (job := self._jobs.get()) is not None:
            job.perform()
            try:
                token.run_sync_soon(job.finish)
            except trio.RunFinishedError:
                return
