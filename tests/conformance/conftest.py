"""The stores that share one contract, and short ways to ask them."""

import contextlib
import itertools
import random
import shutil
import tempfile
from pathlib import Path

import attrs
import pytest

from syncd.ids import ChannelName
from syncd.ports_log import AppendRequest, IdempotencyKey, LogQuery
from syncd.ports_state import EntryRead, EntryWrite, KeyName, MutationCommit
from syncd.store.base import Retention, StoreOptions
from syncd.store.memory import MemoryStore
from syncd.store.redis_keys import RedisNames
from syncd.store.redis_store import RedisStore
from syncd.store.sqlite import SqliteStore
from syncd.store.sqlite_file import mark_copy
from syncd.testing.redis_process import redis_executable
from syncd.testing.redis_server import RedisServer

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
    """One store under test, asked in few words. Results of what is not committed are there after the commit."""

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

    def dirty(self, collection, after=None, limit=1000):
        found = self.store.dirty(collection, after, limit)
        return [(d.channel, d.key, d.version) for d in found]

    def forwarded(self, channel, key, version):
        self.store.acknowledge_forwarded(ChannelName(channel), KeyName(key), version)

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

    def make(client, mid, *writes, reads=(), outcome=None, at_ms=0, events=(), known=None):
        seen = [EntryRead(ChannelName(c), KeyName(k), *version) for c, k, *version in reads]
        said = b"%d" % mid if outcome is None else outcome
        return MutationCommit(client, mid, seen, list(writes), said, at_ms, list(events), known)

    return make


@pytest.fixture
def service(mutation):
    """Make a service's mutation: `service("key", put(...), request_hash=b"h")`; None: without a key."""

    def make(name, *writes, request_hash=b"h", who="service:a", operation="mutate", **keywords):
        known = None if name is None else IdempotencyKey(who, operation, name, request_hash)
        return mutation(None, 0, *writes, known=known, **keywords)

    return make


@pytest.fixture
def put():
    def make(channel, key, value=b"v", tags=(), *, is_forwarded=False):
        record, place = b"r:" + value, (ChannelName(channel), KeyName(key))
        return EntryWrite(*place, value, record, tuple(tags), is_forwarded)

    return make


@pytest.fixture
def delete():
    def make(channel, key, *, is_forwarded=False):
        return EntryWrite(ChannelName(channel), KeyName(key), None, b"gone", (), is_forwarded)

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


@pytest.fixture
def leave_by_kill(tmp_path):
    """Copy `log.db` as `kill -9` would leave it, and return the name of the copy."""

    def leave(to="killed.db"):
        for suffix in ("", "-wal"):
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(tmp_path / f"log.db{suffix}", tmp_path / f"{to}{suffix}")
        return to

    return leave


@pytest.fixture
def copy_marked(tmp_path):
    """Copy `log.db`, which is closed, as a backup does, and return the name of the copy."""

    def copy(to="backup.db"):
        shutil.copyfile(tmp_path / "log.db", tmp_path / to)
        mark_copy(tmp_path / to)
        return to

    return copy


@pytest.fixture(scope="session")
def redis_server():
    """One server for all: each test has a prefix of its own."""
    if redis_executable() is None:
        pytest.skip("no redis-server (make test installs it)")
    with (
        tempfile.TemporaryDirectory(prefix="syncd-redis-") as folder,
        RedisServer(Path(folder)) as server,
    ):
        yield server


_prefixes = itertools.count()


@pytest.fixture
def make_redis(redis_server, options):
    """Open stores on one prefix, which nobody else has; all are closed at the end."""
    names, opened = RedisNames(f"t{next(_prefixes)}"), []

    def make(*, options=options, **keywords):
        store = RedisStore(redis_server.url, options, names=names, server_clock=False, **keywords)
        store.open()
        opened.append(store)
        return store

    yield make
    for store in opened:
        store.close()


@pytest.fixture(params=["memory", "sqlite", "redis"])
def store(request, options):
    if request.param == "memory":
        store = MemoryStore(options)
        store.open()
        return store
    return request.getfixturevalue(f"make_{request.param}")()


@pytest.fixture
def log(store):
    return Asked(store)
