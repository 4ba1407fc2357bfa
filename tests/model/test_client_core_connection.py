"""The client's connection: its table, its patience, what it does with every close code."""

import math
import random

import pytest

from syncd.client.backoff import Backoff
from syncd.client.connection import ConnectionSettings
from syncd.client.errors import ConnectionStopped
from syncd.client.facts import Complaint, Dial, Hangup, StateChanged
from syncd.client.frames import encode
from syncd.client.tables import CONNECTION_TABLE, ConnectionInput, ConnectionState
from syncd.codes import CloseCode
from tests.model.client_steps import WELCOME, connected, make, of, sent

S = ConnectionState


# ---------------------------------------------------------------- table


def test_every_state_is_reached_and_every_state_but_the_final_ones_is_left():
    reached = {S.IDLE, *CONNECTION_TABLE.values()}
    left = {state for state, _ in CONNECTION_TABLE}
    assert reached == set(S)
    assert left == {state for state in S if not state.is_final}


def test_every_state_but_the_final_ones_can_be_closed():
    closable = {state for state, step in CONNECTION_TABLE if step is ConnectionInput.CLOSE}
    assert closable == {state for state in S if not state.is_final}


def bring_to(state):
    core = make(has_token_source=state is S.NEEDS_AUTH)
    if state is S.IDLE:
        return core
    core.start(0)
    if state is S.CONNECTED:
        core.connect_succeeded()
        core.receive(encode("welcome", WELCOME), 0)
    elif state is S.OFFLINE:
        core.closed(0, 1006)
    elif state is S.FAILED:
        core.closed(0, 4503)
    elif state is S.CLOSED:
        core.close()
    core.take()
    assert core.state is state
    return core


INPUTS = {
    "start": lambda core: core.start(100),
    "connect_succeeded": lambda core: core.connect_succeeded(),
    "welcome": lambda core: core.receive(encode("welcome", WELCOME), 100),
    "lost": lambda core: core.closed(100, 1006),
    "stopped": lambda core: core.closed(100, 4500),
    "denied": lambda core: core.closed(100, 4401),
    "token": lambda core: core.token_supplied(100, "t"),
    "no_token_now": lambda core: core.token_unavailable(100),
    "no_token": lambda core: core.token_missing(),
    "wake": lambda core: core.wake(100),
    "close": lambda core: core.close(),
}


MOVES = {
    (S.IDLE, "start"): S.CONNECTING,
    (S.CONNECTING, "welcome"): S.CONNECTED,
    (S.CONNECTING, "lost"): S.OFFLINE,
    (S.CONNECTING, "stopped"): S.FAILED,
    (S.CONNECTING, "denied"): S.FAILED,
    (S.CONNECTED, "lost"): S.OFFLINE,
    (S.CONNECTED, "stopped"): S.FAILED,
    (S.CONNECTED, "denied"): S.FAILED,
    (S.OFFLINE, "wake"): S.CONNECTING,
    (S.NEEDS_AUTH, "token"): S.CONNECTING,
    (S.NEEDS_AUTH, "no_token_now"): S.OFFLINE,
    (S.NEEDS_AUTH, "no_token"): S.FAILED,
    **{(state, "close"): S.CLOSED for state in S if state is not S.FAILED},
}


@pytest.mark.parametrize("state", S, ids=lambda s: s.value)
@pytest.mark.parametrize("name", INPUTS)
def test_in_every_state_every_input_leads_where_the_table_says_and_nowhere_else(state, name):
    core = bring_to(state)
    INPUTS[name](core)
    assert core.state is MOVES.get((state, name), state)
    changes = of(StateChanged, core.take())
    assert [c.state for c in changes] == ([core.state] if core.state is not state else [])


# ---------------------------------------------------------------- hello


def test_the_first_hello_names_no_client_and_later_ones_name_the_issued_one():
    core = make(token="t", settings=ConnectionSettings(group="g"))
    core.start(0)
    core.connect_succeeded()
    assert sent(core) == [("hello", {"v": 1, "token": "t", "group": "g"})]
    core.receive(encode("welcome", WELCOME), 0)
    core.closed(1, 1006)
    core.wake(1)
    core.connect_succeeded()
    [(_, hello)] = sent(core)
    assert hello["clients"] == [{"client": "c1", "secret": "shh"}]


def test_the_secret_is_kept_when_a_later_welcome_does_not_repeat_it():
    core = connected()
    core.closed(1, 1006)
    core.wake(1)
    core.connect_succeeded()
    again = {**WELCOME, "clients": [{"client": "c1", "last_mid": 0}]}
    core.receive(encode("welcome", again), 1)
    assert (core.claim.client, core.claim.secret) == ("c1", "shh")
    assert "shh" not in repr(core.claim)


def test_a_client_the_server_forgot_is_replaced_by_the_one_it_issues():
    core = connected()
    core.receive(encode("reset", {"scope": "client", "client": "c1", "code": "client_unknown"}), 1)
    assert core.claim is None


# ---------------------------------------------------------------- liveness


def test_silence_of_ping_and_ten_seconds_ends_the_connection_and_any_frame_prevents_it():
    core = connected()
    assert core.next_deadline() == 35.0
    core.receive(encode("mark", {"channel": "x:y", "position": {"epoch": "e", "offset": 1}}), 20.0)
    core.tick(54.9)
    assert of(Hangup, core.take()) == []
    core.tick(55.0)
    [hangup] = of(Hangup, core.take())
    assert hangup.code == 1006
    assert core.next_deadline() == math.inf, "the shell must answer with closed first"
    core.closed(55.0, 1006)
    assert core.state is S.OFFLINE


def test_a_server_that_never_says_welcome_is_given_up():
    core = make()
    core.start(0)
    core.connect_succeeded()
    core.take()
    core.tick(core.next_deadline())
    assert of(Hangup, core.take())


def test_a_ping_is_answered():
    core = connected()
    core.receive(encode("ping", {}), 1)
    assert sent(core) == [("pong", {})]


# ---------------------------------------------------------------- coming back


def test_waits_are_drawn_from_zero_to_a_ceiling_that_doubles_from_half_a_second_to_twenty():
    class Highest(random.Random):
        def uniform(self, a, b):
            assert a == 0.0
            return b

    backoff = Backoff(Highest())
    assert [backoff.next_s() for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 20, 20]
    assert backoff.next_s(5.0) == 25.0
    backoff.reset()
    assert backoff.next_s() == 0.5


def test_no_wait_overflows_after_days_offline():
    backoff = Backoff(random.Random(3))
    assert all(backoff.next_s() <= 20.0 for _ in range(5000))


@pytest.mark.parametrize(("lasted_s", "is_reset"), [(4.9, False), (5.0, True)])
def test_the_backoff_begins_anew_only_after_five_stable_seconds(lasted_s, is_reset):
    core = make()
    core.start(0)
    for _ in range(6):
        core.closed(0, 1006)
        core.wake(0)
    core.connect_succeeded()
    core.receive(encode("welcome", WELCOME), 100)
    core.closed(100 + lasted_s, 1006)
    backoff = core._connection._backoff
    assert (backoff.num_attempts == 1) is is_reset


def test_after_the_wait_it_dials_again_and_not_before():
    core = connected()
    core.closed(10, 1006)
    at = core.next_deadline()
    assert 10 <= at <= 10.5
    core.tick(math.nextafter(at, 0))
    assert of(Dial, core.take()) == []
    core.tick(at)
    assert of(Dial, core.take()) == [Dial()]


def test_bye_is_obeyed_about_coming_back_and_when():
    core = connected()
    bye = {"code": 4000, "reason": "restart", "reconnect": True, "after_ms": 3000}
    core.receive(encode("bye", bye), 10)
    assert of(Hangup, core.take())
    core.closed(10, 1006)
    assert core.state is S.OFFLINE
    assert 13 <= core.next_deadline() <= 13.5


def test_bye_without_reconnect_stops_whatever_its_code():
    core = connected()
    core.receive(encode("bye", {"code": 4000, "reason": "x", "reconnect": False, "after_ms": 0}), 1)
    core.closed(1, 1006)
    assert core.state is S.FAILED
    assert isinstance(core.error, ConnectionStopped)
    assert str(core.error) == "4000: x"


def test_a_retry_after_of_the_upgrade_is_obeyed():
    core = make()
    core.start(0)
    core.closed(0, 1006, after_s=7.0)
    assert 7.0 <= core.next_deadline() <= 7.5


@pytest.mark.parametrize("code", CloseCode, ids=lambda c: c.name)
def test_the_range_of_a_close_code_decides(code):
    core = connected()
    core.closed(1, int(code), "because")
    if code == CloseCode.UNAUTHORIZED or 4500 <= code <= 4999:
        assert core.state is S.FAILED
    else:
        assert core.state is S.OFFLINE


# ---------------------------------------------------------------- a server that errs


@pytest.mark.parametrize(
    "frame",
    [
        b"\xc1",
        b"\x92\xa4ping",
        b"\x81\x01\x02",
        encode("welcome", {}),
        encode("welcome", {"clients": [], "ping_ms": 1, "max_frame_bytes": 1}),
        encode("bye", {}),
        encode("error", {"code": 3}),
        encode("ok", {}),
        encode("reset", {}),
        b"\x91" * 2000,
    ],
    ids=lambda frame: frame[:12].hex(),
)
def test_a_broken_frame_ends_the_connection_and_the_client_comes_back(frame):
    core = connected()
    core.receive(frame, 1)
    assert of(Hangup, core.take())
    core.receive(encode("ping", {}), 1)
    assert core.take() == [], "what follows a broken frame is not listened to"
    core.closed(1, 1002)
    assert core.state is S.OFFLINE


def test_unknown_messages_and_unknown_fields_are_ignored():
    core = connected()
    core.receive(encode("from_the_future", {"x": 1}) + encode("ping", {"y": 2}), 1)
    assert sent(core) == [("pong", {})]


def test_an_error_that_belongs_to_nothing_is_for_the_log():
    core = connected()
    core.receive(encode("error", {"code": "bad_message", "message": "m", "retryable": False}), 1)
    assert core.take() == [Complaint("bad_message", "m")]
