"""A bridge's stand-in for tests of the bus: it keeps what it is told, checks the bus's promise, and waits for conditions.

The promise: every message published to a wanted topic is delivered, in order and once, or an `on_gap` that names the topic comes after
it was published. `gap_upto` is what a reader of the log would have found at the last gap.
"""

import trio

from syncd.bus.redis_bus import RedisBus
from syncd.bus.settings import BusSettings
from syncd.redis_address import parse_redis_url

PATIENT_S = 30.0
QUICK = BusSettings(connect_s=1.0, ping_s=0.2, pong_s=0.8, backoff_max_s=0.3, discovery_s=0.5)
"""Black holes are noticed within a second."""


class Listener:
    def __init__(self, url, settings=QUICK, **options):
        self.bus = RedisBus(parse_redis_url(url), self, settings=settings, **options)
        self.received = {}
        self.num_gaps = {}
        self.gap_upto = {}
        self.published = {}
        self.is_up = False
        self.links = []
        self.ignored = set()
        self._changed = trio.Event()

    # ------------------------------------------------------------ BusEvents

    def on_messages(self, batch):
        for topic, payload in batch:
            if topic in self.ignored:
                continue
            number = int(payload)
            got = self.received.setdefault(topic, [])
            assert not got or number > got[-1], "out of order, or twice"
            got.append(number)
        self._tell()

    def on_gap(self, topics):
        for topic in topics:
            self.num_gaps[topic] = self.num_gaps.get(topic, 0) + 1
            self.gap_upto[topic] = self.published.get(topic, 0)
        self._tell()

    def on_link(self, *, is_up):
        assert is_up is not self.is_up
        self.is_up = is_up
        self.links.append(is_up)
        self._tell()

    def _tell(self):
        self._changed.set()
        self._changed = trio.Event()

    # ------------------------------------------------------------ what tests do

    async def until(self, is_so, timeout_s=PATIENT_S):
        with trio.fail_after(timeout_s):
            while not is_so():
                await self._changed.wait()

    async def subscribed(self, topics, timeout_s=PATIENT_S):
        """Wait for another gap of each topic, counted from now."""
        before = dict(self.num_gaps)
        await self.until(
            lambda: all(self.num_gaps.get(t, 0) > before.get(t, 0) for t in topics), timeout_s
        )

    def unaccounted(self, topic):
        """Messages of a topic that were neither delivered nor covered by a later gap."""
        numbers = range(1, self.published.get(topic, 0) + 1)
        known = set(self.received.get(topic, ()))
        return [n for n in numbers if n > self.gap_upto.get(topic, 0) and n not in known]


async def publish_until_heard(speaker, listener, topic):
    """Publish numbers until one of them arrives."""
    with trio.fail_after(PATIENT_S):
        start = listener.published.get(topic, 0)
        while not any(n > start for n in listener.received.get(topic, ())):
            publish(speaker, listener, topic)
            await trio.sleep(0.01)


def publish(speaker, listener, topic):
    """Publish the topic's next number; one that is dropped at once was not published."""
    number = listener.published.get(topic, 0) + 1
    if not speaker.bus.publish(topic, b"%d" % number):
        return False
    listener.published[topic] = number
    return True


async def come(is_so):
    """Wait for what nobody announces."""
    with trio.fail_after(PATIENT_S):
        while not is_so():  # noqa: ASYNC110 - counts, and what other processes say
            await trio.sleep(0.01)
