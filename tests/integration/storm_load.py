"""What a storm of reads is made of: who reads which key, and what the node's process takes for it."""

import collections
import math
import random
import threading
from pathlib import Path

import attrs

SMALLEST_BYTES, LARGEST_BYTES = 100_000, 3_000_000
REPEAT_SHARE = 0.7
RECENT_BYTES = 40_000_000
"""Of the entries that are read again. A cache of 200 MB has them for sure, whoever reads what meanwhile: newer than one of them are those it
is among now, those it was among before (as many bytes each), and one value in the hands of each of 30 workers."""


@attrs.define
class Storm:
    """Hands out keys: new ones, and in `REPEAT_SHARE` of all cases one of those read lately. Threads may share it."""

    num_new: int = 0
    num_repeats: int = 0
    _num_bytes: int = 0
    _recent: collections.deque = attrs.field(factory=collections.deque)
    _lock: threading.Lock = attrs.field(factory=threading.Lock)

    def keys(self, seed, count):
        """Yield the keys of one worker; each counts as read when the next one is asked for."""
        rng = random.Random(seed)
        for number in range(count):
            with self._lock:
                is_new = not self._recent or rng.random() >= REPEAT_SHARE
                key = self._new(rng, seed, number) if is_new else rng.choice(self._recent)
                self.num_new += is_new
                self.num_repeats += not is_new
            yield key
            if is_new:
                with self._lock:
                    self._note(key)

    @staticmethod
    def _new(rng, seed, number):
        """Return a key for a value of any order of magnitude between the limits: as many below 550 KB as above."""
        size = math.exp(rng.uniform(math.log(SMALLEST_BYTES), math.log(LARGEST_BYTES)))
        return f"{int(size)}-{seed * 1000 + number}"

    def _note(self, key):
        self._recent.append(key)
        self._num_bytes += value_size(key)
        while self._num_bytes > RECENT_BYTES:
            self._num_bytes -= value_size(self._recent.popleft())


def value_size(key):
    """Return the bytes of what a key's value holds."""
    return int(key.split("-")[0])


def value_of(key):
    """Return what a loader returns for a key: a text or bytes."""
    size, number = map(int, key.split("-"))
    fill = chr(97 + number % 26)
    return fill * size if number % 2 else fill.encode() * size


def memory_of(pid):
    """Return what a process holds in memory now, and held at most, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    rows = dict(line.split(":", 1) for line in lines)
    return tuple(int(rows[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))
