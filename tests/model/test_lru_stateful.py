"""The LRU against a naive model: lists in order of use, deadlines compared one by one, sizes summed anew each time.

When a dead entry is cleared away is the LRU's own business, but not before its death and within a 64th of its life after: the model
learns from the LRU which are gone (`settle`) and holds it to that.
"""

import math

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from syncd.model.lru import ENTRY_BYTES, EXPIRED_PER_CALL, Lru
from syncd.model.lru_facts import ABSENT, State
from syncd.model.tag_index import TAG_BYTES
from tests.examples import examples

pytestmark = pytest.mark.unmeasured

KEYS = st.sampled_from(["a", "b", 1, 62, None, (1, "x")])  # 1 and 62 share a table
LIVES = st.sampled_from([0.5, 1.0, 3.0, math.inf])
STALES = st.sampled_from([0.0, 0.0, 1.0, 3.0, math.inf])
SIZES = st.integers(0, 900)
TAGS = st.lists(st.sampled_from(["red", "green", "blue"]), max_size=3)
LIMITS = st.one_of(st.none(), st.integers(1, 6))


class Entry:
    def __init__(self, key, value, size, tags):
        self.key, self.value, self.tags = key, value, set(tags)
        self.size = size + ENTRY_BYTES + TAG_BYTES * len(tags)
        self.fresh = self.dead = self.due = math.inf

    def live(self, now, ttl, stale):
        if self.value is ABSENT:
            stale = 0.0
        self.fresh = now + ttl
        self.die(self.fresh + stale, now)

    def die(self, dead, now):
        self.dead = dead
        self.due = dead if dead == math.inf else dead + (dead - now) / 64


class Naive:
    """Oldest first."""

    def __init__(self):
        self.entries = []
        self.counts = dict.fromkeys(
            ["hits", "negative_hits", "stale_hits", "misses", "insertions", "replacements",
             "evictions", "expirations", "removals", "oversized"], 0
        )  # fmt: skip

    @property
    def num_bytes(self):
        return sum(entry.size for entry in self.entries)

    def find(self, key):
        return next((entry for entry in self.entries if entry.key == key), None)

    def take(self, entry):
        self.entries.remove(entry)

    def use(self, entry):
        self.take(entry)
        self.entries.append(entry)

    def drop(self, entry, count):
        self.take(entry)
        self.counts[count] += 1

    def settle(self, now, held):
        """Let go what the LRU has cleared away, if it was dead."""
        for entry in list(self.entries):
            if entry.key not in held:
                assert entry.dead <= now, "a live entry is gone"
                self.drop(entry, "expirations")

    def alive(self, key, now):
        entry = self.find(key)
        if entry is not None and entry.dead <= now:
            self.drop(entry, "expirations")
            return None
        return entry

    def replace(self, entry, now):
        former = self.find(entry.key)
        is_alive = former is not None and former.dead > now
        if former is not None:
            self.take(former)
            self.counts["expirations"] += not is_alive
        self.counts["replacements" if is_alive else "insertions"] += 1
        self.entries.append(entry)

    def remove(self, key, now):
        entry = self.alive(key, now)
        if entry is None:
            return False
        self.drop(entry, "removals")
        return True

    def trim(self, now, max_entries, max_bytes):
        while self.entries and (len(self.entries) > max_entries or self.num_bytes > max_bytes):
            oldest = self.entries[0]
            self.drop(oldest, "expirations" if oldest.dead <= now else "evictions")


class LruAgainstModel(RuleBasedStateMachine):
    @initialize(entries=LIMITS, hundreds=LIMITS)
    def start(self, entries, hundreds):
        self.now = 1000.0
        self.serial = 0
        self.limit(entries, hundreds)
        self.lru = Lru(max_entries=entries, max_bytes=self.bytes)
        self.naive = Naive()

    def limit(self, entries, hundreds):
        self.bytes = None if hundreds is None else hundreds * 700
        self.most = entries or math.inf, self.bytes or math.inf

    def swept(self):
        """Let both clear away what is due: the next call then finds nothing more of that, and evicts the same."""
        self.lru.sweep(self.now, 100)
        self.naive.settle(self.now, self.lru.keys())
        assert all(entry.due >= self.now for entry in self.naive.entries)
        return self.naive

    @rule(seconds=st.sampled_from([0.5, 1.0, 1.015625, 3.0, 50.0]))
    def wait(self, seconds):
        self.now += seconds

    @rule(which=st.integers(0, 99))
    def wait_for_a_deadline(self, which):
        """Most mistakes are made at the very moment."""
        times = [time for e in self.naive.entries for time in (e.fresh, e.dead, e.due)]
        ahead = [time for time in times if self.now < time < math.inf]
        if ahead:
            self.now = ahead[which % len(ahead)]

    @rule(key=KEYS, size=SIZES, life=st.tuples(LIVES, STALES), tags=TAGS, known=st.integers(0, 4))
    def put(self, key, size, life, tags, known):
        self.serial += 1
        value = self.serial if known else ABSENT
        naive, now = self.swept(), self.now
        entry = Entry(key, value, size, tags)
        entry.live(now, *life)
        if entry.size > self.most[1]:
            naive.counts["oversized"] += 1
            naive.remove(key, now)
        else:
            naive.replace(entry, now)
            naive.trim(now, *self.most)
        kept = self.lru.put(key, value, size, now, ttl_s=life[0], stale_s=life[1], tags=tags)
        assert kept == (naive.find(key) is entry)

    @rule(key=KEYS, size=SIZES)
    def renew(self, key, size):
        """Does what `put` does, or nothing."""
        self.serial += 1
        naive, former = self.swept(), self.naive.find(key)
        entry = Entry(key, self.serial, size, [])
        entry.live(self.now, math.inf, 0.0)
        is_done = former is not None and former.fresh == math.inf
        is_done = is_done and not any(each.tags for each in naive.entries)
        is_done = is_done and naive.num_bytes - former.size + entry.size <= self.most[1]
        if is_done:
            naive.replace(entry, self.now)
        assert self.lru.renew(key, self.serial, size) == is_done

    @rule(key=KEYS, seconds=STALES)
    def make_stale(self, key, seconds):
        entry = self.naive.alive(key, self.now)
        is_stale = entry is not None
        if is_stale and (not seconds or entry.value is ABSENT):
            self.naive.drop(entry, "removals")
            is_stale = False
        elif is_stale:
            entry.fresh = min(entry.fresh, self.now)
            if self.now + seconds < entry.dead:
                entry.die(self.now + seconds, self.now)
        assert self.lru.make_stale(key, self.now, seconds) == is_stale

    @rule(key=KEYS)
    def look_again(self, key):
        self.look(key)

    @rule(key=KEYS)
    def look(self, key):
        found = self.lru.look(key, self.now)
        entry = self.naive.alive(key, self.now)
        assert found == self.state_of(entry)
        if entry is not None:
            self.naive.use(entry)
        counts = self.naive.counts
        counts[{State.MISS: "misses", State.STALE: "stale_hits"}.get(found[0], "hits")] += 1
        counts["negative_hits"] += found[0] is State.ABSENT
        self.naive.settle(self.now, self.lru.keys())
        assert all(entry.due >= self.now for entry in self.naive.entries)

    def state_of(self, entry):
        if entry is None or entry.dead <= self.now:
            return State.MISS, None
        if entry.value is ABSENT:
            return State.ABSENT, None
        return (State.FRESH if entry.fresh > self.now else State.STALE), entry.value

    @rule(key=KEYS)
    def peek(self, key):
        entry = self.naive.find(key)
        assert self.lru.peek(key, self.now) == self.state_of(entry)
        assert self.lru.deadlines(key) == (None if entry is None else (entry.fresh, entry.dead))

    @rule(key=KEYS)
    def remove(self, key):
        assert self.lru.remove(key, self.now) == self.naive.remove(key, self.now)

    @rule(tag=st.sampled_from(["red", "green", "blue", "unused"]))
    def remove_tag(self, tag):
        tagged = [entry.key for entry in self.naive.entries if tag in entry.tags]
        assert set(self.lru.tagged(tag)) == set(tagged)
        gone = {key for key in tagged if self.naive.remove(key, self.now)}
        assert set(self.lru.remove_tag(tag, self.now)) == gone

    @rule()
    def clear(self):
        gone = list(self.naive.entries)
        for entry in gone:
            self.naive.drop(entry, "removals")
        assert self.lru.clear() == len(gone)

    @rule(entries=LIMITS, hundreds=LIMITS)
    def change_limits(self, entries, hundreds):
        self.limit(entries, hundreds)
        self.swept().trim(self.now, *self.most)
        self.lru.set_limits(max_entries=entries, max_bytes=self.bytes, now=self.now)

    @rule(how_many=st.integers(1, 3))
    def sweep(self, how_many):
        before = self.lru.keys()
        num_gone = self.lru.sweep(self.now, how_many)
        assert num_gone <= how_many
        assert len(before) - len(self.lru) == num_gone
        self.naive.settle(self.now, self.lru.keys())

    @invariant()
    def agree(self):
        if not hasattr(self, "lru"):
            return
        lru, naive = self.lru, self.naive
        assert len(naive.entries) <= EXPIRED_PER_CALL, "else a call could not clear them all"
        assert lru.keys() == [entry.key for entry in naive.entries]
        assert lru.newest_keys(3) == [entry.key for entry in naive.entries[:-4:-1]]
        assert sorted(map(str, lru.scan(0, 100)[0])) == sorted(map(str, lru.keys()))
        assert lru.num_bytes == naive.num_bytes
        assert all(set(lru.tags(entry.key)) == entry.tags for entry in naive.entries)
        found = lru.statistics()
        assert {name: getattr(found, name) for name in naive.counts} == naive.counts
        gone = found.evictions + found.expirations + found.removals
        assert found.insertions == gone + len(lru)
        assert lru.num_bytes <= self.most[1]
        assert len(lru) <= self.most[0]


TestLru = LruAgainstModel.TestCase
TestLru.settings = settings(max_examples=examples(100), stateful_step_count=60)
