"""The hub: what a peer may send first, how connections end, and who is told of it."""

import msgpack
import pytest
import structlog.testing

from syncd.codes import CloseCode
from syncd.gateway.connection import Connection
from syncd.ports import PublishEvent, SubscribeChannel, SubscriptionsClosed, UnsubscribeChannel
from syncd.ports_presence import Announce, SessionGone, WatchPresence
from syncd.wire.session import Phase
from tests.gateway.desk import Desk
from tests.gateway.talk import bye_and_close, publish

HELLO = ("hello", {"v": 1})


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
