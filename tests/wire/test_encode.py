"""Every fast encoder writes byte for byte what the plain one writes for the same body."""

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.codes import ErrorCode
from syncd.errors import RequestRejected, SyncdError
from syncd.wire import encode
from syncd.wire.encode import EventPrefix

_uints = st.one_of(
    st.integers(0, 2**53 - 1),
    *(st.integers(2**bits - 2, 2**bits + 2) for bits in (7, 8, 16, 32, 53)),
)
_offsets = _uints.filter(lambda value: value >= 1)
_texts = st.text(st.characters(codec="utf-8"), max_size=40)
_epochs = st.text("0123456789abcdef", min_size=16, max_size=16)
_channels = st.text("abcdef:/", min_size=3, max_size=255)
_data = st.recursive(
    st.none() | st.booleans() | _uints | st.floats(allow_nan=False) | _texts | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_texts, inner, max_size=4),
    max_leaves=8,
)


@st.composite
def _records(draw):
    """A record's bytes and the pairs it stands for."""
    data, at_ms = draw(_data), draw(_uints)
    name, key, client = (draw(st.none() | _texts) for _ in range(3))
    record = encode.event_record(encode.pack(data), at_ms, name=name, key=key, client=client)
    pairs = {"data": data, "at_ms": at_ms}
    pairs |= {} if name is None else {"name": name}
    pairs |= {} if key is None else {"key": key}
    pairs |= {} if client is None else {"by": {"client": client}}
    return record, pairs


@st.composite
def _events(draw):
    """(prefix, offset, record, body) of one event of any kind of channel."""
    channel, offset = draw(_channels), draw(_offsets)
    epoch, has_prev = draw(st.none() | _epochs), draw(st.booleans())
    record, pairs = draw(_records())
    body = {"channel": channel}
    if epoch is not None:
        body["epoch"] = epoch
        if has_prev:
            body["prev"] = offset - 1
        body["offset"] = offset
    return EventPrefix(channel, epoch, has_prev=has_prev), offset, record, body | pairs


@given(st.integers(0, 2**64 - 1) | _uints)
def test_integers_are_written_in_their_shortest_form(value):
    assert encode.pack_uint(value) == msgpack.packb(value)


@given(_events())
def test_an_event_is_spliced_as_it_would_be_packed(event):
    prefix, offset, record, body = event
    assert encode.event_body(prefix, offset, record) == msgpack.packb(body)
    assert encode.event_message(prefix, offset, record) == encode.message("event", body)


@given(_epochs, st.lists(_uints, min_size=2, max_size=6))
def test_events_of_one_prefix_are_spliced_right_in_whatever_order_they_are_encoded(epoch, offsets):
    prefix = EventPrefix("demo:a", epoch)
    record = encode.event_record(b"\xc0", 5, name=None, key=None, client=None)
    for offset in (step for start in offsets for step in (start + 1, start + 2)):
        body = {"channel": "demo:a", "epoch": epoch, "prev": offset - 1, "offset": offset}
        message = encode.message("event", {**body, "data": None, "at_ms": 5})
        assert encode.event_message(prefix, offset, record) == message


@given(_uints, st.none() | _epochs, _uints)
def test_ok_is_written_as_it_would_be_packed(request_id, epoch, offset):
    body = {"id": request_id}
    if epoch is not None:
        body["position"] = {"epoch": epoch, "offset": offset}
    assert encode.ok(request_id, epoch, offset) == encode.message("ok", body)


@given(_uints, _epochs, _uints, st.lists(_events(), max_size=3), st.integers(1, 30))
def test_lists_of_events_are_written_as_they_would_be_packed(
    request_id, epoch, offset, events, times
):
    bodies = [encode.event_body(*event[:3]) for event in events] * times
    items = [event[3] for event in events] * times
    position = {"epoch": epoch, "offset": offset}
    body = {"id": request_id, "position": position, "events": items}
    assert encode.ok_events(request_id, epoch, offset, bodies) == encode.message("ok", body)


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 65_535, 65_536])
def test_a_list_of_any_length_has_the_right_header(count):
    body = {"id": 1, "position": {"epoch": "e", "offset": 2}, "events": [0] * count}
    assert encode.ok_events(1, "e", 2, [b"\x00"] * count) == encode.message("ok", body)


@given(
    st.none() | _uints,
    _channels,
    st.none() | _epochs,
    _uints,
    st.booleans(),
    st.booleans(),
    st.lists(_events(), max_size=3),
)
def test_subscribed_is_written_as_it_would_be_packed(
    request_id, channel, epoch, offset, was_recovering, recovered, events
):
    body = {} if request_id is None else {"id": request_id}
    body["channel"] = channel
    if epoch is not None:
        body["position"] = {"epoch": epoch, "offset": offset}
    body |= {"was_recovering": was_recovering, "recovered": recovered}
    body["events"] = [event[3] for event in events]
    written = encode.subscribed(
        request_id,
        channel,
        epoch,
        offset,
        was_recovering=was_recovering,
        recovered=recovered,
        bodies=[encode.event_body(*event[:3]) for event in events],
    )
    assert written == encode.message("subscribed", body)


def _read(message):
    return msgpack.unpackb(message, raw=False, strict_map_key=True)


@pytest.mark.parametrize(
    ("failure", "body"),
    [
        (
            SyncdError(ErrorCode.RATE_LIMITED, "wait", after_ms=9),
            {"code": "rate_limited", "message": "wait", "retryable": True, "after_ms": 9},
        ),
        (
            RequestRejected(ErrorCode.BAD_CHANNEL),
            {
                "code": "bad_channel",
                "message": ErrorCode.BAD_CHANNEL.text,
                "retryable": False,
            },
        ),
    ],
    ids=["retryable", "final"],
)
def test_an_error_says_all_it_knows_and_leaves_out_the_rest(failure, body):
    assert _read(encode.error(None, failure)) == ["error", body]
    assert _read(encode.error(0, failure)) == ["error", {"id": 0, **body}]


def test_the_rare_messages_have_the_fields_of_the_protocol(messages_toml):
    position = {"epoch": "e", "offset": 5}
    lagged = encode.lagged("a:b", "e", 5)
    bye = encode.bye(4000, "why", reconnect=True, after_ms=3)
    assert _read(encode.mark("a:b", "e", 5)) == ["mark", {"channel": "a:b", "position": position}]
    assert _read(lagged) == ["lagged", {"channel": "a:b", "position": position}]
    assert _read(encode.lagged("a:b", None, 0)) == ["lagged", {"channel": "a:b"}]
    assert _read(bye)[1] == {"code": 4000, "reason": "why", "reconnect": True, "after_ms": 3}
    for message in (lagged, bye, encode.mark("a:b", "e", 5)):
        kind, body = _read(message)
        assert set(body) <= set(messages_toml["server"][kind])
