"""Channel names: one spelling each, everything else refused."""

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncd.codes import ErrorCode
from syncd.errors import RequestRejected
from syncd.ids import ChannelName
from syncd.wire.channels import check_channel, is_namespace_name, namespace_of
from tests.examples import examples

GOOD = [
    "demo:room",
    "$node:room",
    "0:x",
    "a_b-c:d",
    "orders:customer/42/items",
    "demo:a..b",
    "demo:...",
    "demo:a:b:c",
    "demo:mail@example.org#tag=1+2~3,4-5_6",
    "n" * 64 + ":x",
    "demo:" + "x" * 250,
]

BAD = {
    "empty": "",
    "no colon": "demo",
    "no name": "demo:",
    "no namespace": ":room",
    "namespace too long": "n" * 65 + ":x",
    "too long": "demo:" + "x" * 251,
    "upper-case namespace": "Demo:room",
    "namespace begins with a dash": "-demo:room",
    "two signs": "$$node:room",
    "a sign alone": "$:room",
    "system name within": "demo:$x",
    "space": "demo:a b",
    "newline at the end": "demo:room\n",
    "NUL": "demo:room\0",
    "NUL within": "demo:ro\0om",
    "wildcard star": "demo:*",
    "wildcard question mark": "demo:room?",
    "brackets": "demo:[a-z]",
    "percent-encoded": "demo:ro%6fm",
    "backslash": "demo:a\\b",
    "parent": "demo:..",
    "parent first": "demo:../other",
    "parent within": "demo:a/../b",
    "parent last": "demo:a/..",
    "Cyrillic look-alike in the name": "demo:r\N{CYRILLIC SMALL LETTER O}om",
    "Cyrillic look-alike in the namespace": "d\N{CYRILLIC SMALL LETTER IE}mo:room",
    "full-width colon": "demo\N{FULLWIDTH COLON}room",
    "full-width digit": "demo:\N{FULLWIDTH DIGIT ONE}",
    "zero-width joiner": "demo:ro\u200dom",
    "right-to-left override": "demo:\u202eroom",
    "half surrogate": "demo:\ud800",
    "tenant prefix trick": "demo:room\x7f",
}


@pytest.mark.parametrize("name", GOOD)
def test_a_well_formed_name_is_taken_as_it_is(name):
    assert check_channel(name) == name


@pytest.mark.parametrize("name", BAD.values(), ids=BAD.keys())
def test_any_other_spelling_is_refused_with_one_code_and_text(name):
    with pytest.raises(RequestRejected) as caught:
        check_channel(name)
    assert caught.value.code is ErrorCode.BAD_CHANNEL
    assert caught.value.message == ErrorCode.BAD_CHANNEL.text


@pytest.mark.unmeasured
@given(st.text(max_size=300))
@settings(max_examples=examples(150))
def test_no_text_raises_anything_but_the_refusal(name):
    try:
        channel = check_channel(name)
    except RequestRejected:
        return
    assert channel.isascii()
    assert is_namespace_name(namespace_of(channel).removeprefix("$"))


@given(st.text(alphabet="ab0_-:/.$* A~", max_size=40))
@settings(max_examples=examples(200))
def test_the_checker_agrees_with_the_rule_written_out(name):
    namespace, colon, rest = name.partition(":")
    expected = (
        colon == ":"
        and re.fullmatch("[$]?[a-z0-9][a-z0-9_-]*", namespace) is not None
        and rest != ""
        and not set(rest) & set("$* ")
        and ".." not in rest.split("/")
    )
    try:
        check_channel(name)
    except RequestRejected:
        assert not expected
    else:
        assert expected


def test_the_longest_hostile_names_cost_no_more_than_one_pass():
    hostile = ["a" * 255, "a:" + "../" * 84 + "..", "a:" + "." * 252 + "!", "a:" + "/" * 252 + "!"]
    started = time.perf_counter()
    for name in hostile * 100:
        with pytest.raises(RequestRejected):
            check_channel(name)
    assert time.perf_counter() - started < 1.0


def test_the_namespace_ends_at_the_first_colon():
    assert namespace_of(check_channel("orders:eu:42")) == "orders"
    assert namespace_of(check_channel("orders:eu/42")) == "orders"


@pytest.mark.parametrize("name", ["orders", "orders/eu", "orders/eu:1", "orders/a/b"])
def test_a_channel_of_a_collection_has_its_name_for_a_namespace_and_clients_cannot_say_it(name):
    assert namespace_of(ChannelName(name)) == "orders"
    with pytest.raises(RequestRejected):
        check_channel(name)
