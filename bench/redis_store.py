"""What a durable append through Redis costs beside the bare script, and how the data grows.

    python -m bench.redis_store [--events N] [--json FILE]

A redis-server of its own, nothing on disk. First the floor: the script of a commit with one event and its idempotency key each, 256 at a time in one
pipeline, its arguments made beforehand and its answers not looked at, as `redis-benchmark -P 256` would. Then the store actor with 256 publishers of one
request each, which batches what waits into one script. Last what one item of each kind adds to the server's memory.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis
import trio

from bench.store_commit import NUM_CHANNELS, RECORD
from syncd.actors.store import StoreActor
from syncd.actors.store_worker import ThreadWorker
from syncd.ids import ChannelName
from syncd.ports_log import AppendRequest, IdempotencyKey
from syncd.ports_state import EntryWrite, KeyName, MutationCommit
from syncd.store.base import Retention, StoreOptions
from syncd.store.redis_batch import for_script
from syncd.store.redis_keys import RedisNames
from syncd.store.redis_scripts import COMMIT
from syncd.store.redis_store import RedisStore
from syncd.testing.redis_server import RedisServer

OUTSTANDING = 256
WANTED_RATIO = 0.5
AT_MS = 1_700_000_000_000
OPTIONS = StoreOptions(lambda _: Retention(size=1_000_000, age_s=86_400.0))


def requests_of(count: int, channel: str = "demo:c") -> list[AppendRequest]:
    return [
        AppendRequest(
            ChannelName(f"{channel}{n % NUM_CHANNELS}"),
            RECORD,
            AT_MS + n,
            None,
            IdempotencyKey(f"client:{n % OUTSTANDING}", "publish", f"{channel}-{n}", b"h" * 16),
        )
        for n in range(count)
    ]


def open_store(server: RedisServer, prefix: str) -> RedisStore:
    store = RedisStore(server.url, OPTIONS, names=RedisNames(prefix), node="bench")
    store.open()
    return store


# ------------------------------------------------------------------------------------------------ speed


def run_bare(server: RedisServer, requests: list[AppendRequest]) -> float:
    """Return events per second of the bare script."""
    store = open_store(server, "bare")
    commands = [
        ("EVALSHA", COMMIT.sha, 1, "{bare}:meta", _argument(store, each)) for each in requests
    ]
    client: Any = server.client()
    client.script_load(COMMIT.text)
    connection = client.connection_pool.get_connection()
    started = time.perf_counter()
    for start in range(0, len(commands), OUTSTANDING):
        part = commands[start : start + OUTSTANDING]
        connection.send_packed_command(connection.pack_commands(part))
        for _ in part:
            connection.read_response()
    took_s = time.perf_counter() - started
    client.close()
    store.close()
    return len(requests) / took_s


def _argument(store: RedisStore, request: AppendRequest) -> bytes:
    """Return what the store would send for a transaction of this request alone."""
    batch = store.new_batch()
    batch.append([request])
    found: list[bytes] = []

    def note(_script: object, make: Callable[[], list[Any]]) -> Any:
        found.append(for_script([store._epochs.era, *make()]))  # noqa: SLF001 - as the store does it
        return [1, [b"0" * 16, 1], 1]

    original, store.run = store.run, note  # type: ignore[method-assign]
    try:
        store.commit_batch(batch)
    finally:
        store.run = original  # type: ignore[method-assign]
    return found[0]


async def run_actor(server: RedisServer, requests: list[AppendRequest]) -> tuple[float, float]:
    """Return events per second through the actor, and its longest latency in ms but for a hundredth."""
    actor = StoreActor(open_store(server, "actor"), ThreadWorker("store"))
    left, latencies, done = iter(requests), [], trio.Event()

    def publish(since: float | None) -> None:
        if since is not None:
            latencies.append(time.perf_counter() - since)
            if len(latencies) == len(requests):
                done.set()
        request = next(left, None)
        if request is not None:
            now = time.perf_counter()
            actor.append([request], lambda _answer: publish(now))

    async with trio.open_nursery() as nursery:
        await nursery.start(actor.run)
        started = time.perf_counter()
        for _ in range(OUTSTANDING):
            publish(None)
        await done.wait()
        took_s = time.perf_counter() - started
        nursery.cancel_scope.cancel()
    return len(requests) / took_s, sorted(latencies)[int(len(latencies) * 0.99)] * 1000


# ------------------------------------------------------------------------------------------------ growth


def growth(server: RedisServer, count: int) -> dict[str, float]:
    """Return how many bytes of the server's memory one more item takes."""
    found = {}
    client = server.client()
    for index, (name, fill) in enumerate(kinds(count).items()):
        store = open_store(server, f"growth{index}")
        before = _used(client)
        fill(store)
        found[name] = (_used(client) - before) / count
        store.close()
    client.close()
    return found


Fill = Callable[[RedisStore], None]


def kinds(count: int) -> dict[str, Fill]:
    """Return what fills a store with so many of a kind."""
    channels = [AppendRequest(ChannelName(f"demo:{n:08}"), RECORD, AT_MS) for n in range(count)]
    return {
        "event of 160 bytes": appends(
            [AppendRequest(ChannelName("demo:one"), RECORD, AT_MS)] * count
        ),
        "the same with an idempotency key": appends(requests_of(count, "demo:k")),
        "channel with one event": appends(channels),
        "entry of 160 bytes, its event empty": mutations(count, entry),
        "the same with a tag": mutations(count, lambda n: entry(n, "tag")),
        "the same, dirty": mutations(count, lambda n: entry(n, is_forwarded=True)),
        "client with one outcome": mutations(count, lambda n: outcome(f"client-{n:08}", 1)),
        "further outcome of a client": mutations(
            count, lambda n: outcome(f"c{n // 500}", n % 500 + 1)
        ),
    }


def entry(n: int, *tags: str, is_forwarded: bool = False) -> MutationCommit:
    place = (ChannelName("orders"), KeyName(f"order-{n:08}"))
    write = EntryWrite(*place, b"v" * 160, b"", tags, is_forwarded)
    return MutationCommit(None, 0, [], [write], b"", AT_MS)


def outcome(client: str, mid: int) -> MutationCommit:
    return MutationCommit(client, mid, [], [], b"ok", AT_MS)


def mutations(count: int, make: Callable[[int], MutationCommit]) -> Fill:
    def fill(store: RedisStore) -> None:
        for start in range(0, count, 500):
            store.begin_commit([make(n) for n in range(start, start + 500)])
            store.commit()

    return fill


def appends(made: list[AppendRequest]) -> Fill:
    def fill(store: RedisStore) -> None:
        for start in range(0, len(made), 500):
            store.begin(made[start : start + 500])
            store.commit()

    return fill


def _used(client: redis.Redis) -> int:
    facts: Any = client.info("memory")
    return int(facts["used_memory_dataset"])


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--events", type=int, default=50_000)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="syncd-redis-") as folder,
        RedisServer(Path(folder)) as server,
    ):
        requests = requests_of(asked.events)
        bare = run_bare(server, requests)
        through, p99_ms = trio.run(run_actor, server, requests)
        sizes = growth(server, 10_000)
    ratio = through / bare
    print(f"bare script, 256 in a pipeline   {bare:9,.0f} events/s")
    print(f"store actor, 256 outstanding     {through:9,.0f} events/s, p99 {p99_ms:.1f} ms")
    print(f"ratio {ratio:.2f}, wanted at least {WANTED_RATIO}")
    for name, size in sizes.items():
        print(f"{name:36}{size:8.0f} bytes")
    if asked.json is not None:
        facts = {"bare": bare, "actor": through, "p99_ms": p99_ms, "ratio": ratio, "bytes": sizes}
        asked.json.write_text(json.dumps(facts, indent=2))
    return 0 if ratio >= WANTED_RATIO else 1


if __name__ == "__main__":
    sys.exit(main())
