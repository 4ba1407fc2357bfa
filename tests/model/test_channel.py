"""A channel's tail: what the namespace makes of it, how it takes over from the store, and what it encodes."""

import msgpack
import pytest

from syncd.config import HistoryKind, Mode, Namespace
from syncd.ids import ChannelName, Epoch, Position
from syncd.model import channel as channel_module
from syncd.model.channel import MEMORY_BYTES, TAIL_BYTES, TAIL_EVENTS, Channel, Verdict
from syncd.ports_log import ChannelHead, StoredEvent
from syncd.wire.encode import event_record, pack

EPOCH = Epoch("0123456789abcdef")
NAME = ChannelName("a:b")


def channel(mode=Mode.STREAM, history=HistoryKind.MEMORY, size=5):
    return Channel(NAME, Namespace("a", mode, history, history_size=size), EPOCH)


def stored(*offsets, key=None, record=b"12345678"):
    return [StoredEvent(offset, offset, key, record) for offset in offsets]


def at(offset, epoch=EPOCH):
    return Position(epoch, offset)


def offsets(events):
    return [event.offset for event in events]


@pytest.mark.parametrize("position", [at(3), at(0, "other"), at(2, "other"), at(4)])
def test_a_position_ahead_or_of_another_epoch_is_lost(position):
    c = channel()
    for _ in range(2):
        c.append(b"x", 0, None)
    assert c.recover(position).verdict is Verdict.LOST


def test_a_channel_without_history_keeps_nothing_but_its_position():
    c = channel(history=HistoryKind.NONE)
    for _ in range(3):
        c.append(b"x", 0, None)
    assert c.recover(at(3)).verdict is Verdict.RECOVERED
    assert c.recover(at(2)).verdict is Verdict.LOST
    assert c.is_empty()
    assert c.size_bytes == 0


def test_offsets_that_come_from_the_store_are_dense():
    c = channel(history=HistoryKind.DURABLE)
    c.adopt(*stored(1))
    with pytest.raises(AssertionError, match="dense"):
        c.adopt(*stored(3))
    with pytest.raises(AssertionError, match="dense"):
        c.adopt(*stored(1))


@pytest.mark.parametrize(
    ("mode", "history", "size", "expected"),
    [
        (Mode.STREAM, HistoryKind.MEMORY, 10**6, (10**6, MEMORY_BYTES)),
        (Mode.STREAM, HistoryKind.DURABLE, 10**6, (TAIL_EVENTS, TAIL_BYTES)),
        (Mode.STREAM, HistoryKind.DURABLE, 7, (7, TAIL_BYTES)),
        (Mode.LATEST, HistoryKind.DURABLE, 10**6, (10**6, MEMORY_BYTES)),
        (Mode.LATEST, HistoryKind.MEMORY, 7, (7, MEMORY_BYTES)),
        (Mode.STREAM, HistoryKind.NONE, 7, (0, MEMORY_BYTES)),
    ],
)
def test_what_a_tail_may_hold_follows_from_the_namespace(mode, history, size, expected):
    c = channel(mode, history, size)
    assert (c._max_events, c._max_bytes) == expected


@pytest.mark.parametrize("mode", [Mode.STREAM, Mode.LATEST])
def test_one_channel_cannot_fill_a_node_whatever_it_may_count(mode, monkeypatch):
    monkeypatch.setattr(channel_module, "MEMORY_BYTES", 100)
    c = channel(mode, size=10**9)
    for number in range(50):
        c.append(b"0123456789", 0, str(number))
        assert c.size_bytes <= 100
    assert offsets(c.after(0)) == list(range(41, 51))
    assert c.floor == 40


# ---------------------------------------------------------------------------------------------- loading


def loaded(tail, *, top, floor=0, mode=Mode.STREAM, size=5):
    c = channel(mode, HistoryKind.DURABLE, size)
    c.load(ChannelHead(Epoch("feedfeedfeedfeed"), top, floor), tail)
    return c


@pytest.mark.parametrize(
    ("tail", "top", "floor", "expected"),
    [
        ((), 0, 0, 0),
        ((), 9, 4, 9),  # nothing read although something is kept: all of it is in the store alone
        ((7, 8, 9), 9, 0, 6),
        ((7, 8, 9), 9, 6, 6),
        (range(1, 10), 9, 0, 4),  # more than the tail may hold
    ],
)
def test_a_loaded_stream_vouches_for_exactly_its_tail(tail, top, floor, expected):
    c = loaded(stored(*tail), top=top, floor=floor)
    assert (c.epoch, c.top, c.floor) == ("feedfeedfeedfeed", top, expected)
    assert c.recover(Position(c.epoch, expected)).verdict is Verdict.RECOVERED
    if expected:
        assert c.recover(Position(c.epoch, expected - 1)).verdict is Verdict.IN_STORE


def test_a_loaded_latest_channel_vouches_for_everything_above_the_floor():
    tail = [*stored(2, key="a"), *stored(7, key="b"), *stored(9, key=None)]
    c = loaded(tail, top=9, floor=1, mode=Mode.LATEST)
    assert (c.top, c.floor) == (9, 1)
    assert offsets(c.recover(Position(c.epoch, 1)).events) == [2, 7, 9]
    assert offsets(c.recover(Position(c.epoch, 2)).events) == [7, 9]
    assert c.recover(Position(c.epoch, 0)).verdict is Verdict.LOST, "no store can tell either"


def test_a_latest_channel_that_was_handed_more_keys_than_it_keeps_knows_that_some_are_gone():
    tail = [*stored(2, key="a"), *stored(3, key="b"), *stored(4, key="c")]
    c = loaded(tail, top=4, mode=Mode.LATEST, size=2)
    assert c.floor == 2
    assert offsets(c.state()) == [3, 4]


def test_a_loaded_channel_goes_on_where_the_log_ends():
    c = loaded(stored(3, 4), top=4)
    c.adopt(*stored(5))
    assert offsets(c.after(2)) == [3, 4, 5]


# ---------------------------------------------------------------------------------------------- bodies


@pytest.mark.parametrize(
    ("mode", "extra"), [(Mode.STREAM, {"prev": 0, "offset": 1}), (Mode.LATEST, {"offset": 1})]
)
def test_bodies_carry_the_place_of_the_event_and_prev_where_none_is_skipped(mode, extra):
    c = channel(mode)
    c.append(event_record(pack([1]), 77, name="n", key="k", client=None), 77, "k")
    (body,) = c.bodies(c.after(0))
    assert msgpack.unpackb(body) == {
        "channel": "a:b",
        "epoch": EPOCH,
        **extra,
        "data": [1],
        "at_ms": 77,
        "name": "n",
        "key": "k",
    }


def test_a_loaded_channel_writes_the_epoch_of_the_log_into_its_bodies():
    c = loaded(stored(1, record=event_record(pack(0), 1, name=None, key=None, client=None)), top=1)
    (body,) = c.bodies(c.after(0))
    assert msgpack.unpackb(body)["epoch"] == "feedfeedfeedfeed"
