"""Part of `store_commit`: what a committed mutation costs beside a bare SQLite loop that writes the same rows.

Each mutation reads one entry and writes it: an event, the entry, its client's `last` and an outcome. The bare loop knows every
number beforehand; the store looks each client and entry up and answers. Then the store once more with a group of its own for
every mutation, and with every change to be forwarded (a dirty key besides, and its acknowledgement): neither has more on its floor.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import attrs

from syncd.ids import ChannelName
from syncd.ports_state import Committed, EntryRead, EntryWrite, KeyName, MutationCommit
from syncd.store.base import StoreOptions
from syncd.store.sqlite import SqliteStore
from syncd.store.sqlite_file import open_file

__all__ = ["Timing", "make_mutations", "run_bare", "run_store"]

NUM_CLIENTS = 1000
NUM_ENTRIES = 20_000
NUM_CHANNELS = 20
VALUE, RECORD, OUTCOME = bytes(135), bytes(230), bytes(57)
"""As long as those of `bench/state_app.py`."""


@attrs.frozen
class Timing:
    """One run: seconds of each transaction, and in total by the clock and by CPU."""

    latencies_s: list[float]
    elapsed_s: float
    cpu_s: float


def make_mutations(
    count: int, *, num_channels: int = NUM_CHANNELS, num_first: int = 0, is_forwarded: bool = False
) -> list[MutationCommit]:
    """Return mutations that all stand when they are decided in order, each with the version it will read.

    Args:
        num_first: So many more before them, which go through the entries in order.
    """
    rng = random.Random(1)
    clients = [f"{rng.getrandbits(128):032x}" for _ in range(NUM_CLIENTS)]
    mids = dict.fromkeys(clients, 0)
    channels = [ChannelName(f"bench/{n}") for n in range(num_channels)]
    tops = dict.fromkeys(channels, 0)
    versions: dict[tuple[ChannelName, KeyName], int] = {}
    now_ms = int(time.time() * 1000)
    made = []
    for n in range(num_first + count):
        client = clients[n % NUM_CLIENTS]
        mids[client] += 1
        number = n if n < num_first else rng.randrange(NUM_ENTRIES)
        channel, key = channels[number % num_channels], KeyName(f"order-{number:06}")
        read = EntryRead(channel, key, versions.get((channel, key), 0))
        tops[channel] = versions[channel, key] = tops[channel] + 1
        write = EntryWrite(channel, key, VALUE, RECORD, (), is_forwarded)
        made.append(
            MutationCommit(client, mids[client], [read], [write], OUTCOME, now_ms + n // 40)
        )
    return made


def _groups(mutations: list[MutationCommit], size: int) -> Iterator[list[MutationCommit]]:
    for start in range(0, len(mutations), size):
        yield mutations[start : start + size]


def run_bare(path: Path, mutations: list[MutationCommit], batch: int, num_first: int = 0) -> Timing:
    """The floor: the same rows in four statements a transaction, nothing looked up, nothing answered.

    Args:
        num_first: So many are written before the time is taken.
    """
    connection = open_file(path, lock_wait_s=0.0)
    clients = {name: n for n, name in enumerate(dict.fromkeys(m.client for m in mutations), 1)}
    rows = [(n, name, 0, 0) for name, n in clients.items()]
    connection.executemany("INSERT INTO client VALUES (?, ?, ?, ?)", rows)
    tops: dict[ChannelName, int] = {}
    ids: dict[ChannelName, int] = {}
    latencies_s = []
    started_all, cpu_started = time.perf_counter(), time.process_time()
    for number, group in enumerate(_groups(mutations, batch)):
        if number * batch == num_first:
            started_all, cpu_started = time.perf_counter(), time.process_time()
        started = time.perf_counter()
        events, entries, lasts, outcomes = [], [], [], []
        for m in group:
            write, client_id = m.writes[0], clients[m.client]
            row_id = ids.setdefault(write.channel, len(ids))
            offset = tops[write.channel] = tops.get(write.channel, 0) + 1
            events.append((row_id, offset, m.at_ms, write.key, write.record))
            entries.append((row_id, write.key, offset, None, write.value))
            lasts.append((m.mid, client_id))
            outcomes.append((client_id, m.mid, m.at_ms, f"{row_id} {offset}", m.outcome))
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO event VALUES (?, ?, ?, ?, ?)", events)
        connection.executemany("INSERT OR REPLACE INTO entry VALUES (?, ?, ?, ?, ?)", entries)
        connection.executemany("UPDATE client SET last = ? WHERE id = ?", lasts)
        connection.executemany("INSERT INTO outcome VALUES (?, ?, ?, ?, ?)", outcomes)
        connection.execute("COMMIT")
        latencies_s.append(time.perf_counter() - started)
    timing = Timing(
        latencies_s, time.perf_counter() - started_all, time.process_time() - cpu_started
    )
    connection.close()
    return timing


def run_store(
    path: Path,
    options: StoreOptions,
    mutations: list[MutationCommit],
    batch: int,
    group_size: int,
) -> Timing:
    """The store in one thread, `batch` mutations a transaction, in groups; every one must stand."""
    store = SqliteStore(path, options)
    store.open()
    latencies_s = []
    started_all, cpu_started = time.perf_counter(), time.process_time()
    for group in _groups(mutations, batch):
        started = time.perf_counter()
        results = [r for part in _groups(group, group_size) for r in store.begin_commit(part)]
        store.commit()
        for mutation, result in zip(group, results, strict=True):
            assert type(result) is Committed
            for write, version in zip(mutation.writes, result.versions, strict=True):
                if write.is_forwarded:
                    store.acknowledge_forwarded(write.channel, write.key, version)
        latencies_s.append(time.perf_counter() - started)
    timing = Timing(
        latencies_s, time.perf_counter() - started_all, time.process_time() - cpu_started
    )
    store.close()
    return timing
