"""Groups of sessions that share a client store, and the newest term of each: a session with a lower one may not mutate any more.

Owner of: the groups that have sessions on this node. A group is one user's (or anonymous); without sessions it is forgotten, so the table
is bounded by the connections.
"""

from __future__ import annotations

from syncd.gateway.connection import Connection

__all__ = ["Group", "Groups", "is_stale"]


class Group:
    """Sessions of one user that named the same group."""

    __slots__ = ("key", "num_sessions", "term")

    def __init__(self, key: tuple[str | None, str]) -> None:
        self.key = key
        self.term = 0
        """The highest that any of its sessions had since the first of them came."""
        self.num_sessions = 0


class Groups:
    """All groups."""

    def __init__(self) -> None:
        self._by_key: dict[tuple[str | None, str], Group] = {}

    def __len__(self) -> int:
        return len(self._by_key)

    def enter(self, connection: Connection, name: str, term: int) -> None:
        """A session of a known identity says that it is of a group."""
        key = (connection.identity.user, name)
        group = self._by_key.get(key)
        if group is None:
            group = self._by_key[key] = Group(key)
        group.num_sessions += 1
        group.term = max(group.term, term)
        connection.group, connection.term = group, term

    def leave(self, connection: Connection) -> None:
        """The session is over."""
        group, connection.group = connection.group, None
        if group is None:
            return
        group.num_sessions -= 1
        if not group.num_sessions:
            del self._by_key[group.key]


def is_stale(connection: Connection) -> bool:
    """Whether a session with a newer term of its group has said hello."""
    group = connection.group
    return group is not None and connection.term < group.term
