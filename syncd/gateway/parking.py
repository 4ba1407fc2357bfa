"""Commands that found a mailbox full or an actor gone: whose they are, and how they wait or are refused."""

from __future__ import annotations

from collections.abc import Iterable

from syncd.errors import SyncdError
from syncd.gateway.connection import Connection
from syncd.gateway.pages import PageAsker
from syncd.ports import BroadcasterCommand, PresenceCommand

__all__ = ["ParkedBatch", "refuse_all", "senders"]


class ParkedBatch:
    """Commands that found a mailbox full, and the connections that must not be read meanwhile."""

    __slots__ = ("commands", "connections", "is_presence", "size_bytes")

    def __init__(
        self,
        commands: list[BroadcasterCommand] | list[PresenceCommand],
        size_bytes: int,
        connections: set[Connection],
        *,
        is_presence: bool,
    ) -> None:
        self.commands = commands
        self.size_bytes = size_bytes
        self.connections = connections
        self.is_presence = is_presence


def senders(commands: Iterable[object]) -> set[Connection]:
    """Connections whose commands these are (those of HTTP have none)."""
    found: set[Connection] = set()
    for command in commands:
        asker = getattr(command, "asker", None) or getattr(command, "session", None)
        subscription = getattr(command, "subscription", None)
        if subscription is not None:
            asker = subscription.session
        session = asker.connection if isinstance(asker, PageAsker) else asker
        if isinstance(session, Connection):
            found.add(session)
    return found


def refuse_all(commands: Iterable[object], error: SyncdError) -> None:
    """Answer every session's command with the error."""
    for command in commands:
        request_id = getattr(command, "request_id", None)
        subscription = getattr(command, "subscription", None)
        asker = getattr(command, "asker", None) or getattr(command, "session", None)
        if subscription is not None:
            asker, request_id = subscription.session, subscription.pending_id
        if request_id is not None and isinstance(asker, Connection | PageAsker):
            asker.reply_error(request_id, error)
