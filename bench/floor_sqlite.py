"""The floor of durable publishing: `python -m bench.floor_sqlite FILE SECONDS` inserts the rows of syncd's store in a bare loop.

Same file, schema and PRAGMAs as the store (WAL, FULL, exclusive), batches of 100 in one transaction, an event row and an
idempotency row each, and nothing else: rows are prepared outside the clock, no channel row is updated. Prints one line of JSON.
"""

from __future__ import annotations

import json
import random
import sqlite3
import sys
import time
from pathlib import Path

from bench.wire import DATA_BYTES
from syncd.store.sqlite_file import open_file
from syncd.wire.encode import event_record, pack

_BATCH = 100
_PUBLISHERS = 256
_CHANNELS = 100
_EVENT = "INSERT INTO event (channel_id, offset, at_ms, key, record) VALUES (?, ?, ?, ?, ?)"
_KNOWN = """INSERT INTO idempotency (identity, operation, key, hash, channel_id, offset, at_ms)
    VALUES (?, ?, ?, ?, ?, ?, ?)"""

_Row = tuple[object, ...]


def _rows(offset: int, clients: list[str], chance: random.Random) -> tuple[list[_Row], list[_Row]]:
    """One batch of event rows and of idempotency rows, shaped as a server's: publishers in no particular order."""
    at_ms = time.time_ns() // 1_000_000
    events: list[_Row] = []
    known: list[_Row] = []
    for channel in range(_BATCH):
        client = chance.choice(clients)
        data = pack(chance.randbytes(DATA_BYTES))
        record = event_record(data, at_ms, name=None, key=None, client=client)
        uid = f"{at_ms:x}-{chance.randrange(_PUBLISHERS)}-{offset}-{channel}"
        events.append((channel % _CHANNELS, offset, at_ms, None, record))
        identity = f"client:{client}"
        known.append((identity, "publish", uid, chance.randbytes(16), channel, offset, at_ms))
    return events, known


def run(path: Path, seconds: float) -> dict[str, float]:
    """Insert for about `seconds` on the clock."""
    connection = open_file(path, lock_wait_s=5.0)
    chance = random.Random(1)
    clients = [f"{chance.getrandbits(128):032x}" for _ in range(_PUBLISHERS)]
    wall = cpu = 0.0
    num_rows = offset = 0
    while wall < seconds:
        offset += 1
        events, known = _rows(offset, clients, chance)
        started, started_cpu = time.perf_counter(), time.process_time()
        _insert(connection, events, known)
        wall += time.perf_counter() - started
        cpu += time.process_time() - started_cpu
        num_rows += _BATCH
    connection.close()
    return {"rows": num_rows, "wall_s": wall, "cpu_s": cpu}


def _insert(connection: sqlite3.Connection, events: list[_Row], known: list[_Row]) -> None:
    connection.execute("BEGIN")
    connection.executemany(_EVENT, events)
    connection.executemany(_KNOWN, known)
    connection.execute("COMMIT")


if __name__ == "__main__":
    print(json.dumps(run(Path(sys.argv[1]), float(sys.argv[2]))))
