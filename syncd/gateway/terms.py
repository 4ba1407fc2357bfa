"""Groups of sessions that share a client store, and the newest term of each: a session with a lower one may not mutate any more.

Owner of: the groups that have sessions on this node. A group is one user's (or anonymous); without sessions it is forgotten, so the table
is bounded by the connections. Other nodes of a cluster raise terms here, and are told ours.
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

    def raise_term(self, user: str | None, name: str, term: int) -> int:
        """A session of the group with this term is elsewhere; return the term that was known here, 0 for no such group."""
        group = self._by_key.get((user, name))
        if group is None:
            return 0
        known = group.term
        group.term = max(known, term)
        return known

    def terms(self) -> list[tuple[str | None, str, int]]:
        """Return user, name and term of each."""
        return [(*group.key, group.term) for group in self._by_key.values()]

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
