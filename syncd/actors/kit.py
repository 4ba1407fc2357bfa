"""Mailboxes, replies and supervision: what every actor is made of.

A mailbox is taken in batches: whatever waits is handed over at once, so that a busy actor pays the scheduler once a batch.
"""

from __future__ import annotations

import collections
import enum
import math
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

import attrs
import structlog
import trio

from syncd.errors import ActorStopped, MailboxFull, SyncdError

__all__ = [
    "Actor",
    "ActorHealth",
    "Health",
    "Mailbox",
    "MailboxStatistics",
    "NodeFailed",
    "Reply",
    "origin_of",
    "supervise",
]

M = TypeVar("M")
T = TypeVar("T")

_log = structlog.get_logger("syncd.actors")


@attrs.frozen
class MailboxStatistics:
    """A mailbox at one moment."""

    num_waiting: int
    """Messages not yet taken."""
    bytes_waiting: int
    peak: int
    """Most messages that ever waited."""
    num_refused: int
    """Messages refused because it was full."""


@attrs.define(eq=False)
class _Putter(Generic[M]):
    """A task that waits for room, with what it wants to add."""

    task: trio.lowlevel.Task
    messages: Sequence[M]
    size_bytes: int
    is_refused: bool = False
    """The mailbox was closed meanwhile."""


class Mailbox(Generic[M]):
    """Bounded queue of one actor's messages, counted in messages and bytes.

    Policy BLOCK: `put` waits for room, `put_nowait` raises; whoever waits is served first, in order. Replies to the actor's
    own asks come in by `put_reply`, which never refuses: they are bounded by the asks the actor allows itself. The mailbox
    outlives a crash of its actor.
    """

    def __init__(
        self,
        name: str,
        capacity: int,
        capacity_bytes: int,
        now: Callable[[], float] = trio.current_time,
    ) -> None:
        self.name = name
        self._now = now
        self.capacity = capacity
        self.capacity_bytes = capacity_bytes
        self._waiting: list[M] = []
        self._bytes = 0
        self._peak = 0
        self._num_refused = 0
        self._is_closed = False
        self._oldest_at = self.taken_since = math.inf
        """When what waits, and what was taken last, began to come: on Trio's clock; inf: nothing but replies."""
        self._taker = trio.lowlevel.ParkingLot()
        self._putters: collections.deque[_Putter[M]] = collections.deque()

    def put_nowait(self, messages: Sequence[M], size_bytes: int = 0) -> None:
        """Add all messages or none.

        An empty mailbox takes a batch of any size, so no batch is too large for ever.

        Raises:
            MailboxFull: there is no room now, or others wait for it already.
            ActorStopped: the mailbox is closed.
        """
        if self._is_closed:
            raise ActorStopped
        if self._putters or not self._has_room(messages, size_bytes):
            self._num_refused += len(messages)
            raise MailboxFull(f"The {self.name} has too much to do.")
        self._add(messages, size_bytes)

    async def put(self, messages: Sequence[M], size_bytes: int = 0) -> None:
        """Add all messages, waiting for room.

        Raises:
            ActorStopped: the mailbox is closed, or was while this waited; none was added.

        Cancellation: none was added.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._is_closed:
            raise ActorStopped
        if self._putters or not self._has_room(messages, size_bytes):
            await self._wait_for_room(_Putter(trio.lowlevel.current_task(), messages, size_bytes))
        else:
            self._add(messages, size_bytes)
            await trio.lowlevel.cancel_shielded_checkpoint()

    async def _wait_for_room(self, putter: _Putter[M]) -> None:
        """Wait until `take` has added this putter's messages."""

        def abort(_raise_cancel: object) -> trio.lowlevel.Abort:
            self._putters.remove(putter)
            return trio.lowlevel.Abort.SUCCEEDED

        self._putters.append(putter)
        await trio.lowlevel.wait_task_rescheduled(abort)
        if putter.is_refused:
            raise ActorStopped

    def _has_room(self, messages: Sequence[M], size_bytes: int) -> bool:
        return not self._waiting or (
            len(self._waiting) + len(messages) <= self.capacity
            and self._bytes + size_bytes <= self.capacity_bytes
        )

    def _add(self, messages: Sequence[M], size_bytes: int) -> None:
        if self._oldest_at == math.inf:
            self._oldest_at = self._now()
        self._waiting.extend(messages)
        self._bytes += size_bytes
        self._taker.unpark()

    def _admit_putters(self) -> None:
        putters = self._putters
        while putters and self._has_room(putters[0].messages, putters[0].size_bytes):
            putter = putters.popleft()
            self._add(putter.messages, putter.size_bytes)
            trio.lowlevel.reschedule(putter.task)

    def put_reply(self, message: M) -> None:
        """Add the answer to one of the actor's own asks; dropped when closed."""
        if not self._is_closed:
            self._waiting.append(message)
            self._taker.unpark()

    async def take(self) -> list[M]:
        """Wait for messages and return all that wait, oldest first. No checkpoint when some wait already.

        Raises:
            ActorStopped: the mailbox is closed.

        Cancellation: nothing was taken.
        """
        while not self._waiting:
            if self._is_closed:
                raise ActorStopped
            await self._taker.park()
        batch = self._waiting
        self._waiting = []
        self._bytes = 0
        self.taken_since, self._oldest_at = self._oldest_at, math.inf
        self._peak = max(self._peak, len(batch))
        self._admit_putters()
        return batch

    def close(self) -> list[M]:
        """Refuse everything from now on and return what was never taken."""
        self._is_closed = True
        left, self._waiting = self._waiting, []
        self._bytes = 0
        while self._putters:
            putter = self._putters.popleft()
            putter.is_refused = True
            trio.lowlevel.reschedule(putter.task)
        self._taker.unpark_all()
        return left

    def statistics(self) -> MailboxStatistics:
        """Return counts for health pages and metrics."""
        return MailboxStatistics(
            len(self._waiting),
            self._bytes,
            max(self._peak, len(self._waiting)),
            self._num_refused,
        )


class Reply(Generic[T]):
    """The answer to one ask; settles exactly once, later settlements are ignored."""

    __slots__ = ("_error", "_event", "_value")

    def __init__(self) -> None:
        self._event = trio.Event()
        self._value: list[T] = []
        self._error: SyncdError | None = None

    def resolve(self, value: T) -> None:
        """Settle with a value. Never waits."""
        if not self._event.is_set():
            self._value.append(value)
            self._event.set()

    def reject(self, error: SyncdError) -> None:
        """Settle with an error. Never waits."""
        if not self._event.is_set():
            self._error = error
            self._event.set()

    def settle(self, answer: T | SyncdError) -> None:
        """Settle with what it is: an error, or a value. Never waits."""
        if isinstance(answer, SyncdError):
            self.reject(answer)
        else:
            self.resolve(answer)

    async def wait(self) -> T:
        """Return the value or raise the error. Cancelled: the answer goes nowhere."""
        await self._event.wait()
        if self._error is not None:
            raise self._error
        return self._value[0]


def origin_of(message: object) -> dict[str, str]:
    """Return who asked, as fields of a log line: the `session`, or the `request_id` of an HTTP request; nothing if nobody did."""
    held = getattr(message, "subscription", message)
    asker = getattr(message, "asker", None) or getattr(held, "session", None)
    asker = getattr(asker, "connection", asker)
    found = {"session": getattr(asker, "id", None), "request_id": getattr(asker, "request", None)}
    return {name: value for name, value in found.items() if value}


class Health(enum.Enum):
    """State of an actor, as told by `/health/ready`."""

    STARTING = "starting"
    OK = "ok"
    RESTARTING = "restarting"
    FAILED = "failed"
    STOPPED = "stopped"


@attrs.define
class ActorHealth:
    """What became of one actor."""

    name: str
    state: Health = Health.STARTING
    num_restarts: int = 0
    last_error: str | None = None
    """Type of the last exception that ended it; the log has the rest."""


class Actor(Protocol):
    """A room with one task: owns its state, takes batches from its mailbox."""

    name: str

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; ready once `started()` was called."""

    def recover(self) -> None:
        """Prepare for another `run` after a crash: settle what was in hand, rebuild state."""


class NodeFailed(Exception):
    """An actor crashed too often; the node must exit non-zero."""


MAX_RESTARTS = 3
RESTART_WINDOW_S = 10.0
"""More than 3 restarts in 10 s mean a fault that restarting does not cure."""


async def supervise(
    actor: Actor,
    health: ActorHealth,
    *,
    on_restart: Callable[[], None] = lambda: None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run an actor and start it anew after a crash, alone.

    Args:
        actor: Started once; its mailbox survives.
        health: Kept true from here.
        on_restart: Called after `actor.recover()`, before the actor runs again: hands it what others hold for it.
        task_status: Started when the actor is.

    Raises:
        NodeFailed: more than 3 restarts in 10 s. A `recover` or `on_restart` that raises counts as a crash.

    Cancellation: the actor is cancelled with it; what it raises while it tidies up is logged, the cancellation goes on.
    """
    crashes: collections.deque[float] = collections.deque(maxlen=MAX_RESTARTS + 1)
    is_told = False
    try:
        while True:
            try:
                if crashes:
                    actor.recover()
                    on_restart()
                async with trio.open_nursery() as nursery:
                    await nursery.start(actor.run)
                    health.state = Health.OK
                    if not is_told:
                        is_told = True
                        task_status.started()
            except BaseExceptionGroup as group:
                error = await _error_unless_cancelled(actor, group)
                _note_crash(actor, health, error, crashes)
            except Exception as error:  # noqa: BLE001 - the supervisor is where an actor's crash ends
                _note_crash(actor, health, error, crashes)
            else:
                return
    finally:
        if health.state is not Health.FAILED:
            health.state = Health.STOPPED


async def _error_unless_cancelled(
    actor: Actor, group: BaseExceptionGroup[BaseException]
) -> Exception:
    """Return a crash as such; when we are being cancelled, note it and let the cancellation go on instead."""
    cancelled, rest = group.split(trio.Cancelled)
    if rest is not None and not isinstance(rest, Exception):
        raise group
    is_cancelled = cancelled is not None or trio.current_effective_deadline() == -math.inf
    if rest is not None and is_cancelled:
        _log.error("actor_stopped_badly", actor=actor.name, exc_info=rest)
    if cancelled is not None:
        raise cancelled
    await trio.lowlevel.checkpoint_if_cancelled()
    assert rest is not None
    return rest


def _note_crash(
    actor: Actor,
    health: ActorHealth,
    error: Exception,
    crashes: collections.deque[float],
) -> None:
    """Write down one crash; raise `NodeFailed` when it was one too many."""
    now = trio.current_time()
    crashes.append(now)
    health.last_error = _first_leaf(error)
    if len(crashes) > MAX_RESTARTS and now - crashes[0] <= RESTART_WINDOW_S:
        health.state = Health.FAILED
        _log.critical("actor_failed", actor=actor.name, error=health.last_error, exc_info=error)
        msg = f"Actor {actor.name} crashed more than {MAX_RESTARTS} times in {RESTART_WINDOW_S:g} s"
        raise NodeFailed(msg) from error
    health.num_restarts += 1
    health.state = Health.RESTARTING
    _log.error("actor_restarted", actor=actor.name, exc_info=error)


def _first_leaf(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return type(error).__name__
