"""Some nodes over one store: real broadcasters, cache-owners and bridges, a store in memory that all share, and a bus that is late and loses.

Nothing here decides what is right. `SharedWorld` performs steps; what clients see goes to the history checkers of `syncd.testing`.
"""

from __future__ import annotations

import collections
import contextlib
import copy
import itertools
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs
import msgpack
import trio
import trio.testing

from syncd.actors.bridge import Bridge
from syncd.actors.broadcaster import Broadcaster
from syncd.actors.cache_owner import CacheOwner
from syncd.actors.store import StoreActor
from syncd.actors.store_worker import InlineWorker
from syncd.app import App
from syncd.config import Config, HistoryKind, Mode, Namespace
from syncd.errors import SyncdError
from syncd.ids import ChannelName, Epoch, Position
from syncd.ports import Identity, SubscribeChannel, Subscription, Watch
from syncd.ports_bus import BusEvents
from syncd.ports_collections import MutateState, ReadEntries, WatchEntries
from syncd.ports_log import Appended, ChannelHead
from syncd.ports_state import Committed, KeyName
from syncd.store.base import EPOCH_SEED, Retention, StoreOptions
from syncd.store.memory import MemoryStore
from syncd.store.redis_keys import BusEvent, BusMessage, RedisNames, encode_message
from tests.actors.broadcaster_world import FakeFanout, FakeSession

NAMES = RedisNames("syncd")
LOG = ChannelName("dur:log")
LIVE = ChannelName("live:a")
COUNTERS = ChannelName("counters")
KEYS = [KeyName(name) for name in "abc"]
ANN = Identity(user="ann")
SIZE = 100_000


def make_app() -> App:
    app = App()
    counters = app.collection("counters", history_size=SIZE)

    @counters.mutator
    def add(tx: Any, key: str) -> object:
        return tx.incr(key)

    return app


# ------------------------------------------------------------------------------------------------ what nodes share


class SharedFile:
    """The data, and whoever is told of commits."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.store = MemoryStore(
            StoreOptions(lambda _channel: Retention(SIZE, 1e9), entropy=rng.randbytes)
        )
        self.store.open()
        self.buses: list[LossyBus] = []

    def publish(self, topic: bytes, payload: bytes) -> None:
        for bus in self.buses:
            bus.told.append((topic, payload))

    def copy(self) -> MemoryStore:
        """Return the data as they are now."""
        return copy.deepcopy(self.store)

    def lose(self, kept: MemoryStore) -> None:
        """Go on from a copy, as a server does that lost the end: in new epochs, with nothing in any log."""
        self.store = kept
        kept._meta[EPOCH_SEED] = self._rng.randbytes(32)
        for channel, log in kept._logs.items():
            log.epoch = kept._epoch_of(channel)
            log.events.clear()
            log.floor = log.top


class NodesStore:
    """The data as one node has them: every commit is told to all."""

    blocks = False

    def __init__(self, file: SharedFile, node: str) -> None:
        self._file, self._node = file, node
        self._to_tell: list[tuple[ChannelName, Epoch, BusEvent]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file.store, name)

    def begin(self, batch: Sequence[Any]) -> Any:
        results = self._file.store.begin(batch)
        for request, result in zip(batch, results, strict=True):
            if isinstance(result, Appended) and not result.is_duplicate:
                event = BusEvent(result.offset, request.at_ms, request.key, request.record)
                self._to_tell.append((request.channel, result.epoch, event))
        return results

    def begin_commit(self, group: Sequence[Any]) -> Any:
        results = self._file.store.begin_commit([self._of_this_life(each) for each in group])
        for mutation, result in zip(group, results, strict=True):
            if isinstance(result, Committed):
                for write, version in zip(mutation.writes, result.versions, strict=True):
                    event = BusEvent(version, mutation.at_ms, write.key, write.record, write.full)
                    epoch = result.positions[write.channel].epoch
                    self._to_tell.append((write.channel, epoch, event))
        return results

    def _of_this_life(self, mutation: Any) -> Any:
        """`MutationCommit.epochs`, which a store that nobody shares does not look at."""
        load = self._file.store.load
        if all(load(name, 0, 0).head.epoch == epoch for name, epoch in mutation.epochs.items()):
            return mutation
        reads = [attrs.evolve(read, version=-2) for read in mutation.reads]
        return attrs.evolve(mutation, reads=reads)

    def commit(self) -> None:
        self._file.store.commit()
        to_tell, self._to_tell = self._to_tell, []
        for (channel, epoch), events in itertools.groupby(to_tell, lambda each: each[:2]):
            message = BusMessage(self._node, epoch, [event for _, _, event in events])
            self._file.publish(NAMES.bus(channel).encode(), encode_message(message))

    def heads(
        self, channels: Sequence[ChannelName], told: Mapping[ChannelName, Position] | None = None
    ) -> list[ChannelHead]:
        """See `StateReader.heads`: a node's word that it was told more begins another life."""
        heads = self._file.store.heads(channels)
        known = told or {}
        if any(head.lacks(known[name]) for name, head in zip(channels, heads, strict=True)):
            self._file.lose(self._file.copy())
        return self._file.store.heads(channels)

    def close(self) -> None:
        """The others go on."""


class LossyBus:
    """What one node hears, when the test says so."""

    def __init__(self, file: SharedFile, events: BusEvents) -> None:
        self.events = events
        self.told: collections.deque[tuple[bytes, bytes]] = collections.deque()
        self._file = file
        self._wanted: dict[bytes, bool] = {}
        """Whether it was subscribed, and its gap told."""
        self._gaps: set[bytes] = set()
        file.buses.append(self)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        self.events.on_link(is_up=True)
        await trio.sleep_forever()

    def publish(self, topic: bytes, payload: bytes) -> bool:
        self._file.publish(topic, payload)
        return True

    def want(self, topics: Iterable[bytes]) -> None:
        for topic in topics:
            self._wanted[topic] = False
            self._gaps.add(topic)

    def unwant(self, topics: Iterable[bytes]) -> None:
        for topic in topics:
            self._wanted.pop(topic, None)
            self._gaps.discard(topic)

    def statistics(self) -> Any:
        raise NotImplementedError

    def deliver(self, count: int) -> None:
        """Bring messages, oldest first; those of topics that are not subscribed yet do not come."""
        taken = [self.told.popleft() for _ in range(min(count, len(self.told)))]
        batch = [each for each in taken if self._wanted.get(each[0])]
        if batch:
            self.events.on_messages(batch)

    def lose(self, count: int) -> None:
        """Messages never come; a gap is told some time later."""
        for _ in range(min(count, len(self.told))):
            topic, _payload = self.told.popleft()
            if topic in self._wanted:
                self._gaps.add(topic)

    def tell_gaps(self) -> None:
        """Tell what is owed. What waits came before, so it may go as well as come."""
        gaps, self._gaps = self._gaps, set()
        for topic in gaps:
            self._wanted[topic] = True
        if gaps:
            self.events.on_gap(sorted(gaps))

    def cut(self) -> None:
        """The link is cut: what waits is lost, and a gap is owed of everything."""
        self.told.clear()
        self._gaps.update(self._wanted)

    def gap_everywhere(self) -> None:
        """The link was cut, and is there again."""
        self.cut()
        self.tell_gaps()


# ------------------------------------------------------------------------------------------------ a node


class Session(FakeSession):
    """A connection of one client to one node."""

    clients: Sequence[str] = ()

    def send_outcome(self, outcome: bytes, positions: Any) -> None:
        body = msgpack.unpackb(outcome)
        body["positions"] = {
            name: {"epoch": at.epoch, "offset": at.offset} for name, at in positions.items()
        }
        self.note(msgpack.packb(["outcome", body]))

    def send_out_of_order(self, client: str, expect: int) -> None:
        self.note(msgpack.packb(["out_of_order", {"expect": expect}]))

    def refuse_mutation(self, client: str | None, mid: int, error: SyncdError) -> None:
        self.note(msgpack.packb(["refused", {"mid": mid, "code": error.code.value}]))


class Node:
    """One of several."""

    def __init__(self, file: SharedFile, name: str, rng: random.Random) -> None:
        self.name = name
        self.notes: list[Any] = []
        self.sessions: list[FakeSession] = []
        self.bus: LossyBus | None = None
        self.store = StoreActor(
            NodesStore(file, name),  # type: ignore[arg-type]
            InlineWorker(),
            wall_clock=lambda: 1_790_000_000 + trio.current_time(),
        )
        self._file = file
        self.bridge = Bridge(
            node=name,
            names=NAMES,
            make_bus=self._make_bus,
            store=self.store,
            chance=lambda: 0.5,
            is_unsure=lambda: False,
        )
        epochs = itertools.count(1)
        app = make_app().definition()
        config = Config(
            namespaces={
                "dur": Namespace("dur", history=HistoryKind.DURABLE, history_size=SIZE),
                "live": Namespace("live", Mode.EPHEMERAL, HistoryKind.NONE),
            }
        )

        def wall_ms() -> int:
            return 1_790_000_000_000 + int(trio.current_time() * 1000)

        def new_epoch() -> Epoch:
            return Epoch(f"{name}{next(epochs):014x}")

        counters = Namespace("counters", Mode.COLLECTION, HistoryKind.DURABLE, history_size=SIZE)
        self.broadcaster = Broadcaster(
            config,
            fanout=FakeFanout(self),  # type: ignore[arg-type]
            store=self.store,
            wall_ms=wall_ms,
            new_epoch=new_epoch,
            collections=[counters],
            volatile_head=lambda _channel: Position(Epoch("0"), 0),
            bridge=self.bridge,
        )
        self.owner = CacheOwner(
            app,
            config,
            store=self.store,
            broadcaster=self.broadcaster,
            wall_ms=wall_ms,
            new_epoch=new_epoch,
            chance=rng.random,
            timer=trio.current_time,
            interest=self.bridge.entries_interest,
        )
        self.bridge.connect(self.broadcaster, self.owner)

    def _make_bus(self, events: BusEvents) -> LossyBus:
        self.bus = LossyBus(self._file, events)
        return self.bus

    async def start(self, nursery: trio.Nursery) -> None:
        for actor in (self.store, self.bridge, self.broadcaster, self.owner):
            await nursery.start(actor.run)

    def submit(self, *commands: Any) -> None:
        self.broadcaster.submit_nowait(commands, 0)

    def session(self) -> Session:
        session = Session(self, f"{self.name}-{len(self.sessions)}")  # type: ignore[arg-type]
        self.sessions.append(session)
        return session

    def subscribe(
        self, session: Session, since: Position | None, channel: ChannelName = LOG
    ) -> None:
        subscription = Subscription(session, channel, pending_id=next(session.ids), since=since)
        session.subscriptions[channel] = subscription
        self.submit(SubscribeChannel(subscription))

    def watch(
        self,
        session: Session,
        position: Position | None,
        keys: list[KeyName] | None = None,
        after: dict[str, Position] | None = None,
    ) -> None:
        request_id = next(session.ids)
        watch = Watch(None if keys is None else set(keys))
        subscription = Subscription(session, COUNTERS, pending_id=request_id, watch=watch)
        session.subscriptions[COUNTERS] = subscription
        command = WatchEntries(subscription, request_id, "counters", COUNTERS, keys)
        command.position, command.after = position, after or {}
        self.owner.submit_nowait([command], 0)

    def mutate(self, session: Session, client: str, mid: int, key: str) -> None:
        self.owner.submit_nowait([MutateState(session, client, mid, "counters.add", [key], ANN)], 0)

    def read(self, done: Any, after: dict[str, Position]) -> None:
        self.owner.submit_nowait(
            [ReadEntries("counters", COUNTERS, KEYS, done, None, dict(after))], 0
        )


@contextlib.asynccontextmanager
async def running(count: int, rng: random.Random) -> Any:
    """Run some nodes for the length of a test; yields the shared file and the nodes."""
    file = SharedFile(rng)
    nodes = [Node(file, f"n{index}", rng) for index in range(count)]
    async with trio.open_nursery() as nursery:
        for node in nodes:
            await node.start(nursery)
        yield file, nodes
        nursery.cancel_scope.cancel("over")
