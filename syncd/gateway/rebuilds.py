"""Rebuilds as operators' sessions ask for them. Owner of nothing; the rebuild-coordinator answers at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from syncd.codes import ErrorCode
from syncd.errors import RequestRejected
from syncd.gateway.connection import Connection
from syncd.gateway.hub import Hub
from syncd.model.rebuild_plan import wish_of
from syncd.model.reserved import is_admin, who_of
from syncd.wire import encode
from syncd.wire import messages as m

__all__ = ["RebuildRequests"]


class RebuildRequests:
    """Handles `rebuild` and `rebuild_cancel`. Whoever is no operator learns nothing, whatever was asked."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self.handlers: dict[type, Callable[[Connection, Any], None]] = {
            m.Rebuild: self.start,
            m.RebuildCancel: self.cancel,
        }

    def start(self, connection: Connection, message: m.Rebuild) -> None:
        """Queue a job, and answer with it."""
        rebuilds = self._hub.rebuilds
        if rebuilds is None or not is_admin(connection.identity):
            raise RequestRejected(ErrorCode.PERMISSION_DENIED)
        wish = wish_of(
            message.mode,
            keys=message.keys,
            tag=message.tag,
            keeps_missing=message.keep_missing,
            max_rows_per_s=message.max_rows_per_s,
            deadline_ms=message.deadline_ms,
        )
        who = who_of(connection.identity)
        job = rebuilds.start(message.collection, wish, joins=message.join, who=who, uid=message.uid)
        _answer(connection, message.id, job)

    def cancel(self, connection: Connection, message: m.RebuildCancel) -> None:
        """Have a job end, and answer with it."""
        rebuilds = self._hub.rebuilds
        if rebuilds is None or not is_admin(connection.identity):
            raise RequestRejected(ErrorCode.PERMISSION_DENIED)
        job = rebuilds.cancel(message.job, who=who_of(connection.identity))
        _answer(connection, message.id, job)


def _answer(connection: Connection, request_id: int, job: dict[str, Any]) -> None:
    told = {name: value for name, value in job.items() if value is not None}
    connection.send(encode.message("ok", {"id": request_id, "job": told}))
