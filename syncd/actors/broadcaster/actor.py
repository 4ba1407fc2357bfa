"""The broadcaster: channels, who is subscribed, and what they are sent.

Owner of: rooms (channel state, live subscribers, those catching up). Called by the gateway and HTTP through `BroadcasterHandle`, by the store
through completions. It waits for nobody but its mailbox: asks to the store come back as messages, sockets are written by
`Fanout.flush` without waiting. When its mailbox is full, the sessions that filled it are not read.

Invariant (ORDER, RECOVER): a subscription is live at its channel's top, or catching up at `subscription.offset`; every event above that
is in the tail or in the log. So whatever happens between two batches, nobody misses or doubles an event.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import structlog
import trio

from syncd.actors.broadcaster.committing import Committing
from syncd.actors.broadcaster.delivering import Delivering
from syncd.actors.broadcaster.failing import fail
from syncd.actors.broadcaster.history import Histories
from syncd.actors.broadcaster.joining import Joining
from syncd.actors.broadcaster.messages import (
    AppendsDone,
    BroadcasterMessage,
    ChannelRead,
    ChannelsChecked,
    GapRead,
    HistoryRead,
    PageRead,
    WatchProbed,
)
from syncd.actors.broadcaster.pacing import Pace
from syncd.actors.broadcaster.publishing import Publishing
from syncd.actors.broadcaster.rooms import Rooms
from syncd.actors.broadcaster.sharing import Sharing
from syncd.actors.broadcaster.statistics import BroadcasterStatistics
from syncd.actors.broadcaster.watching import Watching
from syncd.actors.kit import Mailbox, origin_of
from syncd.config import Config, Namespace
from syncd.errors import ActorStopped, SyncdError, internal_error
from syncd.ids import ChannelName, Epoch, Position
from syncd.ports import (
    BroadcasterCommand,
    ChannelInfo,
    Fanout,
    PublishEvent,
    ReadHistory,
    ResumeSubscriptions,
    SessionDrained,
    SubscribeChannel,
    Subscription,
    SubscriptionsClosed,
    UnsubscribeChannel,
)
from syncd.ports_collections import (
    DeliverCommitted,
    NarrowWatch,
    OutcomeToTell,
    RenewChannel,
    WatchChannel,
)
from syncd.ports_log import StoreHandle
from syncd.ports_shared import BridgeHandle, CheckChannels, RemoteEvents, RemotePublications
from syncd.ports_state import KeyName

__all__ = ["Broadcaster"]

_log = structlog.get_logger("syncd.broadcaster")

MAILBOX_COMMANDS = 20_000  # BLOCK: some 0.1 s of work
MAILBOX_BYTES = 33_554_432
BATCH_COMMANDS = 1024
"""Taken between two fan-outs: about 5 ms."""
RESUMES_PER_SLICE = 500
"""Subscriptions taken over after a crash between two checkpoints: each may be sent a page."""
SWEEP_S = 1.0
ROOMS_PER_SWEEP = 2000

_Commands = (
    Sequence[BroadcasterCommand]
    | Sequence[WatchChannel | NarrowWatch]
    | Sequence[RemoteEvents | RemotePublications | CheckChannels | RenewChannel]
)


class Broadcaster:
    """Actor (see the module's docstring). Implements `BroadcasterHandle` and `WatchingHandle`."""

    name = "broadcaster"

    def __init__(
        self,
        config: Config,
        *,
        fanout: Fanout,
        store: StoreHandle,
        wall_ms: Callable[[], int],
        new_epoch: Callable[[], Epoch],
        collections: Sequence[Namespace] = (),
        volatile_head: Callable[[ChannelName], Position] | None = None,
        bridge: BridgeHandle | None = None,
    ) -> None:
        """Make it; it serves in `run`.

        Args:
            collections: Collections as namespaces of their own, of mode `collection` and durable or memory history.
            volatile_head: Where the channel of a volatile collection stands; returns at once.
            bridge: Leads to the nodes that share the store; None: there are none.
        """
        self.mailbox: Mailbox[BroadcasterMessage] = Mailbox(
            self.name, MAILBOX_COMMANDS, MAILBOX_BYTES
        )
        self._config = config
        self._fanout = fanout
        self._store = store
        self._wall_ms = wall_ms
        self._new_epoch = new_epoch
        self._namespaces = config.namespaces | {
            namespace.name: namespace for namespace in collections
        }
        self._volatile_head = volatile_head
        self._bridge = bridge
        self._batch: Sequence[BroadcasterMessage] = ()
        self._num_done = 0
        self._start_empty()

    def _start_empty(self, outcomes: Sequence[OutcomeToTell] = ()) -> None:
        """Hold nothing, as at the start; what others hold for us comes as `ResumeSubscriptions`."""
        config, post = self._config, self.mailbox.put_reply
        limits = config.limits
        self.rooms = Rooms(
            self._namespaces,
            limits.channels,
            limits.memory_bytes,
            self._new_epoch,
            self._volatile_head,
            None if self._bridge is None else self._bridge.interest,
        )
        self.publishing = Publishing(
            config, self.rooms, self._store, self._wall_ms, post, self._bridge
        )
        self.delivering = Delivering(self.publishing, self._fanout)
        self.pace = Pace(post)
        self.joining = Joining(config, self.rooms, self._store, post, self.pace)
        self.histories = Histories(config, self.rooms, self._store, post)
        read_anew = self.publishing.read_anew
        self.watching = Watching(self.rooms, self.joining, self._store, post, read_anew)
        self.committing = Committing(self.rooms, self.publishing, outcomes)
        self.sharing = Sharing(self.rooms, self.publishing, self.committing, self._bridge, post)
        if self._bridge is not None:
            self.joining.looks = self.sharing.looks
        self._handlers = self._handle()

    # ---------------------------------------------------------------- ports.BroadcasterHandle, WatchingHandle

    def submit_nowait(self, commands: _Commands, size_bytes: int) -> None:
        """Hand over all or none; raises `MailboxFull` or `ActorStopped`."""
        self.mailbox.put_nowait(commands, size_bytes)

    async def submit(self, commands: _Commands, size_bytes: int) -> None:
        """Hand over, waiting for room. Cancelled: nothing was handed over."""
        await self.mailbox.put(commands, size_bytes)

    def deliver_committed(self, message: DeliverCommitted | RenewChannel) -> None:
        """Hand over; never refused, returns at once."""
        self.mailbox.put_reply(message)

    def num_watching(self, channel: ChannelName, key: KeyName) -> int:
        """Return how many subscriptions would be told a change of this entry."""
        return self.rooms.num_watching(channel, key)

    def is_watched(self, channel: ChannelName) -> bool:
        """Return whether anybody watches entries of a channel."""
        return self.rooms.is_watched(channel)

    def channels(self, prefix: str, limit: int) -> list[ChannelInfo]:
        """Channels with subscribers or state in memory, by name."""
        return self.rooms.infos(prefix, limit)

    def each_channel(self) -> Iterator[ChannelInfo]:
        """See `BroadcasterHandle.each_channel`."""
        return self.rooms.each_info()

    def num_subscribers(self, channel: ChannelName) -> int:
        """Return how many are subscribed to a channel."""
        return self.rooms.num_subscribers(channel)

    # ---------------------------------------------------------------- kit.Actor

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; then whoever waits is told, and nothing is taken any more."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._sweep)
                task_status.started()
                while True:
                    await self._serve_batch(await self.mailbox.take())
        finally:
            if trio.current_effective_deadline() == -math.inf:
                self._close()

    async def _serve_batch(self, batch: Sequence[BroadcasterMessage]) -> None:
        for start in range(0, len(batch), BATCH_COMMANDS):
            await self._serve(batch[start : start + BATCH_COMMANDS], batch)
            is_last = start + BATCH_COMMANDS >= len(batch)
            if not is_last or self.mailbox.statistics().num_waiting:
                await trio.lowlevel.checkpoint()  # `take` would not wait: others first

    def _close(self) -> None:
        """Answer everybody: nobody else will."""
        error = ActorStopped()
        waiting = [command for room in self.rooms.by_name.values() for command in room.waiting]
        waiting += self.sharing.left()
        for message in (*self._batch[self._num_done :], *self.mailbox.close(), *waiting):
            fail(message, error)
            if isinstance(message, AppendsDone):
                self.publishing.forget_ask(message)
        self.publishing.stop(error)
        self.watching.stop(error)
        self.committing.stop()
        self._batch, self._num_done = (), 0

    def recover(self) -> None:
        """Tell askers of the batch in hand that it failed, and forget everything but outcomes: those are facts."""
        outcomes = self.committing.left()
        for message in self._batch[self._num_done :]:
            if isinstance(message, WatchChannel):
                message.on_lost()
            elif isinstance(message, DeliverCommitted):
                outcomes += message.outcomes
            else:
                fail(message, internal_error())
        self.publishing.fail(internal_error())
        for message in self.sharing.left():
            if isinstance(message, WatchChannel):
                message.on_lost()  # what else waits is resumed with all subscriptions
        self.watching.lose()
        for room in self.rooms.by_name.values():
            room.forget_channel()
        self._batch, self._num_done = (), 0
        self._start_empty(outcomes)

    async def _serve(
        self, part: Sequence[BroadcasterMessage], batch: Sequence[BroadcasterMessage]
    ) -> None:
        """Take a part of a batch without waiting, then deliver what came of it, slice by slice."""
        if batch is not self._batch:
            self._batch, self._num_done = batch, 0
        handlers = self._handlers
        self.publishing.begin(self.mailbox.taken_since)
        self.pace.begin()
        for message in part:
            try:
                handlers[type(message)](message)
            except Exception as error:  # noqa: BLE001 - isolation: it fails that message alone
                self._fail_one(message, error)
            self._num_done += 1
        for command in self.sharing.due():
            self._handle_one(command)
        self.sharing.served()
        self.publishing.submit()
        has_written = await self.delivering.deliver()
        self.publishing.settle()
        self.committing.settle()
        self._fanout.flush()
        if has_written:
            self.publishing.note_age(trio.current_time())

    def _handle(self) -> dict[type, Callable[[Any], None]]:
        """What is done with each kind of message."""
        publishing, joining = self.publishing, self.joining
        return {
            PublishEvent: publishing.publish,
            AppendsDone: publishing.committed,
            SubscribeChannel: lambda message: joining.subscribe(message.subscription),
            UnsubscribeChannel: lambda message: joining.leave(message.subscription),
            SubscriptionsClosed: lambda message: self._each(joining.leave, message),
            SessionDrained: lambda message: self._each(joining.go_on, message),
            ResumeSubscriptions: self._resume,
            PageRead: joining.page_read,
            ChannelRead: self._channel_read,
            ReadHistory: self.histories.history,
            HistoryRead: self.histories.history_read,
            GapRead: publishing.gap_read,
            DeliverCommitted: self.committing.deliver,
            RenewChannel: self.committing.renew,
            WatchChannel: self.watching.watch,
            NarrowWatch: self.watching.narrow,
            WatchProbed: self.watching.probed,
            RemoteEvents: self.sharing.events,
            RemotePublications: self.sharing.publications,
            CheckChannels: self.sharing.check,
            ChannelsChecked: self.sharing.checked,
        }

    def _channel_read(self, message: ChannelRead) -> None:
        for waiting in self.joining.channel_read(message):
            self._handle_one(waiting)
        room = self.rooms.by_name.get(message.channel)
        if room is not None and room.early:
            early, room.early = room.early, []
            for epoch, event in early:
                self.publishing.enter(room, epoch, event)
        if room is not None:
            self.sharing.loaded(room)

    def _handle_one(self, message: BroadcasterMessage) -> None:
        """Handle a message that waited here."""
        try:
            self._handlers[type(message)](message)
        except Exception as error:  # noqa: BLE001 - isolation: it fails that message alone
            self._fail_one(message, error)

    def _resume(self, message: ResumeSubscriptions) -> None:
        """Take over a slice of them and leave the others for later: their positions wait."""
        left = message.subscriptions
        now = left[-RESUMES_PER_SLICE:]
        del left[-RESUMES_PER_SLICE:]
        if left:
            self.mailbox.put_reply(message)
        self._each(self.joining.resume, ResumeSubscriptions(now))

    def _each(
        self,
        handle: Callable[[Subscription], None],
        message: SubscriptionsClosed | SessionDrained | ResumeSubscriptions,
    ) -> None:
        for subscription in message.subscriptions:
            try:
                handle(subscription)
            except Exception as error:  # noqa: BLE001 - isolation: it ends that subscription alone
                self.joining.leave(subscription)
                self._fail_one(SubscribeChannel(subscription), error)

    def _fail_one(self, message: BroadcasterMessage, error: Exception) -> None:
        """An exception over one message fails that message, not the actor."""
        if isinstance(error, SyncdError):
            fail(message, error)
            return
        kind = type(message).__name__
        _log.error(
            "message_failed", actor=self.name, kind=kind, **origin_of(message), exc_info=error
        )
        fail(message, internal_error())

    async def _sweep(self) -> None:
        """Expire events and idle rooms in slices."""
        while True:
            await trio.sleep(SWEEP_S)
            self.rooms.sweep(self._wall_ms(), ROOMS_PER_SWEEP)
            self.publishing.expire()
            for _ in self.watching.marks():
                await self.delivering.give_way()

    def statistics(self) -> BroadcasterStatistics:
        """Return counts."""
        return BroadcasterStatistics(
            len(self.rooms.by_name),
            self.publishing.num_published,
            self.joining.num_recovered,
            self.joining.num_unrecovered,
            self.publishing.num_dedupe_hits,
            self.publishing.ages.counts(),
        )
