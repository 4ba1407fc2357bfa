"""Watches at the gateway: how they begin, widen, fail and end, page by page and with their permission."""

import pytest

from syncd.gateway.collections import MAX_ASKED
from syncd.ids import Position
from syncd.ports import UnsubscribeChannel
from syncd.ports_collections import NarrowWatch, SnapshotDrained, WatchEntries
from tests.gateway.desk import EPOCH, Event
from tests.gateway.state_desk import FAILED, asked, live_watch, state_desk
from tests.gateway.talk import STAFF, refused

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
