"""The coarse timer: nobody is looked at too early or forgotten; and what is found when a session is looked at."""

import attrs
import hypothesis.strategies as st
import pytest
from hypothesis import given

from syncd.codes import CloseCode
from syncd.gateway.timers import Wheel
from syncd.wire.session import Phase
from tests.gateway.desk import Desk

TICK_S = 0.25


@attrs.define(eq=False)
class FakeConnection:
    number: int = 0
    due: float = float("inf")
    closed: bool = False


_times = st.floats(0, 40).map(lambda value: round(value, 3))


@given(
    st.lists(st.tuples(st.integers(0, 3), _times, st.floats(0.01, 30)), min_size=1, max_size=40),
    st.floats(0, 1e6),
)
def test_everybody_is_looked_at_within_a_tick_of_its_time_and_not_before(steps, start):
    now = start
    wheel = Wheel(TICK_S, now)
    everybody = [FakeConnection(number) for number in range(4)]
    due = {}
    for who, delay, passed in steps:
        wheel.schedule(everybody[who], now + delay)
        due[who] = min(due.get(who, float("inf")), now + delay)
        assert everybody[who].due == due[who]
        now += passed
        looked_at = [item.number for item in wheel.advance(now)]
        assert len(looked_at) == len(set(looked_at)), "once"
        for found in looked_at:
            assert due.pop(found) <= now, "not too early"
            assert everybody[found].due == float("inf")
        assert all(at > now - TICK_S * 1.001 for at in due.values()), "not too late"
    assert sorted(item.number for item in wheel.advance(now + 100)) == sorted(due)
    assert not wheel._slots


def test_a_later_time_changes_nothing_and_an_earlier_one_counts():
    wheel = Wheel(TICK_S, 0.0)
    one = FakeConnection()
    wheel.schedule(one, 10.0)
    wheel.schedule(one, 20.0)
    assert one.due == 10.0
    wheel.schedule(one, 2.0)
    assert wheel.advance(2.5) == [one]
    assert wheel.advance(10.5) == [], "the entry that was overtaken is stale"


def test_a_time_that_has_passed_already_comes_with_the_next_tick():
    wheel = Wheel(TICK_S, 100.0)
    one = FakeConnection()
    wheel.schedule(one, 3.0)
    assert wheel.advance(100.5) == [one]


def test_who_is_closed_is_not_looked_at():
    wheel = Wheel(TICK_S, 0.0)
    one = FakeConnection()
    wheel.schedule(one, 1.0)
    one.closed = True
    assert wheel.advance(5.0) == []


def test_a_long_sleep_costs_no_more_than_what_is_planned():
    wheel = Wheel(TICK_S, 0.0)
    several = [FakeConnection() for _ in range(3)]
    for number, item in enumerate(several):
        wheel.schedule(item, float(number))
    assert wheel.advance(1e9) == several


# ---------------------------------------------------------------------------------------------- sessions


def kinds(client):
    return [kind for kind, _ in client.heard()]


def test_a_session_is_pinged_the_first_time_early_and_then_every_ping_s():
    desk = Desk()
    client = desk.client()
    desk.pass_time(25 * 0.75 - 0.5)
    assert kinds(client) == []
    desk.pass_time(1)
    assert kinds(client) == ["ping"]
    for _ in range(3):
        client.say("pong")
        desk.pass_time(24)
        assert kinds(client) == []
        desk.pass_time(1.25)
        assert kinds(client) == ["ping"]


def test_a_silent_session_is_dropped_ten_seconds_after_a_ping_interval():
    desk = Desk()
    client = desk.client()
    desk.pass_time(34.5)
    assert not client.connection.closed
    desk.pass_time(26)
    assert client.connection.closed
    assert desk.hub.closes == {str(int(CloseCode.PING_TIMEOUT)): 1}


def test_any_frame_is_a_sign_of_life():
    desk = Desk()
    client = desk.client()
    for _ in range(10):
        desk.pass_time(30)
        client.send_frame(0x8A, b"")
    assert client.connection.phase is Phase.OPEN


def test_who_drains_nothing_for_ten_seconds_is_cut_off():
    desk = Desk()
    client = desk.client()
    desk.pass_time(20)
    client.socket.room = 0
    client.connection.reply_ok(1)
    desk.turn()
    desk.pass_time(9.5)
    assert not client.connection.closed
    desk.pass_time(1)
    assert not client.connection.closed, "looked at once more"
    desk.pass_time(2)
    assert client.connection.closed
    assert desk.hub.closes == {"4001": 1}


def test_who_is_found_late_because_the_node_stood_still_is_given_a_second_look():
    desk = Desk()
    client = desk.client()
    client.socket.room = 0
    client.connection.send(b"\xc0" * 200)
    desk.turn()
    for _ in range(3):
        desk.now += 60  # nobody looks at anything, and its ping is due long since
        client.connection.last_seen = desk.now
        desk.pass_time(desk.config.timing.tick_s)
        assert not client.connection.closed
        assert not client.drain(50), "the socket has had room all the time"
    desk.pass_time(15)
    assert client.connection.closed, "now it is slow"


def test_who_drains_a_little_all_the_time_is_kept():
    desk = Desk()
    client = desk.client()
    client.socket.room = 0
    client.connection.send(b"\xc0" * 200)
    desk.turn()
    for _ in range(20):
        desk.pass_time(9)
        assert not client.drain(5)
    assert client.connection.phase is Phase.OPEN


def test_a_session_that_drained_in_time_and_is_slow_again_has_its_ten_seconds_anew():
    desk = Desk()
    client = desk.client()
    for _ in range(4):
        client.socket.room = 0
        client.connection.reply_ok(1)
        desk.turn()
        desk.pass_time(8)
        client.say("pong")
        client.drain()
    assert client.connection.phase is Phase.OPEN


def test_a_token_that_runs_out_closes_the_session_within_a_tick():
    desk = Desk()
    client = desk.client(token=desk.token(expires_in_s=5))
    leeway = desk.config.auth.leeway_s
    desk.pass_time(4 + leeway / 2)
    client.say("pong")
    desk.pass_time(leeway / 2 + 0.5)
    assert client.connection.phase is Phase.OPEN
    desk.pass_time(1)
    *_, (_, bye), (_, code) = client.heard()
    assert (code, bye["reconnect"]) == (CloseCode.UNAUTHORIZED, True)


@pytest.mark.parametrize("channel", ["open:a"])
def test_grants_are_looked_up_anew_at_each_ping(channel):
    desk = Desk()
    client = desk.client()
    client.say("publish", id=1, channel=channel, data=1)
    assert client.connection.grants
    desk.pass_time(20)
    assert client.connection.grants is None
