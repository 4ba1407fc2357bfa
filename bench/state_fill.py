"""A store with 100,000 orders of some 150 bytes: `python -m bench.state_fill FILE`."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from syncd.ids import ChannelName
from syncd.ports_state import EntryWrite, KeyName, MutationCommit
from syncd.store.base import Retention, StoreOptions
from syncd.store.sqlite import SqliteStore
from syncd.wire.encode import pack
from syncd.wire.encode_entries import entry_record

__all__ = ["NUM_ENTRIES", "fill"]

NUM_ENTRIES = 100_000
_AT_ONCE = 500


def fill(path: Path) -> None:
    """Write them, as the cache-owner would."""
    store = SqliteStore(
        path, StoreOptions(retention_of=lambda _channel: Retention(10_000, 86_400.0))
    )
    store.open()
    at_ms = int(time.time() * 1000)
    value = pack({"customer": "c" * 40, "lines": ["l" * 40], "status": "new"})
    channel = ChannelName("orders")
    for start in range(0, NUM_ENTRIES, _AT_ONCE):
        writes = []
        for number in range(start, start + _AT_ONCE):
            key = KeyName(f"order-{number:06}")
            writes.append(EntryWrite(channel, key, value, entry_record(key, at_ms, value=value)))
        store.begin_commit([MutationCommit(None, 0, [], writes, b"", at_ms)])
        store.commit()
    store.close()


if __name__ == "__main__":
    fill(Path(sys.argv[1]))
