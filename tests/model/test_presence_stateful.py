"""Presence under random announces, leaves, losses, returns, refusals and crashes, against a set computed naively."""

from __future__ import annotations

import math

import attrs
import hypothesis.strategies as st
import msgpack
import pytest
from hypothesis import settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from syncd.errors import RequestRejected
from syncd.ids import ChannelName
from syncd.model.presence_set import PresenceSet, PresenceSettings
from tests.examples import examples

pytestmark = pytest.mark.unmeasured

GRACE_S = 15.0
DIFF_S = 0.1
SETTLE_S = 1.0
MAX_MEMBERS = 3

CHANNELS = [ChannelName("demo:a"), ChannelName("demo:b")]
SOME_CHANNEL = st.sampled_from([*CHANNELS[:1] * 3, *CHANNELS[1:]])
"""Mostly the first, where most of the clients meet."""
CLIENTS = ["c1", "c2", "c3", "c4"]
USERS = [None, "ann", "bob"]
STATES = [msgpack.packb(state) for state in ("idle", "busy", {"x": 1})]

Members = dict[str, dict[str, object]]
"""member -> client -> state"""


@attrs.define(eq=False)
class View:
    """What one watcher makes of one channel's messages."""

    seq: int
    members: Members


@attrs.define(eq=False)
class Session:
    user: str | None
    takes: bool = True
    watched: set[ChannelName] = attrs.field(factory=set)
    views: dict[ChannelName, View] = attrs.field(factory=dict)


@attrs.define(eq=False)
class Seat:
    """One client in one channel, as the oracle has it."""

    member: str
    state: bytes
    session: Session | None
    deadline: float = math.inf


class PresenceMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.config = PresenceSettings(GRACE_S, DIFF_S, MAX_MEMBERS, 100)
        self.presence: PresenceSet[Session] = PresenceSet(self.config)
        self.sessions: list[Session] = []
        self.seats: dict[tuple[ChannelName, str], Seat] = {}
        self.told: dict[tuple[ChannelName, int], Members] = {}
        self.ever: set[tuple[ChannelName, str]] = set()

    # -------------------------------------------------------------------------------- oracle

    def truth(self, channel: ChannelName) -> Members:
        members: Members = {}
        for (name, client), seat in self.seats.items():
            if name == channel and seat.deadline > self.now:
                members.setdefault(seat.member, {})[client] = msgpack.unpackb(seat.state)
        return members

    def forget_expired(self) -> None:
        self.seats = {k: s for k, s in self.seats.items() if s.deadline > self.now}

    # -------------------------------------------------------------------------------- watchers

    def receive(self, session: Session, channel: ChannelName, message: bytes) -> None:
        kind, body = msgpack.unpackb(message)
        assert body["channel"] == channel
        assert channel in session.watched
        if not session.takes:
            session.views.pop(channel, None)
            self.presence.refused(session, channel, self.now)
            return
        if kind == "presence_state":
            view = View(body["seq"], self.read(channel, body["members"]))
            session.views[channel] = view
        else:
            assert kind == "presence_diff"
            view = session.views[channel]
            self.fold(channel, view, body)
            assert view.members == self.truth(channel)
        assert self.told.setdefault((channel, view.seq), dict(view.members)) == view.members

    def fold(self, channel: ChannelName, view: View, body: dict) -> None:
        assert body["seq"] == view.seq + 1
        view.seq += 1
        joins, updates = self.read(channel, body["joins"]), self.read(channel, body["updates"])
        leaves = body["leaves"]
        named = [*joins, *updates, *leaves]
        assert named
        assert len(named) == len(set(named))
        assert not joins.keys() & view.members.keys()
        assert updates.keys() <= view.members.keys()
        assert all(view.members[member] != updates[member] for member in updates)
        for member in leaves:
            del view.members[member]
        view.members |= joins
        view.members |= updates

    def read(self, channel: ChannelName, members: list[dict]) -> Members:
        read: Members = {}
        for member in members:
            assert member["member"] not in read
            assert (channel, member["member"]) in self.ever
            assert member.get("user") in (None, member["member"])
            read[member["member"]] = {s["client"]: s["state"] for s in member["states"]}
            assert len(read[member["member"]]) == len(member["states"]) > 0
        return read

    def advance(self) -> None:
        self.forget_expired()
        reached: set[tuple[int, ChannelName]] = set()
        for delivery in self.presence.advance(self.now):
            for session in delivery.sessions:
                key = (id(session), delivery.channel)
                assert key not in reached
                reached.add(key)
                self.receive(session, delivery.channel, delivery.message)

    def elapse_until(self, end: float) -> None:
        self.advance()
        while (deadline := self.presence.next_deadline()) <= end:
            self.now = max(self.now, deadline)
            self.advance()
        self.now = end

    # -------------------------------------------------------------------------------- rules

    @initialize(users=st.lists(st.sampled_from(USERS), min_size=2, max_size=4))
    def connect_all(self, users: list[str | None]) -> None:
        """Begin with a few watchers of one channel, so that most steps are seen by somebody."""
        for user in users:
            self.sessions.append(Session(user))
            self.presence.watch(self.sessions[-1], CHANNELS[0])
            self.sessions[-1].watched.add(CHANNELS[0])
        self.advance()

    @rule(user=st.sampled_from(USERS))
    def connect(self, user: str | None) -> None:
        if len(self.sessions) < 5:
            self.sessions.append(Session(user))

    @precondition(lambda self: self.sessions)
    @rule(
        data=st.data(),
        channel=SOME_CHANNEL,
        client=st.sampled_from(CLIENTS),
        state=st.sampled_from(STATES),
    )
    def announce(self, data, channel: ChannelName, client: str, state: bytes) -> None:
        session = data.draw(st.sampled_from(self.sessions))
        member = client if session.user is None else session.user
        here = self.truth(channel)
        is_full = member not in here and len(here) >= MAX_MEMBERS
        try:
            self.presence.announce(session, channel, client, session.user, state, self.now)
        except RequestRejected:
            assert is_full
            return
        assert not is_full
        self.ever.add((channel, member))
        self.seats[channel, client] = Seat(member, state, session)

    @precondition(lambda self: self.sessions)
    @rule(
        data=st.data(),
        channel=SOME_CHANNEL,
        client=st.sampled_from(CLIENTS),
        is_own_only=st.booleans(),
    )
    def leave(self, data, channel: ChannelName, client: str, is_own_only: bool) -> None:
        session = data.draw(st.sampled_from(self.sessions))
        seat = self.seats.get((channel, client))
        self.presence.leave(session, channel, client, self.now, is_own_only=is_own_only)
        if seat is not None and (seat.session is session or not is_own_only):
            del self.seats[channel, client]

    @precondition(lambda self: self.sessions)
    @rule(data=st.data())
    def disconnect(self, data) -> None:
        session = data.draw(st.sampled_from(self.sessions))
        self.sessions.remove(session)
        session.watched.clear()
        self.presence.session_gone(session, self.now)
        for seat in self.seats.values():
            if seat.session is session:
                seat.session = None
                seat.deadline = self.now + GRACE_S

    @precondition(lambda self: self.sessions)
    @rule(data=st.data(), channel=SOME_CHANNEL)
    def watch(self, data, channel: ChannelName) -> None:
        session = data.draw(st.sampled_from(self.sessions))
        self.presence.watch(session, channel)
        session.watched.add(channel)
        session.views.pop(channel, None)

    @precondition(lambda self: self.sessions)
    @rule(data=st.data(), channel=SOME_CHANNEL)
    def unwatch(self, data, channel: ChannelName) -> None:
        session = data.draw(st.sampled_from(self.sessions))
        self.presence.unwatch(session, channel)
        session.watched.discard(channel)
        session.views.pop(channel, None)

    @precondition(lambda self: self.sessions)
    @rule(data=st.data())
    def stall_or_drain(self, data) -> None:
        session = data.draw(st.sampled_from(self.sessions))
        session.takes = not session.takes

    @rule()
    def serve(self) -> None:
        self.advance()

    @rule(delay_s=st.sampled_from([0.02, 0.1, 0.11, 1.0, 7.0, 14.7, 15.0, 15.2]))
    def elapse(self, delay_s: float) -> None:
        self.elapse_until(self.now + delay_s)

    @rule()
    def crash(self) -> None:
        first_seq = self.presence.top_seq + 1
        self.presence = PresenceSet(
            self.config, first_seq=first_seq, settle_until=self.now + SETTLE_S
        )
        self.seats = {k: s for k, s in self.seats.items() if s.session is not None}
        for (channel, client), seat in self.seats.items():
            user = None if seat.member == client else seat.member
            self.presence.announce(seat.session, channel, client, user, seat.state, self.now)
        for session in self.sessions:
            for channel in session.watched:
                session.views.pop(channel, None)
                self.presence.watch(session, channel)

    @rule()
    def quiesce(self) -> None:
        for session in self.sessions:
            session.takes = True
        self.elapse_until(self.now + 2 * SETTLE_S)
        while self.presence.next_deadline() <= self.now + DIFF_S:
            self.elapse_until(
                self.now + DIFF_S
            )  # a grace ended just now: its leave is being gathered
        for session in self.sessions:
            assert session.views.keys() == session.watched
            for channel, view in session.views.items():
                assert view.members == self.truth(channel)

    # -------------------------------------------------------------------------------- always

    @invariant()
    def queries_tell_the_truth(self) -> None:
        for channel in CHANNELS:
            assert self.read(channel, self.presence.members(channel)) == self.truth(channel)

    @invariant()
    def counts_are_true_and_idle_channels_are_freed(self) -> None:
        truths = {channel: self.truth(channel) for channel in CHANNELS}
        watched = [channel for session in self.sessions for channel in session.watched]
        assert self.presence.num_members == sum(map(len, truths.values()))
        assert self.presence.num_watchers == len(watched)
        used = {channel for channel in CHANNELS if truths[channel]} | set(watched)
        untold = {c.name for c in self.presence._channels.values() if c.members}
        assert used <= self.presence._channels.keys() <= used | untold

    def teardown(self) -> None:
        self.quiesce()
        for session in list(self.sessions):
            self.presence.session_gone(session, self.now)
        self.elapse_until(self.now + GRACE_S + 1)
        assert self.presence.num_channels == 0
        assert self.presence.next_deadline() == math.inf
        assert not self.presence._entries
        assert not self.presence._watched


PresenceMachine.TestCase.settings = settings(
    max_examples=examples(50), stateful_step_count=50, deadline=None
)
TestPresenceUnderRandomSteps = PresenceMachine.TestCase
