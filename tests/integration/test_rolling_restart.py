"""A newer syncd takes over what an older one leaves: its store, whatever its schema, its clients, its port, under load.

`stores/` holds stores made by the programs of their days (`scripts/make_old_store.py`), each with what its client knew then.
"""

import contextlib
import json
import random
import sqlite3
import time
from pathlib import Path

import pytest
import trio

from syncd.client import ConnectionState, open_client
from syncd.testing.crowd import wait_until
from syncd.testing.plain_client import PlainClient
from syncd.testing.process import ServerProcess
from tests.integration.mutation_scenario import in_thread, mutate_under_kills

pytestmark = [pytest.mark.slow, pytest.mark.process]

STORES = Path(__file__).with_name("stores")
APP = str(Path(__file__).with_name("counter_app.py"))
NEWEST = max(int(path.stem.partition("-")[2]) for path in STORES.glob("schema-*.sql"))

SLOT_S = 2.5
BACKOFF_S = 20.0
"""Longest wait of a client that came too often too early: a process takes seconds to start on a busy machine."""


def restore(number, path):
    """Make the old file anew, as if it had been left just now: what has an age would have expired."""
    with contextlib.closing(sqlite3.connect(path)) as store:
        store.executescript((STORES / f"schema-{number}.sql").read_text())
        tables = [
            row[0] for row in store.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        for table in tables:
            columns = {row[1] for row in store.execute(f"PRAGMA table_info({table})")}
            if "at_ms" in columns:
                store.execute(f"UPDATE {table} SET at_ms = ?", (int(time.time() * 1000),))
        store.commit()
    return json.loads((STORES / f"schema-{number}.json").read_text())


@pytest.mark.parametrize("number", range(1, NEWEST + 1))
async def test_a_store_of_each_schema_is_taken_over_with_its_clients(tmp_path, number):
    known = restore(number, tmp_path / "syncd.db")
    with ServerProcess(tmp_path, arguments=(APP, "--insecure")) as server:
        await in_thread(server.start)
        client = await PlainClient.connect(server.port)
        with trio.fail_after(20):
            await check_events(client, known)
            await check_mutations(client, known)
        await client.aclose()
    copies = sorted(path.name for path in tmp_path.glob("syncd.db.before-*"))
    assert copies == ([] if number == NEWEST else [f"syncd.db.before-v{NEWEST}"])


async def check_events(client, known):
    """The client is known, recovers from where it stood, and a publication it repeats is the one it was."""
    (claim,) = [{"client": each["client"], "secret": each["secret"]} for each in known["clients"]]
    welcome = await client.hello(clients=[claim])
    assert [each["client"] for each in welcome["clients"]] == [claim["client"]]
    published = known["published"]
    _, subscribed = await client.ask(
        "subscribe", channel="demo:a", position=published[0]["position"]
    )
    assert subscribed["recovered"] is True
    assert [event["data"] for event in subscribed["events"]] == [
        each["data"] for each in published[1:]
    ]
    for each in published:
        body = {name: each[name] for name in ("channel", "data", "uid")}
        _, answer = await client.ask("publish", **body)
        assert answer["position"] == each["position"], "counted once"
    _, answer = await client.ask("publish", channel="demo:a", data="new")
    last = published[-1]["position"]
    assert answer["position"] == {**last, "offset": last["offset"] + 1}


async def check_mutations(client, known):
    """What was decided is answered as it was then, and what comes next is decided."""
    outcomes = known["outcomes"]
    mid = len(outcomes) + 1
    for outcome in outcomes:
        await client.send("mutate", mid=outcome["mid"], name="counters.add", args=["k"])
        assert (await client.expect("outcome", "error"))[1] == outcome
    await client.send("mutate", mid=mid, name="counters.add", args=["k"])
    _, outcome = await client.expect("outcome", "error")
    assert (outcome["status"], outcome["value"]) == ("ok", mid)
    _, answer = await client.ask("read", collection="counters", keys=["k"])
    assert [entry["value"] for entry in answer["entries"]] == [mid]


async def test_nodes_that_relieve_each_other_under_load_lose_and_double_nothing(tmp_path):
    """The same file and port, over and over: one drains and ends, the next one is there."""
    with ServerProcess(tmp_path, arguments=(APP,)) as server:
        stops = []
        _, watchers = await mutate_under_kills(
            server, 3, 300, random.Random(5), lambda: stops.append(server.stop())
        )
    assert [code for code, _ in stops] == [0, 0, 0]
    assert max(took_s for _, took_s in stops) < 10
    assert min(watcher.num_recovered for watcher in watchers) > 0


async def test_clients_come_back_to_the_next_node_by_themselves(tmp_path):
    """Each in a slot of at most a quarter of `stop_s`; whoever comes before the next node is there tries again."""
    with ServerProcess(tmp_path) as server:
        await in_thread(server.start)
        url = f"http://127.0.0.1:{server.port}"
        async with contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(open_client(url)) for _ in range(12)]
            await wait_until(lambda: all_are(clients, ConnectionState.CONNECTED), 20, "all there")
            back_at = {}
            async with trio.open_nursery() as nursery:
                for client in clients:
                    nursery.start_soon(note_return, client, back_at)
                code, _ = await in_thread(server.stop)
                await in_thread(server.start)
                up_at = trio.current_time()
            assert code == 0
            late = sorted(at - up_at for at in back_at.values())
            assert len(late) == len(clients)
            assert late[-1] < SLOT_S + BACKOFF_S
            positions = [await client.publish("demo:a", 1) for client in clients]
            assert [position.offset for position in positions] == list(range(1, len(clients) + 1))


def all_are(clients, state):
    return all(client.state is state for client in clients)


async def note_return(client, back_at):
    """Wait until a client is gone and back again."""
    async for state in client.states():
        if state is not ConnectionState.CONNECTED:
            break
    async for state in client.states():
        if state is ConnectionState.CONNECTED:
            back_at[client] = trio.current_time()
            return
