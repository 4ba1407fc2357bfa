"""One connection: data, not a task.

Owner of its fields: the gateway. Whoever drives it (the epoll poller or a stream driver) feeds bytes to `Gateway.receive` and
writes what `Gateway.flush` hands it. Memory counts here: ten thousand of these sit idle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from syncd.codes import ErrorCode, Reason
from syncd.errors import RequestRejected, SyncdError
from syncd.ids import ChannelName, Epoch, Position
from syncd.model.outbox import Outbox
from syncd.ports import Identity, Subscription
from syncd.wire import encode, encode_outcomes, encode_state
from syncd.wire.frames import BINARY, FrameDecoder, encode_frame
from syncd.wire.session import Phase

if TYPE_CHECKING:
    from syncd.gateway.grants import Grant
    from syncd.gateway.holding import Held
    from syncd.gateway.terms import Group

__all__ = ["Connection", "ConnectionOwner", "Sender", "unanswered", "was_live"]

ANONYMOUS = Identity()
_CLOSING = Phase.CLOSING


class Sender(Protocol):
    """What carries the bytes away."""

    def send(self, data: bytes, /) -> int:
        """Take as much as fits now and return how much; BlockingIOError for nothing, OSError when broken."""

    def close(self) -> None:
        """End the transport at once."""


class ConnectionOwner(Protocol):
    """What a connection needs of the gateway's writer."""

    dirty: list[Connection]
    """Connections with something in `tick`."""
    num_lagged: int
    num_queued: int
    """Frames handed over one by one, deliveries not among them."""
    paged: list[Connection]
    """Connections that wait for room they have already: they are asked for their next page after the flush."""

    def finish_soon(self) -> None:
        """Something was queued by an actor that does not flush."""

    def count_error(self, code: str) -> None:
        """A client was told this error."""

    def behind(self, connection: Connection) -> None:
        """Something was added to the connection's outbox."""

    def frame_shared(self, message: bytes) -> bytes:
        """Frame a message that many connections get one after the other: once."""

    def unwatch(self, connection: Connection, channel: ChannelName) -> None:
        """The session's presence watch on a channel ends."""


class _Hot:
    """What a delivery looks at, side by side in memory: fields of a base lie before all others, which are sorted by their names.

    A delivery to one of thousands finds nothing of it in the processor's caches, and waits for every 64 bytes that it touches.
    """

    __slots__ = ("is_direct", "outbox", "sender")

    is_direct: bool
    outbox: Outbox | None
    sender: Sender


class Connection(_Hot):
    """A peer's connection and, past `hello`, its session (implements `ports.SessionPort`).

    Writing: frames of one tick gather in `tick` and leave in one send; what its channel tells a session that `is_direct` goes past it, as it
    is. What the socket does not take goes to `outbox`, which exists only while something waits; while it exists, nothing bypasses it.
    """

    __slots__ = (
        "__weakref__",
        "after",
        "announced",
        "clients",
        "close_code",
        "closed",
        "counts_address",
        "decoder",
        "drained_at",
        "due",
        "era",
        "fd",
        "grants",
        "group",
        "held",
        "hello_deadline",
        "id",
        "identity",
        "is_paused",
        "is_single",
        "last_seen",
        "looked_at",
        "num_errors",
        "num_over_rate",
        "num_pages",
        "num_reads",
        "owner",
        "paging",
        "peer",
        "permits",
        "phase",
        "ping_due",
        "rate_full_at",
        "subscriptions",
        "term",
        "tick",
        "waiting",
        "watched",
    )

    def __init__(  # noqa: PLR0915 - one line a field
        self, owner: ConnectionOwner, sender: Sender, fd: int, peer: str
    ) -> None:
        self.owner = owner
        self.sender = sender
        self.fd = fd
        """-1 when a stream driver carries it."""
        self.peer = peer
        self.id = self.era = ""
        """The era is the life of the store in which it was told where its clients' mutations stand."""
        self.phase = Phase.HEAD
        self.closed = False
        self.close_code = 0
        self.identity = ANONYMOUS
        self.clients: tuple[str, ...] = ()
        self.group: Group | None = None
        """Of sessions that share a client store, of which the newest mutates."""
        self.term = 0
        self.after: dict[str, Position] | None = None
        """What its reads and watches have to have seen, by channel; from `hello`."""
        self.decoder: FrameDecoder | None = None
        self.tick: list[bytes] = []
        self.outbox: Outbox | None = None
        self.subscriptions: dict[ChannelName, Subscription] | None = None
        self.is_single = self.is_direct = False
        """It follows one channel; and nothing waits to be sent: what the channel tells may go as it is. All that a delivery asks."""
        self.grants: dict[ChannelName, Grant] | None = None
        self.permits: dict[tuple[int, str], bool] | None = None
        """What it may do with collections, by action and target (`gateway.grants`)."""
        self.held: Held | None = None
        """What waits for an answer without which nothing of it may be handled (`gateway.holding`)."""
        self.announced: dict[tuple[ChannelName, str], bytes] | None = None
        """Presence states of this session, for a presence actor that starts anew."""
        self.watched: set[ChannelName] | None = None
        """Channels whose presence it watches."""
        self.waiting: list[Subscription] | None = None
        """Subscriptions to be told when the outbox is empty."""
        self.paging: list[Subscription] | None = None
        """Watches with a further page of their snapshot to be sent when the outbox is empty."""
        self.is_paused = False
        """Nothing is read: its commands found a full mailbox, or it does not read our answers."""
        self.num_errors = self.num_over_rate = self.num_pages = self.num_reads = 0
        """The last two: history requests (`gateway.pages`) and reads on their way."""
        self.counts_address = False
        self.rate_full_at = 0.0
        """State of its message rate (`model.rate_limit`)."""
        self.last_seen = self.drained_at = 0.0
        self.hello_deadline = self.ping_due = self.looked_at = 0.0
        """The last: when the authorizer was asked about what it follows."""
        self.due = float("inf")
        """Next time the coarse timer looks at it."""

    # -------------------------------------------------------------- ports.SessionPort

    def send(self, message: bytes) -> None:
        """Queue one encoded message; it is never dropped while the connection lives."""
        self.queue(encode_frame(BINARY, message))

    def reply_ok(self, request_id: int, epoch: Epoch | None = None, offset: int = 0) -> None:
        """Answer ok, with a position if there is one."""
        self.queue(encode_frame(BINARY, encode.ok(request_id, epoch, offset)))

    def reply_error(self, request_id: int | None, error: SyncdError) -> None:
        """Answer with an error and count it."""
        self.owner.count_error(error.code.value)
        self.queue(encode_frame(BINARY, encode.error(request_id, error)))

    def reply_events(
        self, request_id: int, epoch: Epoch, offset: int, bodies: Sequence[bytes]
    ) -> None:
        """Answer a history request."""
        self.send(encode.ok_events(request_id, epoch, offset, bodies))

    def end_subscription(self, subscription: Subscription, error: SyncdError) -> None:
        """The broadcaster cannot serve a subscription: tell, and take it out of the table."""
        pending = unanswered(subscription)
        self.release(subscription)
        for request_id in pending:
            self.reply_error(request_id, error)
        if not pending:
            self.send_unsubscribed(subscription.channel, Reason.UNSUBSCRIBED, error.message)

    def fail_watch(self, subscription: Subscription, request_id: int, error: SyncdError) -> None:
        """A `watch` request fails: what was watched before goes on, what never was is forgotten."""
        if subscription.is_closed:
            return
        watch = subscription.watch
        if watch is not None and not was_live(subscription):
            if request_id in watch.asked:
                watch.asked.remove(request_id)
            if not watch.asked:
                self.release(subscription)
        self.reply_error(request_id, error)
        self.owner.finish_soon()

    def send_unsubscribed(self, channel: ChannelName, code: Reason, reason: str) -> None:
        """Tell that the server ended a subscription."""
        body = {"channel": channel, "code": code.value, "reason": reason}
        self.send(encode.message("unsubscribed", body))

    def lag(self, subscription: Subscription) -> None:
        """End a subscription that fell behind: `lagged`, in order behind what is queued."""
        self.release(subscription)
        self.owner.num_lagged += 1
        self.send(encode.lagged(subscription.channel, subscription.epoch, subscription.offset))

    def enter(self, subscription: Subscription, limit: int) -> None:
        """Put a subscription into the table. Raises `RequestRejected` when there are `limit` of them."""
        table = self.subscriptions
        if table is None:
            table = self.subscriptions = {}
        if len(table) >= limit:
            text = f"A session may hold {limit} subscriptions."
            raise RequestRejected(ErrorCode.LIMIT_EXCEEDED, text)
        table[subscription.channel] = subscription
        self._count_subscriptions(table)

    def _count_subscriptions(self, table: Mapping[ChannelName, Subscription]) -> None:
        self.is_single = len(table) == 1
        self.is_direct = self.is_single and self.outbox is None and not self.tick

    def release(self, subscription: Subscription) -> None:
        """Take a subscription out of the table: nothing of it is sent from now on."""
        subscription.is_closed = True
        subscription.is_live = False
        if subscription.watch is not None:
            subscription.watch.snapshot_id = None
        channel = subscription.channel
        if self.subscription(channel) is subscription and self.subscriptions is not None:
            del self.subscriptions[channel]
            self._count_subscriptions(self.subscriptions)
        if self.watched is not None and channel in self.watched:
            self.watched.discard(channel)
            self.owner.unwatch(self, channel)

    def has_room(self) -> bool:
        """Whether nothing waits for the socket."""
        return self.outbox is None or not self.outbox

    def call_when_drained(self, subscription: Subscription) -> None:
        """Have `SessionDrained` submitted for it once the outbox is empty."""
        if self.waiting is None:
            self.waiting = []
        self.waiting.append(subscription)

    def page_when_drained(self, subscription: Subscription) -> None:
        """Have `SnapshotDrained` submitted for it once the outbox is empty."""
        if self.paging is None:
            self.paging = []
            self.owner.paged.append(self)
            self.owner.finish_soon()
        self.paging.append(subscription)

    def send_presence(self, channel: ChannelName, message: bytes) -> bool:
        """Queue a presence message, or return False when presence has used up its share of the budget."""
        if self.phase >= _CLOSING or self.watched is None or channel not in self.watched:
            return True  # nobody there to see it any more
        frame = self.owner.frame_shared(message)
        if self.outbox is None:
            self.queue(frame)
            return True
        is_taken = self.outbox.push_presence(channel, frame)
        self.owner.behind(self)
        return is_taken

    def remember_presence(self, channel: ChannelName, client: str, state: bytes | None) -> None:
        """Keep an accepted state, for a presence actor that starts anew."""
        if self.announced is None:
            return  # the session is over, and that was told
        if state is None:
            self.announced.pop((channel, client), None)
        else:
            self.announced[channel, client] = state

    # -------------------------------------------------------------- ports_collections.MutationAsker

    def send_outcome(self, outcome: bytes, positions: Mapping[ChannelName, Position]) -> None:
        """Tell the outcome of a mutation."""
        self.send(encode_outcomes.outcome_message(outcome, positions))

    def send_out_of_order(self, client: str, expect: int) -> None:
        """Tell that an earlier mutation of the client is missing."""
        self.send(encode_state.out_of_order(client, expect))
        self.owner.finish_soon()

    def refuse_mutation(self, client: str | None, mid: int, error: SyncdError) -> None:
        """Tell that a mutation was not decided, and count the error."""
        if self.phase >= _CLOSING:
            return
        self.owner.count_error(error.code.value)
        self.send(encode_state.undecided(client or "", mid, error))
        self.owner.finish_soon()

    # -------------------------------------------------------------- for the gateway

    def send_event(self, channel: ChannelName, message: bytes) -> None:
        """Queue what a subscriber missed; it goes when the channel is taken away."""
        self.queue(encode_frame(BINARY, message), channel)

    def queue(self, frame: bytes, channel: ChannelName | None = None) -> None:
        """Queue one WebSocket frame for this tick's send. Nothing follows a close frame."""
        if self.phase >= _CLOSING:
            return
        self.owner.num_queued += 1
        if self.outbox is None:
            tick = self.tick
            if not tick:
                self.owner.dirty.append(self)
                self.is_direct = False
            tick.append(frame)
        else:
            self.outbox.push(frame, channel)
            self.owner.behind(self)

    def own(self) -> list[bytes]:
        """Return what stands in the frames of changes that clients of this session made: their ids."""
        return [client.encode() for client in self.clients]

    def park(self, data: bytes, sent: int, budget_bytes: int, now: float) -> None:
        """Keep what the socket did not take; from now on frames line up behind it."""
        self.outbox = Outbox(budget_bytes, self.own())
        self.outbox.push_torso(data, sent)
        for frame in self.tick:  # queued in this tick, behind what was to go as it is
            self.outbox.push(frame)
        self.tick.clear()
        self.is_direct = False
        self.drained_at = now

    def subscription(self, channel: ChannelName) -> Subscription | None:
        """Return the open subscription to a channel."""
        return None if self.subscriptions is None else self.subscriptions.get(channel)


def was_live(subscription: Subscription) -> bool:
    """Whether something of it was told already: a position stands in it from then on."""
    return subscription.is_live or subscription.epoch is not None


def unanswered(subscription: Subscription) -> list[int]:
    """Return the requests that are to be answered when it ends before it was live; none if it was."""
    if subscription.watch is not None:
        return [] if was_live(subscription) else list(subscription.watch.asked)
    return [] if subscription.pending_id is None else [subscription.pending_id]
