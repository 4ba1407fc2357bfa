"""What a session may do on a channel, looked up once and cached in the connection.

Grants are shared: one object per namespace and set of actions, however many sessions hold it.
"""

from __future__ import annotations

from typing import Final

from syncd.codes import ErrorCode
from syncd.config import Action, Namespace
from syncd.errors import RequestRejected
from syncd.gateway.connection import Connection
from syncd.ids import ChannelName
from syncd.model.permissions import Permissions
from syncd.wire.channels import check_channel

__all__ = ["HISTORY", "PRESENCE", "PUBLISH", "SUBSCRIBE", "Grant", "Grants"]

SUBSCRIBE: Final = 1
PUBLISH: Final = 2
PRESENCE: Final = 4
HISTORY: Final = 8

_BITS = {
    Action.SUBSCRIBE: SUBSCRIBE,
    Action.PUBLISH: PUBLISH,
    Action.PRESENCE: PRESENCE,
    Action.HISTORY: HISTORY,
}

MAX_CACHED = 256
"""Channels a session may publish to before its cache is emptied: bounds memory, costs a look-up."""


class Grant:
    """Actions allowed on a channel, as bits, and the channel's namespace."""

    __slots__ = ("bits", "namespace")

    def __init__(self, bits: int, namespace: Namespace) -> None:
        self.bits = bits
        self.namespace = namespace


class Grants:
    """Looks grants up and shares them."""

    def __init__(self, permissions: Permissions) -> None:
        self._permissions = permissions
        self._shared: dict[tuple[str, int], Grant] = {}

    def require(self, connection: Connection, channel: ChannelName, bit: int) -> Namespace:
        """Return the channel's namespace if the session may do `bit` on it.

        Raises:
            RequestRejected: bad_channel for a name that is none, permission_denied for everything else.
        """
        cached = connection.grants
        grant = None if cached is None else cached.get(channel)
        if grant is None:
            grant = self._look_up(connection, channel)
        if grant.bits & bit:
            return grant.namespace
        raise RequestRejected(ErrorCode.PERMISSION_DENIED)

    def _look_up(self, connection: Connection, channel: ChannelName) -> Grant:
        check_channel(channel)
        namespace = self._permissions.namespace(channel)
        if namespace is None:
            raise RequestRejected(ErrorCode.PERMISSION_DENIED)
        bits = 0
        for action, bit in _BITS.items():
            if self._permissions.allows(connection.identity, action, channel):
                bits |= bit
        grant = self._shared.get((namespace.name, bits))
        if grant is None:
            grant = self._shared[namespace.name, bits] = Grant(bits, namespace)
        if connection.grants is None or len(connection.grants) >= MAX_CACHED:
            connection.grants = {}
        connection.grants[channel] = grant
        return grant
