"""A cached collection of a node in a process of its own, under a storm of reads of large values.

The values have 0.1 to 3 MB, of every order of magnitude. The protocol lets an answer with one entry be of any size; what a node may send is
bounded by `limits.outbox_bytes`, which must be twice the largest value: 8 MB for `max_value_bytes` 4 MB. So every value goes the
whole way, over WebSockets by the Python client as over HTTP.
"""

import base64
import http.client
import json
import threading
from pathlib import Path

import pytest
import trio

from syncd.client import open_client
from tests.integration.cli_server import KEY, Server
from tests.integration.storm_load import LARGEST_BYTES, Storm, memory_of, value_of

pytestmark = [pytest.mark.process, pytest.mark.slow]

NUM_WORKERS, NUM_READS = 30, 50
LIMIT_BYTES = 200_000_000

GAPS = 0.15
"""Of the limit, when all is quiet again: gaps between blocks below the allocator's threshold, and modules loaded since the start."""
IN_HAND_BYTES = NUM_WORKERS * 2 * LARGEST_BYTES
"""At the worst moment, beside what is cached: for each worker what the loader made, or what is kept of an entry that was evicted meanwhile, and
a copy of it on its way into the socket."""


class Node:
    """The node, and what it is asked by HTTP."""

    def __init__(self, folder):
        (folder / "syncd.toml").write_text('[limits]\noutbox_bytes = "8 MB"\n')
        self.server = Server(folder, str(Path(__file__).with_name("storm_app.py")))
        self.server.start()
        self.counts()  # what the first request loads is there from here on
        self.resident_at_first, _ = self.memory()

    def get(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {KEY}"})
            response = connection.getresponse()
            body = json.loads(response.read())
        finally:
            connection.close()
        assert response.status == 200, body
        return body

    def counts(self):
        return self.get("/api/cache/stats?collection=blobs")["collections"]["blobs"]

    def memory(self):
        return memory_of(self.server.process.pid)

    def read(self, key):
        [entry] = self.get(f"/api/entries?collection=blobs&key={key}")["entries"]
        value = entry["value"]
        return base64.b64decode(value["$base64"]) if isinstance(value, dict) else value

    def check_limit(self):
        assert self.counts()["num_bytes"] <= LIMIT_BYTES


@pytest.fixture
def node(tmp_path):
    node = Node(tmp_path)
    yield node
    node.server.kill()


def check_all(node, storm):
    """Compare counts and memory with what was asked."""
    resident, peak = node.memory()
    counts = node.counts()
    told = {name: counts[name] for name in ("lookups", "hits", "misses", "loads", "keys_loaded")}
    num_reads = NUM_WORKERS * NUM_READS
    assert storm.num_new + storm.num_repeats == num_reads
    assert told == {
        "lookups": num_reads,
        "hits": storm.num_repeats,
        "misses": storm.num_new,
        "loads": storm.num_new,
        "keys_loaded": storm.num_new,
    }
    assert abs(counts["hit_rate"] - 0.7) < 0.04, "three standard deviations"
    assert counts["load_failures"] == counts["loads_discarded"] == counts["stale_hits"] == 0
    assert counts["evictions"] == storm.num_new - counts["num_entries"] > 100
    assert LIMIT_BYTES - LARGEST_BYTES - 100_000 < counts["num_bytes"] <= LIMIT_BYTES
    print(f"resident {resident}, peak {peak}, at first {node.resident_at_first}")
    assert resident - node.resident_at_first < LIMIT_BYTES * (1 + GAPS)
    assert peak - node.resident_at_first < LIMIT_BYTES + IN_HAND_BYTES


async def test_memory_and_counts_hold_under_thirty_tasks_over_websockets(node):
    storm = Storm()

    async def work(seed):
        async with open_client(f"ws://127.0.0.1:{node.server.port}") as client:
            for number, key in enumerate(storm.keys(seed, NUM_READS)):
                [entry] = (await client.read("blobs", [key])).entries
                assert entry.value == value_of(key)
                if number % 10 == 0:
                    await trio.to_thread.run_sync(node.check_limit)

    with trio.fail_after(120):
        async with trio.open_nursery() as nursery:
            for seed in range(NUM_WORKERS):
                nursery.start_soon(work, seed)
    check_all(node, storm)


def test_memory_and_counts_hold_under_thirty_threads_over_http(node):
    storm = Storm()
    failures = []

    def work(seed):
        try:
            for number, key in enumerate(storm.keys(seed, NUM_READS)):
                assert node.read(key) == value_of(key)
                if number % 10 == 0:
                    node.check_limit()
        except BaseException as failure:
            failures.append(failure)
            raise

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(NUM_WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    check_all(node, storm)
