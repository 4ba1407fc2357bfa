"""Ships an order of `app.py` optimistically, as a browser would: `python examples/orders/ship.py o1 ACME`."""

import json
import os
import sys

import trio

from syncd.client import MutationRejected, open_client

URL = os.environ.get("SYNCD_URL", "ws://127.0.0.1:8400")


def ship(tx, order_id, carrier):
    """Predict what the server's mutator will do; it is run again whenever what it stands on changes."""
    tx.patch(order_id, {"status": "shipped", "carrier": carrier})


def show(when, view, order_id):
    line = {"when": when, "pending": view.is_pending(order_id), "order": view.get(order_id)}
    print(json.dumps(line), flush=True)


async def main(order_id, carrier):
    async with (
        open_client(URL, mutators={"orders.ship": ship}) as client,
        client.collection("orders").watch(keys=[order_id]) as view,
    ):
        show("before", view, order_id)
        mutation = client.mutate("orders.ship", order_id=order_id, carrier=carrier)
        show("at once", view, order_id)  # before anything was sent
        try:
            await mutation.server()
        except MutationRejected as rejection:
            show(f"rejected: {rejection.code}", view, order_id)
        else:
            show("settled", view, order_id)


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:3])
