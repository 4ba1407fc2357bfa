"""Products cached in front of an SQLite database of 100,000 rows, to be rebuilt while they are read: `syncd serve examples/catalogue/app.py`.

The database is made at the first start, in the system's folder for temporary files, or where `CATALOGUE_DB` says.
"""

import os
import sqlite3
import tempfile
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import trio

from syncd import App, Tagged

NUM_PRODUCTS = 100_000
PAGE_ROWS = 1000
PATH = Path(
    os.environ.get("CATALOGUE_DB", Path(tempfile.gettempdir()) / "syncd-example-catalogue.db")
)

app = App()
products = app.collection("products", ttl="1 h", max_entries=50_000)


def make_database() -> None:
    """Make it whole or not at all, so that a start that was stopped half-way leaves nothing behind."""
    new = PATH.with_suffix(f".{os.getpid()}")
    with closing(sqlite3.connect(new)) as database:
        database.execute("CREATE TABLE product (sku TEXT PRIMARY KEY, name TEXT, cents INTEGER)")
        rows = ((f"p-{n:06}", f"Product {n}", 100 + n % 9900) for n in range(NUM_PRODUCTS))
        database.executemany("INSERT INTO product VALUES (?, ?, ?)", rows)
        database.commit()
    new.replace(PATH)


def query(statement: str, *values: object) -> list[Any]:
    """Ask the database, in a thread."""
    with closing(sqlite3.connect(f"file:{PATH}?mode=ro", uri=True)) as database:
        return database.execute(statement, values).fetchall()


@products.loader
async def load(keys: list[str]) -> dict[str, Any]:
    """Read those that were asked for."""
    marks = ", ".join("?" * len(keys))
    statement = f"SELECT sku, name, cents FROM product WHERE sku IN ({marks})"
    rows = await trio.to_thread.run_sync(query, statement, *keys)
    return {sku: product(name, cents) for sku, name, cents in rows}


@products.scanner(page=PAGE_ROWS)
async def scan(after: str | None) -> AsyncIterator[tuple[str, Any, list[str]]]:
    """Yield all of them by key, from behind `after` on, which is where a rebuild goes on that was stopped."""
    statement = "SELECT sku, name, cents FROM product WHERE sku > ? ORDER BY sku LIMIT ?"
    last = after or ""
    while rows := await trio.to_thread.run_sync(query, statement, last, PAGE_ROWS):
        for sku, name, cents in rows:
            found = product(name, cents)
            yield sku, found.value, list(found.tags)
            last = sku


@products.count
async def count() -> int:
    """Say how many there are, so that a rebuild can tell how far it is."""
    rows = await trio.to_thread.run_sync(query, "SELECT count(*) FROM product")
    return int(rows[0][0])


def product(name: str, cents: int) -> Tagged:
    """Return a product as clients see it."""
    return Tagged({"name": name, "cents": cents}, ["dear" if cents >= 5000 else "cheap"])


if not PATH.exists():
    make_database()
