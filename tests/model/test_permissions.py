"""Rules: who may do what, and what patterns in claims mean."""

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncd.config import Action, Namespace
from syncd.errors import ConfigError
from syncd.ids import ChannelName
from syncd.model.permissions import (
    ACTION_BITS,
    MAX_PATTERNS,
    Permissions,
    matches_pattern,
    parse_rule,
)
from syncd.ports import Identity
from tests.examples import examples

ANONYMOUS = Identity()
ANN = Identity(user="ann", roles=frozenset({"editor"}), claims={"channels": ["orders:eu/*"]})
BACKEND = Identity(service="default")


def permissions(*rules):
    return Permissions({"orders": Namespace("orders", allow={Action.SUBSCRIBE: rules})})


def allows(rules, identity, channel="orders:42"):
    return permissions(*rules).allows(identity, Action.SUBSCRIBE, ChannelName(channel))


@pytest.mark.parametrize(
    ("rule", "admitted"),
    [
        ("anyone", {"anonymous", "ann", "backend"}),
        ("authenticated", {"ann"}),
        ("role:editor", {"ann"}),
        ("role:admin", set()),
        ("service", {"backend"}),
        ("owner", set()),
        ("claim", set()),
    ],
)
def test_each_rule_admits_exactly_those_it_names(rule, admitted):
    everybody = {"anonymous": ANONYMOUS, "ann": ANN, "backend": BACKEND}
    assert {name for name, who in everybody.items() if allows([rule], who)} == admitted


def test_any_rule_of_an_action_admits():
    assert allows(["role:admin", "authenticated"], ANN)
    assert not allows([], ANN)


def test_an_action_without_rules_is_for_nobody():
    rules = permissions("anyone")
    assert not rules.allows(ANN, Action.PUBLISH, ChannelName("orders:42"))


def test_an_unknown_namespace_grants_nothing():
    rules = permissions("anyone")
    assert rules.grants(ANN, ChannelName("other:42")) == 0
    assert rules.namespace(ChannelName("other:42")) is None
    assert rules.namespace(ChannelName("orders:42")).name == "orders"


@pytest.mark.parametrize("channel", ["orders:ann", "orders:ann/drafts", "orders:ann/a/b"])
def test_an_owner_has_the_channels_under_their_own_name(channel):
    assert allows(["owner"], ANN, channel)


@pytest.mark.parametrize(
    "channel",
    ["orders:anna", "orders:bob/ann", "orders:ann:x", "orders:ann#1", "orders:/ann", "orders:Ann"],
)
def test_an_owner_has_no_channel_that_only_looks_like_theirs(channel):
    assert not allows(["owner"], ANN, channel)


def test_an_owner_has_the_partition_of_a_collection_under_their_own_name():
    owner = parse_rule("owner")
    assert owner(ANN, ChannelName("orders/ann"))
    assert not any(
        owner(ANN, ChannelName(name)) for name in ("orders/bob", "orders", "orders/:ann")
    )


def test_nobody_anonymous_owns_a_channel_without_a_name_before_the_slash():
    assert not allows(["owner"], ANONYMOUS, "orders:/x")
    assert not allows(["owner"], Identity(user="None"), "orders:/x")


def test_a_claim_admits_by_pattern_and_other_claims_by_name():
    writer = Identity(user="w", claims={"write": ["orders:*"]})
    assert allows(["claim"], ANN, "orders:eu/1")
    assert not allows(["claim"], ANN, "orders:us/1")
    assert allows(["claim:write"], writer)
    assert not allows(["claim"], writer)


@pytest.mark.parametrize(
    "claim", ["orders:**", {"orders:**": 1}, None, 7, [7, None], [["orders:**"]]]
)
def test_a_claim_of_another_shape_admits_nothing(claim):
    assert not allows(["claim"], Identity(user="x", claims={"channels": claim}))


def test_a_claim_with_too_many_patterns_admits_nothing():
    patterns = ["orders:**"] * (MAX_PATTERNS + 1)
    assert not allows(["claim"], Identity(user="x", claims={"channels": patterns}))
    assert allows(["claim"], Identity(user="x", claims={"channels": patterns[1:]}))


def test_grants_are_the_bits_of_what_is_allowed():
    rules = Permissions(
        {
            "n": Namespace(
                "n", allow={Action.SUBSCRIBE: ("anyone",), Action.PUBLISH: ("authenticated",)}
            )
        }
    )
    channel = ChannelName("n:x")
    assert rules.grants(ANONYMOUS, channel) == ACTION_BITS[Action.SUBSCRIBE]
    assert rules.grants(ANN, channel) == (
        ACTION_BITS[Action.SUBSCRIBE] | ACTION_BITS[Action.PUBLISH]
    )
    assert sorted(ACTION_BITS.values()) == [1, 2, 4, 8]


@pytest.mark.parametrize("text", ["", "anyones", "role:", "role", "claim:", "ROLE:x", "role:a b"])
def test_a_rule_that_does_not_exist_is_told_at_start(text):
    with pytest.raises(ConfigError, match="no rule"):
        parse_rule(text)


@pytest.mark.parametrize(
    ("pattern", "channel", "expected"),
    [
        ("orders:42", "orders:42", True),
        ("orders:42", "orders:421", False),
        ("orders:*", "orders:42", True),
        ("orders:*", "orders:42/items", False),
        ("orders:*", "orders:eu:42", False),
        ("*", "orders:42", False),
        ("*:*", "orders:42", True),
        ("orders:*/items", "orders:42/items", True),
        ("orders:a*b*c", "orders:aXbYbZc", True),
        ("orders:a*a", "orders:a", False),
        ("orders:a*a", "orders:aa", True),
        ("orders:**", "orders:42/items/1", True),
        ("orders:**", "orders2:42", False),
        ("orders:u1/**", "orders:u1/a/b", True),
        ("orders:u1/**", "orders:u1", False),
        ("orders:u1/**", "orders:u12/a", False),
        ("orders:u1**", "orders:u1/a", False),
        ("**:x", "orders:x", False),
        ("orders:**/x", "orders:a/x", False),
        ("**", "orders:x/y", True),
        ("", "orders:x", False),
        ("orders:[a-z]", "orders:a", False),
        ("orders:.", "orders:a", False),
    ],
)
def test_what_a_pattern_means(pattern, channel, expected):
    assert matches_pattern(pattern, channel) is expected


def _expression(pattern):
    """The same language by another way: a regular expression (not linear, so only here)."""
    head, tail = (
        (pattern[:-2], "(?s:.*)") if re.search(r"(^|[:/])\*\*\Z", pattern) else (pattern, "")
    )
    if "**" in head:
        return re.compile(r"(?!)")
    return re.compile("[^:/]*".join(map(re.escape, head.split("*"))) + tail)


@given(st.text("ab*:/", max_size=12), st.text("ab:/", max_size=12))
@settings(max_examples=examples(300))
def test_the_matcher_agrees_with_a_regular_expression(pattern, channel):
    expected = _expression(pattern).fullmatch(channel) is not None
    assert matches_pattern(pattern, channel) is expected


@given(st.lists(st.sampled_from(["a", "b", ":", "/"]), min_size=1, max_size=20), st.data())
@settings(max_examples=examples(200))
def test_replacing_a_run_within_a_segment_by_a_star_still_matches(parts, data):
    channel = "".join(parts)
    start = data.draw(st.integers(0, len(channel)))
    end = start
    while end < len(channel) and channel[end] not in ":/":
        end += 1
    end = data.draw(st.integers(start, end))
    assert matches_pattern(channel[:start] + "*" + channel[end:], channel)


def test_hostile_patterns_cost_linear_time():
    channel = "a:" + "a" * 250
    identity = Identity(user="x", claims={"channels": ["a:" + "*a" * 100 + "*b"] * MAX_PATTERNS})
    rules = Permissions({"a": Namespace("a", allow={Action.SUBSCRIBE: ("claim",)})})
    started = time.perf_counter()
    assert not rules.allows(identity, Action.SUBSCRIBE, ChannelName(channel))
    assert time.perf_counter() - started < 0.1
