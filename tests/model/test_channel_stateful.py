"""Channels under random histories, beside a list that remembers everything: no verdict ever claims too much or too little."""

import attrs
import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from syncd.config import HistoryKind, Mode, Namespace
from syncd.ids import ChannelName, Epoch, Position
from syncd.model.channel import Channel, Verdict
from syncd.ports_log import ChannelHead, StoredEvent
from tests.examples import examples

pytestmark = pytest.mark.unmeasured

NAME = ChannelName("a:b")
EPOCH = Epoch("0123456789abcdef")
KEYS = st.sampled_from([None, "a", "b", "c", "d"])


@attrs.define
class Model:
    """All events ever, which of them are kept, and the newest one that was thrown away for want of room or age."""

    is_latest: bool
    max_events: int
    max_bytes: int
    ever: list = attrs.field(factory=list)
    kept: list = attrs.field(factory=list)
    lost: int = 0

    def add(self, event):
        self.ever.append(event)
        if self.is_latest:
            self.kept = [other for other in self.kept if other.key != event.key]
        self.kept.append(event)
        while self.kept and (
            len(self.kept) > self.max_events
            or sum(len(event.record) for event in self.kept) > self.max_bytes
        ):
            self.lose()

    def lose(self):
        self.lost = self.kept.pop(0).offset

    def expire(self, before_ms):
        while self.kept and self.kept[0].at_ms < before_ms:
            self.lose()

    def missed_at(self, offset):
        """What a subscriber at `offset` must be sent to know everything."""
        missed = [event for event in self.ever if event.offset > offset]
        if not self.is_latest:
            return missed
        newest = {event.key: event for event in missed}
        return sorted(newest.values(), key=lambda event: event.offset)


class ChannelMachine(RuleBasedStateMachine):
    """One channel of any kind; durable ones can be loaded anew from the model, as after a restart."""

    @initialize(
        mode=st.sampled_from([Mode.STREAM, Mode.LATEST]),
        history=st.sampled_from(list(HistoryKind)),
        size=st.integers(1, 6),
        max_bytes=st.integers(12, 60),
    )
    def start(self, mode, history, size, max_bytes):
        self.namespace = Namespace("a", mode, history, history_size=size)
        self.max_bytes = max_bytes
        self.channel = Channel(NAME, self.namespace, EPOCH)
        self.channel._max_bytes = max_bytes
        self.model = Model(
            mode is Mode.LATEST, 0 if history is HistoryKind.NONE else size, max_bytes
        )
        self.now_ms = 0

    @rule(key=KEYS, size=st.integers(0, 12), wait_ms=st.integers(0, 3))
    def append(self, key, size, wait_ms):
        self.now_ms += wait_ms
        event = self.channel.append(bytes(size), self.now_ms, key)
        assert event.offset == len(self.model.ever) + 1
        self.model.add(event)

    @rule(key=KEYS)
    def adopt(self, key):
        event = StoredEvent(self.channel.top + 1, self.now_ms, key, b"x")
        self.channel.adopt(event)
        self.model.add(event)

    @rule(age_ms=st.integers(0, 8))
    def expire(self, age_ms):
        self.channel.expire(self.now_ms - age_ms)
        self.model.expire(self.now_ms - age_ms)

    @rule(tail=st.integers(0, 6))
    def load_anew(self, tail):
        """A restart: the store hands over its newest events."""
        if self.namespace.history is not HistoryKind.DURABLE:
            return
        model = self.model
        if model.is_latest:
            head, events = ChannelHead(EPOCH, self.channel.top, model.lost), model.kept
        else:
            events = model.kept[len(model.kept) - min(tail, len(model.kept)) :]
            head = ChannelHead(EPOCH, self.channel.top, 0)
            model.kept = list(events)
            model.lost = events[0].offset - 1 if events else self.channel.top
        self.channel = Channel(NAME, self.namespace, Epoch("placeholder"))
        self.channel._max_bytes = self.max_bytes
        self.channel.load(head, events)

    @rule(epoch=st.sampled_from([EPOCH, "other"]), ahead=st.integers(1, 3))
    def positions_of_nowhere_are_lost(self, epoch, ahead):
        position = Position(epoch, self.channel.top + (ahead if epoch == EPOCH else 0))
        assert self.channel.recover(position).verdict is Verdict.LOST

    @invariant()
    def every_verdict_is_honest(self):
        for offset in range(self.channel.top + 1):
            recovery = self.channel.recover(Position(EPOCH, offset))
            if offset >= self.model.lost:
                assert recovery.verdict is Verdict.RECOVERED
                assert list(recovery.events) == self.model.missed_at(offset)
            elif self.namespace.history is HistoryKind.DURABLE and not self.model.is_latest:
                assert recovery.verdict is Verdict.IN_STORE
                assert not recovery.events
            else:
                assert recovery.verdict is Verdict.LOST
                assert not recovery.events

    @invariant()
    def what_is_kept_is_bounded_counted_and_in_order(self):
        channel, model = self.channel, self.model
        kept = channel.after(0)
        assert kept == model.kept
        assert channel.top == len(model.ever)
        assert channel.size_bytes == sum(len(event.record) for event in kept) <= self.max_bytes
        assert len(kept) <= self.namespace.history_size
        assert channel.is_empty() == (not kept)
        assert channel.state() == (model.kept if model.is_latest else [])


ChannelMachine.TestCase.settings = settings(max_examples=examples(60), stateful_step_count=30)
test_channels_under_random_histories = ChannelMachine.TestCase
