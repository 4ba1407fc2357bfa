"""Processes of a cluster and raw clients of them, for tests that need a real Redis."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import attrs
import trio

from syncd.testing.process import ServerProcess
from syncd.testing.raw_client import RawClient
from syncd.testing.redis_server import RedisServer

__all__ = ["ROOM", "Client", "Nodes", "until", "until_answer"]

ROOM = "room:a"
PATIENCE_S = 40.0


@attrs.define(eq=False)
class Nodes:
    """The processes, and the Redis they share."""

    redis: RedisServer
    servers: list[ServerProcess]

    def url(self, number: int) -> str:
        return f"http://127.0.0.1:{self.servers[number].port}"

    @contextlib.asynccontextmanager
    async def client(self, number: int, **hello: Any) -> AsyncIterator[Client]:
        stream = await trio.open_tcp_stream("127.0.0.1", self.servers[number].port)
        async with RawClient.over(stream) as raw, trio.open_nursery() as nursery:
            await raw.upgrade()
            client = Client(raw, await raw.hello(**hello))
            nursery.start_soon(client.read)
            yield client
            nursery.cancel_scope.cancel("the test is done with it")


@attrs.define(eq=False)
class Client:
    """One session: reads all that comes, keeps who is present and who was told to have left."""

    raw: RawClient
    welcome: dict[str, Any]
    present: dict[str, Any] = attrs.field(factory=dict)
    joins: list[str] = attrs.field(factory=list)
    leaves: list[tuple[float, str]] = attrs.field(factory=list)
    closed: str = ""
    ended: list[tuple[str, str]] = attrs.field(factory=list)
    """Subscriptions that the server ended: channel, and why."""
    answers: dict[int, str] = attrs.field(factory=dict)
    refusals: list[str] = attrs.field(factory=list)
    """Of mutations: `decided`, or why not."""
    seq: int | None = None
    num_asked: int = 0

    @property
    def id(self) -> str:
        name: str = self.welcome["clients"][0]["client"]
        return name

    @property
    def claims(self) -> list[dict[str, str]]:
        return [
            {"client": each["client"], "secret": each["secret"]} for each in self.welcome["clients"]
        ]

    async def ask(self, kind: str, **body: Any) -> str:
        """Send a request and wait for `ok`, or the code of the error."""
        self.num_asked += 1
        number = self.num_asked
        await self.raw.send_messages((kind, {"id": number, **body}))
        await until(lambda: number in self.answers)
        return self.answers[number]

    async def announce(self, state: Any) -> None:
        assert await self.ask("presence", channel=ROOM, state=state) == "ok"

    async def watch(self) -> None:
        assert await self.ask("subscribe", channel=ROOM, presence=True) == "ok"
        await until(lambda: self.seq is not None)

    async def mutate(self) -> str:
        """Send a mutation of a collection that is not there; return `decided` for the outcome, or the code of an error."""
        self.refusals.clear()
        await self.raw.send_messages(("mutate", {"mid": 1, "name": "orders.ship"}))
        await until(lambda: self.refusals)
        return self.refusals[0]

    async def read(self) -> None:
        try:
            while True:
                for kind, body in (await self.raw.receive_binary()).messages:
                    self._take(kind, body)
                    if kind == "ping":
                        await self.raw.send_messages(("pong", {}))
        except (EOFError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self.closed = str(error) or type(error).__name__

    def _take(self, kind: str, body: dict[str, Any]) -> None:
        if kind in ("ok", "subscribed", "error") and "id" in body:
            self.answers[body["id"]] = body["code"] if kind == "error" else "ok"
        elif "mid" in body:
            self.refusals.append(body.get("code", "decided"))
        elif kind == "unsubscribed":
            self.ended.append((body["channel"], body["code"]))
        elif kind == "presence_state":
            self.seq = body["seq"]
            self.present = {m["member"]: m["states"][-1]["state"] for m in body["members"]}
        elif kind == "presence_diff":
            assert self.seq is not None
            assert body["seq"] == self.seq + 1
            self.seq = body["seq"]
            self.joins += [member["member"] for member in body["joins"]]
            for member in body["joins"] + body["updates"]:
                self.present[member["member"]] = member["states"][-1]["state"]
            for name in body["leaves"]:
                del self.present[name]
                self.leaves.append((trio.current_time(), name))


async def until(is_so: Callable[[], Any], timeout_s: float = PATIENCE_S) -> None:
    """Wait until something is so; fail when it takes too long."""
    with trio.fail_after(timeout_s):
        while not is_so():  # noqa: ASYNC110 - what is asked has no event of its own
            await trio.sleep(0.01)


async def until_answer(ask: Callable[[], Any], is_so: Callable[[Any], bool]) -> Any:
    """Ask until the answer is as wanted."""
    with trio.fail_after(PATIENCE_S):
        while not is_so(answer := await ask()):  # noqa: ASYNC110 - another process is asked
            await trio.sleep(0.1)
    return answer
