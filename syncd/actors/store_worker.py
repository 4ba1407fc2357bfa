"""Where the store actor's blocking work runs: one long-lived thread, or inline for tests and simulation.

The thread is fed by a queue and answers through a socket that whoever waits reads himself: less than a tenth of what a round trip through
Trio's thread pool costs, and about 0.7 of one through its token, which wakes a task to wake another. Trio's autojump clock would fire
timers while a thread works, so simulated time needs `InlineWorker`.
"""

from __future__ import annotations

import contextlib
import queue
import signal
import socket
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
        return self._outcome()

    def _outcome(self) -> T:
        if self._error is not None:
            raise self._error
        return self._value[0]


class _Bell:
    """Rung in the thread, heard by whoever waits for it to have done something. One task waits at a time."""

    def __init__(self) -> None:
        self._heard, self._rung = socket.socketpair()
        self._heard.setblocking(False)  # noqa: FBT003 - its only argument
        self._rung.setblocking(False)  # noqa: FBT003 - its only argument

    def ring(self) -> None:
        """Wake the waiter, now or as soon as there is one. From any thread."""
        # Full: it wakes anyway. Closed: nobody listens any more.
        with contextlib.suppress(OSError):
            self._rung.send(b"!")

    async def heard(self) -> None:
        """Return once it was rung, perhaps for something that was over before."""
        await trio.lowlevel.wait_readable(self._heard)
        with contextlib.suppress(BlockingIOError):
            self._heard.recv(64)

    def deafen(self) -> None:
        """Nobody listens any more. On the Trio thread."""
        trio.lowlevel.notify_closing(self._heard)
        self._heard.close()

    def close(self) -> None:
        """It is not rung any more."""
        self._rung.close()


class _ThreadJob(Job[T]):
    """A job of `ThreadWorker`: done when the thread says so, which needs no task of Trio's to pass it on."""

    __slots__ = ("_bell", "_is_performed")

    def __init__(self, work: Callable[[], T], bell: _Bell) -> None:
        super().__init__(work)
        self._bell = bell
        self._is_performed = False

    def perform(self) -> None:
        """See `Job.perform`."""
        super().perform()
        self._is_performed = True  # before the bell: whoever hears it looks here
        self._bell.ring()

    @property
    def is_done(self) -> bool:
        """See `Job.is_done`."""
        return self._is_performed

    async def wait(self) -> T:
        """See `Job.wait`. Not after the worker was stopped."""
        if self._is_performed:
            await trio.lowlevel.checkpoint()
        while not self._is_performed:
            await self._bell.heard()
        return self._outcome()


class Worker(Protocol):
    """Performs jobs one after the other, in the order they were given."""

    def start(self) -> None:
        """Be ready for jobs. On the Trio thread; a second call does nothing."""

    def submit(self, work: Callable[[], T]) -> Job[T]:
        """Queue a piece of work. Never waits (but for `InlineWorker`, which does it now)."""

    def stop(self) -> None:
        """End after the jobs given so far, which nobody waits for any more. Never waits."""


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
        self._bell: _Bell | None = None
        # Bounded by its one user, who waits for each job before giving the next.
        self._jobs: queue.SimpleQueue[_ThreadJob[Any] | None] = queue.SimpleQueue()

    def start(self) -> None:
        """See `Worker.start`."""
        if self._bell is None:
            bell = _Bell()
            thread = threading.Thread(
                target=self._serve, args=(bell,), name=self._name, daemon=True
            )
            try:
                thread.start()
            except (
                RuntimeError
            ):  # the system gives no more threads; whoever starts the actor again tries again
                bell.deafen()
                bell.close()
                raise
            self._bell = bell

    def submit(self, work: Callable[[], T]) -> Job[T]:
        """See `Worker.submit`."""
        assert self._bell is not None, "started, and not stopped"
        job = _ThreadJob(work, self._bell)
        self._jobs.put(job)
        return job

    def stop(self) -> None:
        """See `Worker.stop`."""
        if self._bell is not None:
            self._jobs.put(None)
            self._bell.deafen()
            self._bell = None

    def _serve(self, bell: _Bell) -> None:
        if hasattr(signal, "pthread_sigmask"):
            # The tick of a mutator's budget is the main thread's; here it would only cut system calls short.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
        while (job := self._jobs.get()) is not None:
            job.perform()
        bell.close()
