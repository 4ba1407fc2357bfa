"""The hub: what a peer may send when, how connections end, rates and errors, and batches that found a mailbox full."""

import msgpack
import pytest
import structlog.testing
import trio
import trio.testing

from syncd.codes import CloseCode
from syncd.gateway.connection import Connection
from syncd.gateway.gateway import Gateway
from syncd.gateway.heads import Heads
from syncd.ports import PublishEvent, SubscribeChannel, SubscriptionsClosed, UnsubscribeChannel
from syncd.ports_presence import Announce, SessionGone, WatchPresence
from syncd.wire.session import Phase
from tests.gateway.desk import Desk

HELLO = ("hello", {"v": 1})


def publish(number, channel="open:a", data=None):
    return ("publish", {"id": number, "channel": channel, "data": data})


def bye_and_close(client):
    """(code, whether to reconnect) of a bye that is followed by its close frame and nothing else."""
    *_, (kind, body), (close, code) = client.heard()
    assert (kind, close) == ("bye", "close")
    assert body["code"] == code
    return code, body["reconnect"]


# ---------------------------------------------------------------------------------------------- opening


@pytest.mark.parametrize(
    "frames",
    [
        [[("probe", {"nonce": 1})]],
        [[("probe", {"nonce": 1}), HELLO]],
        [[("nonsense", {})]],
        [[("hello", {"v": "one"})]],
        [[HELLO, HELLO]],
        [[HELLO], [HELLO]],
    ],
    ids=["probe", "probe-hello", "unknown", "bad-hello", "twice-at-once", "twice"],
)
def test_hello_comes_first_and_once(frames):
    desk = Desk()
    client = desk.dial()
    for messages in frames:
        client.say_all(*messages)
    assert bye_and_close(client) == (CloseCode.PROTOCOL_ERROR, False)


def test_bytes_that_are_no_messages_close_before_hello_and_are_answered_after_it():
    desk = Desk()
    client = desk.dial()
    client.send_frame(0x82, b"\xc1")
    assert bye_and_close(client) == (CloseCode.PROTOCOL_ERROR, False)
    client = desk.client()
    client.send_frame(0x82, b"\xc1")
    assert client.codes() == ["bad_message"]


def test_what_follows_hello_in_the_same_frame_is_handled_after_it():
    desk = Desk()
    client = desk.dial()
    client.say_all(HELLO, ("probe", {"nonce": 7}), publish(1))
    assert [kind for kind, _ in client.heard()] == ["welcome", "pong"]
    assert [type(command) for command in desk.broadcaster.take()] == [PublishEvent]


def test_text_is_refused():
    desk = Desk()
    client = desk.client()
    client.send_frame(0x81, b"hello")
    assert client.heard() == [("close", CloseCode.UNSUPPORTED_DATA)]
    assert desk.hub.closes == {}


def test_before_welcome_frames_are_small():
    desk = Desk()
    client = desk.dial()
    client.say("hello", v=1, group="g" * 60, pad="x" * 5000)
    assert client.heard() == [("close", 1009)]


# ---------------------------------------------------------------------------------------------- closing


def test_a_close_is_one_bye_one_close_frame_and_nothing_after():
    desk = Desk()
    client = desk.client()
    desk.hub.close(client.connection, CloseCode.RECONNECT, "why", after_ms=5)
    client.connection.reply_ok(1)
    desk.hub.close(client.connection, CloseCode.DISCONNECTED, "again")
    desk.turn()
    heard = client.heard()
    assert heard == [
        ("bye", {"code": 4007, "reason": "why", "reconnect": True, "after_ms": 5}),
        ("close", 4007),
    ]
    assert client.connection.phase is Phase.CLOSING
    client.say("probe", nonce=1)
    assert client.heard() == []
    deadline = client.connection.hello_deadline
    desk.hub.now += 3
    desk.hub.close(client.connection, CloseCode.DISCONNECTED, "once more")
    assert client.connection.hello_deadline == deadline
    assert client.connection.close_code == CloseCode.RECONNECT


def test_the_peers_close_ends_the_handshake_and_is_counted_by_our_code():
    desk = Desk()
    client = desk.client()
    desk.hub.close(client.connection, CloseCode.RECONNECT, "why")
    desk.turn()
    client.send_frame(0x88, b"\x0f\xa7")
    assert client.connection.closed
    assert client.socket.is_closed
    assert desk.hub.closes == {"4007": 1}
    assert client.connection not in desk.hub.connections


@pytest.mark.parametrize(
    ("payload", "echo", "counted"), [(b"\x03\xe8bye", 1000, "1000"), (b"", 0, "1005")]
)
def test_a_close_of_the_peer_is_echoed_and_the_session_ends_clean(payload, echo, counted):
    desk = Desk()
    client = desk.client()
    desk.live(client, "open:a")
    client.send_frame(0x88, payload)
    assert client.heard()[-1] == ("close", echo)
    assert client.connection.closed
    assert desk.hub.closes == {counted: 1}
    (closed,) = desk.broadcaster.take()
    assert isinstance(closed, SubscriptionsClosed)
    assert all(subscription.is_closed for subscription in closed.subscriptions)


def test_a_broken_frame_closes_with_the_code_of_the_rfc_and_reads_no_more():
    desk = Desk()
    client = desk.client()
    client.send_frame(0xC2, b"")
    assert client.heard() == [("close", 1002)]
    assert desk.driver.notes[-1] == ("end", False)


def test_messages_before_a_broken_frame_count():
    desk = Desk()
    client = desk.client()
    payload = msgpack.packb(["probe", {"nonce": 1}])
    whole = bytes((0x82, 0x80 | len(payload))) + bytes(4) + payload
    desk.hub.receive(client.connection, whole + b"\xc2\x80" + bytes(4))
    desk.turn()
    assert [kind for kind, _ in client.heard()] == ["pong", "close"]


def test_a_connection_that_is_still_reading_its_head_is_dropped_without_a_word():
    desk = Desk()
    client = desk.dial()
    client.connection.phase = Phase.HEAD
    desk.hub.close(client.connection, CloseCode.GOING_AWAY, "stopping")
    assert client.connection.closed
    assert desk.hub.closes == {"4000": 1}


def test_dropping_twice_tells_once_and_forgets_everything():
    desk = Desk()
    client = desk.client()
    desk.live(client, "open:a")
    connection = client.connection
    desk.hub.drop(connection)
    desk.hub.drop(connection)
    desk.turn()
    assert len(desk.broadcaster.take()) == 1
    assert desk.hub.closes == {"1006": 1}
    assert not desk.hub.connections
    assert not desk.hub.drivers
    assert not desk.sessions.by_client
    connection.reply_ok(1)
    desk.turn()
    desk.hub.receive(connection, b"\x82\x80")
    assert ("forget", connection) in desk.driver.notes


def test_a_connection_that_became_http_is_none_of_ours():
    desk = Desk()
    client = desk.dial()
    desk.hub.release(client.connection)
    assert not desk.hub.connections
    desk.hub.drop(client.connection)
    assert not client.socket.is_closed
    assert desk.hub.closes == {}


def test_a_refused_head_is_answered_and_counted():
    desk = Desk()
    client = desk.dial()
    client.connection.phase = Phase.HEAD
    desk.hub.refuse(client.connection, b"HTTP/1.1 403 x\r\n\r\n")
    assert bytes(client.socket.taken) == b"HTTP/1.1 403 x\r\n\r\n"
    assert desk.hub.num_refused == 1
    assert desk.driver.notes[-1] == ("end", False)


def test_an_exception_over_one_connection_ends_that_connection():
    desk = Desk()
    client, other = desk.client(), desk.client()

    def broken(_connection, _message):
        raise ZeroDivisionError

    handlers = dict(desk.sessions.handlers)
    desk.sessions.handlers = dict.fromkeys(handlers, broken)
    with structlog.testing.capture_logs() as logs:
        client.say("probe", nonce=1)
    assert bye_and_close(client) == (CloseCode.INTERNAL_ERROR, True)
    assert [log["event"] for log in logs] == ["connection_failed"]
    desk.sessions.handlers = handlers
    other.say("probe", nonce=2)
    assert other.heard() == [("pong", {"nonce": 2})]


# ---------------------------------------------------------------------------------------------- pings, rates, errors


def test_websocket_pings_are_answered_and_pongs_are_heard():
    desk = Desk()
    client = desk.client()
    client.send_frame(0x89, b"abc")
    client.send_frame(0x8A, b"")
    assert client.heard() == [("pong frame", b"abc")]
    desk.hub.close(client.connection, CloseCode.RECONNECT, "why")
    client.send_frame(0x89, b"abc")
    assert [kind for kind, _ in client.heard()] == ["bye", "close"]


RATE = {"messages_per_s": 10.0, "messages_burst": 20}


def test_a_frame_that_comes_too_fast_is_refused_whole_and_says_when_to_go_on():
    desk = Desk(limits=RATE)
    client = desk.client()
    client.say_all(*(publish(number) for number in range(15)))
    assert len(desk.broadcaster.take()) == 15
    client.say_all(*(publish(number) for number in range(15, 25)), ("pong", {}), ("x", {"id": 9}))
    heard = client.heard()
    assert [body.get("id") for _, body in heard] == [*range(15, 25), None, 9]
    assert {body["code"] for _, body in heard} == {"rate_limited"}
    (after_ms,) = {body["after_ms"] for _, body in heard}
    assert 600 < after_ms < 800, "12 messages, 5 at once, 10 a second"
    assert desk.broadcaster.take() == []
    desk.now += after_ms / 1000
    client.say_all(*(publish(number) for number in range(12)))
    assert len(desk.broadcaster.take()) == 12


def test_a_frame_larger_than_any_burst_names_a_minute_at_most():
    desk = Desk(limits=RATE | {"messages_burst": 5})
    client = desk.client()
    client.say_all(*(publish(number) for number in range(6)))
    assert client.connection.phase is Phase.CLOSING, "it can never come through"
    client = desk.client()
    client.say_all(publish(1), publish(2), publish(3))
    client.say_all(publish(1), publish(2), publish(3))
    assert all(body["after_ms"] <= 60_001 for _, body in client.heard())


def test_who_goes_on_too_fast_is_closed():
    desk = Desk(limits=RATE)
    client = desk.client()
    for _ in range(3):
        client.say_all(*(publish(number) for number in range(20)))
    assert bye_and_close(client) == (CloseCode.TOO_MANY_REQUESTS, True)
    assert len(desk.broadcaster.take()) == 20


def test_pings_count_like_messages():
    desk = Desk(limits=RATE)
    client = desk.client()
    for _ in range(20):
        client.send_frame(0x89, b"")
    assert len(client.heard()) == 20
    for _ in range(20):
        client.send_frame(0x89, b"")
    assert client.heard() == []
    client.send_frame(0x89, b"")
    assert bye_and_close(client) == (CloseCode.TOO_MANY_REQUESTS, True)


def test_too_many_bad_messages_close_and_nothing_follows():
    desk = Desk(limits={"errors": 3})
    client = desk.client()
    client.say_all(("x", {"id": 1}), ("y", {}))
    assert client.codes() == ["unknown_type", "unknown_type"]
    client.say_all(("z", {}), ("z", {}), publish(5))
    heard = client.heard()
    assert [kind for kind, _ in heard] == ["error", "bye", "close"]
    assert heard[-1][1] == CloseCode.TOO_MANY_ERRORS
    assert desk.broadcaster.take() == []


def test_errors_are_counted_by_code():
    desk = Desk()
    client = desk.client()
    client.say_all(("x", {}), publish(1, "nowhere"), publish(2, "secret:a"), publish(3, "secret:b"))
    assert desk.hub.errors == {"unknown_type": 1, "bad_channel": 1, "permission_denied": 2}


# ---------------------------------------------------------------------------------------------- full mailboxes


def numbers(commands):
    return [command.request_id for command in commands if isinstance(command, PublishEvent)]


def fill(inbox):
    """Leave no room."""
    inbox.mailbox.put_nowait([None] * inbox.mailbox.capacity)


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


def make_gateway(desk):
    config = desk.config
    heads = Heads(config, desk.hub, serves_http=False, is_loopback=True)
    return Gateway(config, desk.hub, desk.sessions, heads, serve_http=None)


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


# ---------------------------------------------------------------------------------------------- the end, told


def test_a_session_that_announced_itself_is_told_to_be_gone_even_if_nobody_has_heard_of_it_yet():
    desk = Desk()
    client = desk.client()
    client.say_all(("presence", {"id": 1, "channel": "open:a", "state": 1}), HELLO)
    assert client.connection.phase is Phase.CLOSING
    first, second = desk.presence.take()
    assert isinstance(first, Announce)
    assert isinstance(second, SessionGone)
    client.connection.remember_presence("open:a", client.id, b"\x01")
    assert client.connection.announced is None


def test_a_watcher_that_ends_is_told_to_be_gone_and_one_that_did_nothing_is_not():
    desk = Desk()
    watcher, idle = desk.client(), desk.client()
    watcher.say("subscribe", id=1, channel="open:a", presence=True)
    (watch,) = desk.presence.take()
    assert isinstance(watch, WatchPresence)
    for client in (watcher, idle):
        desk.hub.drop(client.connection)
    desk.turn()
    (gone,) = desk.presence.take()
    assert isinstance(gone, SessionGone)
    assert gone.session is watcher.connection


def test_a_session_that_ends_before_its_subscribe_was_handled_tells_the_broadcaster_in_order():
    desk = Desk()
    client = desk.client()
    client.say_all(
        ("subscribe", {"id": 1, "channel": "open:a"}),
        ("unsubscribe", {"id": 2, "channel": "open:a"}),
        ("subscribe", {"id": 3, "channel": "open:a"}),
        HELLO,
    )
    kinds = [type(command) for command in desk.broadcaster.take()]
    assert kinds == [SubscribeChannel, UnsubscribeChannel, SubscribeChannel, SubscriptionsClosed]


def test_connections_are_cheap():
    assert not hasattr(Connection(None, None, 0, ""), "__dict__")
