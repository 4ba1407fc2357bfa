"""HEALED: a store that crashes is restarted alone; what it committed reaches everybody, once."""

import pytest
import structlog
import trio

from syncd.actors.store_acks import Acknowledgements
from syncd.actors.store_statistics import CommitCounts
from syncd.errors import StoreUnavailable
from syncd.store.sqlite import SqliteStore
from syncd.testing.crowd import read_log
from syncd.testing.history import History
from tests.integration.nodes import (
    DURABLE,
    LATEST_DURABLE,
    make_config,
    publish,
    read_until,
    running,
    subscribe,
)
from tests.integration.planted_faults import Fault, PlantedFault, ask_again, health_of, restarted


@pytest.fixture(autouse=True)
def log_lines():
    with structlog.testing.capture_logs() as lines:
        yield lines


@pytest.mark.parametrize("kind", [DURABLE, LATEST_DURABLE], ids=lambda kind: kind.name)
async def test_a_crash_of_the_store_behind_its_commit_loses_nobody_an_event(
    tmp_path, monkeypatch, kind
):
    """The event is in the log but nobody was told: the channel is read anew, at once."""
    history = History()
    channel = f"{kind.name}:c"
    is_latest = kind is LATEST_DURABLE
    async with running(make_config(tmp_path, kind)) as (node, connect):
        reader, publisher = await connect(), await connect()
        observer = history.observer("a", channel, is_latest=is_latest)
        await subscribe(reader, observer)
        await publish(publisher, channel, 2, key="a")
        await read_until(reader, observer, 2)
        planted = Fault(monkeypatch, CommitCounts, "note")
        kind_, fields = await publisher.ask("publish", channel=channel, data="lost", key="lost")
        assert (kind_, fields["code"], fields["retryable"]) == ("error", "internal_error", True)
        assert planted.num_raised == 1
        with trio.fail_after(10):
            await read_until(reader, observer, 3)
        assert observer.events[-1]["data"] == "lost"
        await restarted(node, "store")
        await publish(publisher, channel, 3, key="b")
        await read_until(reader, observer, 6)
        assert observer.num_unrecovered == 0
        late = history.observer("late", channel, is_latest=is_latest)
        answer = await subscribe(await connect(), late)
        if is_latest:
            assert [event["key"] for event in answer["events"]] == ["a", "lost", "b"]
        assert len(node.hub.connections) == 3
    assert history.violations == []


async def test_a_commit_that_failed_and_yet_was_kept_is_found_by_the_next_event(
    tmp_path, monkeypatch
):
    history = History()
    original = SqliteStore.commit
    num_failed = 0

    def commit(this):
        nonlocal num_failed
        original(this)
        if not num_failed:
            num_failed += 1
            raise StoreUnavailable

    async with running(make_config(tmp_path, DURABLE)) as (_node, connect):
        reader, publisher = await connect(), await connect()
        observer = history.observer("a", "log:c")
        await subscribe(reader, observer)
        await publish(publisher, "log:c", 2)
        await read_until(reader, observer, 2)
        monkeypatch.setattr(SqliteStore, "commit", commit)
        _, fields = await publisher.ask("publish", channel="log:c", data="kept")
        assert (fields["code"], fields["retryable"]) == ("store_unavailable", True)
        with trio.fail_after(10):
            await ask_again(publisher, "publish", channel="log:c", data="next")
            await read_until(reader, observer, 4)
        assert [event["data"] for event in observer.events[2:]] == ["kept", "next"]
    assert history.violations == []


async def test_a_crash_of_the_store_in_its_statements_is_told_and_undone(tmp_path, monkeypatch):
    history = History()
    async with running(make_config(tmp_path, DURABLE)) as (node, connect):
        reader, publisher = await connect(), await connect()
        observer = history.observer("a", "log:c")
        await subscribe(reader, observer)
        Fault(monkeypatch, Acknowledgements, "hand_over")
        answers = []
        for number in range(5):
            body = {"channel": "log:c", "data": {"n": number}, "uid": f"u{number}"}
            answers.append(await ask_again(publisher, "publish", **body))
        await restarted(node, "store")
        assert [answer[0] for answer in answers] == ["ok"] * 5
        await read_until(reader, observer, 5)
        assert [body["data"]["n"] for body in observer.events] == list(range(5))
        assert observer.num_unrecovered == 0
    assert history.violations == []


async def test_a_request_the_store_cannot_write_fails_alone(tmp_path, monkeypatch):
    original = SqliteStore.begin

    def poisoned(this, batch):
        if any(b"poison" in request.record for request in batch):
            raise PlantedFault
        return original(this, batch)

    monkeypatch.setattr(SqliteStore, "begin", poisoned)
    async with running(make_config(tmp_path, DURABLE)) as (node, connect):
        client = await connect()
        for _ in range(10):
            await client.send_many(
                ("publish", {"id": 1, "channel": "log:c", "data": 1}),
                ("publish", {"id": 2, "channel": "log:c", "data": "poison"}),
                ("publish", {"id": 3, "channel": "log:c", "data": 3}),
            )
            answers = {}
            while len(answers) < 3:
                kind, body = await client.receive()
                answers[body["id"]] = (kind, body.get("code"))
            assert answers == {1: ("ok", None), 2: ("error", "internal_error"), 3: ("ok", None)}
        _, events = await read_log(node.addresses[0][1], "log:c")
        assert [event["data"] for event in events] == [1, 3] * 10
        assert health_of(node, "store").num_restarts == 0
