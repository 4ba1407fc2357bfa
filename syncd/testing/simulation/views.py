"""What the applications of the clients see, and what the wire carries to them, held against RECOVER and ORDER.

A `View` is one subscription as its application knows it, over all connections: it may only grow by the next event, and where it does not, a
`Reset` with good reason stands between. A `Wire` is one connection: there the server is judged before the client's core repairs anything.
"""

from __future__ import annotations

from typing import Any

import attrs

from syncd.client.facts import Event, Marked, Received, Reset, ResetCause, Subscribed
from syncd.testing.simulation.breaches import Breaches
from syncd.testing.simulation.ledger import Ledger
from syncd.testing.simulation.truth import Truth

__all__ = ["View", "Wire"]

Body = dict[str, Any]


@attrs.define(eq=False)
class View:
    """One subscription of one client, as its application sees it."""

    who: str
    channel: str
    is_latest: bool
    least_kept: int
    """Events that are surely recoverable."""
    truth: Truth
    breaches: Breaches
    epoch: str | None = None
    offset: int = 0
    has_begun: bool = False
    newest: dict[str | None, tuple[int, Any]] = attrs.field(factory=dict)
    """Of a latest channel: offset and data by key."""

    def take(self, fact: Subscribed | Reset | Received | Marked) -> None:
        """Take what the client's core tells."""
        match fact:
            case Subscribed():
                self._subscribed(fact)
            case Reset():
                self._reset(fact)
            case Received(event=event):
                self._received(event)
            case Marked(position=position):
                if position.epoch != self.epoch or position.offset < self.offset:
                    self._breach(f"marked at {position}, is at {self._place()}")
                if position.offset > self.offset and not self.is_latest:
                    self._breach(f"marked at {position}, has seen up to {self._place()}")
                self.offset = position.offset

    def _subscribed(self, fact: Subscribed) -> None:
        if fact.was_recovering:
            self.breaches.counts["recovered" if fact.recovered else "not recovered"] += 1
        if self.has_begun or fact.position is None:
            return
        self.has_begun = True
        self.epoch = fact.position.epoch
        self.offset = 0 if self.is_latest else fact.position.offset

    def _reset(self, fact: Reset) -> None:
        if fact.position is None:
            return
        log = self.truth.logs.get(self.channel)
        if log is not None and self.has_begun and log.epoch == self.epoch:
            if fact.cause is ResetCause.EPOCH_CHANGED:
                self._breach(f"was reset, as if {self.epoch} had not been the epoch all along")
            elif log.top - self.offset <= self.least_kept:
                self._breach(
                    f"was reset at {self.offset}, but {self.least_kept} up to {log.top} are kept"
                )
        self.breaches.counts["resets"] += 1
        self.breaches.counts["new epochs"] += fact.cause is ResetCause.EPOCH_CHANGED
        self.has_begun = True
        self.epoch, self.offset = fact.position.epoch, fact.position.offset
        if self.is_latest:
            self.offset, self.newest = 0, {}

    def _received(self, event: Event) -> None:
        position = event.position
        assert position is not None
        if not self.has_begun or position.epoch != self.epoch:
            self._breach(f"event {position} while at {self._place()}")
        elif position.offset <= self.offset:
            self._breach(f"event {position.offset} again or out of order, is at {self.offset}")
        elif position.offset != self.offset + 1 and not self.is_latest:
            self._breach(f"gap: event {position.offset} after {self.offset}")
        self.offset = max(self.offset, position.offset)
        self.newest[event.key] = (position.offset, event.data)
        body = {"name": event.name, "data": event.data, "key": event.key, "at_ms": event.at_ms}
        self.truth.told(self.who, self.channel, position.epoch, position.offset, body)

    def check_complete(self, epoch: str, top: int) -> None:
        """All is quiet: the view has reached the channel's top."""
        if (self.epoch, self.offset) != (epoch, top):
            self._breach(f"ends at {self._place()}, the channel at ({epoch}, {top})")
        log = self.truth.logs.get(self.channel)
        if log is None or not self.is_latest:
            return
        newest: dict[str | None, int] = {}
        for offset, event in log.events.items():
            newest[event.key] = max(offset, newest.get(event.key, 0))
        for key, offset in newest.items():
            mine = self.newest.get(key)
            if mine is None or mine[0] != offset:
                self._breach(f"ends with {mine} for key {key}, the log with offset {offset}")

    def _place(self) -> str:
        return f"({self.epoch}, {self.offset})"

    def _breach(self, text: str) -> None:
        self.breaches.add("RECOVER", f"{self.who} on {self.channel}: {text}")


@attrs.define
class _Stream:
    """What one connection carries of one channel."""

    epoch: str | None = None
    offset: int = 0


@attrs.define(eq=False)
class Wire:
    """One connection's messages, as the server sends them."""

    who: str
    breaches: Breaches
    ledger: Ledger
    since: dict[Any, Body | None] = attrs.field(factory=dict)
    """Position sent along, by request id of a `subscribe`."""
    leaving: dict[Any, str] = attrs.field(factory=dict)
    """Channel by request id of an `unsubscribe`."""
    streams: dict[str, _Stream] = attrs.field(factory=dict)
    asked_whole: dict[Any, Any] = attrs.field(factory=dict)
    """Collection and position sent along, by request id of a `watch` of all."""
    whole: dict[str, _Stream] = attrs.field(factory=dict)
    """Channels of collections that are watched whole, with the last offset told of."""
    life: int = attrs.field(init=False)
    """Of the store, when the connection was made."""

    def __attrs_post_init__(self) -> None:
        self.life = self.ledger.life

    def sent(self, kind: str, body: Body) -> None:
        """The client asks."""
        if kind == "subscribe":
            self.since[body["id"]] = body.get("position")
        elif kind == "watch" and body.get("all"):
            self.asked_whole[body["id"]] = (body["collection"], body.get("position"))
        elif kind == "unwatch":
            gone = body["collection"]
            self.whole.pop(gone, None)
            self.asked_whole = {i: ask for i, ask in self.asked_whole.items() if ask[0] != gone}
        elif kind == "unsubscribe":
            self.leaving[body["id"]] = body["channel"]

    def heard(self, kind: str, body: Body) -> None:
        """The server speaks."""
        if kind == "outcome":
            self._outcome(body)
        elif kind in ("watched", "snapshot") or ":" not in body.get("channel", ":"):
            self._collection(kind, body)
        elif kind == "event":
            self._event(body)
        elif kind == "subscribed":
            self._subscribed(body)
        elif kind in ("lagged", "unsubscribed"):
            self.streams.pop(body["channel"], None)
            self.breaches.counts[kind] += 1
        elif kind == "ok" and body["id"] in self.leaving:
            self.streams.pop(self.leaving.pop(body["id"]), None)
        elif kind == "mark" and body["channel"] in self.streams:
            stream = self.streams[body["channel"]]
            stream.offset = max(stream.offset, body["position"]["offset"])

    def _collection(self, kind: str, body: Body) -> None:
        channel = body["channel"]
        if kind in ("lagged", "unsubscribed"):
            self.whole.pop(channel, None)
            self.breaches.counts[f"watch {kind}"] += 1
        elif kind == "watched" and body["id"] in self.asked_whole and not body["more"]:
            self.breaches.counts["watches recovered"] += body["recovered"]
            _, since = self.asked_whole.pop(body["id"])
            self._told_whole(channel, since if body["recovered"] else body["position"], begins=True)
        elif kind in ("event", "invalidate"):
            self._told_whole(channel, body)
        elif kind == "mark":
            self._told_whole(channel, body["position"])

    def _told_whole(self, channel: str, position: Body, *, begins: bool = False) -> None:
        told = self.whole.get(channel)
        if told is not None and told.epoch == position["epoch"]:
            told.offset = max(told.offset, position["offset"])
        elif begins:
            self.whole[channel] = _Stream(position["epoch"], position["offset"])

    def _outcome(self, body: Body) -> None:
        """It is committed, it is the same as ever, and what it caused was told before it."""
        if self.life == self.ledger.life:  # else it may have been under way since the last life
            self.ledger.decided((body["client"], body["mid"]), body["status"])
        for channel, position in (body.get("positions") or {}).items():
            told = self.whole.get(channel)
            if told is None or told.epoch != position["epoch"]:
                continue
            if told.offset < position["offset"]:
                self._breach(
                    f"the outcome of {body['mid']} at {channel} {position}, told up to {told}"
                )

    def _subscribed(self, body: Body) -> None:
        channel, position = body["channel"], body.get("position")
        if position is None:
            return
        since = self.since.pop(body.get("id"), None)
        stream = self.streams[channel] = _Stream(position["epoch"], position["offset"])
        if body["recovered"]:
            if since is None or since["epoch"] != position["epoch"]:
                self._breach(f"{channel} recovered from {since} to {position}")
                return
            stream.offset = since["offset"]
        elif body["events"]:
            stream.offset = 0
        for event in body["events"]:
            self._event(event)
        is_stream = not channel.startswith(("top:", "hot:"))
        if stream.offset != position["offset"] and is_stream:
            self._breach(f"{channel} is told to be at {position}, events go to {stream.offset}")
        stream.offset = position["offset"]

    def _event(self, body: Body) -> None:
        channel, offset = body["channel"], body["offset"]
        stream = self.streams.get(channel)
        if stream is None:
            self._breach(f"event {offset} of {channel} without a subscription")
            return
        prev = body.get("prev")
        if body["epoch"] != stream.epoch:
            self._breach(f"event {offset} of {channel} in epoch {body['epoch']}")
        if prev is not None and (prev != stream.offset or offset != prev + 1):
            self._breach(f"event {offset} of {channel} (prev {prev}) after {stream.offset}")
        if offset <= stream.offset:
            self._breach(f"event {offset} of {channel} after {stream.offset}")
        stream.offset = offset

    def _breach(self, text: str) -> None:
        self.breaches.add("RECOVER", f"on the wire to {self.who}: {text}")
