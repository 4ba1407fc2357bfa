"""Random mutations against a model of dicts: ONCE, DURABLE, versions, dense logs, tags and dirty keys hold over conflicts, resends,
skips, keys of services, publications, rollbacks, trims, acknowledgements, restarts and kills, in every store alike."""

import contextlib
import itertools
import random
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from syncd.ids import ChannelName, Position
from syncd.ports_log import Appended, AppendRequest, IdempotencyKey, LogQuery
from syncd.ports_state import EntryRead, EntryWrite, MutationCommit
from syncd.store.base import CLIENT_USE_MS, Retention, StoreOptions
from syncd.store.memory import MemoryStore
from syncd.store.redis_keys import RedisNames
from syncd.store.redis_store import RedisStore
from syncd.store.sqlite import SqliteStore
from tests.conformance.state_model import Client, Mismatch, Model

CLIENTS = ["ann", "bob", "cid"]
CHANNELS = [ChannelName(name) for name in ("orders", "orders/eu", "orders-old", "latest")]
KEYS = ["", "a", "b", "ключ"]
TAGS = ["red", "big"]
MAX_OUTCOMES = 5
OUTCOMES_S = 40.0
CLIENTS_S = 100.0
IDEMPOTENCY_S = 30.0
RETENTION = {
    "orders-old": Retention(size=4, age_s=1e6),
    "latest": Retention(size=3, age_s=1e6, is_latest=True),
}
NUM_EXAMPLES = settings().max_examples // 2

writes = st.tuples(
    st.sampled_from(CHANNELS),
    st.sampled_from(KEYS),
    st.one_of(st.none(), st.sampled_from([b"v", b"w" * 3, b"x" * 2000])),
    st.lists(st.sampled_from(TAGS), max_size=3),
    st.booleans(),
)
mutations = st.fixed_dictionaries(
    {
        # None: a service's, under a key or not.
        "client": st.sampled_from([*CLIENTS, None]),
        "known": st.sampled_from([None, "u", "v"]),
        "request_hash": st.sampled_from([b"1", b"1", b"1", b"2"]),
        # The index of an earlier one of the group, whose last write it saw, or of none.
        "saw": st.sampled_from([None, None, 0, 1, 2, 3]),
        # Mostly the next one; else a resend, or one too early.
        "step": st.sampled_from([1, 1, 1, 1, 1, 0, -1, -4, -5, 2, 7]),
        "reads": st.lists(st.tuples(st.sampled_from(CHANNELS), st.sampled_from(KEYS)), max_size=2),
        # Mostly what is true; else a version that is not.
        "wrong_by": st.sampled_from([0, 0, 0, 0, -1, 1]),
        "writes": st.lists(writes, max_size=3),
        "events": st.lists(st.sampled_from(CHANNELS), max_size=1),
    }
)
groups = st.lists(mutations, min_size=1, max_size=6)
publications = st.lists(st.tuples(st.sampled_from(CHANNELS), st.sampled_from(KEYS)), max_size=3)
transactions = st.lists(st.one_of(groups, groups, publications), min_size=1, max_size=4)


class StateMachine(RuleBasedStateMachine):
    """Shared rules; subclasses make the store and may lose its process."""

    def __init__(self):
        super().__init__()
        self.now_ms = 0
        self.numbers = itertools.count()
        self.acknowledged = []
        """Outcomes dropped, but not on disk yet."""
        self.forwarded = {}
        """Places not dirty any more, but still on disk."""
        self.options = StoreOptions(
            lambda channel: RETENTION.get(channel, Retention(size=10_000, age_s=1e6)),
            entropy=random.Random(1).randbytes,
            sweep_s=0.0,
            cached_channels=2,
            cached_clients=1,
            cached_entries=2,
            outcomes_s=OUTCOMES_S,
            outcomes_per_client=MAX_OUTCOMES,
            clients_s=CLIENTS_S,
            idempotency_s=IDEMPOTENCY_S,
        )

    @initialize()
    def start(self):
        self.store = self.make_store()
        self.store.open()
        epochs = {name: self.store.load(name, 0, 0).head.epoch for name in CHANNELS}
        self.model = Model.empty(epochs, CLIENTS, MAX_OUTCOMES)

    # ---------------------------------------------------------------------------------------- rules

    @rule(work=transactions)
    def commit(self, work):
        model = self.model.copy()
        promised = self.begin(model, work)
        self.store.commit()
        for results, wanted in promised:
            assert len(results) == len(wanted)
            for result, right in zip(results, wanted, strict=True):
                assert right == result
        self.model = model
        if any(part and isinstance(part[0], dict) for part in work):
            self.forget_acknowledgements()

    @rule(work=transactions)
    def roll_back(self, work):
        self.begin(self.model.copy(), work)
        self.store.rollback()

    @rule(client=st.sampled_from(CLIENTS), behind=st.integers(-2, 4))
    def acknowledge(self, client, behind):
        upto = self.model.clients[client].last - behind
        self.store.acknowledge(client, upto)
        for mid, outcome in self.model.clients[client].outcomes.items():
            if mid <= upto and outcome.is_kept:
                outcome.is_kept = False
                self.acknowledged.append((client, mid))

    @rule(channel=st.sampled_from(CHANNELS), key=st.sampled_from(KEYS), is_late=st.booleans())
    def acknowledge_forwarded(self, channel, key, is_late):
        version = self.model.dirty.get((channel, key), 1)
        self.store.acknowledge_forwarded(channel, key, version - is_late)
        if not is_late and self.model.dirty.pop((channel, key), None) is not None:
            self.forwarded[channel, key] = version

    @rule(seconds=st.sampled_from([1, 10, 50, 4000]))
    def pass_time(self, seconds):
        self.now_ms += seconds * 1000

    @rule(slices=st.integers(1, 10), budget_s=st.sampled_from([0.0, 1.0]))
    def trim(self, slices, budget_s):
        is_whole = False
        while slices and not is_whole:
            is_whole = not self.store.trim(self.now_ms, budget_s).has_more
            slices -= 1
        # That walk may have begun at an earlier time: only a whole one from now on is due.
        while is_whole and self.store.trim(self.now_ms, 1.0).has_more:
            pass
        self.forget_acknowledgements()
        self.forget_old(is_certain=is_whole)
        self.forget_old_keys(is_certain=is_whole)

    @rule(
        channel=st.sampled_from(CHANNELS),
        after=st.one_of(st.none(), st.sampled_from(KEYS)),
        limit=st.integers(1, 4),
        max_bytes=st.sampled_from([1, 5, 2010, 10**6]),
    )
    def scan_a_page(self, channel, after, limit, max_bytes):
        entries = self.model.entries[channel]
        wanted = [entries[key] for key in sorted(entries) if after is None or key > after]
        sizes = list(itertools.accumulate(len(e.value) for e in wanted))
        fitting = min(limit, max(1, sum(s <= max_bytes for s in sizes)), len(wanted))
        page = self.store.scan(channel, after, limit, max_bytes)
        assert page.entries == wanted[:fitting]
        assert page.is_complete == (fitting == len(wanted))

    # ---------------------------------------------------------------------------------------- a transaction

    def begin(self, model, work):
        """Run a transaction's statements; return the results that are there after its commit, each beside what is right."""
        promised = []
        for part in work:
            if part and isinstance(part[0], dict):
                promised.append(self.begin_mutations(model, part))
            else:
                made = [AppendRequest(c, b"said", self.now_ms, key) for c, key in part]
                at = [model.append(r.channel, r.at_ms, r.key, r.record) for r in made]
                wanted = [Appended(p.epoch, p.offset) for p in at]
                promised.append((self.store.begin(made), wanted))
        return promised

    def begin_mutations(self, model, part):
        made, wanted, writers = [], [], {}
        for index, drawn in enumerate(part):
            made.append(self.make_mutation(model, drawn, made))
            wanted.append(model.decide(made[-1], index, writers))
        return self.store.begin_commit(made), wanted

    def make_mutation(self, model, drawn, before):
        number = next(self.numbers)
        reads = [EntryRead(c, k, model.version(c, k)) for c, k in drawn["reads"]]
        if reads:
            reads[-1].version += drawn["wrong_by"]
        saw = drawn["saw"]
        if saw is not None:
            written = before[saw].writes[-1:] if saw < len(before) else []
            place = (written[0].channel, written[0].key) if written else (CHANNELS[0], KEYS[0])
            reads.append(EntryRead(*place, -1, saw))
        made = [
            EntryWrite(c, k, value, b"%d.%d" % (number, n), tuple(tags), is_forwarded)
            for n, (c, k, value, tags, is_forwarded) in enumerate(drawn["writes"])
        ]
        events = [AppendRequest(c, b"told %d" % number, self.now_ms) for c in drawn["events"]]
        client, known = drawn["client"], None
        mid = 0 if client is None else model.clients[client].last + drawn["step"]
        if drawn["known"] is not None:
            known = IdempotencyKey("service:s", "mutate", drawn["known"], drawn["request_hash"])
        outcome = b"outcome %d" % number
        return MutationCommit(client, mid, reads, made, outcome, self.now_ms, events, known)

    # ---------------------------------------------------------------------------------------- forgetting

    def forget_old(self, *, is_certain):
        for name, client in self.model.clients.items():
            for outcome in client.outcomes.values():
                if outcome.at_ms < self.now_ms - OUTCOMES_S * 1000:
                    outcome.is_certain = False
                    outcome.is_kept &= not is_certain
            if client.last and client.used_ms < self.now_ms - CLIENTS_S * 1000 - CLIENT_USE_MS:
                (last,) = self.store.last_mids([name])
                assert last in ((0,) if is_certain else (0, client.last))
                if last == 0:
                    self.model.clients[name] = Client()

    def forget_old_keys(self, *, is_certain):
        for name, keyed in [*self.model.keyed.items()]:
            if keyed.at_ms < self.now_ms - IDEMPOTENCY_S * 1000:
                is_kept = self.is_key_known(name)
                assert not (is_kept and is_certain)
                if not is_kept:
                    del self.model.keyed[name]

    def is_key_known(self, name):
        """Ask for something else under a key, that cannot be so and leaves no trace."""
        never = EntryRead(CHANNELS[0], KEYS[0], -1)
        probe = MutationCommit(None, 0, [never], [], b"", 0, [], IdempotencyKey(*name, b"probe"))
        answers = self.store.begin_commit([probe])
        self.store.commit()
        return answers == [Mismatch()]

    def forget_acknowledgements(self):
        """They are on disk."""
        self.acknowledged.clear()
        self.forwarded.clear()

    def lose_acknowledgements(self):
        """What was not written down is answered again."""
        for client, mid in self.acknowledged:
            outcome = self.model.clients[client].outcomes.get(mid)
            if outcome is not None:
                outcome.is_kept = True
        self.model.dirty |= self.forwarded
        self.forget_acknowledgements()

    # ---------------------------------------------------------------------------------------- invariants

    @invariant()
    def entries_and_clients_are_those_of_the_model(self):
        lasts = [self.model.clients[name].last for name in CLIENTS]
        assert self.store.last_mids(CLIENTS) == lasts
        for name, entries in self.model.entries.items():
            page = self.store.scan(name, None, 1000, 10**9)
            assert page.entries == [entries[key] for key in sorted(entries)]
            top = len(self.model.logs[name])
            assert page.position == Position(self.model.epochs[name], top)
            found = self.store.entries(name, KEYS)
            assert found == [entries[key] for key in KEYS if key in entries]
            assert self.store.count(name) == len(entries)

    @invariant()
    def logs_are_dense_and_hold_every_change_above_their_floor(self):
        for name in CHANNELS:
            page = self.store.read(LogQuery(name, limit=10**6, max_bytes=10**9))
            assert page.head.top == len(self.model.logs[name])
            got = [(e.offset, (e.at_ms, e.key, e.record)) for e in page.events]
            is_latest = name == "latest"
            assert got == self.model.events_above(name, page.head.floor, is_latest=is_latest)
            if name not in RETENTION:
                assert page.head.floor == 0

    @invariant()
    def tags_lead_to_the_entries_that_have_them(self):
        for collection, tag in itertools.product(("orders", "orders-old"), TAGS):
            wanted = self.model.tagged(collection, tag)
            assert self.store.keys_by_tag(collection, tag, None, 1000) == wanted
            for n, after in enumerate(wanted):
                assert self.store.keys_by_tag(collection, tag, after, 2) == wanted[n + 1 : n + 3]

    @invariant()
    def changes_to_forward_are_dirty_until_acknowledged(self):
        for collection in ("orders", "orders-old"):
            wanted = self.model.dirty_keys(collection)
            assert self.store.dirty(collection, None, 1000) == wanted
            for n, after in enumerate(wanted):
                place = (after.channel, after.key)
                assert self.store.dirty(collection, place, 2) == wanted[n + 1 : n + 3]

    def teardown(self):
        if hasattr(self, "store"):
            self.store.close()


class MemoryMachine(StateMachine):
    """The store that forgets with its process."""

    def make_store(self):
        return MemoryStore(self.options)


class SqliteMachine(StateMachine):
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
        self.come_back()

    @rule(in_flight=transactions)
    def kill(self, in_flight):
        """Go on from the bytes that lie on the disk in the middle of a transaction."""
        self.begin(self.model.copy(), in_flight)
        left = self.folder / f"{self.generation}.db"
        self.generation += 1
        for suffix in ("", "-wal"):
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(f"{left}{suffix}", self.folder / f"{self.generation}.db{suffix}")
        self.store.close()
        self.come_back()

    def come_back(self):
        self.store = self.make_store()
        self.store.open()
        self.lose_acknowledgements()

    def teardown(self):
        super().teardown()
        shutil.rmtree(self.folder)


class RedisMachine(StateMachine):
    """The store on a server, which outlives this process."""

    server = None

    def __init__(self):
        super().__init__()
        self.names = RedisNames(f"state{next(_prefixes)}")

    def make_store(self):
        return RedisStore(self.server.url, self.options, names=self.names, server_clock=False)

    @rule(in_flight=transactions)
    def restart(self, in_flight):
        self.begin(self.model.copy(), in_flight)
        self.store.close()
        self.store = self.make_store()
        self.store.open()
        self.forwarded.clear()  # `dirty` was asked after each step, and handed them over
        self.lose_acknowledgements()


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
