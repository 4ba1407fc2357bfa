"""The audit log of one node over its restarts: kept in the store as the channel `$audit:node`, told to the log. Owned by `server.Node`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
import msgpack
import structlog
import trio

from syncd.actors.news import News
from syncd.errors import SyncdError
from syncd.ids import Epoch
from syncd.model.audit import AuditEntry, AuditLog
from syncd.model.reserved import AUDIT_CHANNEL, AUDIT_KEPT
from syncd.ports import BroadcasterHandle, ReadHistory

__all__ = ["AuditTrail"]

_log = structlog.get_logger("syncd.audit")

RESTORE_S = 5.0
"""A store that does not tell what it has in this time is not waited for at the start."""


class AuditTrail:
    """Has every action written down and brings those of before the start back."""

    def __init__(self, broadcaster: BroadcasterHandle, wall_ms: Callable[[], int]) -> None:
        self._broadcaster = broadcaster
        self._news = News(broadcaster)
        self.log = AuditLog(wall_ms, self._tell)

    def _tell(self, entry: AuditEntry) -> None:
        _log.info(
            "audit", who=entry.who, what=entry.what, outcome=entry.outcome, details=entry.details
        )
        if not self._news.tell(AUDIT_CHANNEL, entry.what, attrs.asdict(entry)):
            _log.error("audit_not_stored", what=entry.what)

    async def restore(self) -> None:
        """Read what the store has, once the broadcaster serves. Cancelled: what is told from now on stands alone."""
        answer = _Answer()
        asked = ReadHistory(answer, 0, AUDIT_CHANNEL, AUDIT_KEPT, None, reverse=True)
        with trio.move_on_after(RESTORE_S):
            await self._broadcaster.submit([asked], 0)
            await answer.is_in.wait()
        self.log.restore([_entry(body) for body in reversed(answer.bodies)])


def _entry(body: bytes) -> AuditEntry:
    return AuditEntry(**msgpack.unpackb(body)["data"])


class _Answer:
    """Waits for one page of history; an `Asker`."""

    def __init__(self) -> None:
        self.is_in = trio.Event()
        self.bodies: Sequence[bytes] = ()

    def reply_ok(self, request_id: int, epoch: Epoch | None = None, offset: int = 0) -> None:
        """Nothing was published."""

    def reply_error(self, request_id: int, error: SyncdError) -> None:
        """The store has no answer now."""
        _log.warning("audit_not_read", code=error.code.value)
        self.is_in.set()

    def reply_events(
        self, request_id: int, epoch: Epoch, offset: int, bodies: Sequence[bytes]
    ) -> None:
        """Here it is."""
        self.bodies = bodies
        self.is_in.set()
