"""Rebuilds played at random against what must come of them, and short ways to ask for one."""

import itertools

import attrs

from syncd.ids import ChannelName
from syncd.ports_state import KeyName
from syncd.store.rebuilds import RebuildLease, ScannedRow, SwapPlan

ORDERS, PART = ChannelName("orders"), ChannelName("orders/eu")
PLAN = SwapPlan(
    at_ms=5,
    deletes_missing=True,
    max_events=1000,
    entry_record=lambda key, value: b"e:" + (b"-" if value is None else value),
    whole_record=b"all",
)
WHOLE = attrs.evolve(PLAN, max_events=0)


def row(key, value=b"new", tags=(), channel="orders"):
    return ScannedRow(ChannelName(channel), KeyName(key), value, tuple(tags))


_number = itertools.count()


def acquire(store, job=None, now_ms=0, *, lease_ms=100, **kind):
    job = job or f"j{next(_number)}"
    wanted = {"resumes": False, "fills": False, **kind}
    return store.rebuilds.acquire("orders", job, now_ms, lease_ms=lease_ms, **wanted)


def prepare(store, lease, plan):
    """Have everything prepared, a step at a time."""
    while has_more := store.rebuilds.prepare(lease, plan, 0.0):
        pass
    assert has_more is False


def tags_of(value):
    """Tags that change with a value, now and then."""
    return (f"t{value[-1] % 3}", "all") if value[-1] % 2 else (f"t{value[-1] % 3}",)


def values(log, channel="orders"):
    return {entry.key: entry.value for entry in log.scan(channel).entries}


def channel_of(key):
    """Keys from e on are of a partition."""
    return ORDERS if key < "e" else PART


class Play:
    """Random changes, acknowledgements, scans, lost leases and crashes, beside what must come of them."""

    def __init__(self, log, chance, mutation, put, delete, reopen):
        self.log, self.chance, self.reopen = log, chance, reopen
        self.mutation, self.put, self.delete = mutation, put, delete
        self.source, self.entries, self.dirty = {}, {}, {}
        self.now_ms = 0
        self.stale = []
        self.begin()

    def begin(self):
        self.lease, self.is_open, self.among, self.may_begin_anew = None, False, None, False
        self.after = ""
        self.kept, self.scanned = set(), {}

    def change(self):
        key = self.chance.choice("abcdefgh")
        value = None if self.chance.random() < 0.3 else b"%d" % self.chance.randrange(100)
        is_forwarded = self.chance.random() < 0.7
        channel = channel_of(key)
        write = (
            self.delete(channel, key, is_forwarded=is_forwarded)
            if value is None
            else self.put(channel, key, value, tags_of(value), is_forwarded=is_forwarded)
        )
        is_undone = self.chance.random() < 0.2
        results = self.log.mutate(self.mutation(None, 0, write), commit=not is_undone)
        if is_undone:
            self.log.store.rollback()
            return
        self.kept.add(key)
        self.entries.pop(key, None)
        if value is not None:
            self.entries[key] = value
        if is_forwarded:
            self.dirty[key] = (results[0].versions[0], value)

    def acknowledge(self):
        if self.dirty:
            key = self.chance.choice(sorted(self.dirty))
            version, value = self.dirty.pop(key)
            self.source.pop(key, None)
            if value is not None:
                self.source[key] = value
            self.log.forwarded(channel_of(key), key, version)
            if self.chance.random() < 0.5:
                self.log.trim()

    def change_source(self):
        key = self.chance.choice("abcdefgh")
        if key not in self.dirty:
            self.source[key] = b"s%d" % self.chance.randrange(100)
            if self.chance.random() < 0.4:
                del self.source[key]

    def acquire(self):
        if self.lease is not None:
            self.now_ms += 100  # it was not renewed
            self.stale.append(self.lease)
        self.log.trim()  # what is acknowledged is dirty no more; after a crash it may be once more
        resumes = self.chance.random() < 0.6
        among = None
        if self.chance.random() < 0.3:
            resumes, among = False, set(self.chance.sample("abcdefgh", 3))
        is_partial = among is not None
        lease = acquire(self.log.store, None, self.now_ms, resumes=resumes, is_partial=is_partial)
        assert isinstance(lease, RebuildLease)
        begins_anew = self.may_begin_anew and self.after != "" and lease.after is None
        if begins_anew or not (resumes and self.is_open and self.among is None):
            assert (lease.after, lease.done) == (None, 0)
            self.begin()
            self.among = among
            self.kept = {key for _channel, key, _version in self.log.dirty("orders")}
        self.lease, self.is_open = lease, True
        assert (lease.after or "") == self.after

    def scan(self):
        if self.lease is None:
            return
        keys = sorted(key for key in self.source if key > self.after)[:2]
        self.is_complete = len(keys) < 2
        wanted = [key for key in keys if self.among is None or key in self.among]
        rows = [
            row(key, self.source[key], tags_of(self.source[key]), channel_of(key)) for key in wanted
        ]
        for each in rows:
            if each.key not in self.kept:
                self.scanned[each.key] = each.value
        if keys:
            self.after = keys[-1]
            assert self.log.store.rebuilds.write_page(self.lease, rows, self.after, 1)

    def swap(self):
        if self.lease is None:
            return
        self.is_complete = False
        while not self.is_complete:
            self.scan()
        plan = self.chance.choice((PLAN, WHOLE))
        keeps_missing = self.chance.random() < 0.2
        among = (
            None if self.among is None else [(channel_of(key), KeyName(key)) for key in self.among]
        )
        plan = attrs.evolve(plan, deletes_missing=not keeps_missing, among=among)
        for _ in range(self.chance.choice((0, 2, 10, 30))):
            # Entries that are kept may be among the rows by now: what is scanned later could not be told from them.
            self.may_begin_anew = keeps_missing
            self.log.store.rebuilds.prepare(self.lease, plan, 0.0)
            self.chance.choice((self.change, self.acknowledge, self.check))()
        if self.chance.random() < 0.3:
            self.crash()
            self.acquire()  # it was prepared and is not swapped: what comes next resumes it, or begins anew
            return
        self.log.store.rebuilds.swap(self.lease, plan)
        before = self.entries
        stays = set(before) if keeps_missing else set(self.kept)
        if self.among is not None:
            stays |= set(before) - self.among
        self.entries = {key: before[key] for key in stays & set(before)}
        self.entries |= {key: value for key, value in self.scanned.items() if key not in self.kept}
        self.begin()

    def crash(self):
        self.log.store = self.reopen(self.log.store)

    def refuse_stale(self):
        for lease in self.stale:
            assert not self.log.store.rebuilds.write_page(lease, [row("a", b"stale")], "z", 1)
            assert self.log.store.rebuilds.swap(lease, PLAN) is None
        self.stale.clear()

    def check(self):
        assert values(self.log) | values(self.log, PART) == self.entries
        assert sum(map(self.log.store.count, (ORDERS, PART))) == len(self.entries)
        for tag in ("all", "t0", "t1", "t2"):
            expected = [
                (channel_of(key), key)
                for key, value in sorted(self.entries.items())
                if tag in tags_of(value)
            ]
            assert self.log.tagged("orders", tag) == expected
        for channel in (ORDERS, PART):
            versions = [entry.version for entry in self.log.scan(channel).entries]
            assert all(0 < version <= self.log.head(channel).top for version in versions)

    def run(self, num_steps):
        """Do anything in any order, and look at everything after each step."""
        steps = [self.change, self.change, self.acknowledge, self.change_source, self.acquire]
        steps += [self.scan, self.scan, self.swap, self.crash, self.refuse_stale]
        for _ in range(num_steps):
            self.chance.choice(steps)()
            self.check()
