"""The broadcaster's behaviour one at a time: publishing, keys, late joiners, bounds, and who is told what when it ends."""

import functools
from unittest import mock

import attrs
import msgpack
import pytest
import structlog.testing
import trio
import trio.testing

from syncd.actors.broadcaster import BroadcasterStatistics, actor, delivering, publishing
from syncd.actors.kit import Health
from syncd.codes import ErrorCode
from syncd.errors import ActorStopped, MailboxFull, StoreUnavailable, internal_error
from syncd.ids import ChannelName, Epoch, Position
from syncd.ports import ResumeSubscriptions, SessionDrained, SubscribeChannel, Subscription
from syncd.ports_log import AppendRequest
from syncd.wire.encode import event_record, pack
from tests.actors.broadcaster_promises import Promises
from tests.actors.broadcaster_world import World, make_config

DIRECT = event_record(pack("first"), 5, name=None, key=None, client=None)


@pytest.fixture
async def world(nursery):
    world = World()
    await world.start(nursery)
    return world


def datas(session):
    """The data of every event a session was sent."""
    return [body["data"] for kind, body in session.notes if kind == "event"]


def kinds(session):
    return [kind for kind, _ in session.notes]


def last(session):
    return session.notes[-1]


def offset_of(channel, world):
    return world.broadcaster.rooms.by_name[ChannelName(channel)].channel.top


def error_of(session):
    kind, body = last(session)
    assert kind == "error", session.notes
    return body["code"]


async def durable_subscriber(world, channel="dur:a", since=None):
    session = world.session()
    world.subscribe(session, channel, since)
    await world.quiet()
    return session


async def published(world, channel, count, **options):
    """Publish numbers and let them arrive."""
    author = world.session()
    for number in range(count):
        world.publish(author, channel, number, **options)
    await world.quiet()
    return author


# ---------------------------------------------------------------------------------------------- one batch


@pytest.mark.parametrize("channel", ["mem:a", "none:a", "live:a", "lat:a"])
async def test_late_joiners_of_a_batch_get_exactly_the_later_part(world, channel):
    early, late, latest = world.session(), world.session(), world.session()
    author = world.session()
    world.subscribe(early, channel)
    world.publish(author, channel, 1, key="a")
    world.subscribe(late, channel)
    world.publish(author, channel, 2, key="b")
    world.subscribe(latest, channel)
    world.publish(author, channel, 3, key="c")
    await world.settled()
    assert (datas(early), datas(late), datas(latest)) == ([1, 2, 3], [2, 3], [3])
    world.publish(author, channel, 4)
    await world.settled()
    assert [datas(s)[-1] for s in (early, late, latest)] == [4, 4, 4]


async def test_late_joiners_of_a_durable_batch_get_exactly_the_later_part(world):
    first = await durable_subscriber(world)
    author, late = world.session(), world.session()
    world.publish(author, "dur:a", 1)
    await world.settled()
    world.publish(author, "dur:a", 2)
    await world.settled()
    world.store.perform()
    world.store.perform()
    world.store.tell()
    world.subscribe(late, "dur:a")
    world.store.tell()
    await world.settled()
    assert (datas(first), datas(late)) == ([1, 2], [2])
    assert late.notes[0][1]["position"]["offset"] == 1


@pytest.mark.parametrize("channel", ["mem:a", "live:a"])
async def test_a_late_joiner_is_served_when_everybody_else_left_within_the_batch(world, channel):
    early, late, author = world.session(), world.session(), world.session()
    world.subscribe(early, channel)
    await world.settled()
    world.publish(author, channel, 1)
    world.unsubscribe(early, channel)
    world.subscribe(late, channel)
    world.publish(author, channel, 2)
    await world.settled()
    assert datas(late) == [2]
    assert datas(early) == [], "nothing follows the ok to unsubscribe"


async def test_a_late_joiner_of_a_durable_channel_is_served_when_everybody_else_left(world):
    early = await durable_subscriber(world)
    author, late = world.session(), world.session()
    for number in (1, 2):
        world.publish(author, "dur:a", number)
        await world.settled()
        world.store.perform()
    world.store.tell()
    world.unsubscribe(early, "dur:a")
    world.subscribe(late, "dur:a")
    world.store.tell()
    await world.settled()
    assert datas(late) == [2]


async def test_who_joins_and_leaves_within_a_batch_gets_nothing(world):
    other, hasty, author = world.session(), world.session(), world.session()
    world.subscribe(other, "mem:a")
    world.publish(author, "mem:a", 1)
    world.subscribe(hasty, "mem:a")
    world.publish(author, "mem:a", 2)
    world.unsubscribe(hasty, "mem:a")
    await world.settled()
    assert datas(hasty) == []
    assert datas(other) == [1, 2]


@pytest.mark.parametrize("channel", ["mem:a", "live:a", "dur:a", "lat:a", "dlat:a"])
async def test_an_author_has_its_event_before_its_ok_in_one_flush(world, channel):
    author = world.session()
    world.subscribe(author, channel)
    await world.quiet()
    author.notes.clear()
    flushes = []
    world.fanout.flush = lambda: flushes.append(kinds(author))
    world.publish(author, channel, 7)
    await world.settled()
    world.store.settle()
    await world.settled()
    told = [kind_list for kind_list in flushes if kind_list]
    assert told[0] == ["event", "ok"]


async def test_an_ephemeral_event_has_no_position_and_is_for_those_who_are_there(world):
    session, author = world.session(), world.session()
    world.publish(author, "live:a", 0)
    await world.settled()
    assert last(author) == ("ok", {"id": 1})
    assert not world.broadcaster.rooms.by_name, "no room is made for nobody"
    world.subscribe(session, "live:a", Position(Epoch("e"), 3))
    world.publish(author, "live:a", 1)
    await world.settled()
    kind, body = session.notes[0]
    assert (kind, body["was_recovering"], body["recovered"]) == ("subscribed", True, False)
    assert set(last(session)[1]) == {"channel", "data", "at_ms", "by"}


@pytest.mark.parametrize("channel", ["lat:a", "dlat:a"])
async def test_a_latest_channel_tells_its_state_and_then_only_what_changed(world, channel):
    author = world.session()
    for number, key in enumerate(["a", "b", "a", None, "b"]):
        world.publish(author, channel, number, key=key)
    await world.quiet()
    newcomer = await durable_subscriber(world, channel)
    _, body = newcomer.notes[0]
    assert [(e["data"], e.get("key")) for e in body["events"]] == [(2, "a"), (3, None), (4, "b")]
    assert all("prev" not in event for event in body["events"])
    position = Position(Epoch(body["position"]["epoch"]), 3)
    returning = await durable_subscriber(world, channel, position)
    _, body = returning.notes[0]
    assert (body["recovered"], [event["data"] for event in body["events"]]) == (True, [3, 4])


async def test_a_latest_channel_that_lost_a_key_does_not_claim_to_be_complete(world):
    author = world.session()
    for number in range(12):
        world.publish(author, "dlat:a", number, key=str(number))
    await world.quiet()
    log = world.store.log._logs[ChannelName("dlat:a")]
    assert [event.offset for event in log.events] == list(range(7, 13))
    log.retention = log.retention.__class__(100, log.retention.age_s, is_latest=True)
    for number in range(
        12, 16
    ):  # the store may hold more than the namespace allows, until it trims
        world.publish(author, "dlat:a", number, key=str(number))
    await world.quiet()
    epoch = Epoch(log.epoch)
    behind = await durable_subscriber(world, "dlat:a", Position(epoch, 8))
    assert behind.notes[0][1]["recovered"] is False
    near = await durable_subscriber(world, "dlat:a", Position(epoch, 10))
    assert near.notes[0][1]["recovered"] is True
    assert [e["data"] for e in near.notes[0][1]["events"]] == list(range(10, 16))


# ---------------------------------------------------------------------------------------------- keys


@pytest.mark.parametrize("channel", ["mem:a", "live:a", "dur:a", "lat:a"])
async def test_a_uid_takes_effect_once_whatever_is_resent(world, channel):
    reader = await durable_subscriber(world, channel)
    author = world.session()
    for _ in range(2):
        world.publish(author, channel, "x", uid="u")
    await world.quiet()
    world.publish(author, channel, "x", uid="u")
    await world.quiet()
    answers = [{k: v for k, v in body.items() if k != "id"} for _kind, body in author.notes]
    assert answers == [answers[0]] * 3
    assert datas(reader) == ["x"]
    assert world.broadcaster.statistics().num_published == 1
    assert world.broadcaster.statistics().num_dedupe_hits == 2


@pytest.mark.parametrize("channel", ["mem:a", "live:a", "dur:a"])
async def test_a_uid_with_another_request_is_refused_and_published_nowhere(world, channel):
    author = world.session()
    world.publish(author, channel, "x", uid="u")
    await world.quiet()
    world.publish(author, channel, "y", uid="u", request=b"other")
    world.publish(author, channel, "z", uid="v")
    await world.quiet()
    answers = {body["id"]: body.get("code") for _kind, body in author.notes}
    assert answers == {1: None, 2: "idempotency_mismatch", 3: None}


async def test_uids_in_memory_are_forgotten_after_a_day(world, autojump_clock):
    author = world.session()
    world.publish(author, "mem:a", "x", uid="u")
    await world.settled()
    world.wall_ms += 86_400_000
    await trio.sleep(1.1)  # the sweep tidies up
    assert not world.broadcaster.publishing._recent
    world.publish(author, "mem:a", "x", uid="u")
    await world.settled()
    assert last(author)[1]["position"]["offset"] == 2, "published anew"


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


async def test_a_channel_of_no_namespace_is_refused_like_one_that_is_not_allowed(world):
    session = world.session()
    world.publish(session, "nowhere:a", 1)
    await world.settled()
    assert error_of(session) == "permission_denied"
    world.history(session, "nowhere:a")
    await world.settled()
    assert error_of(session) == "permission_denied"


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


def crowd(world, count, channel, *, since=None):
    """Subscriptions that are live already, of one session each."""
    session = world.session()
    found = []
    for _ in range(count):
        subscription = Subscription(session, ChannelName(channel), since=since)
        found.append(subscription)
        subscription.pending_id = 0
        world.submit(SubscribeChannel(subscription))
    return session, found


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


# ---------------------------------------------------------------------------------------------- rooms come and go


async def test_what_is_too_old_goes_and_its_room_goes_with_it(world, autojump_clock):
    author = await published(world, "mem:a", 2)
    epoch = last(author)[1]["position"]["epoch"]
    assert world.broadcaster.channels("mem:", 10)[0].offset == 2
    world.wall_ms += 86_400_001
    await trio.sleep(1.1)
    assert not world.broadcaster.rooms.by_name
    back = world.session()
    world.subscribe(back, "mem:a", Position(Epoch(epoch), 2))
    await world.settled()
    _, body = last(back)
    assert body["recovered"] is False
    assert body["position"]["epoch"] != epoch, "a new incarnation, honestly told"


async def test_a_room_with_somebody_in_it_stays_though_its_events_go(world, autojump_clock):
    reader, author = world.session(), world.session()
    world.subscribe(reader, "mem:a")
    world.publish(author, "mem:a", 1)
    await world.settled()
    world.wall_ms += 86_400_001
    await trio.sleep(1.1)
    world.publish(author, "mem:a", 2)
    await world.settled()
    assert datas(reader) == [1, 2]
    assert last(author)[1]["position"]["offset"] == 2


@pytest.mark.parametrize("channel", ["live:a", "dur:a", "dlat:a", "mem:empty"])
async def test_the_last_one_to_leave_closes_a_room_that_keeps_nothing(world, channel):
    session = await durable_subscriber(world, channel)
    world.unsubscribe(session, channel)
    await world.settled()
    assert not world.broadcaster.rooms.by_name


async def test_a_session_that_ends_is_out_of_all_its_rooms(world):
    session, author = world.session(), world.session()
    for channel in ("mem:a", "live:a", "dur:a"):
        world.subscribe(session, channel)
    await world.quiet()
    world.close(session)
    world.publish(author, "mem:a", 1)
    await world.settled()
    assert all(not room.subscribers for room in world.broadcaster.rooms.by_name.values())


async def test_who_left_while_the_channel_was_read_is_not_brought_in(world, autojump_clock):
    session = world.session()
    world.subscribe(session, "dur:a")
    await world.settled()
    world.unsubscribe(session, "dur:a")
    await world.quiet()
    assert kinds(session) == ["ok"]
    await trio.sleep(1.1)
    assert not world.broadcaster.rooms.by_name


async def test_operators_see_channels_by_prefix(world):
    session = world.session()
    for channel in ("mem:b", "mem:a", "live:a"):
        world.subscribe(session, channel)
    world.publish(session, "mem:b", 1)
    await world.settled()
    infos = world.broadcaster.channels("mem:", 10)
    assert [(i.channel, i.num_subscribers, i.offset) for i in infos] == [
        ("mem:a", 1, 0),
        ("mem:b", 1, 1),
    ]
    (info,) = world.broadcaster.channels("live:", 10)
    assert (info.epoch, info.offset) == (None, 0)
    assert len(world.broadcaster.channels("", 2)) == 2
    told = world.broadcaster.statistics()
    assert told == BroadcasterStatistics(3, 1, 0, 0, 0, ages=told.ages)


# ---------------------------------------------------------------------------------------------- failing


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


# ---------------------------------------------------------------------------------------------- recovery in pages


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


# ---------------------------------------------------------------------------------------------- history


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
