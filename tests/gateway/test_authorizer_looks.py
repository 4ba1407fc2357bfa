"""An authorizer that changes its mind about what a session follows already: subscriptions, watches, presence."""

import pytest
import trio
import trio.testing

from syncd.gateway.grants import GRANTS_LIVE_S
from syncd.gateway.holding import HOLD_S
from syncd.ports_presence import Announce
from tests.gateway.state_desk import asked, state_desk
from tests.gateway.talk import publish


class Rules:
    """An authorizer that is told what to say."""

    def __init__(self):
        self.denied, self.asked = set(), []
        self.failure = None

    def __call__(self, _identity, action, target):
        self.asked.append((action, target))
        if self.failure is not None:
            raise self.failure
        return (action, target) not in self.denied


class SlowRules(Rules):
    """One that answers when the test says so."""

    def __init__(self):
        super().__init__()
        self.gate = trio.Event()
        self.gate.set()

    async def __call__(self, identity, action, target):
        await self.gate.wait()
        return Rules.__call__(self, identity, action, target)


FOLLOWED = {
    ("subscribe", "open:a"),
    ("subscribe", "open:b"),
    ("presence", "open:a"),
    ("presence", "open:c"),
    ("read", "orders"),
    ("read", "own"),
}


async def following(desk):
    """A session that follows two channels, the members of one, and two collections, and has announced itself in a third channel."""
    client = desk.client(token=desk.token())

    async def say(kind, **body):
        client.say(kind, **body)
        await trio.testing.wait_all_tasks_blocked()
        desk.turn()

    for number, name in enumerate(("open:a", "open:b")):
        await say("subscribe", id=number, channel=name, presence=name == "open:a")
        subscription = desk.broadcaster.take()[0].subscription
        subscription.is_live, subscription.pending_id = True, None
    for name in ("orders", "own"):
        await say("watch", id=3, collection=name, all=True)
        watch = asked(desk).subscription
        watch.is_live, watch.epoch = True, "e"
    await say("presence", id=4, channel="open:c", state=1)
    client.connection.announced["open:c", client.connection.clients[0]] = b"\x01"
    desk.presence.take()
    client.heard()
    return client


def live(desk, client, seconds):
    """Let time pass; the client answers every ping."""
    for _ in range(int(seconds)):
        desk.pass_time(1.0)
        client.say("pong")


async def settled(desk):
    await trio.testing.wait_all_tasks_blocked()
    desk.turn()


async def test_what_it_does_not_allow_any_more_ends_within_a_minute_and_nothing_else():
    rules = Rules()
    desk = state_desk(authorizer=rules)
    client = await following(desk)
    rules.denied = {("subscribe", "open:b"), ("read", "own"), ("presence", "open:c")}
    live(desk, client, GRANTS_LIVE_S)
    ended = [body for kind, body in client.heard() if kind == "unsubscribed"]
    assert {body["channel"]: body["code"] for body in ended} == {
        "open:b": "revoked",
        "own": "revoked",
    }
    assert set(client.connection.subscriptions) == {"open:a", "orders"}
    left = [each for each in desk.presence.take() if isinstance(each, Announce)]
    assert {(each.channel, each.state) for each in left} == {("open:c", None)}
    assert client.connection.watched == {"open:a"}
    rules.denied.add(("presence", "open:a"))
    live(desk, client, GRANTS_LIVE_S)
    assert client.connection.watched == set()


async def test_each_thing_is_asked_about_once_or_twice_a_minute():
    rules = Rules()
    desk = state_desk(authorizer=rules)
    client = await following(desk)
    rules.asked.clear()
    live(desk, client, 10 * GRANTS_LIVE_S)
    assert set(rules.asked) == FOLLOWED
    for question in FOLLOWED:
        assert 10 <= rules.asked.count(question) <= 20


async def test_a_look_holds_while_pings_are_seldom():
    rules = Rules()
    desk = state_desk(authorizer=rules, timing={"ping_s": 500.0, "pong_slack_s": 500.0})
    client = await following(desk)
    rules.denied = {("read", "own")}
    live(desk, client, GRANTS_LIVE_S + 1)
    assert set(client.connection.subscriptions) == {"open:a", "open:b", "orders"}


@pytest.mark.parametrize("kind", [Rules, SlowRules])
async def test_one_that_raises_ends_nothing_and_denies_what_is_asked_for(kind, nursery):
    rules = kind()
    desk = state_desk(authorizer=rules)
    nursery.start_soon(desk.authorizer.run)
    client = await following(desk)
    rules.failure = OSError("the database is away")
    for _ in range(int(2 * GRANTS_LIVE_S)):
        live(desk, client, 1)
        await settled(desk)
    client.heard()
    assert set(client.connection.subscriptions) == {"open:a", "open:b", "orders", "own"}
    assert client.connection.watched == {"open:a"}
    client.say_all(publish(1))
    await settled(desk)
    assert client.codes() == ["permission_denied"]
    rules.failure, rules.denied = None, {("read", "own")}
    for _ in range(int(GRANTS_LIVE_S)):
        live(desk, client, 1)
        await settled(desk)
    assert set(client.connection.subscriptions) == {"open:a", "open:b", "orders"}


async def test_a_session_waits_while_a_slow_one_is_asked_and_goes_on_when_it_does_not_answer(
    nursery,
):
    rules = SlowRules()
    desk = state_desk(authorizer=rules)
    nursery.start_soon(desk.authorizer.run)
    client = await following(desk)
    rules.gate = trio.Event()
    while client.connection.held is None:
        live(desk, client, 1)
    client.heard()
    client.say("probe", nonce=1)
    assert client.heard() == []
    desk.pass_time(HOLD_S + 0.5)
    assert ("pong", {"nonce": 1}) in client.heard()
    assert set(client.connection.subscriptions) == {"open:a", "open:b", "orders", "own"}
    rules.denied = {("subscribe", "open:a"), ("read", "orders")}
    rules.gate.set()
    for _ in range(int(GRANTS_LIVE_S)):
        live(desk, client, 1)
        await settled(desk)
    assert set(client.connection.subscriptions) == {"open:b", "own"}


async def test_without_an_authorizer_nothing_is_looked_at(monkeypatch):
    desk = state_desk()
    client = await following(desk)
    monkeypatch.setattr(desk.sessions.rechecks, "look", None)
    live(desk, client, 2 * GRANTS_LIVE_S)
    assert client.connection.phase.name == "OPEN"
