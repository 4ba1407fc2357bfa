"""Watches one at a time: joined to their snapshot without a gap, filtered, marked, widened, and outcomes behind their events."""

import pytest
import trio

from syncd.actors.broadcaster import committing
from syncd.codes import ErrorCode
from syncd.ids import ChannelName, Position
from syncd.ports import ReadHistory, SubscribeChannel, Subscription
from tests.actors.broadcaster_promises import Promises
from tests.actors.watching_world import WatchingWorld, WatchPromises


@pytest.fixture
async def world(nursery):
    world = WatchingWorld()
    await world.start(nursery)
    return world


@pytest.fixture
async def paged(nursery, monkeypatch):
    """A node that keeps three events in memory and tells one at a time to those who catch up."""
    for module in ("joining", "model"):
        path = "syncd.model.channel" if module == "model" else "syncd.actors.broadcaster.joining"
        monkeypatch.setattr(f"{path}.TAIL_EVENTS", 3)
    world = WatchingWorld(recovery_bytes=1)
    await world.start(nursery)
    return world


def heard(session, channel="orders"):
    """(kind, offset or id) of what a session was told of a channel, and outcomes."""
    found = []
    for kind, body in session.notes:
        if kind == "outcome":
            found.append(kind)
        elif body.get("channel") == channel:
            offset = body.get("offset", body.get("position", {}).get("offset"))
            found.append((kind, offset))
    return found


async def watching(world, channel="orders", keys=None, **options):
    session = world.session(**options)
    world.watch(session, channel, keys)
    await world.quiet()
    return session


async def changed(world, *keys, channel="orders", asker=None):
    for key in keys:
        world.commit(world.change(channel, key, {"n": key}), asker=asker)
    await world.quiet()


def check(world):
    WatchPromises(world).check()
    Promises(world).check()


# ---------------------------------------------------------------------------------------------- 5.2: no gap


@pytest.mark.parametrize("channel", ["orders", "orders/eu", "cached"])
async def test_what_is_committed_behind_the_snapshot_follows_it(world, channel):
    await changed(world, "a", "b", channel=channel)
    await watching(world, channel)
    session = world.session()
    world.watch(session, channel)
    world.snapshot()
    world.commit(world.change(channel, "a", None))
    await changed(world, "c", channel=channel)
    assert heard(session, channel) == [("watched", 2), ("event", 3), ("event", 4)]
    check(world)


async def test_a_snapshot_that_is_older_than_what_is_told_gets_what_it_lacks(world):
    await watching(world)
    await changed(world, "a")
    session = world.session()
    world.watch(session, "orders")
    number = len(world.requests) - 1
    world.snapshot(number)
    await changed(world, "b", "c")
    assert heard(session) == [("watched", 1), ("event", 2), ("event", 3)]


@pytest.mark.parametrize("keys", [["a"], None], ids=["keys", "whole"])
@pytest.mark.parametrize("missed", [[], ["b"], ["b", "a"]], ids=["nothing", "others", "own"])
async def test_a_mark_closes_every_recovery(world, keys, missed):
    """Without it a filtered watch could not say that it has told all that an outcome waits for."""
    await watching(world)
    await changed(world, "a")
    since = Position(
        world.truth(ChannelName("orders")).epoch, world.truth(ChannelName("orders")).top
    )
    await changed(world, *missed)
    session = world.session()
    world.watch(session, "orders", keys, since)
    world.snapshot()
    await world.settled()
    assert heard(session)[-1] == ("mark", 1 + len(missed))
    await changed(world, "c", "a")
    assert heard(session)[-1] == ("event", 3 + len(missed)), "one mark"


async def test_a_watch_that_cannot_be_joined_is_lost_and_nothing_changes(world):
    session = await watching(world, "cached", ["a"])
    await changed(world, "a", channel="cached")
    lost = world.num_lost
    since = Position(world.truth(ChannelName("cached")).epoch, 9)
    world.watch(session, "cached", ["b"], since)
    world.snapshot()
    await world.settled()
    assert world.num_lost == lost + 1
    world.requests.clear()
    await changed(world, "a", channel="cached")
    assert heard(session, "cached")[-1] == ("event", 2)


async def test_a_watch_behind_the_tail_is_told_page_by_page_what_its_filter_lets_through(paged):
    await changed(paged, *"abcabcabc")
    await watching(paged)
    session = paged.session()
    epoch = paged.truth(ChannelName("orders")).epoch
    paged.watch(session, "orders", ["b"], Position(epoch, 0))
    paged.snapshot()
    await paged.quiet()
    assert heard(session) == [("watched", 0), ("event", 2), ("event", 5), ("event", 8), ("mark", 9)]
    await changed(paged, "a", "b")
    assert heard(session)[-1] == ("event", 11)
    assert len(heard(session)) == 6


async def test_a_position_that_the_log_does_not_have_any_more_is_lost(paged):
    await changed(paged, *"abcabc")
    await watching(paged)
    session = paged.session()
    epoch = paged.truth(ChannelName("orders")).epoch
    await changed(paged, *"abcabcabcabcabcabcabcabc")
    paged.store.log.trim(1000, 10**6)
    paged.watch(session, "orders", ["b"], Position(epoch, 1))
    paged.snapshot()
    await paged.settled()
    paged.store.settle()
    await paged.settled()
    assert paged.num_lost == 1
    assert session.notes == []
    await paged.quiet()
    check(paged)


# ---------------------------------------------------------------------------------------------- filters


async def test_a_filtered_watch_is_told_its_keys_and_the_invalidations_that_may_concern_it(world):
    session = await watching(world, keys=["a", "b"])
    for what in (
        {"keys": ["c"]},
        {"keys": ["b", "c"]},
        {"tags": ["t"]},
        {"keys": ["c"], "tags": ["t"]},
        {},
    ):
        world.commit(world.invalidate("orders", **what))
    await changed(world, "c", "a")
    assert heard(session)[1:] == [
        ("invalidate", 2),
        ("invalidate", 3),
        ("invalidate", 4),
        ("invalidate", 5),
        ("event", 7),
    ]
    check(world)


async def test_a_run_reaches_a_filtered_watch_in_one_delivery(world):
    session = await watching(world, keys=["a", "c"])
    subscription = session.subscriptions[ChannelName("orders")]
    changes = [world.change("orders", key, {"n": 1}) for key in "abcd"]
    world.commit(*changes)
    before = world.fanout.num_flushes
    world.hand_over()
    await world.settled()
    assert world.fanout.num_flushes == before + 1
    assert heard(session)[1:] == [("event", 1), ("event", 3)]
    assert subscription.offset == 4


async def test_widening_goes_back_to_the_older_of_both_positions(world):
    session = await watching(world, keys=["a"])
    await changed(world, "a", "b")
    world.watch(session, "orders", ["b"])
    world.snapshot()
    await changed(world, "b", "a")
    assert heard(session) == [
        ("watched", 0), ("event", 1), ("watched", 2), ("mark", 2), ("event", 3), ("event", 4),
    ]  # fmt: skip
    check(world)


@pytest.mark.parametrize("keys", [["b"], None], ids=["keys", "all"])
async def test_a_watch_that_is_widened_is_told_where_it_stands_though_nothing_follows(world, keys):
    session = await watching(world, keys=["a"])
    await changed(world, "a", "b")
    world.watch(session, "orders", keys)
    await world.quiet()
    assert heard(session) == [("watched", 0), ("event", 1), ("watched", 2), ("mark", 2)]
    check(world)


async def test_keys_that_are_given_up_are_told_no_more(world):
    session = await watching(world, keys=["a", "b"])
    world.narrow(session, "orders", ["a"])
    await changed(world, "a", "b")
    assert heard(session)[1:] == [("event", 2)]
    assert world.broadcaster.num_watching(ChannelName("orders"), "a") == 0
    assert world.broadcaster.num_watching(ChannelName("orders"), "b") == 1


async def test_whole_and_filtered_watches_are_counted_by_key(world):
    await watching(world)
    session = await watching(world, keys=["a"])
    name = ChannelName("orders")
    assert [world.broadcaster.num_watching(name, key) for key in "ab"] == [2, 1]
    assert world.broadcaster.channels("orders", 5)[0].num_subscribers == 2
    world.unwatch(session, "orders")
    await world.quiet()
    assert [world.broadcaster.num_watching(name, key) for key in "ab"] == [1, 1]
    assert world.broadcaster.num_watching(ChannelName("orders/eu"), "a") == 0


async def test_a_quiet_filter_is_told_how_far_it_is_once_a_minute_at_least(world, autojump_clock):
    session = await watching(world, keys=["a"])
    await changed(world, "b", "c")
    for _ in range(60):
        world.wall_ms += 1000
        await trio.sleep(1)
    assert heard(session)[1:] == [("mark", 2)], "once, for it did not move again"
    assert session.subscriptions[ChannelName("orders")].offset == 2


# ---------------------------------------------------------------------------------------------- 5.7: settle


async def test_an_outcome_comes_behind_its_events_in_one_flush(world):
    session = await watching(world)
    other = await watching(world, "orders/eu")
    world.watch(session, "orders/eu", ["x"])
    await world.quiet()
    changes = [world.change("orders", "a", {"n": 1}), world.change("orders/eu", "x", {"n": 1})]
    world.commit(*changes, asker=session)
    before = world.fanout.num_flushes
    world.hand_over()
    await world.settled()
    assert world.fanout.num_flushes == before + 1
    assert [kind for kind, _ in session.notes][-3:] == ["event", "event", "outcome"]
    assert [kind for kind, _ in other.notes] == ["watched", "event"]


async def test_an_outcome_waits_for_a_watch_that_catches_up_and_later_ones_wait_behind_it(paged):
    await changed(paged, *"abcabc")
    await watching(paged)
    session = paged.session()
    epoch = paged.truth(ChannelName("orders")).epoch
    paged.watch(session, "orders", None, Position(epoch, 2))
    paged.snapshot()
    await paged.settled()
    session.is_slow = True
    paged.store.settle()
    await paged.settled()
    paged.commit(paged.change("orders", "a", {"n": 7}), asker=session)
    paged.commit(paged.change("cached", "a", {"n": 7}), asker=session)
    paged.hand_over()
    await paged.settled()
    assert "outcome" not in heard(session)
    await paged.quiet()
    assert heard(session)[-4:] == [("event", 7), ("mark", 7), "outcome", "outcome"]


async def test_a_session_that_would_hold_up_too_many_outcomes_lags(paged, monkeypatch):
    monkeypatch.setattr(committing, "HELD_OUTCOMES", 3)
    await changed(paged, *"abcabc")
    await watching(paged)
    session = paged.session()
    epoch = paged.truth(ChannelName("orders")).epoch
    paged.watch(session, "orders", None, Position(epoch, 2))
    paged.snapshot()
    await paged.settled()
    paged.store.perform()
    paged.store.tell()
    await paged.settled()
    for _ in range(4):
        paged.commit(paged.change("orders", "a", {"n": 7}), asker=session)
    paged.hand_over()
    await paged.settled()
    assert [kind for kind, _ in session.notes] == ["watched", "lagged"] + ["outcome"] * 4


async def test_an_outcome_survives_a_crash_and_comes_behind_its_events_even_then(world):
    session = await watching(world)
    world.commit(world.change("orders", "a", {"n": 1}), asker=session)
    world.fanout.crash_in = 0
    world.hand_over()
    await world.quiet()
    assert heard(session) == [("watched", 0), ("event", 1), "outcome"]
    check(world)


async def test_a_lost_commit_shows_with_the_outcome_that_is_told_again(world):
    session = await watching(world)
    world.commit(world.change("orders", "a", {"n": 1}), asker=session)
    world.undelivered[0].events.clear()
    await world.quiet()
    assert heard(session) == [("watched", 0), ("event", 1), "outcome"]
    check(world)


async def test_events_of_a_durable_channel_that_come_two_ways_are_told_in_order(world):
    session = world.session()
    world.subscribe(session, "dur:a")
    await world.quiet()
    loads = len(world.store.batches)
    world.commit(world.publish_in_mutation("dur:a", "first"))
    world.publish(session, "dur:a", "second")
    await world.settled()
    world.store.settle()
    await world.settled()
    world.hand_over()
    await world.quiet()
    assert [body["data"] for kind, body in session.notes if kind == "event"] == ["first", "second"]
    assert [kind for kind, _ in session.notes] == ["subscribed", "event", "event", "ok"]
    assert len(world.store.batches) == loads + 1
    check(world)


# ---------------------------------------------------------------------------------------------- ends


async def test_a_volatile_channel_that_begins_anew_lags_everybody(world):
    session = await watching(world, "cached", ["a"])
    await changed(world, "a", channel="cached")
    world.renew("cached")
    await world.quiet()
    assert heard(session, "cached") == [("watched", 0), ("event", 1), ("lagged", 1)]
    world.watch(session, "cached", ["a"])
    await world.quiet()
    await changed(world, "a", channel="cached")
    assert heard(session, "cached")[-2:] == [("watched", 0), ("event", 1)]
    check(world)


async def test_after_a_crash_of_the_cache_owner_a_durable_channel_is_read_anew(world):
    session = await watching(world, keys=["a"])
    world.change("orders", "a", {"n": 1})
    world.renew_durable("orders")
    await world.quiet()
    assert heard(session) == [("watched", 0), ("event", 1)]
    check(world)


async def test_collections_can_neither_be_subscribed_to_nor_published_to_nor_read_as_history(world):
    session = world.session()
    name = ChannelName("orders")
    world.submit(SubscribeChannel(Subscription(session, name, pending_id=1)))
    world.submit(ReadHistory(session, 2, name, 10))
    await world.settled()
    session.ids = iter([3])
    world.publish(session, "orders", 1)
    await world.settled()
    codes = [body["code"] for _kind, body in session.notes]
    assert codes == [ErrorCode.PERMISSION_DENIED.value] * 3
