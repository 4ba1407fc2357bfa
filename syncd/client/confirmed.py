"""What the server confirmed of one channel of a collection: entries, their versions, and what is told of them. Pure.

Owned by `WatchTable`. Invariant: an entry's version never goes back within one epoch, whatever comes in whatever order; local
writes never touch it.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from typing import Any

import attrs

from syncd.client.errors import BadServerMessage
from syncd.client.frames import Body
from syncd.client.values import NOTHING
from syncd.wire.merge_patch import apply_patch

__all__ = ["Change", "Entries", "Entry", "change_from_body"]

MAX_WAITING_PATCHES = 1000
"""Patches kept for entries whose page of a snapshot is still to come. Policy: past it, what is missing is asked for again."""


@attrs.frozen
class Entry:
    """One entry as the server confirmed it."""

    version: int
    value: Any
    """`NOTHING`: a tombstone, kept while a snapshot is incomplete."""


@attrs.frozen
class Change:
    """What an event does to one entry."""

    key: str
    version: int
    value: Any = NOTHING
    """The new value; `NOTHING`: deleted, unless there is a patch."""
    patch: dict[str, Any] | None = None
    base: int = 0
    """Version that `patch` applies to."""
    by: Mapping[str, int] | None = None
    """The mutation of one of our clients that caused it: client to mid."""


class Entries:
    """The entries of one channel in one epoch.

    Args:
        epoch: Of all versions.
        known_upto: Returns the offset up to which this key is known to be as it is here, even where it is not: 0 for
            keys of which nothing is known.
    """

    def __init__(self, epoch: str, known_upto: Callable[[str], int]) -> None:
        self.epoch = epoch
        self.touched: set[str] = set()
        """Keys that changed since somebody looked and cleared it."""
        self._seen: dict[str, Mapping[str, int]] = {}
        """What an entry, there or not, is as of: by key, the last mutation of each of our clients that it holds what became of."""
        self._seen_all: list[tuple[Callable[[str], bool], Mapping[str, int]]] = []
        """The same of all entries of a snapshot, those that are not there included."""
        self._known_upto = known_upto
        self._entries: dict[str, Entry] = {}
        self.news: set[str] = set()
        """Keys of which it holds what became of further mutations, since somebody looked and cleared it."""
        self.has_news = False
        """That may be so of any key."""
        self._waiting: dict[str, list[Change]] = {}
        """Patches whose base is still to come, ascending."""
        self._num_waiting = 0

    def value(self, key: str) -> Any:
        """Return an entry's value, or `NOTHING`."""
        entry = self._entries.get(key)
        return NOTHING if entry is None else entry.value

    def version(self, key: str) -> int:
        """Return the version of an entry, 0 if there is none."""
        entry = self._entries.get(key)
        return 0 if entry is None or entry.value is NOTHING else entry.version

    def live(self) -> dict[str, int]:
        """Return the version of every entry there is, by key."""
        return {
            k: entry.version for k, entry in self._entries.items() if entry.value is not NOTHING
        }

    def take(self, change: Change, *, may_wait: bool) -> bool:
        """Take what an event says of an entry.

        Args:
            change: From the event.
            may_wait: A page that may bring the base is still to come.

        Returns:
            False: a patch has no base here. What is missing must be asked for again.
        """
        if change.version > self.known(change.key):
            if change.patch is None:
                self._set(change.key, Entry(change.version, change.value))
            else:
                entry = self._entries.get(change.key)
                if entry is None or entry.version != change.base or entry.value is NOTHING:
                    return may_wait and self._wait(change)
                self._set(change.key, Entry(change.version, apply_patch(entry.value, change.patch)))
        if change.by is not None:
            self.see(change.key, change.by)
        return True

    def take_told(self, key: str, version: int, value: Any) -> None:
        """Take an entry of a snapshot; `value` is `NOTHING` for one that is deleted. `release` follows."""
        if version > self.known(key):
            self._set(key, Entry(version, value))

    def take_page(self, body: Body, decided: Mapping[str, int]) -> None:
        """Take a page of a snapshot: `entries` and `unchanged` of its body, which hold what became of the mutations `decided`."""
        for told in body["entries"]:
            key, value = told["key"], NOTHING if told.get("deleted") else told.get("value")
            self.take_told(key, told["version"], value)
        for key in (*(told["key"] for told in body["entries"]), *body["unchanged"]):
            self.release(key)
            if decided:
                self.see(key, decided)

    def has(self, change: Change) -> bool:
        """Return whether a change is in, and not waiting for its base."""
        return change.version <= self.known(change.key)

    def see(self, key: str, mids: Mapping[str, int]) -> None:
        """What is there of an entry holds what became of these mutations, and of all before them."""
        seen = self._seen.get(key)
        if seen is not None and seen is not mids:
            mids = {**seen, **{c: max(mid, seen.get(c, 0)) for c, mid in mids.items()}}
        self._seen[key] = mids
        self.news.add(key)

    def see_all(self, covers: Callable[[str], bool], mids: Mapping[str, int]) -> None:
        """A snapshot is complete: what it says of these entries, there or not, is as of these mutations at least."""
        if mids:
            self._seen_all.append((covers, mids))
            self.has_news = True

    def holds(self, key: str, client: str, mid: int) -> bool:
        """Return whether what is there of an entry holds what became of a mutation."""
        seen = self._seen.get(key)
        if seen is not None and seen.get(client, 0) >= mid:
            return True
        return any(mids.get(client, 0) >= mid and covers(key) for covers, mids in self._seen_all)

    def forget_seen(self) -> None:
        """What it is as of is not asked for any more."""
        self._seen.clear()
        self._seen_all.clear()

    def release(self, key: str) -> None:
        """Apply the patches that waited for this entry, as far as they fit what is there now."""
        waiting = self._waiting.pop(key, [])
        self._num_waiting -= len(waiting)
        for change in waiting:
            self.take(change, may_wait=True)

    def known(self, key: str) -> int:
        """Return the offset up to which it is known what became of a key."""
        entry = self._entries.get(key)
        known = self._known_upto(key)
        return (
            known if entry is None else max(entry.version, known if entry.value is NOTHING else 0)
        )

    def _set(self, key: str, entry: Entry) -> None:
        self._entries[key] = entry
        self.touched.add(key)

    def _wait(self, change: Change) -> bool:
        if self._num_waiting >= MAX_WAITING_PATCHES:
            return False
        self._waiting.setdefault(change.key, []).append(change)
        self._num_waiting += 1
        return True

    def release_all(self) -> None:
        """Apply every patch that waited, as far as they fit."""
        for key in list(self._waiting):
            self.release(key)

    @property
    def is_waiting(self) -> bool:
        """Whether a patch waits for its base."""
        return bool(self._waiting)

    def drop(self, keys: set[str]) -> None:
        """Forget entries that are gone, or that nobody watches any more."""
        for key in keys:
            if self._entries.pop(key, None) is not None:
                self.touched.add(key)

    def settle(self) -> None:
        """Every snapshot is complete: forget tombstones and whatever still waits."""
        gone = [key for key, entry in self._entries.items() if entry.value is NOTHING]
        for key in gone:
            del self._entries[key]
        self._waiting.clear()
        self._num_waiting = 0


def change_from_body(body: Body, clients: Container[str]) -> Change:
    """Read an event of a collection.

    Args:
        body: Of the event.
        clients: Ours.

    Raises:
        BadServerMessage: it says nothing that an event may say.
    """
    key, version, data, by = body["key"], body["offset"], body["data"], body.get("by") or {}
    mine = {by["client"]: by.get("mid", 0)} if by.get("client") in clients else None
    match data:
        case {"patch": dict() as patch, "base": int() as base}:
            return Change(key, version, patch=patch, base=base, by=mine)
        case {"deleted": True}:
            return Change(key, version, by=mine)
        case {"value": value}:
            return Change(key, version, value, by=mine)
        case _:
            msg = "An event of a collection says neither value, patch nor deleted."
            raise BadServerMessage(msg)
