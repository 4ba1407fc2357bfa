"""What a node says comes out as it went in, and nothing that comes over the bus does more than be refused."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.ids import ChannelName
from syncd.model import peer_messages as m
from syncd.model.peer_codec import MAX_PAYLOAD_BYTES, BadPeerMessage, decode, encode
from syncd.ports_cluster import (
    Claim,
    DisconnectOrder,
    NodeLoad,
    Revoked,
    RevokeOrder,
    UnsubscribeOrder,
    Withdrawal,
)
from syncd.ports_operators import Target

names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)
users = st.none() | names
uints = st.integers(0, 2**53 - 1)
finite = st.floats(-1e12, 1e12)
channels = st.sampled_from([ChannelName("demo:a"), ChannelName("demo:b/c")])
keys = st.tuples(channels, names)
states = st.recursive(st.none() | st.integers(-9, 9) | names, st.lists, max_leaves=4).map(
    msgpack.packb
)
claims = st.builds(Claim, users, states, uints)
targets = st.builds(Target, user=names, session=users, client=users, token_id=users)
loads = st.builds(NodeLoad, names, names, uints, uints, finite, finite, uints)
terms = st.lists(st.tuples(users, names, uints), max_size=3)
revoked = st.builds(Revoked, finite, user=users, token_id=users)
orders = (
    st.builds(DisconnectOrder, targets, st.booleans(), names)
    | st.builds(UnsubscribeOrder, targets, channels)
    | st.builds(RevokeOrder, targets, finite)
)
messages = (
    st.builds(m.Beat, loads, uints, uints, st.none() | st.integers(0, 2**64 - 1))
    | st.dictionaries(keys, claims | st.builds(Withdrawal, uints, st.booleans())).map(m.Changes)
    | st.builds(
        m.Page,
        st.booleans(),
        st.booleans(),
        st.dictionaries(keys, claims, max_size=4),
        st.lists(revoked, max_size=3),
        terms,
    )
    | st.builds(m.Ask, st.none() | st.lists(names, max_size=3))
    | st.builds(m.OrderGiven, uints, orders)
    | st.builds(m.OrderDone, names, uints, uints)
    | st.lists(st.tuples(names, uints), max_size=4).map(m.Taken)
    | terms.map(m.Terms)
    | st.just(m.Leaving())
)


@given(names, uints, messages)
def test_every_message_comes_out_as_it_went_in(node, seq, message):
    assert decode(encode(node, seq, message)) == m.Heard(node, seq, message)


@given(names, uints, messages, st.data())
def test_a_spoiled_message_is_refused_or_another_message_and_never_an_exception(
    node, seq, message, data
):
    payload = bytearray(encode(node, seq, message))
    for _ in range(data.draw(st.integers(1, 3))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    _decoded_or_refused(bytes(payload[: data.draw(st.integers(0, len(payload)))]))
    _decoded_or_refused(bytes(payload))


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | names
    | st.binary(),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(names, inner, max_size=3),
    max_leaves=12,
)
kinds = st.sampled_from(
    ["beat", "presence", "page", "ask", "order", "done", "taken", "terms", "leaving", "other"]
)


@given(st.tuples(names, kinds, uints, values) | values)
def test_any_value_is_refused_or_a_message(value):
    _decoded_or_refused(msgpack.packb(value))


def _decoded_or_refused(payload: bytes) -> None:
    try:
        decode(payload)
    except BadPeerMessage as error:
        assert len(str(error)) < 100  # noqa: PT017 - nothing of what came is repeated


@pytest.mark.parametrize(
    "body",
    [
        [["demo:a", "c", 0, 1, None, b"\xc1"]],  # a state that is no msgpack would reach clients
        [["demo:a", "c", 0, 1, None, b"\x01\x02"]],  # nor may it be two values
        [["demo:a", "c", 0, 2**60, None, b"\xc0"]],  # a stamp after which none could come
        [["nowhere", "c", 0, 1, None, b"\xc0"]],
        [["demo:a", "c", 9, 1, None, b"\xc0"]],
        [["demo:a", "c" * 2000, 0, 1, None, b"\xc0"]],
        [["demo:a", "c"]],
    ],
)
def test_presence_that_would_do_harm_is_refused(body):
    with pytest.raises(BadPeerMessage):
        decode(msgpack.packb(["n", "presence", 1, body]))


def test_an_order_to_nobody_in_particular_is_refused():
    body = [1, "disconnect", [None, None, None, None], False, ""]
    with pytest.raises(BadPeerMessage, match="nobody"):
        decode(msgpack.packb(["n", "order", 1, body]))


def test_what_is_too_large_is_not_looked_at():
    with pytest.raises(BadPeerMessage, match="too large"):
        decode(bytes(MAX_PAYLOAD_BYTES + 1))
