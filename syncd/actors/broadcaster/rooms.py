"""A channel as the broadcaster holds it: its state, who is subscribed, and what this tick has for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import attrs

from syncd.actors.broadcaster.filters import Filters
from syncd.codes import ErrorCode
from syncd.config import HistoryKind, Mode, Namespace
from syncd.errors import RequestRejected
from syncd.ids import ChannelName, Epoch, Position
from syncd.model.channel import Channel
from syncd.ports import BroadcasterCommand, ChannelInfo, Subscription
from syncd.ports_collections import WatchChannel
from syncd.ports_log import ChannelHead, StoredEvent
from syncd.ports_shared import InterestHandle
from syncd.wire.channels import namespace_of
from syncd.wire.encode import EventPrefix

__all__ = ["Room", "Rooms"]

ROOMS_PER_EVICTION = 64
"""Looked at when the node's memory for events is used up: bounds what one publication pays."""
MARK_MS = 25_000
"""Between two marks of a room for its filtered watches; with the sweep over all rooms they are never further apart than a minute."""


@attrs.define(eq=False)
class Room:
    """One channel with somebody in it, or with events kept in memory."""

    name: ChannelName
    namespace: Namespace
    channel: Channel | None
    """None for ephemeral channels, and for durable ones until the store has answered."""
    subscribers: dict[Subscription, None] = attrs.field(factory=dict)
    """Live ones, in order of arrival; without those of `filters`."""
    catching_up: dict[Subscription, bool] = attrs.field(factory=dict)
    """Those who are still being sent what they missed; True: not begun yet, it waits for its session's turn."""
    run: list[tuple[str | None, bytes]] = attrs.field(factory=list)
    """(key, message) of this tick, for everybody live."""
    late: dict[Subscription, int] = attrs.field(factory=dict)
    """Who went live during this tick, and how much of `run` came before."""
    prefix: EventPrefix | None = None
    """Of an ephemeral channel's events; the others' is their channel's."""
    is_latest: bool = False
    is_plain: bool = False
    """A memory channel with positions: publications need nobody else."""
    is_counted: bool = False
    """Its events count against the node's memory for events."""
    filters: Filters | None = None
    """Watches of some keys; only of a collection's channel."""
    fulls: dict[int, bytes] | None = None
    """Messages with the whole value, by index in `run`, where that tells a patch."""
    marked_at_ms: int = 0
    num_ephemeral: int = 0
    """Events of an ephemeral channel since the room was opened; others count by their offsets."""
    is_loading: bool = False
    is_unsure: bool = False
    """Something may have been lost while it was loaded: it is checked again."""
    waiting: list[BroadcasterCommand | WatchChannel] = attrs.field(factory=list)
    """Commands that wait for the store's answer."""
    early: list[tuple[Epoch, StoredEvent]] = attrs.field(factory=list)
    """Events committed while the channel is being loaded."""

    @property
    def is_ephemeral(self) -> bool:
        """Whether the channel has no positions."""
        return self.namespace.mode is Mode.EPHEMERAL

    @property
    def is_durable(self) -> bool:
        """Whether the store has its log."""
        return self.namespace.history is HistoryKind.DURABLE

    def go_live(self, subscription: Subscription) -> None:
        """Deliver to this subscription from here on."""
        subscription.is_live = True
        if self.run:
            self.late[subscription] = len(self.run)
        else:
            self.place(subscription)

    def place(self, subscription: Subscription) -> None:
        """Deliver whole runs to it, or what its filter lets through."""
        if self.filters is not None and subscription in self.filters:
            self.filters.live[subscription] = None
        else:
            self.subscribers[subscription] = None

    def remove(self, subscription: Subscription) -> None:
        """Deliver nothing more to it."""
        if self.filters is not None:
            self.filters.discard(subscription)
        self.subscribers.pop(subscription, None)
        self.catching_up.pop(subscription, None)
        self.late.pop(subscription, None)

    def holds(self, subscription: Subscription) -> bool:
        """Whether it is live or catching up here."""
        return (
            subscription in self.subscribers
            or subscription in self.catching_up
            or subscription in self.late
            or (self.filters is not None and subscription in self.filters.live)
        )

    def is_catching_up(self, subscription: Subscription) -> bool:
        """Whether it is still owed events; not once its end was told, whether or not we have heard of that."""
        return subscription in self.catching_up and not subscription.is_closed

    def forget_channel(self) -> list[Subscription]:
        """Hold no state, so that it is loaded anew; returns who has to be resumed then."""
        subscriptions = [*self.subscribers, *self.catching_up, *self.late]
        self.subscribers, self.catching_up, self.late = {}, {}, {}
        if self.filters is not None:
            subscriptions += self.filters.live
            self.filters, self.fulls = Filters(), None
        self.channel, self.run = None, []
        for subscription in subscriptions:
            subscription.is_live = False
        return subscriptions

    def forget_run(self) -> None:
        """It was delivered."""
        self.run, self.late, self.fulls = [], {}, None

    def info(self) -> ChannelInfo:
        """Return what operators see."""
        channel, count = self.channel, self.num_present()
        if channel is None:
            return ChannelInfo(self.name, count, None, 0, self.num_ephemeral)
        return ChannelInfo(self.name, count, channel.epoch, channel.top, channel.top)

    def num_present(self) -> int:
        """Return how many are live here or about to be."""
        num_filtered = 0 if self.filters is None else len(self.filters.live)
        return len(self.subscribers) + len(self.catching_up) + len(self.late) + num_filtered

    def num_watching(self, key: str) -> int:
        """Return how many would be told a change of an entry."""
        if self.filters is None:
            return 0
        return self.num_present() - len(self.filters) + len(self.filters.watching(key))

    def is_in_use(self) -> bool:
        """Whether somebody is there, or about to be."""
        if self.filters is not None and self.filters.live:
            return True
        return bool(self.subscribers or self.catching_up or self.run or self.late)

    def is_idle(self) -> bool:
        """Whether nothing would be lost by forgetting the room."""
        if self.is_in_use() or self.is_loading:
            return False
        return self.channel is None or self.is_durable or self.channel.is_empty()


class Rooms:
    """All rooms of a node, bounded in number."""

    def __init__(
        self,
        namespaces: dict[str, Namespace],
        max_rooms: int,
        max_bytes: int,
        new_epoch: Callable[[], Epoch],
        volatile_head: Callable[[ChannelName], Position] | None = None,
        interest: InterestHandle | None = None,
    ) -> None:
        """Hold none.

        Args:
            volatile_head: Where a volatile collection's channel stands.
            interest: Is told of which channels this node is to hear from others.
        """
        self._interest = interest
        if interest is not None:
            interest.leave_all()
        self._namespaces = namespaces
        self._volatile_head = volatile_head
        self._max_rooms = max_rooms
        self._new_epoch = new_epoch
        self.by_name: dict[ChannelName, Room] = {}
        self._sweep: list[ChannelName] = []
        self._to_evict: list[ChannelName] = []
        self.max_bytes = max_bytes
        self.memory_bytes = 0
        """Of the events of memory channels; loaded tails of durable ones are bounded by their subscribers."""
        self.due_marks: list[Room] = []
        """Rooms whose filtered watches should be told where the channel stands; taken by who tells them."""

    def namespace(self, channel: ChannelName) -> Namespace:
        """Return a channel's namespace.

        Raises:
            RequestRejected: permission_denied, as for any channel that does not exist.
        """
        namespace = self._namespaces.get(namespace_of(channel))
        if namespace is None:
            raise RequestRejected(ErrorCode.PERMISSION_DENIED)
        return namespace

    def num_watching(self, channel: ChannelName, key: str) -> int:
        """Return how many would be told a change of an entry."""
        room = self.by_name.get(channel)
        return 0 if room is None else room.num_watching(key)

    def is_watched(self, channel: ChannelName) -> bool:
        """Return whether anybody watches entries of a channel, or is about to."""
        room = self.by_name.get(channel)
        return room is not None and room.filters is not None and room.is_in_use()

    def infos(self, prefix: str, limit: int) -> list[ChannelInfo]:
        """Return what there is to tell of rooms whose names begin so, by name."""
        names = sorted(name for name in self.by_name if name.startswith(prefix))
        return [self.by_name[name].info() for name in names[:limit]]

    def each_info(self) -> Iterator[ChannelInfo]:
        """Yield what there is to tell of the rooms that are there now."""
        return (room.info() for room in list(self.by_name.values()))

    def num_subscribers(self, channel: ChannelName) -> int:
        """Return how many are in a channel."""
        room = self.by_name.get(channel)
        return 0 if room is None else room.num_present()

    def open(self, channel: ChannelName) -> Room:
        """Return the channel's room, made if there is none.

        Raises:
            RequestRejected: limit_exceeded when the node holds as many as it may.
        """
        room = self.by_name.get(channel)
        if room is not None:
            return room
        if len(self.by_name) >= self._max_rooms:
            raise RequestRejected(ErrorCode.LIMIT_EXCEEDED, "The node holds too many channels.")
        namespace = self.namespace(channel)
        is_counted = (
            namespace.mode is not Mode.EPHEMERAL and namespace.history is not HistoryKind.DURABLE
        )
        is_collection = namespace.mode is Mode.COLLECTION
        is_plain = is_counted and not is_collection
        state = Channel(channel, namespace, self._new_epoch()) if is_plain else None
        if is_counted and is_collection:
            state = self._volatile(channel, namespace)
        room = self.by_name[channel] = Room(
            channel, namespace, state, is_latest=namespace.mode is Mode.LATEST, is_plain=is_plain
        )
        if self._interest is not None:
            self._interest.enter(channel, is_ephemeral=room.is_ephemeral)
        room.is_counted = is_counted
        room.filters = Filters() if is_collection else None
        return room

    def _volatile(self, name: ChannelName, namespace: Namespace) -> Channel:
        """Return the channel of a volatile collection as its owner has it now: what was before is not kept here."""
        assert self._volatile_head is not None
        head = self._volatile_head(name)
        channel = Channel(name, namespace, head.epoch)
        channel.load(ChannelHead(head.epoch, head.offset, head.offset), ())
        return channel

    def count(self, room: Room, channel: Channel, before_bytes: int) -> None:
        """A channel's events take another size than before: if its room counts and that is too much, others make room."""
        if room.is_counted:
            self.memory_bytes += channel.size_bytes - before_bytes
            if self.memory_bytes > self.max_bytes:
                self.make_room(channel)

    def forget(self, room: Room) -> list[Subscription]:
        """Forget a room with its events; returns who was there, no longer live."""
        if room.is_counted and room.channel is not None:
            self.memory_bytes -= room.channel.size_bytes
        self._close(room)
        return room.forget_channel()

    def _close(self, room: Room) -> None:
        if self.by_name.pop(room.name, None) is not None and self._interest is not None:
            self._interest.leave(room.name)

    def make_room(self, channel: Channel) -> None:
        """A memory channel's events grew past what all may hold together (`memory_bytes`): the oldest make room.

        Channels without subscribers lose their events first, in the order in which they were opened; if that is not enough, the
        channel that grew does: whoever recovers from there is told `recovered: false`.
        """
        if not self._to_evict:
            self._to_evict = list(reversed(self.by_name))
        for _ in range(min(ROOMS_PER_EVICTION, len(self._to_evict))):
            room = self.by_name.get(self._to_evict.pop())
            if room is None or room.channel is None:
                continue
            if room.is_counted and not room.is_in_use():
                self._forget_events(room.channel)
                self.close_if_idle(room)
        if self.memory_bytes > self.max_bytes:
            self._forget_events(channel)

    def _forget_events(self, channel: Channel) -> None:
        self.memory_bytes -= channel.size_bytes
        channel.forget_events()

    def close_if_idle(self, room: Room) -> None:
        """Forget a room that holds nothing. A memory channel that was empty comes back in a new epoch."""
        if room.is_idle():
            self._close(room)

    def sweep(self, now_ms: int, max_rooms: int) -> None:
        """Expire events by age and forget idle rooms, a slice of the node's rooms at a time."""
        if not self._sweep:
            self._sweep = list(self.by_name)
        for _ in range(min(max_rooms, len(self._sweep))):
            room = self.by_name.get(self._sweep.pop())
            if room is None:
                continue
            if room.channel is not None:
                before = room.channel.size_bytes
                room.channel.expire(now_ms - int(room.namespace.history_age_s * 1000))
                if room.is_counted:
                    self.memory_bytes += room.channel.size_bytes - before
            if room.filters is not None and room.filters.live:
                self._note_mark(room, now_ms)
            self.close_if_idle(room)

    def _note_mark(self, room: Room, now_ms: int) -> None:
        if abs(now_ms - room.marked_at_ms) >= MARK_MS:  # a wall clock may go back
            room.marked_at_ms = now_ms
            self.due_marks.append(room)
