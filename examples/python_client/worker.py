"""A worker that handles every event of a channel once, in order, over restarts of itself and of the server.

    python examples/python_client/worker.py

It keeps its position beside what it has done, in one transaction: after a crash it goes on with the event that was not
handled yet.
"""

import json
import os
import sqlite3
import sys

import trio

from syncd.client import Position, Reset, open_client

CHANNEL = "demo:orders"


def open_database(path):
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE IF NOT EXISTS handled (data TEXT)")
    db.execute(
        "CREATE TABLE IF NOT EXISTS position (id INTEGER PRIMARY KEY, epoch TEXT, offset INTEGER)"
    )
    db.commit()
    return db


def load_position(db):
    row = db.execute("SELECT epoch, offset FROM position").fetchone()
    return Position(*row) if row else None


def save(db, position, data=None):
    with db:
        if data is not None:
            db.execute("INSERT INTO handled VALUES (?)", (json.dumps(data),))
        db.execute(
            "INSERT OR REPLACE INTO position VALUES (1, ?, ?)", (position.epoch, position.offset)
        )


async def main(path="worker.db"):
    db = open_database(path)
    url = os.environ.get("SYNCD_URL", "http://127.0.0.1:8400")
    async with (
        open_client(url) as client,
        client.subscribe(CHANNEL, load_position(db)) as subscription,
    ):
        save(db, subscription.position)
        async for item in subscription:
            if isinstance(item, Reset):
                print("Events were missed: compare with the source of truth here.", file=sys.stderr)
                save(db, item.position)
            else:
                print(item.data)
                save(db, item.position, item.data)


if __name__ == "__main__":
    trio.run(main)
