"""What was acknowledged and still lies in the SQLite file. Owned by `SqliteStore`.

An acknowledgement is a hint: it is noted at once, dropped from the disk with the next transaction of mutations or slice of
trimming, and lost with the process. Invariant: what a transaction dropped stays noted until that has committed. Dirty keys are
dropped some at a time, since the application may acknowledge very many at once, and a transaction holds the loop.
"""

from __future__ import annotations

import itertools
import sqlite3

from syncd.ids import ChannelName
from syncd.ports_state import KeyName

__all__ = ["Acknowledged"]

_DROP_OUTCOMES = (
    "DELETE FROM outcome WHERE client_id = (SELECT id FROM client WHERE name = ?) AND mid <= ?"
)
_DROP_DIRTY = "DELETE FROM dirty WHERE channel = ? AND key = ? AND version = ?"


class Acknowledged:
    """Outcomes that clients have, and changes that the application has."""

    def __init__(self) -> None:
        self.forwarded: set[tuple[ChannelName, KeyName, int]] = set()
        """Dirty at this version on the disk at most; another version of the key is none of theirs."""
        self._outcomes: dict[str, int] = {}
        self._dropped: list[tuple[ChannelName, KeyName, int]] = []

    def note_outcomes(self, client: str, upto: int) -> None:
        """Drop a client's outcomes up to `upto`."""
        self._outcomes[client] = max(upto, self._outcomes.get(client, 0))

    def drop(self, connection: sqlite3.Connection, max_dirty: int) -> None:
        """Delete what is noted, up to `max_dirty` keys, in the open transaction and before its own mutations."""
        if self._outcomes:
            connection.executemany(_DROP_OUTCOMES, list(self._outcomes.items()))
        self._dropped = list(itertools.islice(self.forwarded, max_dirty))
        if self._dropped:
            connection.executemany(_DROP_DIRTY, self._dropped)

    def settle(self) -> bool:
        """Forget what a transaction has dropped for good; return whether anything is left."""
        self._outcomes.clear()
        self.forwarded.difference_update(self._dropped)
        self._dropped = []
        return bool(self.forwarded)
