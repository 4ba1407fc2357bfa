"""What mutations, reads and watches share: the lane to the cache-owner; and collections are no channels."""

import msgpack

from syncd.codes import ErrorCode
from syncd.errors import RequestRejected
from syncd.ports import SubscribeChannel
from syncd.wire import encode_state
from tests.gateway.state_desk import live_watch, state_desk
from tests.gateway.talk import refused


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


def test_entries_are_encoded_as_they_are_kept():
    assert msgpack.unpackb(encode_state.entry("k", 1, b"\xc0")) == {
        "key": "k",
        "version": 1,
        "value": None,
    }
    assert RequestRejected(ErrorCode.NOT_WATCHED).retryable is False
