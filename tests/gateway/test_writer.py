"""The outgoing half: one send a session and tick, sockets that take a part, slow clients, and what is owed after a drain."""

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.gateway import writer as writer_module
from syncd.ids import ChannelName
from syncd.model.outbox import Outbox
from syncd.ports import SessionDrained
from syncd.wire.frames import encode_frame
from tests.gateway.desk import EPOCH, Desk, Event, run_of

SMALL = {"outbox_bytes": 2000}


def offsets(heard):
    return [body["offset"] for kind, body in heard if kind == "event"]


def kinds(heard):
    return [kind for kind, _ in heard]


# ---------------------------------------------------------------------------------------------- sockets that keep up


def test_a_session_of_one_channel_gets_a_run_in_one_send():
    desk = Desk()
    client = desk.client()
    subscription = desk.live(client, "open:a")
    before = client.socket.num_sends
    desk.deliver([subscription], Event("open:a", 1), Event("open:a", 2))
    assert client.socket.num_sends == before + 1
    assert offsets(client.heard()) == [1, 2]
    assert subscription.offset == 2


def test_a_session_of_many_channels_gets_everything_of_a_tick_in_one_send():
    desk = Desk()
    client = desk.client()
    first, second = desk.live(client, "open:a"), desk.live(client, "open:b")
    before = client.socket.num_sends
    desk.hub.writer.deliver([first], run_of(Event("open:a", 1)))
    desk.hub.writer.deliver([second], run_of(Event("open:b", 1)))
    desk.hub.writer.deliver([first], run_of(Event("open:a", 2)))
    client.connection.reply_ok(9)
    assert client.socket.num_sends == before
    desk.hub.writer.flush()
    assert client.socket.num_sends == before + 1
    heard = client.heard()
    assert [body.get("channel", kind) for kind, body in heard] == [
        "open:a",
        "open:b",
        "open:a",
        "ok",
    ]


def test_what_is_queued_before_a_run_goes_out_before_it():
    desk = Desk()
    client = desk.client()
    subscription = desk.live(client, "open:a")
    client.connection.reply_ok(9)
    desk.deliver([subscription], Event("open:a", 1))
    assert kinds(client.heard()) == ["ok", "event"]


def test_a_channel_left_for_another_before_the_flush_is_told_whole_before_the_other():
    desk = Desk()
    client = desk.client()
    left, entered = desk.live(client, "open:a"), desk.live(client, "open:b")
    client.connection.release(entered)
    desk.hub.writer.deliver([left], run_of(Event("open:a", 1)))
    client.connection.release(left)
    client.connection.enter(entered, 1)
    entered.is_closed = False
    desk.hub.writer.deliver([entered], run_of(Event("open:b", 1)))
    client.socket.room = 20
    desk.hub.writer.flush()
    client.drain()
    told = [body["channel"] for kind, body in client.heard() if kind == "event"]
    assert told == ["open:a", "open:b"]


def test_a_second_run_of_a_tick_waits_behind_what_the_socket_did_not_take_of_the_first():
    desk = Desk()
    client = desk.client()
    subscription = desk.live(client, "latest:a")
    client.socket.room = 20
    for offset in (1, 2, 3):
        desk.hub.writer.deliver([subscription], run_of(Event("latest:a", offset, "x", "k")))
    desk.hub.writer.flush()
    client.drain()
    assert offsets(client.heard()) == [1, 2, 3]


def test_a_reply_waits_behind_what_the_socket_did_not_take_of_a_run_before_it():
    desk = Desk()
    client = desk.client()
    subscription = desk.live(client, "open:a")
    client.socket.room = 20
    desk.hub.writer.deliver([subscription], run_of(Event("open:a", 1)))
    client.connection.reply_ok(9)
    desk.hub.writer.flush()
    client.drain()
    assert kinds(client.heard()) == ["event", "ok"]
    desk.deliver([subscription], Event("open:a", 2))
    assert offsets(client.heard()) == [2]


def test_only_who_follows_one_channel_with_nothing_queued_is_sent_what_all_share():
    desk = Desk()
    client = desk.client()
    connection = client.connection
    assert not connection.is_direct
    first = desk.live(client, "open:a")
    assert connection.is_direct
    connection.reply_ok(8)
    assert not connection.is_direct
    desk.hub.writer.flush()
    assert connection.is_direct
    second = desk.live(client, "open:b")
    assert not connection.is_direct
    connection.release(first)
    assert connection.is_direct
    client.socket.room = 20
    desk.deliver([second], Event("open:b", 1))
    assert not connection.is_direct
    client.drain()
    assert connection.is_direct
    desk.hub.drop(connection)
    assert not connection.is_direct


def test_who_is_closed_gets_nothing_and_the_others_do():
    desk = Desk()
    clients = [desk.client() for _ in range(3)]
    subscriptions = [desk.live(client, "open:a") for client in clients]
    desk.hub.drop(clients[0].connection)
    subscriptions[1].is_closed = True
    assert desk.deliver(subscriptions, Event("open:a", 1)) == []
    assert [offsets(client.heard()) for client in clients] == [[], [], [1]]


@pytest.mark.parametrize("extra", [(), ("open:b",)], ids=["shared-bytes", "a-tick-of-its-own"])
def test_a_broken_socket_ends_its_connection_alone(extra):
    desk = Desk()
    clients = [desk.client() for _ in range(3)]
    subscriptions = [desk.live(client, "open:a") for client in clients]
    for channel in extra:
        desk.live(clients[1], channel)
    clients[1].socket.is_broken = True
    desk.deliver(subscriptions, Event("open:a", 1))
    assert clients[1].connection.closed
    assert clients[1].socket.is_closed
    assert desk.hub.closes == {"1006": 1}
    assert [offsets(client.heard()) for client in clients] == [[1], [], [1]]


def test_an_event_is_framed_once_for_all_subscribers(monkeypatch):
    """Of those some are sent the bytes that all share, some gather a tick, and some wait for their sockets."""
    desk = Desk()
    clients = [desk.client() for _ in range(30)]
    subscriptions = [desk.live(client, "open:a") for client in clients]
    for client in clients[1::3]:
        desk.live(client, "open:b")
    for client in clients[2::3]:
        client.socket.room = 20
    desk.deliver(subscriptions, Event("open:a", 1))
    framed = []

    def note(opcode, message):
        framed.append(message)
        return encode_frame(opcode, message)

    monkeypatch.setattr(writer_module, "encode_frame", note)
    desk.deliver(subscriptions, Event("open:a", 2), Event("open:a", 3))
    assert len(framed) == 2
    for client in clients:
        client.drain()
        assert offsets(client.heard()) == [1, 2, 3]


def test_bytes_and_deliveries_are_counted_once():
    desk = Desk()
    clients = [desk.client() for _ in range(3)]
    subscriptions = [desk.live(client, "open:a") for client in clients]
    desk.live(clients[1], "open:b")
    clients[2].socket.room = 20
    before = sum(len(client.socket.taken) for client in clients)
    counted = desk.hub.writer.num_bytes
    desk.deliver(subscriptions, Event("open:a", 1), Event("open:a", 2))
    desk.deliver(subscriptions, Event("open:a", 3))
    clients[2].drain()
    taken = sum(len(client.socket.taken) for client in clients) - before
    assert desk.hub.writer.num_bytes - counted == taken
    assert desk.hub.writer.num_deliveries == 9


# ---------------------------------------------------------------------------------------------- sockets that do not


@given(
    rooms=st.lists(st.integers(0, 60), max_size=12),
    num_channels=st.integers(1, 2),
    num_events=st.integers(1, 6),
)
def test_whatever_the_socket_takes_at_a_time_the_bytes_arrive_in_order(
    rooms, num_channels, num_events
):
    desk = Desk()
    client = desk.client()
    subscriptions = [desk.live(client, f"open:{number}") for number in range(num_channels)]
    client.heard()
    client.socket.room = rooms.pop() if rooms else 0
    said = []
    for offset in range(1, num_events + 1):
        for number, subscription in enumerate(subscriptions):
            desk.deliver([subscription], Event(f"open:{number}", offset, "x" * offset))
            said.append((f"open:{number}", offset))
        client.connection.reply_ok(offset)
        desk.turn()
        said.append(("ok", offset))
        if rooms:
            client.drain(rooms.pop())
    while rooms:
        client.drain(rooms.pop())
    client.drain()
    heard = [
        (body["channel"], body["offset"]) if kind == "event" else (kind, body["id"])
        for kind, body in client.heard()
    ]
    assert heard == said
    assert client.connection.outbox is None


def test_a_socket_that_takes_a_part_gets_an_outbox_and_a_deadline():
    desk = Desk()
    client = desk.client()
    subscription = desk.live(client, "open:a")
    desk.pass_time(12)
    client.socket.room = 10
    desk.deliver([subscription], Event("open:a", 1))
    assert isinstance(client.connection.outbox, Outbox)
    assert desk.driver.notes[-1] == ("watch_room", client.connection)
    assert not client.connection.has_room()
    assert desk.now < client.connection.due <= desk.now + desk.config.timing.slow_client_s
    assert not client.drain(5)
    assert client.drain()
    assert client.connection.has_room()
    assert offsets(client.heard()) == [1]


def test_room_that_turns_out_to_be_none_changes_nothing():
    desk = Desk()
    client = desk.client()
    client.socket.room = 0
    client.connection.reply_ok(1)
    desk.turn()
    assert not client.drain(0)
    client.socket.is_broken = True
    assert client.drain()
    assert client.connection.closed
    assert client.drain(), "nothing waits on a closed connection"


def test_past_the_budget_a_stream_lags_in_order_and_the_others_do_not():
    desk = Desk(limits=SMALL)
    clients = [desk.client() for _ in range(2)]
    subscriptions = [desk.live(client, "open:a") for client in clients]
    slow = clients[0]
    slow.socket.room = 0
    fallen = []
    for offset in range(1, 40):
        alive = [subscription for subscription in subscriptions if subscription.is_live]
        fallen += desk.deliver(alive, Event("open:a", offset, "x" * 100))
    assert fallen == [subscriptions[0]]
    assert subscriptions[0].is_closed
    assert slow.connection.subscription(ChannelName("open:a")) is None
    assert desk.hub.writer.num_lagged == 1
    slow.drain()
    *events, (kind, body) = slow.heard()
    assert kind == "lagged"
    assert body["position"] == {"epoch": EPOCH, "offset": events[-1][1]["offset"]}
    assert offsets(events) == list(range(1, len(events) + 1))
    assert offsets(clients[1].heard()) == list(range(1, 40))


def test_within_a_run_that_does_not_fit_the_position_is_that_of_the_last_event_that_did():
    desk = Desk(limits=SMALL)
    client = desk.client()
    subscription = desk.live(client, "open:a", 10)
    client.heard()
    client.socket.room = 0
    client.connection.reply_ok(1)
    desk.turn()
    events = [Event("open:a", offset, "x" * 300) for offset in range(11, 25)]
    assert desk.deliver([subscription], *events) == [subscription]
    client.drain()
    heard = client.heard()
    assert heard[-1][1]["position"]["offset"] == offsets(heard)[-1] == subscription.offset
    assert offsets(heard)[0] == 11


def test_an_ephemeral_channel_lags_without_a_position():
    desk = Desk(limits=SMALL)
    client = desk.client()
    subscription = desk.live(client, "live:a")
    subscription.epoch = None
    client.socket.room = 0
    while not desk.deliver([subscription], Event("live:a", 0, "x" * 200)):
        pass
    client.drain()
    assert client.heard()[-1] == ("lagged", {"channel": "live:a"})


def test_a_latest_channel_is_conflated_past_half_and_a_mark_follows_the_drain():
    desk = Desk(limits=SMALL)
    client = desk.client()
    subscription = desk.live(client, "latest:a")
    client.heard()
    client.socket.room = 0
    for offset in range(1, 100):
        key = str(offset % 3)
        assert desk.deliver([subscription], Event("latest:a", offset, "x" * 40, key)) == []
    assert client.connection.outbox.size_bytes <= SMALL["outbox_bytes"]
    client.drain()
    *events, mark = client.heard()
    assert offsets(events) == sorted(set(offsets(events)))
    assert offsets(events)[-3:] == [97, 98, 99]
    assert len(events) < 40
    assert mark == (
        "mark",
        {"channel": "latest:a", "position": {"epoch": EPOCH, "offset": 99}},
    )
    assert desk.hub.writer.num_conflated == 99 - len(events)


def test_no_mark_is_owed_for_a_channel_that_was_left_meanwhile():
    desk = Desk(limits=SMALL)
    client = desk.client()
    subscription = desk.live(client, "latest:a")
    client.heard()
    client.socket.room = 0
    for offset in range(1, 30):
        desk.deliver([subscription], Event("latest:a", offset, "x" * 40, "k"))
    client.say("unsubscribe", id=50, channel="latest:a")
    client.drain()
    assert "mark" not in kinds(client.heard())


def test_a_run_larger_than_a_tick_may_hold_goes_message_by_message(monkeypatch):
    monkeypatch.setattr(writer_module, "BYTES_PER_FLUSH", 1000)
    desk = Desk(limits=SMALL)
    clients = [desk.client() for _ in range(2)]
    subscriptions = [desk.live(client, "open:a") for client in clients]
    clients[0].heard()
    clients[0].socket.room = 0
    events = [Event("open:a", offset, "x" * 300) for offset in range(1, 11)]
    assert desk.deliver(subscriptions, *events) == [subscriptions[0]]
    assert offsets(clients[1].heard()) == list(range(1, 11))
    outbox = clients[0].connection.outbox
    assert outbox.size_bytes <= SMALL["outbox_bytes"] + 100, "a lagged on top at most"
    clients[0].drain()
    heard = clients[0].heard()
    assert heard[-1][1]["position"]["offset"] == offsets(heard)[-1]


def test_a_tick_that_fills_is_flushed_before_it_grows_further(monkeypatch):
    monkeypatch.setattr(writer_module, "BYTES_PER_FLUSH", 1000)
    desk = Desk()
    client = desk.client()
    subscriptions = [desk.live(client, f"open:{number}") for number in range(2)]
    for offset in range(1, 9):
        for number, subscription in enumerate(subscriptions):
            event = Event(f"open:{number}", offset, "x" * 200)
            desk.hub.writer.deliver([subscription], run_of(event))
            assert sum(map(len, client.connection.tick)) <= 1000
    desk.hub.writer.flush()
    assert len(offsets(client.heard())) == 16


# ---------------------------------------------------------------------------------------------- reading, draining


def test_who_does_not_read_our_answers_is_not_read_until_it_does():
    desk = Desk(limits=SMALL)
    client = desk.client()
    client.socket.room = 0
    client.say("probe", nonce=1)
    assert not client.connection.is_paused
    for nonce in range(100):
        client.connection.send(msgpack.packb(["pong", {"nonce": nonce, "pad": "x" * 20}]))
    assert client.connection.is_paused
    assert ("reading", False) in desk.driver.notes
    client.drain(100)
    assert client.connection.is_paused, "half of it still waits"
    client.drain(client.connection.outbox.size_bytes - SMALL["outbox_bytes"] // 4)
    assert not client.connection.is_paused
    assert desk.driver.notes[-1] == ("reading", True)


def test_whoever_waits_for_room_is_told_once_the_outbox_is_empty():
    desk = Desk()
    client = desk.client()
    subscription = desk.live(client, "open:a")
    client.socket.room = 0
    client.connection.reply_ok(1)
    desk.turn()
    client.connection.call_when_drained(subscription)
    client.connection.call_when_drained(subscription)
    client.drain(3)
    assert desk.broadcaster.take() == []
    client.drain()
    (told,) = desk.broadcaster.take()
    assert isinstance(told, SessionDrained)
    assert told.subscriptions == [subscription, subscription]
    assert client.connection.waiting is None


# ---------------------------------------------------------------------------------------------- presence


def watching(desk, client, channel="open:a"):
    client.say("subscribe", id=next(client.ids), channel=channel, presence=True)
    client.heard()
    return ChannelName(channel)


def presence(number):
    return msgpack.packb(["presence_diff", {"channel": "open:a", "seq": number}])


def test_presence_is_refused_past_its_share_and_taken_again_after_the_drain():
    desk = Desk(limits=SMALL)
    client = desk.client()
    channel = watching(desk, client)
    assert client.connection.send_presence(channel, presence(0))
    desk.turn()
    client.socket.room = 0
    client.connection.reply_ok(1)
    desk.turn()
    taken = 0
    while client.connection.send_presence(channel, presence(1)):
        taken += 1
    assert 5 < taken < 20
    client.drain()
    assert kinds(client.heard()) == ["presence_diff", "ok", *["presence_diff"] * taken]
    assert client.connection.send_presence(channel, presence(2))


def test_presence_goes_to_those_who_watch_and_to_nobody_else():
    desk = Desk()
    client = desk.client()
    channel = watching(desk, client)
    assert client.connection.send_presence(ChannelName("open:other"), presence(0))
    client.say("unsubscribe", id=9, channel="open:a")
    assert client.connection.send_presence(channel, presence(1)), "gone, not refused"
    desk.hub.drop(client.connection)
    assert client.connection.send_presence(channel, presence(2))
    desk.turn()
    assert kinds(client.heard()) == ["ok"]


def test_a_message_for_many_is_framed_once():
    desk = Desk()
    clients = [desk.client() for _ in range(3)]
    message = presence(1)
    channels = [watching(desk, client) for client in clients]
    for client, channel in zip(clients, channels, strict=True):
        client.connection.send_presence(channel, message)
    assert clients[0].connection.tick[0] is clients[2].connection.tick[0]
