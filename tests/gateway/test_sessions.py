"""Hello and its refusals, known clients that come back, tokens, and what a newer token allows."""

import pytest

from syncd.codes import CloseCode, Reason
from syncd.ports import UnsubscribeChannel
from syncd.wire.session import Phase
from tests.gateway.desk import Desk, Event
from tests.gateway.talk import STAFF, refused


def closed_with(client):
    *_, (kind, body), (close, code) = client.heard()
    assert (kind, close) == ("bye", "close")
    assert body["code"] == code
    return code


# ---------------------------------------------------------------------------------------------- hello


def test_welcome_tells_everything_a_client_needs():
    desk = Desk()
    client = desk.client()
    assert client.welcome == {
        "session": "node-1",
        "clients": [{"client": client.id, "secret": client.claim["secret"], "last_mid": 0}],
        "server_time_ms": int(desk.wall_s * 1000),
        "ping_ms": 25_000,
        "max_frame_bytes": 65_536,
    }
    assert client.connection.phase is Phase.OPEN
    assert desk.client().welcome["session"] == "node-2"


@pytest.mark.parametrize("version", [0, 2, 99])
def test_another_version_is_refused(version):
    client = Desk().dial()
    client.say("hello", v=version)
    assert closed_with(client) == CloseCode.UNSUPPORTED_VERSION


def test_a_known_client_comes_back_and_is_given_no_new_secret():
    desk = Desk()
    first = desk.client()
    desk.hub.drop(first.connection)
    second = desk.client(clients=[first.claim])
    assert second.welcome["clients"] == [{"client": first.id, "last_mid": 0}]
    assert desk.sessions.by_client == {first.id: second.connection}


def test_a_known_client_with_a_wrong_secret_is_denied():
    desk = Desk()
    first, second = desk.client(), desk.dial()
    second.say("hello", v=1, clients=[{"client": first.id, "secret": "wrong"}])
    assert closed_with(second) == CloseCode.CLIENT_DENIED
    assert desk.sessions.by_client == {first.id: first.connection}, "nobody is taken over by it"


def test_a_client_nobody_knows_gets_a_new_id_in_its_place_and_a_reset():
    desk = Desk()
    known = desk.client()
    client = desk.dial()
    claims = [{"client": "old", "secret": "s"}, known.claim, {"client": "older", "secret": "s"}]
    client.say("hello", v=1, clients=claims)
    (_, welcome), *resets = client.heard()
    fresh, kept, another = welcome["clients"]
    assert kept == {"client": known.id, "last_mid": 0}
    assert {"secret"} <= set(fresh) & set(another)
    assert [body for _, body in resets] == [
        {"scope": "client", "client": name, "code": Reason.CLIENT_UNKNOWN.value}
        for name in ("old", "older")
    ]


def test_the_newest_connection_speaks_for_a_client_and_closes_the_one_that_speaks_for_nobody_else():
    desk = Desk()
    single, shared = desk.client(), desk.client()
    other = desk.client()
    desk.hub.drop(other.connection)
    desk.hub.drop(shared.connection)
    shared = desk.client(clients=[shared.claim, other.claim])
    newest = desk.client(clients=[single.claim, other.claim])
    assert closed_with(single) == CloseCode.TAKEN_OVER
    assert shared.heard() == []
    assert shared.connection.clients == (shared.welcome["clients"][0]["client"],)
    assert newest.connection.clients == (single.id, other.id)
    shared.say("presence", id=1, channel="open:a", client=other.id, state=1)
    refused(shared, "client_denied")
    desk.hub.drop(single.connection)
    assert desk.sessions.by_client[single.id] is newest.connection


def test_a_client_named_twice_is_one_client():
    desk = Desk()
    first = desk.client()
    desk.hub.drop(first.connection)
    second = desk.client(clients=[first.claim, first.claim])
    assert second.heard() == []
    desk.hub.drop(second.connection)
    assert desk.sessions.by_client == {}


# ---------------------------------------------------------------------------------------------- who speaks


def test_a_token_makes_a_user_and_none_makes_an_anonymous_session():
    desk = Desk()
    user, nobody = desk.client(token=desk.token("ann", **STAFF)), desk.client()
    assert user.connection.identity.user == "ann"
    assert user.connection.identity.roles == {"staff"}
    assert nobody.connection.identity.user is None
    assert desk.sessions.by_user == {"ann": {user.connection}}
    desk.hub.drop(user.connection)
    assert desk.sessions.by_user == {}


def test_every_token_that_is_not_accepted_is_answered_alike():
    desk = Desk()
    desk.revocations.revoke_user("eve", desk.wall_s + 60, desk.wall_s)
    desk.revocations.revoke_token("t1", desk.wall_s + 60, desk.wall_s)
    tokens = [
        "",
        "nonsense",
        desk.token(expires_in_s=-600),
        desk.token("eve"),
        desk.token(jti="t1"),
    ]
    answers = []
    for token in tokens:
        client = desk.dial()
        client.say("hello", v=1, token=token)
        answers.append(client.heard())
    assert answers == [answers[0]] * len(tokens)
    assert answers[0][-1] == ("close", CloseCode.UNAUTHORIZED)


def test_without_anonymous_sessions_a_token_is_needed():
    desk = Desk(auth={"anonymous": False})
    client = desk.dial()
    client.say("hello", v=1)
    assert closed_with(client) == CloseCode.UNAUTHORIZED
    assert desk.client(token=desk.token())


def test_a_user_has_so_many_connections_and_anonymous_clients_are_not_counted():
    desk = Desk(limits={"connections_per_user": 2})
    clients = [desk.client(token=desk.token()) for _ in range(2)]
    third = desk.dial()
    third.say("hello", v=1, token=desk.token())
    *_, (_, bye), (_, code) = third.heard()
    assert (code, bye["after_ms"]) == (CloseCode.OVERLOADED, 10_000)
    for _ in range(5):
        desk.client()
    assert desk.client(token=desk.token("bob"))
    desk.hub.drop(clients[0].connection)
    assert desk.client(token=desk.token())


def test_a_newer_token_of_the_same_user_replaces_the_old_one_in_place():
    desk = Desk()
    client = desk.client(token=desk.token(expires_in_s=60))
    client.say("auth", id=1, token=desk.token(expires_in_s=6000, **STAFF))
    assert client.heard() == [("ok", {"id": 1})]
    client.say("publish", id=2, channel="staff:a", data=1)
    assert client.heard() == []
    desk.pass_time(20)
    client.say("pong")
    desk.pass_time(20)
    client.say("pong")
    desk.pass_time(30)
    assert client.connection.phase is Phase.OPEN, "the old one would have run out"


@pytest.mark.parametrize("speaker", ["ann", None])
@pytest.mark.parametrize("token", ["bob", None, "expired"])
def test_a_token_of_anybody_else_or_none_at_all_ends_the_session(speaker, token):
    desk = Desk()
    client = desk.client() if speaker is None else desk.client(token=desk.token(speaker))
    made = {
        "bob": desk.token("bob"),
        None: "nonsense",
        "expired": desk.token(speaker or "x", expires_in_s=-600),
    }
    client.say("auth", id=1, token=made[token])
    assert closed_with(client) == CloseCode.UNAUTHORIZED


def test_what_a_newer_token_does_not_allow_ends_and_its_queued_events_with_it():
    desk = Desk()
    client = desk.client(token=desk.token(**STAFF))
    staff, public = desk.live(client, "staff:a"), desk.live(client, "open:a")
    client.socket.room = 0
    client.connection.reply_ok(90)
    desk.turn()
    desk.deliver([staff], Event("staff:a", 1))
    desk.deliver([public], Event("open:a", 1))
    client.say("auth", id=1, token=desk.token())
    client.drain()
    heard = client.heard()
    assert [body.get("channel", kind) for kind, body in heard] == [
        "ok",
        "open:a",
        "staff:a",
        "ok",
    ]
    assert heard[2] == (
        "unsubscribed",
        {"channel": "staff:a", "code": "revoked", "reason": "not allowed any more"},
    )
    assert staff.is_closed
    assert not public.is_closed
    (told,) = desk.broadcaster.take()
    assert isinstance(told, UnsubscribeChannel)
    assert told.subscription is staff
    client.say("subscribe", id=2, channel="staff:a")
    refused(client, "permission_denied")


def test_a_subscribe_that_is_not_answered_yet_is_refused_when_its_permission_goes():
    desk = Desk()
    client = desk.client(token=desk.token(**STAFF))
    client.say("subscribe", id=1, channel="staff:a")
    client.say("auth", id=2, token=desk.token())
    (_, answer), ok = client.heard()
    assert (answer["id"], answer["code"]) == (1, "permission_denied")
    assert ok == ("ok", {"id": 2})
