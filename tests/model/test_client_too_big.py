"""A way to the server that takes less than the server says: what the client does about close code 1009 (SPEC section 13, duty 11)."""

import itertools
import random

import hypothesis.strategies as st
import pytest
from hypothesis import given

from syncd.client.connection import ClientClaim
from syncd.client.core import ClientCore
from syncd.client.errors import RequestFailed
from syncd.client.facts import Complaint, Dial, Send, Settled
from syncd.client.facts_state import MutationOutcome, WatchEnded
from syncd.client.frames import decode_frame, encode
from syncd.client.tables import ConnectionState
from syncd.client.watch import Selection

TOO_BIG = 1009
HEADROOM = 120
"""What a mutation is measured with is an upper bound: the longest number and client."""
SMALL = ["a", "b" * 100, "c" * 1_000]


class Way:
    """A server behind a proxy that ends the connection at frames over its limit, and a client."""

    def __init__(self, limit, num_clients=1):
        self.limit = limit
        self.max_frame_bytes = 65_536
        """What the server says that it takes."""
        self.applied = []
        """Values of the mutations and publications that took effect, in order."""
        self.outcomes, self.answers, self.complaints, self.ended = {}, {}, [], {}
        self.frames = []
        """All that were sent in a session, as numbers of bytes and of messages."""
        self.bodies = []
        self._last_mids = {f"c{n + 1}": 0 for n in range(num_clients)}
        claims = [ClientClaim(client, "s") for client in self._last_mids]
        self.core = ClientCore(random.Random(1), lambda: "uid", claims=claims)
        self._now = 0.0
        self._is_up = False
        self._said = []
        self._num_sessions = 0
        self.core.start(0)

    def put(self, value, slot=0):
        return self.core.mutate(self._now, "orders.put", {"key": "k", "value": value}, slot=slot)[0]

    def watch(self, num_keys):
        keys = frozenset(f"{n:020}" for n in range(num_keys))
        return self.core.watch(Selection("orders", keys))

    def publish(self, data, uid):
        return self.core.publish("demo:room", data, uid=uid)

    def lose(self, code=1006):
        """The connection is gone, and what was on the way with it."""
        self.core.take()
        self._is_up = False
        self._said.clear()
        self.core.closed(self._now, code)

    def fail(self, code):
        """An attempt ends with this code, before anything was said."""
        self._now = self.core.next_deadline()
        self.core.tick(self._now)
        self.lose(code)

    def settle(self, max_sessions):
        """Let the client and the server talk until nothing is left to be said, over so many sessions at most."""
        self._num_sessions = 0
        while True:
            outputs = self.core.take()
            for output in outputs:
                self._perform(output)
            if self._is_up and self._said:
                said, self._said = self._said, []
                self.core.receive(b"".join(said), self._now)
            elif not outputs:
                if self.core.state is ConnectionState.CONNECTED:
                    return
                self._now = max(self._now, self.core.next_deadline())
                self.core.tick(self._now)
            assert self._num_sessions <= max_sessions

    def _perform(self, output):
        match output:
            case Dial():
                self._is_up = True
                self.core.connect_succeeded()
            case Send(data=data) if self._is_up:
                self._carry(data)
            case MutationOutcome():
                self.outcomes[output.id] = output
            case Settled():
                self.answers[output.request_id] = output.error
            case Complaint():
                self.complaints.append(output.code)
            case WatchEnded():
                self.ended[output.watch] = output.code

    def _carry(self, frame):
        messages = decode_frame(frame)
        self.frames.append((len(frame), len(messages)))
        if len(frame) > self.limit:
            self.lose(TOO_BIG)
            return
        for kind, body in messages:
            self.bodies.append((kind, body))
            self._serve(kind, body)

    def _serve(self, kind, body):
        match kind:
            case "hello":
                self._num_sessions += 1
                clients = [{"client": c, "last_mid": n} for c, n in self._last_mids.items()]
                welcome = {"session": "s", "clients": clients, "server_time_ms": 0}
                limits = {"ping_ms": 25_000, "max_frame_bytes": self.max_frame_bytes}
                self.say("welcome", {**welcome, **limits})
            case "mutate":
                client, mid = body.get("client", "c1"), body["mid"]
                if mid > self._last_mids[client]:
                    assert mid == self._last_mids[client] + 1
                    self._last_mids[client] = mid
                    self.applied.append(body["args"]["value"])
                self.say("outcome", {"client": client, "mid": mid, "status": "ok", "positions": {}})
            case "watch":
                body = {"id": body["id"], "channel": "orders", "recovered": False, "entries": []}
                position = {"epoch": "e", "offset": 0}
                self.say("watched", {**body, "position": position, "unchanged": [], "more": False})
            case "publish" | "presence":
                data = body.get("data")
                if kind == "publish" and data not in self.applied:
                    self.applied.append(data)
                self.say("ok", {"id": body["id"]})

    def say(self, kind, body):
        self._said.append(encode(kind, body))

    def statuses(self, ids):
        return [self.outcomes[made].status.value for made in ids]


def test_it_gets_smaller_frames_and_nothing_is_given_up_while_every_message_fits():
    way = Way(2_500)
    values = [f"{n}".ljust(900, ".") for n in range(100)]
    ids = [way.put(value) for value in values]
    way.settle(6)
    assert way.applied == values
    assert way.statuses(ids) == ["ok"] * 100
    assert max(way.frames)[0] > 4_000
    assert max(frame for frame in way.frames if frame[0] <= 2_500)[1] == 2


def test_no_message_is_suspected_while_a_frame_of_several_may_have_been_as_long():
    way = Way(3_000)
    ids = [way.put("." * size) for size in (900, 900, 900, 900, 2_800)]
    way.settle(6)
    assert way.statuses(ids) == ["ok"] * 5


def test_frames_of_several_messages_do_not_get_smaller_than_a_kibibyte():
    way = Way(60_000)
    way.settle(1)
    for _ in range(20):
        way.lose(TOO_BIG)
        way.settle(1)
    ids = [way.put("x" * 200) for _ in range(8)]
    way.settle(0)
    assert way.statuses(ids) == ["ok"] * 8
    assert [num_messages for _, num_messages in way.frames[-2:]] == [4, 4]


def test_frames_of_several_messages_have_what_the_server_takes_at_most():
    way = Way(60_000)
    way.max_frame_bytes = 1_000
    ids = [way.put("x" * 200) for _ in range(6)]
    way.settle(1)
    assert way.statuses(ids) == ["ok"] * 6
    assert [num_messages for _, num_messages in way.frames[-2:]] == [4, 2]


def test_it_costs_the_one_mutation_that_does_not_get_through():
    way = Way(10_000)
    first, large = way.put("a"), way.put("x" * 20_000)
    rest = [way.put(value) for value in SMALL]
    way.settle(5)
    assert way.outcomes[large].code == "too_large"
    assert way.statuses([first, large, *rest]) == ["ok", "rejected", "ok", "ok", "ok"]
    assert way.applied == ["a", *SMALL]
    assert way.core.state is ConnectionState.CONNECTED


def test_it_costs_the_mutation_of_another_client_of_the_session_alone():
    way = Way(10_000, num_clients=2)
    small = way.put("a")
    large, last = way.put("x" * 20_000, slot=1), way.put("b", slot=1)
    way.settle(5)
    assert way.statuses([small, large, last]) == ["ok", "rejected", "ok"]
    assert sorted(way.applied) == ["a", "b"]


def test_it_costs_the_one_publication_that_does_not_get_through_and_no_mutation():
    way = Way(10_000)
    ids = [way.put(value) for value in SMALL]
    large, small = way.publish("x" * 20_000, "u1"), way.publish("fits", "u2")
    way.settle(5)
    assert isinstance(way.answers[large], RequestFailed)
    assert way.answers[large].code == "too_large"
    assert way.answers[small] is None
    assert way.statuses(ids) == ["ok", "ok", "ok"]
    assert way.applied == [*SMALL, "fits"]


def test_it_costs_the_one_watch_that_does_not_get_through_and_no_mutation_that_is_shorter():
    way = Way(10_000)
    large, small = way.watch(600), way.watch(100)
    ids = [way.put("a"), way.put("x" * 5_000)]
    way.settle(6)
    assert way.ended == {large: "too_large"}
    assert [watch.id for watch in way.core.entries.watches] == [small]
    assert way.statuses(ids) == ["ok", "ok"]


def test_a_watch_that_the_server_would_not_take_is_not_asked_for():
    way = Way(10_000_000)
    before = way.watch(4_000)
    way.settle(1)
    over = way.watch(4_000)
    way.settle(0)
    assert way.ended == {before: "too_large", over: "too_large"}
    assert not [body for kind, body in way.bodies if kind == "watch"]


def test_what_does_not_get_through_is_remembered_and_refused_before_it_is_queued():
    way = Way(10_000)
    way.put("x" * 20_000)
    way.settle(5)
    way.lose()
    way.settle(1)
    with pytest.raises(RequestFailed) as refused:
        way.put("y" * 20_000)
    assert refused.value.code == "too_large"
    made = way.put("y" * 9_000)
    way.settle(0)
    assert way.statuses([made]) == ["ok"]


@pytest.mark.parametrize("code", [1000, 1006, 1002, 4408])
def test_nothing_is_suspected_when_a_connection_is_lost_whatever_was_sent_over_it(code):
    way = Way(60_000)
    way.max_frame_bytes = 10_000
    way.settle(1)
    way.max_frame_bytes = 65_536
    way.lose(code)
    way.settle(1)
    made = way.put("z" * 40_000)
    way.lose(code)
    way.settle(1)
    assert way.statuses([made]) == ["ok"]


def test_nothing_is_suspected_for_what_ended_attempts_before_there_was_a_session():
    way = Way(60_000)
    way.settle(1)
    made = way.put("z" * 40_000)
    way.lose()
    for _ in range(5):
        way.fail(TOO_BIG)
    way.settle(1)
    assert way.statuses([made]) == ["ok"]


def test_an_end_for_size_is_judged_once():
    """What comes later, and is longer than the frames have become, was in none of the session."""
    way = Way(60_000)
    way.settle(1)
    for _ in range(4):
        way.lose(TOO_BIG)
        way.settle(1)
    way.lose()
    made = way.put("z" * 40_000)
    way.settle(1)
    assert way.statuses([made]) == ["ok"]


def test_a_presence_state_that_does_not_get_through_is_announced_no_more():
    """It did once: the way takes less than before."""
    way = Way(60_000)
    request = way.core.set_presence("demo:room", "x" * 20_000)
    way.settle(1)
    assert way.answers[request] is None
    way.limit = 10_000
    way.lose()
    way.settle(5)
    assert way.complaints == ["too_large"]
    way.lose()
    way.settle(1)
    assert way.complaints == ["too_large"]


def test_a_presence_state_that_is_known_to_be_too_long_is_not_announced():
    way = Way(10_000)
    way.publish("x" * 20_000, "u1")
    way.settle(5)
    request = way.core.set_presence("demo:room", "x" * 21_000)
    way.settle(0)
    assert way.answers[request].code == "too_large"
    way.lose()
    way.settle(1)
    assert way.complaints == []


def test_a_watch_names_fewer_of_the_versions_it_has():
    way = Way(4_000)
    way.core.watch(Selection("orders"))
    way.settle(1)
    [asked] = [body for kind, body in way.bodies if kind == "watch"]
    entries = [{"key": f"{n:040}", "version": 1, "value": n} for n in range(500)]
    body = {"id": asked["id"], "channel": "orders", "position": {"epoch": "e", "offset": 1}}
    body |= {"recovered": False, "entries": entries, "unchanged": [], "more": False}
    way.say("watched", body)
    way.settle(0)
    way.lose()
    way.settle(6)
    asked = [body for kind, body in way.bodies if kind == "watch"][-1]
    assert 0 < len(asked["have"]["versions"]) < 100


SIZES = st.lists(st.integers(1, 300) | st.integers(1, 60_000), max_size=30)


@pytest.mark.unmeasured
@given(st.integers(2_200, 60_000), SIZES, SIZES)
def test_what_fits_gets_through_once_and_in_order_and_nothing_else(limit, puts, publications):
    way = Way(limit)
    values = [f"m{n}".ljust(size, ".") for n, size in enumerate(puts)]
    data = [f"p{n}".ljust(size, ".") for n, size in enumerate(publications)]
    ids = [way.put(value) for value in values]
    requests = [way.publish(one, f"u{n}") for n, one in enumerate(data)]
    way.settle(8 + len(puts) + len(publications))
    codes = [way.outcomes[made].code for made in ids]
    errors = [way.answers[request] for request in requests]
    told = itertools.chain(codes, (error and error.code for error in errors))
    for value, code in zip([*values, *data], told, strict=True):
        if len(value) <= limit - HEADROOM:
            assert code is None
        if len(value) > limit:
            assert code == "too_large"
    done = [value for value, code in zip(values, codes, strict=True) if code is None]
    assert [one for one in way.applied if one.startswith("m")] == done
