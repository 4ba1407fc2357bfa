"""A Redis that is full: commits are refused whole, reads go on over any connection, and what is due goes and makes room."""

import pytest

from syncd.errors import StoreUnavailable
from tests.conformance.redis_lives import A, append, head, join, make_server

__all__ = ["join", "make_server"]  # fixtures

TINY, LARGE = 1, bytes(100_000)


@pytest.fixture
def server(make_server):
    return make_server(None, "--maxmemory", "20mb")


def test_a_full_server_refuses_whole_and_is_still_read(server, join, event, mutation, put):
    store = join(server)
    append(store)
    server.ask("CONFIG", "SET", "maxmemory", TINY)
    store.begin([event(A)])
    store.begin_commit([mutation("c", 1, put("orders", "k"))])
    with pytest.raises(StoreUnavailable) as raised:
        store.commit()
    assert not raised.value.is_unknown
    assert (head(store).top, store.last_mids(["c"])) == (1, [0])
    server.ask("CONFIG", "SET", "maxmemory", 0)
    assert append(store)[0].offset == 2


def test_a_full_server_is_looked_at_and_read_over_new_connections(server, join):
    """Looking was refused, too, and ended the connection: no read got through any more."""
    store = join(server)
    append(store)
    server.ask("CONFIG", "SET", "maxmemory", TINY)
    store.look()
    assert head(store).top == 1
    server.ask("CLIENT", "KILL", "TYPE", "normal")
    assert head(store).top == 1
    assert head(join(server)).top == 1


def test_a_full_server_gives_up_what_is_due_and_takes_writes_again(server, join, event):
    store = join(server)
    store.begin([event(A, LARGE) for _ in range(40)])
    store.commit()
    used = int(server.ask("INFO", "memory").split(b"used_memory:")[1].split()[0])
    server.ask("CONFIG", "SET", "maxmemory", used - 1_000_000)
    with pytest.raises(StoreUnavailable):
        append(store)
    assert head(store).floor == 0
    with pytest.raises(StoreUnavailable):
        store.probe()
    store.probe()
    assert append(store)[0].offset == 41
