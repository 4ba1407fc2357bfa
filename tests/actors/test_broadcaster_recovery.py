"""A long recovery comes in pages, in order and without a gap, as fast as its reader takes them."""

import msgpack
import pytest
import structlog.testing

from syncd.ids import ChannelName, Epoch, Position
from syncd.ports import SessionDrained
from tests.actors.broadcaster_promises import Promises
from tests.actors.broadcaster_steps import datas, durable_subscriber, error_of, last, published
from tests.actors.broadcaster_world import World, make_config


@pytest.fixture
async def world(nursery):
    world = World()
    await world.start(nursery)
    return world


@pytest.fixture
async def paged(nursery, monkeypatch):
    """Pages of two events, a tail of three: most of a recovery comes from the log."""
    for module in ("syncd.model.channel", "syncd.actors.broadcaster.joining"):
        monkeypatch.setattr(f"{module}.TAIL_EVENTS", 3)
    record = len(b"\x02\xa4data\x01\xa5at_ms") + 5 + len(msgpack.packb({"by": {"client": "s0"}}))
    world = World(make_config(recovery_bytes=2 * record))
    await world.start(nursery)
    await published(world, "dur:a", 10)
    reader = await durable_subscriber(world)
    world.epoch = Epoch(reader.notes[0][1]["position"]["epoch"])
    return world


def returning(world, offset=0):
    session = world.session()
    return session, world.subscribe(session, "dur:a", Position(world.epoch, offset))


async def test_a_long_recovery_comes_in_pages_and_then_live(paged):
    session, subscription = returning(paged)
    await paged.quiet()
    _, body = session.notes[0]
    assert body["recovered"] is True
    first = [event["data"] for event in body["events"]]
    assert 0 < len(first) < 10
    assert first + datas(session) == list(range(10))
    assert subscription.is_live
    paged.publish(session, "dur:a", 10)
    await paged.quiet()
    assert datas(session)[-1] == 10
    Promises(paged).check()


async def test_a_slow_reader_is_sent_the_next_page_only_when_it_has_drained(paged):
    session, subscription = returning(paged)
    session.is_slow = True
    for _ in range(10):
        await paged.settled()
        paged.store.settle()
    assert len(session.notes) == 1
    assert session.waiting == [subscription]
    session.drain()
    session.is_slow = True
    for _ in range(10):
        await paged.settled()
        paged.store.settle()
    assert 1 < len(session.notes) < 5
    assert session.waiting == [subscription]


async def test_events_published_meanwhile_come_after_the_pages(paged):
    session, subscription = returning(paged)
    session.is_slow = True
    await paged.settled()
    paged.store.settle()
    await paged.settled()
    assert not subscription.is_live
    paged.publish(session, "dur:a", 10)
    await paged.quiet()
    Promises(paged).check()
    assert datas(session)[-1] == 10


async def test_retention_that_overtakes_a_recovery_ends_it_with_lagged(paged):
    session, _subscription = returning(paged)
    session.is_slow = True
    await paged.settled()
    paged.store.settle()
    await paged.settled()
    author = paged.session()
    for number in range(30):
        paged.publish(author, "dur:a", 100 + number)
    await paged.settled()
    paged.store.settle()
    await paged.quiet()
    kind, body = last(session)
    told = session.notes[0][1]["events"]
    assert (kind, body["position"]["offset"]) == ("lagged", told[-1]["offset"])
    assert not session.subscriptions
    again = await durable_subscriber(paged, since=Position(paged.epoch, told[-1]["offset"]))
    assert again.notes[0][1]["recovered"] is False


async def test_a_log_trimmed_before_the_first_page_means_not_recovered(paged):
    session, _subscription = returning(paged)
    await paged.settled()
    assert [kind for kind, *_ in paged.store.asks] == ["read"]
    log = paged.store.log._logs[ChannelName("dur:a")]
    log.drop_oldest(5)
    await paged.quiet()
    _, body = session.notes[0]
    assert (body["recovered"], body["events"]) == (False, [])
    assert body["position"]["offset"] == 10
    Promises(paged).check()


async def test_a_store_that_fails_before_the_first_page_fails_the_request(paged):
    session, _subscription = returning(paged)
    await paged.settled()
    paged.store.perform(fails=True)
    paged.store.tell()
    await paged.settled()
    assert error_of(session) == "store_unavailable"
    assert not session.subscriptions


async def test_a_store_that_fails_between_pages_ends_the_subscription_with_lagged(paged):
    session, _subscription = returning(paged)
    await paged.settled()
    paged.store.perform()
    paged.store.tell()
    await paged.settled()
    paged.store.perform(fails=True)
    paged.store.tell()
    await paged.settled()
    assert last(session)[0] == "lagged"
    assert not session.subscriptions


async def test_a_page_that_comes_twice_is_sent_once(paged):
    """As when it was asked for before a crash and again after it."""
    session, _subscription = returning(paged)
    await paged.settled()
    for _ in range(12):
        while paged.store.asks:
            paged.store.perform()
        paged.store.answers *= 2
        while paged.store.answers:
            paged.store.tell()
        await paged.settled()
    assert [e["data"] for e in session.notes[0][1]["events"]] + datas(session) == list(range(10))
    Promises(paged).check()


async def test_a_subscription_told_of_room_twice_is_sent_everything_once(paged):
    session, subscription = returning(paged)
    session.is_slow = True
    await paged.settled()
    paged.store.settle()
    await paged.settled()
    session.is_slow = False
    session.outbox_bytes = 0
    paged.submit(SessionDrained([subscription]), SessionDrained([subscription]))
    await paged.quiet()
    Promises(paged).check()


async def test_who_is_too_far_behind_is_told_so(nursery):
    world = World(make_config(recovery_events=5))
    await world.start(nursery)
    author = await published(world, "mem:a", 8)
    epoch = Epoch(last(author)[1]["position"]["epoch"])
    for offset, recovered in ((2, False), (3, True), (8, True), (9, False)):
        session = world.session()
        world.subscribe(session, "mem:a", Position(epoch, offset))
        await world.settled()
        assert session.notes[0][1]["recovered"] is recovered
        assert len(session.notes[0][1]["events"]) == (8 - offset if recovered else 0)
    assert world.broadcaster.statistics().num_recovered == 2
    assert world.broadcaster.statistics().num_unrecovered == 2


async def test_a_live_subscription_that_cannot_be_read_again_after_a_crash_lags(world):
    reader = await durable_subscriber(world)
    author = world.session()
    with structlog.testing.capture_logs():
        world.fanout.crash_in = 0
        world.publish(author, "mem:a", 1)
        await world.settled()
    world.store.perform(fails=True)
    world.store.tell()
    await world.settled()
    kind, body = last(reader)
    assert (kind, body["position"]["offset"]) == ("lagged", 0)
    assert not reader.subscriptions
