"""Batches that found a mailbox full wait in order, and their sessions are not read until they went over."""

import pytest
import trio
import trio.testing

from syncd.gateway.gateway import Gateway
from syncd.gateway.heads import Heads
from syncd.ports import PublishEvent
from syncd.ports_presence import Announce
from tests.gateway.desk import Desk
from tests.gateway.talk import publish


def numbers(commands):
    return [command.request_id for command in commands if isinstance(command, PublishEvent)]


def fill(inbox):
    """Leave no room."""
    inbox.mailbox.put_nowait([None] * inbox.mailbox.capacity)


def make_gateway(desk):
    config = desk.config
    heads = Heads(config, desk.hub, serves_http=False, is_loopback=True)
    return Gateway(config, desk.hub, desk.sessions, heads, serve_http=None)


def test_a_batch_goes_over_whole_with_its_bytes():
    desk = Desk()
    client = desk.client()
    client.say_all(publish(1, data="x" * 50), publish(2, data="x" * 50))
    assert numbers(desk.broadcaster.take()) == [1, 2]
    assert desk.broadcaster.sizes[-1] == 104
    client.say("presence", id=3, channel="open:a", state="x" * 50)
    assert desk.presence.sizes[-1] == 52


def test_who_finds_a_mailbox_full_is_not_read_and_the_others_are():
    desk = Desk()
    clients = [desk.client() for _ in range(3)]
    fill(desk.broadcaster)
    clients[0].say_all(publish(1), ("subscribe", {"id": 2, "channel": "open:a"}))
    clients[1].say("history", id=3, channel="open:a", limit=5)
    assert [client.connection.is_paused for client in clients] == [True, True, False]
    assert clients[0].heard() == [], "nothing is lost and nothing refused"
    assert [len(batch.connections) for batch in desk.hub.to_broadcaster.parked] == [1, 1]


def test_no_batch_overtakes_one_that_waits():
    """Over a stream one more read can be on its way when a session is paused."""
    desk = Desk()
    client = desk.client()
    fill(desk.broadcaster)
    client.say_all(publish(1))
    desk.broadcaster.take()
    client.say_all(publish(2))
    assert desk.broadcaster.take() == [], "the first one goes first"
    assert [numbers(batch.commands) for batch in desk.hub.to_broadcaster.parked] == [[1], [2]]
    client.say("presence", id=3, channel="open:a", state=1)
    assert len(desk.presence.take()) == 1, "another actor has room"


async def test_parked_batches_go_over_in_order_and_their_sessions_are_read_again(nursery):
    desk = Desk(driver="stream")
    clients = [desk.client() for _ in range(2)]
    await nursery.start(make_gateway(desk).run, [])
    fill(desk.broadcaster)
    fill(desk.presence)
    for number in range(4):
        clients[number % 2].say_all(publish(number))
    clients[0].say("presence", id=9, channel="open:a", state=1)
    await trio.testing.wait_all_tasks_blocked()
    assert [len(lane.parked) for lane in desk.hub.lanes] == [4, 1, 0]
    await desk.broadcaster.mailbox.take()
    await trio.testing.wait_all_tasks_blocked()
    assert numbers(desk.broadcaster.take()) == [0, 1, 2, 3]
    assert [client.connection.is_paused for client in clients] == [True, False]
    await desk.presence.mailbox.take()
    await trio.testing.wait_all_tasks_blocked()
    assert [type(command) for command in desk.presence.take()] == [Announce]
    assert not clients[0].connection.is_paused
    assert not any(lane.parked for lane in desk.hub.lanes)


async def test_a_full_mailbox_holds_up_nobody_elses_batches(nursery):
    desk = Desk(driver="stream")
    client, other = desk.client(), desk.client()
    await nursery.start(make_gateway(desk).run, [])
    fill(desk.broadcaster)
    fill(desk.presence)
    client.say_all(publish(1))
    other.say("presence", id=1, channel="open:a", state=1)
    await trio.testing.wait_all_tasks_blocked()
    await desk.presence.mailbox.take()
    await trio.testing.wait_all_tasks_blocked()
    assert [type(command) for command in desk.presence.take()] == [Announce]
    assert [client.connection.is_paused, other.connection.is_paused] == [True, False]


async def test_a_session_stays_unread_until_every_lane_has_taken_its_commands(nursery):
    desk = Desk(driver="stream")
    client = desk.client()
    await nursery.start(make_gateway(desk).run, [])
    fill(desk.broadcaster)
    fill(desk.presence)
    client.say_all(publish(1), ("presence", {"id": 1, "channel": "open:a", "state": 1}))
    await trio.testing.wait_all_tasks_blocked()
    await desk.presence.mailbox.take()
    await trio.testing.wait_all_tasks_blocked()
    assert client.connection.is_paused
    await desk.broadcaster.mailbox.take()
    await trio.testing.wait_all_tasks_blocked()
    assert not client.connection.is_paused


async def test_a_session_that_reads_nothing_stays_unread_when_its_batch_went_over(nursery):
    desk = Desk(driver="stream", limits={"outbox_bytes": 1000})
    client = desk.client()
    await nursery.start(make_gateway(desk).run, [])
    fill(desk.broadcaster)
    client.say_all(publish(1))
    client.socket.room = 0
    for _ in range(20):
        client.connection.send(b"\x92\xa1x\xd9\x30" + b"x" * 48)
        desk.turn()
    desk.broadcaster.take()
    await trio.testing.wait_all_tasks_blocked()
    await desk.broadcaster.mailbox.take()
    await trio.testing.wait_all_tasks_blocked()
    assert not any(lane.parked for lane in desk.hub.lanes)
    assert client.connection.is_paused
    client.drain()
    assert not client.connection.is_paused


@pytest.mark.parametrize("is_parked", [False, True])
async def test_commands_for_an_actor_that_stopped_are_answered(nursery, is_parked):
    desk = Desk(driver="stream")
    client = desk.client()
    await nursery.start(make_gateway(desk).run, [])
    messages = [
        publish(1),
        ("subscribe", {"id": 2, "channel": "open:a"}),
        ("history", {"id": 3, "channel": "open:a", "limit": 1}),
    ]
    if is_parked:
        fill(desk.broadcaster)
        client.say_all(*messages)
    await trio.testing.wait_all_tasks_blocked()
    desk.broadcaster.mailbox.close()
    desk.presence.mailbox.close()
    if not is_parked:
        client.say_all(*messages)
    await trio.testing.wait_all_tasks_blocked()
    client.say_all(("presence", {"id": 4, "channel": "open:a", "state": 1}))
    desk.turn()
    answers = {body["id"]: body["code"] for _, body in client.heard()}
    assert answers == dict.fromkeys((1, 2, 3, 4), "shutting_down")
    assert client.connection.num_pages == 0
    assert not client.connection.is_paused


def test_a_session_that_ends_while_its_commands_wait_is_not_paused_for_ever():
    desk = Desk()
    client = desk.client()
    fill(desk.broadcaster)
    client.say_all(publish(1))
    desk.hub.drop(client.connection)
    desk.turn()
    desk.hub.to_broadcaster.parked.clear()
    desk.hub.resume_unless_parked(client.connection)
    desk.hub.pause(client.connection)
    assert desk.driver.notes[-1][0] == "forget"
