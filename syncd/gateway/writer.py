"""Everything the gateway sends: fan-out, the flush at the end of a tick, and what waits for sockets that are behind.

Owner of: what this tick has for the sockets until `flush`. Implements `ports.Fanout`. One send a session and tick: who follows one channel
gets that channel's bytes as they are, shared by all; the others gather their frames.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

from syncd.gateway.connection import Connection
from syncd.ids import ChannelName
from syncd.model.invalidations import is_invalidation
from syncd.model.outbox import Outbox
from syncd.ports import Run, SessionDrained, Subscription
from syncd.ports_collections import SnapshotDrained
from syncd.ports_presence import UnwatchPresence
from syncd.wire import encode
from syncd.wire.frames import BINARY, encode_frame

if TYPE_CHECKING:
    from syncd.gateway.hub import Hub

__all__ = ["Writer"]

BYTES_PER_FLUSH = 1_048_576
"""Fan-out queued between two flushes: what a session's tick may hold before the outbox policy sees it."""
WRITE_BYTES = 262_144
"""Offered to a socket at once when it takes bytes again."""


class Writer:
    """The outgoing half of the gateway (see the module's docstring)."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._limits = hub.config.limits
        self.dirty: list[Connection] = []
        self.paged: list[Connection] = []
        self.num_deliveries = 0
        self.num_queued = 0
        self.num_bytes = 0
        self.num_conflated = 0
        self.num_lagged = 0
        self._queued_bytes = 0
        self._chunks: dict[ChannelName, tuple[bytes, list[Connection]]] = {}
        """What `deliver` left to `flush`, by channel, with whom it goes to as it is."""
        self._shared = (b"", b"")

    def finish_soon(self) -> None:
        """Something was queued by an actor that does not flush."""
        self._hub.finish_soon()

    def count_error(self, code: str) -> None:
        """A client was told this error."""
        errors = self._hub.errors
        errors[code] = errors.get(code, 0) + 1

    def behind(self, connection: Connection) -> None:
        """Something was added to the connection's outbox: wake its stream driver, and see whether it is read on."""
        if connection.outbox is not None:
            self._check_reading(connection, connection.outbox)
        if connection.fd < 0:
            self._hub.watch_room(connection)

    def frame_shared(self, message: bytes) -> bytes:
        """Frame a message that many connections get one after the other: once."""
        if message is not self._shared[0]:
            self._shared = (message, encode_frame(BINARY, message))
        return self._shared[1]

    def unwatch(self, connection: Connection, channel: ChannelName) -> None:
        """The session's presence watch on a channel ends."""
        self._hub.to_presence.append(UnwatchPresence(connection, channel))

    # ---------------------------------------------------------------- fan-out

    def deliver(self, subscriptions: Iterable[Subscription], run: Run) -> list[Subscription]:
        """Queue a run for every subscription (see `ports.Fanout`). Hot: runs once a delivery, so it calls nothing."""
        frames = [encode_frame(BINARY, message) for _key, message in run.messages]
        chunk = frames[0] if len(frames) == 1 else b"".join(frames)
        size = len(chunk)
        if size > BYTES_PER_FLUSH and len(frames) > 1:
            return self._deliver_in_parts(subscriptions, run)
        self._queued_bytes += size
        if self._queued_bytes > BYTES_PER_FLUSH:
            self.flush()
            self._queued_bytes = size
        if run.channel in self._chunks:
            self._send_chunks()  # the second in a tick: who did not take the first has an outbox then
        fallen: list[Subscription] = []
        direct: list[Connection] = []
        offset, dirty, count = run.offset, self.dirty, 0
        for subscription in subscriptions:
            connection: Connection = subscription.session  # type: ignore[assignment]
            count += 1
            if connection.is_direct and not subscription.is_closed:
                subscription.offset = offset
                direct.append(connection)
                continue
            if connection.outbox is not None or subscription.is_closed:
                if not self._deliver_behind(connection, subscription, run, frames):
                    fallen.append(subscription)
                continue
            subscription.offset = offset
            if not connection.tick:
                dirty.append(connection)
            connection.tick.append(chunk)
        if direct:
            self._chunks[run.channel] = chunk, direct
        self.num_deliveries += count * len(frames)
        return fallen

    def _deliver_in_parts(
        self, subscriptions: Iterable[Subscription], run: Run
    ) -> list[Subscription]:
        """A run larger than a flush may hold goes message by message, so that budgets are seen in between."""
        fallen: list[Subscription] = []
        first = run.offset - len(run.messages) + 1
        offsets, fulls = run.offsets or range(first, run.offset + 1), run.fulls or {}
        everybody = list(subscriptions)
        for index, message in enumerate(run.messages):
            offset = offsets[index] if run.epoch is not None else 0
            full = {0: fulls[index]} if index in fulls else None
            part = Run(run.channel, [message], run.epoch, offset, run.is_conflatable, full)
            fallen += self.deliver([s for s in everybody if s.is_live], part)
            self.flush()
        return fallen

    def _deliver_behind(
        self, connection: Connection, subscription: Subscription, run: Run, frames: list[bytes]
    ) -> bool:
        """Queue a run for a session whose socket is behind; False when it lags from here on."""
        outbox = connection.outbox
        if connection.closed or outbox is None or subscription.is_closed:
            return True
        offset, offsets, fulls = run.offset - len(frames), run.offsets, run.fulls
        conflated = outbox.num_conflated
        for index, ((key, message), frame) in enumerate(zip(run.messages, frames, strict=True)):
            offset = offset + 1 if offsets is None else offsets[index]
            entry = frame
            if fulls is not None and index in fulls and outbox.supersedes(run.channel, key):
                entry = encode_frame(BINARY, fulls[index])
            if key is None and run.is_conflatable and is_invalidation(message):
                is_taken = outbox.push_invalidation(run.channel, message, frame)
            else:
                is_taken = outbox.push_event(
                    run.channel, key, entry, conflatable=run.is_conflatable
                )
            if not is_taken:
                connection.lag(subscription)
                return False
            subscription.offset = offset
        subscription.offset = run.offset
        self.num_conflated += outbox.num_conflated - conflated
        self.behind(connection)
        return True

    def flush(self) -> None:
        """Write everything queued since the last flush: one send a connection."""
        self._queued_bytes = 0
        if self._chunks:
            self._send_chunks()
        dirty, self.dirty = self.dirty, []
        broken: list[Connection] = []
        num_bytes = 0
        for connection in dirty:
            tick = connection.tick
            data = tick[0] if len(tick) == 1 else b"".join(tick)
            tick.clear()
            if not data:
                continue
            try:
                sent = connection.sender.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                broken.append(connection)
                continue
            num_bytes += sent
            if sent != len(data):
                self._park(connection, data, sent)
            else:
                connection.is_direct = connection.is_single
        self.num_bytes += num_bytes
        for connection in broken:
            self._hub.drop(connection)
        if self.paged:
            self._ask_pages()

    def _send_chunks(self) -> None:
        """Write what `deliver` left to be sent as it is. The hot loop: one send a delivery, and next to nothing beside it.

        Sends follow sends, of all channels: a send takes the processor's caches, so whatever else a delivery needs runs before the
        first of them.
        """
        chunks, self._chunks = self._chunks, {}
        broken: list[Connection] = []
        num_bytes = 0
        for chunk, connections in chunks.values():
            size = len(chunk)
            num_bytes += size * len(connections)
            for connection in connections:
                if connection.outbox is not None:
                    num_bytes -= size
                    self._line_up(connection, chunk)
                    continue
                try:
                    sent = connection.sender.send(chunk)
                except BlockingIOError:
                    sent = 0
                except OSError:
                    num_bytes -= size
                    broken.append(connection)
                    continue
                if sent != size:
                    num_bytes += sent - size
                    self._park(connection, chunk, sent)
        self.num_bytes += num_bytes
        for connection in broken:
            self._hub.drop(connection)

    def _line_up(self, connection: Connection, chunk: bytes) -> None:
        """Queue a chunk behind another one of the same flush that the socket did not take: the session changed its channel meanwhile."""
        if not connection.closed and connection.outbox is not None:
            connection.outbox.push(chunk)
            self.behind(connection)

    def _ask_pages(self) -> None:
        """Sockets that took everything have room for the next page; the others have it when they are drained."""
        paged, self.paged = self.paged, []
        for connection in paged:
            if connection.paging and connection.has_room():
                self._ask_page(connection)

    def _ask_page(self, connection: Connection) -> None:
        waiting = [watch for watch in connection.paging or () if not watch.is_closed]
        connection.paging = None
        if waiting:
            self._hub.to_cache_owner.append(SnapshotDrained(waiting))
            self._hub.finish_soon()

    def _park(self, connection: Connection, data: bytes, sent: int) -> None:
        """The socket is full: from now on frames line up in an outbox, and the client has a deadline to drain it."""
        hub = self._hub
        connection.park(data, sent, self._limits.outbox_bytes, hub.now)
        hub.watch_room(connection)
        hub.wheel.schedule(connection, hub.now + hub.config.timing.slow_client_s)

    # ---------------------------------------------------------------- room again

    def on_room(self, connection: Connection) -> bool:
        """The socket takes bytes again. Returns True when nothing waits any more."""
        outbox = connection.outbox
        if outbox is None or connection.closed:
            return True
        try:
            sent = connection.sender.send(outbox.peek(WRITE_BYTES))
        except BlockingIOError:
            return False
        except OSError:
            self._hub.drop(connection)
            return True
        connection.last_seen = self._hub.now  # a full socket has room again: the peer read
        self.sent(connection, outbox, sent)
        if outbox:
            return False
        connection.outbox, connection.is_direct = None, connection.is_single
        self.drained(connection, outbox)
        return True

    def sent(self, connection: Connection, outbox: Outbox, num_bytes: int) -> None:
        """The transport took bytes off the outbox."""
        outbox.consume(num_bytes)
        outbox.is_suspect = False
        self.num_bytes += num_bytes
        connection.drained_at = self._hub.now
        self._check_reading(connection, outbox)

    def drained(self, connection: Connection, outbox: Outbox) -> None:
        """Nothing waits any more: tell positions of conflated channels, and whoever waits for room."""
        for channel in sorted(outbox.conflated):
            subscription = connection.subscription(cast("ChannelName", channel))
            if subscription is not None and subscription.epoch is not None:
                connection.send(
                    encode.mark(subscription.channel, subscription.epoch, subscription.offset)
                )
                if subscription.watch is not None:
                    subscription.watch.marked = subscription.offset
        outbox.conflated.clear()
        if connection.waiting:
            self._hub.to_broadcaster.append(SessionDrained(connection.waiting))
            connection.waiting = None
        if connection.paging:
            self._ask_page(connection)

    def _check_reading(self, connection: Connection, outbox: Outbox) -> None:
        """Who does not read our answers is not read either."""
        hub = self._hub
        if outbox.size_bytes * 2 > outbox.budget_bytes:
            hub.pause(connection)
        elif connection.is_paused and outbox.size_bytes * 4 <= outbox.budget_bytes:
            hub.resume_unless_parked(connection)
