"""Invalidations in the outbox of a session that is behind: each is told, by itself or by what it was merged into, and in its place."""

import random

import msgpack
import pytest

from syncd.model.outbox import Outbox
from syncd.testing.plain_client import FrameReader
from syncd.wire import encode
from syncd.wire.encode_entries import invalidation_record
from syncd.wire.encode_state import invalidate
from syncd.wire.frames import BINARY, encode_frame

CHANNELS = ("orders", "prices")


def told(channel, offset, **what):
    return invalidate(channel, "e", offset, invalidation_record(1, **what))


def push(outbox, message, channel="orders"):
    return outbox.push_invalidation(channel, message, encode_frame(BINARY, message))


def filled(budget=2000):
    """An outbox past half of its budget by a reply."""
    outbox = Outbox(budget)
    outbox.push(encode_frame(BINARY, encode.message("ok", {"id": 1, "pad": "p" * (budget // 2)})))
    return outbox


def drain(outbox):
    reader, messages = FrameReader(), []
    while outbox:
        chunk = outbox.peek(50)[:50]
        outbox.consume(len(chunk))
        messages += reader.feed(chunk)
    return messages


def test_past_half_of_the_budget_neighbours_become_one_frame_and_a_mark_is_owed():
    outbox = filled()
    assert push(outbox, told("orders", 1, keys=["a"]))
    size = outbox.size_bytes
    for offset in range(2, 500):
        assert push(outbox, told("orders", offset, keys=[f"k{offset % 5}"]))
    assert outbox.size_bytes < size + 60
    assert outbox.conflated == {"orders"}
    assert outbox.num_conflated == 498
    [_, (kind, body)] = drain(outbox)
    assert kind == "invalidate"
    assert body["offset"] == 499
    assert set(body["keys"]) == {"a", "k0", "k1", "k2", "k3", "k4"}


def test_up_to_half_of_the_budget_each_is_told_by_itself():
    outbox = Outbox(2000)
    for offset in (1, 2, 3):
        assert push(outbox, told("orders", offset, keys=["a"]))
    assert [body["offset"] for _, body in drain(outbox)] == [1, 2, 3]
    assert outbox.conflated == set()


def test_a_reply_between_two_keeps_them_apart():
    outbox = filled()
    push(outbox, told("orders", 1, keys=["a"]))
    outbox.push(encode_frame(BINARY, encode.message("outcome", {"mid": 1})))
    push(outbox, told("orders", 2, keys=["b"]))
    kinds = [kind for kind, _ in drain(outbox)]
    assert kinds == ["ok", "invalidate", "outcome", "invalidate"]


def test_what_is_on_its_way_is_not_changed():
    outbox = Outbox(200)
    message = told("orders", 1, keys=["a" * 60])
    assert push(outbox, message)
    outbox.consume(3)
    assert push(outbox, told("orders", 2, keys=["b"]))
    assert outbox.num_conflated == 0
    assert outbox.peek(1) == encode_frame(BINARY, message)[3:]


def test_what_was_dropped_with_its_channel_takes_nothing_in():
    outbox = filled()
    push(outbox, told("orders", 1, keys=["a"]))
    outbox.drop_channel("orders")
    push(outbox, told("orders", 2, keys=["b"]))
    assert [body.get("keys") for _, body in drain(outbox)] == [None, ["b"]]


def test_a_merge_past_the_budget_is_refused_and_changes_nothing():
    outbox = filled(600)
    assert push(outbox, told("orders", 1, keys=["a"]))
    before = outbox.size_bytes
    assert not push(outbox, told("orders", 2, keys=["b" * 255, "c" * 255]))
    assert outbox.size_bytes == before
    assert [body.get("keys") for _, body in drain(outbox)] == [None, ["a"]]


class Play:
    """Random use, with a note of everything that was taken: (turn between replies, channel, offset, what)."""

    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.outbox = Outbox(self.rng.randint(300, 1500))
        self.reader, self.wire, self.taken = FrameReader(), [], []
        self.offset = self.num_replies = 0

    def invalidation(self):
        rng = self.rng
        channel = rng.choice(CHANNELS) if rng.random() < 0.2 else CHANNELS[0]
        names = [f"n{rng.randint(0, 30)}" for _ in range(rng.randint(1, 4))]
        kind = rng.choice(["keys", "keys", "keys", "tags", "all"])
        what = {} if kind == "all" else {kind: names}
        self.offset += 1
        if push(self.outbox, told(channel, self.offset, **what), channel):
            self.taken.append((self.num_replies, channel, self.offset, what))

    def event(self):
        self.offset += 1
        body = {"channel": CHANNELS[0], "offset": self.offset, "key": "k", "data": {"value": 1}}
        frame = encode_frame(BINARY, encode.message("event", body))
        self.outbox.push_event(CHANNELS[0], "k", frame, conflatable=True)

    def reply(self):
        self.num_replies += 1
        frame = encode_frame(BINARY, encode.message("ok", {"id": self.num_replies}))
        self.outbox.push(frame)

    def read(self, max_bytes):
        chunk = self.outbox.peek(max_bytes)[:max_bytes]
        self.outbox.consume(len(chunk))
        self.wire += self.reader.feed(chunk)

    def seal(self):
        """A stream driver takes some away whole."""
        self.read(len(self.outbox.seal(100)))

    def run(self):
        steps = [self.invalidation] * 8 + [self.event] * 2 + [self.reply, self.seal]
        for _ in range(200):
            self.rng.choice(steps)()
            if self.rng.random() < 0.25:
                self.read(self.rng.randint(1, 150))
        while self.outbox:
            self.read(80)


def covers(body, what):
    """Whether a message says all that an invalidation said."""
    if "all" in body:
        return True
    return bool(what) and all(set(names) <= set(body.get(kind, ())) for kind, names in what.items())


@pytest.mark.unmeasured
def test_every_invalidation_is_told_between_the_replies_it_stood_between():
    num_merged = 0
    for seed in range(150):
        play = Play(seed)
        play.run()
        num_merged += play.outbox.num_conflated
        turn, heard, last = 0, [], dict.fromkeys(CHANNELS, 0)
        for kind, body in play.wire:
            if kind == "ok":
                turn += 1
                assert body["id"] == turn
                continue
            assert body["offset"] > last[body["channel"]], "offsets ascend"
            last[body["channel"]] = body["offset"]
            if kind == "invalidate":
                heard.append((turn, body))
        for number, channel, offset, what in play.taken:
            first = next(
                (at, body)
                for at, body in heard
                if body["channel"] == channel and body["offset"] >= offset
            )
            assert first[0] == number, "never across a reply"
            assert covers(first[1], what)
    assert num_merged > 1000


@pytest.mark.parametrize("kind", ["keys", "tags"])
def test_more_names_than_one_message_may_have_become_all(kind):
    outbox = filled(200_000)
    for offset in range(1, 1202):
        assert push(outbox, told("orders", offset, **{kind: [f"n{offset}"]}))
    [_, (_, body)] = drain(outbox)
    assert body["all"] is True
    assert body["offset"] == 1201


def test_merged_frames_are_what_the_wire_carries_byte_for_byte():
    outbox = filled()
    push(outbox, told("orders", 1, tags=["a"]))
    push(outbox, told("orders", 2, tags=["b"]))
    data = outbox.peek(10_000)
    assert len(data) == outbox.size_bytes
    assert msgpack.unpackb(data[-len(told("orders", 2, tags=["a", "b"])) :])[1]["tags"] == [
        "a",
        "b",
    ]
