"""Publications: into memory at once, or through the store and then into memory.

A durable event enters no tail, run or history before its commit returned (DESIGN 5.1). Asks to the store are bounded: what comes while
they are out waits here as the next batch, and past a bound is refused as retryable. `enter` is the one door for committed events, ours
and those of the cache-owner.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from syncd.actors.broadcaster.gaps import Gaps, Ok
from syncd.actors.broadcaster.messages import AppendsDone, BroadcasterMessage, GapRead
from syncd.actors.broadcaster.rooms import Room, Rooms
from syncd.codes import ErrorCode
from syncd.config import Config, HistoryKind, Mode
from syncd.errors import RequestRejected, SyncdError
from syncd.ids import ChannelName, Epoch
from syncd.model.channel import Channel
from syncd.model.histogram import Histogram
from syncd.model.recent_keys import Known, RecentKeys
from syncd.ports import PublishEvent, ResumeSubscriptions
from syncd.ports_log import Appended, AppendRequest, AppendResult, LogPage, StoredEvent, StoreHandle
from syncd.ports_shared import BridgeHandle
from syncd.wire.encode import EventPrefix, event_message, event_record

__all__ = ["Publishing"]

MAX_ASKS = 4
"""Batches at the store at once: one in its commit, the next ones ready."""
ASK_COMMANDS = 500
"""In one batch, which is one transaction, whose statements hold the loop: `StoreSettings.transaction_requests` says why."""
MAX_WAITING = 50_000
MAX_WAITING_BYTES = 67_108_864
MAX_RECENT_KEYS = 100_000
AGE_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Publishing:
    """The publishing half of the broadcaster; owns the runs of this tick and the answers they owe."""

    def __init__(
        self,
        config: Config,
        rooms: Rooms,
        store: StoreHandle,
        wall_ms: Callable[[], int],
        post: Callable[[BroadcasterMessage], None],
        bridge: BridgeHandle | None = None,
    ) -> None:
        """Begin with nothing published; `bridge` leads to the nodes that share the store, if there are any."""
        self._bridge = bridge
        self._rooms = rooms
        self._store = store
        self._wall_ms = wall_ms
        self._post = post
        self._at_ms = wall_ms()
        self._touched: list[Room] = []
        self._oks: list[Ok] = []
        self._waiting: list[tuple[PublishEvent, AppendRequest, float]] = []
        """With the time it came."""
        self._waiting_bytes = 0
        self._asked: list[list[PublishEvent]] = []
        """Batches at the store."""
        self.gaps = Gaps(store, post)
        self._recent = RecentKeys(MAX_RECENT_KEYS, config.timing.idempotency_s)
        self.num_published = 0
        self.num_dedupe_hits = 0
        self.ages = Histogram(AGE_BOUNDS_S)
        """Seconds from the oldest publication of a batch to the end of its writes; one observation a batch."""
        self._since = self._oldest_at = math.inf

    # ---------------------------------------------------------------- in

    def begin(self, since: float) -> None:
        """A batch begins, which came since then: what it publishes happens at one time."""
        self._at_ms = self._wall_ms()
        self._since = self._oldest_at = since

    def publish(self, command: PublishEvent) -> None:
        """Take one publication. Raises what its asker is told."""
        room = self._rooms.by_name.get(command.channel)
        if room is not None and room.is_plain and command.idempotency is None:
            self._publish_memory(room, room.channel, command)  # type: ignore[arg-type]
            return
        namespace = self._rooms.namespace(command.channel)
        if namespace.mode is Mode.COLLECTION:
            raise RequestRejected(ErrorCode.PERMISSION_DENIED)
        if namespace.history is HistoryKind.DURABLE:
            self._wait_for_store(command)
            return
        if command.idempotency is not None and self._is_known(command):
            return
        if namespace.mode is Mode.EPHEMERAL:
            self._publish_ephemeral(command)
        else:
            room = self._rooms.open(command.channel)
            assert room.channel is not None
            self._publish_memory(room, room.channel, command)

    def _is_known(self, command: PublishEvent) -> bool:
        """Answer a repeated publication from memory."""
        key = command.idempotency
        assert key is not None
        known = self._recent.find(key, self._at_ms / 1000)
        if known is None:
            return False
        if isinstance(known, Known):
            raise RequestRejected(ErrorCode.IDEMPOTENCY_MISMATCH)
        self.num_dedupe_hits += 1
        self._oks.append((command.asker, command.request_id, *known))
        return True

    def _publish_ephemeral(self, command: PublishEvent) -> None:
        self.num_published += 1
        room = self._rooms.by_name.get(command.channel)
        if room is not None or self._bridge is not None:
            record = _record(command, self._at_ms)
            if room is not None:
                self.tell(room, command.key, record)
            if self._bridge is not None:
                self._bridge.publish(command.channel, command.key, record)
        self._remember(command, None, 0)
        self._oks.append((command.asker, command.request_id, None, 0))

    def tell(self, room: Room, key: str | None, record: bytes) -> None:
        """Deliver a publication without a position."""
        room.num_ephemeral += 1
        if room.prefix is None:
            room.prefix = EventPrefix(room.name, None)
        self._add_to_run(room, key, event_message(room.prefix, 0, record))

    def _publish_memory(self, room: Room, channel: Channel, command: PublishEvent) -> None:
        self.num_published += 1
        at_ms = self._at_ms
        key = command.key
        record = event_record(
            command.data, at_ms, name=command.name, key=key, client=command.client
        )
        before = channel.size_bytes
        event = channel.append(record, at_ms, key)
        rooms = self._rooms
        rooms.memory_bytes += channel.size_bytes - before
        if rooms.memory_bytes > rooms.max_bytes:
            rooms.make_room(channel)
        offset = event.offset
        if room.subscribers or room.late:
            if not room.run:
                self._touched.append(room)
            room.run.append((key, event_message(channel.prefix, offset, record)))
        if command.idempotency is not None:
            self._remember(command, channel.epoch, offset)
        self._oks.append((command.asker, command.request_id, channel.epoch, offset))

    def _remember(self, command: PublishEvent, epoch: Epoch | None, offset: int) -> None:
        if command.idempotency is not None:
            self._recent.add(command.idempotency, epoch, offset, self._at_ms / 1000)

    def _add_to_run(self, room: Room, key: str | None, message: bytes) -> None:
        if not room.run:
            self._touched.append(room)
        room.run.append((key, message))

    # ---------------------------------------------------------------- through the store

    def _wait_for_store(self, command: PublishEvent) -> None:
        if (
            len(self._waiting) >= MAX_WAITING
            or self._waiting_bytes + len(command.data) > MAX_WAITING_BYTES
        ):
            raise SyncdError(ErrorCode.OVERLOADED, after_ms=500)
        at_ms, key = self._at_ms, command.key
        request = AppendRequest(
            command.channel, _record(command, at_ms), at_ms, key, command.idempotency
        )
        self._waiting.append((command, request, self._since))
        self._waiting_bytes += len(command.data)

    def submit(self) -> None:
        """Hand what waits to the store, as far as it has not enough to do already."""
        while self._waiting and len(self._asked) < MAX_ASKS:
            batch = self._waiting[:ASK_COMMANDS]
            del self._waiting[:ASK_COMMANDS]
            self._waiting_bytes -= sum(len(command.data) for command, _, _ in batch)
            requests = [request for _, request, _ in batch]
            self._ask([command for command, _, _ in batch], requests, batch[0][2])

    def _ask(
        self, commands: list[PublishEvent], requests: list[AppendRequest], since: float
    ) -> None:
        records = [(request.record, request.at_ms) for request in requests]
        self._asked.append(commands)

        def done(answer: list[AppendResult] | SyncdError) -> None:
            self._post(AppendsDone(commands, records, answer, since))

        self._store.append(requests, done)

    def committed(self, done: AppendsDone) -> None:
        """The store answered: what is committed goes to the tail and to subscribers, and askers are told."""
        self.forget_ask(done)
        self.came_at(done.since)
        answer = done.answer
        if isinstance(answer, SyncdError):
            for command in done.commands:
                command.asker.reply_error(command.request_id, answer)
            if answer.leaves_unknown:
                self.read_anew(dict.fromkeys(command.channel for command in done.commands))
            return
        for command, record, result in zip(done.commands, done.records, answer, strict=True):
            if isinstance(result, Appended):
                self._adopt(command, record, result)
            else:
                command.asker.reply_error(command.request_id, result)

    def forget_ask(self, done: AppendsDone) -> None:
        """The store has answered it."""
        self._asked = [asked for asked in self._asked if asked is not done.commands]

    def _adopt(self, command: PublishEvent, record: tuple[bytes, int], result: Appended) -> None:
        ok = (command.asker, command.request_id, result.epoch, result.offset)
        if result.is_duplicate:
            self.num_dedupe_hits += 1
        else:
            self.num_published += 1
            room = self._rooms.by_name.get(command.channel)
            if room is not None:
                event = StoredEvent(result.offset, record[1], command.key, record[0])
                if not self.enter(room, result.epoch, event):
                    self.gaps.hold_ok(room.name, ok)
                    return
        self._oks.append(ok)

    # ---------------------------------------------------------------- committed events

    def enter(
        self, room: Room, epoch: Epoch, event: StoredEvent, full: bytes | None = None
    ) -> bool:
        """A committed event reaches its room: the tail first, then this tick's run. False when it waits for events before it."""
        channel = room.channel
        if channel is None:
            if room.is_loading:
                room.early.append((epoch, event))
            return True
        if epoch != channel.epoch:
            self.read_anew((room.name,))  # the log has begun another life
            return True
        if event.offset <= channel.top:
            return True  # the load that made this room saw it already
        if event.offset != channel.top + 1:
            return self._jump(room, event, full)
        self._take_in(room, channel, event, full)
        if room.name in self.gaps:
            self._follow(room, channel)
        return True

    def _take_in(
        self, room: Room, channel: Channel, event: StoredEvent, full: bytes | None
    ) -> None:
        before = channel.size_bytes
        channel.adopt(event)
        self._rooms.count(room, channel, before)
        if not (room.subscribers or room.late or (room.filters is not None and room.is_in_use())):
            return
        if full is not None:
            room.fulls = room.fulls or {}
            room.fulls[len(room.run)] = event_message(channel.prefix, event.offset, full)
        self._add_to_run(room, event.key, channel.message(event))

    def _jump(self, room: Room, event: StoredEvent, full: bytes | None) -> bool:
        """An event came before its predecessors.

        Those of a collection all come one way, unless other nodes share the store: then they are lost, and it is read anew.
        """
        may_overtake = room.namespace.mode is Mode.STREAM or self._bridge is not None
        if may_overtake and self.gaps.hold(room, event, full):
            return False
        self.read_anew((room.name,))
        return True

    def _follow(self, room: Room, channel: Channel) -> None:
        """What waited for the last event follows it."""
        while (ahead := self.gaps.take(room.name, channel.top + 1)) is not None:
            self._take_in(room, channel, *ahead)
        if self.gaps.is_over(room.name, channel.top):
            self._oks += self.gaps.close(room.name)

    def gap_read(self, message: GapRead) -> None:
        """The store's answer to a gap: it is filled, or the channel is read anew."""
        name, answer = message.channel, message.answer
        room = self._rooms.by_name.get(name)
        if name not in self.gaps:
            return
        if room is None or room.channel is None:
            self._oks += self.gaps.close(name)
            return
        top = room.channel.top
        if not isinstance(answer, SyncdError):
            self._enter_page(room, room.channel, answer)
        elif self._bridge is not None:
            return  # the store is away for all: asked again when it is back (`Sharing.check`)
        if name in self.gaps:
            if room.channel.top == top:
                self.read_anew({name})
            else:
                self.gaps.read(room)

    def _enter_page(self, room: Room, channel: Channel, page: LogPage) -> None:
        if page.head.epoch != channel.epoch:
            return
        for event in page.events:
            if room.is_latest:
                channel.skip_superseded(event.offset)
            if event.offset == channel.top + 1:
                self.enter(room, channel.epoch, event)

    def look_up(self, name: ChannelName, upto: int) -> None:
        """The log reaches so far, and we were not told: have it read."""
        room = self._rooms.by_name.get(name)
        if self._bridge is None:
            self.read_anew({name})
        elif room is not None and room.channel is not None and room.channel.top < upto:
            self.gaps.note(room, upto)

    def read_anew(self, channels: Iterable[ChannelName]) -> None:
        """The log may hold events we were never told of, because the store or the cache-owner crashed behind a commit.

        Channels are loaded again, and everybody in them recovers from the position they have. A volatile collection has no log:
        its subscribers are lagged.
        """
        for name in channels:
            self._oks += self.gaps.close(name)
            room = self._rooms.by_name.get(name)
            if room is None or room.channel is None:
                continue
            if room.is_durable:
                self._post(ResumeSubscriptions(room.forget_channel()))
                continue
            for subscription in self._rooms.forget(room):
                if not subscription.is_closed:
                    subscription.session.lag(subscription)

    # ---------------------------------------------------------------- out

    def take_touched(self) -> list[Room]:
        """Return the rooms with a run, once."""
        touched, self._touched = self._touched, []
        return touched

    def came_at(self, since: float) -> None:
        """Something in this batch was published then, before it was committed."""
        self._oldest_at = min(self._oldest_at, since)

    def note_age(self, now: float) -> None:
        """What this batch brought subscribers is written."""
        if self._oldest_at != math.inf:
            self.ages.observe(now - self._oldest_at)

    def settle(self) -> None:
        """Answer what was published in this tick; its events are queued before."""
        oks, self._oks = self._oks, []
        for asker, request_id, epoch, offset in oks:
            asker.reply_ok(request_id, epoch, offset)

    def fail(self, error: SyncdError) -> None:
        """After a crash: whoever waits is told, nothing is told twice."""
        for command, _request, _since in self._waiting:
            command.asker.reply_error(command.request_id, error)
        for asker, request_id, _epoch, _offset in self._oks + self.gaps.close_all():
            asker.reply_error(request_id, error)
        self._waiting, self._oks, self._touched = [], [], []

    def stop(self, error: SyncdError) -> None:
        """For good: whoever waits for the store is told as well, its answer will find nobody."""
        self.fail(error)
        for command in (command for commands in self._asked for command in commands):
            command.asker.reply_error(command.request_id, error)
        self._asked = []

    def expire(self) -> None:
        """Forget old idempotency keys, a slice at a time."""
        self._recent.expire(self._wall_ms() / 1000)


def _record(command: PublishEvent, at_ms: int) -> bytes:
    return event_record(
        command.data, at_ms, name=command.name, key=command.key, client=command.client
    )
