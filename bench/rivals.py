"""Rivals for fan-out in the same run: `python -m bench.rivals websockets|trio PORT`.

Both take subscribers on `/sub` and publications on `/pub`, and send each publication's payload to every subscriber.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - the rival runs on it
import sys

import trio
import trio_websocket
from websockets.asyncio.server import ServerConnection, broadcast, serve


async def run_websockets(port: int) -> None:
    """`websockets` on asyncio with its `broadcast()`."""
    subscribers: set[ServerConnection] = set()

    async def handle(connection: ServerConnection) -> None:
        if connection.request is not None and connection.request.path == "/sub":
            subscribers.add(connection)
            try:
                await connection.wait_closed()
            finally:
                subscribers.discard(connection)
        else:
            async for message in connection:
                broadcast(subscribers, message)

    async with serve(
        handle, "127.0.0.1", port, compression=None, ping_interval=None, backlog=4096
    ) as server:
        await server.serve_forever()


async def run_trio(port: int) -> None:
    """trio-websocket, one `send_message` after another."""
    subscribers: set[trio_websocket.WebSocketConnection] = set()

    async def handle(request: trio_websocket.WebSocketRequest) -> None:
        connection = await request.accept()
        if request.path == "/sub":
            subscribers.add(connection)
            try:
                await connection.get_message()
            except trio_websocket.ConnectionClosed:
                subscribers.discard(connection)
            return
        while True:
            try:
                message = await connection.get_message()
            except trio_websocket.ConnectionClosed:
                return
            for subscriber in list(subscribers):
                try:
                    await subscriber.send_message(message)
                except trio_websocket.ConnectionClosed:
                    subscribers.discard(subscriber)

    await trio_websocket.serve_websocket(handle, "127.0.0.1", port, None)


if __name__ == "__main__":
    if sys.argv[1] == "websockets":
        asyncio.run(run_websockets(int(sys.argv[2])))
    else:
        trio.run(run_trio, int(sys.argv[2]))
