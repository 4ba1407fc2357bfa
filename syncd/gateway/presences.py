"""Presence as sessions speak of it: who may be seen where, and what ends with a permission or a client.

Owner of nothing: the states stand in the connections (`announced`, `watched`), the members with the presence actor.
"""

from __future__ import annotations

from syncd.codes import ErrorCode
from syncd.config import Config
from syncd.errors import RequestRejected
from syncd.gateway import grants as g
from syncd.gateway.connection import Connection
from syncd.gateway.hub import Hub
from syncd.ids import ChannelName
from syncd.ports_presence import Announce, ReleaseClient, UnwatchPresence
from syncd.wire import encode
from syncd.wire import messages as m

__all__ = ["Presences"]


class Presences:
    """Handles `presence`, and ends what a session may not or cannot hold any more."""

    def __init__(self, hub: Hub, config: Config, grants: g.Grants) -> None:
        self._hub = hub
        self._config = config
        self._grants = grants

    def announce(self, connection: Connection, message: m.Presence) -> None:
        """Check, remember the state for a presence actor that starts anew, and ask it."""
        channel = message.channel
        namespace = self._grants.require(connection, channel, g.PRESENCE)
        if not namespace.presence:
            raise RequestRejected(ErrorCode.NOT_SUPPORTED, "This namespace has no presence.")
        client = message.client or (connection.clients[0] if connection.clients else "")
        if client not in connection.clients:
            raise RequestRejected(ErrorCode.CLIENT_DENIED, "This session does not speak for it.")
        state = None if message.state is None else encode.pack(message.state)
        if state is not None:
            self._check_state(connection, channel, client, state)
            if connection.announced is None:
                connection.announced = {}  # from now on its end is told
            self._hub.to_presence.size_bytes += len(state)
        self._hub.to_presence.append(Announce(connection, message.id, channel, client, state))

    def _check_state(
        self, connection: Connection, channel: ChannelName, client: str, state: bytes
    ) -> None:
        limits = self._config.limits
        if len(state) > limits.presence_state_bytes:
            raise RequestRejected(
                ErrorCode.TOO_LARGE,
                f"A presence state may have {limits.presence_state_bytes} bytes.",
            )
        announced = connection.announced or {}
        if (channel, client) not in announced and len(announced) >= limits.subscriptions:
            raise RequestRejected(ErrorCode.LIMIT_EXCEEDED, "Present in too many channels.")

    def end_watch(self, connection: Connection, channel: ChannelName) -> None:
        """This session may not see the channel's presence any more."""
        if connection.watched is not None and channel in connection.watched:
            connection.watched.discard(channel)
            self._hub.to_presence.append(UnwatchPresence(connection, channel))

    def leave(self, connection: Connection, channel: ChannelName, client: str) -> None:
        """This session does not announce the client any more."""
        self._hub.to_presence.append(Announce(connection, None, channel, client, None))

    def leave_all(self, connection: Connection, client: str) -> None:
        """A client of this session is another session's now: this one does not announce it any more.

        It is in view for the grace: whoever comes back over a dead connection takes its own client over before it announces it.
        """
        if connection.announced:
            self._hub.to_presence.append(ReleaseClient(connection, client))
