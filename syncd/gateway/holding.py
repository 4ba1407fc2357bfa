"""Sessions that have to wait for an answer before their next message may be handled.

A `hello` waits for the last mutations of its clients, any request for the application's authorizer.

Owner of: `Connection.held`. What comes meanwhile is decoded, kept in order and handled when the answer is there, so nothing overtakes.
Bounded in number and bytes (policy: BLOCK, the socket is not read past it) and in time (`HOLD_S`).
"""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import structlog

from syncd.codes import CloseCode
from syncd.gateway.connection import Connection

if TYPE_CHECKING:
    from syncd.gateway.authorizer import Answer
    from syncd.gateway.hub import Hub

__all__ = ["HOLD_S", "MAX_HELD", "MAX_HELD_BYTES", "Held", "Holding", "MustWait"]

_log = structlog.get_logger("syncd.gateway")

HOLD_S = 5.0
"""For one answer (DESIGN 5.10); the authorizer's calls have the same time."""
MAX_HELD = 256
MAX_HELD_BYTES = 65_536
"""Of a session, before it is not read any more; one read more can be on its way."""
RETRY_MS = 1000
"""Told with refusals for want of an answer."""

Question = tuple[int, str]
"""What is asked of the authorizer: bit of the action, target."""


class MustWait(Exception):
    """The message cannot be handled yet. It is handled anew when the answer is there, or `again` is called instead."""

    def __init__(self, again: Callable[[], None] | None = None) -> None:
        super().__init__()
        self.again = again


class Held:
    """One session's wait."""

    __slots__ = (
        "answers",
        "asked",
        "count",
        "deadline",
        "failed",
        "first",
        "frames",
        "is_opening",
        "size_bytes",
    )

    def __init__(self) -> None:
        self.deadline = 0.0
        self.is_opening = False
        """`hello` is not answered yet: without an answer there is no session."""
        self.asked: set[Question] = set()
        self.answers: dict[Question, Answer] = {}
        """To be taken by the message that asked."""
        self.failed: set[Question] = set()
        """Asked during this wait without an answer in time: refused at once from now on."""
        self.first: Callable[[], None] | None = None
        """To be called before any message is handled."""
        self.frames: collections.deque[tuple[list[Any], int]] = collections.deque()
        """(messages, bytes) in order."""
        self.count = 0
        self.size_bytes = 0

    @property
    def is_full(self) -> bool:
        """Whether nothing more should be read meanwhile."""
        return self.count >= MAX_HELD or self.size_bytes >= MAX_HELD_BYTES

    def forget_answers(self) -> None:
        """Whatever was asked was asked about somebody else."""
        self.asked.clear()
        self.answers.clear()
        self.failed.clear()

    def _note(self, count: int, size_bytes: int) -> None:
        self.count += count
        self.size_bytes += size_bytes

    def append(self, messages: list[Any], size_bytes: int) -> None:
        """Keep a frame behind the others."""
        self.frames.append((messages, size_bytes))
        self._note(len(messages), size_bytes)

    def put_back(self, messages: list[Any], size_bytes: int) -> None:
        """Keep the rest of a frame before the others."""
        if messages:
            self.frames.appendleft((messages, size_bytes))
            self._note(len(messages), size_bytes)

    def take(self) -> tuple[list[Any], int]:
        """Return the next frame."""
        messages, size_bytes = self.frames.popleft()
        self._note(-len(messages), -size_bytes)
        return messages, size_bytes


class Holding:
    """Holds sessions and lets them go on."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def begin(self, connection: Connection) -> Held:
        """An answer is awaited from now on; the caller raises `MustWait`."""
        held = connection.held
        if held is None:
            held = connection.held = Held()
        held.deadline = self._hub.now + HOLD_S
        self._hub.wheel.schedule(connection, held.deadline)
        return held

    def wait(
        self, connection: Connection, message: object, wait: MustWait, rest: list[Any]
    ) -> None:
        """`begin` was called and the message in hand cannot be handled yet: keep it, or what is to be done instead, and the rest."""
        held = connection.held
        if held is None:
            return
        if wait.again is None:
            rest.insert(0, message)
        else:
            held.first = wait.again
        held.put_back(rest, self._hub.frame_bytes)

    def keep(self, connection: Connection, messages: list[Any], size_bytes: int) -> None:
        """A frame came while its session waits."""
        held = connection.held
        assert held is not None
        held.append(messages, size_bytes)
        if held.is_full:
            self._hub.pause(connection)

    def go_on(self, connection: Connection) -> None:
        """An answer is there: handle what was held until the next wait, then read the session again.

        Called by whoever brings the answer; a failure ends this connection alone.
        """
        held = connection.held
        if held is None or connection.closed:
            return
        self._hub.now = self._hub.clock()
        try:
            self._handle(connection, held)
        except Exception:  # noqa: BLE001 - see the comment
            # Isolation is the purpose: one connection's bug ends that connection.
            _log.exception("connection_failed", session=connection.id)
            self._hub.close(connection, CloseCode.INTERNAL_ERROR, "internal error")
        self._hub.finish_soon()

    def _handle(self, connection: Connection, held: Held) -> None:
        first, held.first = held.first, None
        if first is not None:
            try:
                first()
            except MustWait as wait:
                held.first = wait.again or first
                return
        while connection.held is held and held.frames:
            messages, size_bytes = held.take()
            if not self._hub.handle(connection, messages, size_bytes):
                return
        if connection.held is held:
            connection.held = None
            if connection.is_paused:
                self._hub.resume_unless_parked(connection)

    def expire(self, connection: Connection) -> None:
        """No answer came in time: the session ends if that was its `hello`, else whatever asked is refused and the rest goes on."""
        held = connection.held
        if held is None:
            return
        if held.is_opening:
            self.refuse_opening(connection, RETRY_MS)
            return
        held.failed |= held.asked
        held.asked.clear()
        self.go_on(connection)

    def refuse_opening(self, connection: Connection, after_ms: int) -> None:
        """The `hello` cannot be answered now."""
        reason = "the last mutations of this client cannot be told now"
        self._hub.close(connection, CloseCode.OVERLOADED, reason, after_ms=after_ms)
        self._hub.resume(connection)  # its close frame is to be read
