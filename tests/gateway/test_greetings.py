"""A hello of known clients: it waits for their last mutations, and what follows it waits too, in order and bounded."""

import pytest

from syncd.codes import CloseCode, ErrorCode
from syncd.errors import SyncdError
from syncd.gateway.holding import HOLD_S, MAX_HELD, MAX_HELD_BYTES
from syncd.ports import PublishEvent
from syncd.ports_collections import AddClients, LastMids, MutateState
from syncd.ports_operators import Target
from syncd.wire.session import Phase
from tests.gateway.state_desk import asked, comes_back, state_desk, welcome

DAY_S = 86_400


def mutate(mid, **more):
    return ("mutate", {"mid": mid, "name": "orders.ship", **more})


def publish(number, data=None):
    return ("publish", {"id": number, "channel": "open:a", "data": data})


def returning(desk, *messages, clients=1):
    """A connection whose hello names known clients, with messages right behind it."""
    claims = []
    for _ in range(clients):
        first = desk.client()
        desk.hub.drop(first.connection)
        claims.append(first.claim)
    desk.turn()
    desk.cache_owner.take()
    client = desk.dial()
    client.say_all(("hello", {"v": 1, "clients": claims}), *messages)
    client.claims = claims
    return client


def test_a_fresh_client_is_welcomed_at_once_and_nobody_is_asked():
    desk = state_desk()
    desk.client()
    assert desk.cache_owner.take() == []


def test_a_known_client_is_told_its_last_mutation():
    desk = state_desk()
    client = returning(desk, clients=2)
    assert client.heard() == []
    names = [claim["client"] for claim in client.claims]
    command = asked(desk)
    assert isinstance(command, AddClients)
    assert list(command.clients) == names
    command.done(LastMids([7, 0], "era 1"))
    desk.turn()
    ((kind, body),) = client.heard()
    assert kind == "welcome"
    assert body["clients"] == [
        {"client": names[0], "last_mid": 7},
        {"client": names[1], "last_mid": 0},
    ]


def test_what_follows_the_hello_is_handled_after_the_welcome_in_order():
    desk = state_desk()
    client = returning(desk, ("probe", {"nonce": 1}), mutate(8), ("x", {"id": 3}))
    client.say_all(publish(4), ("probe", {"nonce": 2}))
    client.say_all(mutate(9))
    command = asked(desk)
    assert client.heard() == []
    assert desk.broadcaster.take() == []
    command.done(LastMids([7], "era 1"))
    desk.turn()
    kinds = [(kind, body.get("nonce", body.get("id"))) for kind, body in client.heard()]
    assert kinds == [("welcome", None), ("pong", 1), ("error", 3), ("pong", 2)]
    assert [command.mid for command in desk.cache_owner.take()] == [8, 9]
    assert [type(command) for command in desk.broadcaster.take()] == [PublishEvent]
    client.say_all(mutate(10))
    assert asked(desk).mid == 10, "nothing is held any more"


def test_a_second_hello_breaks_the_protocol_also_while_the_first_one_waits():
    desk = state_desk()
    client = returning(desk, ("hello", {"v": 1}))
    asked(desk).done(LastMids([0], "era 1"))
    desk.turn()
    assert client.heard()[-1] == ("close", CloseCode.PROTOCOL_ERROR)


@pytest.mark.parametrize("how", ["silence", "error"])
def test_a_hello_that_gets_no_answer_sends_the_client_away_for_a_moment(how):
    desk = state_desk()
    client = returning(desk, mutate(1))
    command = asked(desk)
    if how == "error":
        command.done(SyncdError(ErrorCode.STORE_UNAVAILABLE, after_ms=1000))
        desk.turn()
    else:
        desk.pass_time(HOLD_S - 0.5)
        assert client.heard() == []
        desk.pass_time(1)
    (kind, bye), (close, code) = client.heard()
    assert (kind, close, code) == ("bye", "close", CloseCode.OVERLOADED)
    assert (bye["reconnect"], bye["after_ms"]) == (True, 1000)
    command.done(LastMids([5], "era 1"))
    desk.turn()
    assert client.heard() == []
    assert desk.cache_owner.take() == []
    assert desk.sessions.by_client == {}


def test_an_answer_for_a_session_that_is_gone_is_dropped():
    desk = state_desk()
    client = returning(desk, mutate(1))
    command = asked(desk)
    desk.hub.drop(client.connection)
    command.done(LastMids([5], "era 1"))
    desk.turn()
    assert desk.cache_owner.take() == []
    assert client.connection.held is None


# ---------------------------------------------------------------------------------------------- take-over


def test_of_an_older_session_counts_what_was_handed_over_and_later_ones_are_refused():
    desk = state_desk()
    older = desk.client()
    claims = [older.claim]
    keeper = desk.client()
    desk.hub.drop(keeper.connection)
    both = comes_back(desk, [older.claim, keeper.claim], [0, 0])
    both.say("mutate", mid=1, name="orders.ship", client=older.id)
    newer = desk.dial()
    newer.say("hello", v=1, clients=claims)
    both.say("mutate", mid=2, name="orders.ship", client=older.id)
    first, second = desk.cache_owner.take()
    assert isinstance(first, MutateState)
    assert isinstance(second, AddClients), "the mutation before it is counted, none comes behind it"
    ((_, body),) = both.heard()
    assert (body["code"], body["mid"]) == ("client_denied", 2)
    second.done(LastMids([1], "era 1"))
    desk.turn()
    newer.say("mutate", mid=2, name="orders.ship")
    assert asked(desk).client == older.id


def test_a_session_that_is_taken_over_while_it_waits_says_nothing_of_its_client():
    desk = state_desk()
    waiting = returning(desk, mutate(1))
    first = asked(desk)
    newest = desk.dial()
    newest.say("hello", v=1, clients=waiting.claims)
    assert waiting.heard()[-1] == ("close", CloseCode.TAKEN_OVER)
    first.done(LastMids([3], "era 1"))
    desk.turn()
    assert waiting.heard() == []
    welcome(desk, newest, [3])
    assert newest.connection.phase is Phase.OPEN
    assert desk.sessions.by_client == {newest.id: newest.connection}


def test_a_waiting_session_that_loses_one_of_its_clients_speaks_for_the_other():
    desk = state_desk()
    waiting = returning(desk, clients=2)
    command = asked(desk)
    lost, kept = (claim["client"] for claim in waiting.claims)
    newest = desk.dial()
    newest.say("hello", v=1, clients=waiting.claims[:1])
    command.done(LastMids([1, 2], "era 1"))
    desk.turn()
    assert waiting.connection.clients == (kept,)
    assert desk.sessions.by_client == {lost: newest.connection, kept: waiting.connection}


# ---------------------------------------------------------------------------------------------- ids of long ago


@pytest.mark.parametrize(
    ("days", "last_mid", "is_known"), [(90, 0, True), (91, 0, False), (91, 1, True), (900, 5, True)]
)
def test_a_client_that_the_store_may_have_forgotten_gets_a_new_id(days, last_mid, is_known):
    desk = state_desk()
    old = desk.client()
    desk.hub.drop(old.connection)
    desk.wall_s += days * DAY_S
    client = desk.dial()
    client.say("hello", v=1, clients=[old.claim])
    asked(desk).done(LastMids([last_mid], "era 1"))
    desk.turn()
    (_, body), *resets = client.heard()
    (told,) = body["clients"]
    if is_known:
        assert told == {"client": old.id, "last_mid": last_mid}
        assert resets == []
        return
    assert told["client"] != old.id
    assert resets == [("reset", {"scope": "client", "client": old.id, "code": "client_unknown"})]
    assert desk.sessions.by_client == {told["client"]: client.connection}
    client.say("mutate", mid=1, name="orders.ship", client=old.id)
    assert client.codes() == ["client_denied"]


# ---------------------------------------------------------------------------------------------- bounds


def test_what_is_held_is_bounded_in_number_and_the_socket_is_read_again_afterwards():
    desk = state_desk()
    client = returning(desk)
    num_sent = 0
    while not client.connection.is_paused:
        client.say_all(*(publish(num_sent + number) for number in range(10)))
        num_sent += 10
        assert num_sent <= MAX_HELD + 10
    desk.hub.resume_unless_parked(client.connection)
    assert client.connection.is_paused, "not by the way either"
    asked(desk).done(LastMids([0], "era 1"))
    desk.turn()
    assert not client.connection.is_paused
    assert [command.request_id for command in desk.broadcaster.take()] == [*range(num_sent)]


def test_what_is_held_is_bounded_in_bytes():
    desk = state_desk()
    client = returning(desk)
    for number in range(MAX_HELD_BYTES // 10_000 + 1):
        assert not client.connection.is_paused
        client.say_all(publish(number, "x" * 10_000))
    assert client.connection.is_paused


def test_flood_limits_hold_while_a_session_waits():
    desk = state_desk(limits={"messages_per_s": 10.0, "messages_burst": 20})
    client = returning(desk)
    for _ in range(3):
        client.say_all(*(publish(number) for number in range(15)))
    assert client.heard()[-1] == ("close", CloseCode.TOO_MANY_REQUESTS)
    asked(desk).done(LastMids([0], "era 1"))
    desk.turn()
    assert desk.broadcaster.take() == []


def test_a_revoked_user_does_not_come_in_by_waiting():
    desk = state_desk()
    first = desk.client()
    desk.hub.drop(first.connection)
    client = desk.dial()
    client.say("hello", v=1, clients=[first.claim], token=desk.token("eve"))
    assert desk.admin.revoke(Target(user="eve"), until_s=None) == 1
    asked(desk).done(LastMids([0], "era 1"))
    desk.turn()
    assert [kind for kind, _ in client.heard()] == ["bye", "close"]


def test_a_mutation_names_the_life_of_the_store_in_which_its_number_was_told():
    desk = state_desk()
    client = returning(desk, mutate(8))
    asked(desk).done(LastMids([7], "era 1"))
    desk.turn()
    assert asked(desk).era == "era 1"
    desk.hub.era = lambda: "era 2"
    client.say("mutate", mid=9, name="orders.ship")
    assert asked(desk).era == "era 1", "it was not told anew"
    fresh = desk.client()
    fresh.say("mutate", mid=1, name="orders.ship")
    assert asked(desk).era == "era 2"
