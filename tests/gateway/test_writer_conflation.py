"""Slow watches of collections: whatever is conflated, a client that applies frames by the rules ends with the newest of every key."""

import random

import pytest

from syncd.ids import ChannelName
from syncd.ports import Run, Watch
from syncd.wire import encode
from syncd.wire.encode import EventPrefix, event_message
from syncd.wire.encode_entries import entry_record
from syncd.wire.merge_patch import apply_patch
from tests.gateway.desk import EPOCH, Desk

NAME = ChannelName("latest:orders")
PREFIX = EventPrefix(NAME, EPOCH, has_prev=False)
KEYS = "abcd"


class Author:
    """Changes entries and makes runs of them, as the broadcaster does."""

    def __init__(self, rng):
        self.rng = rng
        self.top = 0
        self.entries = {}

    def change(self):
        """(key, message, full) of a random change."""
        rng, key = self.rng, self.rng.choice(KEYS)
        self.top += 1
        base, before = self.entries.get(key, (0, None))
        patch = {rng.choice("xyz"): self.top, "pad": "p" * rng.randint(0, 40)}
        full, value = None, patch
        if rng.random() < 0.1:
            value = None
            record = entry_record(key, 1, value=None)
        elif before is not None and rng.random() < 0.8:
            value = apply_patch(before, patch)
            record = entry_record(key, 1, value=b"", patch=encode.pack(patch), base=base)
            full = entry_record(key, 1, value=encode.pack(value))
        else:
            record = entry_record(key, 1, value=encode.pack(value))
        self.entries[key] = (self.top, value)
        message = event_message(PREFIX, self.top, record)
        return key, message, None if full is None else event_message(PREFIX, self.top, full)

    def run(self, keys):
        """A run of what a watch of these keys is told of some changes, or None."""
        changes = [(self.change(), self.top) for _ in range(self.rng.randint(1, 6))]
        kept = [(change, offset) for change, offset in changes if change[0] in keys]
        if not kept:
            return None
        fulls = {index: c[2] for index, (c, _) in enumerate(kept) if c[2] is not None}
        return Run(
            NAME,
            [(key, message) for (key, message, _), _ in kept],
            EPOCH,
            self.top,
            is_conflatable=True,
            fulls=fulls or None,
            offsets=None if len(kept) == len(changes) else [offset for _, offset in kept],
        )


class Reader:
    """A client by the rules of SPEC 17."""

    def __init__(self):
        self.entries = {}
        self.position = 0

    def hear(self, messages):
        for kind, body in messages:
            if kind == "mark":
                assert body["position"]["offset"] >= self.position
                self.position = body["position"]["offset"]
            elif kind == "event":
                self.event(body)

    def event(self, body):
        assert body["offset"] > self.position
        self.position = body["offset"]
        version, before = self.entries.get(body["key"], (0, None))
        data = body["data"]
        if "patch" in data:
            assert data["base"] == version, "a patch on what was never told"
            self.entries[body["key"]] = (body["offset"], apply_patch(before, data["patch"]))
        else:
            self.entries[body["key"]] = (body["offset"], data.get("value"))


def play(seed, keys):
    """Random runs to a socket that takes random parts; returns how much was conflated."""
    rng = random.Random(seed)
    desk, author, reader = Desk(limits={"outbox_bytes": 4000}), Author(rng), Reader()
    client = desk.client()
    subscription = desk.live(client, NAME)
    subscription.watch = Watch(set(keys))
    client.heard()
    for _ in range(150):
        if rng.random() < 0.1:
            client.socket.room = 0
        if (run := author.run(keys)) is not None:
            if desk.hub.writer.deliver([subscription], run):
                raise AssertionError("the budget is for four keys")
            if rng.random() < 0.7:
                desk.hub.writer.flush()
        if client.connection.outbox is not None and rng.random() < 0.12:
            client.drain(rng.choice([1, 50, 700, None]))
    desk.hub.writer.flush()
    while client.connection.outbox is not None:
        client.drain()
    reader.hear(client.heard())
    wanted = {key: entry for key, entry in author.entries.items() if key in keys}
    assert reader.entries == wanted
    if client.desk.hub.writer.num_conflated:
        assert subscription.watch.marked <= author.top
    return desk.hub.writer.num_conflated


@pytest.mark.unmeasured
@pytest.mark.parametrize("keys", ["abcd", "ac"], ids=["whole", "filtered"])
def test_whatever_is_conflated_a_client_ends_with_the_newest_of_every_key(keys):
    assert sum(play(seed, keys) for seed in range(60)) > 100


def test_a_filtered_watch_that_lags_in_a_run_is_at_the_last_event_it_was_told():
    desk = Desk(limits={"outbox_bytes": 2000})
    client = desk.client()
    subscription = desk.live(client, NAME)
    subscription.watch = Watch({"a", "b"})
    client.socket.room = 0
    records = [entry_record(key, 1, value=encode.pack("x" * 700)) for key in "aab"]
    offsets = [3, 5, 6]
    messages = [
        (key, event_message(PREFIX, offset, record))
        for key, offset, record in zip("aab", offsets, records, strict=True)
    ]
    first = Run(NAME, messages[:1], EPOCH, 3, is_conflatable=True)
    assert desk.hub.writer.deliver([subscription], first) == []
    desk.hub.writer.flush()
    run = Run(NAME, messages[1:], EPOCH, 9, is_conflatable=True, offsets=offsets[1:])
    assert desk.hub.writer.deliver([subscription], run) == [subscription]
    client.drain()
    lagged = [body for kind, body in client.heard() if kind == "lagged"]
    assert [body["position"]["offset"] for body in lagged] == [5]
