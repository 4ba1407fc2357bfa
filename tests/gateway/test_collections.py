"""Mutations, reads and watches: who may, what goes to the cache-owner, and what a failure leaves behind."""

import msgpack
import pytest

from syncd.codes import ErrorCode
from syncd.errors import RequestRejected, SyncdError
from syncd.gateway.collections import MAX_ASKED
from syncd.gateway.pages import MAX_READ_BYTES, MAX_READS
from syncd.ids import Position
from syncd.ports import SubscribeChannel, UnsubscribeChannel
from syncd.ports_collections import (
    AcknowledgeOutcomes,
    EntriesAnswer,
    EntryState,
    MutateState,
    NarrowWatch,
    ReadEntries,
    SnapshotDrained,
    WatchEntries,
)
from syncd.wire import encode_outcomes, encode_state
from tests.gateway.desk import EPOCH, Event
from tests.gateway.state_desk import asked, comes_back, live_watch, state_desk

STAFF = {"roles": ["staff"]}
FAILED = SyncdError(ErrorCode.LOAD_FAILED)


def refused(client, code):
    ((kind, body),) = client.heard()
    assert (kind, body["code"]) == ("error", code)
    return body


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


def test_what_a_frame_carries_is_charged_once_whatever_stands_beside_it():
    desk = state_desk()
    client = desk.client()
    big = ("mutate", {"mid": 1, "name": "orders.put", "args": {"key": "a", "value": "x" * 5000}})
    small = [("mutate", {"mid": mid, "name": "orders.ship"}) for mid in (2, 3)]
    client.say_all(big, *small, ("pong", {}))
    assert len(desk.cache_owner.take()) == 3
    size = sum(len(msgpack.packb(list(message))) for message in (big, *small, ("pong", {})))
    assert desk.cache_owner.sizes == [size]
    client.say("mutate", mid=4, name="orders.ship")
    assert desk.cache_owner.sizes[-1] < 50


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


def test_without_collections_nothing_of_them_is_there():
    desk = state_desk()
    desk.hub.cache_owner = None
    client = desk.client()
    client.say("mutate", mid=1, name="orders.ship")
    refused(client, "permission_denied")
    for kind in ("read", "watch", "unwatch"):
        client.say(kind, id=1, collection="orders", keys=["a"])
        refused(client, "permission_denied")
    client.say("mutate_ack", upto=1)
    assert desk.hub.to_cache_owner == []


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


# ---------------------------------------------------------------------------------------------- read


def answer(command, *sizes):
    keys = [f"k{number}" for number in range(len(sizes))]
    entries = [EntryState(key, 4, b"\xc4" + bytes((0,)) + b"" if not size else b"\xc6" + size.to_bytes(4, "big") + bytes(size)) for key, size in zip(keys, sizes, strict=True)]  # fmt: skip
    command.done(EntriesAnswer(command.channel, Position(EPOCH, 9), entries))


def test_a_read_is_answered_in_the_order_asked():
    desk = state_desk()
    client = desk.client()
    client.say("read", id=5, collection="orders", keys=["b", "a"])
    command = asked(desk)
    assert isinstance(command, ReadEntries)
    assert (command.channel, command.keys, command.client) == ("orders", ["b", "a"], client.id)
    entries = [EntryState("b", 4, b"\x01"), EntryState("a", 0, None)]
    command.done(EntriesAnswer("orders", Position(EPOCH, 9), entries))
    desk.turn()
    assert client.heard() == [
        (
            "ok",
            {
                "id": 5,
                "position": {"epoch": EPOCH, "offset": 9},
                "entries": [
                    {"key": "b", "version": 4, "value": 1},
                    {"key": "a", "version": 0, "deleted": True},
                ],
            },
        )
    ]
    client.say("read", id=6, collection="orders", keys=["b"])
    asked(desk).done(FAILED)
    desk.turn()
    assert refused(client, "load_failed")["id"] == 6


@pytest.mark.parametrize("kind", ["read", "watch"])
@pytest.mark.parametrize(
    ("collection", "keys", "code"),
    [
        ("nowhere", ["a"], "permission_denied"),
        ("nowhere", [""], "permission_denied"),
        ("staff", ["a"], "permission_denied"),
        ("staff", [""], "permission_denied"),
        ("staff", [], "permission_denied"),
        ("regions", ["us/1"], "permission_denied"),
        ("regions", ["1"], "permission_denied"),
        ("regions", ["eu/1", "us/1"], "permission_denied"),
        ("orders", [""], "bad_key"),
        ("orders", [], "bad_request"),
    ],
)
def test_what_one_may_not_know_of_looks_like_what_is_not_there(kind, collection, keys, code):
    desk = state_desk()
    client = desk.client(token=desk.token(channels=["regions/eu"]))
    client.say(kind, id=1, collection=collection, keys=keys)
    assert refused(client, code)["id"] == 1
    assert desk.cache_owner.take() == []
    assert not client.connection.subscriptions
    assert client.connection.num_reads == 0


def test_a_session_has_so_many_reads_on_their_way():
    desk = state_desk()
    client = desk.client()
    for number in range(MAX_READS + 1):
        client.say("read", id=number, collection="orders", keys=["a"])
    assert refused(client, "rate_limited")["id"] == MAX_READS
    commands = desk.cache_owner.take()
    commands[0].done(FAILED)
    answer(commands[1], 1)
    desk.turn()
    assert client.codes() == ["load_failed", "ok"]
    for number in range(3):
        client.say("read", id=number, collection="orders", keys=["a"])
    assert client.codes() == ["rate_limited"]


def test_an_answer_of_several_entries_is_bounded_and_one_entry_always_goes():
    desk = state_desk()
    client = desk.client()
    for sizes in ([MAX_READ_BYTES // 2] * 2, [MAX_READ_BYTES + 1]):
        client.say("read", id=1, collection="orders", keys=["a"])
        answer(asked(desk), *sizes)
        desk.turn()
    assert client.codes() == ["too_large", "ok"]


def test_who_does_not_read_gets_no_answer_beyond_its_outbox():
    desk = state_desk(limits={"outbox_bytes": 10_000})
    client = desk.client()
    for number in range(3):
        client.say("read", id=number, collection="orders", keys=["a"])
    commands = desk.cache_owner.take()
    client.socket.room = 0
    for command in commands:
        answer(command, 9000)
        desk.turn()
    assert client.connection.outbox.size_bytes < 20_000
    client.drain()
    assert client.codes() == ["ok", "rate_limited", "rate_limited"]


def test_after_comes_from_the_request_and_from_hello_and_is_about_this_channel_alone():
    desk = state_desk()
    late = {"epoch": EPOCH, "offset": 9}
    client = desk.client(after={"orders": late, "staff": late})
    early, other = {"epoch": EPOCH, "offset": 3}, {"epoch": "b" * 16, "offset": 1}
    for given, want in [
        ({}, Position(EPOCH, 9)),
        ({"orders": early, "own": late}, Position(EPOCH, 9)),
        ({"orders": other}, Position("b" * 16, 1)),
        ({"orders": {"epoch": EPOCH, "offset": 12}}, Position(EPOCH, 12)),
    ]:
        client.say("read", id=1, collection="orders", keys=["a"], after=given)
        assert asked(desk).after == {"orders": want}
        client.say("watch", id=1, collection="orders", keys=["a"], after=given)
        assert asked(desk).after == {"orders": want}
    client.say("read", id=1, collection="own", keys=["a"])
    assert asked(desk).after == {}


# ---------------------------------------------------------------------------------------------- watch


def test_a_watch_stands_in_the_table_and_says_what_the_client_has():
    desk = state_desk()
    client = desk.client()
    have = {"epoch": EPOCH, "versions": {"a": 3}}
    position = {"epoch": EPOCH, "offset": 4}
    client.say("watch", id=7, collection="orders", keys=["a"], have=have, position=position)
    command = asked(desk)
    assert isinstance(command, WatchEntries)
    assert (command.request_id, command.channel, command.keys) == (7, "orders", ["a"])
    assert (command.have_epoch, command.have) == (EPOCH, {"a": 3})
    assert command.position == Position(EPOCH, 4)
    subscription = command.subscription
    assert client.connection.subscriptions == {"orders": subscription}
    assert subscription.watch.keys == set(), "nothing is told before the broadcaster widened it"
    assert desk.broadcaster.take() == []
    assert desk.admin.statistics().num_watches == 1


@pytest.mark.parametrize(
    "what",
    [
        {},
        {"keys": ["a"], "all": True},
        {"keys": ["a"], "partition": "eu"},
        {"all": True, "partition": "eu"},
        {"all": False},
    ],
)
def test_exactly_one_field_says_what_to_watch(what):
    desk = state_desk()
    client = desk.client()
    client.say("watch", id=1, collection="orders", **what)
    assert refused(client, "bad_request")["message"].startswith("Exactly one of keys, all and")
    assert desk.cache_owner.take() == []


def test_a_partition_is_a_channel_with_readers_of_its_own():
    desk = state_desk()
    client = desk.client(token=desk.token(channels=["regions/eu"]))
    client.say("watch", id=1, collection="regions", partition="eu")
    command = asked(desk)
    assert (command.channel, command.keys) == ("regions/eu", None)
    client.say("watch", id=2, collection="regions", partition="us")
    refused(client, "permission_denied")
    client.say("watch", id=3, collection="regions", all=True)
    refused(client, "permission_denied")


def test_a_further_watch_widens_the_one_that_is_there():
    desk = state_desk(limits={"subscriptions": 1})
    client = desk.client()
    first = live_watch(desk, client, collection="orders", keys=["a"])
    client.say("watch", id=9, collection="orders", all=True)
    command = asked(desk)
    assert command.subscription is first
    assert (command.request_id, command.keys) == (9, None)
    assert client.heard() == [], "it counts as one subscription"


def test_watches_and_subscriptions_are_counted_together():
    desk = state_desk(limits={"subscriptions": 2})
    client = desk.client()
    client.say("subscribe", id=1, channel="open:a")
    client.say("watch", id=2, collection="orders", all=True)
    client.say("watch", id=3, collection="own", all=True)
    assert refused(client, "limit_exceeded")["id"] == 3
    client.say("unwatch", id=4, collection="orders")
    client.say("watch", id=5, collection="own", all=True)
    assert client.heard() == [("ok", {"id": 4})]


def test_a_watch_that_was_never_live_leaves_the_table_when_its_last_request_failed():
    desk = state_desk()
    client = desk.client()
    for number in (1, 2):
        client.say("watch", id=number, collection="orders", keys=["a"])
    first, second = desk.cache_owner.take()
    subscription, connection = first.subscription, client.connection
    connection.fail_watch(subscription, 1, FAILED)
    desk.turn()
    assert refused(client, "load_failed")["id"] == 1
    assert connection.subscriptions == {"orders": second.subscription}
    assert not subscription.is_closed
    connection.fail_watch(subscription, 2, FAILED)
    desk.turn()
    assert refused(client, "load_failed")["id"] == 2
    assert connection.subscriptions == {}
    assert subscription.is_closed
    connection.fail_watch(subscription, 2, FAILED)
    desk.turn()
    assert client.heard() == [], "each request is answered once"


@pytest.mark.parametrize("is_live", [True, False], ids=["live", "broadcaster restarting"])
def test_a_widening_that_fails_leaves_the_watch_as_it_was(is_live):
    desk = state_desk()
    client = desk.client()
    subscription = live_watch(desk, client, collection="orders", keys=["a"])
    client.say("watch", id=9, collection="orders", keys=["b"])
    assert asked(desk).subscription is subscription
    subscription.is_live = is_live
    client.connection.fail_watch(subscription, 9, FAILED)
    desk.turn()
    assert refused(client, "load_failed")["id"] == 9
    assert client.connection.subscriptions == {"orders": subscription}
    assert not subscription.is_closed
    assert subscription.watch.keys == {"a"}


def test_a_first_request_that_fails_after_a_second_one_was_served_ends_nothing():
    desk = state_desk()
    client = desk.client()
    for number in (1, 2):
        client.say("watch", id=number, collection="orders", keys=["a"])
    subscription = desk.cache_owner.take()[0].subscription
    subscription.is_live, subscription.epoch = True, EPOCH
    client.connection.fail_watch(subscription, 1, FAILED)
    desk.turn()
    assert client.codes() == ["load_failed"]
    assert client.connection.subscription("orders") is subscription


def test_what_cannot_be_served_at_all_answers_every_request_that_waits():
    desk = state_desk()
    client = desk.client()
    for number in (1, 2):
        client.say("watch", id=number, collection="orders", keys=["a"])
    subscription = desk.cache_owner.take()[0].subscription
    client.connection.end_subscription(subscription, FAILED)
    desk.turn()
    assert [(body["id"], body["code"]) for _, body in client.heard()] == [
        (1, "load_failed"),
        (2, "load_failed"),
    ]
    live = live_watch(desk, client, collection="orders", keys=["a"])
    client.connection.end_subscription(live, FAILED)
    desk.turn()
    assert [kind for kind, _ in client.heard()] == ["unsubscribed"]


def test_so_many_requests_wait_for_a_watch_to_begin():
    desk = state_desk()
    client = desk.client()
    for number in range(MAX_ASKED + 1):
        client.say("watch", id=number, collection="orders", keys=["a"])
    assert refused(client, "rate_limited")["id"] == MAX_ASKED


def test_collections_are_no_channels():
    desk = state_desk()
    client = desk.client()
    live_watch(desk, client, collection="orders", all=True)
    client.say("subscribe", id=1, channel="orders")
    refused(client, "bad_channel")
    client.say("publish", id=2, channel="orders", data=1)
    refused(client, "bad_channel")
    client.say("history", id=3, channel="orders", limit=1)
    refused(client, "bad_channel")
    client.say("unsubscribe", id=4, channel="orders")
    refused(client, "not_subscribed")
    assert "orders" in client.connection.subscriptions


# ---------------------------------------------------------------------------------------------- unwatch


def test_unwatch_ends_a_snapshot_in_progress_and_nothing_follows_the_ok():
    desk = state_desk()
    client = desk.client()
    subscription = live_watch(desk, client, collection="orders", all=True)
    subscription.watch.snapshot_id = 1
    client.socket.room = 0
    client.connection.reply_ok(50)
    desk.turn()
    client.connection.page_when_drained(subscription)
    client.say("unwatch", id=9, collection="orders")
    assert subscription.is_closed
    assert subscription.watch.snapshot_id is None
    (command,) = desk.broadcaster.take()
    assert isinstance(command, UnsubscribeChannel)
    assert command.subscription is subscription
    desk.deliver([subscription], Event("orders", 1))
    client.connection.fail_watch(subscription, 1, FAILED)
    client.drain()
    assert client.heard() == [("ok", {"id": 50}), ("ok", {"id": 9})]
    assert desk.cache_owner.take() == [], "no further page is asked for"
    client.say("unwatch", id=10, collection="orders")
    refused(client, "not_watched")


def test_unwatch_by_keys_narrows_the_watch():
    desk = state_desk()
    client = desk.client(token=desk.token(channels=["regions/eu"]))
    subscription = live_watch(desk, client, collection="regions", keys=["eu/1", "eu/2"])
    client.say("unwatch", id=9, collection="regions", keys=["eu/1"], partition="eu")
    (command,) = desk.broadcaster.take()
    assert isinstance(command, NarrowWatch)
    assert (command.subscription, command.keys) == (subscription, ["eu/1"])
    assert client.heard() == [("ok", {"id": 9})]
    assert not subscription.is_closed


@pytest.mark.parametrize(
    "what",
    [
        {"collection": "nowhere"},
        {"collection": "staff"},
        {"collection": "regions"},
        {"collection": "regions", "partition": "us"},
        {"collection": "regions", "keys": ["us/1"]},
        {"collection": "regions", "keys": ["eu/1"], "partition": "us"},
        {"collection": "regions", "keys": ["1"]},
        {"collection": "orders", "keys": ["a"]},
    ],
)
def test_what_is_not_watched_is_told_alike_whatever_it_is(what):
    desk = state_desk()
    client = desk.client(token=desk.token(channels=["regions/eu"]))
    live_watch(desk, client, collection="regions", partition="eu")
    client.say("unwatch", id=9, **what)
    refused(client, "not_watched")
    assert desk.broadcaster.take() == []


# ---------------------------------------------------------------------------------------------- pages


def test_a_snapshot_goes_on_when_the_outbox_is_empty():
    desk = state_desk()
    client = desk.client()
    subscription = live_watch(desk, client, collection="orders", all=True)
    client.socket.room = 0
    client.connection.send_event("orders", b"\x92\xa8snapshot\x80")
    desk.turn()
    client.connection.page_when_drained(subscription)
    desk.turn()
    assert desk.cache_owner.take() == []
    client.drain(3)
    assert desk.cache_owner.take() == []
    client.drain()
    command = asked(desk)
    assert isinstance(command, SnapshotDrained)
    assert command.subscriptions == [subscription]


def test_a_snapshot_goes_on_after_the_flush_when_the_socket_took_it_all():
    desk = state_desk()
    client = desk.client()
    subscription = live_watch(desk, client, collection="orders", all=True)
    client.connection.send_event("orders", b"\x92\xa8snapshot\x80")
    client.connection.page_when_drained(subscription)
    desk.turn()
    desk.turn()
    assert asked(desk).subscriptions == [subscription]
    desk.turn()
    assert desk.cache_owner.take() == []


def test_a_session_that_ends_asks_for_no_page():
    desk = state_desk()
    client = desk.client()
    subscription = live_watch(desk, client, collection="orders", all=True)
    client.connection.page_when_drained(subscription)
    desk.hub.drop(client.connection)
    desk.turn()
    desk.turn()
    assert desk.cache_owner.take() == []


# ---------------------------------------------------------------------------------------------- permission goes


def test_a_watch_ends_when_a_newer_token_does_not_allow_it():
    desk = state_desk()
    client = desk.client(token=desk.token(channels=["regions/*"]))
    gone = live_watch(desk, client, collection="regions", partition="us")
    kept = live_watch(desk, client, collection="regions", partition="eu")
    gone.watch.snapshot_id = 5
    client.socket.room = 0
    client.connection.reply_ok(50)
    desk.turn()
    client.connection.send_event("regions/us", b"\x92\xa8snapshot\x80")
    client.say("auth", id=9, token=desk.token(channels=["regions/eu"]))
    client.drain()
    heard = client.heard()
    assert [kind for kind, _ in heard] == ["ok", "unsubscribed", "ok"]
    assert heard[1][1] == {
        "channel": "regions/us",
        "code": "revoked",
        "reason": "not allowed any more",
    }
    assert gone.is_closed
    assert gone.watch.snapshot_id is None
    assert not kept.is_closed
    client.say("mutate", mid=1, name="regions.put", args={"key": "us/1"})
    assert asked(desk).refusal == "permission_denied"


def test_watches_that_are_not_answered_yet_are_refused_when_their_permission_goes():
    desk = state_desk()
    client = desk.client(token=desk.token(**STAFF))
    for number in (1, 2):
        client.say("watch", id=number, collection="staff", all=True)
    client.say("auth", id=3, token=desk.token())
    answers = [(body["id"], body.get("code")) for _, body in client.heard()]
    assert answers == [(1, "permission_denied"), (2, "permission_denied"), (3, None)]


def test_operators_end_watches_and_a_restarted_cache_owner_gets_all_of_them():
    desk = state_desk()
    client = desk.client()
    first = live_watch(desk, client, collection="orders", all=True)
    second = live_watch(desk, client, collection="own", all=True)
    desk.live(client, "open:a")
    assert desk.admin.open_watches() == [first, second]
    assert len(desk.admin.open_subscriptions()) == 3


# ---------------------------------------------------------------------------------------------- the lane


def test_who_finds_the_cache_owner_full_is_not_read_and_other_actors_go_on():
    desk = state_desk()
    client, other = desk.client(), desk.client()
    desk.cache_owner.mailbox.put_nowait([None] * desk.cache_owner.mailbox.capacity)
    client.say_all(
        ("mutate", {"mid": 1, "name": "orders.ship"}),
        ("subscribe", {"id": 1, "channel": "open:a"}),
    )
    assert client.connection.is_paused
    assert not other.connection.is_paused
    assert [type(command) for command in desk.broadcaster.take()] == [SubscribeChannel]
    (batch,) = desk.hub.to_cache_owner.parked
    assert batch.connections == {client.connection}
    for kind in ("read", "watch"):
        other.say(kind, id=2, collection="orders", keys=["a"])
        assert other.connection in desk.hub.to_cache_owner.parked[-1].connections


def test_a_cache_owner_that_stopped_answers_everything():
    desk = state_desk()
    client, known = desk.client(), desk.client()
    desk.hub.drop(known.connection)
    desk.cache_owner.mailbox.close()
    client.say_all(
        ("mutate", {"mid": 1, "name": "orders.ship"}),
        ("mutate_ack", {"upto": 1}),
        ("read", {"id": 2, "collection": "orders", "keys": ["a"]}),
        ("watch", {"id": 3, "collection": "orders", "keys": ["a"]}),
    )
    desk.turn()
    answers = [(body.get("mid"), body.get("id"), body["code"]) for _, body in client.heard()]
    stopping = "shutting_down"
    assert answers == [(1, None, stopping), (None, 2, stopping), (None, 3, stopping)]
    assert client.connection.subscriptions == {}
    late = desk.dial()
    late.say("hello", v=1, clients=[known.claim])
    desk.turn()
    assert late.heard()[-1] == ("close", 4004)


def test_a_session_of_several_clients_mutates_for_each():
    desk = state_desk()
    first, second = desk.client(), desk.client()
    client = comes_back(desk, [first.claim, second.claim], [1, 2])
    client.say("mutate", mid=3, name="orders.ship", client=second.id)
    client.say("mutate", mid=2, name="orders.ship")
    assert [command.client for command in desk.cache_owner.take()] == [second.id, first.id]


def test_entries_are_encoded_as_they_are_kept():
    assert msgpack.unpackb(encode_state.entry("k", 1, b"\xc0")) == {
        "key": "k",
        "version": 1,
        "value": None,
    }
    assert RequestRejected(ErrorCode.NOT_WATCHED).retryable is False
