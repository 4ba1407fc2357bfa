"""What a session is told reaches it in the order in which it was queued, whichever way it goes: as the bytes that all share, gathered in a
tick, or through the outbox (DESIGN 5.6)."""

import random
from collections import Counter

import pytest

from tests.gateway.desk import Desk, Event, run_of

CHANNELS = ("open:a", "open:b", "open:c")


class Play:
    """Three sessions that come to channels and leave them, are told and answered, over sockets that take what they like."""

    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.desk = Desk()
        self.clients = [self.desk.client() for _ in range(3)]
        self.open = [{} for _ in self.clients]
        self.told = [[] for _ in self.clients]
        self.offsets = Counter()
        self.ways = Counter()

    def run(self):
        steps = (self.publish, self.publish, self.reply, self.flush, self.move, self.narrow)
        for _ in range(120):
            self.rng.choice(steps)()
        self.flush()
        for index, client in enumerate(self.clients):
            while client.connection.outbox is not None:
                client.drain()
            assert [token(*message) for message in client.heard()] == self.told[index]
        return self.ways

    def publish(self):
        channel = self.rng.choice(CHANNELS)
        everybody = [(i, table[channel]) for i, table in enumerate(self.open) if channel in table]
        events = []
        for _ in range(self.rng.randint(1, 3)):
            self.offsets[channel] += 1
            events.append(Event(channel, self.offsets[channel]))
        for index, _ in everybody:
            connection = self.clients[index].connection
            way = "behind" if connection.outbox else "shared" if connection.is_direct else "tick"
            self.ways[way] += 1
            self.told[index] += [(channel, event.offset) for event in events]
        subscriptions = [subscription for _, subscription in everybody]
        assert self.desk.hub.writer.deliver(subscriptions, run_of(*events)) == []

    def reply(self):
        index = self.rng.randrange(3)
        self.offsets["ok"] += 1
        self.told[index].append(("ok", self.offsets["ok"]))
        self.clients[index].connection.reply_ok(self.offsets["ok"])

    def flush(self):
        self.desk.hub.writer.flush()

    def move(self):
        """Come to a channel or leave one; what is queued at that moment stays."""
        index, channel = self.rng.randrange(3), self.rng.choice(CHANNELS)
        client, table = self.clients[index], self.open[index]
        if channel in table:
            client.connection.release(table.pop(channel))
        else:
            table[channel] = self.desk.live(client, channel)

    def narrow(self):
        client = self.rng.choice(self.clients)
        if client.connection.outbox is None:
            client.socket.room = self.rng.choice([None, 0, 5, 150, 400])
        else:
            client.drain(self.rng.choice([1, 100, None]))


def token(kind, body):
    return (body["channel"], body["offset"]) if kind == "event" else (kind, body["id"])


@pytest.mark.unmeasured
def test_a_session_hears_everything_in_the_order_in_which_it_was_queued():
    ways = Counter()
    for seed in range(150):
        ways += Play(seed).run()
    assert min(ways[way] for way in ("shared", "tick", "behind")) > 200, ways
