"""The audit log of one node over its restarts: kept in the store as the channel `$audit:node`, told to the log. Owned by `server.Node`."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import structlog

from syncd.model.audit import AuditEntry, AuditLog
from syncd.model.reserved import AUDIT_CHANNEL, AUDIT_KEPT
from syncd.news import News
from syncd.ports import BroadcasterHandle

__all__ = ["AuditTrail"]

_log = structlog.get_logger("syncd.audit")


class AuditTrail:
    """Has every action written down and brings those of before the start back."""

    def __init__(self, broadcaster: BroadcasterHandle, wall_ms: Callable[[], int]) -> None:
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
        self.log.merge(await self.recall())

    async def recall(self) -> list[AuditEntry]:
        """Return the newest that the store has, of all nodes that share it; ascending, none if it does not answer. Cancelled: nothing is left."""
        return [AuditEntry(**each) for each in await self._news.recall(AUDIT_CHANNEL, AUDIT_KEPT)]
