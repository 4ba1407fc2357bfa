"""Reads at the gateway: who may, how many at once, how much is answered, and behind which position."""

import pytest

from syncd.gateway.pages import MAX_READ_BYTES, MAX_READS
from syncd.ids import Position
from syncd.ports_collections import EntriesAnswer, EntryState, ReadEntries
from tests.gateway.desk import EPOCH
from tests.gateway.state_desk import FAILED, asked, state_desk
from tests.gateway.talk import refused


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
