"""Claims of loads, the same in every store that nodes share: one node loads, what it brought counts until it is invalidated or old."""

import time

import attrs
import pytest

from syncd.ids import ChannelName
from syncd.ports_log import AppendRequest
from syncd.ports_state import KeyName
from syncd.store.loads import ClaimState, FinishedLoad
from syncd.store.rebuilds import RebuildLease
from syncd.store.sqlite import SqliteStore
from tests.conformance.rebuild_play import PLAN, acquire, row

ORDERS = ChannelName("orders")
FREE, GRANTED, HELD, LOADED = ClaimState


@attrs.define
class Claims:
    """Some nodes' claims of keys of one collection."""

    log: object

    @property
    def loads(self):
        return self.log.store.rebuilds.loads

    def ask(self, holder, *keys, most=100, lease_s=60.0, channel="orders"):
        places = [(ChannelName(channel), KeyName(key)) for key in keys]
        return self.loads.claim(places, holder, lease_s, most)

    def states(self, holder, *keys, **how):
        return [each.state for each in self.ask(holder, *keys, **how)]

    def renew(self, holder, *keys, lease_s=60.0, channel="orders"):
        places = [(ChannelName(channel), KeyName(key)) for key in keys]
        self.loads.renew(holder, places, lease_s)

    def finish(self, holder, *keys, fresh_s=60.0):
        places = [(ORDERS, KeyName(key)) for key in keys]
        self.loads.finish(holder, [FinishedLoad(place, fresh_s) for place in places])


@pytest.fixture
def claims(log):
    if isinstance(log.store, SqliteStore):
        pytest.skip("a file is one node's")
    return Claims(log)


def test_one_loads_and_the_others_wait_for_it(claims, mutation, put):
    assert claims.states("one", "a", "b") == [GRANTED, GRANTED]
    assert claims.states("two", "a", "c") == [HELD, GRANTED]
    assert claims.states("one", "a") == [GRANTED]
    claims.log.mutate(mutation(None, 0, put("orders", "a", b"v", tags=["t"])))
    claims.finish("one", "a")
    (found,) = claims.ask("two", "a")
    assert (found.state, found.entry.value, found.entry.tags) == (LOADED, b"v", ("t",))
    assert 50 < found.fresh_s <= 60
    assert found.position.offset == claims.log.head("orders").top
    assert claims.states("one", "a", "b") == [LOADED, GRANTED]


def test_no_more_are_granted_than_there_is_room_for(claims):
    assert claims.states("one", *"abc", most=2) == [GRANTED, GRANTED, FREE]
    assert claims.states("two", *"abc", most=0) == [HELD, HELD, FREE]
    places = [(ChannelName("orders/eu"), KeyName("a")), (ORDERS, KeyName("d"))]
    assert [c.state for c in claims.loads.claim(places, "two", 60.0, 1)] == [GRANTED, FREE]


def test_that_there_is_nothing_is_loaded_too_and_may_be_so_for_ever(claims):
    claims.ask("one", "a", "b")
    claims.finish("one", "a", fresh_s=None)
    claims.finish("one", "b", fresh_s=5.0)
    a, b = claims.ask("two", "a", "b")
    assert (a.state, a.fresh_s, a.entry) == (LOADED, None, None)
    assert (b.state, b.entry) == (LOADED, None)
    assert 0 < b.fresh_s <= 5


def test_a_load_that_brought_nothing_is_anybodys(claims):
    claims.ask("one", "a")
    claims.finish("two", "a", fresh_s=0.0)
    assert claims.states("two", "a") == [HELD]
    claims.finish("one", "a", fresh_s=0.0)
    assert claims.states("two", "a") == [GRANTED]
    claims.finish("one", "a")
    assert claims.states("one", "a") == [HELD]


def test_a_claim_and_what_was_loaded_expire(claims):
    claims.ask("one", "a", lease_s=0.02)
    claims.ask("one", "b")
    claims.finish("one", "b", fresh_s=0.02)
    deadline = time.monotonic() + 10
    while claims.states("two", "a", "b") != [GRANTED, GRANTED]:
        assert time.monotonic() < deadline


def until(is_so):
    deadline = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < deadline


def test_a_claim_lasts_for_as_long_as_its_holder_renews_it(claims):
    """So a lease may be short however long a load takes, and the keys of a node that died are free soon."""
    claims.ask("one", "a", "b", lease_s=0.3)
    claims.ask("one", "c", lease_s=0.3, channel="orders/eu")
    claims.renew("one", "a")
    claims.renew("one", "c", channel="orders/eu")
    claims.renew("two", "b")
    until(lambda: claims.states("two", "b") == [GRANTED])
    assert claims.states("two", "a") == claims.states("two", "c", channel="orders/eu") == [HELD]


def test_what_is_claimed_no_more_is_not_claimed_by_its_renewal(claims, mutation):
    """The position that a claim began at is what says which invalidations end it."""
    claims.ask("one", "a", lease_s=0.02)
    until(lambda: claims.states("two", "a", most=0) == [FREE])
    claims.ask("one", *"bcd")
    claims.finish("one", "b", fresh_s=0.3)
    claims.finish("one", "c", fresh_s=0.0)
    claims.log.mutate(
        mutation(None, 0, events=[AppendRequest(ORDERS, b"\x00", 1, invalidated=["d"])])
    )
    claims.renew("one", *"acd")
    assert claims.states("two", *"acd", most=0) == [FREE] * 3
    claims.renew("one", "b")
    until(lambda: claims.states("two", "b", most=0) == [FREE])


@pytest.mark.parametrize("what", ["keys", "swap", "whole"])
def test_what_is_invalidated_or_swapped_is_loaded_anew(claims, mutation, put, what):
    """By whoever asks first: the old holder's result counts no more."""
    claims.log.mutate(mutation(None, 0, put("orders", "a", b"v")))
    claims.ask("one", "a", "b")
    claims.finish("one", "a")
    assert claims.states("two", "a", "b") == [LOADED, HELD]
    if what == "keys":
        event = AppendRequest(ORDERS, b"\x00", 1)
        claims.log.mutate(mutation(None, 0, events=[event]))
    else:
        lease = acquire(claims.log.store)
        assert isinstance(lease, RebuildLease)
        claims.log.store.rebuilds.write_page(lease, [row("x")], "x", 1)
        plan = attrs.evolve(PLAN, deletes_missing=False, max_events=1000 * (what == "swap"))
        assert claims.log.store.rebuilds.swap(lease, plan).num_changed == 1
    claims.finish("one", "b")
    assert claims.states("two", "a", "b") == [GRANTED, GRANTED]
    claims.finish("one", "b")
    assert claims.states("one", "b") == [HELD]


def test_other_changes_and_other_partitions_end_no_claim(claims, mutation, put):
    claims.ask("one", "a")
    claims.finish("one", "a")
    event = AppendRequest(ChannelName("orders/eu"), b"\x00", 1)
    claims.log.mutate(mutation(None, 0, put("orders", "a", b"2"), put("orders", "b", b"3")))
    claims.log.mutate(mutation(None, 0, events=[event]))
    (found,) = claims.ask("two", "a")
    assert (found.state, found.entry.value) == (LOADED, b"2")


def test_an_invalidation_of_keys_ends_claims_of_these_alone(claims, mutation):
    claims.ask("one", *"abcd")
    claims.finish("one", "a", "b")
    event = AppendRequest(ORDERS, b"\x00", 1, invalidated=["a", "c"])
    claims.log.mutate(mutation(None, 0, events=[event]))
    assert claims.states("two", *"abcd") == [GRANTED, LOADED, GRANTED, HELD]
    claims.finish("one", "c", "d")
    assert claims.states("three", "c", "d") == [HELD, LOADED], "c is the claim of two by now"


def test_a_store_of_one_node_grants_what_there_is_room_for(make_sqlite):
    loads = make_sqlite().rebuilds.loads
    places = [(ORDERS, KeyName(key)) for key in "abc"]
    assert [c.state for c in loads.claim(places, "one", 1.0, 2)] == [GRANTED, GRANTED, FREE]
    loads.renew("one", places, 1.0)
    loads.finish("one", [FinishedLoad(places[0], None)])
