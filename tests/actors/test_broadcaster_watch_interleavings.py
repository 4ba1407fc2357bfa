"""Random schedules of watches, commits and crashes: every watch ends with the log's state, and no outcome overtakes its events."""

import random
from collections import Counter
from unittest import mock

import pytest
import structlog.testing
import trio
import trio.testing

from syncd.actors.broadcaster import actor, joining
from syncd.ids import ChannelName, Epoch, Position
from syncd.model import channel as model_channel
from tests.actors.broadcaster_promises import Promises
from tests.actors.watching_world import WatchingWorld, WatchPromises

pytestmark = pytest.mark.unmeasured

CHANNELS = ("orders", "orders/eu", "cached")
KEYS = "abcdef"
SEEDS_A_TEST = 100


class Schedule:
    """Performs random steps on a world; equal seeds do equal things."""

    def __init__(self, seed):
        self.rng = rng = random.Random(seed)
        self.world = WatchingWorld(
            recovery_bytes=rng.choice([60, 200, 10_000]),
            recovery_events=rng.choice([15, 10_000]),
        )
        self.promises = WatchPromises(self.world)
        self.channels = rng.sample(CHANNELS, rng.randint(1, 3))
        self.tail_events = rng.choice([3, 6, 1024])
        self.batch_commands = rng.choice([2, 1024])
        self.crashes = rng.random() < 0.4
        self.fails = rng.random() < 0.2
        self.num_values = 0
        for _ in range(rng.randint(2, 4)):
            self.world.session(budget_bytes=rng.choice([250, 900, 10_000]))
        weights = {
            self.mutate: 30,
            self.burst: 3,
            self.invalidate: 3,
            self.publish: 4,
            self.hand_over: 24,
            self.lose_commit: 1 if self.crashes else 0,
            self.watch: 14,
            self.snapshot: 18,
            self.unwatch: 2,
            self.narrow: 3,
            self.subscribe: 3,
            self.replace_session: 1,
            self.renew: 1,
            self.store: 24,
            self.slow: 3,
            self.drain: 6,
            self.settle: 24,
            self.wait: 3,
            self.crash: 2 if self.crashes else 0,
        }
        self.steps, self.weights = list(weights), list(weights.values())

    async def run(self):
        async with trio.open_nursery() as nursery:
            await self.world.start(nursery)
            for _ in range(self.rng.randint(40, 140)):
                step = self.rng.choices(self.steps, self.weights)[0]()
                if step is not None:
                    await step
                for session in self.world.sessions:
                    self.promises.read(session)
            self.world.held, held = None, self.world.held
            self.world.submit(*held or ())
            self.world.fanout.crash_in = None
            for channel in self.channels:  # what a crash hid shows with the next commit
                self.world.commit(self.world.change(channel, "a", {"last": 1}))
            self.publish()
            await self.world.quiet()
            nursery.cancel_scope.cancel()
        self.promises.check()
        Promises(self.world).check()

    # ------------------------------------------------------------------ steps

    def someone(self):
        return self.rng.choice([s for s in self.world.sessions if not s.closed])

    def change(self):
        rng = self.rng
        self.num_values += 1
        channel, key = rng.choice(self.channels), rng.choice(KEYS)
        if rng.random() < 0.15:
            return self.world.change(channel, key, None)
        value = {rng.choice("xyz"): self.num_values, "pad": "p" * rng.randint(0, 30)}
        return self.world.change(channel, key, value, is_patch=rng.random() < 0.6)

    def mutate(self):
        changes = [self.change() for _ in range(self.rng.choice([1, 1, 1, 2, 3]))]
        if self.rng.random() < 0.15:
            self.num_values += 1
            changes.append(self.world.publish_in_mutation("dur:a", self.num_values))
        self.world.commit(*changes, asker=self.someone() if self.rng.random() < 0.7 else None)

    def burst(self):
        for _ in range(self.rng.randint(2, 20)):
            self.mutate()

    def invalidate(self):
        what = self.rng.choice(
            [
                {},
                {"tags": ["t"]},
                {"keys": self.rng.sample(KEYS, 2)},
                {"keys": ["a"], "tags": ["t"]},
            ]
        )
        self.world.commit(self.world.invalidate(self.rng.choice(self.channels), **what))

    def publish(self):
        self.num_values += 1
        self.world.publish(self.someone(), "dur:a", self.num_values)

    def subscribe(self):
        session = self.someone()
        if "dur:a" not in session.subscriptions:
            self.world.subscribe(session, "dur:a")

    def hand_over(self):
        self.world.hand_over(self.rng.randint(1, 6))

    def lose_commit(self):
        """The cache-owner crashes behind a commit; a later outcome or commit of the channel shows it."""
        if self.world.undelivered and self.rng.random() < 0.5:
            lost = self.world.undelivered.pop()
            for event in getattr(lost, "events", ()):
                if event.channel == "cached":
                    self.world.renew("cached")
                    break

    def watch(self):
        session, channel = self.someone(), self.rng.choice(self.channels)
        keys = self.rng.choice([None, self.rng.sample(KEYS, self.rng.randint(1, 3))])
        name = ChannelName(channel)
        lost = self.promises.lost.get(session, {}).get(channel)
        is_open = name in session.subscriptions
        if lost is not None and not is_open and self.rng.random() < 0.8:
            since = Position(Epoch(lost.epoch), lost.position)
            self.world.watch(session, channel, lost.keys, since)
        else:
            if not is_open:
                self.promises.lost.get(session, {}).pop(channel, None)
            self.world.watch(session, channel, keys)

    def snapshot(self):
        if self.world.requests:
            self.world.snapshot(self.rng.randrange(len(self.world.requests)))

    def watched(self, session):
        return sorted(name for name, s in session.subscriptions.items() if s.watch is not None)

    def unwatch(self):
        session = self.someone()
        if names := self.watched(session):
            self.world.unwatch(session, self.rng.choice(names))

    def is_asking(self, session, name):
        """Whether a watch of the channel is on its way: what narrowing it would mean is for the cache-owner to say."""
        answered = {body.get("id") for _kind, body in session.notes}
        asked = [
            i for i, what in session.asked.items() if what[0] == "watch" and what[1][0] == name
        ]
        return not answered.issuperset(asked)

    def narrow(self):
        session = self.someone()
        if names := self.watched(session):
            name = self.rng.choice(names)
            if name in self.promises.views.get(session, {}) and not self.is_asking(session, name):
                self.world.narrow(session, name, self.rng.sample(KEYS, 2))

    def replace_session(self):
        self.world.close(self.someone())
        self.world.session(budget_bytes=self.rng.choice([250, 900]))

    def renew(self):
        if "cached" in self.channels:
            self.world.renew("cached")

    def store(self):
        store, rng = self.world.store, self.rng
        for _ in range(rng.randint(1, 4)):
            if store.asks and rng.random() < 0.5:
                fails = self.fails and rng.random() < 0.1
                store.perform(rng.randrange(len(store.asks)), fails=fails)
            elif store.answers:
                store.tell()

    def slow(self):
        self.someone().is_slow = True

    def drain(self):
        session = self.someone()
        session.is_slow = session.is_slow and self.rng.random() < 0.5
        session.drain()

    async def settle(self):
        await self.world.settled()

    async def wait(self):
        self.world.wall_ms += 30_000
        await trio.sleep(1.1)
        await self.world.settled()

    async def crash(self):
        await trio.sleep(11)  # the supervisor bears three crashes in ten seconds
        self.world.fanout.crash_in = self.rng.choice([0, 0, self.rng.randint(1, 9)])
        self.world.at_restart = self.restart

    def restart(self):
        """Meanwhile others went on: some commands stand in the mailbox before the resumption, some come behind it."""
        steps = [self.mutate, self.hand_over, self.watch, self.snapshot, self.snapshot, self.store]
        for _ in range(self.rng.randint(0, 5)):
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
    return schedule


def test_no_schedule_leaves_a_watch_wrong_or_an_outcome_before_its_events():
    """The counters say that the schedules reach what they are for."""
    seen = Counter()
    for seed in range(SEEDS_A_TEST * 2):
        schedule = run_seed(seed)
        kinds = Counter(kind for _session, kind, _body in schedule.world.notes)
        seen.update({kind: kinds[kind] for kind in ("watched", "lagged", "invalidate", "outcome")})
        seen["patches"] += schedule.promises.num_patches
        seen["marks"] += schedule.promises.num_marks
        seen["lost"] += schedule.world.num_lost
    assert min(seen.values()) > 20, seen


@pytest.mark.soak
def test_no_schedule_of_twenty_thousand_leaves_a_watch_wrong():
    for seed in range(10_000, 30_000):
        run_seed(seed)
