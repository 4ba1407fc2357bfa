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


class Mailbox(Generic[M]):
    """Bounded queue of one actor's messages, counted in messages and bytes.

    Policy BLOCK: `put` waits for room, `put_nowait` raises. Replies to the actor's own asks come in by `put_reply`, which never
    refuses: they are bounded by the asks the actor allows itself. The mailbox outlives a crash of its actor.
    """

    def __init__(self, name: str, capacity: int, capacity_bytes: int) -> None:
        self.name = name
        self.capacity = capacity
        self.capacity_bytes = capacity_bytes
        self._waiting: list[M] = []
        self._bytes = 0
        self._peak = 0
        self._num_refused = 0
        self._is_closed = False
        self._taker = trio.lowlevel.ParkingLot()
        self._putters = trio.lowlevel.ParkingLot()

    def put_nowait(self, messages: Sequence[M], size_bytes: int = 0) -> None:
        """Add all messages or none.

        An empty mailbox takes a batch of any size, so no batch is too large for ever.

        Raises:
            MailboxFull: there is no room now.
            ActorStopped: the mailbox is closed.
        """
        if self._is_closed:
            raise ActorStopped
        waiting = self._waiting
        if waiting and (
            len(waiting) + len(messages) > self.capacity
            or self._bytes + size_bytes > self.capacity_bytes
        ):
            self._num_refused += len(messages)
            raise MailboxFull(f"The {self.name} has too much to do.")
        waiting.extend(messages)
        self._bytes += size_bytes
        self._taker.unpark()

    async def put(self, messages: Sequence[M], size_bytes: int = 0) -> None:
        """Add all messages, waiting for room. Cancelled: none was added."""
        while True:
            try:
                self.put_nowait(messages, size_bytes)
            except MailboxFull:
                await self._putters.park()
            else:
                await trio.lowlevel.checkpoint()
                return

    def put_reply(self, message: M) -> None:
        """Add the answer to one of the actor's own asks; dropped when closed."""
        if not self._is_closed:
            self._waiting.append(message)
            self._taker.unpark()

    async def take(self) -> list[M]:
        """Wait for messages and return all that wait, oldest first."""
        while not self._waiting:
            if self._is_closed:
                raise ActorStopped
            await self._taker.park()
        batch = self._waiting
        self._waiting = []
        self._bytes = 0
        self._peak = max(self._peak, len(batch))
        self._putters.unpark_all()
        return batch

    def close(self) -> list[M]:
        """Refuse everything from now on and return what was never taken."""
        self._is_closed = True
        left, self._waiting = self._waiting, []
        self._putters.unpark_all()
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

    async def wait(self) -> T:
        """Return the value or raise the error. Cancelled: the answer goes nowhere."""
        await self._event.wait()
        if self._error is not None:
            raise self._error
        return self._value[0]


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
        NodeFailed: more than 3 restarts in 10 s.

    Cancellation: the actor is cancelled with it.
    """
    restarts: collections.deque[float] = collections.deque(maxlen=MAX_RESTARTS + 1)
    has_started = False
    while True:
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(actor.run)
                health.state = Health.OK
                if not has_started:
                    has_started = True
                    task_status.started()
        except Exception as error:  # noqa: BLE001 - the supervisor is where an actor's crash ends
            _note_crash(actor, health, error, restarts)
            actor.recover()
            on_restart()
        else:
            health.state = Health.STOPPED
            return
        finally:
            if health.state is Health.OK:
                health.state = Health.STOPPED


def _note_crash(
    actor: Actor,
    health: ActorHealth,
    error: Exception,
    restarts: collections.deque[float],
) -> None:
    now = trio.current_time()
    restarts.append(now)
    health.num_restarts += 1
    health.last_error = _first_leaf(error)
    oldest = restarts[0] if len(restarts) > MAX_RESTARTS else -math.inf
    if now - oldest <= RESTART_WINDOW_S:
        health.state = Health.FAILED
        _log.critical("actor_failed", actor=actor.name, error=health.last_error)
        msg = f"Actor {actor.name} crashed more than {MAX_RESTARTS} times in {RESTART_WINDOW_S:g} s"
        raise NodeFailed(msg) from error
    health.state = Health.RESTARTING
    _log.error("actor_restarted", actor=actor.name, exc_info=error)


def _first_leaf(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return type(error).__name__
