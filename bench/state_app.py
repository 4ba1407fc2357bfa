"""The application that the state scenarios measure: `syncd serve bench/state_app.py`."""

from __future__ import annotations

from typing import Any

import trio

from syncd import App, Tx

app = App()

orders = app.collection("orders", max_entries=200_000, mutate=("anyone",), read=("anyone",))


@orders.mutator
def ship(tx: Tx, order_id: str, carrier: str) -> None:
    """Read an order and write it: some 150 bytes."""
    order = tx.get(order_id) or {"customer": "c" * 40, "lines": ["l" * 40], "status": "new"}
    order["status"], order["carrier"] = "shipped", carrier
    tx.put(order_id, order)


slow = app.collection("slow", ttl="1 h", volatile=True, read=("anyone",), load_batch=100)
calls = {"single": 0, "batched": 0}


@slow.loader
async def load(keys: list[str]) -> dict[str, str]:
    """Take 50 ms, however many keys."""
    calls["batched"] += 1
    await trio.sleep(0.05)
    return dict.fromkeys(keys, "a value from far away")


counts = app.collection("counts", ttl="1 ms", negative_ttl=0, volatile=True, read=("anyone",))


@counts.loader
async def load_count(key: str) -> Any:  # noqa: ARG001 - a loader has a key
    """Tell how often the slow source was asked."""
    return calls["batched"]
