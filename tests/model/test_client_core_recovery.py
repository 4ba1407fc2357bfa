"""RECOVER and ONCE from the client's side, whatever the network and the server do to it.

A `ModelServer` and a `ClientCore` with a link between them whose messages wait until Hypothesis delivers them, loses an
event, repeats it, swaps two, or cuts the connection.
"""

import itertools
import random

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from syncd.client.core import ClientCore
from syncd.client.facts import (
    Dial,
    Hangup,
    PresenceChanged,
    Received,
    Reset,
    Send,
    Settled,
    Subscribed,
)
from syncd.client.frames import decode_frame
from syncd.client.tables import ConnectionState, SubscriptionState
from syncd.codes import ErrorCode
from syncd.ids import Position
from syncd.testing.model_server import ModelServer
from tests.examples import examples

pytestmark = pytest.mark.unmeasured

STREAM, OTHER, EPHEMERAL = "demo:a", "demo:b", "live:x"
CHANNELS = [STREAM, OTHER, EPHEMERAL]


class Application:
    """What the user of one channel sees, checked as it comes."""

    def __init__(self, channel):
        self.channel = channel
        self.position = None
        self.num_events = 0
        self.has_begun = False
        self.seen = []

    def take(self, fact):
        match fact:
            case Subscribed(position=position):
                if not self.has_begun:
                    self.has_begun, self.position = True, position
            case Reset(position=position):
                assert self.has_begun, "a reset needs something to reset"
                self.position = position
            case Received(event=event):
                self._take_event(event)

    def _take_event(self, event):
        self.num_events += 1
        if event.position is None:
            return
        assert self.position is not None
        assert event.position.epoch == self.position.epoch, "a new epoch without a reset"
        assert event.position.offset == self.position.offset + 1, "a gap or a repetition"
        self.position = event.position
        self.seen.append((event.position, event.data))


class ClientAndServer(RuleBasedStateMachine):
    @initialize()
    def begin(self):
        self.now = 0.0
        self.server = ModelServer()
        uids = itertools.count()
        self.core = ClientCore(random.Random(7), lambda: f"uid{next(uids)}")
        self.session = None
        self.to_client, self.to_server = [], []
        self.apps = {name: Application(name) for name in CHANNELS}
        self.published, self.settled = {}, {}
        self.is_recording = True
        self.server.publish(STREAM, "before")
        for name in CHANNELS:
            self.core.subscribe(name, presence=name == STREAM)
        self.core.start(0.0)
        self.perform()
        for _ in range(3):
            self.everything_arrives()

    # ------------------------------------------------------------ the shell

    def perform(self):
        for output in self.core.take():
            match output:
                case Dial():
                    self.session = self.server.connect()
                    self.to_client, self.to_server = [], []
                    self.core.connect_succeeded()
                    self.perform()
                case Send(data=data):
                    self.to_server.append(data)
                case Hangup():
                    self.lose()
                case Settled(request_id=request_id):
                    assert request_id not in self.settled, "settled twice"
                    self.settled[request_id] = output
                case Received(event=event):
                    self.apps[event.channel].take(output)
                case Subscribed(channel=channel) | Reset(channel=channel):
                    self.apps[channel].take(output)
                case PresenceChanged(members=members):
                    self.members = {m.member: m.states[0].state for m in members}

    def lose(self):
        if self.session is not None:
            self.session.gone()
            self.session = None
            self.to_client, self.to_server = [], []
            self.core.closed(self.now, 1006)
            self.perform()

    def pump(self):
        self.to_client += self.session.outgoing
        self.session.outgoing.clear()

    # ------------------------------------------------------------ what happens

    @rule(name=st.sampled_from(CHANNELS), n=st.integers(1, 4))
    def a_backend_publishes(self, name, n):
        for _ in range(n):
            self.server.publish(name, self.server.fresh("data"))

    @rule(name=st.sampled_from(CHANNELS))
    def the_client_publishes(self, name):
        data = self.server.fresh("mine")
        self.published[self.core.publish(name, data)] = data
        self.perform()

    @rule()
    def everything_arrives(self):
        self.the_server_reads()
        self.the_client_reads(1000)

    @rule()
    def the_server_reads(self):
        if self.session is not None:
            for frame in self.to_server:
                self.session.receive(frame)
            self.to_server.clear()

    @rule(count=st.integers(1, 5))
    def the_client_reads(self, count):
        if self.session is not None:
            self.pump()
            taken, self.to_client = self.to_client[:count], self.to_client[count:]
            session = self.session
            for message in taken:
                if self.session is session:
                    self.core.receive(message, self.now)
                    self.perform()

    def events_under_way(self):
        """Where in the queue stream events wait: all that a fault below TCP's promises may touch."""
        self.pump()
        return [
            i
            for i, message in enumerate(self.to_client)
            if decode_frame(message)[0][0] == "event"
            and decode_frame(message)[0][1]["channel"] != EPHEMERAL
        ]

    @precondition(lambda self: self.session is not None)
    @rule(
        name=st.sampled_from([STREAM, OTHER]),
        choice=st.integers(0, 6),
        fault=st.sampled_from(["lose", "repeat", "swap"]),
        count=st.integers(0, 10),
    )
    def events_meet_a_fault(self, name, choice, fault, count):
        self.a_backend_publishes(name, 3)
        places = self.events_under_way()
        if choice < len(places):
            i = places[choice]
            if fault == "lose":
                del self.to_client[i]
            elif fault == "repeat":
                self.to_client.insert(i, self.to_client[i])
            elif i + 1 in places:
                self.to_client[i : i + 2] = reversed(self.to_client[i : i + 2])
        self.the_client_reads(count)

    @rule(name=st.sampled_from([STREAM, OTHER]), count=st.integers(0, 3))
    def a_subscription_is_renewed_amid_traffic(self, name, count):
        """Events of the old subscription, the end of it and the new one cross on the wire."""
        self.a_backend_publishes(name, 2)
        self.core.hold(name)
        self.core.release(name)
        self.perform()
        self.a_backend_publishes(name, 2)
        self.the_client_reads(count)
        self.the_server_reads()
        self.a_backend_publishes(name, 1)
        self.the_client_reads(count)

    @rule()
    def the_connection_breaks(self):
        self.lose()

    @rule(seconds=st.floats(0.1, 40.0))
    def time_passes(self, seconds):
        self.now += seconds
        self.core.tick(self.now)
        self.perform()

    @rule(name=st.sampled_from([STREAM, OTHER]))
    def the_server_lags(self, name):
        self.server.lag(name)

    @rule(name=st.sampled_from([STREAM, OTHER]), is_told=st.booleans())
    def the_history_is_lost(self, name, is_told):
        self.server.change_epoch(name, is_told=is_told)

    @rule(name=st.sampled_from([STREAM, OTHER]), keep=st.integers(0, 3))
    def the_history_is_trimmed(self, name, keep):
        self.server.channel(name).trim(keep)

    @rule(name=st.sampled_from(CHANNELS))
    def the_application_falls_behind(self, name):
        self.core.hold(name)
        self.perform()

    @rule(name=st.sampled_from(CHANNELS))
    def the_application_catches_up(self, name):
        self.core.release(name)
        self.perform()

    @rule(code=st.sampled_from([ErrorCode.OVERLOADED, ErrorCode.INTERNAL_ERROR]))
    def the_next_publication_fails_for_now(self, code):
        self.server.failures.append((code, 100))

    @rule(client=st.sampled_from(["p", "q"]), state=st.sampled_from([None, 1, 2]))
    def somebody_comes_or_goes(self, client, state):
        self.server.announce(STREAM, client, state)

    # ------------------------------------------------------------ what holds

    @invariant()
    def every_event_seen_is_the_one_the_server_logged(self):
        for name in (STREAM, OTHER):
            app, channel = self.apps[name], self.server.channel(name)
            logged = {(e["epoch"], e["offset"]): e["data"] for e in channel.all_events}
            for position, data in app.seen:
                assert logged[position.epoch, position.offset] == data
            app.seen.clear()

    def teardown(self):
        """Heal everything: the client must come to know all, and every publication must have one effect."""
        if not hasattr(self, "core"):
            return
        for name in CHANNELS:
            self.core.release(name)
        self.lose()
        for _ in range(200):
            self.now = max(self.now, min(self.core.next_deadline(), self.now + 20))
            self.core.tick(self.now)
            self.perform()
            self.the_server_reads()
            self.the_client_reads(1000)
            if self.is_settled():
                break
        self.check_the_end()

    def is_settled(self):
        return (
            self.core.state is ConnectionState.CONNECTED
            and len(self.settled) == len(self.published)
            and all(self.subscription(n).state is SubscriptionState.SUBSCRIBED for n in CHANNELS)
            and not (self.to_client or self.to_server or self.session.outgoing)
        )

    def subscription(self, name):
        return self.core.find_subscription(name)

    def check_the_end(self):
        assert self.is_settled()
        for name in (STREAM, OTHER):
            channel = self.server.channel(name)
            top = Position(channel.epoch, channel.top)
            assert self.subscription(name).position == top
            assert self.apps[name].position == top
        for request_id, data in self.published.items():
            assert self.settled[request_id].error is None
            copies = [e for c in self.server.channels.values() for e in c.all_events]
            num_copies = sum(e["data"] == data for e in copies)
            assert num_copies <= 1, "a publication took effect twice"
            if self.settled[request_id].result is not None:
                assert num_copies == 1, "an acknowledged publication is nowhere"
        assert self.members == self.server.channel(STREAM).members


TestClientAndServer = ClientAndServer.TestCase
TestClientAndServer.settings = settings(
    max_examples=examples(60), stateful_step_count=40, deadline=None
)
