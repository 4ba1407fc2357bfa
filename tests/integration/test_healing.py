"""HEALED: an actor that crashes is restarted alone; sockets stay, nothing committed is lost, nothing comes twice.

Faults are planted outside the guard of a single message, where only the supervisor catches them.
"""

import contextlib
import json
import random

import pytest
import structlog
import trio

from syncd.actors.broadcaster.actor import Broadcaster
from syncd.actors.broadcaster.delivering import Delivering
from syncd.actors.broadcaster.joining import Joining
from syncd.actors.broadcaster.publishing import Publishing
from syncd.actors.kit import Health, NodeFailed
from syncd.actors.presence import Presence
from syncd.actors.store_acks import Acknowledgements
from syncd.actors.store_statistics import CommitCounts
from syncd.config import Action, HistoryKind, Namespace
from syncd.errors import StoreUnavailable
from syncd.gateway.writer import Writer
from syncd.server import open_node
from syncd.store.sqlite import SqliteStore
from syncd.testing.crowd import read_log, wait_until
from syncd.testing.history import History
from syncd.testing.plain_client import Closed, PlainClient
from syncd.testing.process import ServerProcess
from syncd.wire import messages as m
from tests.integration.chaos_scenario import live_through
from tests.integration.nodes import (
    ANYONE,
    DURABLE,
    EPHEMERAL,
    LATEST_DURABLE,
    MEMORY,
    make_config,
    namespace,
    publish,
    read_until,
    running,
    subscribe,
)


class PlantedFault(Exception):
    """What no code of ours raises."""


@pytest.fixture(autouse=True)
def log_lines():
    with structlog.testing.capture_logs() as lines:
        yield lines


class Fault:
    """Makes a method raise, before or after its work, as often as told; counts."""

    def __init__(self, monkeypatch, owner, name, *, times=1, after=False):
        self.num_raised = 0
        self.times = times
        self.is_armed = True
        original = getattr(owner, name)

        def maybe_raise():
            if self.is_armed and self.num_raised < self.times:
                self.num_raised += 1
                raise PlantedFault(name)

        def plain(this, *args, **kwargs):
            if not after:
                maybe_raise()
            result = original(this, *args, **kwargs)
            if after:
                maybe_raise()
            return result

        monkeypatch.setattr(owner, name, plain)


def health_of(node, name):
    return next(health for health in node.health() if health.name == name)


async def restarted(node, name, count=1):
    def is_back():
        health = health_of(node, name)
        return health.num_restarts >= count and health.state is Health.OK

    await wait_until(is_back, 10, f"{name} restarted")


async def ask_again(client, kind, **body):
    """Ask until the answer is not a retryable error; returns it and how many errors came before."""
    num_errors = 0
    while True:
        answer, fields = await client.ask(kind, **body)
        if answer != "error" or not fields["retryable"]:
            return answer, fields, num_errors
        num_errors += 1
        await trio.sleep(0.01)


# ------------------------------------------------------------------------------------------------ broadcaster

FAULTS = {
    "before delivery": (Delivering, "deliver", False),
    "after delivery": (Writer, "deliver", True),
    "before the store is asked": (Publishing, "submit", False),
    "after the store is asked": (Publishing, "submit", True),
    "before answers": (Publishing, "settle", False),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_subscribers_of_durable_channels_notice_nothing_of_a_crash(
    tmp_path, monkeypatch, fault
):
    history = History()
    async with running(make_config(tmp_path, DURABLE)) as (node, connect):
        readers = [await connect() for _ in range(5)]
        observers = [history.observer(f"o{index}", "log:c") for index in range(5)]
        for client, observer in zip(readers, observers, strict=True):
            await subscribe(client, observer)
        publisher = await connect()
        await publish(publisher, "log:c", 3)
        owner, name, after = FAULTS[fault]
        planted = Fault(monkeypatch, owner, name, after=after)
        acknowledged = []
        for number in range(10):
            body = {"channel": "log:c", "data": {"n": number}, "uid": f"u{number}"}
            answer, fields, _ = await ask_again(publisher, "publish", **body)
            assert answer == "ok"
            acknowledged.append(fields["position"]["offset"])
        assert planted.num_raised == 1
        assert health_of(node, "broadcaster").num_restarts == 1
        assert acknowledged == list(range(4, 14))
        with trio.fail_after(10):
            for client, observer in zip(readers, observers, strict=True):
                await read_until(client, observer, 13)
        _, events = await read_log(node.addresses[0][1], "log:c")
        history.check_log("log:c", observers[0].epoch, events)
        history.check_complete("log:c", 13)
        assert node.admin.statistics().num_sessions == 6
        assert {observer.num_unrecovered for observer in observers} == {0}
    assert history.violations == []


async def test_subscribers_of_memory_channels_are_told_of_the_new_epoch(tmp_path, monkeypatch):
    history = History()
    async with running(make_config(tmp_path, MEMORY, EPHEMERAL)) as (node, connect):
        client, publisher, idle = await connect(), await connect(), await connect()
        observer = history.observer("a", "mem:c")
        first = await subscribe(client, observer)
        quiet = history.observer("b", "mem:quiet")
        await subscribe(idle, quiet)
        assert (await client.ask("subscribe", channel="live:c"))[0] == "subscribed"
        await publish(publisher, "mem:c", 3)
        await read_until(client, observer, 3)
        Fault(monkeypatch, Delivering, "deliver")
        kind, fields = await publisher.ask("publish", channel="mem:c", data=1)
        assert (kind, fields["code"], fields["retryable"]) == ("error", "internal_error", True)
        await restarted(node, "broadcaster")
        for reader, watching in ((client, observer), (idle, quiet)):
            with trio.fail_after(10):
                _, told = await reader.expect("subscribed")
            assert "id" not in told
            assert (told["was_recovering"], told["recovered"]) == (True, False)
            assert told["position"]["epoch"] != first["position"]["epoch"]
            watching.take("subscribed", told)
        await publish(publisher, "mem:c", 2)
        await read_until(client, observer, 2)
        await publish(publisher, "live:c", first=9)
        _, event = await client.expect("event")
        assert event["channel"] == "live:c"
        assert observer.epoch == quiet.epoch or quiet.offset == 0
    assert history.violations == []


async def test_everybody_who_waits_is_answered_exactly_once(tmp_path, monkeypatch):
    namespaces = (DURABLE, MEMORY, EPHEMERAL)
    async with running(make_config(tmp_path, *namespaces)) as (node, connect):
        client = await connect()
        planted = Fault(monkeypatch, Delivering, "deliver")
        asks = [
            ("publish", {"id": 1, "channel": "log:a", "data": 1}),
            ("publish", {"id": 2, "channel": "mem:a", "data": 1}),
            ("publish", {"id": 3, "channel": "live:a", "data": 1}),
            ("subscribe", {"id": 4, "channel": "log:b"}),
            ("subscribe", {"id": 5, "channel": "mem:b"}),
            ("history", {"id": 6, "channel": "log:a", "limit": 1}),
            ("history", {"id": 7, "channel": "mem:a", "limit": 1}),
            ("probe", {"nonce": 8}),
        ]
        await client.send_many(*asks)
        answers = {}
        with trio.fail_after(10):
            while len(answers) < 7:
                kind, body = await client.receive()
                if "id" in body:
                    assert body["id"] not in answers, "answered twice"
                    answers[body["id"]] = (kind, body)
        assert planted.num_raised == 1
        await restarted(node, "broadcaster")
        for kind, body in answers.values():
            if kind == "error":
                assert (body["code"], body["retryable"]) == ("internal_error", True)
        assert answers[2][0] == "error", "its event may have been lost with the actor"
        await client.send("probe", nonce=9)
        while True:
            kind, body = await client.receive()
            assert "id" not in body, f"answered twice: {kind} {body}"
            if (kind, body) == ("pong", {"nonce": 9}):
                break


@pytest.mark.parametrize("kind", [DURABLE, MEMORY, EPHEMERAL], ids=lambda kind: kind.name)
async def test_a_subscribe_that_waits_in_the_mailbox_through_a_crash_is_served_once(
    tmp_path, monkeypatch, kind
):
    """It stands in the mailbox and in what the gateway hands over: both must not count."""
    channel = f"{kind.name}:c"
    async with running(make_config(tmp_path, kind)) as (node, connect):
        publisher, client, second = await connect(), await connect(), await connect()
        await publish(publisher, channel, 2)
        planted = Fault(monkeypatch, Delivering, "deliver")
        original = Broadcaster.recover

        def recover_late(this):
            """Everything below comes while the actor is down."""
            original(this)
            for session, number in ((client, 7), (second, 8)):
                connection = next(c for c in node.hub.connections if c.id == session.session)
                node.sessions.subscribe(connection, m.Subscribe(number, channel))
            asker = next(c for c in node.hub.connections if c.id == publisher.session)
            for data in (b"\x01", b"\x02"):
                message = m.Publish(99, channel, int.from_bytes(data, "big"))
                node.sessions.publish(asker, message)
            node.hub.hand_over()

        monkeypatch.setattr(Broadcaster, "recover", recover_late)
        await publisher.ask("publish", channel=channel, data=0)
        await restarted(node, "broadcaster")
        assert planted.num_raised == 1
        await publish(publisher, channel, 1, first=50)
        for session in (client, second):
            seen, events = [], []
            with trio.fail_after(10):
                while not events or events[-1].get("data") != {"n": 50}:
                    message, body = await session.receive()
                    seen.append(message)
                    if message == "event":
                        events.append(body)
                    elif message == "subscribed":
                        events += body["events"]
            assert seen.count("subscribed") == 1, seen
            data = [str(body["data"]) for body in events]
            assert len(set(data)) == len(data), data
            if kind is not EPHEMERAL:
                offsets = [body["offset"] for body in events]
                assert offsets == sorted(set(offsets))


async def test_a_subscription_that_cannot_be_resumed_ends_alone(tmp_path, monkeypatch):
    original = Joining.resume

    def poisoned(this, subscription):
        if subscription.channel == "log:poison":
            raise PlantedFault
        original(this, subscription)

    monkeypatch.setattr(Joining, "resume", poisoned)
    async with running(make_config(tmp_path, DURABLE)) as (node, connect):
        publisher = await connect()
        client = await connect()
        for number, name in enumerate(["a", "poison", "b"]):
            await client.send("subscribe", id=number, channel=f"log:{name}")
            await client.expect("subscribed")
        Fault(monkeypatch, Delivering, "deliver")
        await ask_again(publisher, "publish", channel="log:a", data=0, uid="u")
        _, told = await client.expect("lagged")
        assert told["channel"] == "log:poison"
        for name in ("poison", "b"):
            await publish(publisher, f"log:{name}", 1)
        _, event = await client.expect("event")
        while event["channel"] != "log:b":
            assert event["channel"] == "log:a"
            _, event = await client.expect("event")
        assert health_of(node, "broadcaster").num_restarts == 1
        assert (await client.ask("subscribe", channel="log:poison"))[0] == "subscribed"


async def test_a_poison_message_fails_alone_each_time(tmp_path, monkeypatch, log_lines):
    original = Publishing.publish

    def poisoned(this, command):
        if b"poison" in command.data:
            raise PlantedFault
        original(this, command)

    monkeypatch.setattr(Publishing, "publish", poisoned)
    async with running(make_config(tmp_path, MEMORY)) as (node, connect):
        client, other = await connect(), await connect()
        observer = History().observer("a", "mem:c")
        await subscribe(other, observer)
        for number in range(20):
            await client.send_many(
                ("publish", {"id": 1, "channel": "mem:c", "data": {"n": number}}),
                ("publish", {"id": 2, "channel": "mem:c", "data": "poison"}),
                ("publish", {"id": 3, "channel": "mem:c", "data": {"n": number}}),
            )
            answers = {}
            while len(answers) < 3:
                kind, body = await client.receive()
                answers[body["id"]] = (kind, body.get("code"), body.get("retryable"))
            assert answers == {
                1: ("ok", None, None),
                2: ("error", "internal_error", True),
                3: ("ok", None, None),
            }
        await read_until(other, observer, 40)
        assert health_of(node, "broadcaster").num_restarts == 0
    failed = [line for line in log_lines if line["event"] == "message_failed"]
    assert len(failed) == 20
    assert {line["kind"] for line in failed} == {"PublishEvent"}


# ------------------------------------------------------------------------------------------------ store


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


# ------------------------------------------------------------------------------------------------ presence

ROOM = Namespace(
    "room",
    history=HistoryKind.MEMORY,
    presence=True,
    allow={**ANYONE, Action.PRESENCE: ("anyone",)},
)


async def test_presence_is_rebuilt_after_a_crash_and_watchers_get_the_whole_anew(
    tmp_path, monkeypatch
):
    config = make_config(tmp_path, ROOM, timing={"presence_diff_s": 0.02})
    async with running(config) as (node, connect):
        here, watcher = await connect(), await connect()
        assert (await here.ask("presence", channel="room:c", state={"at": 1}))[0] == "ok"
        await watcher.send("subscribe", id=1, channel="room:c", presence=True)
        _, before = await watcher.expect("presence_state")
        assert len(before["members"]) == 1
        Fault(monkeypatch, Presence, "_deliver")
        other = await connect()
        kind, _, _ = await ask_again(other, "presence", channel="room:c", state={"at": 2})
        assert kind == "ok"
        await restarted(node, "presence")
        members = {}
        with trio.fail_after(10):
            while len(members) < 2:
                kind, body = await watcher.receive()
                if kind == "presence_state":
                    members = {item["member"]: item["states"] for item in body["members"]}
                elif kind == "presence_diff":
                    assert body["leaves"] == []
                    members |= {item["member"]: item["states"] for item in body["joins"]}
        assert sorted(states[0]["state"]["at"] for states in members.values()) == [1, 2]
        assert health_of(node, "broadcaster").num_restarts == 0
        assert len(node.hub.connections) == 3


# ------------------------------------------------------------------------------------------------ the story


async def test_health_and_log_tell_of_a_crash(tmp_path, monkeypatch, log_lines):
    async with running(make_config(tmp_path, MEMORY)) as (node, connect):
        client = await connect()
        seen = []
        original = Broadcaster.recover

        def recover(this):
            seen.append((health_of(node, "broadcaster").state, list(node.reasons_not_ready())))
            original(this)

        monkeypatch.setattr(Broadcaster, "recover", recover)
        Fault(monkeypatch, Delivering, "deliver")
        await client.ask("publish", channel="mem:c", data=1)
        await restarted(node, "broadcaster")
        assert seen == [(Health.RESTARTING, ["The actor broadcaster is restarting."])]
        status, body = await get_health(node)
        assert status == 200
        actors = {actor["name"]: actor for actor in body["actors"]}
        assert actors["broadcaster"]["num_restarts"] == 1
        assert actors["broadcaster"]["last_error"] == "PlantedFault"
        assert actors["store"]["num_restarts"] == 0
    told = [line for line in log_lines if line["event"] == "actor_restarted"]
    assert [line["actor"] for line in told] == ["broadcaster"]
    assert told[0]["log_level"] == "error"
    assert "PlantedFault" in repr(told[0]["exc_info"])


async def get_health(node):
    stream = await trio.open_tcp_stream("127.0.0.1", node.addresses[0][1])
    async with stream:
        await stream.send_all(b"GET /health/ready HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        data = b""
        async for chunk in stream:
            data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


async def test_the_fourth_crash_in_ten_seconds_ends_the_node(tmp_path, monkeypatch, log_lines):
    planted = Fault(monkeypatch, Delivering, "deliver", times=4)
    failures = []
    with trio.fail_after(20):
        try:
            async with open_node(make_config(tmp_path, MEMORY)) as node:
                client = await PlainClient.connect(node.addresses[0][1])
                await client.hello()
                try:
                    with contextlib.suppress(Closed):
                        while True:
                            await client.ask("publish", channel="mem:c", data=1)
                finally:
                    await client.aclose()
                await trio.sleep_forever()
        except* NodeFailed as group:
            failures += group.exceptions
    assert planted.num_raised == 4
    assert "broadcaster" in repr(failures)
    assert [line["event"] for line in log_lines if line["event"].startswith("actor_")] == [
        "actor_restarted",
        "actor_restarted",
        "actor_restarted",
        "actor_failed",
    ]


CRASHER = """
import sys
from syncd.actors.broadcaster.delivering import Delivering
from syncd.cli.main import main

async def deliver(self):
    if self._publishing.take_touched():
        raise RuntimeError("planted")

Delivering.deliver = deliver
sys.exit(main())
"""


@pytest.mark.slow
@pytest.mark.process
async def test_a_node_that_cannot_heal_exits_with_an_error_and_loses_nothing(tmp_path):
    script = tmp_path / "crasher.py"
    script.write_text(CRASHER)
    with ServerProcess(tmp_path, program=(str(script),)) as server:
        await trio.to_thread.run_sync(server.start)
        num_told = 0
        client = await PlainClient.connect(server.port)
        await client.hello()
        await client.ask("subscribe", channel="demo:c")
        with contextlib.suppress(Closed), trio.move_on_after(20):
            while True:
                kind, body = await client.ask("publish", channel="demo:c", data=1)
                assert (kind, body["code"]) == ("error", "internal_error")
                num_told += 1
        code = await trio.to_thread.run_sync(server.wait, 20)
        assert code not in (0, -9)
        events = [line["event"] for line in server.log_lines()]
        assert events.count("actor_restarted") == 3
        assert "actor_failed" in events
        assert "node_failed" in events
        assert num_told == 3
        await client.aclose()
    with ServerProcess(tmp_path) as server:
        await trio.to_thread.run_sync(server.start)
        _, events = await read_log(server.port, "demo:c")
        assert [event["offset"] for event in events] == [1, 2, 3, 4]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
async def test_random_crashes_under_load_lose_and_double_nothing(tmp_path, monkeypatch, seed):
    kind = namespace("log", HistoryKind.DURABLE, history_size=1_000_000)
    async with running(make_config(tmp_path, kind)) as (node, _connect):
        num_fired = await live_through(
            node,
            node.addresses[0][1],
            monkeypatch,
            random.Random(seed),
            num_faults=12,
            num_peers=8,
        )
    assert num_fired >= 6
