"""What operators do to a node and its sessions, each action entered in the audit log; the token of their page, and that log."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

import attrs
from quart import Response, request

from syncd.actors.rebuild_coordinator.handle import Rebuilds
from syncd.http.answers import position_json
from syncd.http.bodies import read_object
from syncd.http.commands import (
    Channels,
    parse_backup,
    parse_disconnect,
    parse_revoke,
    parse_unsubscribe,
)
from syncd.http.everywhere import done_everywhere, nodes_json
from syncd.http.failures import json_response
from syncd.http.fields import only, query_uint
from syncd.http.ports import NodeInfo
from syncd.model.admin_sessions import AdminSessions
from syncd.model.audit import AuditEntry, AuditLog
from syncd.model.reserved import AUDIT_KEPT, who_of
from syncd.model.revocations import DEFAULT_REVOCATION_S
from syncd.ports import Identity
from syncd.ports_cluster import (
    ClusterPort,
    DisconnectOrder,
    Order,
    RevokeOrder,
    UnsubscribeOrder,
)
from syncd.ports_operators import GatewayPort

__all__ = ["Operating", "OperatorApi"]


@attrs.frozen(eq=False)
class Operating:
    """What operators have of a node besides its parts."""

    audit: AuditLog
    """Where what they do is entered."""
    sessions: AdminSessions
    """Signs the tokens of their pages."""
    rebuilds: Rebuilds
    wall_s: Callable[[], float]
    cluster: ClusterPort | None = None
    """The other nodes; None: there are none."""
    recall: Callable[[], Awaitable[Iterable[AuditEntry]]] | None = None
    """Reads the newest actions that all nodes have entered."""


@attrs.define(eq=False)
class OperatorApi:
    """The handlers of the routes; each is given who asks."""

    gateway: GatewayPort
    node: NodeInfo
    channels: Channels
    operating: Operating

    # -------------------------------------------------------------------------------------------- who operates

    async def session(self, operator: Identity) -> Response:
        """Answer `POST /api/admin/session`."""
        if (await request.get_data()).strip():
            only(await read_object())
        token, expires_at_ms = self.operating.sessions.issue(operator, self.operating.wall_s())
        return json_response({"token": token, "expires_at_ms": expires_at_ms})

    async def actions(self, _operator: Identity) -> Response:
        """Answer `GET /api/audit`."""
        limit = query_uint(request.args, "limit", default=100, maximum=AUDIT_KEPT)
        audit, recall = self.operating.audit, self.operating.recall
        if self.operating.cluster is not None and recall is not None:
            audit.merge(await recall())
        return json_response({"entries": [attrs.asdict(each) for each in audit.last(limit)]})

    # -------------------------------------------------------------------------------------------- the store

    async def backup(self, operator: Identity) -> Response:
        """Answer `POST /api/backup`: no deadline, a large store takes its time."""
        path = parse_backup(await read_object())
        with self.operating.audit.action(who_of(operator), "backup", path=str(path)) as details:
            report = await self.node.backup(path)
            details["size_bytes"] = report.size_bytes
        positions = {name: position_json(position) for name, position in report.positions.items()}
        return json_response(
            {
                "path": str(path),
                "size_bytes": report.size_bytes,
                "num_channels": report.num_channels,
                "positions": positions,
            }
        )

    # -------------------------------------------------------------------------------------------- sessions

    async def disconnect(self, operator: Identity) -> Response:
        """Answer `POST /api/disconnect`."""
        wanted = parse_disconnect(await read_object())
        order = DisconnectOrder(wanted.target, wanted.reconnect, wanted.reason)

        def act() -> int:
            reason, reconnect = wanted.reason, wanted.reconnect
            return self.gateway.disconnect(wanted.target, reconnect=reconnect, reason=reason)

        return await self._act(operator, "disconnect", order, act)

    async def unsubscribe(self, operator: Identity) -> Response:
        """Answer `POST /api/unsubscribe`."""
        wanted = parse_unsubscribe(await read_object(), self.channels)
        order = UnsubscribeOrder(wanted.target, wanted.channel)

        def act() -> int:
            return self.gateway.unsubscribe(wanted.target, wanted.channel)

        return await self._act(operator, "unsubscribe", order, act, channel=wanted.channel)

    async def revoke(self, operator: Identity) -> Response:
        """Answer `POST /api/revoke`."""
        wanted = parse_revoke(await read_object())
        until_s = wanted.until_s
        if until_s is None:
            until_s = self.operating.wall_s() + DEFAULT_REVOCATION_S
        order = RevokeOrder(wanted.target, until_s)

        def act() -> int:
            return self.gateway.revoke(wanted.target, until_s=order.until_s)

        return await self._act(operator, "revoke", order, act)

    async def _act(
        self, operator: Identity, what: str, order: Order, act: Callable[[], int], **more: str
    ) -> Response:
        """Do it here, have the other nodes do it, and tell what came of it."""
        target = attrs.asdict(order.target)
        whom = {name: value for name, value in target.items() if value is not None}
        with self.operating.audit.action(who_of(operator), what, **whom, **more) as details:
            count = act()
            everywhere = await done_everywhere(self.operating.cluster, order, count)
            details.update(everywhere)
        return json_response(everywhere)

    # -------------------------------------------------------------------------------------------- the cluster

    async def nodes(self, _operator: Identity) -> Response:
        """Answer `GET /api/nodes`."""
        return json_response({"nodes": nodes_json(self.operating.cluster, self.node, self.gateway)})
