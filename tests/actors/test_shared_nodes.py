"""Nodes that share a store keep the promises, however late the bus is and whatever it loses, as long as it says so.

Invariant: whoever watches or subscribes, on whichever node, is told everything in order and nothing twice; after an acknowledgement nothing
older is read on any node; when everything has come, all views are the same and as the store has it.
"""

import random

import attrs
import msgpack
import pytest
import trio
import trio.testing

from syncd.actors.kit import Reply
from syncd.codes import ErrorCode
from syncd.errors import SyncdError
from syncd.ids import Position
from syncd.ports import PublishEvent, SubscriptionsClosed
from syncd.ports_state import KeyName
from syncd.testing.counter_history import CounterHistory, Decided, WatchedCounters
from syncd.testing.history import History, Observer
from syncd.wire import encode
from tests.actors.shared_world import COUNTERS, KEYS, LOG, running

NODES = 3
STEPS = 150


@attrs.define(eq=False)
class Client:
    """One client over all its connections: mutates, watches, and subscribes to the log."""

    name: str
    history: CounterHistory
    view: WatchedCounters
    observer: Observer
    node: object = None
    session: object = None
    num_read: int = 0
    mid: int = 0
    key: str | None = None
    """Of the mutation under way."""
    positions: dict = attrs.field(factory=dict)

    def connect(self, node):
        """Leave the node, and go on at another one."""
        if self.session is not None:
            self.take()
            self.close()
        self.node, self.session, self.num_read = node, node.session(), 0
        position = self.view.position()
        node.watch(self.session, None if position is None else Position(**position))
        since = self.observer.position()
        node.subscribe(self.session, None if since is None else Position(**since))
        if self.key is not None:
            self.send()

    def again(self, body):
        """A new life of a channel began: what was watched or subscribed is asked for again."""
        if body["channel"] == COUNTERS:
            self.view.disconnected()
            position = self.view.position()
            self.node.watch(self.session, None if position is None else Position(**position))
        else:
            self.observer.lagged(body)
            self.node.subscribe(self.session, Position(**self.observer.position()))

    def close(self):
        subscriptions = list(self.session.subscriptions.values())
        for subscription in subscriptions:
            subscription.is_closed = True
        self.session.closed = True
        self.node.submit(SubscriptionsClosed(subscriptions))
        self.view.disconnected()
        self.observer.disconnected()

    def mutate(self, key):
        if self.key is None:
            self.mid, self.key = self.mid + 1, key
            self.send()

    def send(self):
        self.node.mutate(self.session, self.name, self.mid, self.key)

    def take(self):
        """Take what came."""
        notes = self.session.notes[self.num_read :]
        self.num_read = len(self.session.notes)
        for kind, body in notes:
            if kind == "outcome":
                self.outcome(body)
            elif kind == "out_of_order":
                assert self.history.may_lose, body
                self.history.lost(self.name)
                self.mid = body["expect"]
                self.send()
            elif kind == "lagged":
                assert self.history.may_lose, "nobody is slow here"
                self.again(body)
            elif kind == "refused":
                self.send()
            elif kind == "error":
                raise AssertionError(body)
            elif body.get("channel") == COUNTERS:
                getattr(self.view, kind)(body)
            else:
                assert self.observer.take(kind, body) or kind == "ok", (kind, body)

    def outcome(self, body):
        if self.key is None or body["mid"] != self.mid:
            return
        assert body["status"] == "ok", body
        position = body["positions"][COUNTERS]
        self.history.decided(
            Decided(
                self.name, self.mid, self.key, body["value"], position["epoch"], position["offset"]
            )
        )
        self.key = None
        self.positions = {COUNTERS: Position(**position)}

    def read(self, node, lives):
        """Read on any node, as new as this client knows it to be; `lives` are the counters' epochs so far, in order."""
        known, after = self.history.known(self.name), self.positions.get(COUNTERS)

        def done(answer):
            if isinstance(answer, SyncdError):
                assert answer.retryable, answer
                return
            if after and lives.index(answer.position.epoch) < lives.index(after.epoch):
                self.history.breach(f"{self.name} read {answer.position} after {after}")
            for entry in answer.entries:
                value = 0 if entry.value is None else msgpack.unpackb(entry.value)
                told = {"key": entry.key, "version": entry.version, "value": value}
                self.history.read(self.name, known, answer.position.epoch, told)

        node.read(done, self.positions)


class Life:
    """Random steps on some nodes."""

    def __init__(self, file, nodes, rng, *, may_lose):
        self.file, self.nodes, self.rng, self.may_lose = file, nodes, rng, may_lose
        self.counters = CounterHistory(COUNTERS, may_lose)
        self.history = History()
        self.copy = file.copy()
        self.num_published = 0
        self.lives = [file.store.load(COUNTERS, 0, 0).head.epoch]
        self.clients = []
        for index in range(4):
            name = f"c{index}"
            view = WatchedCounters(self.counters, name)
            observer = self.history.observer(name, LOG)
            self.clients.append(Client(name, self.counters, view, observer))
        for client in self.clients:
            client.connect(rng.choice(nodes))

    def step(self):
        rng, node, client = self.rng, self.rng.choice(self.nodes), self.rng.choice(self.clients)
        what = rng.choices(
            ("mutate", "publish", "deliver", "lose", "gaps", "cut", "move", "read", "wait"),
            (10, 5, 10, 2, 4, 1, 2, 5, 10),
        )[0]
        if what == "mutate":
            client.mutate(rng.choice(KEYS))
        elif what == "publish":
            self.publish(client)
        elif what == "deliver":
            node.bus.deliver(rng.randint(1, 4))
        elif what == "lose":
            node.bus.lose(rng.randint(1, 4))
        elif what == "gaps":
            node.bus.tell_gaps()
        elif what == "cut":
            node.bus.gap_everywhere()
        elif what == "move":
            client.connect(node)
        elif what == "read":
            client.read(node, self.lives)
        return what == "wait"

    def publish(self, client):
        self.num_published += 1
        data = encode.pack({"uid": f"u{self.num_published}"})
        client.node.submit(PublishEvent(client.session, 10_000 + self.num_published, LOG, data))

    def lose(self):
        """The store loses what came since the last copy; links break with it."""
        self.file.lose(self.copy)
        self.lives.append(self.file.store.load(COUNTERS, 0, 0).head.epoch)
        self.copy = self.file.copy()
        for node in self.nodes:
            node.bus.told.clear()

    async def settle(self):
        """Everything comes that is owed."""
        for _ in range(8):
            for node in self.nodes:
                node.bus.deliver(1_000_000)
                node.bus.tell_gaps()
            await trio.sleep(0.3)
            for client in self.clients:
                client.take()

    def check(self):
        store = self.file.store
        head = store.load(COUNTERS, 0, 0).head
        entries = {
            entry.key: (entry.version, msgpack.unpackb(entry.value))
            for entry in store.entries(COUNTERS, KEYS)
        }
        assert all(client.key is None for client in self.clients), "everything is decided"
        self.counters.check_entries(head.epoch, entries)
        log = store.load(LOG, 0, 0).head
        for client in self.clients:
            assert client.view.is_whole
            assert client.view.entries == entries, client.name
            assert client.view.epoch == head.epoch
            assert client.observer.epoch == log.epoch
            assert client.observer.offset == log.top
        if not self.may_lose:
            self.history.check_complete(LOG, log.top)
        assert self.history.violations + self.counters.violations == []


async def live(seed, *, may_lose=False):
    rng = random.Random(seed)
    async with running(NODES, rng) as (file, nodes):
        life = Life(file, nodes, rng, may_lose=may_lose)
        await life.settle()
        for _ in range(STEPS):
            if life.step():
                await trio.testing.wait_all_tasks_blocked()
                for client in life.clients:
                    client.take()
            if may_lose and rng.random() < 0.02:
                life.lose()
                for node in nodes:
                    node.bus.cut()
                    if rng.random() < 0.5:
                        node.bus.tell_gaps()  # the others hear of it later
            elif may_lose and rng.random() < 0.05:
                life.copy = file.copy()
        await life.settle()
        life.check()
    return life


@pytest.mark.unmeasured
@pytest.mark.parametrize("seed", range(40))
async def test_what_the_bus_loses_or_brings_late_is_told_all_the_same(autojump_clock, seed):
    life = await live(seed)
    assert life.counters.num_decided > 5
    assert life.counters.num_reads > 5


@pytest.mark.unmeasured
@pytest.mark.parametrize("seed", range(40))
async def test_a_store_that_lost_its_end_is_gone_on_with_in_new_epochs(autojump_clock, seed):
    await live(seed, may_lose=True)


async def test_watched_keys_are_told_with_the_mutations_that_another_node_made(autojump_clock):
    """This node has heard of the first mutation only, and still knows what the entries hold: a prediction would be shown twice else."""
    async with running(2, random.Random(0)) as (_, (here, there)):
        session = here.session()
        session.clients = ("c", "nobody")
        for mid, node in enumerate((here, there, there), 1):
            node.mutate(session, "c", mid, "a")
            await trio.testing.wait_all_tasks_blocked()
        here.watch(session, None, [KeyName("a"), KeyName("b")])
        await trio.testing.wait_all_tasks_blocked()
        (told,) = [body for kind, body in session.notes if kind == "watched"]
        assert told["decided"] == {"c": 3, "nobody": 0}
        assert told["entries"] == [
            {"key": "a", "version": 3, "value": 3},
            {"key": "b", "version": 3, "deleted": True},
        ]


# ------------------------------------------------------------ who has seen another life of a channel


async def another_life(file, here, there):
    """Both nodes have read `a` when the store goes on in a new epoch, of which only one hears; returns where that changed it."""
    session = there.session()
    there.mutate(session, "c", 1, "a")
    await trio.testing.wait_all_tasks_blocked()
    old = (await answered(here, {})).position
    await answered(there, {})
    here.watch(here.session(), None)
    await trio.testing.wait_all_tasks_blocked()
    file.lose(file.copy())
    there.mutate(session, "c", 2, "a")
    await trio.testing.wait_all_tasks_blocked()
    outcome = [body for kind, body in session.notes if kind == "outcome"][-1]
    new = Position(**outcome["positions"][COUNTERS])
    assert new.epoch != old.epoch
    return old, new


async def answered(node, after):
    reply = Reply()
    node.read(reply.settle, after)
    with trio.fail_after(3):
        return await reply.wait()


def looks_of(node):
    """Note how often the cache-owner of a node reads a log in the store."""
    looks, sharing = [], node.owner.sharing
    on_look = sharing.on_look
    sharing.on_look = lambda channel: (looks.append(channel), on_look(channel))
    return looks


async def test_a_node_that_has_not_heard_of_a_new_life_reads_it_for_who_has_seen_it(autojump_clock):
    async with running(2, random.Random(0)) as (file, (here, there)):
        _, new = await another_life(file, here, there)
        began = trio.current_time()
        answer = await answered(here, {COUNTERS: new})
        assert answer.position.epoch == new.epoch
        assert {entry.key: entry.value for entry in answer.entries}["a"] == msgpack.packb(2)
        assert trio.current_time() - began < 0.1, "it does not wait for time to pass"


@pytest.mark.parametrize("keys", [None, [KeyName("a")]])
async def test_a_watch_from_before_a_new_life_is_told_what_its_client_has_seen(
    autojump_clock, keys
):
    async with running(2, random.Random(0)) as (file, (here, there)):
        old, new = await another_life(file, here, there)
        session = here.session()
        here.watch(session, old, keys, {COUNTERS: new})
        await trio.sleep(1)
        told = [body for kind, body in session.notes if kind == "watched"][-1]
        assert told["position"]["epoch"] == new.epoch
        assert [entry["value"] for entry in told["entries"]] == [2]


async def test_who_has_seen_a_life_that_is_over_is_told_what_there_is(autojump_clock):
    async with running(2, random.Random(0)) as (file, (here, there)):
        old, new = await another_life(file, here, there)
        far = Position(old.epoch, 1000)
        for node in (here, there):
            for seen in (far, Position("feed", 7), far):
                answer = await answered(node, {COUNTERS: seen})
                assert answer.position == new


async def test_a_channel_is_looked_up_once_for_all_who_have_seen_another_life(autojump_clock):
    async with running(2, random.Random(0)) as (file, (_here, there)):
        old, new = await another_life(file, _here, there)
        looks, answers = looks_of(there), []
        for _ in range(100):
            there.read(answers.append, {COUNTERS: old})
        await trio.sleep(1)
        assert [answer.position for answer in answers] == [new] * 100
        assert len(looks) <= 2
        looks.clear()
        for _ in range(100):
            there.read(answers.append, {COUNTERS: old})
        await trio.sleep(1)
        assert (len(answers), looks) == (200, []), "that it is over is known"


async def test_who_has_seen_another_life_is_told_behind_while_the_store_is_away(autojump_clock):
    async with running(2, random.Random(0)) as (file, (here, there)):
        _, new = await another_life(file, here, there)
        away = SyncdError(ErrorCode.STORE_UNAVAILABLE, after_ms=100)
        here.store.read_state = lambda _work, done: done(away)
        began = trio.current_time()
        with pytest.raises(SyncdError) as told:
            await answered(here, {COUNTERS: new})
        assert (told.value.code, told.value.retryable) == (ErrorCode.BEHIND, True)
        assert trio.current_time() - began < 3


@pytest.mark.parametrize("part", ["broadcaster", "cache-owner"])
async def test_a_store_that_has_less_than_a_node_was_told_begins_another_life(autojump_clock, part):
    """An older copy was brought back under it, in the same epochs: nobody but the node can know."""
    async with running(2, random.Random(0)) as (file, (here, there)):
        copy, channel = file.copy(), COUNTERS
        writer, session = there.session(), here.session()
        if part == "broadcaster":
            channel = LOG
            here.subscribe(session, None)
            there.submit(PublishEvent(writer, 1, LOG, encode.pack({"uid": "u"})))
        else:
            there.mutate(writer, "c", 1, "a")
        await trio.testing.wait_all_tasks_blocked()
        if part == "cache-owner":
            await answered(here, {})
        here.bus.tell_gaps()
        await trio.testing.wait_all_tasks_blocked()
        told = file.store.load(channel, 0, 0).head
        assert told.top == 1
        file.store = copy
        assert file.store.load(channel, 0, 0).head.lacks(Position(told.epoch, told.top))
        here.bus.gap_everywhere()
        await trio.testing.wait_all_tasks_blocked()
        renewed = file.store.load(channel, 0, 0).head
        assert renewed.epoch != told.epoch
        there.bus.gap_everywhere()
        await trio.testing.wait_all_tasks_blocked()
        assert file.store.load(channel, 0, 0).head == renewed, "once for all nodes"
        if part == "broadcaster":
            last = [body for kind, body in session.notes if kind == "subscribed"][-1]
            assert (last["position"]["epoch"], last["recovered"]) == (renewed.epoch, False)
        else:
            assert (await answered(here, {})).position.epoch == renewed.epoch
