"""A room in a terminal: see what others write and who is there, and write yourself.

    python examples/python_client/room.py ann

Start it twice, stop the server and start it again: both carry on where they were.
"""

import os
import sys

import trio

from syncd.client import Event, Reset, open_client

CHANNEL = "demo:room"


async def show_events(client):
    async with client.subscribe(CHANNEL) as subscription:
        async for item in subscription:
            match item:
                case Event(data={"from": sender, "text": text}):
                    print(f"{sender}: {text}")
                case Reset():
                    print("(some messages may be missing here)")


async def show_members(room):
    async for members in room:
        names = [entry.state["name"] for member in members for entry in member.states]
        print(f"(here: {', '.join(names)})")


async def show_connection(client):
    async for state in client.states():
        print(f"({state.value})")


async def main(name):
    url = os.environ.get("SYNCD_URL", "http://127.0.0.1:8400")
    async with (
        open_client(url) as client,
        client.presence(CHANNEL) as room,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(show_connection, client)
        nursery.start_soon(show_members, room)
        nursery.start_soon(show_events, client)
        await room.set({"name": name})
        while line := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            await client.publish(CHANNEL, {"from": name, "text": line.strip()})
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, sys.argv[1] if len(sys.argv) > 1 else "someone")
