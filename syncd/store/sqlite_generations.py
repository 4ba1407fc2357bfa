"""Generations of entries in the SQLite file, beside those that are served. Used by `SqliteRebuilds`, inside its transactions.

The entries of a channel lie in `entry` under the id of their generation. A rebuild writes each scanned row once, under the id of a new one, where it will be
served: a row that is as the served entry is has that one's version, any other has none (0). What changes of the served entries meanwhile is in
`touched`; the first keys whose rows have no version are in `changed`. A generation that is not to be served is dead: nobody looks at it, and
`DeadGenerations` deletes it in steps.
"""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections.abc import Iterable, Sequence

import attrs

from syncd.ids import ChannelName
from syncd.ports_state import KeyName
from syncd.store.base import Slice
from syncd.store.preparing import MAX_LISTED
from syncd.store.rebuilds import ScannedRow
from syncd.store.sqlite_rows import ChannelRow, ChannelRows

__all__ = [
    "DeadGenerations",
    "Generation",
    "Generations",
    "OpenGenerations",
    "keys_text",
]

# `generation.state` is 0 for an open one, 1 for a dead one, 2 for one that is served: of that only what was noted while it was made is left to be
# deleted, then it needs no row there any more.

_LOAD = "SELECT channel, id, num_entries, num_changed FROM generation WHERE state = 0 AND collection = ?"
_COUNT_LISTED = """SELECT count(*) FROM changed JOIN generation ON id = generation
    WHERE state = 0 AND collection = ?"""
_CREATE = "INSERT INTO generation (state, collection, channel) VALUES (0, ?, ?)"
_SAVE = "UPDATE generation SET num_entries = ?, num_changed = ? WHERE id = ?"
_END = "UPDATE generation SET state = 1 WHERE state = 0 AND collection = ?"
_SERVE = "UPDATE generation SET state = 2 WHERE id = ?"
_LEAVE = "INSERT OR REPLACE INTO generation (id, state, collection, channel) VALUES (?, 1, ?, ?)"
_CREATE_DIRTY = """INSERT INTO generation (state, collection, channel)
    SELECT DISTINCT 0, ?1, channel FROM dirty
    WHERE channel = ?1 OR channel BETWEEN ?1 || '/' AND ?1 || '/' || char(1114111)"""
_TOUCH_DIRTY = """INSERT INTO touched SELECT g.id, d.key FROM generation g CROSS JOIN dirty d ON d.channel = g.channel
    WHERE g.state = 0 AND g.collection = ?"""
_TOUCH = "INSERT OR IGNORE INTO touched (generation, key) VALUES (?, ?)"

_LENGTH_BITS = 31
_PLAIN = """SELECT key, NULL AS tags, substr(?2, value >> 31, value & 2147483647) AS value FROM json_each(?3)"""
_TAGGED = """SELECT json_extract(value, '$[0]') AS key, json_extract(value, '$[1]') AS tags,
    substr(?2, json_extract(value, '$[2]'), json_extract(value, '$[3]')) AS value FROM json_each(?3)"""
_ADD = """INSERT INTO entry (generation, key, version, tags, value) SELECT ?1, key, 0, tags, value FROM ({})"""
_COMPARE = """INSERT INTO entry (generation, key, version, tags, value)
    SELECT ?1, s.key, CASE WHEN o.key IS NOT NULL AND (?6 OR (o.value = s.value AND o.tags IS s.tags))
            THEN coalesce(nullif(o.version, 0), ?5) ELSE 0 END,
        CASE WHEN ?6 AND o.key IS NOT NULL THEN o.tags ELSE s.tags END,
        CASE WHEN ?6 AND o.key IS NOT NULL THEN o.value ELSE s.value END
    FROM ({}) AS s LEFT JOIN entry AS o ON o.generation = ?4 AND o.key = s.key"""
_AMONG = "generation = ?1 AND key IN (SELECT value FROM json_each(?2))"
_LAST_KEY = "SELECT max(key) FROM entry WHERE generation = ?"
_COUNT = f"SELECT count(*), coalesce(sum(version = 0), 0) FROM entry WHERE {_AMONG}"  # noqa: S608 - a constant
_LIST = f"INSERT OR IGNORE INTO changed SELECT generation, key FROM entry WHERE {_AMONG} AND version = 0"  # noqa: S608 - a constant
_TAKE_OUT = f"DELETE FROM entry WHERE {_AMONG}"  # noqa: S608 - a constant
_TAGS = """SELECT each.value, ?3, entry.key, entry.generation FROM entry, json_each(entry.tags) AS each
    WHERE entry.generation = ?1 AND entry.key IN (SELECT value FROM json_each(?2)) AND entry.tags IS NOT NULL"""
_TAKE_OUT_TAGS = f"DELETE FROM tag WHERE (tag, channel, key, generation) IN ({_TAGS})"  # noqa: S608 - a constant
_ADD_TAGS = f"INSERT OR IGNORE INTO tag (tag, channel, key, generation) {_TAGS}"
_COPY = """INSERT INTO entry (generation, key, version, tags, value)
    SELECT ?1, key, coalesce(nullif(version, 0), ?4), tags, value FROM entry
    WHERE generation = ?3 AND key IN (SELECT value FROM json_each(?2))"""


def keys_text(keys: Iterable[KeyName]) -> str:
    """Return keys as statements here take them."""
    return json.dumps(list(keys), ensure_ascii=False, separators=(",", ":"))


@attrs.define(eq=False)
class Generation:
    """New entries of one channel."""

    id: int
    channel: ChannelName
    num_entries: int = 0
    num_changed: int = 0
    """Rows without a version."""
    last_key: KeyName | None = None
    """Of its rows, in their order; None: it has to be looked up."""


@attrs.define(eq=False)
class OpenGenerations:
    """Those of one collection that is being rebuilt."""

    collection: str
    num_listed: int
    """Keys in `changed`."""
    of_channel: dict[ChannelName, Generation]

    @property
    def num_changed(self) -> int:
        """Rows without a version, touched ones too."""
        return sum(each.num_changed for each in self.of_channel.values())


class Generations:
    """Writes generations. What it remembers is as of the open transaction: whoever undoes that calls `forget`."""

    def __init__(self, connection: sqlite3.Connection, rows: ChannelRows) -> None:
        self._connection = connection
        self._rows = rows
        self._open: dict[str, OpenGenerations] = {}

    def forget(self) -> None:
        """Remember nothing; what is needed is read again."""
        self._open.clear()

    def of(self, collection: str) -> OpenGenerations:
        """Return the open generations of a collection."""
        found = self._open.get(collection)
        if found is None:
            execute = self._connection.execute
            (num_listed,) = execute(_COUNT_LISTED, (collection,)).fetchone()
            of_channel = {
                channel: Generation(id_, channel, num_entries, num_changed)
                for channel, id_, num_entries, num_changed in execute(_LOAD, (collection,))
            }
            found = OpenGenerations(collection, num_listed, of_channel)
            self._open[collection] = found
        return found

    def of_channel(self, collection: str, channel: ChannelName) -> Generation:
        """Return the open generation of a channel, a new one if need be."""
        opened = self.of(collection).of_channel
        found = opened.get(channel)
        if found is None:
            id_ = self._connection.execute(_CREATE, (collection, channel)).lastrowid
            assert id_ is not None
            found = opened[channel] = Generation(id_, channel, last_key=KeyName(""))
        return found

    def save(self, generations: Iterable[Generation]) -> None:
        """Write down what is counted of them."""
        counts = [(each.num_entries, each.num_changed, each.id) for each in generations]
        self._connection.executemany(_SAVE, counts)

    # -------------------------------------------------------------------------------------------- beginning and ending

    def open_new(self, collection: str) -> None:
        """Let the open generations of a collection be dead, and open new ones, in which what is dirty counts as touched."""
        self.end(collection)
        self._connection.execute(_CREATE_DIRTY, (collection,))
        self._connection.execute(_TOUCH_DIRTY, (collection,))

    def end(self, collection: str) -> None:
        """Let what is open of a collection be dead."""
        self._connection.execute(_END, (collection,))
        self._open.pop(collection, None)

    def serve(self, generation: Generation, row: ChannelRow, offset: int, collection: str) -> None:
        """Let a generation be the entries of its channel; rows without a version are of this offset."""
        self._connection.execute(_SERVE, (generation.id,))
        self._connection.execute(_LEAVE, (row.generation, collection, row.name))
        self._rows.swap(row, generation.id, offset)
        row.num_entries = generation.num_entries

    def touch(self, collection: str, places: Iterable[tuple[ChannelName, KeyName]]) -> None:
        """Note that served entries have changed."""
        ids = [(self.of_channel(collection, channel).id, key) for channel, key in places]
        self._connection.executemany(_TOUCH, ids)

    # -------------------------------------------------------------------------------------------- rows

    def write(self, collection: str, rows: Sequence[ScannedRow], *, fills: bool) -> None:
        """Write scanned rows; of two rows of a key the later one counts."""
        by_channel: dict[ChannelName, list[ScannedRow]] = {}
        for channel, some in itertools.groupby(rows, _channel_of):
            by_channel.setdefault(channel, []).extend(some)
        opened = self.of(collection)
        written = []
        for channel, of_channel in by_channel.items():
            generation = self.of_channel(collection, channel)
            self._write(opened, generation, {row.key: row for row in of_channel}, fills=fills)
            written.append(generation)
        self.save(written)

    def _write(
        self,
        opened: OpenGenerations,
        generation: Generation,
        rows: dict[KeyName, ScannedRow],
        *,
        fills: bool,
    ) -> None:
        keys, text = list(rows), keys_text(rows)
        self._make_room(generation, keys, text)
        served = self._rows.find(generation.channel)
        is_first = served is None or served.num_entries == 0
        source, values, spans = _page(rows)
        here = (generation.id, values, spans)
        execute = self._connection.execute
        if is_first:
            execute(_ADD.format(source), here)
            num_changed = len(keys)
        else:
            assert served is not None
            old = (served.generation, served.generation_at, fills)
            execute(_COMPARE.format(source), (*here, *old))
            _, num_changed = execute(_COUNT, (generation.id, text)).fetchone()
        if source is not _PLAIN or fills:
            execute(_ADD_TAGS, (generation.id, text, generation.channel))
        if num_changed and opened.num_listed <= MAX_LISTED:
            opened.num_listed += execute(_LIST, (generation.id, text)).rowcount
        generation.num_entries += len(keys)
        generation.num_changed += num_changed

    def _make_room(self, generation: Generation, keys: Sequence[KeyName], text: str) -> None:
        """Take out the rows of keys that were written before; a source that yields its keys in order has none."""
        if generation.last_key is None:
            (last,) = self._connection.execute(_LAST_KEY, (generation.id,)).fetchone()
            generation.last_key = last or KeyName("")
        last = max(keys)
        if min(keys) <= generation.last_key:
            self._take_out(generation, text)
        generation.last_key = max(generation.last_key, last)

    def _take_out(self, generation: Generation, text: str) -> None:
        execute, here = self._connection.execute, (generation.id, text)
        num_entries, num_changed = execute(_COUNT, here).fetchone()
        if num_entries:
            execute(_TAKE_OUT_TAGS, (*here, generation.channel))
            execute(_TAKE_OUT, here)
            generation.num_entries -= num_entries
            generation.num_changed -= num_changed

    def copy_served(self, generation: Generation, keys: Sequence[KeyName]) -> None:
        """Let keys be in a generation what they are in the served one: without an entry there, without one here."""
        text = keys_text(keys)
        self._take_out(generation, text)
        row = self._rows.find(generation.channel)
        if row is None:
            return
        here, served = (generation.id, text), (row.generation, row.generation_at)
        copied = self._connection.execute(_COPY, (*here, *served)).rowcount
        if copied:
            self._connection.execute(_ADD_TAGS, (*here, generation.channel))
            generation.num_entries += copied
            generation.last_key = None
        self.save([generation])


def _channel_of(row: ScannedRow) -> ChannelName:
    return row.channel


def _page(rows: dict[KeyName, ScannedRow]) -> tuple[str, bytes, str]:
    """Return rows as one statement takes them: which one, their values in a row, and where each of them lies there.

    One statement for all of them, since each one that the worker runs asks for Python's lock, which the loop is holding.
    """
    at, spans, values = 1, {}, []
    for key, row in rows.items():
        value = row.value
        if row.tags:
            break
        spans[key] = at << _LENGTH_BITS | len(value)
        at += len(value)
        values.append(value)
    else:
        text = json.dumps(spans, ensure_ascii=False, separators=(",", ":"))
        # Not all versions of SQLite read an escaped key of a map as they read an escaped text.
        if "\\" not in text:
            return _PLAIN, b"".join(values), text
    return _tagged_page(rows)


def _tagged_page(rows: dict[KeyName, ScannedRow]) -> tuple[str, bytes, str]:
    at, spans = 1, []
    for key, row in rows.items():
        tags = json.dumps(row.tags) if row.tags else None
        spans.append((key, tags, at, len(row.value)))
        at += len(row.value)
    text = json.dumps(spans, ensure_ascii=False, separators=(",", ":"))
    return _TAGGED, b"".join([row.value for row in rows.values()]), text


# ------------------------------------------------------------------------------------------------ the dead

_ROWS_A_STEP = 400
"""Deleted at once; some 0.7 ms, so that a slice keeps to its time."""
_NEXT = "SELECT id, state, channel FROM generation WHERE state IN (1, 2) LIMIT 1"
_UPTO = "SELECT max(key) FROM (SELECT key FROM {} WHERE generation = ? ORDER BY key LIMIT ?)"
_DROP_TAGS = """DELETE FROM tag WHERE (tag, channel, key, generation) IN (
    SELECT each.value, ?3, entry.key, entry.generation FROM entry, json_each(entry.tags) AS each
    WHERE entry.generation = ?1 AND entry.key <= ?2 AND entry.tags IS NOT NULL)"""
_DROP = "DELETE FROM {} WHERE generation = ? AND key <= ?"


class DeadGenerations:
    """Deletes what nobody is served."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def sweep(self, time_slice: Slice) -> bool:
        """Delete for one slice, a step at least, inside the open transaction; returns whether any is left."""
        execute = self._connection.execute
        while (found := execute(_NEXT).fetchone()) is not None:
            id_, state, channel = found
            tables = ("touched", "changed") if state == 2 else ("touched", "changed", "entry")
            if not any(self._delete(table, id_, channel) for table in tables):
                execute("DELETE FROM generation WHERE id = ?", (id_,))
            if time_slice.is_over():
                return True
        return False

    def _delete(self, table: str, generation: int, channel: str) -> bool:
        """Delete a step's worth; returns whether there was any."""
        execute = self._connection.execute
        (upto,) = execute(_UPTO.format(table), (generation, _ROWS_A_STEP)).fetchone()
        if upto is None:
            return False
        if table == "entry":
            execute(_DROP_TAGS, (generation, upto, channel))
        execute(_DROP.format(table), (generation, upto))
        return True
