"""A9, A17, A18, A25 and what else a peer can make a node hold: memory, descriptors, time."""

import contextlib
import resource
import sys
from functools import partial
from pathlib import Path

import attrs
import pytest
import trio

from syncd.config import Namespace
from syncd.testing.process import ServerProcess
from syncd.testing.raw_client import (
    BINARY,
    CONTINUATION,
    PING,
    RawClient,
    Refused,
    client_frame,
    pack_messages,
)
from tests.integration.hostile import tokens
from tests.integration.hostile.kit import (
    BRISK,
    CALM,
    PATIENT_S,
    SECRET,
    drivers,
    limits,
    make_config,
    open_arena,
    with_tokens,
)

MIB = 1_048_576
UNLIMITED = {"messages_per_s": 1e9, "messages_burst": 1_000_000_000}
"""For attacks that the rate limit would end before the bound in question is reached."""


async def dial_narrow(arena):
    """Connect with the smallest receive buffer there is, so that little is under way when nobody reads."""
    sock = trio.socket.socket()
    sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 2048)
    await sock.connect(("127.0.0.1", arena.port))
    client = RawClient(trio.SocketStream(sock))
    await client.upgrade()
    await client.hello()
    return client


async def flood(client, data):
    """Send the same bytes for ever; returns when the server has closed."""
    try:
        while True:
            await client.send(data)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass


# ------------------------------------------------------------------------------------------------ not reading

PING_FLOOD = client_frame(PING, b"x" * 125) * 100
PROBE_FLOOD = client_frame(BINARY, pack_messages(*[("probe", {"nonce": 1})] * 100))
BAD_FLOOD = client_frame(BINARY, pack_messages(*[("nonsense", {})] * 100))


@drivers
@pytest.mark.parametrize("data", [PING_FLOOD, PROBE_FLOOD, BAD_FLOOD], ids=["ping", "probe", "bad"])
async def test_a25_who_floods_and_never_reads_is_not_read_and_then_cut(driver, data):
    config = make_config(
        driver=driver,
        timing=attrs.evolve(CALM, slow_client_s=1.0),
        limits=limits(send_buffer_bytes=4096, outbox_bytes=65_536, errors=10**9, **UNLIMITED),
    )
    async with open_arena(config) as arena:
        client = await dial_narrow(arena)
        connection = next(c for c in arena.node.hub.connections if c.subscriptions is None)
        most_bytes = 0
        async with RawClient.over(client.stream), trio.open_nursery() as nursery:
            nursery.start_soon(flood, client, data)
            await arena.until(lambda: connection.is_paused)
            await arena.assert_alive()
            with trio.fail_after(PATIENT_S):
                while not connection.closed:
                    most_bytes = max(most_bytes, connection.outbox.size_bytes)
                    await trio.sleep(0.005)
            nursery.cancel_scope.cancel()
        assert connection.close_code == 4001
        assert most_bytes < 4 * 65_536


@drivers
async def test_a25_who_floods_and_reads_slowly_is_served_at_its_own_pace(driver):
    config = make_config(
        driver=driver, limits=limits(send_buffer_bytes=4096, outbox_bytes=65_536, **UNLIMITED)
    )
    num_pings = 20_000
    async with open_arena(config) as arena:
        client = await dial_narrow(arena)
        connection = next(c for c in arena.node.hub.connections if c.subscriptions is None)
        async with RawClient.over(client.stream), trio.open_nursery() as nursery:
            nursery.start_soon(client.send, client_frame(PING, b"y" * 125) * num_pings)
            await arena.until(lambda: connection.is_paused)
            with trio.fail_after(PATIENT_S):
                for _ in range(num_pings):
                    assert (await client.receive_frame()).payload == b"y" * 125
        await arena.until_gone()


@drivers
async def test_who_subscribes_and_never_reads_is_lagged_and_cut_and_others_lose_nothing(driver):
    config = make_config(
        driver=driver,
        timing=attrs.evolve(CALM, slow_client_s=0.5),
        limits=limits(send_buffer_bytes=4096, outbox_bytes=65_536, **UNLIMITED),
    )
    async with open_arena(config) as arena, arena.session() as publisher, arena.session() as good:
        client = await dial_narrow(arena)
        async with RawClient.over(client.stream):
            await client.ask("subscribe", id=1, channel="demo:hot")
            slow = next(
                c for c in arena.node.hub.connections if "demo:hot" in (c.subscriptions or ())
            )
            await good.ask("subscribe", id=1, channel="demo:hot")
            for number in range(400):
                await publisher.ask("publish", id=number, channel="demo:hot", data="z" * 2000)
                assert (await good.receive_message("event"))["offset"] == number + 1
            assert slow.outbox is None or slow.outbox.size_bytes <= 65_536 + 4096
            await arena.until(lambda: slow.closed)
        assert slow.close_code == 4001
        assert arena.node.hub.writer.num_lagged >= 1


@drivers
async def test_an_old_connection_is_not_slow_because_it_was_idle(driver):
    """A stream's first frame after a long silence lies in the outbox for a moment; that is no sign of slowness."""
    config = make_config(driver=driver, timing=attrs.evolve(CALM, slow_client_s=0.1, ping_s=0.02))
    async with open_arena(config) as arena, arena.session() as client:
        answered = 0
        with trio.fail_after(PATIENT_S):
            while answered < 20:
                await client.receive_message("ping")
                await client.send_messages(("pong", {}))
                answered += 1
                if answered == 10:
                    await trio.sleep(0.2)
        assert "4001" not in arena.node.hub.closes


# ------------------------------------------------------------------------------------------------ memory of a process


async def run(call, *args):
    return await trio.to_thread.run_sync(partial(call, *args))


def high_water_bytes(server):
    """The most resident memory the process ever had."""
    lines = Path(f"/proc/{server.pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024


class Crowd:
    """Clients of a process, all closed at the end."""

    def __init__(self, port):
        self._port = port
        self._streams = []

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        for stream in self._streams:
            await trio.aclose_forcefully(stream)

    async def dial(self):
        stream = await trio.open_tcp_stream("127.0.0.1", self._port)
        self._streams.append(stream)
        return stream

    async def session(self):
        client = RawClient(await self.dial())
        await client.upgrade()
        await client.hello()
        return client


@pytest.fixture
def server(tmp_path):
    """A node in a process of its own that takes any number of messages."""
    config = "[limits]\nmessages_per_s = 1000000.0\nmessages_burst = 10000000\n"
    with ServerProcess(tmp_path, config) as started:
        started.start()
        yield started


@pytest.fixture
async def crowd(server):
    async with Crowd(server.port) as clients:
        yield clients


@pytest.mark.process
async def test_a16_a17_a18_what_a_connection_can_make_the_node_keep_is_below_256_kib(server, crowd):
    """The dearest that the limits allow: 63 fragments of all but the whole message, and most of a frame behind."""
    fragment = 60_000 // 63
    parts = client_frame(BINARY, bytes(fragment), is_final=False)
    parts += client_frame(CONTINUATION, bytes(fragment), is_final=False) * 62
    parts += client_frame(CONTINUATION, bytes(5000), declared_bytes=5300)
    clients = [await crowd.session() for _ in range(200)]
    before = server.rss_bytes()
    for client in clients:
        await client.send(parts)
    probe = await crowd.session()
    await probe.ask("publish", id=1, channel="demo:a", data=1)
    grown = server.rss_bytes() - before
    assert grown / len(clients) < 256 * 1024
    assert (await run(server.get, "/health/ready"))[0] == 200


@pytest.mark.process
async def test_declared_lengths_allocate_nothing(server, crowd):
    clients = [await crowd.session() for _ in range(50)]
    before = server.rss_bytes()
    dear = [b"\xdd", b"\xdf", b"\xdb", b"\xc6", b"\xc9"]
    for number, client in enumerate(clients):
        head = dear[number % len(dear)] + b"\xff\xff\xff\xff"
        await client.send(client_frame(BINARY, head) * 50)
        await client.send(client_frame(BINARY, declared_bytes=1 << 62))
    for client in clients:
        assert (await client.receive_close()).close_code == 1009
    assert high_water_bytes(server) - before < 8 * MIB


def small_requests(kind, position):
    """A thousand requests of some 60 bytes, each with an answer of 240 KiB."""
    channel = {"channel": "demo:large"}
    if kind == "history":
        messages = [("history", {"id": n, "limit": 1000, **channel}) for n in range(1000)]
    else:
        messages = []
        for n in range(500):
            messages.append(("subscribe", {"id": n, "position": position, **channel}))
            messages.append(("unsubscribe", {"id": n, **channel}))
    return b"".join(client_frame(BINARY, pack_messages(message)) for message in messages)


@pytest.mark.process
@pytest.mark.parametrize("kind", ["history", "subscribe"])
async def test_small_requests_with_large_answers_do_not_fill_the_memory(server, crowd, kind):
    """Nobody reads the answers. 240 MiB a client, if it were for the clients."""
    good = await crowd.session()
    for number in range(16):
        await good.ask("publish", id=number, channel="demo:large", data=b"h" * 60_000)
    _, answer = await good.ask("history", id=1, channel="demo:large", limit=0)
    data = small_requests(kind, {**answer["position"], "offset": 0})
    attackers = [await crowd.session() for _ in range(4)]
    before = server.rss_bytes()
    async with trio.open_nursery() as nursery:
        for client in attackers:
            nursery.start_soon(flood, client, data)
        with trio.fail_after(60):
            for _ in range(20):
                _, answer = await good.ask("history", id=2, channel="demo:large", limit=1)
                assert answer["events"]
        nursery.cancel_scope.cancel()
    grown = high_water_bytes(server) - before
    assert grown < 64 * MIB, f"{grown / MIB:.0f} MiB"


# ------------------------------------------------------------------------------------------------ A9, A10


@drivers
async def test_a9_silent_connections_are_gone_in_the_handshake_time(driver):
    async with open_arena(make_config(driver=driver, timing=BRISK)) as arena:
        began = trio.current_time()
        clients = [await trio.open_tcp_stream("127.0.0.1", arena.port) for _ in range(500)]
        await arena.until(lambda: arena.node.hub.num_accepted >= 501)
        await arena.assert_alive()
        await arena.until_gone()
        assert trio.current_time() - began < BRISK.handshake_s + 2.0
        for client in clients:
            await client.aclose()


@drivers
async def test_a9_beyond_the_cap_new_ones_get_503_and_old_ones_are_served(driver):
    config = make_config(driver=driver, limits=limits(connections=10))
    async with open_arena(config) as arena:
        async with trio.open_nursery() as nursery:
            silent = [await trio.open_tcp_stream("127.0.0.1", arena.port) for _ in range(9)]
            await arena.until(lambda: len(arena.node.hub.connections) == 10)
            for _ in range(20):
                async with arena.dial() as late:
                    with trio.fail_after(PATIENT_S):
                        response = await late.receive_response()
                    assert response.status == 503
                    assert int(response.headers["retry-after"]) >= 1
            assert (await arena.witness.ask("publish", id=7, channel="demo:x", data=1))[0] == "ok"
            for stream in silent:
                nursery.start_soon(stream.aclose)
        await arena.until_gone()


async def test_who_opens_too_many_or_too_fast_gets_503():
    config = make_config(limits=limits(accept_per_s=5.0))
    async with open_arena(config) as arena:
        num_refused = 0
        for _ in range(10):
            async with arena.dial() as client:
                with trio.fail_after(PATIENT_S), contextlib.suppress(Refused):
                    await client.upgrade()
                    continue
                num_refused += 1
        assert num_refused >= 4
        await trio.sleep(
            1.0
        )  # until the bucket is full again for those who ask whether all is well


async def test_a58_a_user_may_not_have_more_connections_than_allowed():
    config = make_config(auth=with_tokens(), limits=limits(connections_per_user=2))
    token = tokens.make(SECRET, sub="ann")
    async with (
        open_arena(config, token=tokens.make(SECRET, sub="witness")) as arena,
        arena.session(token=token),
        arena.session(token=token),
        arena.dial() as third,
    ):
        await third.upgrade()
        await third.send_messages(("hello", {"v": 1, "token": token}))
        bye = await third.receive_message("bye")
        assert (bye["code"], bye["reconnect"]) == (4004, True)
        assert bye["after_ms"] > 0


STARVED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (160, 160))
from syncd.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def cpu_s(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


@pytest.mark.process
async def test_a9_out_of_descriptors_the_node_neither_spins_nor_drops_anybody_and_recovers(
    tmp_path,
):
    config = "[limits]\nconnections = 10000\n[timing]\nhandshake_s = 3\nclose_s = 1\n"
    with ServerProcess(tmp_path, config, program=("-c", STARVED)) as server:
        await run(server.start)
        async with Crowd(server.port) as crowd:
            await starve(server, crowd)


async def starve(server, crowd):
    witness = await crowd.session()
    await witness.ask("subscribe", id=1, channel="demo:a")
    silent = [await crowd.dial() for _ in range(300)]
    await trio.sleep(0.5)
    began, spent = trio.current_time(), cpu_s(server.pid)
    while trio.current_time() - began < 1.5:
        kind, _ = await witness.ask("publish", id=2, channel="demo:a", data=1)
        assert kind == "ok"
        await trio.sleep(0.1)
    share = (cpu_s(server.pid) - spent) / (trio.current_time() - began)
    assert share < 0.25, f"{share:.0%} of a core"
    assert "accept_paused" in {line.get("event") for line in server.log_lines()}
    for stream in silent:
        await stream.aclose()
    with trio.fail_after(PATIENT_S):
        late = await crowd.session()
        await late.ask("publish", id=1, channel="demo:a", data="after")
        while (await witness.receive_message("event"))["data"] != "after":
            pass
    assert (await run(server.get, "/health/ready"))[0] == 200


@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells, and only it doubles tables")
def test_the_table_of_descriptors_has_its_size_before_the_first_connection(tmp_path):
    """The kernel lets a process with threads wait some 15 ms each time it doubles the table: at the 256th connection, the 512th, the 1,024th."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ServerProcess(tmp_path) as server:
        server.start()
        lines = Path(f"/proc/{server.pid}/status").read_text().splitlines()
    (slots,) = [int(line.split()[1]) for line in lines if line.startswith("FDSize:")]
    assert slots >= (65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536))


def test_the_limits_of_this_machine_allow_the_tests_above():
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert soft >= 1024
    assert Namespace("x").max_data_bytes >= 60_000


@pytest.mark.process
@pytest.mark.parametrize("is_restarted", [False, True], ids=["in memory", "from the store"])
async def test_recovering_many_channels_at_once_is_paced_by_who_reads(tmp_path, is_restarted):
    """128 subscriptions in one packet, 240 KiB of missed events each, and nobody reads: 30 MiB a client if sent at once."""
    with ServerProcess(tmp_path) as server:
        await run(server.start)
        async with Crowd(server.port) as crowd:
            positions = await fill(crowd, num_channels=128)
        if is_restarted:
            await run(server.stop)
            await run(server.start)
        async with Crowd(server.port) as crowd:
            grown = await recover(server, crowd, positions)
    assert grown < 64 * MIB, f"{grown / MIB:.0f} MiB"


async def fill(crowd, num_channels):
    """Publish four events of 60 KB to each channel; returns the positions before them."""
    writer, positions = await crowd.session(), {}
    for number in range(num_channels):
        channel = f"demo:{number}"
        for _ in range(4):
            _, answer = await writer.ask("publish", id=1, channel=channel, data=b"r" * 60_000)
        positions[channel] = {**answer["position"], "offset": 0}
    return positions


async def recover(server, crowd, positions):
    data = b"".join(
        client_frame(
            BINARY,
            pack_messages(("subscribe", {"id": n, "channel": channel, "position": position})),
        )
        for n, (channel, position) in enumerate(positions.items())
    )
    attackers = [await crowd.session() for _ in range(4)]
    good = await crowd.session()
    before = server.rss_bytes()
    for client in attackers:
        await client.send(data)
    with trio.fail_after(30):
        for _ in range(20):
            await good.ask("history", id=2, channel="demo:0", limit=1)
    grown = high_water_bytes(server) - before
    with trio.fail_after(30):
        for _ in positions:
            if not (await attackers[0].receive_message("subscribed"))["recovered"]:
                raise ValueError("paced, yes; lost, no")
    return grown
