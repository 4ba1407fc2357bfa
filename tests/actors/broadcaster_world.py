"""A broadcaster with small honest neighbours: sessions that note what they are sent, a fan-out with a budget, a store on strings.

Nothing here decides what is right. `World` performs steps, `broadcaster_promises` reads the notes and says whether they keep
the promises.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs
import msgpack
import trio
import trio.testing

from syncd.actors.broadcaster import Broadcaster
from syncd.actors.kit import ActorHealth, supervise
from syncd.config import Config, HistoryKind, Limits, Mode, Namespace
from syncd.errors import StoreUnavailable, SyncdError
from syncd.ids import ChannelName, Epoch, Position
from syncd.ports import (
    Fanout,
    Identity,
    PublishEvent,
    ReadHistory,
    ResumeSubscriptions,
    Run,
    SessionDrained,
    SessionPort,
    SubscribeChannel,
    Subscription,
    SubscriptionsClosed,
    UnsubscribeChannel,
)
from syncd.ports_log import AppendRequest, IdempotencyKey, LogQuery, StoreHandle
from syncd.store.base import Retention, StoreOptions
from syncd.store.memory import MemoryStore
from syncd.wire import encode
from syncd.wire.channels import namespace_of

NAMESPACES = {
    "mem": Namespace("mem", history=HistoryKind.MEMORY, history_size=12),
    "none": Namespace("none", history=HistoryKind.NONE),
    "dur": Namespace("dur", history=HistoryKind.DURABLE, history_size=24),
    "lat": Namespace("lat", Mode.LATEST, HistoryKind.MEMORY, history_size=6),
    "dlat": Namespace("dlat", Mode.LATEST, HistoryKind.DURABLE, history_size=6),
    "live": Namespace("live", Mode.EPHEMERAL, HistoryKind.NONE),
}

COLLECTIONS = {
    "orders": Namespace("orders", Mode.COLLECTION, HistoryKind.DURABLE, history_size=24),
    "cached": Namespace("cached", Mode.COLLECTION, HistoryKind.MEMORY, history_size=12),
}


def make_config(**limits: Any) -> Config:
    return Config(namespaces=NAMESPACES, limits=Limits(**limits))


class Crash(Exception):
    """Thrown inside the broadcaster by its fan-out."""


# ------------------------------------------------------------------------------------------------ sessions


@attrs.define(eq=False)
class FakeSession(SessionPort):
    """Notes every message in the order in which it would be written; its socket takes everything or, when slow, nothing."""

    world: World
    id: str
    identity: Identity = attrs.field(factory=Identity)
    closed: bool = False
    is_slow: bool = False
    budget_bytes: int = 400
    tick_bytes: int = 0
    outbox_bytes: int = 0
    notes: list[tuple[str, dict[str, Any]]] = attrs.field(factory=list)
    subscriptions: dict[ChannelName, Subscription] = attrs.field(factory=dict)
    waiting: list[Subscription] = attrs.field(factory=list)
    ids: itertools.count[int] = attrs.field(factory=lambda: itertools.count(1))
    asked: dict[int, tuple[str, Any]] = attrs.field(factory=dict)
    """Request id to (what, about what)."""

    def note(self, message: bytes) -> None:
        kind, body = msgpack.unpackb(message)
        self.notes.append((kind, body))
        self.world.notes.append((self, kind, body))

    def send_event(self, channel: ChannelName, message: bytes) -> None:
        self.send(message)

    def send(self, message: bytes) -> None:
        if self.closed:
            return
        if self.outbox_bytes:
            self.outbox_bytes += len(message)
        else:
            self.tick_bytes += len(message)
        self.note(message)

    def reply_ok(self, request_id: int, epoch: Epoch | None = None, offset: int = 0) -> None:
        self.send(encode.ok(request_id, epoch, offset))

    def reply_error(self, request_id: int, error: SyncdError) -> None:
        self.send(encode.error(request_id, error))

    def reply_events(
        self, request_id: int, epoch: Epoch, offset: int, bodies: Iterable[bytes]
    ) -> None:
        self.send(encode.ok_events(request_id, epoch, offset, list(bodies)))

    def send_outcome(self, outcome: bytes, positions: Mapping[ChannelName, Position]) -> None:
        told = {name: [position.epoch, position.offset] for name, position in positions.items()}
        body = {"value": msgpack.unpackb(outcome), "positions": told}
        self.send(encode.message("outcome", body))

    def send_out_of_order(self, client: str, expect: int) -> None:
        raise NotImplementedError

    def refuse_mutation(self, client: str | None, mid: int, error: SyncdError) -> None:
        raise NotImplementedError

    def subscription(self, channel: ChannelName) -> Subscription | None:
        return self.subscriptions.get(channel)

    def page_when_drained(self, subscription: Subscription) -> None:
        raise NotImplementedError

    def end_subscription(self, subscription: Subscription, error: SyncdError) -> None:
        self.release(subscription)
        if subscription.pending_id is not None:
            self.reply_error(subscription.pending_id, error)
        else:
            body = {"channel": subscription.channel, "code": "unsubscribed", "reason": "x"}
            self.send(encode.message("unsubscribed", body))

    def lag(self, subscription: Subscription) -> None:
        self.release(subscription)
        self.send(encode.lagged(subscription.channel, subscription.epoch, subscription.offset))

    def release(self, subscription: Subscription) -> None:
        subscription.is_closed, subscription.is_live = True, False
        if self.subscriptions.get(subscription.channel) is subscription:
            del self.subscriptions[subscription.channel]

    def remember_presence(self, channel: ChannelName, client: str, state: bytes | None) -> None:
        raise NotImplementedError

    def send_presence(self, channel: ChannelName, message: bytes) -> bool:
        raise NotImplementedError

    def has_room(self) -> bool:
        return not self.outbox_bytes

    def call_when_drained(self, subscription: Subscription) -> None:
        assert self.outbox_bytes, "nobody would ever call"
        self.waiting.append(subscription)

    # ------------------------------------------------------------------ the socket

    def flush(self) -> None:
        if self.is_slow:
            self.outbox_bytes += self.tick_bytes
        self.tick_bytes = 0

    def drain(self) -> None:
        """The socket takes everything that waits."""
        self.flush()
        self.outbox_bytes = 0
        waiting, self.waiting = self.waiting, []
        if waiting:
            self.world.submit(SessionDrained(waiting))


@attrs.define
class FakeFanout(Fanout):
    """Delivers within the sessions' budgets, counts, and crashes when told to."""

    world: World
    num_since_checkpoint: int = 0
    most_between_checkpoints: int = 0
    num_flushes: int = 0
    crash_in: int | None = None
    """Deliveries (or flushes) until one raises."""

    def deliver(self, subscriptions: Iterable[Subscription], run: Run) -> list[Subscription]:
        fallen = []
        for subscription in subscriptions:
            self._count()
            session = subscription.session
            assert isinstance(session, FakeSession)
            if subscription.is_closed or session.closed:
                continue
            offset = run.offset - len(run.messages)
            for index, (_key, message) in enumerate(run.messages):
                offset = offset + 1 if run.offsets is None else run.offsets[index]
                size = session.outbox_bytes + len(message)
                if session.outbox_bytes and size > session.budget_bytes:
                    session.lag(subscription)
                    fallen.append(subscription)
                    break
                session.send(message)
                subscription.offset = offset if run.epoch is not None else 0
            else:
                subscription.offset = run.offset
        return fallen

    def _count(self) -> None:
        self.num_since_checkpoint += 1
        most = max(self.most_between_checkpoints, self.num_since_checkpoint)
        self.most_between_checkpoints = most
        self._come_to_grief()

    def _come_to_grief(self) -> None:
        if self.crash_in is not None:
            self.crash_in -= 1
            if self.crash_in < 0:
                self.crash_in = None
                raise Crash

    def flush(self) -> None:
        self.num_flushes += 1
        self._come_to_grief()
        for session in self.world.sessions:
            session.flush()


# ------------------------------------------------------------------------------------------------ store


@attrs.define
class ScriptedStore(StoreHandle):
    """Does nothing by itself: the test says when an ask is performed and when its answer is told.

    As the store actor promises: appends are performed in order, and answers are told in the order in which asks were performed.
    """

    log: MemoryStore
    asks: list[tuple[str, Callable[[], Any], Callable[[Any], None]]] = attrs.field(factory=list)
    answers: list[tuple[Callable[[Any], None], Any]] = attrs.field(factory=list)
    batches: list[int] = attrs.field(factory=list)

    def append(self, batch: list[AppendRequest], done: Callable[[Any], None]) -> None:
        self.batches.append(len(batch))
        self.asks.append(("append", lambda: self._append(batch), done))

    def _append(self, batch: list[AppendRequest]) -> Any:
        results = self.log.begin(batch)
        self.log.commit()
        return results

    def load(
        self, channel: ChannelName, tail_events: int, tail_bytes: int, done: Callable[[Any], None]
    ) -> None:
        self.asks.append(("load", lambda: self.log.load(channel, tail_events, tail_bytes), done))

    def read(self, query: LogQuery, done: Callable[[Any], None]) -> None:
        self.asks.append(("read", lambda: self.log.read(query), done))

    def perform(
        self, number: int = 0, *, fails: bool = False, instead: SyncdError | None = None
    ) -> None:
        """Perform the ask at `number`, or the first append if that one is to go later.

        `fails` does nothing and says so; `instead` is the answer although it was done, as of a store that crashed behind its commit.
        """
        if self.asks[number][0] == "append":
            number = next(i for i, ask in enumerate(self.asks) if ask[0] == "append")
        _kind, work, done = self.asks.pop(number)
        answer = StoreUnavailable() if fails else work()
        self.answers.append((done, answer if instead is None else instead))

    def tell(self) -> None:
        """Tell the oldest answer."""
        done, answer = self.answers.pop(0)
        done(answer)

    def settle(self) -> None:
        """Perform and tell everything."""
        while self.asks:
            self.perform()
        while self.answers:
            self.tell()


def make_log() -> MemoryStore:
    def retention_of(channel: ChannelName) -> Retention:
        namespace = (NAMESPACES | COLLECTIONS)[namespace_of(channel)]
        is_latest = namespace.mode is Mode.LATEST
        return Retention(namespace.history_size, namespace.history_age_s, is_latest)

    entropy = itertools.count(1)
    log = MemoryStore(
        StoreOptions(retention_of, entropy=lambda size: next(entropy).to_bytes(size, "big"))
    )
    log.open()
    return log


# ------------------------------------------------------------------------------------------------ the world


class World:
    """One broadcaster, its neighbours, and everything that was said, in order."""

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or make_config()
        self.store = ScriptedStore(make_log())
        self.sessions: list[FakeSession] = []
        self.notes: list[tuple[FakeSession, str, dict[str, Any]]] = []
        self.fanout = FakeFanout(self)
        self.wall_ms = 1_000_000
        self._epochs = itertools.count(1)
        self.health = ActorHealth("broadcaster")
        self.at_restart: Callable[[], None] = lambda: None
        """Done after a crash, before the subscriptions are handed over."""
        self.held: list[Any] | None = None
        """Commands that the gateway has not handed over yet, while it holds them back."""
        self.broadcaster = Broadcaster(
            self.config,
            fanout=self.fanout,
            store=self.store,
            wall_ms=lambda: self.wall_ms,
            new_epoch=lambda: Epoch(f"{next(self._epochs):016x}"),
            collections=list(COLLECTIONS.values()),
            volatile_head=self.volatile_head,
        )

    def volatile_head(self, channel: ChannelName) -> Position:
        """Where the channel of a volatile collection stands."""
        return Position(Epoch("a" * 16), 0)

    async def start(self, nursery: trio.Nursery) -> None:
        async def run(*, task_status: trio.TaskStatus[None]) -> None:
            await supervise(
                self.broadcaster, self.health, on_restart=self.resume, task_status=task_status
            )

        await nursery.start(run)

    def resume(self) -> None:
        """What `server.Node` does after a restart; what the gateway holds back it hands over afterwards."""
        self.at_restart()
        found = [s for session in self.sessions for s in session.subscriptions.values()]
        if found:
            self.broadcaster.mailbox.put_reply(ResumeSubscriptions(found))
        held, self.held = self.held, None
        if held:
            self.submit(*held)

    async def settled(self) -> None:
        """Let the broadcaster do what it can; a slice counts from here."""
        await trio.testing.wait_all_tasks_blocked()

    async def quiet(self) -> None:
        """Let everything happen that can happen: the store answers, sockets drain."""
        for _ in range(200):
            await self.settled()
            self.store.settle()
            for session in self.sessions:
                session.is_slow = False
                session.drain()
            await self.settled()
            if not (self.store.asks or self.store.answers) and not any(
                session.waiting or session.outbox_bytes for session in self.sessions
            ):
                return
        raise AssertionError("it never comes to rest")

    # ------------------------------------------------------------------ what clients do

    def submit(self, *commands: Any) -> None:
        if self.held is not None:
            self.held += commands
        else:
            self.broadcaster.submit_nowait(commands, 0)

    def session(self, **options: Any) -> FakeSession:
        session = FakeSession(self, f"s{len(self.sessions)}", **options)
        self.sessions.append(session)
        return session

    def subscribe(
        self, session: FakeSession, channel: str, since: Position | None = None
    ) -> Subscription:
        name, request_id = ChannelName(channel), next(session.ids)
        subscription = Subscription(session, name, pending_id=request_id, since=since)
        session.subscriptions[name] = subscription
        session.asked[request_id] = ("subscribe", (name, since))
        self.submit(SubscribeChannel(subscription))
        return subscription

    def unsubscribe(self, session: FakeSession, channel: str) -> None:
        """As the gateway does it: closed and answered at once, told afterwards."""
        subscription = session.subscriptions[ChannelName(channel)]
        session.release(subscription)
        if subscription.pending_id is not None:
            session.asked.pop(subscription.pending_id)
        request_id = next(session.ids)
        session.asked[request_id] = ("unsubscribe", subscription.channel)
        session.reply_ok(request_id)
        self.submit(UnsubscribeChannel(subscription))

    def close(self, session: FakeSession) -> None:
        session.closed = True
        subscriptions = list(session.subscriptions.values())
        for subscription in subscriptions:
            subscription.is_closed = True
        session.subscriptions.clear()
        session.waiting.clear()
        session.outbox_bytes = session.tick_bytes = 0
        self.submit(SubscriptionsClosed(subscriptions))

    def publish(
        self,
        session: FakeSession,
        channel: str,
        data: object,
        *,
        key: str | None = None,
        uid: str | None = None,
        request: bytes = b"r",
        name: str | None = None,
    ) -> int:
        request_id = next(session.ids)
        session.asked[request_id] = ("publish", (channel, data, key))
        known = None
        if uid is not None:
            known = IdempotencyKey(f"client:{session.id}", "publish", uid, request)
        command = PublishEvent(
            session,
            request_id,
            ChannelName(channel),
            encode.pack(data),
            name=name,
            key=key,
            client=session.id,
            idempotency=known,
        )
        self.submit(command)
        return request_id

    def history(self, session: FakeSession, channel: str, **options: Any) -> int:
        request_id = next(session.ids)
        session.asked[request_id] = ("history", channel)
        options.setdefault("limit", 1000)
        self.submit(ReadHistory(session, request_id, ChannelName(channel), **options))
        return request_id
