"""What the hub asks of whoever moves a connection's bytes."""

from __future__ import annotations

from typing import Protocol

from syncd.gateway.connection import Connection

__all__ = ["Driver"]


class Driver(Protocol):
    """What moves a connection's bytes: the epoll poller, or a stream driver."""

    def watch_room(self, connection: Connection) -> None:
        """Call `Writer.on_room` when the transport takes bytes again."""

    def set_reading(self, connection: Connection, *, is_reading: bool) -> None:
        """Stop or go on to read from it."""

    def forget(self, connection: Connection) -> None:
        """The connection is closed; drop whatever is kept for it."""

    def end(self, connection: Connection, *, is_mutual: bool) -> None:
        """Nothing more will be queued: send what is, then drop the connection if both sides said so, else half-close and wait."""
