"""The write statements of mutations in one transaction. Made by `SqliteStore.begin_commit`, gone when the transaction ends.

A mutation is checked before anything of it is written, so that one that does not stand leaves no trace. What was written so
far is seen through `KnownRows` and `_outcomes_here`; rows reach their tables in `_flush`, once per entry and client
however often they changed. Events go through the transaction's `Batch`.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet

from syncd.errors import SyncdError
from syncd.ids import ChannelName, Position
from syncd.ports_log import Appended
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
from syncd.store.sqlite_known import NEW_CLIENT, KnownClient, KnownEntry, KnownRows
from syncd.store.sqlite_rows import ChannelRow

__all__ = ["Mutations", "tags_from_text"]

_PUT_ENTRY = (
    "INSERT OR REPLACE INTO entry (generation, key, version, tags, value) VALUES (?, ?, ?, ?, ?)"
)
_DELETE_ENTRY = "DELETE FROM entry WHERE generation = ? AND key = ?"
_PUT_TAG = "INSERT OR REPLACE INTO tag (tag, channel, key, generation) VALUES (?, ?, ?, ?)"
_DELETE_TAG = "DELETE FROM tag WHERE tag = ? AND channel = ? AND key = ? AND generation = ?"
_INSERT_CLIENT = "INSERT INTO client (name, last, at_ms) VALUES (?, 0, ?)"
_UPDATE_LAST = "UPDATE client SET last = ? WHERE id = ?"
_UPDATE_USE = "UPDATE client SET at_ms = ? WHERE id = ?"
_SELECT_OUTCOME = "SELECT positions, outcome FROM outcome WHERE client_id = ? AND mid = ?"
_INSERT_OUTCOME = (
    "INSERT INTO outcome (client_id, mid, at_ms, positions, outcome) VALUES (?, ?, ?, ?, ?)"
)
_DROP_OUTCOMES = "DELETE FROM outcome WHERE client_id = ? AND mid <= ?"
_SELECT_DIRTY = "SELECT version FROM dirty WHERE channel = ? AND key = ?"
_PUT_DIRTY = "INSERT OR REPLACE INTO dirty (channel, key, version) VALUES (?, ?, ?)"


class Mutations:
    """What one transaction of mutations changes besides the logs."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        batch: Batch,
        known: KnownRows,
        max_outcomes: int,
        forwarded: AbstractSet[tuple[ChannelName, KeyName, int]],
    ) -> None:
        """Begin with nothing changed; `forwarded` are acknowledged already, though dirty on the disk."""
        self.num_decided = self.num_resent = self.num_conflicts = self.num_mismatches = 0
        self._connection = connection
        self._rows = batch.rows
        self._known = known
        self._batch = batch
        self._max_outcomes = max_outcomes
        self._forwarded = forwarded
        self._changed: dict[KnownEntry, bytes | None] = {}
        """What entries become, since the last `_flush`."""
        self._advanced: set[KnownClient] = set()
        self._used: set[KnownClient] = set()
        self._crowded: set[KnownClient] = set()
        self._outcomes: list[tuple[int, int, int, str, bytes]] = []
        self._outcomes_here: dict[tuple[int, int], tuple[str, bytes]] = {}
        self._keyed = KeyedOutcomes(connection)
        self._dirty: dict[TaggedKey, int] = {}
        self._first = 0
        """Number of the first mutation of the group at hand."""

    def write(self, group: Sequence[MutationCommit]) -> list[MutationResult]:
        """Run all statements but BEGIN and COMMIT."""
        known = self._known
        self._first = known.number
        results = []
        for mutation in group:
            results.append(self._decide(mutation))
            known.number += 1
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
            client = self._known.clients.get(name) or self._known.client(name)
            if mutation.mid <= client.last:
                self.num_resent += 1
                return self._known_outcome(client, mutation.mid)
            if mutation.mid != client.last + 1:
                return OutOfOrder(client.last + 1)
        for read in mutation.reads:
            if not self._is_so(read):
                self.num_conflicts += 1
                return Conflict(read)
            if read.unless_dirty and self._is_dirty(read):
                self.num_conflicts += 1
                return Conflict(read, is_dirty=True)
        return self._take_effect(mutation, client)

    def _is_so(self, read: EntryRead) -> bool:
        """Tell whether what was seen is still there."""
        row = self._rows.find(read.channel)
        if row is None:
            return read.written_by is None and read.version == 0
        entry = self._known.entries.get((row.generation, read.key)) or self._known.entry(
            row, read.key
        )
        if read.written_by is None:
            return entry.version == read.version
        return read.written_by >= 0 and entry.writer == self._first + read.written_by

    def _is_dirty(self, read: EntryRead) -> bool:
        """Tell whether the application has not acknowledged the entry's last forwarded change."""
        place = (read.channel, read.key)
        if place in self._dirty:
            return True
        found = self._connection.execute(_SELECT_DIRTY, place).fetchone()
        return found is not None and (*place, found[0]) not in self._forwarded

    # -------------------------------------------------------------------------------------------- effects

    def _take_effect(self, mutation: MutationCommit, client: KnownClient | None) -> Committed:
        at_ms, append = mutation.at_ms, self._batch.append_event
        tops: dict[ChannelRow, int] = {}
        versions, appended = [], []
        for write in mutation.writes:
            row, offset = append(write.channel, at_ms, write.key, write.record)
            self._change(row, write, offset)
            tops[row] = offset
            versions.append(offset)
        for event in mutation.events:
            row, offset = append(event.channel, event.at_ms, event.key, event.record)
            tops[row] = offset
            appended.append(Appended(row.epoch, offset))
        texts, positions = [], {}
        for row, offset in tops.items():
            texts.append(f"{row.id} {offset}")
            positions[row.name] = Position(row.epoch, offset)
        self.num_decided += 1
        text = " ".join(texts)
        if client is None:
            self._keyed.remember(mutation, text)
        else:
            self._advance(mutation, client, text)
        return Committed(versions, positions, appended)

    def _change(self, row: ChannelRow, write: EntryWrite, offset: int) -> None:
        key, value, known = write.key, write.value, self._known
        entry = known.entries.get((row.generation, key)) or known.entry(row, key)
        was_there = entry.version != 0
        if value is None:
            row.num_entries -= was_there
            entry.version, entry.tags = 0, None
        else:
            row.num_entries += not was_there
            entry.version, entry.tags = offset, json.dumps(write.tags) if write.tags else None
        entry.writer = known.number
        self._changed[entry] = value
        if write.is_forwarded:
            self._dirty[write.channel, key] = offset

    def _advance(self, mutation: MutationCommit, client: KnownClient, positions: str) -> None:
        """Store the outcome and bump `last`."""
        if client.id == NEW_CLIENT:
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
        self._outcomes_here[client.id, mutation.mid] = (positions, mutation.outcome)
        self._outcomes.append(
            (client.id, mutation.mid, mutation.at_ms, positions, mutation.outcome)
        )

    # -------------------------------------------------------------------------------------------- looking up

    def _known_outcome(self, client: KnownClient, mid: int) -> KnownOutcome:
        place = (client.id, mid)
        found: tuple[str, bytes] | None = None
        if mid > client.last - self._max_outcomes:
            found = self._outcomes_here.get(place)
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
        there, gone, retagged = [], [], []
        for entry, value in self._changed.items():
            if value is None:
                gone.append((entry.generation, entry.key))
            else:
                there.append((entry.generation, entry.key, entry.version, entry.tags, value))
            if entry.tags != entry.tags_on_disk:
                retagged.append(entry)
        execute_many = self._connection.executemany
        if there:
            execute_many(_PUT_ENTRY, there)
        if gone:
            execute_many(_DELETE_ENTRY, gone)
        if retagged:
            self._flush_tags(retagged)
        self._changed.clear()

    def _flush_tags(self, entries: Iterable[KnownEntry]) -> None:
        old, new = [], []
        for entry in entries:
            place = (entry.channel, entry.key, entry.generation)
            before, now = set(tags_from_text(entry.tags_on_disk)), set(tags_from_text(entry.tags))
            old += [(tag, *place) for tag in before - now]
            new += [(tag, *place) for tag in now - before]
            entry.tags_on_disk = entry.tags
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
