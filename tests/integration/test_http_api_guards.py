"""What the HTTP API does not do, whoever asks: keys, guessing, foreign pages, foreign hosts, hostile bodies."""

import base64
import json

import jwt
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from syncd.config import Address
from syncd.errors import RequestRejected
from syncd.http import keys as keys_module
from syncd.http.fields import query_uint
from syncd.http.json_values import encode_data, jsonable, parse_object
from syncd.http.keys import ApiKeys
from syncd.model.proxy_networks import ProxyNetworks
from syncd.wire.codec import MAX_ITEMS
from tests.integration.http_fakes import KEY, World, make_config

GOOD = {"channel": "demo:a", "data": 1}
KEYED = [
    ("POST", "/api/publish"),
    ("POST", "/api/batch"),
    ("POST", "/api/disconnect"),
    ("POST", "/api/unsubscribe"),
    ("POST", "/api/revoke"),
    ("GET", "/api/channels"),
    ("GET", "/api/presence"),
    ("GET", "/api/history"),
    ("GET", "/api/info"),
    ("POST", "/api/mutate"),
    ("POST", "/api/invalidate"),
    ("GET", "/api/entries"),
    ("GET", "/api/cache/stats"),
    ("GET", "/api/cache/config"),
    ("POST", "/api/cache/config"),
    ("POST", "/api/cache/clear"),
    ("POST", "/api/cache/warm"),
    ("POST", "/api/rebuild"),
    ("POST", "/api/admin/session"),
    ("GET", "/api/audit"),
    ("POST", "/api/backup"),
    ("GET", "/api/rebuild"),
    ("GET", "/api/rebuild/4f2a9c01d7be6a53"),
    ("DELETE", "/api/rebuild/4f2a9c01d7be6a53"),
]


@pytest.fixture
def world():
    return World(make_config())


# ------------------------------------------------------------------------------------------------ keys


@pytest.mark.parametrize(("method", "path"), KEYED)
async def test_every_api_route_wants_a_key_before_anything_else(world, method, path):
    response = await world.respond(
        method, path, b"not json" if method == "POST" else None, key=None
    )
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == "Bearer"


async def test_every_wrong_key_gets_one_text_client_tokens_included(world):
    """A35: a client's JWT, even a well-signed one naming a service, is a wrong key."""
    token = jwt.encode({"sub": "billing"}, KEY.ljust(32, "x"), algorithm="HS256")
    presented = [
        f"Bearer {token}",
        "Bearer wrong",
        "Bearer ",
        "Bearer",
        f"Basic {KEY}",
        KEY,
        f"Bearer {KEY}x",
        f"Bearer {KEY[:-1]}",
        f"Bearer {KEY},{KEY}",
        "Bearer \xe9",
        "",
    ]
    answers = [await world.ask("POST", "/api/publish", GOOD, key=None)]
    answers += [
        await world.ask("POST", "/api/publish", GOOD, key=None, Authorization=text)
        for text in presented
    ]
    assert all(answer == answers[0] for answer in answers)
    assert answers[0][0] == 401
    assert world.broadcaster.commands == []


async def test_a_key_in_the_url_is_no_key(world):
    assert (await world.ask("GET", f"/api/info?key={KEY}&access_token={KEY}", key=None))[0] == 401


def test_a_node_without_keys_and_an_empty_key_admit_nobody():
    for keys in ({}, {"empty": ""}):
        gate = ApiKeys(keys, clock=lambda: 0.0)
        for header in ("Bearer ", "Bearer x", None):
            with pytest.raises(RequestRejected) as caught:
                gate.admit(header, "10.0.0.1")
            assert caught.value.code.value == "unauthorized"


def test_guessing_is_limited_per_address_and_recovers():
    now = [0.0]
    gate = ApiKeys({"a": "right"}, clock=lambda: now[0])

    def tried(key, address="10.0.0.1"):
        try:
            return gate.admit(f"Bearer {key}", address)
        except RequestRejected as refusal:
            return refusal.code.value

    burst = keys_module.WRONG_KEYS_BURST
    assert [tried("wrong") for _ in range(burst + 3)] == ["unauthorized"] * burst + [
        "rate_limited"
    ] * 3
    assert tried("right") == "rate_limited"
    assert tried("right", "10.0.0.2") == "a"
    now[0] += 1.0 / keys_module.WRONG_KEYS_PER_S
    assert tried("right") == "a"


def test_neighbours_in_one_ipv6_network_share_a_bucket_and_right_keys_cost_nothing():
    gate = ApiKeys({"a": "right"}, clock=lambda: 0.0)
    for n in range(keys_module.WRONG_KEYS_BURST):
        assert gate.admit("Bearer right", "2001:db8::1") == "a"
        with pytest.raises(RequestRejected):
            gate.admit("Bearer wrong", f"2001:db8::{n:x}")
    with pytest.raises(RequestRejected) as caught:
        gate.admit("Bearer right", "2001:db8::ffff")
    assert caught.value.after_ms is not None
    assert gate.admit("Bearer right", "2001:db8:0:1::1") == "a"


def test_the_memory_of_addresses_is_bounded(monkeypatch):
    monkeypatch.setattr(keys_module, "MAX_ADDRESSES", 10)
    gate = ApiKeys({"a": "right"}, clock=lambda: 0.0)
    for n in range(50):
        with pytest.raises(RequestRejected):
            gate.admit("Bearer wrong", f"10.0.0.{n}")
    assert len(gate._full_at) == 10


async def test_too_many_wrong_keys_are_told_with_429_and_when_to_come_back(world, autojump_clock):
    for _ in range(keys_module.WRONG_KEYS_BURST):
        await world.ask("GET", "/api/info", key="wrong")
    response = await world.respond("GET", "/api/info")
    assert response.status_code == 429
    assert int(response.headers["Retry-After"]) >= 1
    await trio.sleep(2)
    assert (await world.ask("GET", "/api/info"))[0] == 200


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "address"),
    [
        ("10.0.0.1", "1.2.3.4", "1.2.3.4"),
        ("10.0.0.1", "9.9.9.9, 1.2.3.4, 10.0.0.7", "1.2.3.4"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "junk", "10.0.0.1"),
        ("10.0.0.1", "10.0.0.2", "10.0.0.2"),
        ("8.8.8.8", "1.2.3.4", "8.8.8.8"),
        ("", "1.2.3.4", ""),
    ],
)
def test_only_trusted_proxies_name_the_client(peer, forwarded_for, address):
    networks = ProxyNetworks(["10.0.0.0/8"])
    assert networks.client_address(peer, forwarded_for) == address


# ------------------------------------------------------------------------------------------------ foreign pages and hosts


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonx",
        "text/plain; application/json",
        "application/json; charset=utf-16",
        "",
    ],
)
async def test_what_a_form_of_a_foreign_page_can_send_is_refused(world, kind):
    """A64: a simple POST needs no preflight, so only a type that does is taken."""
    status, _ = await world.ask("POST", "/api/publish", json.dumps(GOOD), Content_Type=kind)
    assert status == 415
    assert world.broadcaster.commands == []


async def test_json_with_its_charset_named_is_json(world):
    kind = "application/json; charset=UTF-8"
    assert (await world.ask("POST", "/api/publish", GOOD, Content_Type=kind))[0] == 200


async def test_a_compressed_body_is_refused(world):
    assert (await world.ask("POST", "/api/publish", GOOD, Content_Encoding="gzip"))[0] == 415


async def test_a_preflight_gets_no_cors_header_and_no_permission(world):
    response = await world.respond(
        "OPTIONS",
        "/api/publish",
        key=None,
        Origin="https://evil.example",
        Access_Control_Request_Method="POST",
    )
    assert response.status_code == 405
    assert not any(name.lower().startswith("access-control") for name, _ in response.headers)


@pytest.mark.parametrize("header", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"])
async def test_a_method_override_is_ignored(world, header):
    status, _ = await world.ask("GET", "/api/publish?_method=POST", **{header: "POST"})
    assert status == 405


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "PRI"])
async def test_other_methods_are_405_with_those_allowed(world, method):
    response = await world.respond(method, "/api/publish")
    assert (response.status_code, response.headers["Allow"]) == (405, "POST")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8400", 200),
        ("localhost", 200),
        ("LOCALHOST:1", 200),
        ("localhost.", 200),
        ("[::1]:8400", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost.evil.example", 421),
        ("localhost@evil.example", 421),
        ("10.0.0.1", 421),
    ],
)
async def test_a_loopback_node_answers_loopback_names_only(world, host, status):
    """A64: DNS rebinding brings a foreign name to our address."""
    assert (await world.respond("GET", "/health/live", Host=host)).status_code == status


@pytest.mark.parametrize(
    ("changes", "host", "status"),
    [
        ({"hosts": ("api.example.com",)}, "API.example.com:443", 200),
        ({"hosts": ("api.example.com",)}, "localhost", 200),
        ({"hosts": ("api.example.com",)}, "other.example.com", 421),
        ({"hosts": ("*",)}, "other.example.com", 200),
        ({"listen": Address("0.0.0.0")}, "anything.example", 200),
        ({"listen": Address("0.0.0.0"), "hosts": ("a.b",)}, "anything.example", 421),
        ({"listen": Address("0.0.0.0"), "api_listen": Address()}, "anything.example", 421),
        ({"api_listen": Address("0.0.0.0")}, "anything.example", 200),
    ],
)
async def test_hosts_are_those_configured_for_the_address_of_the_api(changes, host, status):
    world = World(make_config(**changes))
    assert (await world.respond("GET", "/health/live", Host=host)).status_code == status


async def test_every_answer_carries_the_security_headers_errors_included(world):
    for path in ("/health/live", "/nope", "/docs", "/api/info"):
        headers = (await world.respond("GET", path)).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Content-Security-Policy"].startswith("default-src 'none'")


# ------------------------------------------------------------------------------------------------ bodies


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b"{} {}",
        b'{"channel":"demo:a","data":1,"data":2}',
        b'{"channel":"demo:a","data":{"a":1,"a":1}}',
        b'{"channel":"demo:a","data":NaN}',
        b'{"channel":"demo:a","data":-Infinity}',
        b'{"channel":"demo:a","data":1e999}',
        b'{"channel":"demo:a","data":9007199254740992}',
        b'{"channel":"demo:a","data":-9007199254740992}',
        b'{"channel":"demo:a","data":' + b"9" * 5000 + b"}",
        b'{"channel":"demo:a","data":"\\ud800"}',
        b'{"channel":"demo:a","data":{"\\udfff":1}}',
        b'{"channel":"\\ud800","data":1}',
        b'{"channel":"demo:a","data":1,"name":"\\udc00"}',
        b'{"channel":"demo:a","data":"\xff"}',
        b'{"channel":"demo:a","data":"\xed\xa0\x80"}',
        b'\xef\xbb\xbf{"channel":"demo:a","data":1}',
        '{"channel":"demo:a","data":1}'.encode("utf-16"),
        b'{"channel":"demo:a","data":"a\nb"}',
        b'{"channel":"demo:a","data":' + b"[" * 31 + b"]" * 31 + b"}",
        b'{"channel":"demo:a","data":' + b"[" * 200_000 + b"}",
        b'{"a":' * 100_000,
        b'{"channel":"demo:a","data":[' + b"[]," * MAX_ITEMS + b"0]}",
        b'{"channel":"demo:a","data":[' + b"0," * 200_000 + b"0]}",
        b'{"x":"' + b'\\"' * 200_000 + b"," * 60_000,
    ],
    ids=lambda raw: repr(raw[:40]),
)
async def test_a_body_that_is_not_plain_json_is_refused(world, raw):
    status, answer = await world.ask("POST", "/api/publish", raw)
    assert (status, answer["error"]["code"]) == (400, "bad_request")
    as_mutation = raw.replace(b'"channel":"demo:a","data":', b'"name":"orders.x","args":')
    for path in ("mutate", "invalidate", "cache/config", "cache/clear", "cache/warm"):
        status, answer = await world.ask("POST", f"/api/{path}", as_mutation)
        assert (status, answer["error"]["code"]) == (400, "bad_request")
    assert world.broadcaster.commands == world.cache_owner.commands == []


@pytest.mark.parametrize(
    "query",
    [
        "collection=orders",
        "collection=%ff&key=a",
        "collection=__proto__&key=a",
        "collection=orders/eu&key=a",
        "collection=orders&key=a&key[]=b",
        "collection=orders&key=a&after=" + "orders=" * 2000,
        "collection=orders&key=a&after=" + "=a:1" * 3000 + ";",
        "collection=orders&" + "&".join(["key=a"] * 1001),
    ],
    ids=lambda query: query[:40],
)
async def test_a_hostile_read_is_refused_within_moments(world, query):
    with trio.fail_after(2):
        response = await world.respond("GET", f"/api/entries?{query}")
    assert response.status_code in (400, 403)


@pytest.mark.parametrize(
    "data",
    [
        9007199254740991,
        -9007199254740991,
        "\U0001f600\x00",
        {"__proto__": {"constructor": 1}},
        -0.0,
        json.loads("[" * 30 + "]" * 30),
        [0] * 900,
    ],
)
async def test_what_is_within_the_bounds_is_taken(world, data):
    assert (await world.ask("POST", "/api/publish", {"channel": "demo:a", "data": data}))[0] == 200


async def test_commas_within_strings_are_no_values(world):
    body = {"channel": "demo:a", "data": "," * 60_000}
    assert (await world.ask("POST", "/api/publish", body))[1]["error"]["code"] == "too_large"


async def test_a_body_above_a_mebibyte_is_too_large(world):
    body = {"channel": "demo:a", "data": "x" * 1_048_576}
    status, answer = await world.ask("POST", "/api/publish", body)
    assert (status, answer["error"]["code"]) == (413, "too_large")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("$ab", max_size=7), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(JSON, st.booleans())
@settings(max_examples=200)
def test_whatever_json_can_say_within_bounds_is_read_as_said(value, ascii_only):
    raw = json.dumps({"data": value}, ensure_ascii=ascii_only).encode()
    assert parse_object(raw)["data"] == value


@given(st.binary(max_size=200) | st.text(alphabet='{}[],:"\\u0dD8e+-.19nulltrue ').map(str.encode))
@settings(max_examples=300)
def test_no_bytes_raise_anything_but_a_refusal(raw):
    code = "bad_request"
    try:
        encode_data(parse_object(raw))
    except RequestRejected as refusal:
        code = refusal.code.value
    assert code == "bad_request"


def unescape(value):
    """What a reader of `$base64`, `$float` and `$escape` does; written apart from the encoder."""
    if isinstance(value, list):
        return [unescape(item) for item in value]
    if not isinstance(value, dict):
        return value
    if list(value) == ["$escape"]:
        return {key: unescape(item) for key, item in value["$escape"].items()}
    if list(value) == ["$base64"]:
        return base64.b64decode(value["$base64"])
    if list(value) == ["$float"]:
        return float(value["$float"])
    return {key: unescape(item) for key, item in value.items()}


NAMES = st.sampled_from(["$base64", "$float", "$escape", "a", ""])
VALUES = st.recursive(
    st.none()
    | st.integers(-5, 5)
    | st.binary(max_size=5)
    | st.sampled_from([float("inf"), -float("inf"), 0.5])
    | NAMES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=2),
    max_leaves=12,
)


@given(VALUES)
@settings(max_examples=300)
def test_what_json_cannot_hold_is_told_without_ambiguity(value):
    shown = json.loads(json.dumps(jsonable(value), allow_nan=False))
    assert unescape(shown) == value


@given(st.text(max_size=20))
def test_a_number_in_a_query_is_ascii_digits_within_its_bound(text):
    try:
        value = query_uint({"n": text}, "n", default=0, maximum=1000)
    except RequestRejected:
        assert not (text.isascii() and text.isdigit()) or int(text) > 1000
    else:
        assert 0 <= value <= 1000
