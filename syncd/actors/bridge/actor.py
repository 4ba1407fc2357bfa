"""The bridge: hands what other nodes commit and publish to the rooms of this one, and tells them what they may have missed.

Owner of: what is wanted of the bus, what was lost on the way. Waits for nobody: facts go up by `submit_nowait`; when a mailbox is full they are
dropped, and the channels concerned are looked up in the store a moment later. Invariant (RECOVER): whatever the bus has lost, or a full mailbox,
is followed by a `CheckChannels` that names the channel, sent when its topic is subscribed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar, cast

import attrs
import msgpack
import structlog
import trio

from syncd.actors.bridge.interest import Interest, Interests
from syncd.errors import ActorStopped, MailboxFull, SyncdError
from syncd.ids import ChannelName, Position
from syncd.ports_bus import BusEvents, BusPort, BusStatistics
from syncd.ports_collections import CommittedEvent, RenewChannel
from syncd.ports_log import ChannelHead
from syncd.ports_shared import (
    CheckChannels,
    EphemeralEvent,
    LoadsEnded,
    RemoteEvents,
    RemotePublications,
    RenewEntries,
)
from syncd.ports_state import StateReader
from syncd.store.redis_keys import RedisNames, decode_message

__all__ = ["Bridge", "BridgeStatistics", "Bus"]

T = TypeVar("T")

_log = structlog.get_logger("syncd.bridge")

TICK_S = 0.25
"""Between two looks at what was lost on the way up."""
CHECK_S = 10.0
"""Between two looks at every channel's log: finds what the bus has lost without knowing it."""


class Bus(BusPort, Protocol):
    """A bus that is run by the bridge."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""


class StateReads(Protocol):
    """The store actor, as the bridge sees it."""

    def read_state(
        self, work: Callable[[StateReader], T], done: Callable[[T | SyncdError], None]
    ) -> None:
        """See `StateStoreHandle.read_state`."""


class Room(Protocol):
    """Whoever is told: the broadcaster or the cache-owner."""

    def submit_nowait(self, commands: Sequence[Any], size_bytes: int) -> None:
        """Hand over all or none; raises `MailboxFull` or `ActorStopped`."""


@attrs.frozen
class BridgeStatistics:
    """The bridge at one moment; counters count since start."""

    bus: BusStatistics | None
    """None while it starts."""
    num_remote_events: int
    num_remote_publications: int
    num_checks: int
    """Channels looked up in the store because something may have been lost."""
    num_overflows: int
    """Batches dropped because a mailbox was full."""
    num_bad_messages: int


def _beginning_of(node: str) -> bytes:
    """Return how all begins that a node publishes, in scripts or by itself: a list of three, of which its name is the first."""
    return cast("bytes", msgpack.packb((node, None, None)))[:-2]


class Bridge:
    """Actor (see the module's docstring). Implements `BridgeHandle`."""

    name = "bridge"

    def __init__(
        self,
        *,
        node: str,
        names: RedisNames,
        make_bus: Callable[[BusEvents], Bus],
        store: StateReads,
        is_unsure: Callable[[], bool],
        chance: Callable[[], float],
    ) -> None:
        """Start nothing.

        Args:
            node: Name of this node in what it publishes.
            make_bus: Makes the bus that tells us; called at each start.
            store: Asked where logs end.
            is_unsure: Whether a commit of this node may have happened, or happen yet, without an answer: then its echo is news.
            chance: Between 0 and 1, so that nodes do not all look at once.
        """
        self._node = node
        self._own = _beginning_of(node)
        self._names = names
        self._make_bus = make_bus
        self._store = store
        self._is_unsure = is_unsure
        self._chance = chance
        self._bus: Bus | None = None
        self._interests = Interests()
        self.interest = Interest(self._interests, self._topic, self._note_lost)
        """The broadcaster's."""
        self.entries_interest = Interest(self._interests, self._topic, self._note_lost)
        """The cache-owner's."""
        self._rooms: dict[Interest, Room] = {}
        self._lost: dict[Interest, dict[ChannelName, None]] = {}
        """To be looked up with the next tick."""
        self._ephemeral = f"{names.prefix}:x:".encode()
        self.is_up = False
        self._num_events = self._num_publications = self._num_checks = 0
        self._num_overflows = self._num_bad = 0

    def connect(self, broadcaster: Room, cache_owner: Room) -> None:
        """Say who is told. Called once, before the start."""
        self._rooms = {self.interest: broadcaster, self.entries_interest: cache_owner}

    def _topic(self, channel: ChannelName, is_ephemeral: bool) -> bytes:  # noqa: FBT001 - a callback of one argument each
        if is_ephemeral:
            return self._ephemeral + channel.encode()
        return self._names.bus(channel).encode()

    # ---------------------------------------------------------------- ports_shared.BridgeHandle

    def publish(self, channel: ChannelName, key: str | None, record: bytes) -> None:
        """See `BridgeHandle.publish`."""
        if self._bus is not None:
            topic = self._ephemeral + channel.encode()
            self._bus.publish(topic, msgpack.packb((self._node, key, record)))

    def heads(
        self,
        known: Mapping[ChannelName, Position],
        done: Callable[[list[ChannelHead] | SyncdError], None],
    ) -> None:
        """See `BridgeHandle.heads`."""
        channels = list(known)

        def work(reader: StateReader) -> list[ChannelHead]:
            return reader.heads(channels, known)

        self._store.read_state(work, done)

    def statistics(self) -> BridgeStatistics:
        """Return counts for health pages and metrics."""
        return BridgeStatistics(
            None if self._bus is None else self._bus.statistics(),
            self._num_events,
            self._num_publications,
            self._num_checks,
            self._num_overflows,
            self._num_bad,
        )

    # ---------------------------------------------------------------- kit.Actor

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled. Ready at once: a node starts while the bus is away, and says so."""
        bus = self._bus = self._make_bus(self)
        self._interests.want, self._interests.unwant = bus.want, bus.unwant
        bus.want(self._interests.topics())
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(bus.run)
                task_status.started()
                await self._tick()
        finally:
            self.is_up = False

    def recover(self) -> None:
        """Prepare for another `run`: the new bus subscribes everything anew, and tells a gap of each."""
        self._bus = None

    async def _tick(self) -> None:
        check_at = trio.current_time() + CHECK_S * (0.5 + self._chance())
        while True:
            await trio.sleep(TICK_S)
            lost, self._lost = self._lost, {}
            for interest, channels in lost.items():
                self._tell_check(interest, list(channels))
            if self.is_up and trio.current_time() >= check_at:
                check_at = trio.current_time() + CHECK_S * (0.5 + self._chance())
                for interest in self._rooms:
                    self._submit(interest, [CheckChannels(None)], ())

    # ---------------------------------------------------------------- ports_bus.BusEvents

    def on_link(self, *, is_up: bool) -> None:
        """See `BusEvents.on_link`."""
        self.is_up = is_up
        if is_up:
            _log.info("bus_up")
        else:
            _log.error("bus_down")

    def on_gap(self, topics: Sequence[bytes]) -> None:
        """See `BusEvents.on_gap`."""
        by_interest: dict[Interest, list[ChannelName]] = {}
        for topic in topics:
            channel = self._interests.channel(topic)
            if channel is None or topic.startswith(self._ephemeral):
                continue
            for interest in self._interests.holders(topic):
                by_interest.setdefault(interest, []).append(channel)
        for interest, channels in by_interest.items():
            self._tell_check(interest, channels)

    def on_messages(self, batch: list[tuple[bytes, bytes]]) -> None:
        """See `BusEvents.on_messages`."""
        events: dict[Interest, list[CommittedEvent]] = {}
        publications: list[EphemeralEvent] = []
        for topic, payload in batch:
            try:
                if topic.startswith(self._ephemeral):
                    self._take_publication(topic, payload, publications)
                else:
                    self._take_events(topic, payload, events)
            except (ValueError, TypeError, msgpack.UnpackException) as error:
                self._note_bad(topic, error)
        for interest, taken in events.items():
            self._submit(interest, [RemoteEvents(taken)], {event.channel for event in taken})
        if publications:
            self._submit(self.interest, [RemotePublications(publications)], ())

    def _take_events(
        self, topic: bytes, payload: bytes, events: dict[Interest, list[CommittedEvent]]
    ) -> None:
        channel = self._interests.channel(topic)
        if channel is None:
            return
        if payload.startswith(self._own) and not self._is_unsure():
            return  # told by the commit itself
        message = decode_message(payload)
        epoch = message.epoch
        if message.renewed_at:
            self._renew(topic, channel)
            return
        if message.ended:
            if self.entries_interest in self._interests.holders(topic):
                self._submit(self.entries_interest, [LoadsEnded(channel, message.ended)], ())
            return
        taken = [
            CommittedEvent(channel, epoch, e.offset, e.at_ms, e.key, e.record, e.full)
            for e in message.events
        ]
        self._num_events += len(taken)
        for interest in self._interests.holders(topic):
            events.setdefault(interest, []).extend(taken)

    def _renew(self, topic: bytes, channel: ChannelName) -> None:
        """All entries of a channel are others now: whoever watches it begins anew, and memory forgets it."""
        for interest in self._interests.holders(topic):
            told = RenewEntries if interest is self.entries_interest else RenewChannel
            self._submit(interest, [told(channel)], (channel,))

    def _take_publication(self, topic: bytes, payload: bytes, taken: list[EphemeralEvent]) -> None:
        channel = self._interests.channel(topic)
        if channel is None:
            return
        if payload.startswith(self._own):
            return
        _node, key, record = msgpack.unpackb(payload)
        if not isinstance(key, str | None) or not isinstance(record, bytes):
            raise TypeError("a publication of another form")
        self._num_publications += 1
        taken.append(EphemeralEvent(channel, key, record))

    def _note_bad(self, topic: bytes, error: Exception) -> None:
        self._num_bad += 1
        if self._num_bad == 1:
            _log.error("bad_bus_message", topic=topic.decode(errors="replace"), error=str(error))

    # ---------------------------------------------------------------- up

    def _tell_check(self, interest: Interest, channels: list[ChannelName]) -> None:
        self._num_checks += len(channels)
        self._submit(interest, [CheckChannels(channels)], channels)

    def _note_lost(self, interest: Interest, channel: ChannelName) -> None:
        self._lost.setdefault(interest, {})[channel] = None

    def _submit(
        self,
        interest: Interest,
        messages: Sequence[
            RemoteEvents
            | RemotePublications
            | CheckChannels
            | RenewChannel
            | RenewEntries
            | LoadsEnded
        ],
        channels: Sequence[ChannelName] | set[ChannelName],
    ) -> None:
        """Hand over, or have these channels looked up a moment later."""
        try:
            self._rooms[interest].submit_nowait(messages, 0)
        except MailboxFull:
            self._num_overflows += 1
            for channel in channels:
                self._note_lost(interest, channel)
        except ActorStopped:
            pass  # the node stops
