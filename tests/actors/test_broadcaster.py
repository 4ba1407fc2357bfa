"""The broadcaster one at a time: late joiners, keys that take effect once, and rooms that come and go."""

import pytest
import trio

from syncd.actors.broadcaster import BroadcasterStatistics
from syncd.ids import ChannelName, Epoch, Position
from tests.actors.broadcaster_steps import (
    datas,
    durable_subscriber,
    error_of,
    kinds,
    last,
    published,
)
from tests.actors.broadcaster_world import World


@pytest.fixture
async def world(nursery):
    world = World()
    await world.start(nursery)
    return world


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


async def test_a_channel_of_no_namespace_is_refused_like_one_that_is_not_allowed(world):
    session = world.session()
    world.publish(session, "nowhere:a", 1)
    await world.settled()
    assert error_of(session) == "permission_denied"
    world.history(session, "nowhere:a")
    await world.settled()
    assert error_of(session) == "permission_denied"
