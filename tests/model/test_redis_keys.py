"""Names in Redis share one slot and do not meet; what is told over pub/sub is read as it was written, or refused."""

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.errors import ConfigError
from syncd.ids import ChannelName, Epoch
from syncd.store.redis_keys import (
    BusEvent,
    BusMessage,
    RedisNames,
    decode_message,
    encode_message,
)

EVENTS = st.builds(
    BusEvent,
    st.integers(1, 2**53),
    st.integers(0, 2**53),
    st.none() | st.text(),
    st.binary(),
    st.none() | st.binary(),
)


def test_a_channel_is_told_where_its_name_says():
    names = RedisNames("app")
    assert names.bus(ChannelName("orders/a:b")) == "{app}:b:orders/a:b"
    assert names.channel_of("{app}:b:orders/a:b") == "orders/a:b"


@pytest.mark.parametrize("prefix", ["", "a{b", "a}b", "a*", "a b", "a\n"])
def test_a_prefix_that_would_tear_the_hash_tag_or_a_pattern_is_refused(prefix):
    with pytest.raises(ConfigError, match=r"redis\.prefix"):
        RedisNames(prefix)


@given(st.text(), st.lists(EVENTS))
def test_a_message_is_read_as_it_was_written(node, events):
    message = BusMessage(node, Epoch("00ff00ff00ff00ff"), events)
    assert decode_message(encode_message(message)) == message


@given(st.binary().filter(lambda data: data[:1] != b"\x93"))
def test_bytes_of_strangers_are_refused_and_break_nothing(payload):
    with pytest.raises(ValueError, match="not a message"):
        decode_message(payload)


@pytest.mark.parametrize("event", [[1], [1, 2, 3, b"", None], ["1", 2, None, b"", None]])
def test_an_event_of_another_form_is_refused(event):
    with pytest.raises(ValueError, match="not a message"):
        decode_message(msgpack.packb(["n", "e", [event]]))


def test_the_end_of_shared_loads_is_told_by_their_keys_alone():
    message = BusMessage("n1", Epoch("e"), (), ended=["a", "b"])
    assert msgpack.unpackb(encode_message(message)) == ["n1", "e", {"ended": ["a", "b"]}]
    assert decode_message(encode_message(message)) == message


@pytest.mark.parametrize(
    "told", [{}, {"ended": []}, {"ended": [1]}, {"ended": "a"}, {"more": ["a"]}]
)
def test_the_end_of_loads_in_another_form_is_refused(told):
    with pytest.raises(ValueError, match="not a message"):
        decode_message(msgpack.packb(["n", "e", told]))


def test_a_channel_whose_entries_were_all_replaced_is_told_by_its_offset_alone():
    message = BusMessage("n1", Epoch("e"), (), renewed_at=12)
    assert msgpack.unpackb(encode_message(message)) == ["n1", "e", 12]
    assert decode_message(encode_message(message)) == message
