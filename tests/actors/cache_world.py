"""A cache-owner between a real store in memory and a broadcaster that only writes down what it is told."""

import contextlib
import functools
import random

import attrs
import msgpack
import trio

from syncd.actors.cache_owner import CacheOwner
from syncd.actors.cache_owner.messages import Call
from syncd.actors.kit import ActorHealth, supervise
from syncd.actors.store import StoreActor
from syncd.actors.store_worker import InlineWorker
from syncd.app import App
from syncd.config import Config
from syncd.errors import StoreUnavailable, SyncdError
from syncd.ids import Epoch
from syncd.ports import Identity
from syncd.ports_collections import (
    ClearCache,
    DeliverCommitted,
    InvalidateEntries,
    MutateState,
    ReadEntries,
    RenewChannel,
    WatchChannel,
)
from syncd.store.base import Retention, StoreOptions
from syncd.store.memory import MemoryStore

ANN = Identity(user="ann")


class PlantedFault(Exception):
    """What no code of ours raises."""


@attrs.define(eq=False)
class Asker:
    """Whoever mutates: keeps what it is told, in order."""

    told: list = attrs.field(factory=list)

    def send_outcome(self, outcome, positions):
        body = msgpack.unpackb(outcome)
        self.told.append(
            ("outcome", body["mid"], body.get("error", {}).get("code") or body["status"])
        )

    def send_out_of_order(self, client, expect):
        self.told.append(("out_of_order", expect))

    def refuse_mutation(self, client, mid, error):
        self.told.append(("error", mid, error.code.value))


class Listener:
    """In place of the broadcaster: a log of events by channel; outcomes are told in the order they come."""

    def __init__(self):
        self.events = []
        self.renewed = []
        self.publications = []
        self.joins = []
        self.watching = {}

    def deliver_committed(self, message):
        if isinstance(message, RenewChannel):
            self.renewed.append(message.channel)
            return
        assert isinstance(message, DeliverCommitted)
        self.events += message.events
        self.publications += message.publications
        for outcome in message.outcomes:
            outcome.asker.send_outcome(outcome.outcome, outcome.positions)

    def submit_nowait(self, commands, size_bytes):
        self.joins += commands
        for command in commands:
            if isinstance(command, WatchChannel) and command.has_more:
                command.subscription.session.page_when_drained(command.subscription)

    async def submit(self, commands, size_bytes):
        self.submit_nowait(commands, size_bytes)

    def num_watching(self, channel, key):
        return self.watching.get((channel, key), 0)

    def is_watched(self, channel):
        return any(place[0] == channel for place in self.watching)

    def data(self, channel):
        """What the events of a channel told, in order."""
        return [
            (
                event.key,
                msgpack.unpackb(bytes((0x80 | event.record[0],)) + event.record[1:])["data"],
            )
            for event in self.events
            if event.channel == channel
        ]


class Gate:
    """Between a cache-owner and its store: while closed, groups wait here."""

    def __init__(self, store):
        self._store = store
        self._waiting = []
        self.is_open = True

    def __getattr__(self, name):
        return getattr(self._store, name)

    def commit(self, group, done):
        if self.is_open:
            self._store.commit(group, done)
        else:
            self._waiting.append((group, done))

    def close(self):
        """Let groups wait."""
        self.is_open = False

    def open(self):
        """Let those that wait go on, and all others."""
        self.is_open = True
        waiting, self._waiting = self._waiting, []
        for group, done in waiting:
            self._store.commit(group, done)


class FragileStore(MemoryStore):
    """A store in memory whose disk can go away."""

    is_away = False
    loses_answer = False
    """The next commit is done, and nobody hears of it."""

    def commit(self):
        super().commit()
        if self.loses_answer:
            self.loses_answer = False
            raise StoreUnavailable(is_unknown=True)

    def _check(self):
        if self.is_away:
            raise StoreUnavailable

    def begin_commit(self, group):
        self._check()
        return super().begin_commit(group)

    def probe(self):
        self._check()

    def entries(self, channel, keys):
        self._check()
        return super().entries(channel, keys)

    def scan(self, *args):
        self._check()
        return super().scan(*args)

    def last_mids(self, clients):
        self._check()
        return super().last_mids(clients)

    def dirty(self, *args):
        self._check()
        return super().dirty(*args)


def new_store():
    """A store that keeps a thousand events a channel."""
    store = FragileStore(StoreOptions(retention_of=lambda _channel: Retention(1000, 86_400.0)))
    store.open()
    return store


class World:
    """A running cache-owner and what is around it."""

    def __init__(self, app: App, store=None, config=None):
        self.definition = app.definition()
        self.listener = Listener()
        self.file = store or new_store()
        self.store = StoreActor(
            self.file, InlineWorker(), wall_clock=lambda: 1_790_000_000 + trio.current_time()
        )
        self.gate = Gate(self.store)
        self.health = ActorHealth("cache_owner")
        self.is_restarted = trio.Event()
        epochs = iter(range(1, 1_000_000))
        self.owner = CacheOwner(
            self.definition,
            config or Config(),
            store=self.gate,
            broadcaster=self.listener,
            wall_ms=lambda: 1_790_000_000_000 + int(trio.current_time() * 1000),
            new_epoch=lambda: Epoch(f"v{next(epochs):015x}"),
            chance=random.Random(1).random,
            timer=trio.current_time,
        )

    async def quiet(self):
        """Let everything that is ready happen."""
        await trio.testing.wait_all_tasks_blocked(0.001)

    def restarted(self):
        """The supervisor starts the cache-owner anew."""
        self.is_restarted.set()

    async def crash(self, hurry=()):
        """Crash the cache-owner as a fault of ours would, with these commands in the batch in hand; it is restarted."""
        self.is_restarted = trio.Event()

        def fault():
            raise PlantedFault

        self.owner.mailbox.put_reply(Call(fault, self.owner._life))
        for command in hurry:
            self.owner.mailbox.put_reply(command)
        await self.is_restarted.wait()
        await self.quiet()

    async def mutate(self, asker, mid, name, args=None, client="c1", **more):
        """Hand over one mutation."""
        self.owner.submit_nowait(
            [MutateState(asker, client, mid, name, args, more.pop("identity", ANN), **more)], 0
        )
        await self.quiet()

    async def read(self, collection, *keys, client=None):
        """Read entries; returns values by key, or the code of the error."""
        channel, names = self.owner.channel_of(collection, keys)
        answer = await self.ask(lambda done: ReadEntries(collection, channel, names, done, client))
        if isinstance(answer, SyncdError):
            return answer.code.value
        return {
            entry.key: None if entry.value is None else msgpack.unpackb(entry.value)
            for entry in answer.entries
        }

    async def invalidate(self, collection, *keys, tags=()):
        """Invalidate and wait until it is committed."""
        return await self.ask(lambda done: InvalidateEntries(collection, done, keys, tags))

    async def clear(self):
        """Forget what is in memory."""
        return await self.ask(lambda done: ClearCache(None, done))

    async def ask(self, command):
        """Hand over what `command(done)` makes and wait for the answer."""
        answers, answered = [], trio.Event()

        def done(answer):
            answers.append(answer)
            answered.set()

        self.owner.submit_nowait([command(done)], 0)
        await answered.wait()
        assert len(answers) == 1
        return answers[0]

    def counts(self, collection):
        """Statistics of one collection."""
        return self.owner.cache_statistics()[collection]


@contextlib.asynccontextmanager
async def running(app, store=None, config=None):
    """Run a world for the length of a test."""
    world = World(app, store, config)
    async with trio.open_nursery() as nursery:
        await nursery.start(world.store.run)
        supervised = functools.partial(supervise, on_restart=world.restarted)
        await nursery.start(supervised, world.owner, world.health)
        yield world
        nursery.cancel_scope.cancel()
