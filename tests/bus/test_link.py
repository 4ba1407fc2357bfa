"""One link over a connection in memory: it is up when Redis has answered what was asked first, and never before."""

import hiredis
import pytest
import trio
import trio.testing

from syncd.bus.commands import WHOLE
from syncd.bus.link import Link
from syncd.bus.publications import Publications
from syncd.bus.settings import BusSettings
from syncd.bus.subscriptions import Subscriptions
from syncd.redis_address import Endpoint

PONG = {b"PING": b"+PONG\r\n"}
REFUSED = {b"SUBSCRIBE": b"-NOPERM no permissions to run the 'subscribe' command\r\n"}
SUBSCRIBED = {b"SUBSCRIBE": b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n"}
NEW_PONG = {b"PING": b"*2\r\n$4\r\npong\r\n$0\r\n\r\n"}


class Redis:
    """Lets everybody in and answers as `answers` says, each connection in turn; opens them as a `Dialer` would."""

    def __init__(self, answers):
        self.settings = BusSettings()
        self.answers = answers
        self.asked = []
        self.num_connections = 0
        self.hold = trio.Event()
        self.hold.set()

    async def open(self, _endpoint, _role):
        ours, theirs = trio.testing.memory_stream_pair()
        self.num_connections += 1
        self.nursery.start_soon(self._serve, theirs)
        return ours

    async def _serve(self, stream):
        reader = hiredis.Reader()
        async with stream:
            async for data in stream:
                reader.feed(data)
                while (words := reader.gets()) is not False:
                    self.asked.append(words)
                    await self.hold.wait()
                    try:
                        await stream.send_all(self.answers[words[0]])
                    except trio.BrokenResourceError:
                        return


class Told:
    """What a link and its state tell, in order."""

    def __init__(self):
        self.order = []
        self.subscriptions = Subscriptions(WHOLE, self.on_messages, self.on_gap)

    def on_messages(self, batch):
        self.order += batch

    def on_gap(self, topics):
        self.order.append(("gap", *topics))

    def on_change(self, link):
        self.order.append("up" if link.is_up else "down")


def make(redis, told, state, role="subscribe"):
    return Link(role, Endpoint("r"), state, redis, chance=lambda: 0.5, on_change=told.on_change)


async def test_a_link_that_redis_refuses_never_was_up(nursery, autojump_clock):
    """It was, for a moment at each attempt, and readiness with it."""
    redis, told = Redis({**PONG, **REFUSED}), Told()
    redis.nursery = nursery
    told.subscriptions.want([b"a"])
    link = make(redis, told, told.subscriptions)
    nursery.start_soon(link.run)
    await trio.sleep(30)
    assert redis.num_connections > 5
    assert set(told.order) == {"down"}
    assert (link.num_lost, "NOPERM" in link.statistics().last_error) == (0, True)
    redis.answers = {**NEW_PONG, **SUBSCRIBED}
    told.order.clear()
    await trio.sleep(5)
    assert [each for each in told.order if each != "down"] == [("gap", b"a"), "up"]
    nursery.cancel_scope.cancel()


async def test_it_waits_for_the_answer_however_long_that_takes(nursery, autojump_clock):
    redis, told = Redis({**NEW_PONG, **SUBSCRIBED}), Told()
    redis.nursery, redis.hold = nursery, trio.Event()
    told.subscriptions.want([b"a"])
    link = make(redis, told, told.subscriptions)
    nursery.start_soon(link.run)
    await trio.sleep(redis.settings.ping_s)
    assert (told.order, link.is_up) == ([], False)
    redis.hold.set()
    await trio.testing.wait_all_tasks_blocked()
    assert (told.order, link.is_up) == ([("gap", b"a"), "up"], True)
    assert redis.asked == [[b"SUBSCRIBE", b"a"], [b"PING"]]
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("role", ["subscribe", "publish"])
async def test_a_link_with_nothing_to_ask_comes_up_with_its_first_ping(
    role, nursery, autojump_clock
):
    redis, told = Redis(PONG), Told()
    redis.nursery = nursery
    publications = Publications(WHOLE, queue_bytes=1000, max_outstanding=10)
    state = told.subscriptions if role == "subscribe" else publications
    started = trio.current_time()
    nursery.start_soon(make(redis, told, state, role).run)
    await trio.testing.wait_all_tasks_blocked()
    assert (told.order, redis.asked) == (["up"], [[b"PING"]])
    assert trio.current_time() == started
    nursery.cancel_scope.cancel()
