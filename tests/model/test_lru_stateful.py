"""The LRU against a naive model: one list in order of use, deadlines compared one by one, sizes summed anew each time."""

import math

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from syncd.model.lru import ENTRY_BYTES, EXPIRED_PER_CALL, Lru
from syncd.model.lru_facts import ABSENT, State
from syncd.model.tag_index import TAG_BYTES

KEYS = st.sampled_from(["a", "b", 1, 65, (1, "x")])  # 1 and 65 share a table
LIVES = st.sampled_from([0.5, 1.0, 3.0, math.inf])
STALES = st.sampled_from([0.0, 0.0, 1.0, 3.0, math.inf])
TAGS = st.lists(st.sampled_from(["red", "green", "blue"]), max_size=3)
LIMITS = st.one_of(st.none(), st.integers(1, 6))


class Entry:
    def __init__(self, key, value, size, now, ttl, stale, tags):
        self.key, self.value, self.tags = key, value, set(tags)
        if value is ABSENT:
            stale = 0.0
        self.size = size + ENTRY_BYTES + TAG_BYTES * len(tags)
        self.fresh, self.dead = now + ttl, now + ttl + stale
        self.due = math.inf
        if self.dead != math.inf:
            width = 2.0 ** (math.floor(math.log2(ttl + stale)) - 6)
            self.due = (math.floor(self.dead / width) + 1) * width


class Naive:
    """Oldest first."""

    def __init__(self):
        self.entries = []
        self.counts = dict.fromkeys(
            ["hits", "negative_hits", "stale_hits", "misses", "insertions", "replacements",
             "evictions", "expirations", "removals", "oversized"], 0
        )  # fmt: skip

    def find(self, key):
        return next((entry for entry in self.entries if entry.key == key), None)

    def drop(self, entry, count):
        self.entries.remove(entry)
        self.counts[count] += 1

    def sweep(self, now):
        for entry in [entry for entry in self.entries if entry.due <= now]:
            self.drop(entry, "expirations")

    def alive(self, key, now):
        entry = self.find(key)
        if entry is not None and entry.dead <= now:
            self.drop(entry, "expirations")
            return None
        return entry

    def remove(self, key, now):
        entry = self.alive(key, now)
        if entry is None:
            return False
        self.drop(entry, "removals")
        return True

    def trim(self, now, max_entries, max_bytes):
        while len(self.entries) > max_entries or self.num_bytes > max_bytes:
            oldest = self.entries[0]
            self.drop(oldest, "expirations" if oldest.dead <= now else "evictions")

    @property
    def num_bytes(self):
        return sum(entry.size for entry in self.entries)


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

    @rule(
        key=KEYS,
        size=st.integers(0, 900),
        ttl=LIVES,
        stale=STALES,
        tags=TAGS,
        known=st.integers(0, 4),
    )
    def put(self, key, size, ttl, stale, tags, known):
        self.serial += 1
        value = self.serial if known else ABSENT
        naive, now = self.naive, self.now
        naive.sweep(now)
        entry = Entry(key, value, size, now, ttl, stale, tags)
        is_kept = entry.size <= self.most[1]
        if is_kept:
            former = naive.find(key)
            is_alive = former is not None and former.dead > now
            if former is not None:
                naive.entries.remove(former)
                naive.counts["expirations"] += not is_alive
            naive.counts["replacements" if is_alive else "insertions"] += 1
            naive.entries.append(entry)
            naive.trim(now, *self.most)
        else:
            naive.counts["oversized"] += 1
            naive.remove(key, now)
        assert is_kept == self.lru.put(key, value, size, now, ttl_s=ttl, stale_s=stale, tags=tags)

    @rule(key=KEYS)
    def look_again(self, key):
        self.look(key)

    @rule(key=KEYS)
    def look(self, key):
        self.naive.sweep(self.now)
        entry = self.naive.alive(key, self.now)
        expected = self.state_of(entry)
        if entry is not None:
            self.naive.entries.remove(entry)
            self.naive.entries.append(entry)
        counts = self.naive.counts
        counts[{State.MISS: "misses", State.STALE: "stale_hits"}.get(expected[0], "hits")] += 1
        counts["negative_hits"] += expected[0] is State.ABSENT
        assert self.lru.look(key, self.now) == expected

    def state_of(self, entry):
        if entry is None or entry.dead <= self.now:
            return State.MISS, None
        if entry.value is ABSENT:
            return State.ABSENT, None
        return (State.FRESH if entry.fresh > self.now else State.STALE), entry.value

    @rule(key=KEYS)
    def peek(self, key):
        assert self.lru.peek(key, self.now) == self.state_of(self.naive.find(key))

    @rule(key=KEYS)
    def remove(self, key):
        assert self.lru.remove(key, self.now) == self.naive.remove(key, self.now)

    @rule(tag=st.sampled_from(["red", "green", "blue", "unused"]))
    def remove_tag(self, tag):
        tagged = [entry.key for entry in self.naive.entries if tag in entry.tags]
        gone = {key for key in tagged if self.naive.remove(key, self.now)}
        assert set(self.lru.remove_tag(tag, self.now)) == gone

    @rule()
    def clear(self):
        assert self.lru.clear() == len(self.naive.entries)
        self.naive.counts["removals"] += len(self.naive.entries)
        self.naive.entries.clear()

    @rule(entries=LIMITS, hundreds=LIMITS)
    def change_limits(self, entries, hundreds):
        self.limit(entries, hundreds)
        self.lru.set_limits(max_entries=entries, max_bytes=self.bytes, now=self.now)
        self.naive.sweep(self.now)
        self.naive.trim(self.now, *self.most)

    @rule(how_many=st.integers(1, 3))
    def sweep(self, how_many):
        due = sum(entry.due <= self.now for entry in self.naive.entries)
        if due <= how_many:
            assert self.lru.sweep(self.now, how_many) == due
            self.naive.sweep(self.now)

    @invariant()
    def agree(self):
        if not hasattr(self, "lru"):
            return
        assert len(self.naive.entries) <= EXPIRED_PER_CALL, "else a call could not clear them all"
        assert self.lru.keys() == [entry.key for entry in self.naive.entries]
        assert self.lru.num_bytes == self.naive.num_bytes
        assert all(set(self.lru.tags(entry.key)) == entry.tags for entry in self.naive.entries)
        found = self.lru.statistics()
        assert {name: getattr(found, name) for name in self.naive.counts} == self.naive.counts
        gone = found.evictions + found.expirations + found.removals
        assert found.insertions == gone + len(self.lru)
        assert self.lru.num_bytes <= self.most[1]
        assert len(self.lru) <= self.most[0]


TestLru = LruAgainstModel.TestCase
TestLru.settings = settings(max_examples=250, stateful_step_count=60)
