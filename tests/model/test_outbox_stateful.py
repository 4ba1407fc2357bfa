"""The outbox under random use, beside a plain list: what the wire carries is what survived, in order, byte for byte."""

import attrs
import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from syncd.model.outbox import Outbox
from tests.examples import examples

pytestmark = pytest.mark.unmeasured

CHANNELS = st.sampled_from(["a", "b", "c"])
KEYS = st.sampled_from([None, "x", "y"])
SIZES = st.integers(1, 12)
STREAM = "c"
"""Its events never conflate."""


@attrs.define(eq=False)
class Entry:
    frame: bytes
    channel: str | None = None
    key: str | None = None
    is_presence: bool = False
    num_sent: int = 0
    is_newest: bool = False
    """Of its key, and nothing newer was tried since."""


class OutboxMachine(RuleBasedStateMachine):
    """`entries` is the model: what is still to be sent. `wire` is what the socket took."""

    @initialize(budget=st.integers(10, 60), torso=st.none() | st.tuples(SIZES, st.integers(0, 11)))
    def start(self, budget, torso):
        self.outbox = Outbox(budget)
        self.budget = budget
        self.entries = []
        self.expected = b""
        self.wire = b""
        self.num_frames = 0
        self.num_conflated = 0
        if torso is not None:
            frame = self.frame_of(torso[0])
            sent = min(torso[1], len(frame) - 1)
            self.outbox.push_torso(frame, sent)
            self.entries.append(Entry(frame, num_sent=sent))

    def frame_of(self, size):
        """A frame unlike all others."""
        self.num_frames += 1
        return bytes([self.num_frames % 256]) * size

    def size(self):
        return sum(len(entry.frame) - entry.num_sent for entry in self.entries)

    # ------------------------------------------------------------------ in

    @rule(size=SIZES, channel=st.none() | CHANNELS)
    def push(self, size, channel):
        """A reply, behind which nothing moves that was before it, or what a subscriber missed."""
        frame = self.frame_of(size)
        self.outbox.push(frame, channel)
        if channel is None:
            for entry in self.entries:
                entry.is_newest = False
        self.entries.append(Entry(frame, channel))

    @rule(channel=CHANNELS, key=KEYS, size=SIZES)
    def push_event(self, channel, key, size):
        frame = self.frame_of(size)
        is_conflatable = channel != STREAM
        older = []
        if key is not None and self.size() * 2 > self.budget:
            older = [entry for entry in self.same(channel, key) if not entry.num_sent]
        if is_conflatable:
            assert self.outbox.supersedes(channel, key) == bool(older)
        is_taken = self.size() - sum(len(entry.frame) for entry in older) + size <= self.budget
        if is_taken:
            for entry in older:
                self.entries.remove(entry)
                self.num_conflated += 1
            for entry in self.same(channel, key):
                entry.is_newest = False
            is_newest = is_conflatable and key is not None
            self.entries.append(Entry(frame, channel, key, is_newest=is_newest))
        pushed = self.outbox.push_event(channel, key, frame, conflatable=is_conflatable)
        assert pushed == is_taken

    def same(self, channel, key):
        return [e for e in self.entries if (e.channel, e.key) == (channel, key) and e.is_newest]

    @rule(channel=CHANNELS, size=SIZES)
    def push_presence(self, channel, size):
        frame = self.frame_of(size)
        waiting = sum(len(entry.frame) for entry in self.entries if entry.is_presence)
        is_taken = not waiting or waiting + size <= self.budget / 4
        if is_taken:
            self.entries.append(Entry(frame, channel, is_presence=True))
        assert self.outbox.push_presence(channel, frame) == is_taken

    # ------------------------------------------------------------------ out

    @rule(channel=CHANNELS)
    def drop_channel(self, channel):
        self.outbox.drop_channel(channel)
        self.entries = [e for e in self.entries if e.channel != channel or e.num_sent]
        assert channel not in self.outbox.conflated

    @precondition(lambda self: self.entries)
    @rule(max_bytes=st.integers(1, 40), taken=st.integers(0, 60))
    def send(self, max_bytes, taken):
        """The socket takes some of what it is offered."""
        rest = b"".join(entry.frame[entry.num_sent :] for entry in self.entries)
        offered = self.outbox.peek(max_bytes)
        assert rest.startswith(offered)
        assert len(offered) >= min(max_bytes, len(rest))
        taken = min(taken, len(offered))
        self.outbox.consume(taken)
        self.wire += offered[:taken]
        self.forget(taken)

    @precondition(lambda self: self.entries)
    @rule(max_bytes=st.integers(1, 40))
    def seal(self, max_bytes):
        """A task carries the next bytes away: until it has, they may not change."""
        rest = b"".join(entry.frame[entry.num_sent :] for entry in self.entries)
        sealed = self.outbox.seal(max_bytes)
        assert rest.startswith(sealed)
        assert len(sealed) >= min(max_bytes, len(rest))
        size = len(sealed)
        while size:
            entry = self.entries.pop(0)
            size -= len(entry.frame) - entry.num_sent
        self.entries.insert(0, Entry(sealed))

    def forget(self, num_bytes):
        while num_bytes:
            entry = self.entries[0]
            step = min(num_bytes, len(entry.frame) - entry.num_sent)
            self.expected += entry.frame[entry.num_sent : entry.num_sent + step]
            entry.num_sent += step
            num_bytes -= step
            if entry.num_sent == len(entry.frame):
                self.entries.pop(0)

    # ------------------------------------------------------------------ always

    @invariant()
    def every_byte_is_accounted_for(self):
        assert self.outbox.size_bytes == self.size()
        assert bool(self.outbox) == bool(self.entries)
        presence = sum(len(entry.frame) for entry in self.entries if entry.is_presence)
        assert self.outbox.presence_bytes == presence
        assert self.outbox.num_conflated == self.num_conflated

    @invariant()
    def the_wire_carries_what_survived(self):
        assert self.wire == self.expected

    def teardown(self):
        if not hasattr(self, "outbox"):
            return
        rest = b"".join(entry.frame[entry.num_sent :] for entry in self.entries)
        got = b""
        while self.outbox:
            chunk = self.outbox.peek(1)[:3]
            self.outbox.consume(len(chunk))
            got += chunk
        assert got == rest
        assert self.outbox.size_bytes == self.outbox.presence_bytes == 0
        assert not self.outbox._by_key, "nothing is remembered of what is gone"


OutboxMachine.TestCase.settings = settings(max_examples=examples(80), stateful_step_count=40)
test_the_outbox_under_random_use = OutboxMachine.TestCase
