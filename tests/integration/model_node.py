"""The model server behind real WebSocket connections over memory streams, for tests of the Python client."""

import random

import trio
import trio.testing
import trio_websocket

from syncd.client import open_client
from syncd.testing.model_server import ModelServer

URL = "ws://node.test"


class Node:
    """The model server behind real WebSocket connections over memory streams."""

    def __init__(self, nursery):
        self.model = ModelServer()
        self.is_down = False
        self.is_deaf = False
        self.num_dials = 0
        self.streams = []
        self.connections = []
        self._nursery = nursery

    async def open_stream(self):
        self.num_dials += 1
        if self.is_down:
            raise ConnectionRefusedError
        ours, theirs = trio.testing.memory_stream_pair()
        self.streams.append(theirs)
        self._nursery.start_soon(self._serve, theirs)
        return ours

    async def _serve(self, stream):
        session = self.model.connect()
        try:
            async with trio.open_nursery() as nursery:
                request = await trio_websocket.wrap_server_stream(nursery, stream)
                connection = await request.accept(subprotocol="syncd.v1")
                self.connections.append(connection)
                nursery.start_soon(self._send, connection, session)
                while True:
                    frame = await connection.get_message()
                    if not self.is_deaf:
                        session.receive(frame)
        except* (trio_websocket.ConnectionClosed, trio.BrokenResourceError):
            pass
        except* trio.ClosedResourceError:
            pass
        finally:
            session.gone()
            await trio.aclose_forcefully(stream)

    async def _send(self, connection, session):
        """Move what the model says, a hundredth of a virtual second later."""
        while True:
            await trio.sleep(0.01)
            frames, session.outgoing = session.outgoing, []
            if frames:
                await connection.send_message(b"".join(frames))
            if session.close_code is not None:
                await connection.aclose(session.close_code, "told so")
                return

    async def cut(self):
        """Lose every connection without a goodbye."""
        for stream in self.streams:
            await trio.aclose_forcefully(stream)
        self.streams.clear()

    def client(self, **options):
        options.setdefault("rng", random.Random(1))
        return open_client(URL, open_stream=self.open_stream, **options)

    @property
    def session(self):
        return self.model.sessions[-1]


async def take(subscription, count):
    """The next items of a subscription."""
    with trio.fail_after(120):
        return [await anext(subscription) for _ in range(count)]


async def until(condition):
    with trio.fail_after(120):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
            await trio.sleep(0.01)
