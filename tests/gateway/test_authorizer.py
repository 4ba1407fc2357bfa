"""The application's authorizer: what it is asked, how many calls run, and that whatever goes wrong denies."""

import pytest
import structlog.testing
import trio
import trio.testing

from syncd.codes import ErrorCode
from syncd.errors import RequestRejected
from syncd.gateway import authorizer as a
from syncd.gateway.authorizer import AuthorizerCalls
from syncd.gateway.holding import HOLD_S
from syncd.ports import Identity
from tests.gateway.state_desk import state_desk
from tests.gateway.talk import publish

# ---------------------------------------------------------------------------------------------- plain functions


def test_a_plain_function_is_asked_at_once_and_once_for_what_it_answered():
    calls = []

    def allow(identity, action, target):
        calls.append((identity.user, action, target))
        return target != "orders"

    desk = state_desk(authorizer=allow)
    client = desk.client(token=desk.token())
    for _ in range(2):
        client.say("publish", id=1, channel="open:a", data=1)
        client.say("read", id=2, collection="orders", keys=["a"])
        client.say("mutate", mid=1, name="orders.ship")
        client.say("mutate", mid=2, name="orders.put", args={"key": "a"})
    assert calls == [
        ("ann", "publish", "open:a"),
        ("ann", "read", "orders"),
        ("ann", "mutate", "orders.ship"),
        ("ann", "write", "orders"),
    ]
    assert client.codes() == ["permission_denied"] * 2
    refusals = [command.refusal for command in desk.cache_owner.take()]
    assert refusals == [None, "permission_denied"] * 2


def test_every_operation_of_a_client_is_asked_about():
    calls = []

    def allow(_identity, action, target):
        calls.append((action, target))
        return True

    desk = state_desk(authorizer=allow)
    client = desk.client(token=desk.token(channels=["regions/*"]))
    client.say("subscribe", id=1, channel="open:a", presence=True)
    client.say("history", id=2, channel="open:b", limit=1)
    client.say("presence", id=3, channel="open:c", state=1)
    client.say("watch", id=4, collection="regions", partition="eu")
    client.say("mutate", mid=1, name="regions.put", args={"key": "eu/1"})
    assert calls == [
        ("subscribe", "open:a"),
        ("presence", "open:a"),
        ("history", "open:b"),
        ("presence", "open:c"),
        ("read", "regions/eu"),
        ("write", "regions/eu"),
    ]


def test_it_admits_nobody_whom_a_rule_keeps_out_and_decides_alone_where_there_is_none():
    desk = state_desk(authorizer=lambda *_: True)
    client = desk.client()
    client.say("publish", id=1, channel="staff:a", data=1)
    client.say("read", id=2, collection="staff", keys=["a"])
    client.say("publish", id=3, channel="nowhere:a", data=1)
    client.say("read", id=4, collection="nowhere", keys=["a"])
    assert client.codes() == ["permission_denied"] * 4
    client.say("publish", id=5, channel="read:a", data=1)
    (command,) = desk.broadcaster.take()
    assert command.request_id == 5


@pytest.mark.parametrize("answer", [1, "yes", None, object()])
def test_anything_but_true_denies(answer):
    desk = state_desk(authorizer=lambda *_: answer)
    client = desk.client()
    client.say("publish", id=1, channel="open:a", data=1)
    assert client.codes() == ["permission_denied"]


def test_an_exception_denies_that_request_alone_and_is_told_now_and_then():
    def broken(_identity, _action, target):
        if target != "open:fine":
            raise ZeroDivisionError
        return True

    desk = state_desk(authorizer=broken)
    client = desk.client()
    with structlog.testing.capture_logs() as logs:
        for number in range(30):
            client.say("publish", id=number, channel=f"open:{number}", data=1)
        client.say("publish", id=99, channel="open:fine", data=1)
        desk.pass_time(a.LOG_EVERY_S)
        client.heard()
        client.say("publish", id=1, channel="open:later", data=1)
    assert client.codes() == ["permission_denied"]
    assert len(desk.broadcaster.take()) == 1
    assert [log["failures"] for log in logs] == [1, 30]
    assert desk.authorizer.num_failed == 31


def test_an_authorizer_that_would_end_the_program_denies_that_request_alone():
    def leaves(_identity, _action, target):
        if target == "open:a":
            raise SystemExit(1)
        return True

    desk = state_desk(authorizer=leaves)
    client = desk.client()
    client.say("publish", id=1, channel="open:a", data=1)
    client.say("publish", id=2, channel="open:b", data=1)
    assert client.codes() == ["permission_denied"]
    assert [command.request_id for command in desk.broadcaster.take()] == [2]


async def test_so_does_an_async_one(nursery):
    async def leaves(_identity, _action, _target):
        await trio.lowlevel.checkpoint()
        raise SystemExit(1)

    desk = state_desk(authorizer=leaves)
    nursery.start_soon(desk.authorizer.run)
    client = desk.client()
    client.say("publish", id=1, channel="open:a", data=1)
    await trio.testing.wait_all_tasks_blocked()
    desk.turn()
    assert client.codes() == ["permission_denied"]


def test_answers_live_a_minute_at_most_however_seldom_pings_are():
    calls = []

    def allow(*question):
        calls.append(question)
        return True

    desk = state_desk(authorizer=allow, timing={"ping_s": 500.0, "pong_slack_s": 500.0})
    client = desk.client()
    client.say_all(publish(1), publish(2))
    client.say("read", id=1, collection="orders", keys=["a"])
    assert len(calls) == 2
    desk.pass_time(60.5)
    client.say_all(publish(3))
    client.say("read", id=2, collection="orders", keys=["a"])
    assert len(calls) == 4


# ---------------------------------------------------------------------------------------------- the calls


async def test_so_many_calls_run_at_once_and_the_others_wait_their_turn(nursery, monkeypatch):
    monkeypatch.setattr(a, "MAX_CALLS", 3)
    monkeypatch.setattr(a, "MAX_WAITING", 5)
    running, peak, gate = 0, 0, trio.Event()

    async def slow(_identity, _action, _target):
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await gate.wait()
        running -= 1
        return True

    calls = AuthorizerCalls(slow, trio.current_time)
    nursery.start_soon(calls.run)
    answers = []

    async def ask(number):
        assert calls.ask(Identity(), "read", f"t{number}", answers.append) is None
        await trio.testing.wait_all_tasks_blocked()

    for number in range(8):
        await ask(number)
    with pytest.raises(RequestRejected) as refusal:
        await ask(8)
    assert refusal.value.code is ErrorCode.OVERLOADED
    assert (running, peak) == (3, 3)
    gate.set()
    await trio.testing.wait_all_tasks_blocked()
    assert answers == [True] * 8
    assert peak == 3
    assert calls._by_question == {}


async def test_a_call_that_hangs_is_cancelled_and_leaves_its_place(nursery, autojump_clock):
    calls = AuthorizerCalls(hanging, trio.current_time)
    nursery.start_soon(calls.run)
    answers = []
    calls.ask(Identity(), "read", "a", answers.append)
    await trio.sleep(HOLD_S - 0.1)
    assert answers == []
    await trio.sleep(0.2)
    assert answers == [None]
    assert calls._running.borrowed_tokens == 0
    assert calls._by_question == {}


async def hanging(_identity, _action, _target):
    await trio.sleep_forever()


async def test_a_plain_function_may_return_something_to_be_awaited(nursery):
    async def answer():
        return True

    calls = AuthorizerCalls(lambda *_: answer(), trio.current_time)
    answers = []
    assert calls.ask(Identity(), "read", "a", answers.append) is None
    nursery.start_soon(calls.run)
    await trio.testing.wait_all_tasks_blocked()
    assert answers == [True]


async def test_a_node_that_stops_leaves_no_call_behind(monkeypatch):
    monkeypatch.setattr(a, "MAX_CALLS", 1)

    async def answer():
        await trio.sleep_forever()

    calls = AuthorizerCalls(lambda *_: answer(), trio.current_time)
    for number in range(3):
        calls.ask(Identity(), "read", str(number), lambda _answer: None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(calls.run)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel("test")
    assert not calls._waiting
