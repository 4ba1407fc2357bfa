"""A store actor whose worker and whose store do as the test says, and somebody who asks it and keeps the answers."""

import random

import attrs
import trio
import trio.testing

from syncd.actors.store import StoreActor
from syncd.actors.store_asks import StoreSettings
from syncd.actors.store_worker import InlineWorker, Job
from syncd.errors import StoreUnavailable
from syncd.ids import ChannelName
from syncd.ports_log import AppendRequest, IdempotencyKey, LogQuery
from syncd.store.base import Retention, StoreOptions
from syncd.store.memory import MemoryStore

OPTIONS = StoreOptions(
    lambda _: Retention(size=100_000, age_s=60.0),
    entropy=random.Random(3).randbytes,
    sweep_s=0.0,
)


def event(channel="demo:a", record=b"x", uid=None, at_ms=0):
    known = None if uid is None else IdempotencyKey("user:a", "publish", uid, b"h")
    return AppendRequest(ChannelName(channel), record, at_ms, None, known)


class StepWorker:
    """Holds every job until the test performs it, as a slow disk would."""

    def __init__(self):
        self.held = []

    def start(self):
        pass

    def submit(self, work):
        self.held.append(Job(work))
        return self.held[-1]

    def stop(self):
        pass

    def step(self):
        job = self.held.pop(0)
        job.perform()
        job.finish()


class FaultyStore(MemoryStore):
    """A memory store whose steps fail when told to."""

    def __init__(self):
        super().__init__(OPTIONS)
        self.open()
        self.on_begin = self.on_commit = self.on_read = self.on_trim = None
        self.num_begun = 0
        self.num_closed = 0

    def begin(self, batch):
        self.num_begun += 1
        if self.on_begin is not None:
            self.on_begin(batch)
        return super().begin(batch)

    def commit(self):
        self._fail(self.on_commit)
        super().commit()

    def probe(self):
        self._fail(self.on_commit)

    def read(self, query):
        if self.on_read is not None:
            self.on_read(query)
        return super().read(query)

    def trim(self, now_ms, budget_s):
        if self.on_trim is not None:
            self.on_trim(now_ms)
        return super().trim(now_ms, budget_s)

    def close(self):
        self.num_closed += 1
        super().close()

    def _fail(self, error):
        if isinstance(error, StoreUnavailable):
            self.rollback()
        if error is not None:
            raise error


@attrs.define
class Desk:
    """Asks the actor and keeps the answers in the order they came."""

    actor: StoreActor
    answers: list = attrs.field(factory=list)

    def append(self, *requests, tag=None):
        self.actor.append(list(requests), lambda answer: self.answers.append((tag, answer)))

    def load(self, channel, tag=None):
        self.actor.load(
            ChannelName(channel), 100, 10_000, lambda answer: self.answers.append((tag, answer))
        )

    def read(self, channel, tag=None, **query):
        query = LogQuery(ChannelName(channel), **query)
        self.actor.read(query, lambda answer: self.answers.append((tag, answer)))

    def commit(self, *group, tag=None):
        self.actor.commit(list(group), lambda answer: self.answers.append((tag, answer)))

    def read_state(self, work, tag=None):
        self.actor.read_state(work, lambda answer: self.answers.append((tag, answer)))

    @property
    def tags(self):
        return [tag for tag, _ in self.answers]

    @property
    def codes(self):
        return [answer.code for _, answer in self.answers]

    def answer(self, tag):
        return dict(self.answers)[tag]


def desk_of(store, worker=None, *, wall_clock=lambda: 0.0, **settings):
    worker = InlineWorker() if worker is None else worker
    return Desk(StoreActor(store, worker, StoreSettings(**settings), wall_clock=wall_clock))


async def settled():
    await trio.testing.wait_all_tasks_blocked()
