"""Request heads: byte by byte, where each goes, and who is let in at all."""

import pytest

from syncd.gateway.heads import Heads, Route
from tests.gateway.desk import Desk

UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: syncd.v1\r\n\r\n"
)


def heads_of(desk, **options):
    options = {"serves_http": True, "is_loopback": True} | options
    return Heads(desk.config, desk.hub, **options)


def fresh(desk, peer="10.0.0.1"):
    connection = desk.dial().connection
    connection.peer = peer
    return connection


def status(routed):
    return int(routed.response.split()[1])


def test_an_upgrade_goes_to_the_sessions_with_what_follows_it():
    desk = Desk()
    routed = heads_of(desk).feed(fresh(desk), UPGRADE + b"rest")
    assert (routed.route, status(routed), routed.data) == (Route.WEBSOCKET, 101, b"rest")


def test_a_head_may_come_byte_by_byte_beside_others():
    desk = Desk()
    heads = heads_of(desk)
    slow, fast = fresh(desk), fresh(desk)
    for byte in UPGRADE[:-1]:
        assert heads.feed(slow, bytes([byte])).route is Route.MORE
    assert heads.feed(fast, UPGRADE).route is Route.WEBSOCKET
    assert heads.feed(slow, UPGRADE[-1:]).route is Route.WEBSOCKET
    assert not heads._readers


def test_anything_else_goes_to_http_whole():
    desk = Desk()
    head = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
    routed = heads_of(desk).feed(fresh(desk), head + b"body")
    assert (routed.route, routed.data) == (Route.HTTP, head + b"body")
    assert heads_of(desk, serves_http=False).feed(fresh(desk), head).route is Route.REFUSED


@pytest.mark.parametrize(
    ("head", "code"),
    [
        (UPGRADE.replace(b"/ws", b"/other"), 404),
        (UPGRADE.replace(b"/ws", b"/ws?token=x"), 400),
        (UPGRADE.replace(b"localhost", b"evil.example"), 403),
        (UPGRADE.replace(b"\r\n\r\n", b"\r\nOrigin: https://evil.example\r\n\r\n"), 403),
        (UPGRADE.replace(b"syncd.v1", b"other"), 400),
        (b"nonsense\r\n\r\n", 400),
        (b"GET /ws HTTP/1.1\r\nHost: " + b"x" * 20_000, 431),
    ],
    ids=["path", "token", "host", "origin", "subprotocol", "no-http", "too-long"],
)
def test_what_may_not_come_in_is_refused_and_forgotten(head, code):
    desk = Desk()
    heads = heads_of(desk)
    routed = heads.feed(fresh(desk), head)
    assert (routed.route, status(routed)) == (Route.REFUSED, code)
    assert not heads._readers


def test_a_half_read_head_is_forgotten_with_its_connection():
    desk = Desk()
    heads = heads_of(desk)
    connection = fresh(desk)
    heads.feed(connection, b"GET /")
    heads.forget(connection)
    assert not heads._readers


# ---------------------------------------------------------------------------------------------- admission


def test_a_node_takes_so_many_connections():
    desk = Desk(limits={"connections": 2})
    heads = heads_of(desk)
    clients = [fresh(desk) for _ in range(3)]
    assert heads.admit(clients[2]).startswith(b"HTTP/1.1 503")
    assert b"Retry-After: 5" in heads.admit(clients[2])
    desk.hub.drop(clients[0])
    assert heads.admit(clients[2]) is None
    desk.hub.is_stopping = True
    assert heads.admit(clients[2]) is not None


def test_by_default_a_fifth_of_the_descriptors_is_left_for_everything_else():
    assert heads_of(Desk())._max_connections >= 16


def test_connections_of_one_address_are_bounded_and_counted_off():
    desk = Desk(limits={"connections_per_address": 2})
    heads = heads_of(desk)
    first, second, third = (fresh(desk) for _ in range(3))
    assert heads.admit(first) is None
    assert heads.admit(second) is None
    assert b"Retry-After: 10" in heads.admit(third)
    assert heads.admit(fresh(desk, "10.0.0.2")) is None
    heads.forget(third)
    assert heads.admit(fresh(desk)) is not None, "who was refused is not counted off"
    heads.forget(first)
    heads.forget(first)
    assert heads.admit(fresh(desk)) is None
    assert heads.admit(fresh(desk)) is not None, "counted off once"


def test_new_connections_come_at_a_rate():
    desk = Desk(limits={"accept_per_s": 2.0})
    heads = heads_of(desk)
    assert [heads.admit(fresh(desk)) is None for _ in range(3)] == [True, True, False]
    desk.hub.now += 0.5
    assert [heads.admit(fresh(desk)) is None for _ in range(2)] == [True, False]


FORWARDED = UPGRADE.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: %s\r\n\r\n")


def test_behind_a_proxy_the_clients_address_counts():
    desk = Desk(trusted_proxies=("10.0.0.0/8",), limits={"connections_per_address": 1})
    heads = heads_of(desk)
    connections = [fresh(desk) for _ in range(3)]
    assert all(heads.admit(connection) is None for connection in connections)
    one, two = FORWARDED % b"192.0.2.1", FORWARDED % b"192.0.2.2"
    assert heads.feed(connections[0], one).route is Route.WEBSOCKET
    assert heads.feed(connections[1], two).route is Route.WEBSOCKET
    assert status(heads.feed(connections[2], one)) == 503
    assert [connection.peer for connection in connections[:2]] == ["192.0.2.1", "192.0.2.2"]
    for connection in connections:
        heads.forget(connection)
    assert not heads._by_address


def test_nobody_else_may_say_whose_connection_it_is():
    desk = Desk(trusted_proxies=("10.0.0.0/8",), limits={"connections_per_address": 1})
    heads = heads_of(desk)
    connection = fresh(desk, "192.0.2.9")
    assert heads.admit(connection) is None
    heads.feed(connection, FORWARDED % b"192.0.2.1")
    assert connection.peer == "192.0.2.9"
