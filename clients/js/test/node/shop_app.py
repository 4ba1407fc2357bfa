"""The application of the JavaScript client's tests against a real node: counters, and orders that may refuse."""

from syncd import App

app = App()
counters = app.collection("counters", write="anyone")
orders = app.collection("orders", write="anyone")


@counters.mutator
def add(tx, key: str):
    return tx.incr(key)


@orders.mutator
def ship(tx, order_id: str, carrier: str):
    order = tx.get(order_id) or tx.reject("unknown_order", "No such order.")
    if carrier == "pigeon":  # a rule that only the server knows
        tx.reject("bad_carrier", "Pigeons do not carry parcels.")
    tx.patch(order_id, {"status": "shipped", "carrier": carrier})
    return order["total"]
