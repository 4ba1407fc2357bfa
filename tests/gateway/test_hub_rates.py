"""Pings are answered, who is too fast is slowed down or closed, and errors are counted."""

from syncd.codes import CloseCode
from syncd.wire.session import Phase
from tests.gateway.desk import Desk
from tests.gateway.talk import bye_and_close, publish

RATE = {"messages_per_s": 10.0, "messages_burst": 20}


def test_websocket_pings_are_answered_and_pongs_are_heard():
    desk = Desk()
    client = desk.client()
    client.send_frame(0x89, b"abc")
    client.send_frame(0x8A, b"")
    assert client.heard() == [("pong frame", b"abc")]
    desk.hub.close(client.connection, CloseCode.RECONNECT, "why")
    client.send_frame(0x89, b"abc")
    assert [kind for kind, _ in client.heard()] == ["bye", "close"]


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
