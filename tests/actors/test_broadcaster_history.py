"""History is read both ways from a position, in bounded pages."""

import functools

import pytest

from syncd.codes import ErrorCode
from syncd.ids import Epoch, Position
from tests.actors.broadcaster_steps import error_of, last, published
from tests.actors.broadcaster_world import World, make_config


@pytest.fixture
async def world(nursery):
    world = World()
    await world.start(nursery)
    return world


async def history_of(world, channel, **options):
    """(data of the events, top) or the code of the refusal."""
    session = world.session()
    world.history(session, channel, **options)
    await world.quiet()
    kind, body = last(session)
    if kind == "error":
        return body["code"]
    return [event["data"] for event in body["events"]], body["position"]["offset"]


@pytest.mark.parametrize("channel", ["mem:a", "dur:a"])
async def test_history_goes_both_ways_from_a_position(world, channel):
    author = await published(world, channel, 6)
    epoch = Epoch(last(author)[1]["position"]["epoch"])
    ask = functools.partial(history_of, world, channel)
    assert await ask(limit=1000) == ([0, 1, 2, 3, 4, 5], 6)
    assert await ask(limit=2) == ([0, 1], 6)
    assert await ask(limit=2, reverse=True) == ([5, 4], 6)
    assert await ask(limit=2, since=Position(epoch, 3)) == ([3, 4], 6)
    assert await ask(limit=9, since=Position(epoch, 3), reverse=True) == ([1, 0], 6)
    assert await ask(limit=9, since=Position(epoch, 6)) == ([], 6)
    assert await ask(limit=9, since=Position(epoch, 7), reverse=True) == ([5, 4, 3, 2, 1, 0], 6)
    assert await ask(limit=0) == ([], 6)
    assert await ask(since=Position(Epoch("other"), 3)) == "unrecoverable_position"
    assert await ask(since=Position(epoch, 8)) == "unrecoverable_position"


@pytest.mark.parametrize(("channel", "size"), [("mem:a", 12), ("dur:a", 24)])
async def test_history_from_before_what_is_kept_is_refused_forwards_only(world, channel, size):
    author = await published(world, channel, size + 5)
    epoch = Epoch(last(author)[1]["position"]["epoch"])
    ask = functools.partial(history_of, world, channel)
    assert await ask(since=Position(epoch, 4)) == "unrecoverable_position"
    events, top = await ask(since=Position(epoch, 5))
    assert (len(events), top) == (size, size + 5)
    assert await ask(since=Position(epoch, 4), reverse=True) == ([], size + 5)


@pytest.mark.parametrize("channel", ["mem:a", "dur:a"])
async def test_a_page_of_history_is_bounded_in_bytes_but_never_empty(nursery, channel):
    world = World(make_config(recovery_bytes=10))
    await world.start(nursery)
    await published(world, channel, 3)
    assert await history_of(world, channel) == ([0], 3)


@pytest.mark.parametrize("channel", ["lat:a", "dlat:a"])
async def test_history_of_a_latest_channel_is_the_newest_of_each_key(world, channel):
    author = world.session()
    for number, key in enumerate("abab"):
        world.publish(author, channel, number, key=key)
    await world.quiet()
    assert await history_of(world, channel) == ([2, 3], 4)
    assert await history_of(world, channel, reverse=True) == ([3, 2], 4)


async def test_history_of_a_store_that_cannot_read_is_refused(world):
    session = world.session()
    world.history(session, "dur:a")
    await world.settled()
    world.store.perform(fails=True)
    world.store.tell()
    await world.settled()
    assert error_of(session) == ErrorCode.STORE_UNAVAILABLE.value
