"""How an HTTP request waits for actors: one `Answers` a request, filled by whoever was asked.

Owns nothing after the request: an answer that comes too late goes nowhere.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import trio

from syncd.errors import SyncdError
from syncd.ids import Epoch, Position
from syncd.logs import request_id
from syncd.ports import PublishEvent, ReadHistory

__all__ = ["COMMAND_BYTES", "Answer", "Answers", "EventsAnswer", "size_bytes"]

COMMAND_BYTES = 64
"""Counted for a command besides its data."""


@attrs.define
class EventsAnswer:
    """Answer to a history request."""

    position: Position
    bodies: Sequence[bytes]
    """Encoded event bodies, in the order asked for."""


Answer = Position | EventsAnswer | SyncdError | None
"""None: done, without a position (ephemeral channels)."""


class Answers:
    """The `Asker` of one HTTP request: `count` asks, numbered from 0, each answered once."""

    __slots__ = ("_all_in", "_answers", "_missing", "request")

    def __init__(self, count: int) -> None:
        self.request = request_id()
        """For the log."""
        self._answers: dict[int, Answer] = {}
        self._missing = count
        self._all_in = trio.Event()
        if count == 0:
            self._all_in.set()

    def reply_ok(self, request_id: int, epoch: Epoch | None = None, offset: int = 0) -> None:
        self._settle(request_id, None if epoch is None else Position(epoch, offset))

    def reply_error(self, request_id: int, error: SyncdError) -> None:
        self._settle(request_id, error)

    def reply_events(
        self, request_id: int, epoch: Epoch, offset: int, bodies: Sequence[bytes]
    ) -> None:
        self._settle(request_id, EventsAnswer(Position(epoch, offset), bodies))

    def _settle(self, request_id: int, answer: Answer) -> None:
        if request_id not in self._answers:
            self._answers[request_id] = answer
            self._missing -= 1
            if self._missing == 0:
                self._all_in.set()

    async def wait(self) -> None:
        """Wait until every ask is answered. Cancelled: `get` tells what came so far."""
        await self._all_in.wait()

    def get(self, request_id: int, missing: SyncdError) -> Answer:
        """Return one answer, or `missing` when it has not come."""
        return self._answers.get(request_id, missing)


def size_bytes(commands: Sequence[PublishEvent | ReadHistory]) -> int:
    """Return what a mailbox counts for commands."""
    return sum(
        COMMAND_BYTES + (len(item.data) if isinstance(item, PublishEvent) else 0)
        for item in commands
    )
