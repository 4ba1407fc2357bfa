"""Frames that the client packs are frames that the server reads to the end."""

import hypothesis.strategies as st
from hypothesis import given

from syncd.client.frames import encode, pack_frames
from syncd.wire.codec import BadMessage, decode

CONTENTS = st.sampled_from([0, "x", None, [], {}])
"""The shortest values there are: these are the most that fit into a frame."""


def publish(number, data):
    return encode("publish", {"id": number, "channel": "demo:room", "data": data, "uid": "u"})


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
