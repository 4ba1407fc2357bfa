"""The gateway's hub: every connection, what they want of the actors, and what they are sent.

Owner of: the connections and their indexes, each session's subscription table, what is queued for the sockets. Called by the
drivers (bytes in, room again, tick), by actors (`Fanout`) and by HTTP (`GatewayPort`). Nothing here awaits; the feeders of
`gateway.gateway` do, for batches that found a mailbox full.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import structlog

from syncd.actors.rebuild_coordinator.handle import Rebuilds
from syncd.codes import CloseCode, ErrorCode
from syncd.config import Config
from syncd.errors import RequestRejected, SyncdError
from syncd.gateway.connection import Connection, Sender
from syncd.gateway.driver import Driver
from syncd.gateway.holding import Holding, MustWait
from syncd.gateway.lanes import Lane, ParkedBatch
from syncd.gateway.timers import Wheel
from syncd.gateway.writer import Writer
from syncd.model.outbox import Outbox
from syncd.model.rate_limit import RateLimit
from syncd.ports import BroadcasterHandle, SubscriptionsClosed
from syncd.ports_collections import CacheOwnerHandle
from syncd.ports_presence import PresenceHandle, SessionGone
from syncd.wire import codec, encode
from syncd.wire.frames import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    FrameDecoder,
    FrameError,
    encode_close,
    encode_frame,
)
from syncd.wire.messages import ClientMessage, EncodedPublish
from syncd.wire.session import TRANSITIONS, Phase

if TYPE_CHECKING:
    from syncd.gateway.sessions import Sessions

__all__ = ["Hub"]

_log = structlog.get_logger("syncd.gateway")

_CLOSED_OUTBOX = Outbox(0)
"""Stands in for the outbox of a closed connection, so that the fan-out's fast lane passes it by."""


class Hub:
    """All connections of a node (see the module's docstring)."""

    def __init__(
        self,
        config: Config,
        *,
        now: Callable[[], float],
        jitter: Callable[[], float],
    ) -> None:
        self.config = config
        self.now = now()
        """Trio's clock at the start of this tick."""
        self.clock = now
        self.jitter = jitter
        self.connections: dict[Connection, None] = {}
        """In the order they came, so that whatever is done to all of them is done in that order."""
        self.wheel = Wheel(config.timing.tick_s, self.now)
        self.broadcaster: BroadcasterHandle
        self.presence: PresenceHandle
        self.cache_owner: CacheOwnerHandle | None = None
        self.era: Callable[[], str] = lambda: ""
        """Which life of the store this is, as far as is known. Set where it may have several."""
        """None: the node has no collections."""
        self.rebuilds: Rebuilds | None = None
        self.sessions: Sessions
        self.on_parked: Callable[[Lane], None] = lambda _lane: None
        self.on_late: Callable[[], None] = lambda: None
        """Has `hand_over` and `flush` called soon, once."""
        self.to_broadcaster = Lane(lambda: self.broadcaster, self._park)
        self.to_presence = Lane(lambda: self.presence, self._park)
        self.to_cache_owner = Lane(lambda: cast("CacheOwnerHandle", self.cache_owner), self._park)
        self.lanes = (self.to_broadcaster, self.to_presence, self.to_cache_owner)
        self.holding = Holding(self)
        self.frame_bytes = 0
        """Of the frame in hand, until a command that keeps what it carried is charged with it."""
        self.drivers: dict[int, Driver] = {}
        self.is_stopping = False
        self.num_accepted = 0
        self.num_refused = 0
        self.num_messages_in = 0
        self.num_mutations = 0
        self.num_reads = 0
        self.num_watches = 0
        self.closes: dict[str, int] = {}
        self.errors: dict[str, int] = {}
        self.writer = Writer(self)
        self._rate = RateLimit(config.limits.messages_per_s, config.limits.messages_burst)

    # ---------------------------------------------------------------- connections come and go

    def open(self, sender: Sender, fd: int, peer: str, driver: Driver) -> Connection:
        """Take in a transport whose request head is still to be read."""
        connection = Connection(self.writer, sender, fd, peer)
        connection.last_seen = self.now
        connection.hello_deadline = self.now + self.config.timing.handshake_s
        self.connections[connection] = None
        self.drivers[id(connection)] = driver
        self.num_accepted += 1
        self.wheel.schedule(connection, connection.hello_deadline)
        return connection

    def upgrade(self, connection: Connection, response: bytes, rest: bytes) -> None:
        """The WebSocket handshake is accepted: answer it and go on with the bytes behind the head."""
        limits = self.config.limits
        connection.phase = Phase.OPENING
        connection.decoder = FrameDecoder(
            limits.frame_bytes, limits.fragments, first_message_bytes=limits.hello_bytes
        )
        connection.hello_deadline = self.now + self.config.timing.hello_s
        self.wheel.schedule(connection, connection.hello_deadline)
        connection.queue(response)
        if rest:
            self.receive(connection, rest)

    def refuse(self, connection: Connection, response: bytes) -> None:
        """Answer a request head over HTTP and end the connection."""
        self.num_refused += 1
        connection.queue(response)
        self._await_end(connection)
        self._end(connection)

    def release(self, connection: Connection) -> None:
        """The transport goes to somebody else (HTTP); it is no connection of ours any more."""
        self.connections.pop(connection, None)
        self.drivers.pop(id(connection), None)
        connection.closed = True

    def drop(self, connection: Connection, code: int = 1006) -> None:
        """End a connection at once and tell the actors. Idempotent."""
        if connection.closed:
            return
        connection.closed = True
        connection.phase = Phase.CLOSED
        self.connections.pop(connection, None)
        driver = self.drivers.pop(id(connection), None)
        if driver is not None:
            driver.forget(connection)
        connection.sender.close()
        name = str(connection.close_code or code)
        self.closes[name] = self.closes.get(name, 0) + 1
        connection.outbox, connection.is_direct = _CLOSED_OUTBOX, False
        connection.tick.clear()
        connection.decoder = None
        self._leave(connection)

    def _leave(self, connection: Connection) -> None:
        if not connection.id:
            return
        self.sessions.forget(connection)
        if connection.subscriptions:
            subscriptions = list(connection.subscriptions.values())
            for subscription in subscriptions:
                subscription.is_closed = True
            self.to_broadcaster.append(SubscriptionsClosed(subscriptions))
        if connection.announced is not None or connection.watched:
            self.to_presence.append(SessionGone(connection))
        connection.subscriptions = connection.grants = None
        connection.announced = connection.watched = connection.waiting = None
        connection.permits = connection.paging = connection.held = None

    def close(
        self,
        connection: Connection,
        code: int,
        reason: str,
        *,
        after_ms: int = 0,
    ) -> None:
        """Start the closing handshake: `bye` for codes of ours, a close frame, then wait for the peer's."""
        if connection.phase >= Phase.CLOSING:
            return
        if connection.phase is Phase.HEAD:
            self.drop(connection, code)
            return
        if code >= 4000:
            reconnect = code < 4500
            connection.send(encode.bye(code, reason, reconnect=reconnect, after_ms=after_ms))
        connection.queue(encode_close(code, reason))
        connection.close_code = code
        self._await_end(connection)
        self._leave(connection)
        connection.id = ""

    def _await_end(self, connection: Connection) -> None:
        """From now on nothing is queued, and the peer has `close_s` to close."""
        connection.phase = Phase.CLOSING
        connection.hello_deadline = self.now + self.config.timing.close_s
        self.wheel.schedule(connection, connection.hello_deadline)

    def _end(self, connection: Connection, *, is_mutual: bool = False) -> None:
        driver = self.drivers.get(id(connection))
        if driver is not None:
            driver.end(connection, is_mutual=is_mutual)

    # ---------------------------------------------------------------- bytes in

    def receive(self, connection: Connection, data: bytes) -> None:
        """Take bytes behind the request head. A driver's exception to nothing: whatever fails ends this connection alone."""
        connection.last_seen = self.now
        decoder = connection.decoder
        if decoder is None:
            return
        failure: FrameError | None = None
        try:
            messages = decoder.receive(data)
        except FrameError as error:
            messages, failure = error.messages, error
        try:
            for opcode, payload in messages:
                if opcode == BINARY:
                    self.receive_message(connection, payload)
                else:
                    self._control(connection, opcode, payload)
        except Exception:  # noqa: BLE001 - see the comment
            # Isolation is the purpose: one connection's bug ends that connection.
            _log.exception("connection_failed", session=connection.id)
            self.close(connection, CloseCode.INTERNAL_ERROR, "internal error")
        if failure is not None:
            self.close(connection, failure.code, failure.reason)
            self._end(connection)  # what follows cannot be read, not even a close frame

    def receive_message(self, connection: Connection, payload: bytes) -> None:
        """Take one whole binary message."""
        phase = connection.phase
        if phase >= Phase.CLOSING:
            return
        decoded = codec.decode(payload)
        count = len(decoded)
        if phase is Phase.OPEN:
            full_at = self._rate.spend(connection.rate_full_at, count, self.now)
            if full_at < 0:
                self._refuse_frame(connection, decoded)
                return
            connection.rate_full_at = full_at
        self.num_messages_in += count
        if connection.held is None:
            self.handle(connection, decoded, len(payload))
        else:
            self.holding.keep(connection, decoded, len(payload))

    def handle(self, connection: Connection, messages: list[Any], size_bytes: int) -> bool:
        """Carry out messages of one frame; False when the session has to wait before the next one of them."""
        self.frame_bytes = size_bytes
        handlers = self.sessions.handlers
        rest = iter(messages)
        for message in rest:
            kind = type(message)
            if kind is codec.BadMessage:
                self._bad_message(connection, message)
                continue
            if kind not in TRANSITIONS[connection.phase]:
                if connection.phase < Phase.CLOSING:
                    self._out_of_turn(connection)
                return True
            try:
                handlers[kind](connection, message)
            except RequestRejected as error:
                connection.reply_error(getattr(message, "id", None), error)
            except MustWait as wait:
                self.holding.wait(connection, message, wait, list(rest))
                return False
        return True

    def receive_text(self, connection: Connection, payload: bytes) -> None:
        """Take one whole text message: SPEC has none."""
        self.close(connection, CloseCode.UNSUPPORTED_DATA, "binary frames only")

    def _out_of_turn(self, connection: Connection) -> None:
        expected = (
            "hello must come first" if connection.phase is Phase.OPENING else "one hello only"
        )
        self.close(connection, CloseCode.PROTOCOL_ERROR, expected)

    def _bad_message(self, connection: Connection, message: codec.BadMessage) -> None:
        if connection.phase is Phase.OPENING:
            self.close(connection, CloseCode.PROTOCOL_ERROR, "hello must come first")
            return
        connection.reply_error(message.request_id, message.error)
        connection.num_errors += 1
        if connection.num_errors >= self.config.limits.errors:
            self.close(connection, CloseCode.TOO_MANY_ERRORS, "too many bad messages")

    def _refuse_frame(
        self,
        connection: Connection,
        decoded: list[ClientMessage | EncodedPublish | codec.BadMessage],
    ) -> None:
        """Answer every request of a frame that came too fast; who goes on like that is closed."""
        count = len(decoded)
        connection.num_over_rate += count
        if connection.num_over_rate > self.config.limits.messages_burst:
            self.close(connection, CloseCode.TOO_MANY_REQUESTS, "rate limit exceeded")
            return
        wait_s = min(self._rate.wait_s(connection.rate_full_at, count, self.now), 60.0)
        error = SyncdError(ErrorCode.RATE_LIMITED, after_ms=int(wait_s * 1000) + 1)
        for message in decoded:
            is_bad = isinstance(message, codec.BadMessage)
            name = "request_id" if is_bad else "id"
            connection.reply_error(getattr(message, name, None), error)

    def _pong(self, connection: Connection, payload: bytes) -> None:
        """Answer a WebSocket ping; pings count as messages."""
        full_at = self._rate.spend(connection.rate_full_at, 1, self.now)
        if full_at >= 0:
            connection.rate_full_at = full_at
            connection.queue(encode_frame(PONG, payload))
            return
        connection.num_over_rate += 1
        if connection.num_over_rate > self.config.limits.messages_burst:
            self.close(connection, CloseCode.TOO_MANY_REQUESTS, "rate limit exceeded")

    def _control(self, connection: Connection, opcode: int, payload: bytes) -> None:
        if opcode == PING:
            if connection.phase < Phase.CLOSING:
                self._pong(connection, payload)
        elif opcode == CLOSE:
            if connection.phase < Phase.CLOSING:
                connection.queue(encode_frame(CLOSE, payload[:2]))
                connection.close_code = int.from_bytes(payload[:2], "big") or 1005
                self._await_end(connection)
            self._end(connection, is_mutual=True)
        elif opcode == TEXT:
            self.receive_text(connection, payload)

    def watch_room(self, connection: Connection) -> None:
        """The connection has something waiting: have its driver call `Writer.on_room`."""
        driver = self.drivers.get(id(connection))
        if driver is not None:
            driver.watch_room(connection)

    # ---------------------------------------------------------------- commands out, to the actors

    def hand_over(self) -> None:
        """Give each actor what this round brought, in one batch; never waits."""
        for lane in self.lanes:
            if lane:
                lane.hand_over()

    def finish_soon(self) -> None:
        """Something was queued outside a round of a driver: have the round's end come soon."""
        self.on_late()

    def charge(self) -> int:
        """Return the bytes of the frame in hand, to the first that asks: what its messages carry counts once."""
        size, self.frame_bytes = self.frame_bytes, 0
        return size

    def _park(self, lane: Lane, batch: ParkedBatch) -> None:
        for connection in batch.connections:
            self.pause(connection)
        self.on_parked(lane)

    def pause(self, connection: Connection) -> None:
        """Read nothing more from it until `resume`."""
        if not connection.is_paused and not connection.closed:
            connection.is_paused = True
            self.drivers[id(connection)].set_reading(connection, is_reading=False)

    def resume_unless_parked(self, connection: Connection) -> None:
        """Read from it again, if it reads what we sent, and neither a lane nor its own wait holds too much of it."""
        outbox, held = connection.outbox, connection.held
        if outbox is not None and outbox.size_bytes * 4 > outbox.budget_bytes:
            return
        if held is not None and held.is_full:
            return
        if not any(lane.holds(connection) for lane in self.lanes):
            self.resume(connection)

    def resume(self, connection: Connection) -> None:
        """Read from it again."""
        if connection.is_paused and not connection.closed:
            connection.is_paused = False
            self.drivers[id(connection)].set_reading(connection, is_reading=True)
