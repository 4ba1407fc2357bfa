"""The client's connection: its table, its patience, its tokens, what it does with every close code."""

import itertools
import math
import random

import pytest

from syncd.client.backoff import Backoff
from syncd.client.connection import ConnectionSettings
from syncd.client.core import ClientCore
from syncd.client.errors import ClientClosed, ConnectionStopped, RequestFailed, Unauthorized
from syncd.client.facts import AskToken, Complaint, Dial, Hangup, Send, Settled, StateChanged
from syncd.client.frames import decode_frame, encode
from syncd.client.tables import CONNECTION_TABLE, ConnectionInput, ConnectionState
from syncd.codes import CloseCode

S = ConnectionState
WELCOME = {
    "session": "s1",
    "clients": [{"client": "c1", "secret": "shh", "last_mid": 0}],
    "server_time_ms": 0,
    "ping_ms": 25_000,
    "max_frame_bytes": 1000,
}


def make(**options):
    counter = itertools.count()
    return ClientCore(random.Random(1), lambda: f"uid{next(counter)}", **options)


def sent(core):
    outputs = core.take()
    return [m for o in outputs if isinstance(o, Send) for m in decode_frame(o.data)]


def of(kind, outputs):
    return [o for o in outputs if isinstance(o, kind)]


def connected(now=0.0, **options):
    core = make(**options)
    core.start(now)
    core.connect_succeeded()
    core.receive(encode("welcome", WELCOME), now)
    core.take()
    assert core.state is S.CONNECTED
    return core


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


# ---------------------------------------------------------------- tokens


def test_a_source_is_asked_before_the_first_dial():
    core = make(has_token_source=True)
    core.start(0)
    assert of(AskToken, core.take()) == [AskToken()]
    core.token_supplied(0, "t1")
    core.connect_succeeded()
    assert sent(core)[0][1]["token"] == "t1"


def test_a_refused_token_is_replaced_once_and_a_second_refusal_fails():
    core = make(token="old", has_token_source=True)
    core.start(0)
    core.closed(0, 4401)
    assert core.state is S.NEEDS_AUTH
    core.token_supplied(0, "new")
    core.closed(0, 4401, "no")
    assert core.state is S.FAILED
    assert isinstance(core.error, Unauthorized)


def test_an_expiry_after_a_long_session_asks_anew_every_time():
    core = connected(token="t", has_token_source=True)
    now = 0.0
    for _ in range(5):
        now += 3600
        core.closed(now, 4401, "expired")
        assert core.state is S.NEEDS_AUTH
        core.token_supplied(now, "newer")
        core.connect_succeeded()
        core.receive(encode("welcome", WELCOME), now)
        assert core.state is S.CONNECTED


def test_a_token_that_is_welcomed_and_refused_at_once_does_not_spin():
    core = connected(token="t", has_token_source=True)
    core.closed(1, 4401)
    core.token_supplied(1, "t2")
    core.receive(encode("welcome", WELCOME), 1)
    core.closed(2, 4401)
    assert core.state is S.FAILED


def test_when_no_token_can_be_had_now_it_is_asked_for_again_after_a_wait():
    core = make(has_token_source=True)
    core.start(0)
    core.token_unavailable(0)
    core.take()
    core.tick(core.next_deadline())
    outputs = core.take()
    assert of(AskToken, outputs)
    assert not of(Dial, outputs)


def test_a_newer_token_is_told_at_once_and_used_by_later_hellos():
    core = connected()
    core.set_token("t2")
    [(kind, body)] = sent(core)
    assert (kind, body["token"]) == ("auth", "t2")
    refusal = {"id": body["id"], "code": "unauthorized", "message": "no", "retryable": False}
    core.receive(encode("error", refusal), 1)
    assert core.take() == [Complaint("unauthorized", "no")]
    core.closed(1, 1006)
    core.wake(1)
    core.connect_succeeded()
    assert sent(core)[0][1]["token"] == "t2"


def test_a_token_on_its_way_when_the_connection_ends_is_not_told_twice():
    core = connected()
    core.set_token("t2")
    core.closed(1, 1006)
    core.wake(1)
    core.connect_succeeded()
    core.receive(encode("welcome", WELCOME), 1)
    assert [kind for kind, _ in sent(core)] == ["hello"]


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


# ---------------------------------------------------------------- requests


def refuse(core, request_id, *, retryable, now, after_ms=None):
    error = {"id": request_id, "code": "overloaded", "message": "m", "retryable": retryable}
    core.receive(encode("error", {**error, "after_ms": after_ms}), now)


def test_a_publication_is_resent_under_the_same_uid_until_it_is_answered():
    core = make()
    core.start(0)
    request_id = core.publish("demo:a", {"n": 1}, name="note", key="k")
    uids = []
    for _ in range(3):
        core.connect_succeeded()
        core.receive(encode("welcome", WELCOME), 0)
        uids += [body["uid"] for kind, body in sent(core) if kind == "publish"]
        core.closed(0, 1006)
        core.wake(0)
    assert uids == ["uid0"] * 3
    core.connect_succeeded()
    core.receive(encode("welcome", WELCOME), 0)
    core.take()
    position = {"epoch": "e", "offset": 7}
    core.receive(encode("ok", {"id": request_id, "position": position}), 0)
    core.receive(encode("ok", {"id": request_id, "position": position}), 0)
    [settled] = core.take()
    assert (settled.request_id, settled.result.offset, settled.error) == (request_id, 7, None)


def test_a_retryable_refusal_is_tried_again_no_earlier_than_the_server_asked():
    core = connected()
    request_id = core.publish("demo:a", 1)
    core.take()
    refuse(core, request_id, retryable=True, now=1.0, after_ms=2000)
    at = core.next_deadline()
    assert 3.0 <= at <= 3.25
    core.tick(at)
    [(kind, body)] = sent(core)
    assert (kind, body["id"]) == ("publish", request_id)


def test_a_final_refusal_settles_with_its_code():
    core = connected()
    request_id = core.publish("demo:a", 1)
    core.take()
    refuse(core, request_id, retryable=False, now=1.0)
    [settled] = core.take()
    assert isinstance(settled.error, RequestFailed)
    assert (settled.error.code, str(settled.error)) == ("overloaded", "overloaded: m")


def test_a_message_the_server_would_close_for_is_refused_here():
    core = connected()
    core.publish("demo:a", "x" * 1000)
    [settled] = core.take()
    assert settled.error.code == "too_large"
    core.closed(1, 1006)
    offline = core.publish("demo:a", "x" * 1000)
    core.wake(1)
    core.connect_succeeded()
    core.receive(encode("welcome", WELCOME), 1)
    [settled] = of(Settled, core.take())
    assert (settled.request_id, settled.error.code) == (offline, "too_large")


def test_frames_hold_many_messages_but_never_more_than_the_server_takes():
    core = connected()
    for n in range(50):
        core.publish("demo:a", n)
    frames = [o.data for o in core.take()]
    assert all(len(frame) <= 1000 for frame in frames)
    assert len(frames) < 10
    assert [b["data"] for f in frames for _, b in decode_frame(f)] == list(range(50))


def test_a_request_nobody_waits_for_is_not_sent_again():
    core = connected()
    core.forget(core.publish("demo:a", 1))
    core.take()
    core.closed(1, 1006)
    core.wake(1)
    core.connect_succeeded()
    core.receive(encode("welcome", WELCOME), 1)
    assert [kind for kind, _ in sent(core)] == ["hello"]


@pytest.mark.parametrize("end", ["close", "fail"])
def test_when_the_client_ends_every_request_settles(end):
    core = connected()
    ids = [core.publish("demo:a", 1), core.history("demo:a"), core.set_presence("demo:a", {})]
    core.take()
    if end == "close":
        core.close()
    else:
        core.closed(1, 4503, "go away")
    settled = of(Settled, core.take())
    assert [s.request_id for s in settled] == ids
    expected = ClientClosed if end == "close" else ConnectionStopped
    assert all(isinstance(s.error, expected) for s in settled)
    late = core.publish("demo:a", 2)
    [settled] = core.take()
    assert settled.request_id == late
    assert isinstance(settled.error, expected)


def test_closing_leaves_presence_and_hangs_up():
    core = connected()
    core.set_presence("demo:a", {"x": 1})
    core.take()
    core.close()
    outputs = core.take()
    [(kind, body)] = [m for o in of(Send, outputs) for m in decode_frame(o.data)]
    assert (kind, body["channel"], "state" in body) == ("presence", "demo:a", False)
    assert of(Hangup, outputs) == [Hangup(1000, "")]
    assert outputs.index(of(Send, outputs)[0]) < outputs.index(of(Hangup, outputs)[0])


def test_data_without_a_wire_form_is_refused_before_anything_is_queued():
    core = connected()
    with pytest.raises(TypeError):
        core.publish("demo:a", object())
    with pytest.raises(TypeError):
        core.set_presence("demo:a", object())
    assert core.take() == []


def test_presence_is_announced_again_on_every_connection_until_it_is_left():
    core = connected()
    core.set_presence("demo:a", {"x": 1})
    [(_, body)] = sent(core)
    core.receive(encode("ok", {"id": body["id"]}), 1)
    core.closed(1, 1006)
    core.wake(1)
    core.connect_succeeded()
    core.receive(encode("welcome", WELCOME), 1)
    announced = [body for kind, body in sent(core) if kind == "presence"]
    assert [a["state"] for a in announced] == [{"x": 1}]
    core.set_presence("demo:a", None)
    core.take()
    core.closed(2, 1006)
    core.wake(2)
    core.connect_succeeded()
    core.receive(encode("welcome", WELCOME), 2)
    presence = [body for kind, body in sent(core) if kind == "presence"]
    assert [p["state"] for p in presence] == [None], "the leave itself is resent, nothing else"


def test_an_older_presence_state_never_overtakes_a_newer_one():
    core = connected()
    first = core.set_presence("demo:a", 1)
    core.take()
    refuse(core, first, retryable=True, now=1.0)
    core.set_presence("demo:a", 2)
    settled = of(Settled, core.take())
    assert settled == [Settled(first, None, None)]
    core.tick(30.0)
    assert sent(core) == []


def test_an_announcement_that_is_refused_for_good_is_not_repeated():
    core = connected()
    refused = core.set_presence("demo:a", 1)
    core.take()
    refuse(core, refused, retryable=False, now=1.0)
    core.take()
    core.closed(1, 1006)
    core.wake(1)
    core.connect_succeeded()
    core.receive(encode("welcome", WELCOME), 1)
    assert [kind for kind, _ in sent(core)] == ["hello"]


def test_history_returns_events_and_the_top():
    core = connected()
    request_id = core.history("demo:a", limit=5, reverse=True)
    [(_, body)] = sent(core)
    assert body == {"id": request_id, "channel": "demo:a", "limit": 5, "reverse": True}
    event = {"channel": "demo:a", "epoch": "e", "prev": 0, "offset": 1, "data": b"\x00", "at_ms": 9}
    event["by"] = {"client": "c9"}
    answer = {"id": request_id, "events": [event], "position": {"epoch": "e", "offset": 1}}
    core.receive(encode("ok", answer), 1)
    [settled] = core.take()
    [found] = settled.result.events
    assert (found.data, found.by, found.position) == (b"\x00", "c9", settled.result.position)
