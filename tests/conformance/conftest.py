"""The stores that share one contract, and short ways to ask them."""

import random

import attrs
import pytest

from syncd.ids import ChannelName
from syncd.ports import AppendRequest, IdempotencyKey, LogQuery
from syncd.ports_state import EntryRead, EntryWrite, KeyName, MutationCommit
from syncd.store.base import Retention, StoreOptions
from syncd.store.memory import MemoryStore
from syncd.store.sqlite import SqliteStore

RETENTION = {
    "small": Retention(size=5, age_s=3600.0),
    "wide": Retention(size=100_000, age_s=60.0),
    "tiny": Retention(size=3, age_s=60.0, is_latest=True),
    "latest": Retention(size=1000, age_s=60.0, is_latest=True),
}


def retention_of(channel):
    return RETENTION.get(channel.partition(":")[0], Retention(size=1000, age_s=3600.0))


@attrs.define
class Asked:
    """One store under test, asked in few words."""

    store: object

    def append(self, *requests, commit=True):
        results = self.store.begin(requests)
        if commit:
            self.store.commit()
        return results

    def mutate(self, *mutations, commit=True):
        results = self.store.begin_commit(mutations)
        if commit:
            self.store.commit()
        return results

    def entry(self, channel, key):
        found = self.store.entries(ChannelName(channel), [KeyName(key)])
        return found[0] if found else None

    def scan(self, channel, after=None, limit=1000, max_bytes=10**9):
        return self.store.scan(ChannelName(channel), after, limit, max_bytes)

    def tagged(self, collection, tag, after=None, limit=1000):
        return self.store.keys_by_tag(collection, tag, after, limit)

    def offsets(self, channel, **query):
        return [e.offset for e in self.page(channel, **query).events]

    def page(self, channel, **query):
        return self.store.read(LogQuery(ChannelName(channel), **query))

    def head(self, channel):
        return self.store.load(ChannelName(channel), 0, 0).head

    def trim(self, now_ms=0):
        while self.store.trim(now_ms, 1.0).has_more:
            pass


@pytest.fixture
def event():
    """Make a request: `event("demo:a", b"x", key=..., uid=..., hash=...)`."""

    def make(channel, record=b"x", *, key=None, uid=None, request_hash=b"h", at_ms=0, who="user:a"):
        known = None if uid is None else IdempotencyKey(who, "publish", uid, request_hash)
        return AppendRequest(ChannelName(channel), record, at_ms, key, known)

    return make


@pytest.fixture
def mutation():
    """Make a mutation: `mutation("c", 1, put("orders", "k", b"v"), reads=[("orders", "k", 0)])`."""

    def make(client, mid, *writes, reads=(), outcome=None, at_ms=0, events=()):
        seen = [EntryRead(ChannelName(c), KeyName(k), version) for c, k, version in reads]
        said = b"%d" % mid if outcome is None else outcome
        return MutationCommit(client, mid, seen, list(writes), said, at_ms, list(events))

    return make


@pytest.fixture
def put():
    def make(channel, key, value=b"v", tags=()):
        record = b"r:" + value
        return EntryWrite(ChannelName(channel), KeyName(key), value, record, tuple(tags))

    return make


@pytest.fixture
def delete():
    def make(channel, key):
        return EntryWrite(ChannelName(channel), KeyName(key), None, b"gone")

    return make


@pytest.fixture
def options():
    seeded = random.Random(7)
    return StoreOptions(
        retention_of,
        idempotency_s=100.0,
        entropy=seeded.randbytes,
        sweep_s=0.0,
        outcomes_s=100.0,
        outcomes_per_client=8,
        clients_s=10_000.0,
    )


@pytest.fixture
def make_sqlite(tmp_path, options):
    """Open stores on files of one folder; all are closed at the end."""
    opened = []

    def make(name="log.db", *, options=options, **keywords):
        store = SqliteStore(tmp_path / name, options, lock_wait_s=0.0, **keywords)
        store.open()
        opened.append(store)
        return store

    yield make
    for store in opened:
        store.close()


@pytest.fixture(params=["memory", "sqlite"])
def store(request, options, make_sqlite):
    if request.param == "memory":
        store = MemoryStore(options)
        store.open()
        return store
    return make_sqlite()


@pytest.fixture
def log(store):
    return Asked(store)
