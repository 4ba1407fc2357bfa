"""Random histories against a model of lists: what any store has told stays true over trims, rollbacks, restarts and kills."""

import contextlib
import itertools
import random
import shutil
import tempfile
from pathlib import Path

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from syncd.errors import SyncdError
from syncd.ids import ChannelName
from syncd.ports_log import AppendRequest, IdempotencyKey, LogQuery
from syncd.store.base import Retention, StoreOptions
from syncd.store.memory import MemoryStore
from syncd.store.redis_keys import RedisNames
from syncd.store.redis_store import RedisStore
from syncd.store.sqlite import SqliteStore

RETENTION = {
    "stream": Retention(size=4, age_s=20.0),
    "log": Retention(size=10_000, age_s=30.0),
    "latest": Retention(size=3, age_s=20.0, is_latest=True),
}
IDEMPOTENCY_S = 40.0
CHANNELS = [ChannelName(f"{kind}:{name}") for kind in RETENTION for name in "ab"]
NUM_EXAMPLES = settings().max_examples // 2


def retention_of(channel):
    return RETENTION[channel.partition(":")[0]]


requests = st.builds(
    lambda channel, key, uid, content, size: (channel, key, uid, content, size),
    st.sampled_from(CHANNELS),
    st.sampled_from([None, "k", "l", "m", "n"]),
    st.sampled_from([None, None, "u1", "u2", "u3"]),
    st.sampled_from([b"A", b"B"]),
    st.sampled_from([1, 7, 5000]),
)


@attrs.define
class Channel:
    """All that was ever committed to a channel, and the highest floor it has told."""

    epoch: str | None = None
    events: list = attrs.field(factory=list)
    floor: int = 0


class StoreMachine(RuleBasedStateMachine):
    """Shared rules; subclasses make the store and may lose its process."""

    def __init__(self):
        super().__init__()
        self.now_ms = 0
        self.channels = {name: Channel() for name in CHANNELS}
        self.known = {}
        self.options = StoreOptions(
            retention_of,
            idempotency_s=IDEMPOTENCY_S,
            entropy=random.Random(1).randbytes,
            sweep_s=0.0,
            cached_channels=3,
        )

    @initialize()
    def start(self):
        self.store = self.make_store()
        self.store.open()

    # ---------------------------------------------------------------------------------------- rules

    @rule(batch=st.lists(requests, max_size=8))
    def append(self, batch):
        made = [self.request(*drawn) for drawn in batch]
        results = self.store.begin(made)
        self.store.commit()
        assert len(results) == len(made)
        for request, result in zip(made, results, strict=True):
            self.expect(request, result)

    @rule(batch=st.lists(requests, min_size=1, max_size=8))
    def append_and_roll_back(self, batch):
        self.store.begin([self.request(*drawn) for drawn in batch])
        self.store.rollback()

    @rule(seconds=st.integers(0, 30))
    def pass_time(self, seconds):
        self.now_ms += seconds * 1000

    @rule(slices=st.integers(1, 30), budget_s=st.sampled_from([0.0, 1.0]))
    def trim(self, slices, budget_s):
        for _ in range(slices):
            if not self.store.trim(self.now_ms, budget_s).has_more:
                # That walk may have begun at an earlier time: only a whole one from now on is due.
                while self.store.trim(self.now_ms, 1.0).has_more:
                    pass
                self.forget_known()
                self.check_ages()
                return
        self.forget_known(certain=False)

    @rule(
        channel=st.sampled_from(CHANNELS),
        after=st.integers(0, 12),
        before=st.one_of(st.none(), st.integers(0, 15)),
        reverse=st.booleans(),
        limit=st.integers(1, 6),
        max_bytes=st.sampled_from([1, 20, 6000, 10**6]),
    )
    def read_a_page(self, channel, after, before, reverse, limit, max_bytes):
        everything = self.store.read(LogQuery(channel)).events
        page = self.store.read(
            LogQuery(
                channel,
                after=after,
                before=before,
                reverse=reverse,
                limit=limit,
                max_bytes=max_bytes,
            )
        )
        wanted = [
            e for e in everything if e.offset > after and (before is None or e.offset < before)
        ]
        if reverse:
            wanted.reverse()
        assert page.events == wanted[: len(page.events)]
        assert page.is_complete == (len(page.events) == len(wanted))
        assert len(page.events) <= limit
        sizes = list(itertools.accumulate(len(e.record) for e in wanted))
        assert len(page.events) == min(
            limit, max(1, sum(s <= max_bytes for s in sizes)), len(wanted)
        )

    # ---------------------------------------------------------------------------------------- the model

    def request(self, channel, key, uid, content, size):
        known = None if uid is None else IdempotencyKey("user:a", "publish", uid, content)
        return AppendRequest(channel, content * size, self.now_ms, key, known)

    def expect(self, request, result):
        known = request.idempotency
        if known is not None and self.expect_known(known, result):
            return
        channel = self.channels[request.channel]
        assert not result.is_duplicate
        assert result.offset == len(channel.events) + 1
        assert channel.epoch in (None, result.epoch)
        channel.epoch = result.epoch
        channel.events.append((request.at_ms, request.key, request.record))
        if known is not None:
            self.known[known.key] = (known.request_hash, result.epoch, result.offset, self.now_ms)

    def expect_known(self, asked, result):
        """Check the answer under a key that is known; return whether it is."""
        request_hash, epoch, offset, at_ms = self.known.get(asked.key, (None,) * 4)
        if request_hash is None:
            return False
        if at_ms is None:  # perhaps forgotten: both answers are right
            is_old = isinstance(result, SyncdError) or result.is_duplicate
            if not is_old:
                del self.known[asked.key]
                return False
        if request_hash != asked.request_hash:
            assert isinstance(result, SyncdError)
        else:
            assert (result.epoch, result.offset, result.is_duplicate) == (epoch, offset, True)
        return True

    def forget_known(self, *, certain=True):
        for key, (request_hash, epoch, offset, at_ms) in list(self.known.items()):
            if at_ms is None or at_ms < self.now_ms - IDEMPOTENCY_S * 1000:
                if certain:
                    del self.known[key]
                else:
                    self.known[key] = (request_hash, epoch, offset, None)

    def check_ages(self):
        for name in CHANNELS:
            cutoff = self.now_ms - retention_of(name).age_s * 1000
            assert all(e.at_ms >= cutoff for e in self.store.read(LogQuery(name)).events)

    @invariant()
    def the_log_is_what_was_committed_above_an_honest_floor(self):
        for name, channel in self.channels.items():
            page = self.store.read(LogQuery(name, limit=10**6, max_bytes=10**9))
            assert page.is_complete
            head = page.head
            assert head == self.store.load(name, 0, 0).head
            assert head.top == len(channel.events)
            assert channel.epoch in (None, head.epoch)
            assert channel.floor <= head.floor <= head.top
            channel.floor = head.floor
            got = [(e.offset, (e.at_ms, e.key, e.record)) for e in page.events]
            assert got == self.expected_events(name, channel, head.floor)
            loaded = self.store.load(name, 3, 10**9)
            assert loaded.tail == page.events[-3:]

    def expected_events(self, name, channel, floor):
        """Return all above the floor (latest: the newest of each key): the promise to a position at the floor."""
        above = [(n, e) for n, e in enumerate(channel.events, 1) if n > floor]
        if retention_of(name).is_latest:
            newest = {event[1]: n for n, event in above}
            above = [(n, e) for n, e in above if newest[e[1]] == n]
            assert len(above) <= retention_of(name).size
        elif len(channel.events) >= retention_of(name).size:
            assert len(above) <= retention_of(name).size
        return above

    def teardown(self):
        if hasattr(self, "store"):
            self.store.close()


class MemoryMachine(StoreMachine):
    """The store that forgets with its process."""

    def make_store(self):
        return MemoryStore(self.options)


class SqliteMachine(StoreMachine):
    """The store in a file, which outlives its process."""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="syncd-store-"))
        self.generation = 0

    def make_store(self):
        return SqliteStore(self.folder / f"{self.generation}.db", self.options, lock_wait_s=0.0)

    @rule()
    def restart(self):
        self.store.close()
        self.store = self.make_store()
        self.store.open()

    @rule(in_flight=st.lists(requests, max_size=8))
    def kill(self, in_flight):
        """Go on from the bytes that lie on the disk in the middle of a transaction."""
        self.store.begin([self.request(*drawn) for drawn in in_flight])
        left = self.folder / f"{self.generation}.db"
        self.generation += 1
        for suffix in ("", "-wal"):
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(f"{left}{suffix}", self.folder / f"{self.generation}.db{suffix}")
        self.store.close()
        self.store = self.make_store()
        self.store.open()

    def teardown(self):
        super().teardown()
        shutil.rmtree(self.folder)


class RedisMachine(StoreMachine):
    """The store on a server, which outlives this process."""

    server = None

    def __init__(self):
        super().__init__()
        self.names = RedisNames(f"log{next(_prefixes)}")

    def make_store(self):
        return RedisStore(self.server.url, self.options, names=self.names)

    @rule(in_flight=st.lists(requests, max_size=8))
    def restart(self, in_flight):
        self.store.begin([self.request(*drawn) for drawn in in_flight])
        self.store.close()
        self.store = self.make_store()
        self.store.open()


_prefixes = itertools.count()

TestMemoryStore = MemoryMachine.TestCase
TestMemoryStore.settings = settings(max_examples=NUM_EXAMPLES, stateful_step_count=30)
TestSqliteStore = SqliteMachine.TestCase
TestSqliteStore.settings = settings(max_examples=NUM_EXAMPLES, stateful_step_count=30)


@pytest.mark.usefixtures("served")
class TestRedisStore(RedisMachine.TestCase):
    settings = settings(max_examples=max(1, NUM_EXAMPLES // 2), stateful_step_count=20)

    @pytest.fixture
    def served(self, redis_server):
        RedisMachine.server = redis_server
