"""What a broadcaster holds at once is bounded, and no crowd keeps the loop for itself."""

import attrs
import pytest
import trio

from syncd.actors.broadcaster import actor, delivering, publishing
from syncd.errors import MailboxFull
from syncd.ids import ChannelName, Epoch, Position
from syncd.ports import ResumeSubscriptions, SubscribeChannel, Subscription
from tests.actors.broadcaster_promises import Promises
from tests.actors.broadcaster_steps import crowd, error_of, kinds, last, published
from tests.actors.broadcaster_world import World, make_config


@pytest.fixture
async def world(nursery):
    world = World()
    await world.start(nursery)
    return world


# ---------------------------------------------------------------------------------------------- bounds


async def test_durable_publications_past_the_bound_are_told_to_come_again(world, monkeypatch):
    monkeypatch.setattr(publishing, "MAX_WAITING", 3)
    author = world.session()
    for number in range(5):
        world.publish(author, "dur:a", number)
    await world.settled()
    refused = [body for _kind, body in author.notes]
    assert [body["id"] for body in refused] == [4, 5]
    assert {body["code"] for body in refused} == {"overloaded"}
    assert all(body["retryable"] and body["after_ms"] for body in refused)
    await world.quiet()
    assert sorted(body["id"] for _kind, body in author.notes) == [1, 2, 3, 4, 5]


async def test_the_bytes_that_wait_for_the_store_are_bounded_and_come_free_again(
    world, monkeypatch
):
    monkeypatch.setattr(publishing, "MAX_WAITING_BYTES", 100)
    author = world.session()
    for _ in range(3):
        world.publish(author, "dur:a", "x" * 40)
    await world.settled()
    assert error_of(author) == "overloaded"
    for _ in range(2):
        world.publish(author, "dur:a", "x" * 40)
    await world.settled()
    assert kinds(author) == ["error"], "what the store was handed waits here no more"


async def test_the_store_has_few_batches_at_once_and_none_that_stalls_the_loop(world, monkeypatch):
    monkeypatch.setattr(publishing, "ASK_COMMANDS", 10)
    author = world.session()
    for number in range(65):
        world.publish(author, "dur:a", number)
    await world.settled()
    assert world.store.batches == [10] * publishing.MAX_ASKS
    world.store.perform()
    world.store.tell()
    await world.settled()
    assert world.store.batches == [10] * (publishing.MAX_ASKS + 1)
    await world.quiet()
    assert world.store.batches == [10] * 6 + [5]
    positions = [body["position"]["offset"] for _kind, body in author.notes]
    assert positions == list(range(1, 66)), "in the order in which they were sent"


async def test_a_node_that_holds_too_many_channels_refuses_new_ones_alone(nursery):
    world = World(make_config(channels=2))
    await world.start(nursery)
    author = world.session()
    for channel in ("mem:a", "mem:b", "mem:c", "mem:a"):
        world.publish(author, channel, 1)
    await world.settled()
    answers = {body["id"]: body.get("code") for _kind, body in author.notes}
    assert answers == {1: None, 2: None, 3: "limit_exceeded", 4: None}
    world.subscribe(author, "live:x")
    await world.settled()
    assert error_of(author) == "limit_exceeded"
    assert not author.subscriptions


async def test_a_full_mailbox_refuses_and_a_put_waits_for_room(world, monkeypatch):
    monkeypatch.setattr(world.broadcaster.mailbox, "capacity", 3)
    session = world.session()
    for number in range(3):
        world.publish(session, "mem:a", number)
    with pytest.raises(MailboxFull):
        world.publish(session, "mem:a", 3)
    session.asked.pop(4)
    subscription = Subscription(session, ChannelName("mem:a"), pending_id=9)
    session.subscriptions[ChannelName("mem:a")] = subscription
    await world.broadcaster.submit([SubscribeChannel(subscription)], 0)
    await world.settled()
    assert last(session)[1]["position"]["offset"] == 3


# ---------------------------------------------------------------------------------------------- fairness


@attrs.define(eq=False)
class Steps(trio.abc.Instrument):
    """What happens between two checkpoints, exactly: one step of a task."""

    world: World
    most_sends: int = 0
    most_notes: int = 0
    num_notes: int = 0

    def before_task_step(self, task):
        self.world.fanout.num_since_checkpoint = 0
        self.num_notes = len(self.world.notes)

    def after_task_step(self, task):
        self.most_sends = max(self.most_sends, self.world.fanout.num_since_checkpoint)
        self.most_notes = max(self.most_notes, len(self.world.notes) - self.num_notes)


@pytest.fixture
async def steps(world):
    steps = Steps(world)
    trio.lowlevel.add_instrument(steps)
    yield steps
    trio.lowlevel.remove_instrument(steps)


@pytest.mark.unmeasured
@pytest.mark.parametrize("sizes", [(20_000,), (1400, 1600, 10), (700, 700, 700), (1500, 1500)])
async def test_no_fan_out_sends_more_than_a_slice_without_giving_way(world, steps, sizes):
    for number, size in enumerate(sizes):
        crowd(world, size, f"live:{number}")
    await world.settled()
    world.notes.clear()
    author = world.session()
    for number in range(len(sizes)):
        world.publish(author, f"live:{number}", [0])
    await world.settled()
    assert sum(kind == "event" for _session, kind, _body in world.notes) == sum(sizes)
    assert kinds(author) == ["ok"] * len(sizes)
    assert 0 < steps.most_sends <= delivering.DELIVERIES_PER_SLICE


async def test_a_crowd_that_joins_within_a_batch_is_served_in_slices_too(world, steps, monkeypatch):
    monkeypatch.setattr(actor, "BATCH_COMMANDS", 100_000)
    author = world.session()
    crowd(world, 1, "live:a")
    await world.settled()
    world.publish(author, "live:a", [0])
    crowd(world, 5000, "live:a")
    world.publish(author, "live:a", [1])
    await world.settled()
    assert sum(kind == "event" for _session, kind, _body in world.notes) == 5002
    assert 0 < steps.most_sends <= delivering.DELIVERIES_PER_SLICE
    assert len(world.broadcaster.rooms.by_name[ChannelName("live:a")].subscribers) == 5001


async def test_a_batch_of_many_commands_is_served_in_parts(world, steps):
    author = world.session()
    for number in range(10_000):
        world.publish(author, "live:a", [number])
    await world.settled()
    assert len(author.notes) == 10_000
    assert 0 < steps.most_notes <= actor.BATCH_COMMANDS


async def test_a_crowd_is_taken_over_in_slices_after_a_crash(world, steps):
    session = world.session()
    found = [
        Subscription(session, ChannelName("mem:a"), epoch=Epoch("old"), offset=4)
        for _ in range(5000)
    ]
    world.broadcaster.mailbox.put_reply(ResumeSubscriptions(found))
    await world.settled()
    assert kinds(session) == ["subscribed"] * 5000
    assert 0 < steps.most_notes <= actor.RESUMES_PER_SLICE


async def test_recovering_page_by_page_lets_others_have_their_turn(world, steps):
    object.__setattr__(world.config.limits, "recovery_bytes", 1)
    await published(world, "mem:a", 12)
    epoch = world.broadcaster.rooms.by_name[ChannelName("mem:a")].channel.epoch
    session = world.session()
    world.subscribe(session, "mem:a", Position(epoch, 0))
    steps.most_notes = 0
    await world.settled()
    assert len(session.notes) == 12
    assert steps.most_notes == 1
    Promises(world).check()
