"""The WebSocket opening handshake; attack cases A7, A13 and A27."""

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto.connection import CLIENT, SERVER
from wsproto.events import AcceptConnection, Request
from wsproto.handshake import H11Handshake
from wsproto.utilities import RemoteProtocolError

from syncd.wire.handshake import (
    HeadRejected,
    accept_upgrade,
    parse_head,
    refuse_token_in_query,
    reject_bytes,
)

MAX = 16_384
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
UPGRADE = {
    b"Host": b"localhost:8400",
    b"Upgrade": b"websocket",
    b"Connection": b"keep-alive, Upgrade",
    b"Sec-WebSocket-Key": KEY,
    b"Sec-WebSocket-Version": b"13",
    b"Sec-WebSocket-Protocol": b"syncd.v1",
    b"Sec-WebSocket-Extensions": b"permessage-deflate; client_max_window_bits",
}


def request(first=b"GET /ws HTTP/1.1", *lines, **changes):
    """An upgrade request; `Header_Name=None` drops a header, a list repeats it."""
    headers = dict(UPGRADE)
    for name, value in changes.items():
        headers[name.replace("_", "-").encode()] = value
    out = [first, *lines]
    for name, value in headers.items():
        values = value if isinstance(value, list) else [value]
        out += [name + b": " + item for item in values if item is not None]
    return b"\r\n".join(out) + b"\r\n\r\n"


def accept_status(raw, subprotocol="syncd.v1"):
    head = parse_head(raw, MAX)
    with pytest.raises(HeadRejected) as caught:
        accept_upgrade(head, subprotocol)
    return caught.value.status


# ------------------------------------------------------------------------------------------------ the upgrade


def test_example_of_the_rfc_is_accepted():
    assert accept_upgrade(parse_head(request(), MAX)) == (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
        b"Sec-WebSocket-Protocol: syncd.v1\r\n\r\n"
    )


UPGRADE_REJECTED = {
    "A7 POST": (request(b"POST /ws HTTP/1.1"), 405),
    "A7 version 8": (request(Sec_WebSocket_Version=b"8"), 426),
    "no version": (request(Sec_WebSocket_Version=None), 426),
    "version twice": (request(Sec_WebSocket_Version=[b"13", b"13"]), 426),
    "no upgrade": (request(Upgrade=None), 426),
    "A7 no key": (request(Sec_WebSocket_Key=None), 400),
    "A7 two keys": (request(Sec_WebSocket_Key=[KEY, KEY]), 400),
    "A7 empty key": (request(Sec_WebSocket_Key=b""), 400),
    "A7 key of 15 bytes": (request(Sec_WebSocket_Key=b"AAAAAAAAAAAAAAAAAAAA"), 400),
    "A7 key of 17 bytes": (request(Sec_WebSocket_Key=b"AAAAAAAAAAAAAAAAAAAAAAA="), 400),
    "A7 key not base64": (request(Sec_WebSocket_Key=b"!" * 22 + b"=="), 400),
    "no Connection": (request(Connection=None), 400),
    "other Connection": (request(Connection=b"keep-alive, upgraded"), 400),
    "body": (request(Content_Length=b"1"), 400),
    "chunked body": (request(Transfer_Encoding=b"chunked"), 400),
    "no subprotocol": (request(Sec_WebSocket_Protocol=None), 400),
    "other subprotocols": (request(Sec_WebSocket_Protocol=b"graphql-ws, syncd.v2"), 400),
    "subprotocol in another case": (request(Sec_WebSocket_Protocol=b"SYNCD.V1"), 400),
    "malformed subprotocol": (request(Sec_WebSocket_Protocol=b"syncd.v1, a b"), 400),
}


@pytest.mark.parametrize(("raw", "status"), UPGRADE_REJECTED.values(), ids=UPGRADE_REJECTED.keys())
def test_upgrades_that_are_refused(raw, status):
    assert accept_status(raw) == status


def test_a_wrong_version_is_told_the_right_one():
    with pytest.raises(HeadRejected) as caught:
        accept_upgrade(parse_head(request(Sec_WebSocket_Version=b"8"), MAX))
    assert b"\r\nSec-WebSocket-Version: 13\r\n" in reject_bytes(caught.value)
    assert b"\r\nConnection: close, Upgrade\r\n" in reject_bytes(caught.value)


@pytest.mark.parametrize(
    "header", [b"syncd.v1", b"other, syncd.v1", b"syncd.v1,other", [b"other", b"syncd.v1"]]
)
def test_our_subprotocol_is_found_among_others(header):
    response = accept_upgrade(parse_head(request(Sec_WebSocket_Protocol=header), MAX))
    assert b"\r\nSec-WebSocket-Protocol: syncd.v1\r\n" in response


@pytest.mark.parametrize(
    ("header", "chosen"), [(b"b, a", b"b"), (None, None), (b"syncd.v1", b"syncd.v1")]
)
def test_an_endpoint_of_any_subprotocol_takes_the_first_or_none(header, chosen):
    response = accept_upgrade(parse_head(request(Sec_WebSocket_Protocol=header), MAX), None)
    if chosen is None:
        assert b"Protocol:" not in response
    else:
        assert b"\r\nSec-WebSocket-Protocol: " + chosen + b"\r\n" in response


def test_no_extension_is_ever_accepted():  # A27
    assert b"xtensions" not in accept_upgrade(parse_head(request(), MAX))


def test_a_client_of_wsproto_is_let_in():
    client = H11Handshake(CLIENT)
    raw = client.send(Request(host="localhost:8400", target="/ws", subprotocols=["syncd.v1"]))
    client.receive_data(accept_upgrade(parse_head(raw, MAX)))
    (event,) = client.events()
    assert event == AcceptConnection(subprotocol="syncd.v1", extra_headers=[])


tokens = st.text("abcdefghijklmnopqrstuvwxyzABC019-_.", min_size=1, max_size=12).map(str.encode)


@settings(max_examples=100, deadline=None)
@given(
    st.binary(min_size=16, max_size=16),
    st.lists(tokens, max_size=4, unique=True),
    st.lists(st.tuples(tokens.map(b"x-".__add__), tokens), max_size=5),
    st.sampled_from([b"Upgrade", b"upgrade", b"keep-alive, Upgrade", b"Upgrade,x"]),
    st.sampled_from([b"websocket", b"WebSocket", b"WEBSOCKET"]),
)
def test_the_response_is_the_one_wsproto_gives(nonce, offered, others, connection, upgrade):
    raw = request(
        b"GET /ws?a=b HTTP/1.1",
        *(name + b": " + value for name, value in others),
        Sec_WebSocket_Key=base64.b64encode(nonce),
        Sec_WebSocket_Protocol=b", ".join(offered) or None,
        Connection=connection,
        Upgrade=upgrade,
    )
    oracle = H11Handshake(SERVER)
    oracle.receive_data(raw)
    (event,) = oracle.events()
    chosen = event.subprotocols[0] if offered else None
    expected = oracle.send(AcceptConnection(subprotocol=chosen))
    assert accept_upgrade(parse_head(raw, MAX), None) == expected


WSPROTO_IS_LAXER = {"A7 two keys", "A7 empty key", "A7 key of 15 bytes", "A7 key of 17 bytes", "A7 key not base64",
                    "version twice", "body", "chunked body", "no subprotocol", "other subprotocols",
                    "subprotocol in another case", "malformed subprotocol"}  # fmt: skip


@pytest.mark.parametrize("name", UPGRADE_REJECTED)
def test_what_wsproto_refuses_we_refuse(name):
    oracle = H11Handshake(SERVER)
    try:
        oracle.receive_data(UPGRADE_REJECTED[name][0])
        is_refused = False
    except RemoteProtocolError:
        is_refused = True
    assert is_refused is (name not in WSPROTO_IS_LAXER)


# ------------------------------------------------------------------------------------------------ tokens, answers


@pytest.mark.parametrize(
    "query",
    [
        b"token=x", b"a=b&token=x", b"a=b;token=x", b"access_token=x", b"jwt=x", b"TOKEN=x", b"tok%65n=x",
        b"token", b"token=", b"+token=x", b"a&jwt%3Dx", b"%74%6f%6b%65%6e=x&a",
    ],
)  # fmt: skip
def test_a_token_in_the_url_is_refused_and_told_where_to_go(query):  # A13
    with pytest.raises(HeadRejected) as caught:
        refuse_token_in_query(parse_head(request(b"GET /ws?" + query + b" HTTP/1.1"), MAX))
    assert caught.value.status == 400
    assert "hello" in caught.value.reason


@pytest.mark.parametrize(
    "target", [b"/ws", b"/ws?", b"/ws?a=token", b"/ws?mytoken=1&tokens=2", b"/token=1"]
)
def test_other_queries_pass(target):
    refuse_token_in_query(parse_head(request(b"GET " + target + b" HTTP/1.1"), MAX))


def test_a_rejection_is_one_whole_response_that_closes():
    rejected = HeadRejected(503, "Too many connections; grüße.", ((b"Retry-After", b"2"),))
    assert reject_bytes(rejected) == (
        b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\n"
        b"Content-Length: 31\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
        b"Connection: close\r\nRetry-After: 2\r\n\r\nToo many connections; gr\xc3\xbc\xc3\x9fe.\n"
    )


@pytest.mark.parametrize("raw", [raw for raw, _ in UPGRADE_REJECTED.values()])
def test_a_rejection_never_repeats_what_the_peer_sent(raw):
    marked = raw.replace(b"GET /", b"GET /s3cr3t", 1).replace(
        b"\r\n\r\n", b"\r\nX-B: s3cr3t\r\n\r\n", 1
    )
    with pytest.raises(HeadRejected) as caught:
        accept_upgrade(parse_head(marked, MAX))
    assert b"s3cr3t" not in reject_bytes(caught.value)
