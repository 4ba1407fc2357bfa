"""HEALED: a cache-owner that crashes under load is restarted alone; sockets stay, every mutation counts once, watchers converge."""

import pytest
import structlog
import trio

from syncd.actors.cache_owner.mutating import Mutating
from syncd.actors.cache_owner.watching import Watching
from syncd.app import App
from syncd.testing.crowd import wait_until
from tests.integration.planted_faults import Fault, restarted
from tests.integration.test_collection_faults import serving

NUM_CLIENTS = 20
NUM_MUTATIONS = 30


@pytest.fixture(autouse=True)
def log_lines():
    with structlog.testing.capture_logs() as lines:
        yield lines


def counting_app():
    app = App()
    counters = app.collection("counters")

    @counters.mutator
    def add(tx, key: str):
        return tx.incr(key)

    app.told = {}

    @app.on_commit("counters")
    async def forward(change):
        await trio.sleep(0.01)
        app.told[change.key] = change.value

    return app


async def mutate_all(client, key, values):
    """Mutate one by one, again after each retryable error."""
    mid = 1
    while mid <= NUM_MUTATIONS:
        await client.send("mutate", mid=mid, name="counters.add", args=[key])
        kind, body = await client.expect("outcome", "error")
        if kind == "error":
            assert (body["code"], body["retryable"]) == ("internal_error", True)
            continue
        assert (body["mid"], body["status"]) == (mid, "ok"), body
        values.append(body["value"])
        mid += 1


async def watch_until(client, total):
    """Watch the counters over everything that happens to the watch, until they sum up to a total."""
    entries, request_id = {}, 0

    async def ask():
        nonlocal request_id
        request_id += 1
        await client.send("watch", id=request_id, collection="counters", all=True)

    await ask()
    while sum(value for _, value in entries.values()) < total:
        kind, body = await client.receive()
        if kind in ("watched", "snapshot"):
            for entry in body["entries"]:
                entries[entry["key"]] = (entry["version"], entry["value"])
        elif kind == "event":
            version, value = body["offset"], body["data"]["value"]
            if entries.get(body["key"], (0, 0))[0] < version:
                entries[body["key"]] = (version, value)
        elif kind in ("lagged", "error"):
            await ask()
    return entries


FAULTS = {
    "before a group is made": (Mutating, "pump", False),
    "after a group is asked for": (Mutating, "pump", True),
    "before a group's answer is taken": (Mutating, "group_done", False),
    "after a group's answer is taken": (Mutating, "group_done", True),
    "while memory is brought up to date": (Mutating, "_committed", False),
    "after a mutation was decided": (Mutating, "_join", True),
    "while a snapshot is told": (Watching, "_tell", False),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_every_mutation_counts_once_over_a_crash_of_the_cache_owner(
    tmp_path, monkeypatch, fault
):
    owner, name, is_after = FAULTS[fault]
    app = counting_app()
    async with serving(tmp_path, app) as (node, connect):
        clients = [await connect() for _ in range(NUM_CLIENTS)]
        watchers = [await connect() for _ in range(3)]
        values = {"a": [], "b": []}
        total = NUM_CLIENTS * NUM_MUTATIONS
        seen = []
        if owner is Watching:
            planted = Fault(monkeypatch, owner, name, times=2, after=is_after)

        async def watch(watcher):
            seen.append(await watch_until(watcher, total))

        async with trio.open_nursery() as nursery:
            for watcher in watchers:
                nursery.start_soon(watch, watcher)
            for number, client in enumerate(clients):
                key = "ab"[number % 2]
                nursery.start_soon(mutate_all, client, key, values[key])
            if owner is not Watching:
                await wait_until(lambda: values["a"] and values["b"], 10, "mutations on their way")
                planted = Fault(monkeypatch, owner, name, times=2, after=is_after)
        assert planted.num_raised == 2
        await restarted(node, "cache_owner")
        for key in "ab":
            assert sorted(values[key]) == list(range(1, total // 2 + 1))
        _, answer = await clients[0].ask("read", collection="counters", keys=["a", "b"])
        assert [entry["value"] for entry in answer["entries"]] == [total // 2, total // 2]
        truth = {entry["key"]: (entry["version"], entry["value"]) for entry in answer["entries"]}
        assert seen == [truth] * 3
        expected = {"a": total // 2, "b": total // 2}
        await wait_until(lambda: app.told == expected, 10, "the application is told")
