"""A session carried by tasks over a stream: what is on its way is never touched, and an address is counted off."""

import itertools

import msgpack
import pytest
import trio
import trio.testing

from syncd.codes import Reason
from syncd.gateway.heads import Heads
from syncd.gateway.streams import StreamDriver
from syncd.ids import ChannelName
from syncd.ports import SubscribeChannel
from syncd.testing.plain_client import FrameReader, client_frame
from tests.gateway.desk import EPOCH, Desk, Event
from tests.gateway.test_heads import UPGRADE


class GatedStream(trio.abc.Stream):
    """Carries one write at a time, each when the test opens the gate."""

    def __init__(self, incoming):
        self.incoming = incoming
        self.taken = bytearray()
        self.gate = trio.Event()
        self.gate.set()

    async def send_all(self, data):
        await self.gate.wait()
        self.taken += data

    async def wait_send_all_might_not_block(self):
        raise NotImplementedError

    async def receive_some(self, max_bytes=None):
        return await self.incoming.receive_some(max_bytes)

    async def aclose(self):
        await self.incoming.aclose()


class Peer:
    """The far end of a stream that a driver serves."""

    def __init__(self, desk, nursery, **options):
        self.desk = desk
        self.ours, theirs = trio.testing.memory_stream_one_way_pair()
        self.stream = GatedStream(theirs)
        self.reader = FrameReader()
        self.heads = Heads(desk.config, desk.hub, serves_http=True, is_loopback=True)
        self.driver = StreamDriver(desk.hub, self.heads, options.get("serve_http"))
        self.num_read = 0
        self.ids = itertools.count(1)
        nursery.start_soon(self.driver.serve, self.stream, "10.0.0.1")

    async def open(self):
        await self.ours.send_all(UPGRADE)
        await trio.testing.wait_all_tasks_blocked()
        head, _, _rest = bytes(self.stream.taken).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101")
        self.num_read = len(head) + 4
        await self.say("hello", v=1)
        assert [kind for kind, _ in self.heard()] == ["welcome"]
        (self.connection,) = self.desk.hub.connections

    async def say(self, kind, **body):
        await self.ours.send_all(client_frame((kind, body)))
        await trio.testing.wait_all_tasks_blocked()

    def heard(self):
        """Messages since the last look; whatever is torn makes msgpack or an assertion fail."""
        data = bytes(self.stream.taken[self.num_read :])
        self.num_read += len(data)
        messages = self.reader.feed(data)
        assert not self.reader._data, "a torn frame"
        return messages

    async def live(self, channel):
        await self.say("subscribe", id=next(self.ids), channel=channel)
        (command,) = self.desk.broadcaster.take()
        assert isinstance(command, SubscribeChannel)
        subscription = command.subscription
        subscription.is_live, subscription.pending_id = True, None
        subscription.epoch = EPOCH
        return subscription

    def shut(self):
        self.stream.gate = trio.Event()

    async def let_go(self):
        self.stream.gate.set()
        await trio.testing.wait_all_tasks_blocked()


async def test_what_is_on_its_way_is_not_superseded_by_newer_events(nursery):
    desk = Desk(limits={"outbox_bytes": 2000})
    peer = Peer(desk, nursery)
    await peer.open()
    subscription = await peer.live("latest:a")
    peer.shut()
    for offset in range(1, 9):
        desk.deliver([subscription], Event("latest:a", offset, "x" * 60, str(offset % 4)))
    await trio.testing.wait_all_tasks_blocked()  # the writer has taken them and waits
    for offset in range(9, 60):
        desk.deliver([subscription], Event("latest:a", offset, "x" * 60, str(offset % 4)))
    await peer.let_go()
    *events, (kind, mark) = peer.heard()
    offsets = [body["offset"] for _, body in events]
    assert offsets == sorted(set(offsets))
    assert offsets[:8] == list(range(1, 9))
    assert offsets[-4:] == [56, 57, 58, 59]
    assert (kind, mark["position"]["offset"]) == ("mark", 59)


async def test_a_revocation_takes_what_waits_and_leaves_what_is_on_its_way(nursery):
    desk = Desk()
    peer = Peer(desk, nursery)
    await peer.open()
    gone, kept = await peer.live("open:a"), await peer.live("open:b")
    peer.shut()
    desk.deliver([gone], Event("open:a", 1))
    desk.deliver([kept], Event("open:b", 1))
    await trio.testing.wait_all_tasks_blocked()
    desk.deliver([gone], Event("open:a", 2))
    desk.deliver([kept], Event("open:b", 2))
    desk.sessions.end_subscription(peer.connection, gone, Reason.REVOKED, "gone")
    desk.turn()
    await peer.let_go()
    told = [(kind, body["channel"], body.get("offset")) for kind, body in peer.heard()]
    assert told == [
        ("event", "open:a", 1),
        ("event", "open:b", 1),
        ("event", "open:b", 2),
        ("unsubscribed", "open:a", None),
    ]


async def test_presence_counts_as_room_again_once_it_is_on_its_way(nursery):
    desk = Desk(limits={"outbox_bytes": 400})
    peer = Peer(desk, nursery)
    await peer.open()
    await peer.say("subscribe", id=1, channel="open:a", presence=True)
    peer.shut()
    message = msgpack.packb(["presence_diff", {"seq": 1, "pad": "x" * 50}])
    channel = ChannelName("open:a")
    assert peer.connection.send_presence(channel, message)
    assert not peer.connection.send_presence(channel, message)
    await trio.testing.wait_all_tasks_blocked()
    assert peer.connection.send_presence(channel, message)
    await peer.let_go()
    assert [kind for kind, _ in peer.heard()] == ["presence_diff"] * 2


async def test_whoever_waits_for_room_is_told_when_the_writer_is_done(nursery):
    desk = Desk()
    peer = Peer(desk, nursery)
    await peer.open()
    subscription = await peer.live("open:a")
    peer.shut()
    peer.connection.reply_ok(1)
    assert not peer.connection.has_room()
    peer.connection.call_when_drained(subscription)
    await trio.testing.wait_all_tasks_blocked()
    assert desk.broadcaster.take() == []
    await peer.let_go()
    (drained,) = desk.broadcaster.take()
    assert drained.subscriptions == [subscription]


@pytest.mark.parametrize("is_http", [True, False])
async def test_an_address_is_counted_off_whatever_became_of_the_connection(nursery, is_http):
    desk = Desk(limits={"connections_per_address": 1})
    served = []

    async def serve_http(stream, head):
        served.append(head)

    peer = Peer(desk, nursery, serve_http=serve_http)
    await trio.testing.wait_all_tasks_blocked()
    assert peer.heads._by_address == {"10.0.0.1": 1}
    if is_http:
        await peer.ours.send_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    else:
        await peer.ours.aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert len(served) == is_http
    assert peer.heads._by_address == {}
    assert not desk.hub.connections


async def test_a_session_whose_commands_wait_is_not_read(nursery):
    desk = Desk()
    peer = Peer(desk, nursery)
    await peer.open()
    desk.broadcaster.mailbox.put_nowait([None] * desk.broadcaster.mailbox.capacity)
    await peer.say("publish", id=1, channel="open:a", data=1)
    await peer.say("probe", nonce=1)
    assert peer.heard() == []
    desk.hub.to_broadcaster.parked.clear()
    desk.hub.resume_unless_parked(peer.connection)
    await trio.testing.wait_all_tasks_blocked()
    assert peer.heard() == [("pong", {"nonce": 1})]
