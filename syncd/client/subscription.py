"""One subscription of the client: its state, its position, and what every message does to them.

Owns the position of the last event handed out. Invariant (RECOVER): within one epoch the offsets handed out ascend without a
hole on stream channels, and wherever they do not, a `Reset` stands between.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import attrs

from syncd.client.backoff import Backoff
from syncd.client.facts import Event, Fact, Marked, Received, Reset, ResetCause, Subscribed
from syncd.client.presence import PresenceSet
from syncd.client.tables import SUBSCRIPTION_TABLE, SubscriptionInput, SubscriptionState
from syncd.ids import ChannelName, Position

__all__ = ["Answer", "SubscriptionCore"]

CALM_S = 5.0
"""Gaps further apart are repaired at once; closer ones wait, so that a broken server is not hammered."""

_NOTHING: list[Fact] = []


@attrs.define
class Answer:
    """A `subscribed` message."""

    request_id: int | None
    """None: the server re-established the subscription by itself."""
    position: Position | None
    was_recovering: bool
    recovered: bool
    events: list[Event]


class SubscriptionCore:
    """State machine of one channel's subscription; `ClientCore` speaks to the server for it."""

    def __init__(
        self,
        channel: ChannelName,
        rng: random.Random,
        *,
        position: Position | None,
        has_presence: bool,
    ) -> None:
        self.channel = channel
        self.position = position
        self.has_presence = has_presence
        self.presence = PresenceSet()
        self.state = SubscriptionState.UNSUBSCRIBED
        self.request_id: int | None = None
        """Of the `subscribe` in flight, or answered last."""
        self.retry_at: float | None = None
        self.is_known_to_server = False
        """The server may hold a subscription of this channel: it must be ended before a new one."""
        self._has_begun = False
        self._gap_at: float | None = None
        self._backoff = Backoff(rng)

    def step(self, happened: SubscriptionInput) -> bool:
        """Go to the next state; return False and change nothing where the table has no step."""
        next_state = SUBSCRIPTION_TABLE.get((self.state, happened))
        if next_state is None:
            return False
        self.state = next_state
        return True

    @property
    def is_wanting(self) -> bool:
        """Whether the server should be asked now, if there is a connection."""
        return self.state is SubscriptionState.UNSUBSCRIBED and self.retry_at is None

    # -------------------------------------------------------------------------------- asking

    def asked(self, request_id: int) -> None:
        """Note that `subscribe` went out under this id."""
        if self.step(SubscriptionInput.ASK):
            self.request_id = request_id
            self.is_known_to_server = True
            self.retry_at = None
            self.presence.forget()

    def restart(self, position: Position | None, *, has_presence: bool) -> None:
        """Ask again with other wishes, as if for the first time."""
        self.position = position
        self.has_presence = has_presence
        self._has_begun = False
        self.retry_at = None
        self.step(SubscriptionInput.RESTART)

    def request_presence(self, *, has_presence: bool) -> None:
        """Ask again, now with or without presence, from where it stands; held back, it waits for that."""
        self.has_presence = has_presence
        if self.state is not SubscriptionState.LAGGED:
            self.retry_at = None
            self.step(SubscriptionInput.RESTART)

    def postponed(self, now: float, after_s: float, *, is_known: bool) -> None:
        """The server refused for now; ask again later."""
        if self.step(SubscriptionInput.POSTPONED):
            self.is_known_to_server = is_known
            self.retry_at = now + self._backoff.next_s(after_s)

    def went_offline(self) -> None:
        """The connection is gone, and with it whatever the server held."""
        self.step(SubscriptionInput.OFFLINE)
        self.is_known_to_server = False
        self.retry_at = None

    # -------------------------------------------------------------------------------- what the server says

    def answered(self, answer: Answer) -> list[Fact]:
        """Take a `subscribed`: adopt its position, hand out what was missed, or tell that it cannot be had."""
        if self.state is SubscriptionState.SUBSCRIBED:
            is_ours = answer.request_id is None
        else:
            is_ours = answer.request_id is not None and answer.request_id == self.request_id
        if not is_ours or not self.step(SubscriptionInput.ANSWERED):
            return _NOTHING
        facts: list[Fact] = [
            Subscribed(self.channel, answer.position, answer.was_recovering, answer.recovered)
        ]
        if self._is_continued_by(answer):
            events = self._newer(answer.events)
        else:
            events = _ascending(answer.events)
            if self._has_begun or self.position is not None:
                facts.append(self._reset(answer, events))
            self.position = answer.position
        self._has_begun = True
        facts.extend(Received(event) for event in events)
        self._adopt(answer.position, facts)
        return facts

    def _is_continued_by(self, answer: Answer) -> bool:
        return (
            answer.recovered
            and self.position is not None
            and answer.position is not None
            and answer.position.epoch == self.position.epoch
        )

    def _newer(self, events: Sequence[Event]) -> list[Event]:
        """Return what was not handed out yet; the list as a whole was vouched for by `recovered`."""
        mine = self.position
        last = -1 if mine is None else mine.offset
        return _ascending(events, last)

    def _reset(self, answer: Answer, events: Sequence[Event]) -> Reset:
        position = answer.position
        if position is None or self.position is None:
            return Reset(self.channel, position, ResetCause.NOT_KEPT)
        cause = ResetCause.OUT_OF_RETENTION
        if position.epoch != self.position.epoch:
            cause = ResetCause.EPOCH_CHANGED
        first = events[0].position if events else None
        if first is not None:
            position = Position(first.epoch, max(first.offset - 1, 0))
        return Reset(self.channel, position, cause)

    def _adopt(self, position: Position | None, facts: list[Fact]) -> None:
        last = self.position
        for fact in facts:
            if isinstance(fact, Received) and fact.event.position is not None:
                last = fact.event.position
        if position is not None and (last is None or position.offset >= last.offset):
            last = position
        self.position = last
        if last is not None:
            facts.append(Marked(self.channel, last))

    def received(self, event: Event, prev: int | None, now: float) -> list[Fact]:
        """Take a live event: hand it out if it is the next one, ask again if one is missing.

        `prev` is there on stream channels alone: elsewhere the server vouches for completeness and offsets only ascend.
        """
        if self.state is not SubscriptionState.SUBSCRIBED:
            return _NOTHING
        mine, its = self.position, event.position
        if its is not None and mine is not None:
            if its.epoch != mine.epoch:
                return self.found_gap(now)
            if its.offset <= mine.offset:
                return _NOTHING
            if prev is not None and prev != mine.offset:
                return self.found_gap(now)
        if its is not None:
            self.position = its
        return [Received(event)]

    def marked(self, position: Position, now: float) -> list[Fact]:
        """Take a `mark`: everything up to there was sent or superseded."""
        if self.state is not SubscriptionState.SUBSCRIBED:
            return _NOTHING
        if self.position is not None:
            if position.epoch != self.position.epoch:
                return self.found_gap(now)
            if position.offset <= self.position.offset:
                return _NOTHING
        self.position = position
        return [Marked(self.channel, position)]

    def lagged(self, now: float) -> list[Fact]:
        """The server stopped the delivery: ask again from the position."""
        if self.state is SubscriptionState.SUBSCRIBED:
            self.is_known_to_server = False
        return self.found_gap(now)

    def found_gap(self, now: float) -> list[Fact]:
        """Something is missing: ask again from the position, at once unless it happened just now."""
        if not self.step(SubscriptionInput.GAP):
            return _NOTHING
        if self._gap_at is None or now - self._gap_at >= CALM_S:
            self._backoff.reset()
        else:
            self.retry_at = now + self._backoff.next_s()
        self._gap_at = now
        return _NOTHING


def _ascending(events: Sequence[Event], last: int = -1) -> list[Event]:
    """Keep events whose offsets ascend above `last`, and all that have none."""
    kept: list[Event] = []
    for event in events:
        if event.position is not None:
            if event.position.offset <= last:
                continue
            last = event.position.offset
        kept.append(event)
    return kept
