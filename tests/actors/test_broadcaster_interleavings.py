"""Random schedules of everything that can happen to a broadcaster at once: no subscriber ever misses or doubles an event."""

import random
from unittest import mock

import pytest
import structlog.testing
import trio
import trio.testing

from syncd.actors.broadcaster import actor, joining
from syncd.errors import internal_error
from syncd.ids import Epoch, Position
from syncd.model import channel as model_channel
from tests.actors.broadcaster_promises import Promises
from tests.actors.broadcaster_world import World, make_config

pytestmark = pytest.mark.unmeasured

CHANNELS = ("mem:a", "mem:b", "none:a", "dur:a", "dur:b", "lat:a", "dlat:a", "live:a")
SEEDS_A_TEST = 120


class Schedule:
    """Performs random steps on a world; equal seeds do equal things."""

    def __init__(self, seed):
        self.rng = rng = random.Random(seed)
        self.world = World(
            make_config(
                recovery_bytes=rng.choice([40, 120, 10_000]),
                recovery_events=rng.choice([15, 10_000]),
            )
        )
        self.num_published = 0
        self.channels = rng.sample(CHANNELS, rng.randint(1, 4))
        self.positions = {channel: [Position(Epoch("f" * 16), 3)] for channel in self.channels}
        self.num_seen = 0
        self.tail_events = rng.choice([3, 6, 1024])
        self.batch_commands = rng.choice([2, 1024])
        self.crashes = rng.random() < 0.4
        self.fails = rng.random() < 0.3
        for _ in range(rng.randint(2, 5)):
            self.world.session(budget_bytes=rng.choice([150, 600, 10_000]))
        weights = {
            self.publish: 30,
            self.publish_burst: 3,
            self.subscribe: 16,
            self.unsubscribe: 4,
            self.replace_session: 1,
            self.store: 24,
            self.slow: 3,
            self.drain: 6,
            self.history: 1,
            self.settle: 24,
            self.wait: 1,
            self.crash: 2 if self.crashes else 0,
        }
        self.steps, self.weights = list(weights), list(weights.values())

    async def run(self):
        async with trio.open_nursery() as nursery:
            await self.world.start(nursery)
            for _ in range(self.rng.randint(30, 110)):
                step = self.rng.choices(self.steps, self.weights)[0]()
                if step is not None:
                    await step
            self.world.held, held = None, self.world.held
            self.world.submit(*held or ())
            self.world.fanout.crash_in = None
            await self.world.quiet()
            nursery.cancel_scope.cancel()
        Promises(self.world).check()

    # ------------------------------------------------------------------ steps

    def someone(self):
        return self.rng.choice([s for s in self.world.sessions if not s.closed])

    def publish(self):
        channel, rng = self.rng.choice(self.channels), self.rng
        self.num_published += 1
        key = rng.choice([None, *"abcdefgh"]) if rng.random() < 0.6 else None
        self.world.publish(
            self.someone(),
            channel,
            [self.num_published, "x" * rng.randint(0, 30)],
            key=key,
            uid=str(self.num_published) if rng.random() < 0.3 else None,
        )

    def publish_burst(self):
        for _ in range(self.rng.randint(2, 20)):
            self.publish()

    def subscribe(self):
        session, channel = self.someone(), self.rng.choice(self.channels)
        if channel not in session.subscriptions:
            self.world.subscribe(session, channel, self.position(channel))

    def position(self, channel):
        """None, one that somebody once held, one before or behind it, or one of another epoch."""
        self.learn()
        choice = self.rng.random()
        if choice < 0.25:
            return None
        known = self.rng.choice(self.positions[channel])
        if choice < 0.7:
            return known
        return Position(known.epoch, max(0, known.offset + self.rng.randint(-12, 3)))

    def learn(self):
        notes = self.world.notes
        for _session, kind, body in notes[self.num_seen :]:
            if kind == "event" and "epoch" in body:
                found = Position(Epoch(body["epoch"]), body["offset"])
            elif kind == "subscribed" and "position" in body:
                found = Position(Epoch(body["position"]["epoch"]), body["position"]["offset"])
            else:
                continue
            self.positions[body["channel"]].append(found)
            del self.positions[body["channel"]][:-30]
        self.num_seen = len(notes)

    def unsubscribe(self):
        session = self.someone()
        if session.subscriptions:
            self.world.unsubscribe(session, self.rng.choice(sorted(session.subscriptions)))

    def replace_session(self):
        self.world.close(self.someone())
        self.world.session(budget_bytes=self.rng.choice([150, 600]))

    def store(self):
        store, rng = self.world.store, self.rng
        for _ in range(rng.randint(1, 4)):
            if store.asks and rng.random() < 0.5:
                fails, crashes = (self.fails and rng.random() < 0.1 for _ in range(2))
                number = rng.randrange(len(store.asks))
                store.perform(number, fails=fails, instead=internal_error() if crashes else None)
            elif store.answers:
                store.tell()

    def slow(self):
        self.someone().is_slow = True

    def drain(self):
        session = self.someone()
        session.is_slow = session.is_slow and self.rng.random() < 0.5
        session.drain()

    def history(self):
        channel = self.rng.choice(self.channels)
        if not channel.startswith(("live", "none")):
            since = self.position(channel)
            self.world.history(self.someone(), channel, limit=self.rng.randint(0, 9), since=since)

    async def settle(self):
        await self.world.settled()

    async def wait(self):
        self.world.wall_ms += 1100
        await trio.sleep(1.1)

    async def crash(self):
        await trio.sleep(11)  # the supervisor bears three crashes in ten seconds
        self.world.fanout.crash_in = self.rng.choice([0, 0, self.rng.randint(1, 9)])
        self.world.at_restart = self.restart

    def restart(self):
        """Meanwhile sessions went on: some commands stand in the mailbox before the resumption, some come behind it."""
        steps = [self.publish, self.subscribe, self.subscribe, self.unsubscribe, self.store]
        for _ in range(self.rng.randint(0, 4)):
            self.rng.choice(steps)()
        self.world.held = []
        for _ in range(self.rng.randint(0, 4)):
            self.rng.choice(steps)()


def run_seed(seed):
    schedule = Schedule(seed)
    with (
        structlog.testing.capture_logs() as logs,
        mock.patch.object(joining, "TAIL_EVENTS", schedule.tail_events),
        mock.patch.object(model_channel, "TAIL_EVENTS", schedule.tail_events),
        mock.patch.object(actor, "BATCH_COMMANDS", schedule.batch_commands),
    ):
        try:
            trio.run(schedule.run, clock=trio.testing.MockClock(autojump_threshold=0))
            assert [log for log in logs if log["event"] != "actor_restarted"] == []
        except BaseException as failure:
            failure.add_note(f"seed {seed}")
            raise


@pytest.mark.parametrize("block", range(10))
def test_no_schedule_leaves_a_gap_or_a_repetition(block):
    for seed in range(block * SEEDS_A_TEST, (block + 1) * SEEDS_A_TEST):
        run_seed(seed)


@pytest.mark.soak
def test_no_schedule_of_twenty_thousand_leaves_a_gap_or_a_repetition():
    for seed in range(10_000, 30_000):
        run_seed(seed)
