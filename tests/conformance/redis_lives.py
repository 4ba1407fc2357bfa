"""A real Redis that ends and starts, with all of its data or less of it, and nodes' stores on it: fixtures and words of the tests of its lives."""

import shutil
import tempfile
import time
from pathlib import Path

import msgpack
import pytest

from syncd.errors import StoreUnavailable
from syncd.ids import ChannelName
from syncd.ports_log import AppendRequest
from syncd.ports_state import EntryWrite, KeyName, MutationCommit
from syncd.store.base import StoreOptions
from syncd.store.redis_store import RedisStore
from syncd.testing.redis_server import RedisServer
from tests.conformance.conftest import retention_of

A = ChannelName("wide:a")
RECORD = b"\x81" + msgpack.packb("data") + msgpack.packb(1)


@pytest.fixture
def make_server():
    with tempfile.TemporaryDirectory(prefix="syncd-") as folder:
        servers = []

        def make(appendfsync, *options):
            own = Path(folder) / f"redis{len(servers)}"
            servers.append(RedisServer(own, *options, appendfsync=appendfsync))
            servers[-1].start()
            return servers[-1]

        yield make
        for server in servers:
            server.kill()


@pytest.fixture
def join():
    stores = []

    def connect(server, **how):
        store = RedisStore(server.url, StoreOptions(retention_of=retention_of), **how)
        store.open()
        stores.append(store)
        return store

    yield connect
    for store in stores:
        store.close()


def append(store, count=1):
    results = store.begin([AppendRequest(A, RECORD, 5)] * count)
    store.commit()
    return results


def dirty_write():
    return EntryWrite(A, KeyName("k"), b"\x01", RECORD, is_forwarded=True)


def commit(store, mid, reads=(), writes=(), epochs=None, era=""):
    outcome = msgpack.packb(mid)
    mutation = MutationCommit("c", mid, list(reads), list(writes), outcome, 5, era=era)
    mutation.epochs = epochs or {}
    results = store.begin_commit([mutation])
    store.commit()
    return results[0]


def head(store):
    return store.load(A, 0, 0).head


def restart(server, num_lost_bytes=0):
    server.kill()
    server.lose_tail(num_lost_bytes)
    server.start()


def back(store):
    """Ask until the link has found the server again."""
    for _ in range(200):
        try:
            return head(store)
        except StoreUnavailable:
            time.sleep(0.05)  # noqa: TID251 - the link waits a while before it asks again
    raise AssertionError("it never came back")


def copy_of(server, folder):
    """Copy what it has on disk, as for a backup."""
    return shutil.copytree(server.folder / "appendonlydir", folder / "copy")


def restore(server, copy):
    """Start it with what it had when it was copied."""
    server.kill()
    shutil.rmtree(server.folder / "appendonlydir")
    shutil.copytree(copy, server.folder / "appendonlydir")
    server.start()
