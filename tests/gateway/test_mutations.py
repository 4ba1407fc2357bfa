"""Mutations at the gateway: who may, whose clients, in which order they go to the cache-owner, and what is answered."""

import pytest

from syncd.codes import ErrorCode
from syncd.errors import SyncdError
from syncd.ids import Position
from syncd.ports_collections import AcknowledgeOutcomes, MutateState, ReadEntries
from syncd.wire import encode_outcomes
from tests.gateway.desk import EPOCH
from tests.gateway.state_desk import asked, comes_back, state_desk
from tests.gateway.talk import STAFF, refused


def refusal_of(desk, client, name, args=None):
    client.say("mutate", mid=1, name=name, args=args)
    return asked(desk).refusal


# ---------------------------------------------------------------------------------------------- mutate


def test_a_mutation_goes_to_the_cache_owner_with_who_asks():
    desk = state_desk()
    client = desk.client(token=desk.token())
    client.say("mutate", mid=1, name="orders.ship", args={"order_id": "7"})
    command = asked(desk)
    assert isinstance(command, MutateState)
    assert command.asker is client.connection
    assert (command.client, command.mid, command.name) == (client.id, 1, "orders.ship")
    assert command.args == {"order_id": "7"}
    assert command.identity is client.connection.identity
    assert command.refusal is None
    assert desk.admin.statistics().num_mutations == 1
    assert client.heard() == []


def test_a_mutation_for_a_client_of_another_session_is_refused_and_goes_nowhere():
    desk = state_desk()
    victim, client = desk.client(), desk.client()
    for name in (victim.id, "nobody"):
        client.say("mutate", mid=1, name="orders.ship", client=name)
        body = refused(client, "client_denied")
        assert (body["client"], body["mid"], body["retryable"]) == (name, 1, False)
    client.say("mutate_ack", upto=5, client=victim.id)
    refused(client, "client_denied")
    assert desk.cache_owner.take() == []
    assert desk.admin.statistics().errors == {"client_denied": 3}


def test_a_denial_is_decided_like_an_outcome_so_that_the_queue_goes_on():
    desk = state_desk()
    client = desk.client()
    client.say_all(
        ("mutate", {"mid": 1, "name": "staff.put", "args": {"key": "a"}}),
        ("mutate", {"mid": 2, "name": "orders.ship"}),
    )
    denied, allowed = desk.cache_owner.take()
    assert (denied.mid, denied.refusal) == (1, "permission_denied")
    assert (allowed.mid, allowed.refusal) == (2, None)
    assert client.heard() == []


@pytest.mark.parametrize(
    ("name", "args", "refusal"),
    [
        ("orders.ship", None, None),
        ("orders.put", {"key": "a"}, None),
        ("orders.nonsense", None, None),
        ("staff.nonsense", None, "permission_denied"),
        ("nowhere.put", {"key": "a"}, "permission_denied"),
        ("audit", None, "permission_denied"),
        ("own.put", None, "permission_denied"),
        ("own.patch", {"key": "a"}, None),
        ("regions.put", {"key": "eu/1", "value": 1}, None),
        ("regions.put", ["eu/1", 1], None),
        ("regions.put", {"key": "us/1", "value": 1}, "permission_denied"),
        ("regions.put", ["us/1", 1], "permission_denied"),
        ("regions.put", {"key": "eu", "value": 1}, "permission_denied"),
        ("regions.put", {"key": 7}, "permission_denied"),
        ("regions.put", None, "permission_denied"),
        ("regions.patch", {"key": "us/eu/1"}, "permission_denied"),
        ("regions.incr", {"key": "**/1"}, "permission_denied"),
    ],
)
def test_who_may_call_what_is_said_by_the_rules_of_the_collection_and_of_the_partition(
    name, args, refusal
):
    desk = state_desk()
    client = desk.client(token=desk.token(channels=["regions/eu"]))
    assert refusal_of(desk, client, name, args) == refusal
    assert refusal_of(desk, client, name, args) == refusal, "also the second time"


def test_a_mutator_of_no_collection_is_under_the_rules_of_the_application():
    desk = state_desk()
    assert refusal_of(desk, desk.client(token=desk.token(**STAFF)), "audit") is None


def test_a_read_after_a_mutation_keeps_its_place_behind_it():
    desk = state_desk()
    client = desk.client()
    client.say_all(
        ("mutate", {"mid": 1, "name": "orders.ship"}),
        ("read", {"id": 1, "collection": "orders", "keys": ["a"]}),
        ("mutate", {"mid": 2, "name": "orders.ship"}),
    )
    kinds = [type(command) for command in desk.cache_owner.take()]
    assert kinds == [MutateState, ReadEntries, MutateState]


def test_answers_of_a_mutation_reach_the_session_and_none_a_closed_one():
    desk = state_desk()
    client = desk.client()
    stored = encode_outcomes.outcome_ok(client.id, 1, b"\x07")
    connection = client.connection
    connection.send_outcome(stored, {"orders": Position(EPOCH, 3)})
    connection.send_out_of_order(client.id, 2)
    connection.refuse_mutation(client.id, 3, SyncdError(ErrorCode.STORE_UNAVAILABLE, after_ms=9))
    desk.turn()
    outcome, out_of_order, error = client.heard()
    assert outcome[1]["positions"] == {"orders": {"epoch": EPOCH, "offset": 3}}
    assert (outcome[1]["status"], outcome[1]["value"]) == ("ok", 7)
    assert out_of_order == ("out_of_order", {"client": client.id, "expect": 2})
    assert (error[1]["mid"], error[1]["retryable"], error[1]["after_ms"]) == (3, True, 9)
    assert desk.hub.errors == {"store_unavailable": 1}
    desk.hub.drop(connection)
    connection.send_outcome(stored, {})
    connection.send_out_of_order(client.id, 2)
    connection.refuse_mutation(client.id, 3, SyncdError(ErrorCode.STORE_UNAVAILABLE))
    desk.turn()
    assert desk.hub.errors == {"store_unavailable": 1}


def test_an_acknowledgement_is_passed_on_as_of_its_sessions_life_and_not_answered():
    desk = state_desk()
    desk.hub.era = lambda: "first"
    client = desk.client()
    desk.hub.era = lambda: "second"
    client.say("mutate_ack", upto=5)
    command = asked(desk)
    assert isinstance(command, AcknowledgeOutcomes)
    assert (command.client, command.upto, command.era) == (client.id, 5, "first")
    assert client.heard() == []


def test_a_session_of_several_clients_mutates_for_each():
    desk = state_desk()
    first, second = desk.client(), desk.client()
    client = comes_back(desk, [first.claim, second.claim], [1, 2])
    client.say("mutate", mid=3, name="orders.ship", client=second.id)
    client.say("mutate", mid=2, name="orders.ship")
    assert [command.client for command in desk.cache_owner.take()] == [second.id, first.id]


# ---------------------------------------------------------------------------------------------- groups and terms


def test_a_session_of_a_lower_term_reads_but_mutates_no_more():
    desk = state_desk()
    older, newer = desk.client(group="tabs", term=1), desk.client(group="tabs", term=2)
    other_group, alone = desk.client(group="more", term=1), desk.client()
    somebody = desk.client(group="tabs", term=1, token=desk.token())
    for client in (older, newer, other_group, alone, somebody):
        client.say("mutate", mid=1, name="orders.ship")
    told = refused(older, "stale_term")
    assert (told["client"], told["mid"], told["retryable"]) == (older.id, 1, False)
    assert len(desk.cache_owner.take()) == 4
    older.say("mutate_ack", upto=3)
    assert desk.cache_owner.take() == [], "the newer one may still want them"
    older.say("read", id=1, collection="orders", keys=["a"])
    assert isinstance(asked(desk), ReadEntries)


def test_a_group_without_sessions_is_forgotten():
    desk = state_desk()
    clients = [desk.client(group=f"g{number}", term=9) for number in range(20)]
    clients += [desk.client(group="g0", term=1)]
    assert desk.sessions.greetings.num_groups == 20
    for client in clients:
        desk.hub.drop(client.connection)
    assert desk.sessions.greetings.num_groups == 0
    client = desk.client(group="g0", term=1)
    client.say("mutate", mid=1, name="orders.ship")
    assert asked(desk).refusal is None
