"""Who is told what when the store fails, a message fails, the broadcaster crashes or the node stops."""

from unittest import mock

import pytest
import structlog.testing
import trio

from syncd.actors.broadcaster import delivering
from syncd.actors.kit import Health
from syncd.errors import ActorStopped, StoreUnavailable, internal_error
from syncd.ids import ChannelName
from syncd.ports import ResumeSubscriptions
from syncd.ports_log import AppendRequest
from syncd.wire.encode import event_record, pack
from tests.actors.broadcaster_promises import Promises
from tests.actors.broadcaster_steps import (
    crowd,
    datas,
    durable_subscriber,
    error_of,
    last,
    published,
)
from tests.actors.broadcaster_world import World

DIRECT = event_record(pack("first"), 5, name=None, key=None, client=None)


@pytest.fixture
async def world(nursery):
    world = World()
    await world.start(nursery)
    return world


def offset_of(channel, world):
    return world.broadcaster.rooms.by_name[ChannelName(channel)].channel.top


async def test_a_store_that_cannot_read_refuses_those_who_wait_and_the_next_one_tries_again(world):
    first, second = world.session(), world.session()
    for session in (first, second):
        world.subscribe(session, "dur:a")
    await world.settled()
    assert len(world.store.asks) == 1, "one load for all who wait"
    world.store.perform(fails=True)
    world.store.tell()
    await world.settled()
    assert error_of(first) == error_of(second) == "store_unavailable"
    assert not world.broadcaster.rooms.by_name
    await durable_subscriber(world)


async def test_a_batch_the_store_could_not_write_fails_and_nobody_hears_of_it(world):
    reader = await durable_subscriber(world)
    author = world.session()
    for number in range(3):
        world.publish(author, "dur:a", number)
    await world.settled()
    world.store.perform(fails=True)
    world.store.tell()
    await world.settled()
    assert [body["code"] for _kind, body in author.notes] == ["store_unavailable"] * 3
    world.publish(author, "dur:a", 7)
    await world.quiet()
    assert datas(reader) == [7]
    assert offset_of("dur:a", world) == 1


@pytest.mark.parametrize("channel", ["dur:a", "dlat:a"])
@pytest.mark.parametrize("error", [internal_error(), StoreUnavailable(is_unknown=True)])
async def test_what_a_store_may_have_committed_without_saying_so_reaches_everybody(
    world, channel, error
):
    reader = await durable_subscriber(world, channel)
    author = await published(world, channel, 2)
    world.publish(author, channel, "lost?", key="k")
    await world.settled()
    world.store.perform(instead=error)
    world.store.tell()
    await world.quiet()
    assert error_of(author) == error.code.value
    assert datas(reader) == [0, 1, "lost?"]
    world.publish(author, channel, 3)
    await world.quiet()
    assert datas(reader) == [0, 1, "lost?", 3]
    Promises(world).check()


async def test_a_gap_in_the_offsets_is_read_from_the_log(world):
    reader = await durable_subscriber(world)
    author = world.session()
    world.store.log.begin([AppendRequest(ChannelName("dur:a"), DIRECT, 5)])
    world.store.log.commit()
    world.publish(author, "dur:a", "second")
    await world.quiet()
    assert datas(reader) == ["first", "second"]
    assert last(author)[1]["position"]["offset"] == 2
    Promises(world).check()


async def test_a_subscription_that_cannot_be_resumed_lags_alone(world, monkeypatch):
    original = world.broadcaster.joining.resume

    def poisoned(subscription):
        if subscription.session is poison:
            raise ZeroDivisionError
        original(subscription)

    poison, other = world.session(), world.session()
    subscriptions = [world.subscribe(session, "mem:a") for session in (poison, other)]
    await world.settled()
    monkeypatch.setattr(world.broadcaster.joining, "resume", poisoned)
    with structlog.testing.capture_logs() as logs:
        world.submit(ResumeSubscriptions(list(subscriptions)))
        await world.settled()
    assert [log["event"] for log in logs] == ["message_failed"]
    assert (last(poison)[0], last(other)[0]) == ("lagged", "subscribed")
    assert not world.broadcaster.rooms.by_name[ChannelName("mem:a")].holds(subscriptions[0])


@pytest.mark.parametrize("channel", ["mem:a", "dur:a", "live:a"])
async def test_a_publication_that_cannot_be_encoded_fails_alone(world, channel):
    reader = await durable_subscriber(world, channel)
    author = world.session()
    with structlog.testing.capture_logs() as logs:
        for number, name in enumerate(["good", "\ud800", None]):
            world.publish(author, channel, number, name=name)
        await world.quiet()
    answers = {body["id"]: body.get("code") for _kind, body in author.notes}
    assert answers == {1: None, 2: "internal_error", 3: None}
    assert datas(reader) == [0, 2]
    assert [log["event"] for log in logs] == ["message_failed"]
    assert world.health.num_restarts == 0


async def test_a_crash_fails_what_was_in_hand_once_and_everything_else_goes_on(world):
    reader, author = world.session(), world.session()
    world.subscribe(reader, "mem:a")
    world.publish(author, "mem:a", 1)
    await world.settled()
    world.publish(author, "dur:a", 5)
    await world.settled()
    with structlog.testing.capture_logs() as logs:
        world.fanout.crash_in = 0
        world.publish(author, "mem:a", 2)
        world.publish(author, "dur:a", 6)
        await world.quiet()
    assert [log["event"] for log in logs] == ["actor_restarted"]
    answers = {body["id"]: body.get("code") for _kind, body in author.notes}
    assert answers == {1: None, 2: None, 3: "internal_error", 4: None}
    kind, body = last(reader)
    assert (kind, body["recovered"], "id" in body) == ("subscribed", False, False)
    Promises(world).check()


async def test_whoever_waits_when_the_node_stops_is_told():
    world = World()
    session, author = world.session(), world.session()
    async with trio.open_nursery() as nursery:
        await world.start(nursery)
        crowd(world, 2, "live:a")
        world.subscribe(session, "dur:a")
        for number in range(2):
            world.publish(author, "dur:a", number)
        await world.settled()
        world.publish(author, "live:a", [0])

        def stop_in_the_middle(_subscriptions, _run):
            world.store.perform(1)
            world.store.tell()  # the store has answered, the broadcaster has not heard it yet
            world.publish(author, "mem:a", 9)
            world.history(author, "dur:b")
            nursery.cancel_scope.cancel()
            return []

        world.fanout.deliver = stop_in_the_middle
        with mock.patch.object(delivering, "DELIVERIES_PER_SLICE", 1):
            await trio.sleep_forever()
    assert world.health.state is Health.STOPPED
    assert [body["code"] for _kind, body in session.notes] == ["shutting_down"]
    codes = {body["id"]: body["code"] for _kind, body in author.notes}
    assert codes == dict.fromkeys(range(1, 6), "shutting_down")
    assert len(author.notes) == 5
    with pytest.raises(ActorStopped):
        world.publish(author, "mem:a", 1)


async def test_publications_at_the_store_are_told_when_the_node_stops():
    world = World()
    author = world.session()
    async with trio.open_nursery() as nursery:
        await world.start(nursery)
        world.publish(author, "dur:a", 1)
        await world.settled()
        nursery.cancel_scope.cancel()
    assert error_of(author) == "shutting_down"
    world.store.settle()
    assert len(author.notes) == 1, "the answer that comes too late finds nobody"
