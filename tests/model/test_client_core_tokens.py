"""The client's tokens: when it asks for one, and what it does when one is refused."""

from syncd.client.errors import Unauthorized
from syncd.client.facts import AskToken, Complaint, Dial
from syncd.client.frames import encode
from syncd.client.tables import ConnectionState
from tests.model.client_steps import WELCOME, connected, make, of, sent

S = ConnectionState


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
