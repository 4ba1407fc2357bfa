"""What others committed: its events go to their rooms, then publications, and outcomes once the events are queued.

Settle (DESIGN 5.7): an outcome never overtakes its events. It is told in the flush of the tick that delivers them; where its asker
is still catching up on one of their channels, it waits for that, and the asker's later outcomes wait behind it, at most
`HELD_OUTCOMES`: past that the subscription lags. An outcome is a fact: it survives a crash of ours and is told when those
who were to see its events are where they were.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable

import structlog

from syncd.actors.broadcaster.publishing import Publishing
from syncd.actors.broadcaster.rooms import Rooms
from syncd.errors import SyncdError
from syncd.ids import ChannelName, Position
from syncd.ports import Subscription
from syncd.ports_collections import (
    CommittedEvent,
    DeliverCommitted,
    MutationAsker,
    OutcomeToTell,
    RenewChannel,
)
from syncd.ports_log import StoredEvent

__all__ = ["Committing"]

_log = structlog.get_logger("syncd.broadcaster")

HELD_OUTCOMES = 1000
"""Of one asker that catches up; as many outcomes as are kept a client."""


class Committing:
    """The part of the broadcaster that delivers commits of the cache-owner."""

    def __init__(
        self, rooms: Rooms, publishing: Publishing, outcomes: Iterable[OutcomeToTell] = ()
    ) -> None:
        """Begin with the outcomes that were not told before a crash."""
        self._rooms = rooms
        self._publishing = publishing
        self._outcomes: collections.deque[OutcomeToTell] = collections.deque(outcomes)
        """To be told at the end of this tick."""
        self._held: dict[MutationAsker, collections.deque[OutcomeToTell]] = {}

    def deliver(self, message: DeliverCommitted) -> None:
        """Take in a commit."""
        self._publishing.came_at(message.since)
        for event in message.events:
            self.take(event)
        for publication in message.publications:
            try:
                self._publishing.publish(publication)
            except SyncdError as error:
                _log.warning("publication_lost", channel=publication.channel, code=error.code.value)
            except Exception as error:  # noqa: BLE001 - isolation: it is lost alone
                _log.error("publication_lost", channel=publication.channel, exc_info=error)
        self._read_what_is_lost(message.outcomes)
        self._outcomes += message.outcomes

    def _read_what_is_lost(self, outcomes: Iterable[OutcomeToTell]) -> None:
        """Events that an outcome tells of, but that never came, were lost in a crash of whoever committed them."""
        by_name, gaps = self._rooms.by_name, self._publishing.gaps
        for outcome in outcomes:
            for channel, position in outcome.positions.items():
                if channel in by_name and channel not in gaps and self._lacks(channel, position):
                    self._publishing.look_up(channel, position.offset)

    def take(self, event: CommittedEvent) -> None:
        """Take in an event, if anybody here is to hear of it. What goes wrong with it is mended from the log."""
        if event.channel not in self._rooms.by_name:
            return
        try:
            self._enter(event)
        except Exception as error:  # noqa: BLE001 - isolation: the channel recovers from its log
            _log.error("event_failed", channel=event.channel, exc_info=error)
            self._publishing.read_anew({event.channel})

    def _enter(self, event: CommittedEvent) -> None:
        room = self._rooms.by_name[event.channel]
        stored = StoredEvent(event.offset, event.at_ms, event.key, event.record)
        self._publishing.enter(room, event.epoch, stored, event.full)

    def renew(self, message: RenewChannel) -> None:
        """A volatile channel begins anew; a durable one is read anew, nobody there need come again."""
        self._publishing.read_anew({message.channel})

    # ---------------------------------------------------------------- outcomes

    def settle(self) -> None:
        """Tell the outcomes whose events are queued."""
        for asker in list(self._held):
            self._go_on(asker, self._held[asker])
        outcomes = self._outcomes
        while outcomes:
            outcome = outcomes.popleft()
            held = self._held.get(outcome.asker) if self._held else None
            if held is None and self._blocking(outcome) is None:
                outcome.asker.send_outcome(outcome.outcome, outcome.positions)
                continue
            if held is None:
                held = self._held[outcome.asker] = collections.deque()
            held.append(outcome)
            while len(held) > HELD_OUTCOMES:
                self._lag_blocking(held[0])
                self._go_on(outcome.asker, held)

    def _go_on(self, asker: MutationAsker, held: collections.deque[OutcomeToTell]) -> None:
        while held and self._blocking(held[0]) is None:
            outcome = held.popleft()
            asker.send_outcome(outcome.outcome, outcome.positions)
        if not held:
            del self._held[asker]

    def _lag_blocking(self, outcome: OutcomeToTell) -> None:
        while (subscription := self._blocking(outcome)) is not None:
            room = self._rooms.by_name.get(subscription.channel)
            if room is not None:
                room.remove(subscription)
            subscription.session.lag(subscription)

    def _blocking(self, outcome: OutcomeToTell) -> Subscription | None:
        """Return a subscription of the asker that was not told an event of the outcome yet."""
        for channel, position in outcome.positions.items():
            subscription = outcome.asker.subscription(channel)
            if subscription is not None and self._is_owed(subscription, channel, position):
                return subscription
        return None

    def _is_owed(
        self, subscription: Subscription, channel: ChannelName, position: Position
    ) -> bool:
        if subscription.is_closed or subscription.epoch != position.epoch:
            return False
        if subscription.is_live:
            return channel in self._publishing.gaps and self._lacks(channel, position)
        if subscription.watch is None and subscription.pending_id is not None:
            return False
        return subscription.offset < position.offset

    def _lacks(self, name: ChannelName, position: Position) -> bool:
        """Whether a durable channel has not heard of what was committed."""
        room = self._rooms.by_name.get(name)
        if room is None or room.channel is None or not room.is_durable:
            return False
        return room.channel.epoch == position.epoch and room.channel.top < position.offset

    # ---------------------------------------------------------------- ends

    def left(self) -> list[OutcomeToTell]:
        """Return the outcomes that were not told, in order."""
        held = [outcome for queue in self._held.values() for outcome in queue]
        return [*held, *self._outcomes]

    def stop(self) -> None:
        """For good: tell those that no session waits for events of; sessions end and ask again."""
        for outcome in self.left():
            if all(outcome.asker.subscription(channel) is None for channel in outcome.positions):
                outcome.asker.send_outcome(outcome.outcome, outcome.positions)
        self._held, self._outcomes = {}, collections.deque()
