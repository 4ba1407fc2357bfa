"""What each request of a session does, and where it is refused: subscriptions, publications, presence, history."""

import msgpack
import pytest

from syncd.codes import ErrorCode
from syncd.errors import RequestRejected
from syncd.gateway.pages import MAX_PAGES
from syncd.ids import Position
from syncd.ports import PublishEvent, ReadHistory, SubscribeChannel, UnsubscribeChannel
from syncd.ports_presence import Announce, UnwatchPresence, WatchPresence
from tests.gateway.desk import EPOCH, Desk
from tests.gateway.talk import refused

# ---------------------------------------------------------------------------------------------- subscribing


def test_a_subscribe_stands_in_the_table_and_goes_to_the_broadcaster():
    desk = Desk()
    client = desk.client()
    client.say(
        "subscribe", id=4, channel="open:a", position={"epoch": EPOCH, "offset": 3}, presence=True
    )
    (command,) = desk.broadcaster.take()
    assert isinstance(command, SubscribeChannel)
    subscription = command.subscription
    assert subscription.pending_id == 4
    assert subscription.since == Position(EPOCH, 3)
    assert client.connection.subscriptions == {"open:a": subscription}
    (watch,) = desk.presence.take()
    assert isinstance(watch, WatchPresence)
    client.say("subscribe", id=5, channel="open:a")
    refused(client, "already_subscribed")


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"channel": "open"}, "bad_channel"),
        ({"channel": "open:../x"}, "bad_channel"),
        ({"channel": "nowhere:a"}, "permission_denied"),
        ({"channel": "staff:a"}, "permission_denied"),
        ({"channel": "latest:a", "presence": True}, "not_supported"),
        ({"channel": "read:a", "presence": True}, "permission_denied"),
    ],
)
def test_a_subscribe_that_may_not_be_is_refused_and_leaves_nothing(message, code):
    desk = Desk()
    client = desk.client()
    client.say("subscribe", id=1, **message)
    assert refused(client, code)["id"] == 1
    assert not client.connection.subscriptions
    assert desk.broadcaster.take() == desk.presence.take() == []


def test_a_session_holds_so_many_subscriptions_and_room_comes_back():
    desk = Desk(limits={"subscriptions": 2})
    client = desk.client()
    for number in range(3):
        client.say("subscribe", id=number, channel=f"open:{number}")
    refused(client, "limit_exceeded")
    client.say("unsubscribe", id=8, channel="open:0")
    client.say("subscribe", id=9, channel="open:2")
    assert client.heard() == [("ok", {"id": 8})]


def test_an_unsubscribe_is_answered_at_once_and_ends_presence_too():
    desk = Desk()
    client = desk.client()
    client.say("subscribe", id=1, channel="open:a", presence=True)
    desk.broadcaster.take()
    desk.presence.take()
    client.say("unsubscribe", id=2, channel="open:a")
    assert client.heard() == [("ok", {"id": 2})]
    (command,) = desk.broadcaster.take()
    assert isinstance(command, UnsubscribeChannel)
    assert command.subscription.is_closed
    (unwatch,) = desk.presence.take()
    assert isinstance(unwatch, UnwatchPresence)
    client.say("unsubscribe", id=3, channel="open:a")
    refused(client, "not_subscribed")


def test_what_the_broadcaster_cannot_serve_is_refused_or_ended():
    desk = Desk()
    client = desk.client()
    client.say("subscribe", id=1, channel="open:a")
    (command,) = desk.broadcaster.take()
    error = RequestRejected(ErrorCode.LIMIT_EXCEEDED)
    client.connection.end_subscription(command.subscription, error)
    desk.turn()
    assert refused(client, "limit_exceeded")["id"] == 1
    subscription = desk.live(client, "open:a")
    client.connection.end_subscription(subscription, error)
    desk.turn()
    ((kind, body),) = client.heard()
    assert (kind, body["code"]) == ("unsubscribed", "unsubscribed")
    assert client.connection.subscriptions == {}


# ---------------------------------------------------------------------------------------------- publishing


def published(desk):
    (command,) = desk.broadcaster.take()
    assert isinstance(command, PublishEvent)
    return command


def test_a_publication_carries_who_and_what_encoded_once():
    desk = Desk()
    client = desk.client()
    client.say("publish", id=1, channel="open:a", data={"n": [1, b"x"]}, name="n", key="k")
    command = published(desk)
    assert command.asker is client.connection
    assert msgpack.unpackb(command.data) == {"n": [1, b"x"]}
    assert (command.name, command.key, command.client) == ("n", "k", client.id)
    assert command.idempotency is None


def test_data_is_bounded_by_the_namespace_in_its_encoded_form():
    desk = Desk()
    client = desk.client()
    client.say("publish", id=1, channel="live:a", data="x" * 98)
    assert len(published(desk).data) == 100
    client.say("publish", id=2, channel="live:a", data="x" * 99)
    refused(client, "too_large")


@pytest.mark.parametrize("channel", ["nowhere:a", "staff:a", "read:a"])
def test_publishing_where_one_may_not_is_refused_alike(channel):
    desk = Desk()
    client = desk.client()
    client.say("publish", id=1, channel=channel, data=1)
    refused(client, "permission_denied")


def test_an_idempotency_key_is_the_users_or_the_clients_and_knows_the_whole_request():
    desk = Desk()
    anonymous, user = desk.client(), desk.client(token=desk.token("ann"))
    request = {"id": 1, "channel": "open:a", "data": 1, "uid": "u"}

    def key(client, **changes):
        client.say("publish", **(request | changes))
        return published(desk).idempotency

    known = key(user)
    assert (known.identity, known.operation, known.key) == ("user:ann", "publish", "u")
    assert key(anonymous).identity == f"client:{anonymous.id}"
    assert key(user, id=2) == known
    others = [
        key(user, **change)
        for change in ({"data": 2}, {"channel": "open:b"}, {"name": "n"}, {"key": "k"})
    ]
    hashes = {other.request_hash for other in [known, *others]}
    assert len(hashes) == 5
    assert key(anonymous).request_hash == known.request_hash


# ---------------------------------------------------------------------------------------------- presence


def test_an_announcement_names_a_client_of_the_session_by_default_the_first():
    desk = Desk()
    other = desk.client()
    desk.hub.drop(other.connection)
    client = desk.dial()
    first = desk.client()
    desk.hub.drop(first.connection)
    client.say("hello", v=1, clients=[first.claim, other.claim])
    client.heard()
    client.say("presence", id=1, channel="open:a", state={"x": 1})
    client.say("presence", id=2, channel="open:a", client=other.id, state=None)
    announced, left = desk.presence.take()
    assert isinstance(announced, Announce)
    assert (announced.client, msgpack.unpackb(announced.state)) == (first.id, {"x": 1})
    assert (left.client, left.state) == (other.id, None)
    client.say("presence", id=3, channel="open:a", client="stranger", state=1)
    refused(client, "client_denied")


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"channel": "latest:a", "state": 1}, "not_supported"),
        ({"channel": "read:a", "state": 1}, "permission_denied"),
        ({"channel": "x", "state": 1}, "bad_channel"),
        ({"channel": "open:a", "state": "x" * 4094}, "too_large"),
    ],
)
def test_an_announcement_that_may_not_be_is_refused(message, code):
    desk = Desk()
    client = desk.client()
    client.say("presence", id=1, **message)
    refused(client, code)
    assert desk.presence.take() == []


def test_a_state_may_fill_its_limit():
    desk = Desk()
    client = desk.client()
    client.say("presence", id=1, channel="open:a", state="x" * 4093)
    (command,) = desk.presence.take()
    assert len(command.state) == 4096


def test_a_session_is_present_in_so_many_channels():
    desk = Desk(limits={"subscriptions": 2})
    client = desk.client()

    def announce(channel, state=1):
        client.say("presence", id=1, channel=channel, state=state)
        for command in desk.presence.take():
            client.connection.remember_presence(command.channel, command.client, command.state)

    announce("open:a")
    announce("open:b")
    announce("open:b", 2)
    assert client.heard() == []
    announce("open:c")
    refused(client, "limit_exceeded")
    announce("open:a", None)
    announce("open:c")
    assert client.heard() == []
    assert set(client.connection.announced) == {("open:b", client.id), ("open:c", client.id)}


# ---------------------------------------------------------------------------------------------- history, probe


def test_a_history_request_goes_to_the_broadcaster():
    desk = Desk()
    client = desk.client()
    since = {"epoch": EPOCH, "offset": 3}
    client.say("history", id=1, channel="open:a", limit=10, since=since, reverse=True)
    (command,) = desk.broadcaster.take()
    assert isinstance(command, ReadHistory)
    assert (command.limit, command.since, command.reverse) == (10, Position(EPOCH, 3), True)
    command.asker.reply_events(1, EPOCH, 9, [b"\xc0"])
    desk.turn()
    assert client.heard() == [
        ("ok", {"id": 1, "position": {"epoch": EPOCH, "offset": 9}, "events": [None]})
    ]


@pytest.mark.parametrize(
    ("channel", "code"), [("live:a", "not_supported"), ("read:a", "permission_denied")]
)
def test_history_where_there_is_none_is_refused(channel, code):
    client = Desk().client()
    client.say("history", id=1, channel=channel, limit=10)
    refused(client, code)


def test_a_session_asks_for_few_pages_at_a_time():
    desk = Desk()
    client = desk.client()
    for number in range(MAX_PAGES + 1):
        client.say("history", id=number, channel="open:a", limit=1)
    assert refused(client, "rate_limited")["after_ms"] == 100
    commands = desk.broadcaster.take()
    commands[0].asker.reply_events(0, EPOCH, 0, [])
    commands[1].asker.reply_error(1, RequestRejected(ErrorCode.UNRECOVERABLE_POSITION))
    commands[2].asker.reply_ok(2)
    for number in range(4):
        client.say("history", id=10 + number, channel="open:a", limit=1)
    assert len(desk.broadcaster.take()) == 3
    assert client.codes() == ["ok", "unrecoverable_position", "ok", "rate_limited"]


def test_who_reads_no_pages_gets_no_more_of_them():
    desk = Desk(limits={"outbox_bytes": 100})
    client = desk.client()
    client.socket.room = 0
    client.connection.send(b"\xc0" * 90)
    desk.turn()
    client.say("history", id=1, channel="open:a", limit=1)
    assert desk.broadcaster.take() == []


def test_a_probe_is_answered_at_once():
    client = Desk().client()
    client.say("probe", nonce=2**53 - 1)
    assert client.heard() == [("pong", {"nonce": 2**53 - 1})]
