"""The client's requests: each settles once, whatever happens to the connection meanwhile."""

import pytest

from syncd.client.errors import ClientClosed, ConnectionStopped, RequestFailed
from syncd.client.facts import Hangup, Send, Settled
from syncd.client.frames import decode_frame, encode
from tests.model.client_steps import WELCOME, connected, make, of, sent


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
