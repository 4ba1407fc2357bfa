"""The routes of the dashboard about what is not published: the last ten minutes, channels, sessions, recent errors.

Owns the last looks at all channels and all sessions. A look is taken in slices, at most once a second, and no more often than costs a hundredth of
the time: whoever asks in between is answered from the last one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

import attrs
import trio
from quart import Response, request

from syncd.codes import ErrorCode
from syncd.errors import RequestRejected
from syncd.http.failures import json_response
from syncd.http.fields import only, query_bool, query_uint, rejected
from syncd.http.ports import StatsInfo
from syncd.ids import ChannelName
from syncd.logs import RecentProblems, recent_problems
from syncd.model.channel_rates import ChannelRates
from syncd.ports import BroadcasterHandle, ChannelInfo, Identity
from syncd.ports_operators import GatewayPort, SessionInfo

__all__ = ["MAX_LISTED", "DashboardApi", "Look"]

T = TypeVar("T")

MAX_LISTED = 20_000
"""Channels or sessions looked at; of more the first ones are listed, and the answer says so."""
SLICE = 500
"""Looked at between two checkpoints: about half a millisecond."""
LOOK_S = 1.0
LOOK_SHARE = 0.01
"""Of one core, for all dashboards that are open together."""
MAX_ROWS = 500
MAX_FILTER_CHARS = 255

CHANNEL_ORDERS = ("channel", "num_subscribers", "rate_per_s", "offset")
SESSION_ORDERS = ("outbox_bytes", "behind_s", "silent_s", "num_subscriptions", "session", "user")


@attrs.define(eq=False)
class Look(Generic[T]):
    """All rows of a table as they were a moment ago."""

    rows: list[T] = attrs.field(factory=list)
    is_complete: bool = True
    _due_s: float = -1.0
    _lock: trio.Lock = attrs.field(factory=trio.Lock)

    async def renew(self, each: Callable[[], Iterator[T]]) -> bool:
        """Look again if it is time to; whether that was done. Cancelled: the last look stays."""
        async with self._lock:
            begun = trio.current_time()
            if begun < self._due_s:
                return False
            found: list[T] = []
            is_complete, busy_s, slice_at = True, 0.0, begun
            for row in each():
                if len(found) == MAX_LISTED:
                    is_complete = False
                    break
                found.append(row)
                if len(found) % SLICE == 0:
                    busy_s += trio.current_time() - slice_at
                    await trio.lowlevel.checkpoint()
                    slice_at = trio.current_time()
            now = trio.current_time()
            busy_s += now - slice_at
            self.rows, self.is_complete = found, is_complete
            self._due_s = now + max(LOOK_S, busy_s / LOOK_SHARE)
            return True


class DashboardApi:
    """The handlers of the routes; each is given who asks."""

    def __init__(
        self,
        stats: StatsInfo,
        broadcaster: BroadcasterHandle,
        gateway: GatewayPort,
        problems: RecentProblems = recent_problems,
    ) -> None:
        self._stats = stats
        self._broadcaster = broadcaster
        self._gateway = gateway
        self._problems = problems
        self._channels: Look[ChannelInfo] = Look()
        self._rates = ChannelRates()
        self._rate_of: dict[str, float | None] = {}
        self._sessions: Look[SessionInfo] = Look()

    async def stats(self, _operator: Identity) -> Response:
        """Answer `GET /api/admin/stats`."""
        return json_response({"now": self._stats.now(), "columns": self._stats.columns()})

    async def errors(self, _operator: Identity) -> Response:
        """Answer `GET /api/admin/errors`."""
        only(request.args, "limit")
        limit = query_uint(request.args, "limit", default=100, maximum=MAX_ROWS)
        return json_response({"errors": self._problems.newest(limit)})

    async def channels(self, _operator: Identity) -> Response:
        """Answer `GET /api/admin/channels`."""
        wanted = _Page.asked(CHANNEL_ORDERS, "num_subscribers")
        look = self._channels
        if await look.renew(self._broadcaster.each_channel):
            infos = {info.channel: info for info in look.rows}
            self._rate_of = self._rates.rates(infos, trio.current_time())
        rates = self._rate_of
        rows = [
            {
                "channel": info.channel,
                "num_subscribers": info.num_subscribers,
                "rate_per_s": rates.get(info.channel),
                "epoch": info.epoch,
                "offset": info.offset if info.epoch is not None else None,
            }
            for info in look.rows
            if wanted.contains in info.channel
        ]
        return wanted.answer("channels", rows, "channel", is_complete=look.is_complete)

    async def sessions(self, _operator: Identity) -> Response:
        """Answer `GET /api/admin/sessions`: those of one channel are looked at anew, all of them as often as may be."""
        wanted = _Page.asked(SESSION_ORDERS, "outbox_bytes", "channel")
        channel = request.args.get("channel")
        look = self._sessions
        if channel is None:
            await look.renew(self._gateway.sessions)
        else:
            look = Look()
            name = ChannelName(channel)
            await look.renew(lambda: self._gateway.sessions(name))
        rows = [
            attrs.asdict(info) for info in look.rows if not wanted.contains or wanted.is_in(info)
        ]
        return wanted.answer("sessions", rows, "session", is_complete=look.is_complete)

    async def session(self, _operator: Identity) -> Response:
        """Answer `GET /api/admin/sessions/ID`: the channels of one session."""
        session = str((request.view_args or {})["session"])
        channels = self._gateway.channels_of(session)
        if channels is None:
            raise RequestRejected(
                ErrorCode.BAD_REQUEST, "There is no such session, or none any more."
            )
        return json_response({"session": session, "channels": channels})


@attrs.frozen
class _Page:
    """Which rows of a table are wanted, in which order."""

    order: str
    is_descending: bool
    contains: str
    limit: int
    skip: int

    @classmethod
    def asked(cls, orders: tuple[str, ...], default: str, *fields: str) -> _Page:
        """Read it from the query."""
        query = request.args
        only(query, "order", "descending", "contains", "limit", "skip", *fields)
        order = query.get("order", default)
        if order not in orders:
            raise rejected(f"Query field 'order' must be one of {', '.join(orders)}.")
        return cls(
            order,
            query_bool(query, "descending"),
            query.get("contains", "")[:MAX_FILTER_CHARS],
            query_uint(query, "limit", default=100, maximum=MAX_ROWS),
            query_uint(query, "skip", default=0, maximum=MAX_LISTED),
        )

    def is_in(self, info: SessionInfo) -> bool:
        """Whether a session is one of those asked for."""
        return any(
            self.contains in text
            for text in (info.session, info.user or "", info.peer, *info.clients)
        )

    def answer(
        self, name: str, rows: list[dict[str, Any]], tie: str, *, is_complete: bool
    ) -> Response:
        """Sort (ties by name, so that equal rows do not change places between two answers) and cut."""
        rows.sort(key=lambda row: (tie == "session" and len(row[tie]), row[tie]))  # s-2, s-10
        order = self.order
        if order != tie:
            rows.sort(
                key=lambda row: (row[order] is not None, row[order] or _LEAST.get(order, 0)),
                reverse=self.is_descending,
            )
        elif self.is_descending:
            rows.reverse()
        page = rows[self.skip : self.skip + self.limit]
        return json_response({name: page, "num_found": len(rows), "is_complete": is_complete})


_LEAST: dict[str, Any] = {"user": ""}
"""What stands in for nothing where texts are compared."""
