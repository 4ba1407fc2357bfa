"""The application whose rebuilds are measured: `BENCH_ROWS=100000 syncd serve bench/rebuild_app.py`."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator

from syncd import App

NUM_ROWS = int(os.environ.get("BENCH_ROWS", "1000"))
VALUE = {"customer": "c" * 40, "lines": [{"sku": "s" * 30, "n": 1}] * 3, "note": "x" * 118}
"""300 bytes as msgpack."""

app = App()
orders = app.collection("orders", read="anyone", history_size=1000)
notes = app.collection("notes", read="anyone", write="anyone")


@orders.count
async def count() -> int:
    """Return how many rows there are."""
    return NUM_ROWS


@orders.scanner(page=500)
async def scan(after: str | None) -> AsyncGenerator[tuple[str, object], None]:
    """Yield at once."""
    for number in range(NUM_ROWS):
        key = f"k{number:07}"
        if after is None or key > after:
            yield key, VALUE
