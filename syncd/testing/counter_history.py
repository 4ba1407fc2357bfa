"""What clients were promised of counters that they add to, held against what there is: the checker of collections over several nodes.

Every client has a mid of its own, every mutator adds one to a counter and returns the sum. Whatever contradicts a promise becomes one sentence in
`violations`. Pure.

ONCE: no two mutations got the same sum of a counter in one epoch, and the sum at the end is the number of mutations. DURABLE: what was
acknowledged is in it. READ-YOUR-WRITES: after an acknowledgement its client reads nothing older. ORDER: a higher sum has a higher version.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from syncd.ids import Epoch

__all__ = ["CounterHistory", "Decided", "WatchedCounters"]

MAX_VIOLATIONS = 50

Body = Mapping[str, Any]


@attrs.frozen
class Decided:
    """One mutation that a client was told the outcome of."""

    client: str
    mid: int
    key: str
    value: int
    epoch: Epoch
    offset: int


@attrs.define(eq=False)
class CounterHistory:
    """Everything observed of one collection in one test."""

    channel: str
    may_lose: bool = False
    """The store may lose the end of what it acknowledged, if it then begins new epochs."""
    violations: list[str] = attrs.field(factory=list)
    num_decided: int = 0
    num_reads: int = 0
    num_lost: int = 0
    """Times a client was told that mutations of it are gone."""
    epochs: dict[Epoch, None] = attrs.field(factory=dict)
    _decided: dict[tuple[str, int, int], Decided] = attrs.field(factory=dict)
    """By client, mid and how often this client's mids went back."""
    _sums: dict[tuple[Epoch, str, int], Decided] = attrs.field(factory=dict)
    _last: dict[tuple[str, str], Decided] = attrs.field(factory=dict)
    """Of a client and key."""
    _lives: dict[str, int] = attrs.field(factory=dict)
    _seen: dict[tuple[Epoch, int], tuple[str, int]] = attrs.field(factory=dict)
    """What anybody was told to be at a position: key and sum."""
    _first_seen: dict[tuple[Epoch, int], str] = attrs.field(factory=dict)
    """By whom."""

    def breach(self, text: str) -> None:
        """Write down one breach of a promise."""
        if len(self.violations) < MAX_VIOLATIONS:
            self.violations.append(text)

    def decided(self, told: Decided) -> None:
        """A client was told an outcome; again for the same mid means that it sent it again."""
        self.epochs[told.epoch] = None
        known = self._decided.setdefault(
            (told.client, told.mid, self._lives.get(told.client, 0)), told
        )
        if known is not told:
            if known != told:
                self.breach(f"one mutation, two outcomes: {known} and {told}")
            return
        self.num_decided += 1
        other = self._sums.setdefault((told.epoch, told.key, told.value), told)
        if other is not told:
            self.breach(f"two mutations made the same sum: {other} and {told}")
        self.seen("outcome", told.epoch, told.offset, told.key, told.value)
        before = self._last.get((told.client, told.key))
        if before is None or before.epoch != told.epoch or before.value < told.value:
            self._last[told.client, told.key] = told

    def seen(self, who: str, epoch: Epoch, offset: int, key: str, value: int) -> None:
        """Somebody was told that a counter had this sum as of this version."""
        self.epochs[epoch] = None
        place = (epoch, offset)
        known = self._seen.setdefault(place, (key, value))
        first = self._first_seen.setdefault(place, who)
        if known != (key, value):
            self.breach(f"{who} saw {key} = {value} at {place}, where {first} had seen {known}")

    def known(self, client: str) -> dict[str, Decided]:
        """Return the last outcome of each counter that a client knows: nothing older may be read from now on."""
        return {key: told for (name, key), told in self._last.items() if name == client}

    def read(self, client: str, known: Mapping[str, Decided], epoch: Epoch, entry: Body) -> None:
        """A client read an entry, as of an epoch; `known` is what it knew when it asked."""
        self.num_reads += 1
        key, value = entry["key"], entry.get("value", 0)
        last = known.get(key)
        if value:
            self.seen(f"a read of {client}", epoch, entry["version"], key, value)
        if last is None:
            return
        if last.epoch == epoch:
            if value < last.value:
                self.breach(f"{client} read {key} = {value} ({entry}) after {last}")
        elif not self.may_lose:
            self.breach(f"{client} read {key} in epoch {epoch} after {last}")

    def welcomed(self, client: str, last_mid: int, acknowledged: int, sent: int) -> bool:
        """A client came back and was told its last mid; returns whether mutations of it were lost."""
        if acknowledged <= last_mid <= sent:
            return False
        if not self.may_lose or last_mid > sent:
            self.breach(f"{client} knows of {acknowledged} of {sent}, was told {last_mid}")
        self.lost(client)
        return True

    def lost(self, client: str) -> None:
        """Mids of this client went back, or it is known no more."""
        if not self.may_lose:
            self.breach(f"{client} was forgotten")
        self.num_lost += 1
        self._lives[client] = self._lives.get(client, 0) + 1

    # ---------------------------------------------------------------- at the end

    def check_entries(self, epoch: Epoch, entries: Mapping[str, tuple[int, int]]) -> None:
        """Hold the counters, when everything is decided, against everything told.

        Args:
            epoch: Of the channel now.
            entries: Version and sum of each counter.
        """
        if not self.may_lose and list(self.epochs) not in ([], [epoch]):
            self.breach(f"epochs {list(self.epochs)} although nothing may be lost; now {epoch}")
        told: dict[str, int] = dict.fromkeys(entries, 0)
        highest: dict[str, Decided] = {}
        for each in self._decided.values():
            if each.epoch != epoch:
                continue
            told[each.key] = told.get(each.key, 0) + 1
            if each.key not in highest or each.value > highest[each.key].value:
                highest[each.key] = each
        for key, (version, value) in entries.items():
            if not self.may_lose and told[key] != value:
                self.breach(f"{key} is {value} after {told[key]} mutations")
            last = highest.get(key)
            if last is not None and (version, value) != (last.offset, last.value):
                self.breach(f"{key} is {value} of {version}, the last outcome was {last}")
        self._check_order(epoch)

    def _check_order(self, epoch: Epoch) -> None:
        by_key: dict[str, list[tuple[int, int]]] = {}
        for (of_epoch, offset), (key, value) in self._seen.items():
            if of_epoch == epoch:
                by_key.setdefault(key, []).append((offset, value))
        for key, seen in by_key.items():
            sums = [value for _, value in sorted(seen)]
            if sums != sorted(set(sums)):
                self.breach(f"the sums of {key} do not follow its versions")


@attrs.define(eq=False)
class WatchedCounters:
    """What one client that watches all counters was shown, over all its connections."""

    history: CounterHistory
    name: str
    epoch: Epoch | None = None
    offset: int = 0
    entries: dict[str, tuple[int, int]] = attrs.field(factory=dict)
    """Version and sum."""
    is_whole: bool = False
    """The last `watched` and all that belongs to it came."""
    num_recovered: int = 0
    num_renewed: int = 0
    _snapshot: dict[str, tuple[int, int]] | None = None

    def position(self) -> dict[str, Any] | None:
        """What to send along with the next `watch`; None until a snapshot was complete."""
        return None if self.epoch is None else {"epoch": self.epoch, "offset": self.offset}

    def disconnected(self) -> None:
        """The connection ended; a complete view stays."""
        if self._snapshot is not None:
            self.epoch = None
            self._snapshot = None
        self.is_whole = False

    def watched(self, body: Body) -> None:
        """Take a `watched`."""
        position = body["position"]
        if body["recovered"]:
            self.num_recovered += 1
            if self.epoch != position["epoch"]:
                self._breach(f"gone on from epoch {self.epoch} in {position}")
        elif self.epoch == position["epoch"]:
            if position["offset"] < self.offset:
                self._breach(f"a snapshot of {position}, behind {self.offset}")
            self._begin(body)
        else:
            if self.epoch is not None and not self.history.may_lose:
                self._breach(f"a snapshot of another epoch {position}, was {self.epoch}")
            self.num_renewed += self.epoch is not None
            self.entries = {}
            self._begin(body)
        self.epoch, self.offset = position["epoch"], position["offset"]
        self.is_whole = self._snapshot is None

    def _begin(self, body: Body) -> None:
        self._snapshot = {}
        self.snapshot(body)

    def snapshot(self, body: Body) -> None:
        """Take a page of entries."""
        assert self._snapshot is not None
        for entry in body["entries"]:
            self._entry(entry["key"], entry["version"], entry["value"], self._snapshot)
        if not body["more"]:
            before, self.entries = self.entries, self._snapshot
            self._snapshot = None
            self.is_whole = True
            for key, (version, value) in before.items():
                if self.entries.get(key, (0, 0))[0] < version:
                    self._breach(f"{key} was {value} of {version}, a snapshot has {self.entries}")

    def _entry(self, key: str, version: int, value: int, into: dict[str, tuple[int, int]]) -> None:
        if version > into.get(key, (0, 0))[0]:
            into[key] = (version, value)

    def event(self, body: Body) -> None:
        """Take an event."""
        offset, key = body["offset"], body["key"]
        if body["epoch"] != self.epoch:
            self._breach(f"an event of epoch {body['epoch']} in {self.epoch}")
            return
        self.history.seen(self.name, body["epoch"], offset, key, body["data"]["value"])
        if self._snapshot is None and offset <= self.offset:
            return  # SPEC 17: may come again after a widening
        into = self.entries if self._snapshot is None else self._snapshot
        version, value = into.get(key, (0, 0))
        if offset > version:
            if body["data"]["value"] <= value:
                self._breach(f"{key} went from {value} of {version} to {body}")
            elif body["data"]["value"] != value + 1 and self._snapshot is None:
                self._breach(f"a gap: {key} went from {value} of {version} to {body}")
            into[key] = (offset, body["data"]["value"])
        self.offset = max(self.offset, offset)

    def mark(self, body: Body) -> None:
        """Take a `mark`."""
        position = body["position"]
        if position["epoch"] != self.epoch:
            self._breach(f"a mark of {position} in epoch {self.epoch}")
        self.offset = max(self.offset, position["offset"])

    def _breach(self, text: str) -> None:
        self.history.breach(f"{self.name}: {text}")
