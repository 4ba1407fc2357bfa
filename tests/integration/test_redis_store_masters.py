"""The store on a real cluster of three masters, and behind real Sentinels: it follows its master, and no position gets a second content."""

import random
import signal
import time

import pytest
import redis

from syncd.errors import StoreUnavailable
from syncd.ids import ChannelName, Position
from syncd.ports_log import AppendRequest, LogQuery
from syncd.ports_state import EntryWrite, KeyName, KnownOutcome, MutationCommit
from syncd.store import redis_source
from syncd.store.base import Retention, StoreOptions
from syncd.store.redis_keys import RedisNames, decode_message
from syncd.store.redis_store import RedisStore
from syncd.testing.redis_process import redis_executable, wait_until
from tests.integration.redis_groups import is_master
from tests.integration.test_bus_masters import cluster, move_slot, watched

__all__ = ["cluster", "watched"]  # fixtures

pytestmark = [
    pytest.mark.process,
    pytest.mark.slow,
    pytest.mark.skipif(
        redis_executable() is None, reason="no redis-server (make test installs it)"
    ),
]
A, LATEST, ORDERS = map(ChannelName, ("demo:a", "demo:latest", "orders"))
OPTIONS = StoreOptions(
    lambda name: Retention(1000, 3600.0, name == LATEST), entropy=random.Random(5).randbytes
)
NAMES = RedisNames("masters")


@pytest.fixture
def open_store():
    opened = []

    def make(url, node="n"):
        store = RedisStore(url, OPTIONS, names=NAMES, node=node, timeout_s=1.0)
        store.open()
        opened.append(store)
        return store

    yield make
    for store in opened:
        store.close()


def append(store, record, channel=A):
    results = store.begin([AppendRequest(channel, record, 0)])
    store.commit()
    return results[0]


def mutate(store, mid):
    write = EntryWrite(ORDERS, KeyName(f"k{mid}"), b"v", b"r", ("t",))
    results = store.begin_commit([MutationCommit("c", mid, [], [write], b"%d" % mid, 0)])
    store.commit()
    return results[0]


def patiently(ask, timeout_s=30.0):
    """Ask until somebody answers."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return ask()
        except StoreUnavailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)  # noqa: TID251 - waits for a condition, with a deadline


def seen(store, channel=A):
    """Return every position that the store tells now, with its content."""
    page = store.read(LogQuery(channel))
    return {Position(page.head.epoch, event.offset): event.record for event in page.events}


def owner_of(nodes):
    """Return the slot of all keys, the master that has it, and the others."""
    slot = nodes[0].ask("CLUSTER", "KEYSLOT", NAMES.meta)
    share = 16_384 // len(nodes)
    index = min(slot // share, len(nodes) - 1)
    return slot, nodes[index], [node for node in nodes if node is not nodes[index]]


def test_a_transaction_lies_whole_in_one_slot_of_a_cluster_and_is_told_there(cluster, open_store):
    _slot, owner, others = owner_of(cluster)
    store = open_store(f"redis+cluster://127.0.0.1:{others[0].port}", node="me")
    with redis.Redis("127.0.0.1", owner.port) as client, client.pubsub() as listener:
        listener.execute_command("SSUBSCRIBE", NAMES.bus(A))
        listener.parse_response()
        assert append(store, b"one").offset == 1
        told = listener.parse_response()
    assert told[:2] == [b"smessage", NAMES.bus(A).encode()]
    assert [event.record for event in decode_message(told[2]).events] == [b"one"]
    assert mutate(store, 1).versions == [1]
    assert isinstance(mutate(store, 1), KnownOutcome)
    assert store.keys_by_tag("orders", "t", None, 9) == [("orders", "k1")]
    store.trim(10**12, 1.0)
    assert store.load(A, 0, 0).head.floor == 1


def test_the_store_is_refused_while_its_master_is_away_and_goes_on_afterwards(cluster, open_store):
    _slot, owner, others = owner_of(cluster)
    store = open_store(f"redis+cluster://127.0.0.1:{others[0].port}")
    first = append(store, b"one")
    owner.signal(signal.SIGSTOP)
    with pytest.raises(StoreUnavailable):
        append(store, b"lost?")
    owner.signal(signal.SIGCONT)
    patiently(lambda: store.load(A, 0, 0))
    assert append(store, b"two").epoch == first.epoch


def test_a_slot_that_moves_takes_the_store_with_it(cluster, open_store):
    """Its keys do not move here: the new master is an empty one, so every position is another."""
    slot, owner, others = owner_of(cluster)
    store = open_store(f"redis+cluster://127.0.0.1:{others[0].port}")
    before = append(store, b"one")
    owner.ask("FLUSHALL")
    move_slot(slot, owner, others[0], others[1:])
    after = patiently(lambda: append(store, b"two"))
    assert after.offset == 1
    assert after.epoch != before.epoch


def test_a_slot_on_its_way_takes_nothing_and_afterwards_all_is_there(cluster, open_store):
    """What had moved already, or was not there yet, could not be used: a commit was cut short at it, behind what it had written."""
    slot, owner, others = owner_of(cluster)
    store = open_store(f"redis+cluster://127.0.0.1:{others[0].port}")
    append(store, b"one", LATEST)
    names = {each.ask("CLUSTER", "MYID"): each for each in (owner, others[0])}
    source, target = names
    others[0].ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source)
    owner.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", target)

    def move(*keys):
        return owner.ask(*("MIGRATE", "127.0.0.1", others[0].port, "", 0, 5000), *("KEYS", *keys))

    assert move(f"{{masters}}:k:{LATEST}") == b"OK"
    with pytest.raises(StoreUnavailable) as raised:
        append(store, b"two", LATEST)
    assert not raised.value.is_unknown
    assert owner.ask("XLEN", f"{{masters}}:l:{LATEST}") == 1
    assert move(*owner.ask("CLUSTER", "GETKEYSINSLOT", slot, 1000)) == b"OK"
    for each in (others[0], owner, others[1]):
        each.ask("CLUSTER", "SETSLOT", slot, "NODE", target)
    assert patiently(lambda: append(store, b"three", LATEST)).offset == 2
    assert list(seen(store, LATEST).values()) == [b"three"]


@pytest.mark.parametrize("fault", ["killed", "hung", "behind"])
def test_the_store_follows_a_failover_and_tells_no_position_twice(fault, watched, open_store):
    master, replica, sentinels = watched
    places = ",".join(f"127.0.0.1:{each.port}" for each in sentinels)
    store = open_store(f"redis+sentinel://{places}/main")
    for n in range(20):
        append(store, b"%d" % n)
    assert master.ask("WAIT", 1, 10_000) == 1
    told = seen(store)
    if fault == "behind":
        # What comes now never reaches the replica.
        replica.signal(signal.SIGSTOP)
        assert master.ask("CLIENT", "KILL", "TYPE", "replica") == 1
        for n in range(20, 30):
            append(store, b"lost %d" % n)
        told |= seen(store)
        master.kill()
        replica.signal(signal.SIGCONT)
    elif fault == "killed":
        master.kill()
    else:
        master.signal(signal.SIGSTOP)
    last = max(told, key=lambda position: position.offset)
    head = patiently(lambda: store.load(A, 0, 0).head, timeout_s=60.0)
    assert head.epoch != last.epoch, "nobody can vouch for what a replica has"
    for n in range(5):
        append(store, b"new %d" % n)
    if fault == "hung":
        master.signal(signal.SIGCONT)
        append(store, b"after")
    for position, record in seen(store).items():
        assert told.setdefault(position, record) == record
    assert head.top == (20 if fault == "behind" else last.offset)


def name_another(sentinels, master):
    """Let the Sentinels watch another master, and let go of the former one as if it could not be reached."""
    for sentinel in sentinels:
        sentinel.ask("SENTINEL", "REMOVE", "main")
    master.ask("REPLICAOF", "NO", "ONE")
    for sentinel in sentinels:
        sentinel.ask("SENTINEL", "MONITOR", "main", "127.0.0.1", master.port, 2)


def test_a_master_that_was_replaced_and_still_answers_is_left(watched, open_store, monkeypatch):
    """Sentinels were asked with a new connection alone: what was committed over the old one was lost when the partition healed."""
    monkeypatch.setattr(redis_source, "ASK_AGAIN_S", 0.0)
    former, master, sentinels = watched
    places = ",".join(f"127.0.0.1:{each.port}" for each in sentinels)
    store = open_store(f"redis+sentinel://{places}/main")
    first = append(store, b"one")
    store.look()
    assert append(store, b"two").epoch == first.epoch, "nobody was replaced"
    log = f"{NAMES.tag}:l:{A}"
    wait_until(lambda: master.ask("XLEN", log) == 2, "a copy")
    name_another(sentinels, master)
    store.look()
    third = append(store, b"three")
    assert (third.offset, third.epoch == first.epoch) == (3, False)
    assert former.ask("XLEN", log) == 2
    assert master.ask("XLEN", log) == 1, "in its new era"
    assert is_master(former)


def test_a_master_that_was_replaced_and_refuses_writes_is_left(watched, open_store, monkeypatch):
    """While writes are refused nobody looks, but there are probes: without them the store was refused until the partition healed."""
    monkeypatch.setattr(redis_source, "ASK_AGAIN_S", 0.0)
    former, master, sentinels = watched
    places = ",".join(f"127.0.0.1:{each.port}" for each in sentinels)
    store = open_store(f"redis+sentinel://{places}/main")
    former.ask("CONFIG", "SET", "min-replicas-to-write", 1)
    append(store, b"one")
    name_another(sentinels, master)
    wait_until(lambda: b"connected_slaves:0" in former.ask("INFO", "replication"), "no replica")
    with pytest.raises(StoreUnavailable, match="good replicas"):
        append(store, b"two")
    store.probe()
    append(store, b"two")
    assert is_master(former)


def test_sentinels_are_asked_now_and_then_and_change_nothing_when_none_answers(
    watched, open_store, monkeypatch
):
    _master, _replica, sentinels = watched
    asked = []
    ask = redis_source.master_of
    monkeypatch.setattr(redis_source, "master_of", lambda *words: asked.append(1) or ask(*words))
    places = ",".join(f"127.0.0.1:{each.port}" for each in sentinels)
    store = open_store(f"redis+sentinel://{places}/main")
    first = append(store, b"one")
    for _ in range(3):
        store.look()
    assert len(asked) == 1, "with the connection"
    for sentinel in sentinels:
        sentinel.kill()
    monkeypatch.setattr(redis_source, "ASK_AGAIN_S", 0.0)
    store.look()
    assert len(asked) == 2
    assert append(store, b"two").epoch == first.epoch
