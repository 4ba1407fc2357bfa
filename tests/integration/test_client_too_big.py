"""The Python client behind a proxy that takes less than the node says: it gives up what does not get through, and that alone."""

import random

import pytest
import trio
import trio_websocket

from syncd import App
from syncd.client import ConnectionState, MutationRejected, RequestFailed, open_client
from syncd.config import Address, Config
from syncd.model.definitions_check import app_in_force
from syncd.server import open_node

SUBPROTOCOL = "syncd.v1"
TOO_BIG = 1009
LIMIT_BYTES = 4_000
LARGE = "x" * 4_500
"""With small messages in one frame: what is too large takes them down with it at first."""

app = App()
boxes = app.collection("boxes", read="anyone", mutate="anyone")


@boxes.mutator
def count(tx, key: str, _pad: str = ""):
    tx.incr(key)


class NarrowProxy:
    """Passes WebSocket messages on in both directions, and ends a connection with 1009 whose client sends a larger one."""

    def __init__(self, node):
        self._host, self._port = node.addresses[0][:2]
        self.url = ""
        self.num_closed = 0
        """Connections that it ended for size."""

    async def run(self, *, task_status):
        async with trio.open_nursery() as nursery:
            server = await nursery.start(
                lambda task_status: trio_websocket.serve_websocket(
                    self._serve,
                    "127.0.0.1",
                    0,
                    None,
                    max_message_size=LIMIT_BYTES,
                    task_status=task_status,
                )
            )
            self.url = f"http://127.0.0.1:{server.port}"
            task_status.started()

    async def _serve(self, request):
        near = await request.accept(subprotocol=SUBPROTOCOL)
        async with (
            trio_websocket.open_websocket(
                self._host, self._port, "/ws", use_ssl=False, subprotocols=[SUBPROTOCOL]
            ) as far,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(self._pass_on, near, far, nursery.cancel_scope)
            nursery.start_soon(self._pass_on, far, near, nursery.cancel_scope)

    async def _pass_on(self, source, sink, scope):
        try:
            while True:
                await sink.send_message(await source.get_message())
        except trio_websocket.ConnectionClosed:
            self.num_closed += source.closed is not None and source.closed.code == TOO_BIG
            scope.cancel("one side ended")


@pytest.fixture
async def proxy(tmp_path):
    config = Config(listen=Address(port=0), db=str(tmp_path / "syncd.db"))
    with trio.fail_after(30):
        async with (
            open_node(config, app_in_force(app.definition(), config)) as node,
            trio.open_nursery() as nursery,
        ):
            proxy = NarrowProxy(node)
            await nursery.start(proxy.run)
            yield proxy
            nursery.cancel_scope.cancel("the test is over")


async def hurry(client):
    """Have it dial at once whenever it waits for that."""
    async for state in client.states():
        if state is ConnectionState.OFFLINE:
            client.wake()


async def test_a_mutation_too_large_for_a_proxy_is_rejected_and_its_neighbours_count_once(proxy):
    async with (
        open_client(proxy.url, rng=random.Random(1)) as client,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(hurry, client)
        first = client.mutate("boxes.count", key="first")
        large = client.mutate("boxes.count", key="large", _pad=LARGE)
        last = client.mutate("boxes.count", key="last")
        await first.server()
        with pytest.raises(MutationRejected) as told:
            await large.server()
        assert told.value.code == "too_large"
        await last.server()
        num_closed = proxy.num_closed
        assert num_closed > 0
        read = await client.read("boxes", ["first", "large", "last"])
        assert [entry.value for entry in read.entries] == [1, None, 1]
        await client.mutate("boxes.count", key="last").server()
        assert (client.state, proxy.num_closed) == (ConnectionState.CONNECTED, num_closed)
        nursery.cancel_scope.cancel("it is well")


async def test_mutations_too_large_for_a_proxy_only_together_all_count(proxy):
    """They fit a frame that the node takes."""
    async with (
        open_client(proxy.url, rng=random.Random(1)) as client,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(hurry, client)
        for key in "abc":
            client.mutate("boxes.count", key=key, _pad="x" * 1_500)
        await client.settled()
        read = await client.read("boxes", ["a", "b", "c"])
        assert [entry.value for entry in read.entries] == [1, 1, 1]
        assert proxy.num_closed > 0
        nursery.cancel_scope.cancel("it is well")


async def test_a_publication_too_large_for_a_proxy_fails_and_the_others_happen(proxy):
    async with (
        open_client(proxy.url, rng=random.Random(1)) as client,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(hurry, client)
        nursery.start_soon(client.publish, "demo:a", "small")
        with pytest.raises(RequestFailed) as told:
            await client.publish("demo:a", LARGE)
        assert told.value.code == "too_large"
        page = await client.history("demo:a")
        assert [event.data for event in page.events] == ["small"]
        assert client.state is ConnectionState.CONNECTED
        nursery.cancel_scope.cancel("it is well")
