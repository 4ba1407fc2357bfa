"""What another node committed or published is encoded once, however many of this node's subscribers are told it."""

import random

import pytest
import trio.testing

from syncd.ids import ChannelName
from syncd.ports import PublishEvent
from syncd.ports_state import KeyName
from syncd.wire import encode
from tests.actors.broadcaster_world import FakeFanout
from tests.actors.shared_world import COUNTERS, LIVE, LOG, running

COUNT = 30


@pytest.fixture
def handed(monkeypatch):
    """What fan-outs were handed: node, channel, subscriptions and message of each event, in order."""
    found = []
    deliver = FakeFanout.deliver

    def note(fanout, subscriptions, run):
        subscriptions = list(subscriptions)
        for _key, message in run.messages:
            found.append((fanout.world.name, run.channel, subscriptions, message))
        return deliver(fanout, subscriptions, run)

    monkeypatch.setattr(FakeFanout, "deliver", note)
    return found


async def arrived(node):
    await trio.testing.wait_all_tasks_blocked()
    node.bus.deliver(1000)
    await trio.testing.wait_all_tasks_blocked()


def publish(node, channel, *data):
    session = node.session()
    node.submit(
        *(
            PublishEvent(session, n, ChannelName(channel), encode.pack(d))
            for n, d in enumerate(data)
        )
    )


def messages_of(handed, node, channel):
    """Each subscriber's messages by identity, as many lists as there are subscribers."""
    found = {}
    for name, told, subscriptions, message in handed:
        if (name, told) == (node.name, channel):
            for subscription in subscriptions:
                found.setdefault(id(subscription), []).append(id(message))
    return list(found.values())


@pytest.mark.parametrize("channel", [LOG, LIVE])
async def test_a_remote_publication_is_one_message_for_all_subscribers(
    autojump_clock, handed, channel
):
    async with running(2, random.Random(0)) as (_file, (here, there)):
        sessions = [there.session() for _ in range(COUNT)]
        for session in sessions:
            there.subscribe(session, None, channel)
        await trio.testing.wait_all_tasks_blocked()
        there.bus.tell_gaps()
        publish(here, channel, "first", "second")
        await arrived(there)
        told = messages_of(handed, there, channel)
        assert len(told) == COUNT
        assert len(set(told[0])) == 2
        assert all(each == told[0] for each in told), "encoded for each of them"
        for session in sessions:
            assert [body["data"] for kind, body in session.notes if kind == "event"] == [
                "first",
                "second",
            ]


async def test_a_remote_change_is_one_message_for_watches_of_all_and_of_some_keys(
    autojump_clock, handed
):
    async with running(2, random.Random(0)) as (_file, (here, there)):
        for number in range(COUNT):
            there.watch(there.session(), None, [KeyName("a")] if number % 2 else None)
        await trio.testing.wait_all_tasks_blocked()
        there.bus.tell_gaps()
        await trio.testing.wait_all_tasks_blocked()
        del handed[:]
        here.mutate(here.session(), "c", 1, "a")
        await arrived(there)
        told = messages_of(handed, there, COUNTERS)
        assert len(told) == COUNT
        assert all(each == told[0] for each in told), "encoded for each of them"
