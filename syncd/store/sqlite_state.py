"""The write statements of mutations in one transaction. Made by `SqliteStore.begin_commit`, gone when the transaction ends.

A mutation is checked before anything of it is written, so that one that does not stand leaves no trace. What was written so
far is seen through `_slots`, `_clients` and `_known_here`; rows reach their tables in `_flush`, once per entry and client
however often they changed. Events go through the transaction's `Batch`.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence

import attrs

from syncd.errors import SyncdError
from syncd.ids import ChannelName, Position
from syncd.ports import Appended
from syncd.ports_state import (
    Committed,
    Conflict,
    EntryRead,
    EntryWrite,
    KeyName,
    KnownOutcome,
    MutationCommit,
    MutationResult,
    OutOfOrder,
    TaggedKey,
)
from syncd.store.base import CLIENT_USE_MS, mismatch
from syncd.store.sqlite_batch import Batch
from syncd.store.sqlite_keyed import KeyedOutcomes
from syncd.store.sqlite_rows import ChannelRow, ChannelRows

__all__ = ["Mutations", "tags_from_text"]

_SELECT_ENTRY = "SELECT version, tags FROM entry WHERE channel_id = ? AND key = ?"
_PUT_ENTRY = (
    "INSERT OR REPLACE INTO entry (channel_id, key, version, tags, value) VALUES (?, ?, ?, ?, ?)"
)
_DELETE_ENTRY = "DELETE FROM entry WHERE channel_id = ? AND key = ?"
_PUT_TAG = "INSERT OR REPLACE INTO tag (tag, channel, key) VALUES (?, ?, ?)"
_DELETE_TAG = "DELETE FROM tag WHERE tag = ? AND channel = ? AND key = ?"
_SELECT_CLIENT = "SELECT id, last, at_ms FROM client WHERE name = ?"
_INSERT_CLIENT = "INSERT INTO client (name, last, at_ms) VALUES (?, 0, ?)"
_UPDATE_LAST = "UPDATE client SET last = ? WHERE id = ?"
_UPDATE_USE = "UPDATE client SET at_ms = ? WHERE id = ?"
_SELECT_OUTCOME = "SELECT positions, outcome FROM outcome WHERE client_id = ? AND mid = ?"
_INSERT_OUTCOME = (
    "INSERT INTO outcome (client_id, mid, at_ms, positions, outcome) VALUES (?, ?, ?, ?, ?)"
)
_DROP_OUTCOMES = "DELETE FROM outcome WHERE client_id = ? AND mid <= ?"
_PUT_DIRTY = "INSERT OR REPLACE INTO dirty (channel, key, version) VALUES (?, ?, ?)"

_NEW_CLIENT = 0
"""Id of a client without a row; SQLite begins with 1."""


@attrs.define(eq=False)
class _Slot:
    """One entry as this transaction has it."""

    row: ChannelRow
    key: KeyName
    version: int
    """0: there is none."""
    tags: str | None
    tags_on_disk: str | None
    value: bytes | None = None
    """Known only of what was written here."""
    writer: int = -1
    """Number of the mutation that wrote it last in this transaction."""


@attrs.define(eq=False)
class _Client:
    """One client as this transaction has it."""

    id: int
    last: int
    at_ms: int


class Mutations:
    """What one transaction of mutations changes besides the logs."""

    def __init__(
        self, connection: sqlite3.Connection, rows: ChannelRows, batch: Batch, max_outcomes: int
    ) -> None:
        self.num_decided = self.num_resent = self.num_conflicts = self.num_mismatches = 0
        self._connection = connection
        self._rows = rows
        self._batch = batch
        self._max_outcomes = max_outcomes
        self._slots: dict[tuple[int, KeyName], _Slot] = {}
        self._changed: set[_Slot] = set()
        self._clients: dict[str, _Client] = {}
        self._advanced: set[_Client] = set()
        self._used: set[_Client] = set()
        self._crowded: set[_Client] = set()
        self._outcomes: list[tuple[int, int, int, str, bytes]] = []
        self._known_here: dict[tuple[int, int], tuple[str, bytes]] = {}
        self._keyed = KeyedOutcomes(connection)
        self._dirty: dict[TaggedKey, int] = {}
        self._number = 0
        """Of the mutation at hand, in the transaction."""
        self._first = 0
        """Number of the first mutation of the group at hand."""

    def write(self, group: Sequence[MutationCommit]) -> list[MutationResult]:
        """Run all statements but BEGIN and COMMIT."""
        self._first = self._number
        results = []
        for mutation in group:
            results.append(self._decide(mutation))
            self._number += 1
        self._batch.flush()
        self._flush()
        return results

    def _decide(self, mutation: MutationCommit) -> MutationResult:
        name, client = mutation.client, None
        if name is None:
            known = self._known_by_key(mutation)
            if known is not None:
                return known
        else:
            client = self._clients.get(name)
            if client is None:
                client = self._clients[name] = self._find_client(name)
            if mutation.mid <= client.last:
                self.num_resent += 1
                return self._known(client, mutation.mid)
            if mutation.mid != client.last + 1:
                return OutOfOrder(client.last + 1)
        for read in mutation.reads:
            if not self._is_so(read):
                self.num_conflicts += 1
                return Conflict(read)
        return self._take_effect(mutation, client)

    def _is_so(self, read: EntryRead) -> bool:
        """Tell whether what was seen is still there."""
        row = self._rows.find(read.channel)
        if read.written_by is None:
            version = 0 if row is None else self._slot(row, read.key).version
            return version == read.version
        if row is None or read.written_by < 0:
            return False
        slot = self._slots.get((row.id, read.key))
        return slot is not None and slot.writer == self._first + read.written_by

    # -------------------------------------------------------------------------------------------- effects

    def _take_effect(self, mutation: MutationCommit, client: _Client | None) -> Committed:
        at_ms = mutation.at_ms
        tops: dict[ChannelRow, int] = {}
        versions = []
        for write in mutation.writes:
            row, offset = self._batch.append_event(write.channel, at_ms, write.key, write.record)
            self._change(row, write, offset)
            tops[row] = offset
            versions.append(offset)
        appended = []
        for event in mutation.events:
            row, offset = self._batch.append_event(
                event.channel, event.at_ms, event.key, event.record
            )
            tops[row] = offset
            appended.append(Appended(row.epoch, offset))
        self._conclude(mutation, client, tops)
        positions = {row.name: Position(row.epoch, offset) for row, offset in tops.items()}
        return Committed(versions, positions, appended)

    def _change(self, row: ChannelRow, write: EntryWrite, offset: int) -> None:
        slot = self._slot(row, write.key)
        slot.value = write.value
        is_there = write.value is not None
        row.num_entries += is_there - (slot.version != 0)
        slot.version = offset if is_there else 0
        slot.tags = json.dumps(write.tags) if is_there and write.tags else None
        slot.writer = self._number
        self._changed.add(slot)
        if write.is_forwarded:
            self._dirty[write.channel, write.key] = offset

    def _conclude(
        self, mutation: MutationCommit, client: _Client | None, tops: Mapping[ChannelRow, int]
    ) -> None:
        """Store the outcome, under its number or its key."""
        positions = " ".join([f"{row.id} {offset}" for row, offset in tops.items()])
        self.num_decided += 1
        if client is None:
            self._keyed.remember(mutation, positions)
        else:
            self._advance(mutation, client, positions)

    def _advance(self, mutation: MutationCommit, client: _Client, positions: str) -> None:
        """Store the outcome and bump `last`."""
        if client.id == _NEW_CLIENT:
            inserted = self._connection.execute(_INSERT_CLIENT, (mutation.client, mutation.at_ms))
            assert inserted.lastrowid is not None
            client.id, client.at_ms = inserted.lastrowid, mutation.at_ms
        client.last = mutation.mid
        self._advanced.add(client)
        if mutation.at_ms - client.at_ms >= CLIENT_USE_MS:
            client.at_ms = mutation.at_ms
            self._used.add(client)
        if client.last % (self._max_outcomes // 4 + 1) == 0:
            self._crowded.add(client)
        self._known_here[client.id, mutation.mid] = (positions, mutation.outcome)
        self._outcomes.append(
            (client.id, mutation.mid, mutation.at_ms, positions, mutation.outcome)
        )

    # -------------------------------------------------------------------------------------------- looking up

    def _find_client(self, name: str) -> _Client:
        found = self._connection.execute(_SELECT_CLIENT, (name,)).fetchone()
        return _Client(_NEW_CLIENT, 0, 0) if found is None else _Client(*found)

    def _slot(self, row: ChannelRow, key: KeyName) -> _Slot:
        place = (row.id, key)
        slot = self._slots.get(place)
        if slot is None:
            found = self._connection.execute(_SELECT_ENTRY, place).fetchone()
            version, tags = (0, None) if found is None else found
            slot = self._slots[place] = _Slot(row, key, version, tags, tags)
        return slot

    def _known(self, client: _Client, mid: int) -> KnownOutcome:
        place = (client.id, mid)
        found: tuple[str, bytes] | None = None
        if mid > client.last - self._max_outcomes:
            found = self._known_here.get(place)
            if found is None:
                found = self._connection.execute(_SELECT_OUTCOME, place).fetchone()
        if found is None:
            return KnownOutcome(None, {})
        return KnownOutcome(found[1], self._positions_from_text(found[0]))

    def _known_by_key(self, mutation: MutationCommit) -> KnownOutcome | SyncdError | None:
        key = mutation.idempotency
        known = None if key is None else self._keyed.find(key)
        if key is None or known is None:
            return None
        request_hash, positions, outcome = known
        if request_hash != key.request_hash:
            self.num_mismatches += 1
            return mismatch()
        self.num_resent += 1
        return KnownOutcome(outcome, self._positions_from_text(positions))

    def _positions_from_text(self, text: str) -> dict[ChannelName, Position]:
        numbers = [int(part) for part in text.split()]
        positions = {}
        for row_id, offset in zip(numbers[::2], numbers[1::2], strict=True):
            (row,) = self._rows.between(row_id, row_id)
            positions[row.name] = Position(row.epoch, offset)
        return positions

    # -------------------------------------------------------------------------------------------- the tables

    def _flush(self) -> None:
        execute_many = self._connection.executemany
        self._flush_entries()
        self._keyed.flush()
        if self._dirty:
            execute_many(_PUT_DIRTY, [(*place, version) for place, version in self._dirty.items()])
            self._dirty.clear()
        if self._advanced:
            execute_many(_UPDATE_LAST, [(c.last, c.id) for c in self._advanced])
            execute_many(_INSERT_OUTCOME, self._outcomes)
        if self._used:
            execute_many(_UPDATE_USE, [(c.at_ms, c.id) for c in self._used])
        if self._crowded:
            old = [(c.id, c.last - self._max_outcomes) for c in self._crowded]
            execute_many(_DROP_OUTCOMES, old)
        self._outcomes = []
        for done in (self._advanced, self._used, self._crowded):
            done.clear()

    def _flush_entries(self) -> None:
        execute_many = self._connection.executemany
        there = [s for s in self._changed if s.value is not None]
        gone = [s for s in self._changed if s.value is None]
        if there:
            execute_many(_PUT_ENTRY, [(s.row.id, s.key, s.version, s.tags, s.value) for s in there])
        if gone:
            execute_many(_DELETE_ENTRY, [(s.row.id, s.key) for s in gone])
        retagged = [slot for slot in self._changed if slot.tags != slot.tags_on_disk]
        if retagged:
            self._flush_tags(retagged)
        self._changed.clear()

    def _flush_tags(self, slots: Iterable[_Slot]) -> None:
        old, new = [], []
        for slot in slots:
            place = (slot.row.name, slot.key)
            before, now = set(tags_from_text(slot.tags_on_disk)), set(tags_from_text(slot.tags))
            old += [(tag, *place) for tag in before - now]
            new += [(tag, *place) for tag in now - before]
            slot.tags_on_disk = slot.tags
        self._connection.executemany(_DELETE_TAG, old)
        self._connection.executemany(_PUT_TAG, new)


def tags_from_text(text: str | None) -> tuple[str, ...]:
    """Return tags from how they stand in `entry`."""
    if text is None:
        return ()
    if "\\" in text:
        return tuple(json.loads(text))
    # Without an escape the quotes are those around the tags; a scan reads a thousand of these.
    return tuple(text[2:-2].split('", "'))
