"""Frames that the client packs are frames that the server reads to the end."""

import hypothesis.strategies as st
import msgpack
import pytest
from hypothesis import given

from syncd.client.frames import encode, pack_frames
from syncd.wire.codec import BadMessage, decode

CONTENTS = st.sampled_from([0, "x", None, [], {}])
"""The shortest values there are: these are the most that fit into a frame."""


def publish(number, data):
    return encode("publish", {"id": number, "channel": "demo:room", "data": data, "uid": "u"})


@pytest.mark.unmeasured
@given(
    st.lists(st.tuples(CONTENTS, st.integers(0, 4990)), max_size=12),
    st.integers(16_384, 65_536),
)
def test_no_message_is_lost_to_the_values_of_those_before_it(contents, max_bytes):
    messages = [publish(number, [value] * times) for number, (value, times) in enumerate(contents)]
    frames = pack_frames(messages, max_bytes)
    assert b"".join(frames) == b"".join(messages)
    assert all(len(frame) <= max_bytes for frame in frames)
    read = [message for frame in frames for message in decode(frame)]
    assert [message for message in read if isinstance(message, BadMessage)] == []
    assert len(read) == len(messages)


def nested(depth):
    value = 0
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "data", [nested(29), nested(30), [0] * 9_990, [0] * 9_995, {"a": [[]] * 4_900}]
)
def test_what_a_server_reads_is_sent(data):
    (message,) = decode(encode("publish", {"id": 1, "channel": "demo:a", "data": data}))
    assert not isinstance(message, BadMessage)


@pytest.mark.parametrize("data", [nested(31), nested(60), [0] * 9_996, {"a": [[]] * 5_100}])
def test_what_a_server_would_end_the_connection_for_is_refused_before_it_is_sent(data):
    body = {"id": 1, "channel": "demo:a", "data": data}
    (message,) = decode(msgpack.packb(["publish", body]))
    assert isinstance(message, BadMessage)
    with pytest.raises(ValueError, match="at most"):
        encode("publish", body)
