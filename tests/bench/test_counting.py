"""The benchmark's own counting: a figure is worth nothing if a lost or doubled event would pass."""

import contextlib
import gc
import itertools
import os
import socket
import subprocess
import sys

import msgpack
import pytest

from bench.dial import Conn, Track
from bench.load import Load
from bench.process import cpu_s
from bench.report import Row
from bench.wire import DATA_BYTES, Chunk, Mismatch, RawDialect, SyncdDialect, masked, split_frames
from syncd.wire import encode
from syncd.wire.messages import Hello, Publish, Subscribe
from tests.wire.in_full import decode

PREFIX = encode.EventPrefix("mem:0", "0123456789abcdef")
DATA = msgpack.unpackb(b"\xc4\x80" + bytes(8) + bytes(range(64, 184)))


def server_frame(*messages: bytes) -> bytes:
    payload = b"".join(messages)
    return b"\x82\x7e" + len(payload).to_bytes(2, "big") + payload


def event(offset: int, data: bytes = DATA) -> bytes:
    record = encode.event_record(encode.pack(data), 1, name=None, key=None, client="c")
    return encode.event_message(PREFIX, offset, record)


def unmasked(frame: bytes) -> bytes:
    start = 2 if frame[1] & 0x7F < 126 else 4
    key, body = frame[start : start + 4], frame[start + 4 :]
    return bytes(byte ^ key[index % 4] for index, byte in enumerate(body))


@pytest.mark.parametrize("size", [0, 1, 125, 126, 300, 65_535])
def test_a_masked_frame_unmasks_to_its_payload(size):
    payload = bytes(index % 251 for index in range(size))
    frame = masked(payload)
    assert unmasked(frame) == payload
    assert size < 4 or frame[-size:] != payload


def test_what_the_load_generator_says_is_what_the_server_reads():
    dialect = SyncdDialect()
    hello = masked(msgpack.packb(["hello", {"v": 1}]))
    greeting = dialect.greeting("mem:0")
    (first,), (second,) = decode(unmasked(hello)), decode(unmasked(greeting[len(hello) :]))
    (publish,) = decode(unmasked(dialect.publish("mem:0", 7, uid="u")))
    assert isinstance(first, Hello)
    assert isinstance(second, Subscribe)
    assert isinstance(publish, Publish)
    assert (publish.id, publish.uid, len(publish.data)) == (7, "u", DATA_BYTES)


def test_several_messages_in_several_frames_are_one_run():
    chunk = SyncdDialect().decode(server_frame(event(5), event(6)) + server_frame(event(7)))
    assert (chunk.prev, chunk.last) == (4, 7)


def test_a_torn_frame_is_left_for_later():
    data = server_frame(event(1)) + server_frame(event(2))
    for cut in range(len(server_frame(event(1))), len(data)):
        chunk = SyncdDialect().decode(data[:cut])
        assert (chunk.last, chunk.consumed) == (1, len(server_frame(event(1))))
    assert split_frames(data[:1]) == ([], 0)


@pytest.mark.parametrize(
    "messages",
    [
        (event(1), event(1)),
        (event(1), event(3)),
        (event(2), event(1)),
        (event(1, DATA[:-1] + b"\0"),),
        (encode.lagged("mem:0", None, 0),),
    ],
    ids=["doubled", "missing", "swapped", "damaged", "lagged"],
)
def test_what_must_not_arrive_is_noticed(messages):
    with pytest.raises(Mismatch):
        SyncdDialect().decode(server_frame(*messages))


def test_raw_frames_are_counted_as_events():
    dialect = RawDialect(230, is_websocket=True)
    frames = [unmasked(dialect.publish("raw:0", 9)) for _ in range(3)]
    chunk = dialect.decode(b"".join(map(server_frame, frames)))
    assert (chunk.prev, chunk.last) == (0, 3)
    with pytest.raises(Mismatch):
        dialect.decode(server_frame(frames[0]) + server_frame(frames[2]))


def test_each_server_that_is_published_to_owes_an_answer_of_its_own():
    load = Load(SyncdDialect(), 0, os.getpid())
    gc.enable()  # as the load generator, a process of its own, does not
    with contextlib.ExitStack() as stack:
        stack.callback(load._epoll.close)
        pairs = [socket.socketpair() for _ in range(2)]
        for sock in itertools.chain(*pairs):
            stack.callback(sock.close)
        one, other = load._publishers = [Conn(near, None) for near, _ in pairs]
        load._publish(["mem:0", "mem:1"], num_publishers=2)
        load._answered(one, Chunk(oks=[1, 2]))
        load._answered(other, Chunk(oks=[2]))
        with pytest.raises(KeyError):
            load._answered(one, Chunk(oks=[1]))
        assert load._unanswered == {(other.fd, 1)}


def test_a_publication_is_complete_when_the_last_subscriber_has_it():
    track = Track(10)
    track.at[10] = 3
    assert [track.advance(10, 11), track.advance(10, 12), track.advance(11, 12)] == [0, 0, 0]
    assert track.advance(10, 11) == 1
    assert track.advance(11, 12) == 1
    assert track.at == {12: 3}


def test_the_process_clock_of_a_child_counts_its_work():
    code = "x = sum(range(3_000_000)); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        child.stdout.readline()
        used = cpu_s(child.pid)
        assert used > 0.01
        child.communicate(b"\n")


@pytest.mark.parametrize(
    ("value", "is_minimum", "is_met"), [(1.0, False, True), (1.3, False, False), (1.0, True, False)]
)
def test_a_promise_is_judged_in_its_direction(value, is_minimum, is_met):
    assert Row("s", "f", value, "x", 1.2, is_minimum=is_minimum).is_met is is_met
    assert Row("s", "f", value, "x").is_met is None
