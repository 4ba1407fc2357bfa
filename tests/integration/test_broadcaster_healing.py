"""HEALED: a broadcaster that crashes is restarted alone; subscribers miss nothing or are told, and who waits is answered."""

import pytest
import structlog
import trio

from syncd.actors.broadcaster.actor import Broadcaster
from syncd.actors.broadcaster.delivering import Delivering
from syncd.actors.broadcaster.joining import Joining
from syncd.actors.broadcaster.publishing import Publishing
from syncd.gateway.writer import Writer
from syncd.testing.crowd import read_log
from syncd.testing.history import History
from syncd.wire import messages as m
from tests.integration.nodes import (
    DURABLE,
    EPHEMERAL,
    MEMORY,
    make_config,
    publish,
    read_until,
    running,
    subscribe,
)
from tests.integration.planted_faults import Fault, PlantedFault, ask_again, health_of, restarted

FAULTS = {
    "before delivery": (Delivering, "deliver", False),
    "after delivery": (Writer, "deliver", True),
    "before the store is asked": (Publishing, "submit", False),
    "after the store is asked": (Publishing, "submit", True),
    "before answers": (Publishing, "settle", False),
}


@pytest.fixture(autouse=True)
def log_lines():
    with structlog.testing.capture_logs() as lines:
        yield lines


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
