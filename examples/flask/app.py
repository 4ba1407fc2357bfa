"""Flask: tell every open page about an order, once the database has it.

    pip install flask syncd
    SYNCD_API_KEY=... flask --app examples/flask/app.py run
    curl -X POST localhost:5000/orders/7 -H 'Content-Type: application/json' -d '{"status": "paid"}'

Every subscriber of `demo:orders` gets it, at this moment or after its next reconnect.
"""

import os
import sqlite3

from flask import Flask, g, request

from syncd.backend import BackendError, Publisher

app = Flask(__name__)
publisher = Publisher(
    os.environ.get("SYNCD_URL", "http://127.0.0.1:8400"), os.environ.get("SYNCD_API_KEY")
)


def database():
    if "database" not in g:
        g.database = sqlite3.connect(os.environ.get("ORDERS_DB", "orders.db"))
        g.database.execute(
            "CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, status TEXT, version INTEGER)"
        )
    return g.database


@app.teardown_appcontext
def close_database(_error):
    if "database" in g:
        g.database.close()


@app.post("/orders/<int:order_id>")
def update_order(order_id):
    status = request.get_json()["status"]
    with database() as db:
        [(version,)] = db.execute(
            "INSERT INTO orders VALUES (?, ?, 1) ON CONFLICT (id) DO UPDATE"
            " SET status = excluded.status, version = version + 1 RETURNING version",
            (order_id, status),
        ).fetchall()
    # After the commit, never before: what subscribers see must be true.
    # The uid makes it safe to run this again, by a retry of the request or a job that checks.
    try:
        publisher.publish(
            "demo:orders",
            {"id": order_id, "status": status},
            name="order_updated",
            uid=f"order-{order_id}-{version}",
        )
    except BackendError:
        app.logger.exception("order %s is stored but was not announced", order_id)
    return {"id": order_id, "status": status, "version": version}
