"""Deleting what has an age from the SQLite file: idempotency results, outcomes, clients. Owned by `Trimmer`.

Each is deleted from the oldest on, by its index, in steps; where a walk over all of them stands is all that is kept between
slices.
"""

from __future__ import annotations

import sqlite3

import attrs

from syncd.store.base import Slice, StoreOptions, client_cutoff_ms, cutoff_ms

__all__ = ["Forgetter", "Forgotten"]

_ROWS_A_STEP = 256
"""Deleted at once; some 0.5 ms, so that a slice keeps to its time."""

_IDEMPOTENCY = """DELETE FROM idempotency WHERE (identity, operation, key) IN (
    SELECT identity, operation, key FROM idempotency WHERE at_ms < ? ORDER BY at_ms LIMIT ?)"""
_KEYED = """DELETE FROM keyed_outcome WHERE (identity, operation, key) IN (
    SELECT identity, operation, key FROM keyed_outcome WHERE at_ms < ? ORDER BY at_ms LIMIT ?)"""
_OUTCOMES = """DELETE FROM outcome WHERE (client_id, mid) IN (
    SELECT client_id, mid FROM outcome WHERE at_ms < ? ORDER BY at_ms LIMIT ?)"""
_OLD_CLIENTS = "SELECT id FROM client WHERE at_ms < ? ORDER BY at_ms LIMIT ?"


@attrs.define
class Forgotten:
    """How many rows one slice deleted."""

    idempotency: int = 0
    """Positions of publications and outcomes of mutations alike."""
    outcomes: int = 0
    clients: int = 0


class Forgetter:
    """Where forgetting stands. Restarted by each walk over the channels, done before that goes on."""

    def __init__(self, connection: sqlite3.Connection, options: StoreOptions) -> None:
        self._connection = connection
        self._options = options
        self._left: list[str] = []

    @property
    def is_done(self) -> bool:
        """Whether nothing old was left, as of the walk under way."""
        return not self._left

    def restart(self) -> None:
        """Begin a walk."""
        self._left = ["clients", "outcomes", "keyed", "idempotency"]

    def run(self, now_ms: int, time_slice: Slice) -> Forgotten:
        """Delete for one slice, inside the open transaction."""
        forgotten = Forgotten()
        while self._left and not time_slice.is_over():
            deleted = self._step(now_ms, self._left[-1], forgotten)
            if deleted < _ROWS_A_STEP:
                self._left.pop()
        return forgotten

    def _step(self, now_ms: int, kind: str, forgotten: Forgotten) -> int:
        options = self._options
        if kind in ("idempotency", "keyed"):
            sql = _IDEMPOTENCY if kind == "idempotency" else _KEYED
            deleted = self._delete(sql, cutoff_ms(now_ms, options.idempotency_s))
            forgotten.idempotency += deleted
        elif kind == "outcomes":
            deleted = self._delete(_OUTCOMES, cutoff_ms(now_ms, options.outcomes_s))
            forgotten.outcomes += deleted
        else:
            deleted = self._delete_clients(client_cutoff_ms(now_ms, options.clients_s))
            forgotten.clients += deleted
        return deleted

    def _delete(self, sql: str, cutoff: int) -> int:
        return self._connection.execute(sql, (cutoff, _ROWS_A_STEP)).rowcount

    def _delete_clients(self, cutoff: int) -> int:
        """Delete clients with whatever outcomes they have: SQLite may give their ids to others."""
        old = self._connection.execute(_OLD_CLIENTS, (cutoff, _ROWS_A_STEP)).fetchall()
        self._connection.executemany("DELETE FROM outcome WHERE client_id = ?", old)
        self._connection.executemany("DELETE FROM client WHERE id = ?", old)
        return len(old)
