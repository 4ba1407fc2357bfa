"""The mutators that traces use; protocol/vectors/traces/README.md says what they do for other languages."""

from __future__ import annotations

from typing import Any

__all__ = ["MUTATORS"]


def open_order(tx: Any, order_id: str, total: int) -> str:
    """Put an order, whatever was there."""
    tx.put(order_id, {"status": "open", "total": total})
    return order_id


def ship(tx: Any, order_id: str, carrier: str) -> None:
    """Ship an order that is there and not shipped."""
    order = tx.get(order_id)
    if order is None:
        tx.reject("unknown_order", "There is no such order.")
    if order["status"] == "shipped":
        tx.reject("already_shipped", "It is shipped.")
    tx.patch(order_id, {"status": "shipped", "carrier": carrier})


def move(tx: Any, source: str, target: str, amount: int) -> None:
    """Move a part of one order's total to another's."""
    if (tx.get(source) or {"total": 0})["total"] < amount:
        tx.reject("too_little", "There is not so much.")
    tx.incr(source, -amount, field="total")
    tx.incr(target, amount, field="total")


def fragile(tx: Any, order_id: str) -> None:
    """Mark an open order; raise, as faulty code does, where it is not open."""
    order = tx.get(order_id)
    if order is None or order["status"] != "open":
        raise RuntimeError("fragile")
    tx.patch(order_id, {"status": "fragile"})


MUTATORS = {
    "orders.open": open_order,
    "orders.ship": ship,
    "orders.move": move,
    "orders.fragile": fragile,
    "orders.silent": None,
}
"""`orders.silent` predicts nothing."""
