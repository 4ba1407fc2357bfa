"""What really happened: the log as the disk has it, read with plain SQL after every commit, held against everything that is told.

Independent of the code under test: it knows the tables and msgpack, nothing else. ORDER, ONCE and DURABLE of publications are judged here, each at
the moment it is broken. A breach is one sentence in `Breaches`.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable
from typing import Any

import attrs
import msgpack

from syncd.testing.simulation.breaches import Breaches
from syncd.testing.simulation.ledger import Ledger

__all__ = ["Log", "Truth", "print_of"]

_CHANNELS = "SELECT id, name, epoch, top, floor FROM channel"
_EVENTS = (
    "SELECT offset, key, record FROM event WHERE channel_id = ? AND offset > ? ORDER BY offset"
)


@attrs.define
class Event:
    """One event as it was committed."""

    print_: bytes
    key: str | None
    body: dict[str, Any]


@attrs.define
class Log:
    """One durable channel."""

    epoch: str
    is_latest: bool
    top: int = 0
    base: int = 0
    """What is below was lost, or came to this life of the channel without its events."""
    events: dict[int, Event] = attrs.field(factory=dict)
    """All that ever were, trimmed or not (of a `latest` channel, all that a commit left)."""


class Truth:
    """The durable logs, and what was witnessed of the others."""

    def __init__(
        self, breaches: Breaches, is_latest: Callable[[str], bool], ledger: Ledger
    ) -> None:
        self._ledger = ledger
        self._breaches = breaches
        self._is_latest = is_latest
        self.logs: dict[str, Log] = {}
        self._lives: dict[tuple[str, str], Log] = {}
        """All there ever were, by channel and epoch: what was lost was told, and is never told of other events."""
        self._uids: dict[tuple[str, str], int] = {}
        self._witnessed: dict[tuple[str, str, int], bytes] = {}
        self._acknowledged: dict[tuple[str, str], tuple[str, int]] = {}

    # -------------------------------------------------------------------------------- the disk

    def commit(self, connection: sqlite3.Connection) -> None:
        """Take in what a commit added."""
        self._ledger.next_commit()
        for id_, name, epoch, top, _floor in connection.execute(_CHANNELS).fetchall():
            log = self.logs.get(name)
            if log is None:
                log = self._begin_log(name, epoch)
            if epoch != log.epoch:
                self._breaches.add("ORDER", f"{name} changed its epoch from {log.epoch} to {epoch}")
                log.epoch = epoch
            if top != log.top:
                self._read_on(connection, id_, name, log, top)

    def _begin_log(self, name: str, epoch: str) -> Log:
        if (name, epoch) in self._lives:
            self._breaches.add("ORDER", f"{name} begins anew in epoch {epoch}")
        log = self.logs[name] = self._lives[name, epoch] = Log(epoch, self._is_latest(name))
        return log

    def begin_life(self, connection: sqlite3.Connection) -> int:
        """Another store goes on from a copy. Returns how many events were lost."""
        before, self.logs = self.logs, {}
        for _, name, epoch, top, _floor in connection.execute(_CHANNELS).fetchall():
            log = self._begin_log(name, epoch)
            log.top = log.base = top
        tops = {name: self.logs[name].top if name in self.logs else 0 for name in before}
        self._uids = {place: n for place, n in self._uids.items() if n <= tops[place[0]]}
        return sum(log.top - tops[name] for name, log in before.items())

    def _read_on(
        self, connection: sqlite3.Connection, id_: int, name: str, log: Log, top: int
    ) -> None:
        expected = log.top + 1
        for offset, key, record in connection.execute(_EVENTS, (id_, log.top)).fetchall():
            if offset != expected and not log.is_latest:
                self._breaches.add(
                    "ORDER", f"{name} has offset {offset} where {expected} should be"
                )
            expected = offset + 1
            body = _body_of(record)
            log.events[offset] = Event(print_of(body), key, body)
            if ":" in name:
                self._check_once(name, offset, body)
            else:
                self._ledger.apply(name, offset, body)
        if expected != top + 1 and not log.is_latest:
            self._breaches.add("ORDER", f"{name} has top {top} and events up to {expected - 1}")
        if top < log.top:
            self._breaches.add("DURABLE", f"{name} went back from {log.top} to {top}")
        log.top = top

    def _check_once(self, name: str, offset: int, body: dict[str, Any]) -> None:
        uid = _uid_of(body)
        if uid is not None and self._uids.setdefault((name, uid), offset) != offset:
            before = self._uids[name, uid]
            self._breaches.add("ONCE", f"{uid} stands in {name} at {before} and at {offset}")

    def reopened(self, connection: sqlite3.Connection) -> None:
        """A new process found this on the disk: all that was committed, apart from what retention took."""
        found = {row[1]: row for row in connection.execute(_CHANNELS).fetchall()}
        for name, log in self.logs.items():
            row = found.get(name)
            if row is None:
                self._breaches.add("DURABLE", f"{name} is gone after a restart")
                continue
            id_, _, epoch, top, floor = row
            if epoch != log.epoch:
                self._breaches.add("DURABLE", f"{name} has another epoch after a restart")
            if top < log.top:
                self._breaches.add("DURABLE", f"{name} fell from {log.top} to {top} by a restart")
                log.top = top
            if not log.is_latest:
                self._check_kept(connection, id_, name, floor)
        self.commit(connection)  # a commit cut off by the crash may have got through

    def _check_kept(self, connection: sqlite3.Connection, id_: int, name: str, floor: int) -> None:
        log = self.logs[name]
        kept = {offset: record for offset, _, record in connection.execute(_EVENTS, (id_, floor))}
        for offset in range(floor + 1, log.top + 1):
            if offset not in kept:
                self._breaches.add("DURABLE", f"{name} lost event {offset} by a restart")
            elif (
                offset in log.events
                and print_of(_body_of(kept[offset])) != log.events[offset].print_
            ):
                self._breaches.add("DURABLE", f"{name} has another event {offset} after a restart")

    # -------------------------------------------------------------------------------- what is told

    def told(self, who: str, channel: str, epoch: str, offset: int, body: dict[str, Any]) -> None:
        """Somebody was shown an event: it is committed, and everybody sees the same one there."""
        print_ = print_of(body)
        place = (channel, epoch, offset)
        if self._witnessed.setdefault(place, print_) != print_:
            self._breaches.add("ORDER", f"{who} sees another event at {place} than somebody else")
        log = self._lives.get((channel, epoch))
        if log is None:
            if self.is_durable(channel):
                self._breaches.add(
                    "DURABLE", f"{who} was shown {place}, which nothing was committed to"
                )
            return
        known = log.events.get(offset)
        if offset > log.top:
            self._breaches.add("DURABLE", f"{who} was shown {place} before it was committed")
        elif known is not None and known.print_ != print_:
            self._breaches.add(
                "ORDER", f"{who} was shown another event at {place} than the log has"
            )
        elif known is None and not log.is_latest:
            self._breaches.add("ORDER", f"{who} was shown {place}, which the log never had")

    def acknowledged(self, who: str, channel: str, uid: str, epoch: str, offset: int) -> None:
        """A publisher was told where its event stands: it is committed there, and never stands elsewhere."""
        place = (epoch, offset)
        before = self._acknowledged.setdefault((channel, uid), place)
        if before != place:
            if self.is_durable(channel) or before[0] == epoch:
                self._breaches.add("ONCE", f"{uid} was acknowledged at {before} and at {place}")
            return
        if not self.is_durable(channel):
            return
        log = self._lives.get((channel, epoch))
        if log is None or offset > log.top:
            self._breaches.add("DURABLE", f"{who}'s {uid} was acknowledged before its commit")
        elif offset <= log.base:
            return  # of before this life, and still known
        elif offset in log.events and _uid_of(log.events[offset].body) != uid:
            self._breaches.add(
                "DURABLE", f"{uid} was acknowledged at {place}, where another stands"
            )
        elif offset not in log.events and not log.is_latest:
            self._breaches.add(
                "DURABLE", f"{uid} was acknowledged at {place}, where nothing stands"
            )

    @staticmethod
    def is_durable(channel: str) -> bool:
        """Whether the disk has this channel's log."""
        return not channel.startswith(("mem:", "hot:"))


def print_of(body: dict[str, Any]) -> bytes:
    """What makes two events the same, whichever way they came."""
    parts = [body.get(name) for name in ("name", "data", "key", "at_ms")]
    return hashlib.blake2b(msgpack.packb(parts), digest_size=12).digest()


def _uid_of(body: dict[str, Any]) -> str | None:
    """Clients put the uid into the data, where the log shows it."""
    data = body.get("data")
    return data.get("uid") if isinstance(data, dict) else None


def _body_of(record: bytes) -> dict[str, Any]:
    """Read a record: the number of its pairs, then the pairs."""
    body: dict[str, Any] = msgpack.unpackb(bytes((0x80 | record[0],)) + record[1:])
    return body
