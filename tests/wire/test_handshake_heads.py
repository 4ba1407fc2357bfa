"""Request heads: read whole, refused early, bounded however they come; attack cases A5 to A8 and A11."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncd.wire.handshake import HeadReader, HeadRejected, accept_upgrade, parse_head

MAX = 16_384


def request(first=b"GET /ws HTTP/1.1", **changes):
    """An upgrade request; `Header_Name=None` drops a header, a list repeats it."""
    headers = {
        "Host": b"localhost:8400",
        "Upgrade": b"websocket",
        "Connection": b"Upgrade",
        "Sec_WebSocket_Key": b"dGhlIHNhbXBsZSBub25jZQ==",
        "Sec_WebSocket_Version": b"13",
        "Sec_WebSocket_Protocol": b"syncd.v1",
    } | changes
    out = [first]
    for name, value in headers.items():
        values = value if isinstance(value, list) else [value]
        out += [
            name.replace("_", "-").encode() + b": " + item for item in values if item is not None
        ]
    return b"\r\n".join(out) + b"\r\n\r\n"


def status_of(raw):
    with pytest.raises(HeadRejected) as caught:
        parse_head(raw, MAX)
    return caught.value.status


def test_a_head_is_read_with_its_parts():
    raw = b"POST /a%20b?c=d&e HTTP/1.1\r\nHost: x\r\nX-A: \t one\t \r\nx-a:two\r\nEmpty:\r\n\r\n"
    head = parse_head(raw + b"body", MAX)
    assert (head.method, head.target, head.path) == ("POST", "/a%20b?c=d&e", "/a%20b")
    assert head.headers == [(b"host", b"x"), (b"x-a", b"one"), (b"x-a", b"two"), (b"empty", b"")]
    assert (head.get(b"x-a"), head.get(b"none")) == (b"one", None)
    assert head.get_all(b"x-a") == head.get_list(b"x-a") == [b"one", b"two"]
    assert head.raw == raw
    assert not head.is_upgrade


@pytest.mark.parametrize(
    ("value", "is_upgrade"),
    [
        (b"websocket", True),
        (b"WebSocket", True),
        (b"h2c, websocket", True),
        (b"h2c", False),
        (b"", False),
    ],
)
def test_an_upgrade_is_seen_in_any_case_and_place(value, is_upgrade):
    assert parse_head(request(Upgrade=value), MAX).is_upgrade is is_upgrade


@pytest.mark.parametrize(
    "rest", [b"", b"\x82", b"\x82\x80abcd", b"GET / HTTP/1.1\r\n\r\n", b"\0\n\r\n\r\n"]
)
def test_what_follows_the_head_is_kept_and_not_judged(rest):  # A8
    raw = request()
    reader = HeadReader(MAX)
    assert reader.feed(raw + rest).raw == raw
    assert reader.rest == rest
    reader = HeadReader(MAX)
    assert reader.feed(raw[:-1]) is None
    assert reader.feed(raw[-1:] + rest).raw == raw
    assert reader.rest == rest


LONG = b"x" * 8192
REJECTED = {
    "A5 head of 200 kB": (request(X_A=[b"a" * 8000] * 25), 431),
    "A5 head above the limit": (request(X_A=[b"a" * 8000] * 2 + [b"b" * 400]), 431),
    "A5 129 headers": (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * 128 + b"\r\n", 431),
    "A5 line of 8193": (b"GET / HTTP/1.1\r\nHost: x\r\nab:" + LONG[:8190] + b"\r\n\r\n", 431),
    "A6 URL": (b"GET /" + LONG + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
    "A6 endless URL": (b"GET /" + LONG * 2, 414),
    "A7 HTTP/1.0": (request(b"GET /ws HTTP/1.0"), 505),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "HTTP/1.2": (request(b"GET / HTTP/1.2"), 505),
    "A11 CONNECT": (request(b"CONNECT example.com:443 HTTP/1.1"), 405),
    "A11 TRACE": (request(b"TRACE / HTTP/1.1"), 405),
    "A11 absolute form": (request(b"GET http://localhost:8400/ws HTTP/1.1"), 400),
    "A11 asterisk": (request(b"OPTIONS * HTTP/1.1"), 400),
    "A11 both lengths": (request(Content_Length=b"3", Transfer_Encoding=b"chunked"), 400),
    "A11 two lengths": (request(Content_Length=[b"3", b"4"]), 400),
    "A11 obs-fold": (b"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", 400),
    "A11 obs-fold first": (b"GET / HTTP/1.1\r\n Host: x\r\n\r\n", 400),
    "A11 bare LF": (b"GET / HTTP/1.1\nHost: x\n\n", 400),
    "A11 bare LF in a value": (b"GET / HTTP/1.1\r\nHost: x\r\nA: b\nC: d\r\n\r\n", 400),
    "A11 bare CR": (b"GET / HTTP/1.1\r\nHost: x\r\nA: b\rC: d\r\n\r\n", 400),
    "CR CR LF": (b"GET / HTTP/1.1\r\r\nHost: x\r\n\r\n", 400),
    "chunked twice": (request(Transfer_Encoding=[b"chunked", b"chunked"]), 400),
    "other coding": (request(Transfer_Encoding=b"gzip, chunked"), 400),
    "negative length": (request(Content_Length=b"-1"), 400),
    "plus length": (request(Content_Length=b"+1"), 400),
    "empty length": (request(Content_Length=b""), 400),
    "length list": (request(Content_Length=b"1, 1"), 400),
    "NUL": (request(X_A=b"a\0b"), 400),
    "escape": (request(X_A=b"a\x1bb"), 400),
    "DEL": (request(X_A=b"a\x7fb"), 400),
    "TLS": (bytes.fromhex("1603010200010001fc0303"), 400),
    "space before colon": (b"GET / HTTP/1.1\r\nHost: x\r\nA : b\r\n\r\n", 400),
    "space in a name": (b"GET / HTTP/1.1\r\nHost: x\r\nA B: c\r\n\r\n", 400),
    "no name": (b"GET / HTTP/1.1\r\nHost: x\r\n: c\r\n\r\n", 400),
    "no colon": (b"GET / HTTP/1.1\r\nHost: x\r\nabc\r\n\r\n", 400),
    "name beyond ASCII": (b"GET / HTTP/1.1\r\nHost: x\r\n\xc3\xa4: c\r\n\r\n", 400),
    "no Host": (request(Host=None), 400),
    "two Hosts": (request(Host=[b"a", b"a"]), 400),
    "empty Host": (request(Host=b""), 400),
    "Host with user": (request(Host=b"a@b"), 400),
    "Host with path": (request(Host=b"a/b"), 400),
    "Host list": (request(Host=b"a, b"), 400),
    "Host with bad port": (request(Host=b"a:b"), 400),
    "Host with empty label": (request(Host=b"a..b"), 400),
    "no version": (b"GET /\r\nHost: x\r\n\r\n", 400),
    "two spaces": (request(b"GET  / HTTP/1.1"), 400),
    "tab": (request(b"GET\t/ HTTP/1.1"), 400),
    "fragment": (request(b"GET /#a HTTP/1.1"), 400),
    "target beyond ASCII": (request(b"GET /\xc3\xa4 HTTP/1.1"), 400),
    "lower-case http": (request(b"GET / http/1.1"), 400),
    "empty line first": (b"\r\n" + request(), 400),
    "only empty lines": (b"\r\n\r\n", 400),
    "method of odd characters": (request(b"G(T / HTTP/1.1"), 400),
}


@pytest.mark.parametrize(("raw", "status"), REJECTED.values(), ids=REJECTED.keys())
def test_heads_that_are_refused(raw, status):
    assert status_of(raw) == status


@pytest.mark.parametrize(("raw", "status"), REJECTED.values(), ids=REJECTED.keys())
def test_heads_are_refused_alike_byte_by_byte_and_never_held_beyond_the_limit(raw, status):
    reader = HeadReader(MAX)
    with pytest.raises(HeadRejected) as caught:  # noqa: PT012 - the byte that breaks it is not the point
        for i in range(len(raw)):
            assert reader.feed(raw[i : i + 1]) is None
    assert caught.value.status == status
    assert len(reader.rest) <= MAX + 1


HEAD_OF_16384 = request(X_A=[LONG[:8000], LONG[: MAX - len(request(X_A=[LONG[:8000], b""]))]])
ACCEPTED = {
    "line of 8192": b"GET / HTTP/1.1\r\nHost: x\r\nab:" + LONG[:8189] + b"\r\n\r\n",
    "128 headers": b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * 127 + b"\r\n",
    "request line of 8192": b"GET /" + LONG[: 8192 - 14] + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "head of 16384": HEAD_OF_16384,
    "one length twice": request(Content_Length=[b"3", b"3"]),
    "IPv6 Host": request(Host=b"[::1]:8400"),
    "name with underscore": request(Host=b"my_app:80"),
    "UTF-8 in a value": request(X_A="grüße".encode()),
}


@pytest.mark.parametrize("raw", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_heads_that_pass_also_byte_by_byte(raw):
    assert parse_head(raw, MAX).raw == raw
    reader = HeadReader(MAX)
    assert [head.raw for i in range(len(raw)) if (head := reader.feed(raw[i : i + 1]))] == [raw]


def test_the_limit_is_on_the_whole_head():
    raw = request()
    assert parse_head(raw, len(raw)).raw == raw
    with pytest.raises(HeadRejected) as caught:
        parse_head(raw, len(raw) - 1)
    assert caught.value.status == 431


def test_a_head_split_at_every_position_is_the_same():
    raw = request()
    for cut in range(len(raw)):
        reader = HeadReader(MAX)
        assert reader.feed(raw[:cut]) is None
        assert reader.feed(raw[cut:]) == parse_head(raw, MAX)


def test_a_dripped_head_costs_linear_time():
    raw = b"GET / HTTP/1.1\r\n" + b"a: " + LONG[:4000] + (b"\r\na: " + LONG[:4000]) * 15

    def drip(part):
        reader = HeadReader(1 << 20)
        begin = time.process_time()
        for start in range(0, len(part), 16):
            reader.feed(part[start : start + 16])
        return time.process_time() - begin

    quarter = min(drip(raw[: len(raw) // 4]) for _ in range(5))
    assert min(drip(raw) for _ in range(3)) < quarter * 9, (
        "four times the bytes, sixteen if quadratic"
    )


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 400), st.sampled_from([0, 1, 5]))
def test_damaged_heads_are_refused_or_read_and_nothing_else(noise, place, drop):
    raw = request()
    damaged = raw[: place % len(raw)] + noise + raw[place % len(raw) + drop :]
    try:
        head = parse_head(damaged, MAX)
        if head is not None:
            assert damaged.startswith(head.raw)
            accept_upgrade(head)
    except HeadRejected as rejected:
        assert rejected.status in {400, 405, 414, 426, 431, 505}  # noqa: PT017 - either way is right
