"""Outcomes under idempotency keys, for mutations in nobody's numbering. Made by `Mutations`, gone with its transaction."""

from __future__ import annotations

import sqlite3

from syncd.ports_log import IdempotencyKey
from syncd.ports_state import MutationCommit

__all__ = ["KeyedOutcomes"]

_SELECT = "SELECT hash, positions, outcome FROM keyed_outcome WHERE identity = ? AND operation = ? AND key = ?"
_INSERT = """INSERT INTO keyed_outcome (identity, operation, key, hash, at_ms, positions, outcome)
    VALUES (?, ?, ?, ?, ?, ?, ?)"""

_Name = tuple[str, str, str]
_Known = tuple[bytes, str, bytes]


class KeyedOutcomes:
    """What is known under keys, the open transaction's included."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._known_here: dict[_Name, _Known] = {}
        self._new: list[tuple[str, str, str, bytes, int, str, bytes]] = []

    def find(self, key: IdempotencyKey) -> _Known | None:
        """Return the hash of what was asked under a key, the positions as text and the outcome."""
        name = (key.identity, key.operation, key.key)
        known = self._known_here.get(name)
        if known is None:
            known = self._connection.execute(_SELECT, name).fetchone()
        return known

    def remember(self, mutation: MutationCommit, positions: str) -> None:
        """Keep the outcome of a mutation that stands under its key, if it has one."""
        key = mutation.idempotency
        if key is not None:
            name = (key.identity, key.operation, key.key)
            self._known_here[name] = (key.request_hash, positions, mutation.outcome)
            self._new.append((*name, key.request_hash, mutation.at_ms, positions, mutation.outcome))

    def flush(self) -> None:
        """Run the statements that were put off."""
        if self._new:
            self._connection.executemany(_INSERT, self._new)
            self._new = []
