"""The history checker: what clients saw and were promised, held against the log.

Owner of: what each client observed, in the order it observed it. Tests feed it bodies as they come from the wire; every breach of a
promise becomes one sentence in `violations`, so that a test ends with `assert history.violations == []`. Pure.

ORDER: all clients see the same event at one offset. RECOVER: no gap, no duplicate, never a partial replay. DURABLE: what was
acknowledged is in the log, where it was told to be. Once: no `uid` takes effect twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import attrs
import msgpack

__all__ = ["History", "Observer"]

Body = Mapping[str, Any]
Place = tuple[str, str, int]
"""Channel, epoch, offset."""

MAX_VIOLATIONS = 50
"""One fault breaks everything behind it; the first sentences tell."""


@attrs.define(eq=False)
class Observer:
    """What one client saw of one channel, over all its connections. Made by `History.observer`."""

    history: History
    name: str
    channel: str
    is_latest: bool = False
    """Offsets need only ascend: older values of a key may be skipped."""
    keeps_events: bool = True
    """False for crowds whose events would fill the test's memory; `offsets` are kept anyway."""
    epoch: str | None = None
    offset: int = 0
    is_subscribed: bool = False
    num_seen: int = 0
    num_recovered: int = 0
    num_unrecovered: int = 0
    num_lagged: int = 0
    offsets: list[int] = attrs.field(factory=list)
    """Seen since the position was last adopted from a `subscribed` that recovered nothing."""
    events: list[Body] = attrs.field(factory=list)
    """The events of these offsets."""

    def position(self) -> dict[str, Any] | None:
        """What to send along with the next `subscribe`."""
        return None if self.epoch is None else {"epoch": self.epoch, "offset": self.offset}

    def disconnected(self) -> None:
        """The connection ended; the position stays."""
        self.is_subscribed = False

    def take(self, kind: str, body: Body) -> bool:
        """Take any message; returns whether it concerned this subscription."""
        if body.get("channel") != self.channel:
            return False
        if kind == "event":
            self.event(body)
        elif kind == "subscribed":
            self.subscribed(body)
        elif kind == "mark":
            self.mark(body)
        elif kind == "lagged":
            self.lagged(body)
        else:
            return False
        return True

    def subscribed(self, body: Body) -> None:
        """Take a `subscribed`, asked for or not."""
        position = body.get("position")
        if body["was_recovering"] and body["recovered"]:
            self.num_recovered += 1
            if position is None or position["epoch"] != self.epoch:
                self._breach(f"recovered across epochs: {self.epoch} to {position}")
        else:
            self.num_unrecovered += body["was_recovering"]
            self._start_anew(position, body["events"])
        self.is_subscribed = True
        for event in body["events"]:
            self.event(event)
        if position is not None:
            self._adopt(position["offset"])

    def _start_anew(self, position: Body | None, events: list[Body]) -> None:
        if events and not self.is_latest:
            self._breach("a replay although nothing was recovered")
        self.epoch = None if position is None else position["epoch"]
        self.offset = 0 if self.is_latest or position is None else position["offset"]
        self.offsets, self.events = [], []

    def _adopt(self, offset: int) -> None:
        if offset < self.offset or (offset > self.offset and not self.is_latest):
            self._breach(f"told to be at {offset}, but has seen up to {self.offset}")
        self.offset = max(self.offset, offset)

    def event(self, body: Body) -> None:
        """Take an event, live or replayed."""
        offset = body["offset"]
        if not self.is_subscribed:
            self._breach(f"event {offset} without a subscription")
        if body["epoch"] != self.epoch:
            self._breach(f"event {offset} of epoch {body['epoch']} in epoch {self.epoch}")
        if offset <= self.offset:
            self._breach(f"event {offset} again or out of order, is at {self.offset}")
        elif not self.is_latest and (offset != self.offset + 1 or body["prev"] != self.offset):
            self._breach(f"gap: event {offset} (prev {body['prev']}) after {self.offset}")
        self.offset = max(self.offset, offset)
        self.num_seen += 1
        self.offsets.append(offset)
        if self.keeps_events:
            self.events.append(body)
        self.history.witness(self.name, body)

    def mark(self, body: Body) -> None:
        """Take a `mark`: everything up to there was sent or superseded."""
        position = body["position"]
        if not self.is_latest:
            self._breach("a mark on a stream")
        if position["epoch"] != self.epoch:
            self._breach(f"a mark of epoch {position['epoch']} in epoch {self.epoch}")
        self._adopt(position["offset"])

    def lagged(self, body: Body) -> None:
        """Take a `lagged`: the subscription is over, the position stays."""
        self.num_lagged += 1
        self.is_subscribed = False
        position = body.get("position")
        if position is not None and position["offset"] < self.offset:
            self._breach(f"lagged at {position['offset']}, but has seen up to {self.offset}")

    def _breach(self, text: str) -> None:
        self.history.breach(f"{self.name} on {self.channel}: {text}")


class History:
    """Everything observed in one test."""

    def __init__(self) -> None:
        self.violations: list[str] = []
        self.observers: list[Observer] = []
        self.num_acknowledged = 0
        self._witnessed: dict[Place, bytes] = {}
        self._acknowledged: dict[tuple[str, str], Place] = {}
        """(channel, uid) to where the `ok` said it stands."""

    def observer(
        self, name: str, channel: str, *, is_latest: bool = False, keeps_events: bool = True
    ) -> Observer:
        """Return a new observer."""
        observer = Observer(self, name, channel, is_latest, keeps_events)
        self.observers.append(observer)
        return observer

    def breach(self, text: str) -> None:
        """Write down one breach of a promise."""
        if len(self.violations) < MAX_VIOLATIONS:
            self.violations.append(text)

    def witness(self, name: str, body: Body) -> None:
        """Hold an event against what others saw at the same place (ORDER)."""
        place = (body["channel"], body["epoch"], body["offset"])
        print_ = _print(body)
        if self._witnessed.setdefault(place, print_) != print_:
            self.breach(f"{name} saw another event at {place} than somebody else")

    def acknowledged(self, channel: str, uid: str, position: Body) -> None:
        """A publisher got `ok`; again for the same uid means it was resent."""
        place = (channel, position["epoch"], position["offset"])
        before = self._acknowledged.setdefault((channel, uid), place)
        self.num_acknowledged += 1
        if before != place:
            self.breach(f"{uid} was acknowledged at {before} and at {place}")

    def check_log(
        self,
        channel: str,
        epoch: str,
        events: Iterable[Body],
        first: int = 1,
        *,
        may_lose: bool = False,
    ) -> None:
        """Hold the whole log of a channel against everything promised about it.

        Args:
            channel: Whose log.
            epoch: Of the channel now.
            events: Read from the server, ascending, from the oldest kept.
            first: Offset the log has to begin with.
            may_lose: What was acknowledged in another epoch than this may be gone.
        """
        by_uid: dict[str, int] = {}
        offsets: set[int] = set()
        expected = first
        for body in events:
            offset = body["offset"]
            if offset != expected:
                self.breach(f"log of {channel}: {offset} where {expected} should stand")
            expected = offset + 1
            offsets.add(offset)
            self.witness("the log", body)
            uid = _uid_of(body)
            if uid is not None and by_uid.setdefault(uid, offset) != offset:
                self.breach(f"log of {channel}: {uid} at {by_uid[uid]} and at {offset}")
        self._check_acknowledged(channel, epoch, by_uid, may_lose=may_lose)
        self._check_nothing_invented(channel, epoch, offsets)

    def _check_acknowledged(
        self, channel: str, epoch: str, by_uid: dict[str, int], *, may_lose: bool
    ) -> None:
        for (name, uid), place in self._acknowledged.items():
            if may_lose and place[1] != epoch:
                continue
            if name == channel and place != (channel, epoch, by_uid.get(uid)):
                self.breach(
                    f"{uid} was acknowledged at {place}, the log has it at {by_uid.get(uid)}"
                )

    def _check_nothing_invented(self, channel: str, epoch: str, offsets: set[int]) -> None:
        for name, of_epoch, offset in self._witnessed:
            if (name, of_epoch) == (channel, epoch) and offset not in offsets:
                self.breach(f"log of {channel}: {offset} was delivered, but is not there")

    def check_complete(self, channel: str, top: int, *, first: int = 1) -> None:
        """Every observer of the channel, subscribed before its first event, saw each offset exactly once."""
        for observer in self.observers:
            if observer.channel == channel and observer.offsets != list(range(first, top + 1)):
                self.breach(
                    f"{observer.name} on {channel} saw {len(observer.offsets)} events "
                    f"up to {observer.offset} of {top - first + 1} up to {top}"
                )


def _print(body: Body) -> bytes:
    """What makes two events the same, whichever way they came."""
    parts = [body.get(name) for name in ("name", "data", "key", "by", "at_ms")]
    return hashlib.blake2b(msgpack.packb(parts), digest_size=16).digest()


def _uid_of(body: Body) -> str | None:
    """Tests put the uid into the data, where the log shows it."""
    data = body["data"]
    return data.get("uid") if isinstance(data, dict) else None
