"""Keep a store of today's making for the tests of tomorrow: run a node, use it as its clients do, write down what it holds and they know.

Run `python -m scripts.make_old_store` before the schema or the protocol changes, and commit `tests/integration/stores/`; with a path, the program of
another checkout runs. `tests/integration/test_rolling_restart.py` opens every file there with the program of its day.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import sys
import tempfile
from pathlib import Path
from typing import Any

import trio

from syncd.testing.plain_client import PlainClient
from syncd.testing.process import ServerProcess

STORES = Path("tests/integration/stores")
APP = Path("tests/integration/counter_app.py")


async def use(port: int, *, has_collections: bool) -> dict[str, Any]:
    """Do what a client does, and return what it remembers."""
    client = await PlainClient.connect(port)
    welcome = await client.hello()
    known: dict[str, Any] = {"clients": welcome["clients"], "published": [], "outcomes": []}
    for number in range(3):
        body = {"channel": "demo:a", "data": {"n": number}, "uid": f"u{number}"}
        _, answer = await client.ask("publish", **body)
        known["published"].append({**body, "position": answer["position"]})
    if has_collections:
        for mid in (1, 2, 3):
            await client.send("mutate", mid=mid, name="counters.add", args=["k"])
            _, outcome = await client.expect("outcome")
            known["outcomes"].append(outcome)
    await client.aclose()
    return known


def main() -> int:
    """Write `schema-N.sql` and `schema-N.json`."""
    tree = Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
    os.environ["PYTHONPATH"] = str(tree)
    has_collections = (tree / "syncd" / "runtime.py").exists()
    arguments = (str(APP.resolve()), "--insecure") if has_collections else ()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(tree):
        with ServerProcess(Path(folder), arguments=arguments) as server:
            server.start()
            known = trio.run(lambda: use(server.port, has_collections=has_collections))
            server.stop()
        with contextlib.closing(sqlite3.connect(Path(folder) / "syncd.db")) as store:
            number = store.execute("PRAGMA user_version").fetchone()[0]
            application = store.execute("PRAGMA application_id").fetchone()[0]
            dump = [*store.iterdump(), f"PRAGMA user_version = {number};"]
            dump.append(f"PRAGMA application_id = {application};")
    STORES.mkdir(exist_ok=True)
    (STORES / f"schema-{number}.sql").write_text("\n".join(dump) + "\n")
    (STORES / f"schema-{number}.json").write_text(json.dumps(known, indent=1) + "\n")
    print(f"Wrote schema {number}, made by {tree}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
