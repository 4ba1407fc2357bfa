"""Sessions that wait for an authorizer: nothing overtakes, nobody else waits, and no answer is a refusal for now."""

import pytest
import structlog.testing
import trio
import trio.testing

from syncd.codes import ErrorCode
from syncd.errors import RequestRejected
from syncd.gateway.gateway import Gateway
from syncd.gateway.heads import Heads
from syncd.gateway.holding import HOLD_S, MAX_HELD
from syncd.ports import PublishEvent
from syncd.ports_collections import LastMids, MutateState, ReadEntries
from tests.gateway.state_desk import asked, live_watch, state_desk
from tests.gateway.talk import publish


class Oracle:
    """An async authorizer whose answers the test gives."""

    def __init__(self):
        self.asked = []
        self.pending = {}
        self.answers = {}

    async def __call__(self, identity, action, target):
        self.asked.append((identity.user, action, target))
        if (action, target) not in self.answers:
            event = self.pending.setdefault((action, target), trio.Event())
            await event.wait()
        answer = self.answers[action, target]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def say(self, action, target, answer):
        """Answer, and let everybody hear it."""
        self.answers[action, target] = answer
        if (action, target) in self.pending:
            self.pending.pop((action, target)).set()
        await trio.testing.wait_all_tasks_blocked()


@pytest.fixture
def oracle():
    return Oracle()


@pytest.fixture
def desk(oracle, nursery):
    made = state_desk(authorizer=oracle)
    nursery.start_soon(made.authorizer.run)
    return made


async def settled(desk):
    await trio.testing.wait_all_tasks_blocked()
    desk.turn()


# ---------------------------------------------------------------------------------------------- coroutines


async def test_a_session_waits_for_the_answer_and_nothing_of_it_overtakes(desk, oracle):
    client, other = desk.client(), desk.client()
    client.say_all(
        publish(1), ("probe", {"nonce": 1}), ("mutate", {"mid": 1, "name": "orders.ship"})
    )
    client.say_all(("probe", {"nonce": 2}))
    await settled(desk)
    assert client.heard() == []
    assert desk.broadcaster.take() == []
    other.say("probe", nonce=9)
    assert other.heard() == [("pong", {"nonce": 9})], "others go on"
    await oracle.say("publish", "open:a", True)
    desk.turn()
    assert client.heard() == [("pong", {"nonce": 1})]
    assert len(desk.broadcaster.take()) == 1
    await oracle.say("mutate", "orders.ship", False)
    desk.turn()
    assert client.heard() == [("pong", {"nonce": 2})]
    assert asked(desk).refusal == "permission_denied"
    client.say_all(publish(2))
    assert len(desk.broadcaster.take()) == 1, "the answer is remembered"
    assert client.connection.held is None
    assert len(oracle.asked) == 2


async def test_a_denial_and_an_exception_answer_the_request_that_asked(desk, oracle):
    client = desk.client()
    oracle.answers = {("publish", "open:a"): False, ("publish", "open:b"): ValueError("no")}
    with structlog.testing.capture_logs():
        client.say_all(publish(1), publish(2, "open:b"), publish(3))
        await settled(desk)
    answers = [(body["id"], body["code"]) for _, body in client.heard()]
    assert answers == [(number, "permission_denied") for number in (1, 2, 3)]


async def test_without_an_answer_the_request_is_refused_for_now_and_the_rest_goes_on(desk, oracle):
    client = desk.client()
    client.say_all(
        publish(1),
        publish(2),
        ("mutate", {"mid": 1, "name": "orders.ship"}),
        ("probe", {"nonce": 5}),
    )
    await settled(desk)
    desk.pass_time(HOLD_S + 0.5)
    heard = client.heard()
    assert [(body["id"], body["code"]) for _, body in heard] == [
        (1, "overloaded"),
        (2, "overloaded"),
    ]
    assert all(body["retryable"] and body["after_ms"] == 1000 for _, body in heard)
    await settled(desk)
    desk.pass_time(HOLD_S + 0.5)
    undecided, pong = client.heard()
    assert (undecided[1]["mid"], undecided[1]["code"]) == (1, "overloaded")
    assert pong == ("pong", {"nonce": 5})
    assert client.connection.held is None
    await oracle.say("publish", "open:a", True)
    client.say_all(publish(3))
    await settled(desk)
    assert len(desk.broadcaster.take()) == 1, "asked anew"


async def test_a_flood_behind_a_hanging_authorizer_is_not_read(desk, oracle):
    desk = state_desk(
        authorizer=oracle, limits={"messages_per_s": 1e6, "messages_burst": 1_000_000}
    )
    client = desk.client()
    num_sent = 0
    for _ in range(10_000 // 50):
        if client.connection.is_paused:
            break
        client.say_all(*(publish(num_sent + number) for number in range(50)))
        num_sent += 50
    assert MAX_HELD <= num_sent <= MAX_HELD + 50
    assert client.connection.held.count == num_sent
    desk.pass_time(HOLD_S + 0.5)
    assert [body["id"] for _, body in client.heard()] == [*range(num_sent)]
    assert not client.connection.is_paused


async def test_one_question_is_asked_once_for_all_sessions_of_the_same_identity(desk, oracle):
    clients = [desk.client() for _ in range(5)]
    ann = desk.client(token=desk.token(channels=["a"]))
    also_ann = desk.client(token=desk.token(channels=["b"]))
    for client in (*clients, ann, also_ann):
        client.say_all(publish(1))
    await settled(desk)
    assert oracle.asked == [
        (None, "publish", "open:a"),
        ("ann", "publish", "open:a"),
        ("ann", "publish", "open:a"),
    ], "tokens with other claims are other questions"
    await oracle.say("publish", "open:a", True)
    desk.turn()
    assert len(desk.broadcaster.take()) == 7


async def test_the_identity_that_was_asked_about_gets_the_answer_and_no_newer_one(desk, oracle):
    client = desk.client(token=desk.token(roles=["staff"]))
    client.say_all(publish(1))
    client.say_all(("auth", {"id": 2, "token": desk.token()}), publish(3))
    await settled(desk)
    await oracle.say("publish", "open:a", True)
    desk.turn()
    oracle.answers["publish", "open:a"] = False
    await settled(desk)
    assert oracle.asked == [("ann", "publish", "open:a")] * 2


async def test_a_session_that_ends_while_it_waits_is_forgotten(desk, oracle):
    client = desk.client()
    client.say_all(publish(1), publish(2))
    await settled(desk)
    desk.hub.drop(client.connection)
    await oracle.say("publish", "open:a", True)
    desk.turn()
    assert [c for c in desk.broadcaster.take() if isinstance(c, PublishEvent)] == []
    assert client.connection.grants is None


async def test_a_request_with_two_questions_waits_for_both(desk, oracle):
    client = desk.client()
    client.say("subscribe", id=1, channel="open:a", presence=True)
    await settled(desk)
    await oracle.say("subscribe", "open:a", True)
    desk.turn()
    assert desk.broadcaster.take() == []
    await oracle.say("presence", "open:a", True)
    desk.turn()
    assert len(desk.broadcaster.take()) == 1
    assert len(desk.presence.take()) == 1


async def test_a_held_read_is_charged_with_its_own_frame(desk, oracle):
    client = desk.client()
    client.say("read", id=1, collection="orders", keys=["x" * 200])
    client.say("probe", nonce=1)
    await settled(desk)
    await oracle.say("read", "orders", True)
    desk.turn()
    assert isinstance(asked(desk), ReadEntries)
    assert 200 < desk.cache_owner.sizes[-1] < 300


async def test_mutations_of_a_session_that_waited_keep_their_order(desk, oracle):
    oracle.answers["read", "orders"] = True
    client = desk.client()
    client.say_all(
        ("mutate", {"mid": 1, "name": "orders.ship"}),
        ("read", {"id": 1, "collection": "orders", "keys": ["a"]}),
        ("mutate", {"mid": 2, "name": "orders.ship"}),
    )
    await settled(desk)
    await oracle.say("mutate", "orders.ship", True)
    desk.turn()
    kinds = [type(command) for command in desk.cache_owner.take()]
    assert kinds == [MutateState, ReadEntries, MutateState]


async def test_the_rest_of_a_frame_waits_before_the_frames_that_came_after_it(desk, oracle):
    oracle.answers["write", "orders"] = True
    client = desk.client()
    client.say("mutate", mid=1, name="orders.put", args={"key": "a"})
    await settled(desk)
    client.say_all(publish(1), ("mutate", {"mid": 2, "name": "orders.ship"}))
    client.say_all(("mutate", {"mid": 3, "name": "orders.put", "args": {"key": "a"}}))
    await settled(desk)
    await oracle.say("publish", "open:a", True)
    await oracle.say("mutate", "orders.ship", True)
    desk.turn()
    assert [command.mid for command in desk.cache_owner.take()] == [1, 2, 3]


async def test_a_watch_that_waits_is_entered_when_it_is_allowed(desk, oracle):
    client = desk.client()
    client.say("watch", id=1, collection="orders", all=True)
    await settled(desk)
    assert not client.connection.subscriptions
    await oracle.say("read", "orders", True)
    desk.turn()
    assert asked(desk).request_id == 1
    assert live_watch(desk, client, collection="orders", keys=["a"])


# ---------------------------------------------------------------------------------------------- auth


async def test_a_newer_token_has_everything_asked_again_at_once(desk, oracle):
    for target in ("open:a", "open:b"):
        oracle.answers["subscribe", target] = True
    oracle.answers["presence", "open:a"] = True
    for target in ("orders", "own"):
        oracle.answers["read", target] = True
    client = desk.client(token=desk.token())
    client.say("subscribe", id=1, channel="open:a", presence=True)
    await settled(desk)
    subscriptions = [desk.broadcaster.take()[0].subscription]
    client.say("subscribe", id=2, channel="open:b")
    await settled(desk)
    subscriptions.append(desk.broadcaster.take()[0].subscription)
    for subscription in subscriptions:
        subscription.is_live, subscription.pending_id = True, None
    for name in ("orders", "own"):
        client.say("watch", id=3, collection=name, all=True)
        await settled(desk)
        watch = asked(desk).subscription
        watch.is_live, watch.epoch = True, "e"
    oracle.answers.clear()
    oracle.asked.clear()
    client.say_all(("auth", {"id": 9, "token": desk.token()}), ("probe", {"nonce": 1}))
    await settled(desk)
    assert len(oracle.asked) == 5, "all on their way together"
    assert client.heard() == []
    desk.presence.take()
    await oracle.say("read", "own", False)
    await oracle.say("subscribe", "open:b", False)
    await oracle.say("presence", "open:a", False)
    await oracle.say("read", "orders", True)
    await oracle.say("subscribe", "open:a", True)
    desk.turn()
    heard = client.heard()
    assert [body.get("channel", kind) for kind, body in heard] == ["own", "open:b", "ok", "pong"]
    assert set(client.connection.subscriptions) == {"open:a", "orders"}
    assert len(desk.presence.take()) == 1
    assert client.connection.watched == set()


async def test_what_cannot_be_decided_in_time_ends_so_that_it_is_asked_for_again(desk, oracle):
    oracle.answers["read", "orders"] = True
    client = desk.client(token=desk.token())
    client.say("watch", id=1, collection="orders", all=True)
    await settled(desk)
    watch = asked(desk).subscription
    watch.is_live, watch.epoch, watch.offset = True, "e", 4
    client.say("watch", id=2, collection="own", all=True)
    await oracle.say("read", "own", True)
    desk.turn()
    oracle.answers.clear()
    client.say("auth", id=9, token=desk.token())
    await settled(desk)
    desk.pass_time(HOLD_S + 0.5)
    lagged, error, ok = client.heard()
    assert lagged == ("lagged", {"channel": "orders", "position": {"epoch": "e", "offset": 4}})
    assert (error[1]["id"], error[1]["code"]) == (2, "overloaded")
    assert ok == ("ok", {"id": 9})


async def test_answers_about_an_older_token_are_worth_nothing_for_the_newer_one(desk, oracle):
    client = desk.client(token=desk.token())
    oracle.answers["publish", "open:a"] = True
    client.say_all(publish(1))
    await settled(desk)
    oracle.answers["publish", "open:a"] = False
    client.say_all(("auth", {"id": 2, "token": desk.token()}), publish(3))
    await settled(desk)
    assert [body.get("code") for _, body in client.heard()] == [None, "permission_denied"]


# ---------------------------------------------------------------------------------------------- in the gateway


async def test_the_gateway_makes_the_calls_and_ends_the_round_that_an_answer_begins(
    oracle, nursery
):
    desk = state_desk(authorizer=oracle, driver="stream")
    heads = Heads(desk.config, desk.hub, serves_http=False, is_loopback=True)
    gateway = Gateway(
        desk.config, desk.hub, desk.sessions, heads, serve_http=None, authorizer=desk.authorizer
    )
    await nursery.start(gateway.run, [])
    client = desk.client()
    client.say_all(publish(1), ("probe", {"nonce": 1}))
    await trio.testing.wait_all_tasks_blocked()
    await oracle.say("publish", "open:a", True)
    await trio.testing.wait_all_tasks_blocked()
    assert client.heard() == [("pong", {"nonce": 1})]
    assert len(desk.broadcaster.take()) == 1
    desk.hub.drop(client.connection)
    again = desk.dial()
    again.say("hello", v=1, clients=[client.claim])
    asked(desk).done(LastMids([3], "era 1"))
    await trio.testing.wait_all_tasks_blocked()
    assert [kind for kind, _ in again.heard()] == ["welcome"], "nobody else ended the round"
    again.say("read", id=1, collection="orders", keys=["a"])
    await oracle.say("read", "orders", True)
    await trio.testing.wait_all_tasks_blocked()
    asked(desk).done(RequestRejected(ErrorCode.BEHIND))
    await trio.testing.wait_all_tasks_blocked()
    assert again.codes() == ["behind"]
