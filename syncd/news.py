"""What the node itself publishes in its own channels (`model.reserved`), and reads again when it starts: progress, jobs, the audit log.

Owner of nothing. The broadcaster is handed one event at a time and never waited for; when it has no room, the caller is told and tries again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import msgpack
import structlog
import trio

from syncd.errors import ActorStopped, MailboxFull, SyncdError
from syncd.ids import ChannelName, Epoch
from syncd.ports import BroadcasterHandle, PublishEvent, ReadHistory
from syncd.wire.encode import pack

__all__ = ["News"]

RECALL_S = 5.0
"""A store that does not tell what it has in this time is not waited for at the start."""

_log = structlog.get_logger("syncd.news")


class _Nobody:
    """Asks and does not wait: an `Asker` without a peer."""

    def reply_ok(self, request_id: int, epoch: Epoch | None = None, offset: int = 0) -> None:
        """Nothing is to be done."""

    def reply_error(self, request_id: int, error: SyncdError) -> None:
        """The store is away; what was to be told stands in memory and in the log."""
        _log.warning("news_refused", code=error.code.value)

    def reply_events(
        self, request_id: int, epoch: Epoch, offset: int, bodies: Sequence[bytes]
    ) -> None:
        """Nobody asks for events here."""


_NOBODY = _Nobody()


class News:
    """Publishes in the node's own channels."""

    def __init__(self, broadcaster: BroadcasterHandle) -> None:
        self._broadcaster = broadcaster

    def tell(self, channel: ChannelName, name: str, data: Any, *, key: str | None = None) -> bool:
        """Publish one event; never waits. False: there was no room, nothing was published."""
        encoded = pack(data)
        event = PublishEvent(_NOBODY, 0, channel, encoded, name, key, client=None, idempotency=None)
        try:
            self._broadcaster.submit_nowait([event], len(encoded))
        except (MailboxFull, ActorStopped):
            return False
        return True

    async def recall(self, channel: ChannelName, limit: int) -> list[Any]:
        """Return the data of the newest events of a channel, ascending; none if the store does not answer, or the node is stopping.

        Cancellation: nothing is left behind.
        """
        answer = _Page()
        asked = ReadHistory(answer, 0, channel, limit, None, reverse=True)
        with contextlib.suppress(ActorStopped), trio.move_on_after(RECALL_S):
            await self._broadcaster.submit([asked], 0)
            await answer.is_in.wait()
        return [msgpack.unpackb(body)["data"] for body in reversed(answer.bodies)]


class _Page:
    """Waits for one page of history; an `Asker`."""

    def __init__(self) -> None:
        self.is_in = trio.Event()
        self.bodies: Sequence[bytes] = ()

    def reply_ok(self, request_id: int, epoch: Epoch | None = None, offset: int = 0) -> None:
        """Nothing was published."""

    def reply_error(self, request_id: int, error: SyncdError) -> None:
        """The store has no answer now."""
        _log.warning("news_not_recalled", code=error.code.value)
        self.is_in.set()

    def reply_events(
        self, request_id: int, epoch: Epoch, offset: int, bodies: Sequence[bytes]
    ) -> None:
        """Here it is."""
        self.bodies = bodies
        self.is_in.set()
