"""A storm of large values, run in a process of its own by `test_memory`: prints how much memory it took at most, in bytes.

Usage: python storm.py LIMIT_BYTES NUM_VALUES
"""

import random
import sys
import threading
from pathlib import Path

from syncd.cache import LRUCache


def resident_bytes():
    """What the process holds in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def main():
    limit, num_values = int(sys.argv[1]), int(sys.argv[2])
    before = resident_bytes()
    cache = LRUCache(max_bytes=limit)
    peaks, most = [], []

    def work(seed):
        rng = random.Random(seed)
        for step in range(num_values // 4):
            size = rng.randrange(100_000, 3_000_000)
            value = b"x" * size if step % 2 else {"id": step, "body": "x" * size}
            cache.set(f"key:{rng.randrange(1_000)}", value)
            del value
            most.append(cache.num_bytes)
            peaks.append(resident_bytes() - before)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stats = cache.stats()
    assert stats.insertions == stats.evictions + stats.num_entries
    print(max(peaks), max(most), stats.evictions)


main()
