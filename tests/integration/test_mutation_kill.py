"""ONCE and DURABLE for mutations: a real server process, killed under load and between a commit and its outcome."""

import random
from pathlib import Path

import pytest
import trio

from syncd.testing.plain_client import Closed, PlainClient
from syncd.testing.process import ServerProcess
from tests.integration.mutation_scenario import in_thread, mutate_under_kills

pytestmark = [pytest.mark.slow, pytest.mark.process]

APP = str(Path(__file__).with_name("counter_app.py"))
PROGRAM = str(Path(__file__).with_name("kill_at_commit.py"))


@pytest.fixture
def switch(tmp_path, monkeypatch):
    path = tmp_path / "kill"
    monkeypatch.setenv("SYNCD_KILL_AT", str(path))
    return path


@pytest.fixture
def server(tmp_path, switch):
    with ServerProcess(tmp_path, arguments=(APP,), program=(PROGRAM,)) as server:
        yield server


async def test_a_mutation_whose_outcome_was_lost_with_the_process_is_applied_once(server, switch):
    await in_thread(server.start)
    client = await PlainClient.connect(server.port)
    (state,) = (await client.hello())["clients"]
    mutate = {"name": "counters.add", "args": ["a"]}
    await client.send("mutate", mid=1, **mutate)
    await client.expect("outcome")
    switch.touch()
    await client.send("mutate", mid=2, **mutate)
    with pytest.raises(Closed), trio.fail_after(10):
        await client.expect("outcome", "error")
    await client.aclose()
    assert await in_thread(server.wait, 10) == -9
    await in_thread(server.start)
    client = await PlainClient.connect(server.port)
    claim = {"client": state["client"], "secret": state["secret"]}
    (state,) = (await client.hello(clients=[claim]))["clients"]
    assert state["last_mid"] == 2
    outcomes = []
    for mid in (2, 2, 1, 3):
        await client.send("mutate", mid=mid, **mutate)
        _, outcome = await client.expect("outcome")
        outcomes.append((outcome["mid"], outcome["status"], outcome.get("value")))
    assert outcomes == [(2, "ok", 2), (2, "ok", 2), (1, "ok", 1), (3, "ok", 3)]
    await client.aclose()


async def test_every_acknowledged_increment_counts_once_over_kills(server, switch):
    rng = random.Random(11)
    kinds = []

    def kill():
        kinds.append(rng.random() < 0.6)
        if kinds[-1]:
            switch.touch()
            server.wait(10)
        else:
            server.kill()

    tally, watchers = await mutate_under_kills(server, 5, 400, rng, kill)
    assert True in kinds
    assert tally.num_known > 0, "some were decided, and nobody had heard of it"
    assert tally.num_resent >= tally.num_known
    assert min(watcher.num_recovered for watcher in watchers) > 0
