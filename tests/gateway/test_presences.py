"""What of presence ends with a permission or with a client, before the presence actor hears of it."""

from syncd.ports_presence import Announce, ReleaseClient, UnwatchPresence
from syncd.wire import encode
from tests.gateway.desk import Desk
from tests.gateway.talk import STAFF


def announced(desk, client, channel, state=b"\x01"):
    """The presence actor accepts a state of this client."""
    client.connection.announced = client.connection.announced or {}
    client.connection.remember_presence(channel, client.id, state)


def told(desk):
    return [
        (type(command), command.channel, getattr(command, "state", None))
        for command in desk.presence.take()
    ]


def test_a_newer_token_ends_what_it_does_not_allow_of_presence():
    desk = Desk()
    client = desk.client(token=desk.token(**STAFF))
    client.say("subscribe", id=1, channel="staff:a", presence=True)
    client.say("subscribe", id=2, channel="open:a", presence=True)
    announced(desk, client, "staff:b")
    announced(desk, client, "open:b")
    desk.presence.take()
    client.say("auth", id=3, token=desk.token())
    assert sorted(told(desk), key=str) == sorted(
        [(UnwatchPresence, "staff:a", None), (Announce, "staff:b", None)], key=str
    )
    assert client.connection.watched == {"open:a"}


def test_a_client_that_was_taken_over_is_not_announced_by_its_older_session():
    desk = Desk()
    first, other = desk.client(), desk.client()
    desk.hub.drop(first.connection)
    desk.hub.drop(other.connection)
    shared = desk.client(clients=[first.claim, other.claim])
    announced(desk, shared, "open:a")
    shared.connection.remember_presence("open:a", other.id, b"\x02")
    desk.presence.take()
    desk.client(clients=[other.claim])
    (released,) = desk.presence.take()
    assert isinstance(released, ReleaseClient)
    assert (released.session, released.client) == (shared.connection, other.id)


def test_missed_events_that_wait_for_the_socket_go_with_their_permission():
    desk = Desk()
    client = desk.client(token=desk.token(**STAFF))
    desk.live(client, "staff:a")
    client.socket.room = 0
    client.connection.reply_ok(90)
    desk.turn()
    client.connection.send_event("staff:a", encode.message("event", {"channel": "staff:a"}))
    client.connection.send_event("open:a", encode.message("event", {"channel": "open:a"}))
    client.say("auth", id=1, token=desk.token())
    client.drain()
    assert [(kind, body.get("channel")) for kind, body in client.heard()] == [
        ("ok", None),
        ("event", "open:a"),
        ("unsubscribed", "staff:a"),
        ("ok", None),
    ]
