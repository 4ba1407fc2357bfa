"""How old what is published is when it is written: the wait in the mailbox and at the store included, once a batch."""

import pytest
import trio

from syncd.actors.kit import Mailbox
from syncd.ids import ChannelName
from syncd.ports_collections import CommittedEvent, DeliverCommitted
from syncd.wire.encode import event_record, pack
from tests.actors.broadcaster_world import World


@pytest.fixture
async def world(nursery):
    world = World()
    session = world.session()
    for channel in ("mem:a", "live:a", "dur:a"):
        world.subscribe(session, channel)
    await world.start(nursery)
    await world.quiet()
    assert ages(world) == (0, 0.0), "a subscription is no publication"
    return world


def ages(world):
    counts = world.broadcaster.statistics().ages
    return counts.count, pytest.approx(counts.total)


@pytest.mark.parametrize("channel", ["mem:a", "live:a"])
async def test_the_wait_in_the_mailbox_counts(autojump_clock, nursery, channel):
    world = World()
    session = world.session()
    world.subscribe(session, channel)
    world.publish(session, channel, 1)
    await trio.sleep(3)
    world.publish(session, channel, 2)
    await world.start(nursery)
    await world.quiet()
    assert ages(world) == (1, 3.0), "one batch: the age of its oldest"
    world.publish(session, channel, 3)
    await world.quiet()
    assert ages(world) == (2, 3.0)


async def test_the_time_at_the_store_counts_and_that_of_what_waits_for_its_turn(
    autojump_clock, world
):
    session = world.sessions[0]
    world.publish(session, "dur:a", 1)
    await world.settled()
    await trio.sleep(2)
    world.publish(session, "dur:a", 2)
    await world.settled()
    await trio.sleep(3)
    assert ages(world) == (0, 0.0), "nothing is written yet"
    world.store.perform()
    world.store.tell()
    await world.settled()
    assert ages(world) == (1, 5.0)
    world.store.settle()
    await world.settled()
    assert ages(world) == (2, 5.0 + 3.0)


async def test_what_nobody_is_sent_has_no_age(autojump_clock, world):
    world.publish(world.sessions[0], "mem:elsewhere", 1)
    await world.quiet()
    assert ages(world) == (0, 0.0)


async def test_a_commit_of_mutations_is_as_old_as_its_oldest(autojump_clock, world):
    asked_at = trio.current_time()
    await trio.sleep(4)
    channel = ChannelName("dur:a")
    record = event_record(pack({"n": 1}), 5, name=None, key=None, client=None)
    epoch = world.broadcaster.rooms.by_name[channel].channel.epoch
    event = CommittedEvent(channel, epoch, 1, 5, None, record)
    world.broadcaster.deliver_committed(DeliverCommitted([event], since=asked_at))
    await world.settled()
    assert ages(world) == (1, 4.0)


async def test_a_mailbox_knows_since_when_its_oldest_message_waits(autojump_clock):
    mailbox = Mailbox("x", 10, 1000)
    mailbox.put_reply("an answer")
    await trio.sleep(1)
    began = trio.current_time()
    mailbox.put_nowait(["a"])
    await trio.sleep(1)
    await mailbox.put(["b"])
    assert await mailbox.take() == ["an answer", "a", "b"]
    assert mailbox.taken_since == began
    mailbox.put_reply("an answer")
    await mailbox.take()
    assert mailbox.taken_since == float("inf")
