"""The bridge over a bus in memory: who is told what, and that whatever was lost is looked up."""

from contextlib import asynccontextmanager

import msgpack
import pytest
import trio

from syncd.actors.bridge import Bridge
from syncd.actors.bridge.actor import CHECK_S, TICK_S
from syncd.errors import MailboxFull
from syncd.ids import ChannelName, Epoch
from syncd.ports_collections import RenewChannel
from syncd.ports_shared import (
    CheckChannels,
    LoadsEnded,
    RemoteEvents,
    RemotePublications,
    RenewEntries,
)
from syncd.store.redis_keys import BusEvent, BusMessage, RedisNames, encode_message

NAMES = RedisNames("t")
CHAT, ORDERS, LIVE = ChannelName("chat:a"), ChannelName("orders"), ChannelName("live:a")


class Bus:
    """Remembers what is wanted and published; tests tell what comes."""

    def __init__(self, events):
        self.events = events
        self.wanted = []
        self.published = []

    async def run(self, *, task_status=trio.TASK_STATUS_IGNORED):
        task_status.started()
        await trio.sleep_forever()

    def publish(self, topic, payload):
        self.published.append((topic, payload))
        return True

    def want(self, topics):
        self.wanted += topics

    def unwant(self, topics):
        for topic in topics:
            self.wanted.remove(topic)

    def statistics(self):
        return None


class Room:
    """A mailbox that can be full."""

    def __init__(self):
        self.told = []
        self.is_full = False

    def submit_nowait(self, commands, size_bytes):
        if self.is_full:
            raise MailboxFull
        self.told += commands

    def take(self):
        told, self.told = self.told, []
        return told


class World:
    """A bridge with its bus and both rooms."""

    def __init__(self, node="me"):
        self.buses = []
        self.is_unsure = False
        self.bridge = Bridge(
            node=node,
            names=NAMES,
            make_bus=self._make_bus,
            store=None,
            is_unsure=lambda: self.is_unsure,
            chance=lambda: 0.5,
        )
        self.broadcaster, self.cache_owner = Room(), Room()
        self.bridge.connect(self.broadcaster, self.cache_owner)

    def _make_bus(self, events):
        self.buses.append(Bus(events))
        return self.buses[-1]

    @property
    def bus(self):
        return self.buses[-1]

    @asynccontextmanager
    async def running(self):
        async with trio.open_nursery() as nursery:
            await nursery.start(self.bridge.run)
            yield
            nursery.cancel_scope.cancel()


def topic(channel):
    return NAMES.bus(channel).encode()


def committed(channel, *offsets, node="other"):
    events = [BusEvent(offset, 5, None, b"\x82record") for offset in offsets]
    return topic(channel), encode_message(BusMessage(node, Epoch("e"), events))


async def test_events_go_to_whoever_wants_their_channel(autojump_clock):
    world = World()
    async with world.running():
        world.bridge.interest.enter(CHAT)
        world.bridge.interest.enter(ORDERS)
        world.bridge.entries_interest.enter(ORDERS)
        world.bus.events.on_messages([committed(CHAT, 1), committed(ORDERS, 7, 8)])
        (to_broadcaster,), (to_owner,) = world.broadcaster.take(), world.cache_owner.take()
        assert isinstance(to_broadcaster, RemoteEvents)
        assert [(e.channel, e.offset) for e in to_broadcaster.events] == [
            (CHAT, 1),
            (ORDERS, 7),
            (ORDERS, 8),
        ]
        assert [(e.channel, e.offset) for e in to_owner.events] == [(ORDERS, 7), (ORDERS, 8)]


async def test_what_this_node_committed_itself_is_not_told_again(autojump_clock):
    world = World()
    async with world.running():
        world.bridge.interest.enter(CHAT)
        world.bus.events.on_messages([committed(CHAT, 1, node="me")])
        assert world.broadcaster.take() == []


@pytest.mark.parametrize("node", ["m", "mf", "mee", "you", "me" * 20])
async def test_what_a_node_of_another_name_committed_is_told(autojump_clock, node):
    world = World()
    async with world.running():
        world.bridge.interest.enter(CHAT)
        world.bus.events.on_messages([committed(CHAT, 1, node=node)])
        assert len(world.broadcaster.take()) == 1


@pytest.mark.parametrize("name", ["", "me", "n" * 31, "n" * 32, "ö" * 200])
async def test_what_this_node_tells_is_not_even_decoded_whatever_it_is_called(autojump_clock, name):
    world = World(name)
    own = (
        encode_message(BusMessage(name, Epoch("e"), []))[:-1] + b"\xc1"
    )  # behind the name nothing sound
    async with world.running():
        world.bridge.interest.enter(CHAT)
        world.bus.events.on_messages([(topic(CHAT), own)])
        assert world.bridge.statistics().num_bad_messages == 0
        world.is_unsure = True
        world.bus.events.on_messages([(topic(CHAT), own)])
        assert world.bridge.statistics().num_bad_messages == 1


async def test_the_echo_of_a_commit_whose_answer_was_lost_is_news(autojump_clock):
    world = World()
    async with world.running():
        world.bridge.interest.enter(CHAT)
        world.is_unsure = True
        world.bus.events.on_messages([committed(CHAT, 1, node="me")])
        (told,) = world.broadcaster.take()
        assert [event.offset for event in told.events] == [1]


async def test_entries_that_were_all_replaced_are_told_as_such(autojump_clock):
    world = World()
    async with world.running():
        world.bridge.interest.enter(ORDERS)
        world.bridge.entries_interest.enter(ORDERS)
        told = encode_message(BusMessage("other", Epoch("e"), [], renewed_at=12))
        world.bus.events.on_messages([(topic(ORDERS), told)])
        assert [type(each) for each in world.broadcaster.take()] == [RenewChannel]
        assert [type(each) for each in world.cache_owner.take()][-1] is RenewEntries


async def test_the_end_of_shared_loads_is_told_to_the_cache_owner_alone(autojump_clock):
    world = World()
    async with world.running():
        world.bridge.interest.enter(CHAT)
        world.bridge.interest.enter(ORDERS)
        world.bridge.entries_interest.enter(ORDERS)
        for node, channel in (("other", ORDERS), ("other", CHAT), ("me", ORDERS)):
            told = encode_message(BusMessage(node, Epoch("e"), [], ended=["a"]))
            world.bus.events.on_messages([(topic(channel), told)])
        assert world.broadcaster.take() == []
        *_, ended = world.cache_owner.take()
        assert isinstance(ended, LoadsEnded)
        assert (ended.channel, ended.keys) == (ORDERS, ["a"])


async def test_a_topic_is_wanted_once_for_both_rooms_and_until_the_last_leaves(autojump_clock):
    world = World()
    bridge = world.bridge
    async with world.running():
        bridge.interest.enter(ORDERS)
        bridge.entries_interest.enter(ORDERS)
        assert world.bus.wanted == [topic(ORDERS)]
        bridge.interest.leave_all()
        assert world.bus.wanted == [topic(ORDERS)]
        bridge.entries_interest.leave(ORDERS)
        assert world.bus.wanted == []


async def test_whoever_comes_to_a_topic_that_is_subscribed_has_its_channel_checked(autojump_clock):
    world = World()
    async with world.running():
        world.bridge.interest.enter(ORDERS)
        world.bridge.entries_interest.enter(ORDERS)
        await trio.sleep(2 * TICK_S)
        assert world.broadcaster.take() == []
        (check,) = world.cache_owner.take()
        assert check.channels == [ORDERS]


async def test_a_gap_is_told_to_those_it_concerns(autojump_clock):
    world = World()
    async with world.running():
        world.bridge.interest.enter(CHAT)
        world.bridge.interest.enter(LIVE, is_ephemeral=True)
        world.bridge.entries_interest.enter(ORDERS)
        world.bus.events.on_gap([*world.bus.wanted, b"of nobody"])
        (check,) = world.broadcaster.take()
        assert check.channels == [CHAT]
        (check,) = world.cache_owner.take()
        assert check.channels == [ORDERS]


async def test_what_a_full_mailbox_did_not_take_is_checked_when_it_has_room(autojump_clock):
    world = World()
    async with world.running():
        world.bridge.interest.enter(CHAT)
        world.broadcaster.is_full = True
        world.bus.events.on_messages([committed(CHAT, 1), committed(CHAT, 2)])
        await trio.sleep(5 * TICK_S)
        world.broadcaster.is_full = False
        await trio.sleep(2 * TICK_S)
        (check,) = world.broadcaster.take()
        assert isinstance(check, CheckChannels)
        assert check.channels == [CHAT]


async def test_every_channel_is_checked_now_and_then_while_the_bus_is_there(autojump_clock):
    world = World()
    async with world.running():
        await trio.sleep(3 * CHECK_S)
        assert world.broadcaster.take() == []
        world.bus.events.on_link(is_up=True)
        await trio.sleep(2 * CHECK_S)
        assert world.broadcaster.take()[0].channels is None
        assert world.cache_owner.take()[0].channels is None


async def test_publications_without_positions_go_through_the_bus_alone(autojump_clock):
    world = World()
    async with world.running():
        world.bridge.interest.enter(LIVE, is_ephemeral=True)
        world.bridge.publish(LIVE, "k", b"\x82record")
        (published,) = world.bus.published
        world.bus.events.on_messages([published])
        assert world.broadcaster.take() == []
        theirs = msgpack.packb(["other", "k", b"\x82record"])
        world.bus.events.on_messages([(published[0], theirs)])
        (told,) = world.broadcaster.take()
        assert isinstance(told, RemotePublications)
        (event,) = told.events
        assert (event.channel, event.key, event.record) == (LIVE, "k", b"\x82record")


@pytest.mark.parametrize("payload", [b"", b"\xc1", b"\x93\x01", msgpack.packb(["n", "e", [[1]]])])
async def test_what_is_no_message_of_ours_is_counted_and_harms_nobody(autojump_clock, payload):
    world = World()
    async with world.running():
        world.bridge.interest.enter(CHAT)
        world.bridge.interest.enter(LIVE, is_ephemeral=True)
        bad = [(each, payload) for each in world.bus.wanted]
        world.bus.events.on_messages([*bad, committed(CHAT, 3)])
        (told,) = world.broadcaster.take()
        assert [event.offset for event in told.events] == [3]
        assert world.bridge._num_bad == 2


async def test_after_a_crash_the_new_bus_is_told_what_is_wanted(autojump_clock):
    world = World()
    async with world.running():
        world.bridge.interest.enter(CHAT)
    world.bridge.recover()
    async with world.running():
        assert len(world.buses) == 2
        assert world.bus.wanted == [topic(CHAT)]
