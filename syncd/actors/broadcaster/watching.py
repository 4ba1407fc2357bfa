"""Watches: a snapshot that others made is joined to the stream of changes, keys come and go, and quiet filters are told positions.

The rule (DESIGN 5.2, SPEC 17): a snapshot is as of `since`; after it every event above `since` that concerns the watch is queued, from
the tail or page by page from the log. A watch that is widened goes back to the lesser of its own position and `since`: what is
told twice is harmless, versions decide; what is not told would be lost. Either all of that can be had, or nothing changes and
`on_lost` says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from syncd.actors.broadcaster.joining import Joining
from syncd.actors.broadcaster.messages import BroadcasterMessage, WatchProbed
from syncd.actors.broadcaster.rooms import Room, Rooms
from syncd.codes import ErrorCode
from syncd.errors import RequestRejected, SyncdError
from syncd.ids import ChannelName, Position
from syncd.model.channel import Channel, Verdict
from syncd.ports import Subscription, Watch
from syncd.ports_collections import NarrowWatch, WatchChannel
from syncd.ports_log import LogPage, LogQuery, StoreHandle
from syncd.wire.encode import mark

__all__ = ["Watching"]

MARKS_PER_SLICE = 500
"""Marks queued between two checkpoints: some 2 ms."""


class Watching:
    """The part of the broadcaster that serves watches."""

    def __init__(
        self,
        rooms: Rooms,
        joining: Joining,
        store: StoreHandle,
        post: Callable[[BroadcasterMessage], None],
        read_anew: Callable[[set[ChannelName]], None],
    ) -> None:
        self._rooms = rooms
        self._joining = joining
        self._store = store
        self._post = post
        self._read_anew = read_anew
        self._probing: dict[WatchChannel, None] = {}
        """The store is asked whether it has what they go on from."""

    # ---------------------------------------------------------------- wider

    def watch(self, command: WatchChannel, *, is_probed: bool = False) -> None:
        """Widen a watch and go on from the snapshot's position, or say that it cannot be done."""
        subscription, watch = command.subscription, command.subscription.watch
        if subscription.is_closed:
            command.on_lost()
            return
        room = self._rooms.open(subscription.channel)
        if room.filters is None or watch is None:
            self._rooms.close_if_idle(room)
            raise RequestRejected(ErrorCode.PERMISSION_DENIED)
        channel = room.channel
        if channel is None:
            self._joining.wait_for_channel(room, command)
        elif subscription.epoch not in (None, channel.epoch):
            subscription.session.lag(
                subscription
            )  # what it watched is of another life of the channel
            room.remove(subscription)
            command.on_lost()
        elif self._joining.looks(room, command.since, command):
            pass
        elif self._needs_probe(channel, command.since) and not is_probed:
            self._probe(channel, command)
        else:
            self._widen(room, channel, command, watch)

    def _needs_probe(self, channel: Channel, since: Position) -> bool:
        """Whether only the log knows: it may have been trimmed, or the snapshot is newer than what we were told."""
        if not channel.is_durable or since.epoch != channel.epoch:
            return False
        return since.offset > channel.top or (
            self._joining.decide(channel, since).verdict is Verdict.IN_STORE
        )

    def _widen(self, room: Room, channel: Channel, command: WatchChannel, watch: Watch) -> None:
        subscription, since = command.subscription, command.since
        start = min(since.offset, _told_offset(room, channel, subscription))
        verdict = self._joining.decide(channel, since).verdict
        if verdict is not Verdict.LOST:
            verdict = channel.recover(Position(channel.epoch, start)).verdict
        if verdict is Verdict.LOST:
            command.on_lost()
            self._rooms.close_if_idle(room)
            return
        is_wider = subscription.epoch is not None
        room.remove(subscription)
        if command.keys is None:
            watch.keys = None
        elif subscription.epoch is None:
            watch.keys = set(command.keys)
        elif watch.keys is not None:
            watch.keys.update(command.keys)
        subscription.is_live = False
        subscription.pending_id, subscription.since = None, None
        subscription.epoch, subscription.offset = channel.epoch, start
        subscription.session.send_event(channel.name, command.prelude)
        if command.has_more:
            subscription.session.page_when_drained(subscription)
        # What its filter kept from it was not told either: then a mark says that the wider one is past it.
        watch.marked = min(watch.marked, start) if is_wider else start
        watch.is_owed_end = watch.is_owed_end or command.is_recovered
        self._joining.catch_up(room, channel, subscription)

    # ---------------------------------------------------------------- is it in the log

    def _probe(self, channel: Channel, command: WatchChannel) -> None:
        after = min(command.since.offset, channel.top)
        self._probing[command] = None

        def done(answer: LogPage | SyncdError) -> None:
            self._post(WatchProbed(command, after, answer))

        self._store.read(LogQuery(channel.name, after=after, limit=1), done)

    def probed(self, message: WatchProbed) -> None:
        """The store's answer: the log joins on to the snapshot, or the watch is lost."""
        command, answer = message.command, message.answer
        if command not in self._probing:
            return  # asked before a crash of ours, and told lost
        del self._probing[command]
        room = self._rooms.by_name.get(command.subscription.channel)
        if isinstance(answer, SyncdError):
            command.on_lost()
            return
        if room is None or room.channel is None:
            self.watch(command)
            return
        channel, since = room.channel, command.since
        joins_on = bool(answer.events) and answer.events[0].offset == message.after + 1
        joins_on = joins_on and answer.head.epoch == channel.epoch
        if since.offset > channel.top:
            if joins_on:  # the log is ahead of us: somebody crashed between a commit and telling us
                self._read_anew({room.name})
                self.watch(command)
            else:
                command.on_lost()
        elif since.offset != message.after or channel.recover(since).verdict is Verdict.RECOVERED:
            self.watch(command)  # we have caught up meanwhile
        elif joins_on:
            self.watch(command, is_probed=True)
        else:
            command.on_lost()

    # ---------------------------------------------------------------- narrower

    def narrow(self, command: NarrowWatch) -> None:
        """Tell these keys no more; also not by what is still to be widened. A watch of everything stays one."""
        subscription = command.subscription
        room = self._rooms.by_name.get(subscription.channel)
        if room is None or room.filters is None:
            return
        room.filters.narrow(subscription, command.keys)
        gone = set(command.keys)
        for waiting in (*self._probing, *room.waiting):
            if not isinstance(waiting, WatchChannel) or waiting.subscription is not subscription:
                continue
            if waiting.keys is not None:
                waiting.keys = [key for key in waiting.keys if key not in gone]

    # ---------------------------------------------------------------- positions

    def marks(self) -> Iterator[None]:
        """Tell filtered watches how far they are, room by room; yields after every slice."""
        due, self._rooms.due_marks = self._rooms.due_marks, []
        for room in due:
            live = list(room.filters.live) if room.filters is not None else []
            for start in range(0, len(live), MARKS_PER_SLICE):
                self._mark(room, live[start : start + MARKS_PER_SLICE])
                yield

    def _mark(self, room: Room, subscriptions: Iterable[Subscription]) -> None:
        channel, filters = room.channel, room.filters
        if channel is None or filters is None or room.run:
            room.marked_at_ms = 0  # a run is being delivered: its room is looked at again
            return
        message = mark(channel.name, channel.epoch, channel.top)
        for subscription in subscriptions:
            watch = subscription.watch
            if subscription.is_closed or watch is None or subscription not in filters.live:
                continue
            subscription.offset = channel.top
            if watch.marked < channel.top:
                watch.marked = channel.top
                subscription.session.send_event(channel.name, message)

    def lose(self) -> None:
        """After a crash: who waits for us is to make its snapshot again."""
        waiting = [command for room in self._rooms.by_name.values() for command in room.waiting]
        for command in (*self._probing, *waiting):
            if isinstance(command, WatchChannel):
                command.on_lost()
        self._probing = {}

    def stop(self, error: SyncdError) -> None:
        """For good: the store's answer will find nobody."""
        for command in self._probing:
            self._joining.refuse(command.subscription, error)
        self._probing = {}


def _told_offset(room: Room, channel: Channel, subscription: Subscription) -> int:
    """Up to where a subscription was told everything it watched; its snapshot's position if it did not watch."""
    if subscription.epoch is None:
        return channel.top
    if subscription in room.late:
        return channel.top - len(room.run) + room.late[subscription]
    if subscription.is_live and room.holds(subscription):
        return max(subscription.offset, channel.top - len(room.run))
    return subscription.offset
