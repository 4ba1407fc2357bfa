"""Durations, sizes and addresses as they may be written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.config import Address
from syncd.config_check import is_loopback
from syncd.config_values import parse_address, parse_duration, parse_size
from syncd.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10 s", 10),
        ("250ms", 0.25),
        ("24h", 86_400),
        ("5 min", 300),
        ("1.5 d", 129_600),
        (0, 0),
        (2.5, 2.5),
    ],
)
def test_durations_are_numbers_of_seconds_or_carry_their_unit(text, seconds):
    assert parse_duration(text, "x") == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [("256 KiB", 262_144), ("1 MB", 1_000_000), ("4096 b", 4096), ("1.5 KiB", 1536), (77, 77)],
)
def test_sizes_are_numbers_of_bytes_or_carry_their_unit(text, size):
    assert parse_size(text, "x") == size


@pytest.mark.parametrize(
    "value",
    [
        "",
        "10",
        "s",
        "-1 s",
        "1e3 s",
        "10 s s",
        "10 weeks",
        "\u0661 s",
        True,
        None,
        -1,
        float("nan"),
        [],
    ],
)
def test_what_is_neither_is_refused_by_name(value):
    with pytest.raises(ConfigError, match=r"timing\.x must be a duration"):
        parse_duration(value, "timing.x")
    with pytest.raises(ConfigError, match=r"limits\.x must be a size"):
        parse_size(value, "limits.x")


def test_a_size_is_whole_bytes():
    with pytest.raises(ConfigError):
        parse_size("0.3 KiB", "x")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8400", Address("127.0.0.1", 8400)),
        ("example.org:0", Address("example.org", 0)),
        ("[::1]:8400", Address("::1", 8400)),
        ("unix:/run/syncd.sock", Address(path="/run/syncd.sock")),
    ],
)
def test_addresses_are_tcp_or_unix(text, address):
    assert parse_address(text, "x") == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "8400",
        ":8400",
        "host",
        "host:",
        "host:http",
        "host:65536",
        "host:-1",
        "unix:",
        "http://h:1",
        8400,
    ],
)
def test_what_is_no_address_is_refused(text):
    with pytest.raises(ConfigError, match="HOST:PORT"):
        parse_address(text, "x")


@given(st.text(max_size=30))
def test_no_text_breaks_the_parsers(text):
    for parse in (parse_duration, parse_size, parse_address):
        try:
            parse(text, "x")
        except ConfigError:
            continue


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (Address("127.0.0.1"), True),
        (Address("127.9.9.9"), True),
        (Address("::1"), True),
        (Address("localhost"), True),
        (Address("0.0.0.0"), False),
        (Address("::"), False),
        (Address("10.0.0.1"), False),
        (Address("localhost.evil.example"), False),
        (Address("0.0.0.0", path="/x"), True),
    ],
)
def test_only_loopback_and_unix_addresses_are_local(address, expected):
    assert is_loopback(address) is expected
