"""Which Origin and Host may ask; attack cases A1, A2, A12 and DNS rebinding."""

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from syncd.errors import ConfigError
from syncd.wire.handshake import (
    HeadRejected,
    HostPolicy,
    OriginPolicy,
    check_host,
    check_origin,
    parse_head,
)

APP = ("https://app.example.com",)


def head_of(host=b"syncd.example.com", *lines):
    raw = b"\r\n".join((b"GET /ws HTTP/1.1", b"Host: " + host, *lines)) + b"\r\n\r\n"
    return parse_head(raw, 16_384)


def admits_origin(origin, origins=(), host=b"syncd.example.com"):
    try:
        check_origin(head_of(host, b"Origin: " + origin), origins)
    except HeadRejected as rejected:
        return rejected.status != 403
    return True


def admits_host(host, hosts=(), loopback_only=True):
    try:
        check_host(head_of(host), hosts, loopback_only=loopback_only)
    except HeadRejected as rejected:
        return rejected.status != 403
    return True


# ------------------------------------------------------------------------------------------------ Origin


def test_no_origin_is_no_browser_and_passes():
    check_origin(head_of(), ())
    check_origin(head_of(), APP)


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        (b"localhost:8400", b"http://localhost:8400"),
        (b"example.com", b"http://example.com"),
        (b"example.com", b"https://example.com"),
        (b"example.com:443", b"https://example.com"),
        (b"example.com:80", b"http://example.com"),
        (b"EXAMPLE.com", b"https://example.com"),
        (b"[::1]:8400", b"http://[::1]:8400"),
        (b"[::1]", b"http://[::1]"),
    ],
)
def test_a_page_of_the_same_host_passes(host, origin):
    assert admits_origin(origin, (), host)
    assert admits_origin(origin, APP, host)


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        (b"localhost:8400", b"http://localhost"),
        (b"localhost:8400", b"http://localhost:8401"),
        (b"localhost:8400", b"http://127.0.0.1:8400"),
        (b"example.com:80", b"https://example.com"),
        (b"example.com", b"ftp://example.com"),
        (b"example.com", b"chrome-extension://example.com"),
        (b"example.com", b"http://www.example.com"),
        (b"[::1]:8400", b"http://[::2]:8400"),
        (b"localhost:8400", b"null"),
    ],
)
def test_a_page_of_another_host_port_or_scheme_does_not(host, origin):
    assert not admits_origin(origin, (), host)


@pytest.mark.parametrize(
    "origin",
    [
        b"https://evil.com",
        b"null",
        b"",
        b"https://app.example.com.evil.io",
        b"https://evilapp.example.com",
        b"https://app.example.com@evil.io",
        b"https://user@app.example.com",
        b"https://user:pw@app.example.com",
        b"HTTPS://APP.EXAMPLE.COM",
        b"https://APP.example.com",
        b"https://app.example.com:444",
        b"https://app.example.com:",
        b"http://app.example.com",
        b"https://app.example.com/",
        b"https://app.example.com?x",
        b"https://app.example.com#x",
        b"https://app.example.com, https://evil.com",
        b"https://app.example.com https://evil.com",
        b"https://app.example.com\\evil.io",
        b"https://app.example.com%00.evil.io",
        b"https://app.example.com.",
        b"https://app.ex\xc3\xa4mple.com",
        b"//app.example.com",
        b"app.example.com",
        b"https:app.example.com",
        b"*",
        b"https://*",
    ],
)
def test_tricks_with_origins_are_refused(origin):  # A1, A2
    assert not admits_origin(origin, APP)
    assert not admits_origin(origin, ())


def test_two_origins_are_refused():
    head = head_of(b"h", b"Origin: https://app.example.com", b"Origin: https://app.example.com")
    with pytest.raises(HeadRejected):
        check_origin(head, APP)


@pytest.mark.parametrize(
    ("configured", "origin"),
    [
        ("https://app.example.com", b"https://app.example.com"),
        ("https://app.example.com", b"https://app.example.com:443"),
        ("https://app.example.com:443", b"https://app.example.com"),
        ("HTTPS://App.Example.com", b"https://app.example.com"),
        ("http://localhost:3000", b"http://localhost:3000"),
        ("http://[::1]:3000", b"http://[::1]:3000"),
        ("tauri://localhost", b"tauri://localhost"),
        ("chrome-extension://abcdef", b"chrome-extension://abcdef"),
        ("https://*.example.com", b"https://a.example.com"),
        ("https://*.example.com", b"https://a.b.example.com"),
        ("https://*.example.com:8443", b"https://a.example.com:8443"),
        ("*", b"https://anything.at:1"),
        ("*", b"null"),
    ],
)
def test_configured_origins_pass(configured, origin):
    assert admits_origin(origin, ("https://other.org", configured))


@pytest.mark.parametrize(
    "origin",
    [
        b"https://example.com",
        b"https://evilexample.com",
        b"https://.example.com",
        b"https://a.example.com.evil.io",
        b"http://a.example.com",
        b"https://a.example.com:8443",
        b"https://evil.io/.example.com",
        b"https://evil.io#.example.com",
        b"https://a@.example.com",
    ],
)
def test_a_pattern_matches_whole_labels_below_its_host_only(origin):
    assert not admits_origin(origin, ("https://*.example.com",))


@given(
    st.integers(0, 23),
    st.integers(0, 23),
    st.binary(max_size=12).map(lambda noise: noise.translate(None, bytes((*range(32), 127)))),
)
def test_no_origin_passes_but_the_configured_one(start, stop, noise):
    allowed = b"https://app.example.com"
    origin = (allowed[:start] + noise + allowed[stop:]).strip(b" ")
    assume(not re.fullmatch(re.escape(allowed) + rb"(:0*443)?", origin))
    assert not admits_origin(origin, APP)


@pytest.mark.parametrize(
    "bad",
    ["", "example.com", "https://", "https://a/", "https://a/b", "https://*", "https://a.*.b", "https://*.*.b",
     "https://u@a", "null", "https://a:b", "https://*a.b"],
)  # fmt: skip
def test_a_configured_origin_that_could_never_match_is_an_error(bad):
    with pytest.raises(ConfigError, match="origins"):
        OriginPolicy((bad,))


# ------------------------------------------------------------------------------------------------ Host

LOOPBACK = [
    b"localhost", b"localhost:8400", b"LocalHost", b"localhost.", b"app.localhost", b"127.0.0.1", b"127.0.0.1:8400",
    b"127.255.0.9", b"[::1]", b"[::1]:8400",
]  # fmt: skip
FOREIGN = [
    b"evil.com", b"localhost.evil.com", b"evillocalhost", b"127.0.0.1.evil.com", b"127.0.0.1.nip.io:8400", b"128.0.0.1",
    b"192.168.0.1", b"[::2]", b"[::1:1]", b"127.0.0", b"127.evil.com", b"0.0.0.0",
]  # fmt: skip


@pytest.mark.parametrize("host", LOOPBACK)
def test_loopback_names_are_always_answered(host):
    assert admits_host(host)
    assert admits_host(host, ("syncd.example.com",), loopback_only=False)


@pytest.mark.parametrize("host", FOREIGN)
def test_a_loopback_listener_answers_to_no_other_name(host):  # DNS rebinding
    assert not admits_host(host)
    assert not admits_host(host, ("syncd.example.com",))
    assert not admits_host(host, ("syncd.example.com",), loopback_only=False)


@pytest.mark.parametrize("host", FOREIGN)
def test_without_a_list_another_listener_answers_to_all(host):
    assert admits_host(host, (), loopback_only=False)
    assert admits_host(host, ("*",))


@pytest.mark.parametrize(
    ("configured", "host", "is_admitted"),
    [
        ("syncd.example.com", b"syncd.example.com", True),
        ("syncd.example.com", b"Syncd.Example.com:8400", True),
        ("Syncd.Example.com", b"syncd.example.com.", True),
        ("syncd.example.com:8400", b"syncd.example.com:8400", True),
        ("syncd.example.com:8400", b"syncd.example.com", False),
        ("syncd.example.com:8400", b"syncd.example.com:8401", False),
        ("syncd.example.com", b"syncd.example.com.evil.io", False),
        ("syncd.example.com", b"a.syncd.example.com", False),
        ("*.example.com", b"a.example.com", True),
        ("*.example.com", b"a.b.example.com:1", True),
        ("*.example.com:1", b"a.example.com:1", True),
        ("*.example.com:1", b"a.example.com:2", False),
        ("*.example.com", b"example.com", False),
        ("*.example.com", b"evilexample.com", False),
        ("[fe80::1]", b"[fe80::1]:8400", True),
    ],
)
def test_configured_hosts(configured, host, is_admitted):
    assert admits_host(host, (configured,)) is is_admitted


def test_forwarded_headers_change_nothing():  # A12
    spoof = (
        b"X-Forwarded-Host: localhost",
        b"X-Forwarded-For: 127.0.0.1",
        b"Forwarded: host=localhost",
    )
    with pytest.raises(HeadRejected):
        check_host(head_of(b"evil.com", *spoof), (), loopback_only=True)
    with pytest.raises(HeadRejected):
        check_origin(
            head_of(b"localhost", b"X-Forwarded-Host: evil.com", b"Origin: http://evil.com"), ()
        )


@pytest.mark.parametrize("bad", ["", "a/b", "http://a", "*.*.a", "*a", "a b", "a:b"])
def test_a_configured_host_that_could_never_match_is_an_error(bad):
    with pytest.raises(ConfigError, match="hosts"):
        HostPolicy((bad,), loopback_only=True)
