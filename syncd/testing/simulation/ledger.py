"""What mutations did, read from the log that commits left: each tag once, none lost, and the entries are the log replayed.

Independent of the code under test: it knows event bodies, and that every entry only ever grows (`shop`).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from typing import Any

import attrs
import msgpack

from syncd.testing.simulation.breaches import Breaches

__all__ = ["Kept", "Ledger"]

Body = dict[str, Any]
_ENTRIES = """SELECT c.name, e.key, coalesce(nullif(e.version, 0), c.generation_at), e.value
    FROM entry e JOIN channel c ON c.generation = e.generation"""


@attrs.define
class _Entry:
    version: int
    value: Any


@attrs.frozen
class Kept:
    """What a copy of the store holds."""

    entries: Mapping[str, Mapping[str, _Entry]]
    num_commits: int


class Ledger:
    """All collections, replayed."""

    def __init__(self, breaches: Breaches) -> None:
        self._breaches = breaches
        self.entries: dict[str, dict[str, _Entry]] = {}
        self._changes: dict[tuple[str, str], list[_Entry]] = {}
        """All that entries ever were in this life, oldest first, by collection and key."""
        self._commits: dict[tuple[str, int], int] = {}
        """Number of the commit by client and mutation."""
        self._num_commits = 0
        self._decided: dict[tuple[str, int], str] = {}
        self._refused: set[str] = set()
        self.life = 0
        """How often the end of the log was lost."""
        self.lost: set[str] = set()
        """Tags that were committed then. A source may still have them, and a client that had no outcome makes them once more: they
        are not judged any more."""

    def next_commit(self) -> None:
        """What comes now was committed together."""
        self._num_commits += 1

    def keep(self) -> Kept:
        """Remember what there is now, as a copy of the store does."""
        entries = {name: dict(entries) for name, entries in self.entries.items()}
        return Kept(entries, self._num_commits)

    def lose(self, kept: Kept) -> None:
        """Go on from a copy."""
        self.life += 1
        was, self.entries = self.entries, {name: dict(each) for name, each in kept.entries.items()}
        for name, entries in was.items():
            there = self.entries.setdefault(name, {})
            for key, entry in entries.items():
                still = _tags(there[key].value) if key in there else []
                self.lost.update(set(_tags(entry.value)) - set(still))
        self._changes = {
            (name, key): [entry]
            for name, entries in self.entries.items()
            for key, entry in entries.items()
        }
        self._commits = {m: n for m, n in self._commits.items() if n <= kept.num_commits}
        self._decided.clear()

    def apply(self, channel: str, offset: int, body: Body) -> None:
        """Take in one committed event."""
        if body.get("name") is not None or body.get("key") is None:
            return
        key, by = body["key"], body.get("by")
        entries = self.entries.setdefault(channel, {})
        before = entries.get(key)
        value = self._value(channel, offset, body, before)
        if by is not None:
            self._check_mutation(channel, key, by, before, value)
        self._check_growth(channel, key, offset, before, value)
        entries[key] = _Entry(offset, value)
        self._changes.setdefault((channel, key), []).append(entries[key])

    def _value(self, channel: str, offset: int, body: Body, before: _Entry | None) -> Any:
        data = body["data"]
        if "value" in data:
            return data["value"]
        if "patch" in data:
            if before is None or before.version != data["base"]:
                self._breaches.add(
                    "ORDER", f"{channel} {offset} patches {data['base']}, is {before}"
                )
                return None
            return {**(before.value or {}), **data["patch"]}
        return None

    def _check_mutation(
        self, channel: str, key: str, by: Body, before: _Entry | None, value: Any
    ) -> None:
        mutation = (by["client"], by["mid"])
        if self._commits.setdefault(mutation, self._num_commits) != self._num_commits:
            self._breaches.add(
                "ONCE", f"mutation {mutation} took effect in two commits, on {channel} {key}"
            )
        old, new = self._known_tags(before), self._known_tags(_Entry(0, value))
        if new not in ([*old, *new[-1:]], old if self.lost else None):
            self._breaches.add("ONCE", f"{channel} {key}: {new[-4:]} does not follow {old[-4:]}")
        if new and new[-1] in self._refused:
            self._breaches.add("ONCE", f"{channel} {key}: {new[-1]} was rejected and took effect")

    def _check_growth(
        self, channel: str, key: str, offset: int, before: _Entry | None, value: Any
    ) -> None:
        old, new = self._known_tags(before), self._known_tags(_Entry(0, value))
        if new[: len(old)] != old:
            self._breaches.add(
                "SOURCES", f"{channel} {key} lost tags at {offset}: {old[-4:]} to {new[-4:]}"
            )
        if len(set(new)) != len(new):
            self._breaches.add("ONCE", f"{channel} {key} has a tag twice at {offset}: {new[-6:]}")
        if before is not None and isinstance(value, dict) and "price" in value:
            was = (before.value or {}).get("price", 0)
            if value["price"] < was:
                self._breaches.add(
                    "SOURCES", f"{channel} {key} went back from {was} to {value['price']}"
                )

    # -------------------------------------------------------------------------------- outcomes

    def decided(self, mutation: tuple[str, int], status: str) -> None:
        """Somebody was told how a mutation ended, on the wire; the same every time."""
        if status != "unknown" and self._decided.setdefault(mutation, status) != status:
            self._breaches.add("ONCE", f"{mutation} ended {self._decided[mutation]} and {status}")
        if status == "rejected" and mutation in self._commits:
            self._breaches.add("ONCE", f"{mutation} was rejected, and stands in the log")

    def _known_tags(self, entry: _Entry | None) -> list[str]:
        """Return the tags of an entry that were never lost."""
        tags = _tags(entry.value) if entry is not None else []
        return [tag for tag in tags if tag not in self.lost] if self.lost else tags

    def is_same(self, value: Any, other: Any) -> bool:
        """Whether two values are the same, but for what was lost."""
        if value == other or not self.lost:
            return bool(value == other)
        return self._known_tags(_Entry(0, value)) == self._known_tags(_Entry(0, other))

    def has_tag(self, collection: str, key: str, tag: str) -> bool:
        """Whether a tag is committed."""
        entry = self.entries.get(collection, {}).get(key)
        return entry is not None and tag in _tags(entry.value)

    def refused(self, tag: str) -> None:
        """A mutation was rejected: its tag may never appear."""
        if tag in self.lost:
            return
        self._refused.add(tag)
        for collection, entries in self.entries.items():
            for key, entry in entries.items():
                if tag in _tags(entry.value):
                    self._breaches.add(
                        "ONCE", f"{tag} was rejected and stands in {collection} {key}"
                    )

    def check_told(
        self, who: str, collection: str, as_of: int, told: Mapping[str, tuple[int, Any]]
    ) -> None:
        """Somebody read entries (version and value by key) as of a position: each is what it was then, or what it became since."""
        for key, (version, value) in told.items():
            changes = self._changes.get((collection, key), [])
            newest_then = sum(change.version <= as_of for change in changes) - 1
            since = changes[max(newest_then, 0) :]
            if value is None:
                is_so = newest_then < 0 or any(change.value is None for change in since)
            else:
                is_so = _Entry(version, value) in since
            if not is_so:
                versions = [change.version for change in since[:5]]
                text = f"told {collection} {key} as of {as_of} in version {version}, it is in {versions}"
                self._breaches.add("AS-OF", f"{who} was {text}")

    # -------------------------------------------------------------------------------- the end

    def check_entries(self, connection: sqlite3.Connection) -> None:
        """The state on the disk is the log, replayed."""
        found: dict[str, dict[str, _Entry]] = {}
        for channel, key, version, value in connection.execute(_ENTRIES):
            found.setdefault(channel, {})[key] = _Entry(version, msgpack.unpackb(value))
        for channel, entries in self.entries.items():
            for key, entry in entries.items():
                there = found.get(channel, {}).get(key)
                if entry.value is None and there is None:
                    continue
                if there != entry:
                    self._breaches.add(
                        "DURABLE",
                        f"{channel} {key} is {_short(there)}, its log says {_short(entry)}",
                    )


def _tags(value: Any) -> list[str]:
    return list(value.get("tags", ())) if isinstance(value, dict) else []


def _short(entry: _Entry | None) -> str:
    return "nothing" if entry is None else f"{entry.version}: {json.dumps(entry.value)[-60:]}"
