"""What operators do to live sessions, effective when it returns; and what actors that start anew are handed."""

import pytest

from syncd.codes import CloseCode
from syncd.ids import ChannelName
from syncd.ports import UnsubscribeChannel
from syncd.ports_operators import Target
from syncd.ports_presence import Announce, WatchPresence
from syncd.wire.session import Phase
from tests.gateway.desk import Desk, Event


@pytest.fixture
def desk():
    return Desk()


def users(desk):
    """Two sessions of ann, one of them by a token with an id, one of bob, one anonymous."""
    return (
        desk.client(token=desk.token("ann")),
        desk.client(token=desk.token("ann", jti="t1")),
        desk.client(token=desk.token("bob")),
        desk.client(),
    )


def targets(clients):
    ann, other, bob, nobody = clients
    return [
        (Target(user="ann"), {0, 1}),
        (Target(user="eve"), set()),
        (Target(token_id="t1"), {1}),
        (Target(client=nobody.id), {3}),
        (Target(client="unknown"), set()),
        (Target(session=bob.welcome["session"]), {2}),
        (Target(user="ann", client=other.id), {1}),
        (Target(user="ann", client=bob.id), set()),
        (Target(user="bob", session=ann.welcome["session"]), set()),
        (Target(user="ann", token_id="t1"), {1}),
    ]


@pytest.mark.parametrize("number", range(10))
def test_a_target_means_the_sessions_that_match_all_of_it(desk, number):
    clients = users(desk)
    target, expected = targets(clients)[number]
    assert desk.admin.disconnect(target, reconnect=False, reason="x") == len(expected)
    closed = {n for n, client in enumerate(clients) if client.heard()}
    assert closed == expected


@pytest.mark.parametrize(
    ("reconnect", "code"), [(True, CloseCode.RECONNECT), (False, CloseCode.DISCONNECTED)]
)
def test_a_disconnect_is_on_the_wire_when_it_returns(desk, reconnect, code):
    client = desk.client()
    target = Target(client=client.id)
    assert desk.admin.disconnect(target, reconnect=reconnect, reason="maintenance") == 1
    (_, bye), (_, closed) = client.heard()
    assert (bye["code"], bye["reason"], bye["reconnect"]) == (code, "maintenance", reconnect)
    assert closed == code
    assert desk.admin.disconnect(target, reconnect=reconnect, reason="again") == 0


def test_a_session_that_is_closing_is_none_any_more(desk):
    desk.client(token=desk.token("ann", jti="t1"))
    target = Target(token_id="t1")
    assert desk.admin.disconnect(target, reconnect=False, reason="x") == 1
    assert desk.admin.disconnect(target, reconnect=False, reason="x") == 0
    assert desk.admin.revoke(target, until_s=None) == 0


def test_an_unsubscribe_drops_what_is_queued_and_tells(desk):
    client = desk.client()
    gone, kept = desk.live(client, "open:a"), desk.live(client, "open:b")
    client.socket.room = 0
    client.connection.reply_ok(9)
    desk.turn()
    desk.deliver([gone], Event("open:a", 1))
    desk.deliver([kept], Event("open:b", 1))
    target = Target(client=client.id)
    assert desk.admin.unsubscribe(target, ChannelName("open:a")) == 1
    assert desk.admin.unsubscribe(target, ChannelName("open:a")) == 0
    (command,) = desk.broadcaster.take()
    assert isinstance(command, UnsubscribeChannel)
    client.drain()
    assert [body.get("channel", kind) for kind, body in client.heard()] == [
        "ok",
        "open:b",
        "open:a",
    ]
    assert gone.is_closed


def test_a_revocation_closes_and_keeps_out_for_its_time(desk):
    clients = users(desk)
    assert desk.admin.revoke(Target(user="ann"), until_s=desk.wall_s + 60) == 2
    assert clients[0].heard()[-1] == ("close", CloseCode.UNAUTHORIZED)
    again = desk.dial()
    again.say("hello", v=1, token=desk.token("ann"))
    assert again.heard()[-1] == ("close", CloseCode.UNAUTHORIZED)
    clients[2].say("auth", id=1, token=desk.token("bob"))
    assert clients[2].heard() == [("ok", {"id": 1})]
    desk.wall_s += 61
    assert desk.client(token=desk.token("ann"))


def test_a_revocation_without_a_time_stands_for_a_day(desk):
    token = desk.token("ann", jti="t1", expires_in_s=200_000)
    desk.client(token=token)
    assert desk.admin.revoke(Target(token_id="t1"), until_s=None) == 1
    desk.wall_s += 86_399
    refused = desk.dial()
    refused.say("hello", v=1, token=token)
    assert refused.heard()[-1] == ("close", CloseCode.UNAUTHORIZED)
    desk.wall_s += 2
    assert desk.client(token=token)
    assert desk.client(token=desk.token("ann")), "another token of the same user was never refused"


def test_statistics_count_what_is_there_and_what_was(desk):
    clients = users(desk)
    desk.live(clients[0], "open:a")
    desk.live(clients[0], "open:b")
    desk.dial()
    clients[1].say("nonsense", id=1)
    desk.hub.drop(clients[3].connection)
    statistics = desk.admin.statistics()
    assert (statistics.num_connections, statistics.num_sessions) == (4, 3)
    assert statistics.num_subscriptions == 2
    assert statistics.num_accepted == 5
    assert statistics.closes == {"1006": 1}
    assert statistics.errors == {"unknown_type": 1}
    assert statistics.num_messages_in == 4 + 2 + 1
    assert statistics.num_bytes_out == sum(len(client.socket.taken) for client in clients)


def test_actors_that_start_anew_are_handed_what_stands(desk):
    ann, _other, bob, _nobody = users(desk)
    first, second = desk.live(ann, "open:a", 7), desk.live(bob, "latest:a", 3)
    bob.say("subscribe", id=5, channel="open:b", presence=True)
    ann.connection.announced = {}
    ann.connection.remember_presence(ChannelName("open:a"), ann.id, b"\x01")
    pending = bob.connection.subscription(ChannelName("open:b"))
    assert set(desk.admin.open_subscriptions()) == {first, second, pending}
    announce, watch = sorted(desk.admin.presence_commands(), key=lambda c: type(c).__name__)
    assert isinstance(announce, Announce)
    assert (announce.session, announce.request_id) == (ann.connection, None)
    assert (announce.channel, announce.client, announce.state) == ("open:a", ann.id, b"\x01")
    assert isinstance(watch, WatchPresence)
    assert (watch.session, watch.channel) == (bob.connection, "open:b")


def test_revoking_one_token_of_a_user_leaves_the_others():
    desk = Desk()
    old, new = desk.client(token=desk.token(jti="old")), desk.client(token=desk.token(jti="new"))
    assert desk.admin.revoke(Target(user="ann", token_id="old"), until_s=None) == 1
    assert old.connection.phase is Phase.CLOSING
    assert new.connection.phase is Phase.OPEN
    assert desk.client(token=desk.token(jti="third")).connection.phase is Phase.OPEN
