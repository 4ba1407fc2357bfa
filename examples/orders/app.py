"""Orders that clients ship optimistically, and prices cached in front of a slow source: `syncd serve examples/orders/app.py`."""

import trio

from syncd import App, Tagged

app = App()

# ---- orders: owned by syncd, durable. Clients change them by these mutators, exactly once.
orders = app.collection("orders")


@orders.mutator
def create(tx, order_id: str, customer: str, lines: list[str]):
    if tx.get(order_id) is not None:
        tx.reject("order_exists", "There is an order of this number already.")
    order = {"customer": customer, "lines": lines, "status": "new"}
    tx.put(order_id, order, tags=[f"customer:{customer}"])


@orders.mutator
def ship(tx, order_id: str, carrier: str):
    order = tx.get(order_id) or tx.reject("unknown_order", "No such order.")
    if order["status"] != "new":
        tx.reject("not_shippable", f"The order is {order['status']}.")
    tx.patch(order_id, {"status": "shipped", "carrier": carrier})


# ---- prices: a cache. The source is slow; entries live ten minutes, or until somebody invalidates them.
prices = app.collection("prices", ttl="10 min", stale="1 min", volatile=True)
CATALOGUE = {"apple": 30, "pear": 45, "plum": 20}


@prices.loader
async def load(keys: list[str]):
    await trio.sleep(0.2)  # a database far away
    fruit = ["fruit"]
    return {key: Tagged({"cents": CATALOGUE[key]}, fruit) for key in keys if key in CATALOGUE}
