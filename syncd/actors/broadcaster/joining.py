"""Subscribing: recovery from tail or log, catching up at the session's pace, and history.

The rule (DESIGN 5.2): all or nothing. `subscribed` decides; what is missed beyond `limits.recovery_bytes` follows it as event frames, page by
page while the session drains, and the last page is taken from the tail in the same step that puts the subscription live. A page
that does not join on (retention overtook it) ends in `lagged`. Watches catch up by the same pages, thinned out by their filter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from syncd.actors.broadcaster.filters import is_filtered, wanted
from syncd.actors.broadcaster.messages import (
    BroadcasterMessage,
    ChannelRead,
    PageRead,
)
from syncd.actors.broadcaster.pacing import Pace
from syncd.actors.broadcaster.rooms import Room, Rooms
from syncd.codes import ErrorCode
from syncd.config import Config, Mode
from syncd.errors import RequestRejected, SyncdError
from syncd.ids import Position
from syncd.model.channel import TAIL_BYTES, TAIL_EVENTS, Channel, Recovery, Verdict
from syncd.ports import BroadcasterCommand, SubscribeChannel, Subscription
from syncd.ports_collections import WatchChannel
from syncd.ports_log import LoadedChannel, LogPage, LogQuery, StoredEvent, StoreHandle
from syncd.wire import encode

__all__ = ["Joining", "num_fitting"]


class Joining:
    """The subscribing half of the broadcaster."""

    def __init__(
        self,
        config: Config,
        rooms: Rooms,
        store: StoreHandle,
        post: Callable[[BroadcasterMessage], None],
        pace: Pace,
    ) -> None:
        self._limits = config.limits
        self._rooms = rooms
        self._store = store
        self._post = post
        self._pace = pace
        self.looks: Callable[[Room, Position | None, SubscribeChannel | WatchChannel], bool] = (
            lambda _room, _position, _command: False
        )
        """Whether a position is ahead of what this node was told, so that the store is looked at first. Set by `Sharing`."""
        self.num_recovered = 0
        self.num_unrecovered = 0

    # ---------------------------------------------------------------- come and go

    def subscribe(self, subscription: Subscription) -> None:
        """Put a subscription live, now or when the store has answered."""
        if subscription.is_closed:
            return
        room = self._rooms.open(subscription.channel)
        if room.holds(subscription):
            return  # it stood in the mailbox and in what was handed over after a crash
        if room.filters is not None and (subscription.watch is None or subscription.epoch is None):
            self._rooms.close_if_idle(room)
            raise RequestRejected(ErrorCode.PERMISSION_DENIED)
        if room.is_ephemeral:
            room.go_live(subscription)
            self._answer(subscription, room, recovered=False, events=())
        elif room.channel is None:
            self.wait_for_channel(room, SubscribeChannel(subscription))
        elif room.filters is not None:
            self.catch_up(room, room.channel, subscription)
        elif not self.looks(room, subscription.since, SubscribeChannel(subscription)):
            self._join(room, room.channel, subscription)

    def resume(self, subscription: Subscription) -> None:
        """After a loss of state: go on from the last position queued, or answer what was never answered."""
        room = self._rooms.by_name.get(subscription.channel)
        if subscription.is_closed or (room is not None and room.holds(subscription)):
            return
        if subscription.watch is not None and subscription.epoch is None:
            return  # not begun: whoever makes its snapshot hands it over, or was told to do so again
        if subscription.pending_id is None and subscription.epoch is not None:
            subscription.since = Position(subscription.epoch, subscription.offset)
        subscription.is_live = False
        self.subscribe(subscription)

    def leave(self, subscription: Subscription) -> None:
        """Deliver nothing more to it."""
        subscription.is_live = False
        room = self._rooms.by_name.get(subscription.channel)
        if room is not None:
            room.remove(subscription)
            self._rooms.close_if_idle(room)

    @staticmethod
    def refuse(subscription: Subscription, error: SyncdError) -> None:
        """A subscription that cannot be served ends: its request with the error; one that was live is to come again."""
        if subscription.is_closed:
            return
        is_watching = subscription.watch is not None and subscription.epoch is not None
        if subscription.pending_id is None or is_watching:
            subscription.session.lag(subscription)
        else:
            subscription.session.end_subscription(subscription, error)

    @staticmethod
    def refuse_watch(command: WatchChannel, error: SyncdError) -> None:
        """A first watch that cannot be served ends with the error; one that is there lags. Whoever made the snapshot is told."""
        Joining.refuse(command.subscription, error)
        command.on_lost()

    # ---------------------------------------------------------------- recovery

    def _join(self, room: Room, channel: Channel, subscription: Subscription) -> None:
        since = subscription.since
        recovery = Recovery(Verdict.LOST) if since is None else self.decide(channel, since)
        verdict = recovery.verdict
        events = channel.state() if verdict is Verdict.LOST else recovery.events
        if (events or verdict is Verdict.IN_STORE) and not self._pace.has_turn(subscription):
            room.catching_up[subscription] = True
        elif verdict is Verdict.IN_STORE and since is not None:
            room.catching_up[subscription] = False
            subscription.epoch, subscription.offset = channel.epoch, since.offset
            self._read_page(channel, subscription)
        else:
            self._enter(room, channel, subscription, events, recovered=verdict is Verdict.RECOVERED)

    def decide(self, channel: Channel, since: Position) -> Recovery:
        """Decide what a position is worth; too many missed events count as lost."""
        if channel.top - since.offset > self._limits.recovery_events and not channel.is_latest:
            return Recovery(Verdict.LOST)
        return channel.recover(since)

    def _enter(
        self,
        room: Room,
        channel: Channel,
        subscription: Subscription,
        events: Sequence[StoredEvent],
        *,
        recovered: bool,
    ) -> None:
        """Answer with what fits; live at once if that is all, else catching up."""
        count = num_fitting(events, self._limits.recovery_bytes)
        is_all = count == len(events)
        subscription.epoch = channel.epoch
        subscription.offset = channel.top if is_all else events[count - 1].offset
        self._answer(subscription, room, recovered=recovered, events=events[:count])
        if events:
            self._pace.note_page(subscription.session)
        if is_all:
            room.go_live(subscription)
        else:
            room.catching_up[subscription] = False
            self._pace.later(subscription)

    def _answer(
        self,
        subscription: Subscription,
        room: Room,
        *,
        recovered: bool,
        events: Sequence[StoredEvent],
    ) -> None:
        """Send `subscribed`. After a crash of ours, a subscription that missed nothing is told only its events."""
        channel, since = room.channel, subscription.since
        was_recovering = since is not None
        bodies = [] if channel is None else channel.bodies(events)
        request_id, subscription.pending_id, subscription.since = (
            subscription.pending_id,
            None,
            None,
        )
        if was_recovering:
            self.num_recovered += recovered
            self.num_unrecovered += not recovered
        if request_id is None and (recovered or channel is None):
            _send_events(subscription, channel, events)
            return
        subscription.session.send(
            encode.subscribed(
                request_id,
                subscription.channel,
                None if channel is None else channel.epoch,
                subscription.offset,
                was_recovering=was_recovering,
                recovered=recovered,
                bodies=bodies,
            )
        )

    # ---------------------------------------------------------------- catching up

    def catch_up(self, room: Room, channel: Channel, subscription: Subscription) -> None:
        """Tell a watch what came after its position, at once or in pages, then live. If that cannot be had, it lags."""
        assert subscription.epoch is not None
        recovery = channel.recover(Position(subscription.epoch, subscription.offset))
        if recovery.verdict is Verdict.LOST:
            self._lag(room, subscription)
            return
        room.catching_up[subscription] = False
        if room.filters is not None and is_filtered(subscription):
            room.filters.add(subscription)
        if recovery.verdict is Verdict.RECOVERED and not wanted(subscription, recovery.events):
            self._send_page(room, channel, subscription, recovery.events)
        else:
            self.go_on(subscription)

    def go_on(self, subscription: Subscription) -> None:
        """Send the next page to a subscription that is catching up, or have it called when there is room."""
        room = self._rooms.by_name.get(subscription.channel)
        if room is None or room.channel is None or not room.is_catching_up(subscription):
            return
        channel = room.channel
        if room.catching_up[subscription]:
            del room.catching_up[subscription]
            self._join(room, channel, subscription)
            return
        if subscription.epoch is None or not self._pace.has_turn(subscription):
            return
        recovery = channel.recover(Position(subscription.epoch, subscription.offset))
        if recovery.verdict is Verdict.IN_STORE:
            self._read_page(channel, subscription)
        elif recovery.verdict is Verdict.LOST:
            self._lag(room, subscription)
        else:
            self._send_page(room, channel, subscription, recovery.events)

    def _send_page(
        self,
        room: Room,
        channel: Channel,
        subscription: Subscription,
        events: Sequence[StoredEvent],
    ) -> None:
        """Send what fits as event frames; live with the last of them."""
        events = wanted(subscription, events)
        if events or subscription.watch is None:
            self._pace.note_page(subscription.session)
        count = num_fitting(events, self._limits.recovery_bytes)
        _send_events(subscription, channel, events[:count])
        if count == len(events):
            subscription.offset = channel.top
            room.catching_up.pop(subscription, None)
            subscription.since = None
            _mark_end(channel, subscription)
            room.go_live(subscription)
        else:
            subscription.offset = events[count - 1].offset
            self._pace.later(subscription)

    def _read_page(self, channel: Channel, subscription: Subscription) -> None:
        after = subscription.offset
        self._pace.begin_read(subscription.session)
        query = LogQuery(channel.name, after=after, max_bytes=self._limits.recovery_bytes)

        def done(answer: LogPage | SyncdError) -> None:
            self._post(PageRead(subscription, after, answer))

        self._store.read(query, done)

    def page_read(self, message: PageRead) -> None:
        """The store's page: joins on to the position, or the subscription lags."""
        subscription, answer = message.subscription, message.answer
        self._pace.end_read(subscription.session)
        room = self._rooms.by_name.get(subscription.channel)
        if room is None or room.channel is None or not room.is_catching_up(subscription):
            return
        if room.catching_up[subscription] or message.after != subscription.offset:
            return  # asked before a crash of ours: it has not begun anew, or went on since
        self._pace.note_page(subscription.session)
        if isinstance(answer, SyncdError):
            room.remove(subscription)
            self.refuse(subscription, answer)
            return
        channel, events = room.channel, answer.events
        joins_on = bool(events) and events[0].offset == message.after + 1
        joins_on = joins_on and answer.head.epoch == channel.epoch
        if subscription.pending_id is not None and subscription.watch is None:
            self._answer_page(room, channel, subscription, events if joins_on else None)
        elif joins_on:
            _send_events(subscription, channel, wanted(subscription, events))
            subscription.offset = events[-1].offset
            self._pace.later(subscription)
        else:
            self._lag(room, subscription)

    def _answer_page(
        self,
        room: Room,
        channel: Channel,
        subscription: Subscription,
        events: Sequence[StoredEvent] | None,
    ) -> None:
        if events is None:
            room.catching_up.pop(subscription, None)
            self._enter(room, channel, subscription, (), recovered=False)
            return
        subscription.offset = events[-1].offset
        self._answer(subscription, room, recovered=True, events=events)
        self._pace.later(subscription)

    def _lag(self, room: Room, subscription: Subscription) -> None:
        room.remove(subscription)
        subscription.is_live = False
        subscription.session.lag(subscription)

    # ---------------------------------------------------------------- channels from the store

    def wait_for_channel(self, room: Room, command: BroadcasterCommand | WatchChannel) -> None:
        """Have a durable channel loaded; the command is handled then."""
        room.waiting.append(command)
        if room.is_loading:
            return
        room.is_loading = True
        num_events = room.namespace.history_size + 1  # one too many shows that keys are missing
        num_bytes = 2**30
        if room.namespace.mode is not Mode.LATEST:
            num_events, num_bytes = min(num_events - 1, TAIL_EVENTS), TAIL_BYTES

        def done(answer: LoadedChannel | SyncdError) -> None:
            self._post(ChannelRead(room.name, answer, self))

        self._store.load(room.name, num_events, num_bytes, done)

    def channel_read(self, message: ChannelRead) -> list[BroadcasterCommand | WatchChannel]:
        """The store's answer: returns the commands that waited for it, or refuses them.

        What was committed meanwhile is in `room.early` afterwards, ascending, as far as it does not join on. What is of another epoch
        may be of one that is over, or the answer is: the store is asked once more.
        """
        room = self._rooms.by_name.get(message.channel)
        if room is None or not room.is_loading or message.asked_by is not self:
            return []
        room.is_loading = False
        waiting, room.waiting = room.waiting, []
        early, room.early = sorted(room.early, key=lambda each: each[1].offset), []
        if isinstance(message.answer, SyncdError):
            for command in waiting:
                if isinstance(command, SubscribeChannel):
                    self.refuse(command.subscription, message.answer)
                elif isinstance(command, WatchChannel):
                    self.refuse_watch(command, message.answer)
            self._rooms.close_if_idle(room)
            return []
        channel = Channel(room.name, room.namespace, message.answer.head.epoch)
        channel.load(message.answer.head, message.answer.tail)
        ours = [each for each in early if each[0] == channel.epoch]
        room.is_unsure |= len(ours) < len(early)
        for _, event in ours:
            if event.offset == channel.top + 1:
                channel.adopt(event)
        room.channel = channel
        room.early = [each for each in ours if each[1].offset > channel.top]
        return waiting


def num_fitting(events: Sequence[StoredEvent], max_bytes: int) -> int:
    """How many events fit into a page; one at least."""
    size = 0
    for index, event in enumerate(events):
        size += len(event.record)
        if size > max_bytes and index:
            return index
    return len(events)


def _send_events(
    subscription: Subscription, channel: Channel | None, events: Sequence[StoredEvent]
) -> None:
    if channel is None:
        return
    for event in events:
        subscription.session.send_event(channel.name, channel.message(event))
    if events and subscription.watch is not None:
        subscription.watch.marked = events[-1].offset


def _mark_end(channel: Channel, subscription: Subscription) -> None:
    """Tell a watch where what it missed ends: its last event does not say so if it is filtered or recovers."""
    watch = subscription.watch
    if watch is not None and (watch.is_owed_end or watch.marked < channel.top):
        watch.is_owed_end = False
        watch.marked = channel.top
        message = encode.mark(channel.name, channel.epoch, channel.top)
        subscription.session.send_event(channel.name, message)
