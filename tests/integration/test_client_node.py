"""The Python client and the publishers against a real node in this process."""

import random

import attrs
import pytest
import trio

from syncd.backend import (
    AsyncPublisher,
    Position,
    Publication,
    Publisher,
    Refused,
    Unauthorized,
    Unreachable,
)
from syncd.backend.attempts import RetryPolicy
from syncd.client import (
    ConnectionState,
    ConnectionStopped,
    RequestFailed,
    Reset,
    ResetCause,
    open_client,
)
from syncd.client import (
    Unauthorized as ClientUnauthorized,
)
from syncd.config import Address, Config, HistoryKind, Mode, Namespace, Timing
from syncd.server import open_node
from tests.integration.certificates import self_signed

KEY = "api-key-of-the-test"
DEMO = Config().namespaces["demo"]
CONFIG = Config(
    listen=Address(port=0),
    db=":memory:",
    api_keys={"test": KEY},
    timing=Timing(presence_grace_s=0.2, presence_diff_s=0.01),
    namespaces={
        **Config().namespaces,
        "short": attrs.evolve(DEMO, name="short", history=HistoryKind.MEMORY, history_size=3),
        "state": attrs.evolve(DEMO, name="state", mode=Mode.LATEST),
        "closed": Namespace("closed"),
    },
)


class Running:
    """A node and how to reach it."""

    def __init__(self, node):
        host, port = node.addresses[0][:2]
        self.node = node
        self.url = f"http://{host}:{port}"

    def client(self, **options):
        return open_client(self.url, rng=random.Random(1), **options)

    def api(self):
        return AsyncPublisher(self.url, KEY)


@pytest.fixture
async def running():
    async with open_node(CONFIG) as node:
        yield Running(node)


async def take(subscription, count):
    with trio.fail_after(10):
        return [await anext(subscription) for _ in range(count)]


async def until(condition):
    with trio.fail_after(10):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
            await trio.sleep(0.005)


async def test_what_a_backend_publishes_a_subscriber_receives(running):
    async with (
        running.client() as client,
        client.subscribe("demo:a") as subscription,
        running.api() as api,
    ):
        position = await api.publish("demo:a", {"n": [1, None, "ä"]}, name="note", key="k")
        binary = await api.publish("demo:a", b"\x00\xff")
        first, second = await take(subscription, 2)
        assert (first.data, first.name, first.key, first.by) == (
            {"n": [1, None, "ä"]},
            "note",
            "k",
            None,
        )
        assert (first.position, second.position, second.data) == (position, binary, b"\x00\xff")
        page = await api.history("demo:a")
        assert [e.data for e in page.events] == [first.data, second.data]
        assert page.position == binary


async def test_a_client_publishes_and_reads_history(running):
    async with running.client() as client:
        positions = [await client.publish("demo:a", n) for n in range(5)]
        page = await client.history("demo:a", since=positions[1], limit=2)
        assert [e.data for e in page.events] == [2, 3]
        assert page.events[0].by == client.client_id
        page = await client.history("demo:a", reverse=True, limit=1)
        assert (page.events[0].data, page.position) == (4, positions[-1])
        assert await client.publish("live:a", 1) is None


async def test_a_connection_that_breaks_is_recovered_without_loss_or_repetition(running):
    async with (
        running.client() as client,
        client.subscribe("demo:a") as subscription,
        running.api() as api,
    ):
        first_id = client.client_id
        for n in range(5):
            await api.publish("demo:a", 2 * n)
            assert await api.disconnect(client=client.client_id, reconnect=True) == 1
            await until(lambda: client.state is not ConnectionState.CONNECTED)
            await api.publish("demo:a", 2 * n + 1)
            client.wake()
        assert [e.data for e in await take(subscription, 10)] == list(range(10))
        assert client.client_id == first_id


async def test_a_uid_takes_effect_once_over_both_ways(running):
    async with running.client() as client, running.api() as api:
        assert await client.publish("demo:a", 1, uid="u") == await client.publish(
            "demo:a", 1, uid="u"
        )
        first = await api.publish("demo:b", 1, uid="u")
        assert await api.publish("demo:b", 1, uid="u") == first
        with pytest.raises(Refused) as caught:
            await api.publish("demo:b", 2, uid="u")
        assert (caught.value.code, caught.value.status) == ("idempotency_mismatch", 422)
        with pytest.raises(RequestFailed) as failed:
            await client.publish("demo:a", 2, uid="u")
        assert failed.value.code == "idempotency_mismatch"


async def test_a_position_out_of_retention_or_of_another_epoch_is_a_reset(running):
    async with running.api() as api, running.client() as client:
        for n in range(10):
            top = await api.publish("short:a", n)
        stale = Position(top.epoch, 2)
        async with client.subscribe("short:a", stale) as subscription:
            [item] = await take(subscription, 1)
            assert isinstance(item, Reset)
            assert (item.cause, item.position) == (ResetCause.OUT_OF_RETENTION, top)
        foreign = Position("0" * 16, 2)
        async with client.subscribe("short:a", foreign) as subscription:
            [item] = await take(subscription, 1)
            assert (item.cause, item.position) == (ResetCause.EPOCH_CHANGED, top)
        async with client.subscribe("short:a", Position(top.epoch, 8)) as subscription:
            assert [e.data for e in await take(subscription, 2)] == [8, 9]


async def test_a_latest_channel_begins_with_its_present_state(running):
    async with running.client() as client:
        for n in range(6):
            top = await client.publish("state:a", n, key=f"k{n % 2}")
        async with client.subscribe("state:a") as subscription:
            assert [(e.key, e.data) for e in await take(subscription, 2)] == [("k0", 4), ("k1", 5)]
            assert subscription.position == top
            await client.publish("state:a", 6, key="k0")
            assert [e.data for e in await take(subscription, 1)] == [6]


async def test_a_slow_application_recovers_from_the_real_log(running):
    async with (
        running.client() as client,
        client.subscribe("demo:a", buffer=5) as subscription,
        running.api() as api,
    ):
        for start in range(0, 300, 100):
            await api.batch([Publication("demo:a", n) for n in range(start, start + 100)])
        await trio.sleep(0.05)
        assert [e.data for e in await take(subscription, 300)] == list(range(300))


async def test_members_come_change_and_go(running):
    async with (
        running.client() as alice,
        running.client() as bob,
        bob.presence("demo:a") as seen,
        running.api() as api,
    ):
        async with alice.presence("demo:a") as room:
            await room.set({"name": "Alice"})
            await until(lambda: seen.members)
            assert seen.members[0].states[0].state == {"name": "Alice"}
            listed = await api.presence("demo:a")
            assert listed.members[0].states == ((alice.client_id, {"name": "Alice"}),)
            await api.disconnect(client=alice.client_id, reconnect=True)
            await until(lambda: alice.state is not ConnectionState.CONNECTED)
            alice.wake()
            await until(lambda: alice.state is ConnectionState.CONNECTED)
            await trio.sleep(0.4)
            assert seen.members, "announced again within the grace"
        await until(lambda: not seen.members)


async def test_what_may_not_be_done_is_refused_by_name(running):
    async with running.client() as client:
        with pytest.raises(RequestFailed) as caught:
            await client.publish("closed:a", 1)
        assert caught.value.code == "permission_denied"
        with pytest.raises(RequestFailed) as caught:
            async with client.subscribe("closed:a"):
                pytest.fail("never entered")
        assert caught.value.code == "permission_denied"
        with pytest.raises(RequestFailed) as caught:
            await client.publish("demo:a", "x" * 70_000)
        assert caught.value.code == "too_large"
        await client.publish("demo:a", 1)
    with pytest.raises(ClientUnauthorized):
        async with running.client(token="not.a.token"):
            await trio.sleep_forever()


async def test_an_operator_may_end_a_subscription_or_the_client(running):
    with pytest.raises(ConnectionStopped) as stopped:  # noqa: PT012 - raised by leaving the block
        async with running.client() as client, running.api() as api:
            async with client.subscribe("demo:a") as subscription:
                assert await api.unsubscribe("demo:a", client=client.client_id) == 1
                with pytest.raises(RequestFailed) as ended:
                    await take(subscription, 1)
                assert ended.value.code == "unsubscribed"
            await api.disconnect(client=client.client_id)
            await trio.sleep_forever()
    assert stopped.value.code == 4503


async def test_the_blocking_publisher_and_its_errors(running):
    def work():
        with Publisher(running.url, KEY) as publisher:
            publisher.publish("demo:a", 1)
            results = publisher.batch([Publication("demo:a", 2), Publication("nope:a", 3)])
            channels = publisher.channels("demo:")
            info = publisher.info()
        with Publisher(running.url, "wrong") as publisher, pytest.raises(Unauthorized):
            publisher.publish("demo:a", 1)
        return results, channels, info

    async with running.client() as client, client.subscribe("demo:a"):
        results, channels, info = await trio.to_thread.run_sync(work)
    assert results[0].offset == 2
    assert results[1].code == "permission_denied"
    assert [c.channel for c in channels] == ["demo:a"]
    assert "namespaces" in info


async def run_node(config, scopes, *, task_status):
    """Run a node until the scope it leaves in `scopes` is cancelled."""
    with trio.CancelScope() as scope:
        scopes.append(scope)
        async with open_node(config) as node:
            task_status.started(node)
            await trio.sleep_forever()


async def test_a_node_that_restarts_is_found_again_with_everything_in_it(tmp_path, nursery):
    config = attrs.evolve(CONFIG, db=str(tmp_path / "syncd.db"))
    scopes = []
    node = await nursery.start(run_node, config, scopes)
    again = attrs.evolve(config, listen=Address(port=node.addresses[0][1]))
    async with (
        Running(node).client() as client,
        client.subscribe("demo:a") as subscription,
    ):
        await client.publish("demo:a", "before")
        assert (await take(subscription, 1))[0].data == "before"
        scopes.pop().cancel()
        await until(lambda: client.state is not ConnectionState.CONNECTED)
        async with trio.open_nursery() as publishing:  # the event may come before the answer
            publishing.start_soon(client.publish, "demo:a", "while away")
            await nursery.start(run_node, again, scopes)
            client.wake()
            [event] = await take(subscription, 1)
        assert (event.data, event.position.offset) == ("while away", 2)
    scopes.pop().cancel()


async def test_clients_and_publishers_trust_the_certificates_that_the_environment_names(
    tmp_path, monkeypatch
):
    """Where the system does not know who signed the node's certificate; loopback is no exception."""
    cert, key = self_signed(tmp_path)
    config = attrs.evolve(CONFIG, tls_cert=str(cert), tls_key=str(key))
    async with open_node(config) as node:
        url = f"https://localhost:{node.addresses[0][1]}"
        async with AsyncPublisher(url, KEY, retry=RetryPolicy(max_attempts=1)) as api:
            with pytest.raises(Unreachable):
                await api.publish("demo:a", 1)
        monkeypatch.setenv("SSL_CERT_FILE", str(cert))
        async with (
            AsyncPublisher(url, KEY) as api,
            open_client(url) as client,
            client.subscribe("demo:a") as events,
        ):
            await api.publish("demo:a", 2)
            assert (await anext(aiter(events))).data == 2
        with Publisher(url, KEY) as blocking:
            published = await trio.to_thread.run_sync(blocking.publish, "demo:a", 3)
            assert published.offset == 2
