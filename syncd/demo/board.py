"""The order board of `syncd serve --demo`: an application small enough to be read at a sitting.

Run by the command line; its page is written in `clients/js/demo`, whose mutators predict what these decide. The page does not know
the rule about approval, so that a prediction can be seen to be taken back.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from itertools import count
from typing import Any

import attrs

from syncd.app import App
from syncd.config import Config
from syncd.model.definitions import AppDefinition
from syncd.model.definitions_check import is_open

__all__ = ["APPROVAL_CENTS", "NUM_PRODUCTS", "demo_app"]

APPROVAL_CENTS = 100_000
"""Orders above this ship only once somebody has approved them; the page's text says so, too."""

NUM_PRODUCTS = 2_400
"""Enough for a rebuild that can be watched; the page's text says so, too."""

_CENTS_LIMIT = 1_000_000_000
_TEXT_LIMIT = 80

_SEEDS: dict[str, dict[str, Any]] = {
    key: {
        "customer": customer,
        "item": item,
        "quantity": quantity,
        "cents": cents,
        "status": "new",
        "approved": False,
    }
    for key, customer, item, quantity, cents in (
        ("o-1041", "Ada Lovelace", "Brass protractor", 2, 4_900),
        ("o-1042", "Grace Hopper", "Label printer", 1, 18_900),
        ("o-1043", "Emmy Noether", "Walnut desk", 1, 124_000),
        ("o-1044", "Alan Turing", "Graph paper, 500 sheets", 4, 1_250),
        ("o-1045", "Mary Somerville", "Refracting telescope", 1, 219_500),
        ("o-1046", "Katherine Johnson", "Slide rule", 3, 6_400),
    )
}
"""What is on the board when it is opened for the first time; `cents` is the price of one."""


def demo_app(config: Config) -> AppDefinition:
    """Return the demo's application, open to whom the node's defaults admit."""
    app = App()
    orders = app.collection("orders", write="anyone" if is_open(config) else "authenticated")

    @orders.warm
    async def keys() -> list[str]:
        return list(_SEEDS)

    @orders.loader
    async def load(keys: list[str]) -> dict[str, Any]:
        return {key: _SEEDS[key] for key in keys if key in _SEEDS}

    for mutator in (create, approve, ship):
        orders.mutator(mutator)
    _add_products(app)
    return attrs.evolve(app.definition("demo"), is_demo=True)


def _add_products(app: App) -> None:
    """Give the page's administrators something to rebuild: a list whose source has moved on each time, as a shop's stock does."""
    products = app.collection("products")
    editions = count()
    rows = _products_of(next(editions))

    @products.loader
    async def load(keys: list[str]) -> dict[str, Any]:
        return {key: rows[key] for key in keys if key in rows}

    @products.scanner(page=100)
    async def scan(after: str | None) -> AsyncGenerator[tuple[str, dict[str, Any]], None]:
        if after is None:
            rows.update(_products_of(next(editions)))
        for key, value in rows.items():
            if after is None or key > after:
                yield key, value

    @products.count
    async def num_products() -> int:
        return NUM_PRODUCTS


def _products_of(edition: int) -> dict[str, dict[str, Any]]:
    return {
        f"p-{number:04}": {"item": f"Product {number}", "stock": (number * 7 + edition * 13) % 100}
        for number in range(NUM_PRODUCTS)
    }


def create(tx: Any, order_id: str, customer: str, item: str, cents: int) -> None:
    """Add an order of one piece."""
    if tx.get(order_id) is not None:
        tx.reject("order_exists", "There is an order of this id already.")
    if not (0 < len(customer) <= _TEXT_LIMIT and 0 < len(item) <= _TEXT_LIMIT):
        tx.reject("bad_order", f"Customer and item are texts of 1 to {_TEXT_LIMIT} characters.")
    if not 0 <= cents <= _CENTS_LIMIT:
        tx.reject("bad_order", "That is no price.")
    order = {"customer": customer, "item": item, "quantity": 1, "cents": cents}
    tx.put(order_id, {**order, "status": "new", "approved": False})


def approve(tx: Any, order_id: str) -> None:
    """Let an order above the limit be shipped."""
    _order(tx, order_id)
    tx.patch(order_id, {"approved": True})


def ship(tx: Any, order_id: str) -> None:
    """Ship an order, once, and above the limit only if it is approved."""
    order = _order(tx, order_id)
    if order["status"] == "shipped":
        tx.reject("already_shipped", "Somebody has shipped this order already.")
    total = order["quantity"] * order["cents"]
    if total > APPROVAL_CENTS and not order["approved"]:
        limit = APPROVAL_CENTS // 100
        tx.reject("needs_approval", f"Orders above {limit:,} € ship only once they are approved.")
    tx.patch(order_id, {"status": "shipped"})


def _order(tx: Any, order_id: str) -> Any:
    return tx.get(order_id) or tx.reject("unknown_order", "This order is gone.")
