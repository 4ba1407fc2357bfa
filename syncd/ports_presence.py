"""What the gateway and HTTP ask of presence. A Protocol and plain messages; nothing here does anything."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import attrs

from syncd.errors import SyncdError
from syncd.ids import ChannelName
from syncd.ports import SessionPort

__all__ = [
    "Announce",
    "PresenceCommand",
    "PresenceHandle",
    "QueryPresence",
    "ReleaseClient",
    "SessionGone",
    "UnwatchPresence",
    "WatchPresence",
]


@attrs.define(eq=False)
class Announce:
    """One client's state in one channel; None leaves. Authorised and bounded already."""

    session: SessionPort
    request_id: int | None
    """None: announced anew after a crash of the presence actor, nobody waits."""
    channel: ChannelName
    client: str
    state: bytes | None
    """Encoded msgpack."""


@attrs.define(eq=False)
class WatchPresence:
    """Send this session `presence_state` now and `presence_diff` from then on."""

    session: SessionPort
    channel: ChannelName


@attrs.define(eq=False)
class UnwatchPresence:
    """Stop sending this session the channel's presence."""

    session: SessionPort
    channel: ChannelName


@attrs.define(eq=False)
class SessionGone:
    """A session ended. Its members leave after the reconnect grace unless they come back."""

    session: SessionPort


@attrs.define(eq=False)
class QueryPresence:
    """Answer with the members of a channel, for HTTP: `[{member, user?, states: [{client, state}]}]`, states decoded."""

    channel: ChannelName
    done: Callable[[list[dict[str, Any]] | SyncdError], None]


@attrs.define(eq=False)
class ReleaseClient:
    """A client of this session is another session's now, here or on another node: it leaves after the grace, unless it is announced there."""

    session: SessionPort
    client: str


PresenceCommand = (
    Announce | WatchPresence | UnwatchPresence | SessionGone | ReleaseClient | QueryPresence
)


class PresenceHandle(Protocol):
    """The presence actor, as the gateway and HTTP see it."""

    def submit_nowait(self, commands: Sequence[PresenceCommand], size_bytes: int) -> None:
        """Hand over all or none; raises `MailboxFull` or `ActorStopped`."""

    async def submit(self, commands: Sequence[PresenceCommand], size_bytes: int) -> None:
        """Hand over, waiting for room."""
