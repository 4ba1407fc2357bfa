"""Clients that add to counters and watch them, on whichever node they land, and never give up."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import attrs
import trio

from syncd.testing.counter_history import CounterHistory, Decided, WatchedCounters
from syncd.testing.crowd import Peer, PublishingPeer, wait_as_told
from syncd.testing.plain_client import Closed, Message, PlainClient

KEYS = ["a", "b", "c", "d", "e"]
COLLECTION = "counters"


@attrs.define(eq=False)
class Pending:
    """A mutation that no outcome was told of."""

    key: str
    num_sent: int = 0


class Adder(Peer):
    """Keeps some mutations in flight, and reads what it wrote, here and on the next node."""

    def __init__(
        self,
        name: str,
        port: Callable[[], int],
        history: CounterHistory,
        rng: random.Random,
        *,
        window: int,
        pause_s: float,
    ) -> None:
        super().__init__(port)
        self.name = name
        self.is_stopping = False
        self.num_retryable = self.num_resent = self.num_known = self.num_unknown = 0
        self.errors: dict[str, int] = {}
        self._history = history
        self._rng = rng
        self._window = window
        self._pause_s = pause_s
        self._acknowledged = 0
        """Highest mid that an outcome was told of; lower ones may be pending where they were sent again."""
        self._num_stale = 0
        self._next = 1
        self._pending: dict[int, Pending] = {}
        self._positions: dict[str, Any] = {}
        self._reading = 0
        self._known: dict[str, Decided] = {}
        """When it was read last."""

    @property
    def is_settled(self) -> bool:
        """Whether the outcome of everything ever sent is known."""
        return not self._pending

    def _greeting(self) -> dict[str, Any]:
        return {"after": self._positions} if self._positions else {}

    def _welcomed(self, told: dict[str, Any]) -> None:
        last = told["last_mid"]
        if "secret" in told and self._next > 1:
            self._history.lost(self.name)
            self._begin_again(last)
        elif self._history.welcomed(self.name, last, self._acknowledged, self._next - 1):
            self._begin_again(last)
        else:
            self.num_known += last > self._acknowledged

    def _begin_again(self, last: int) -> None:
        """The server lost mutations of ours: those without an outcome are made again, with new numbers."""
        pending = list(self._pending.values())
        self._acknowledged, self._next = last, last + 1
        self._pending, self._positions = {}, {}
        self._num_stale = 0
        for each in pending:
            self._pending[self._next] = Pending(each.key)
            self._next += 1

    async def _connected(self, client: PlainClient) -> None:
        await self._read(client)
        self.num_resent += len(self._pending)
        await self._send(client, 0)
        await self._fill(client)

    def _disconnected(self) -> None:
        pass

    async def _send(self, client: PlainClient, first: int) -> None:
        messages: list[Message] = []
        for mid, pending in self._pending.items():
            if mid >= first:
                pending.num_sent += 1
                body = {"mid": mid, "name": f"{COLLECTION}.add", "args": [pending.key]}
                messages.append(("mutate", body))
        if messages:
            await client.send_many(*messages)

    async def _fill(self, client: PlainClient) -> None:
        if self.is_stopping or len(self._pending) >= self._window:
            return
        await trio.sleep(self._pause_s)
        first = self._next
        while len(self._pending) < self._window:
            self._pending[self._next] = Pending(self._rng.choice(KEYS))
            self._next += 1
        await self._send(client, first)

    async def _read(self, client: PlainClient) -> None:
        self._reading += 1
        self._known = self._history.known(self.name)
        await client.send("read", id=self._reading, collection=COLLECTION, keys=KEYS)

    async def _take(self, client: PlainClient, message: Message) -> None:
        kind, body = message
        if kind == "outcome":
            await self._outcome(client, body)
        elif kind == "out_of_order":
            await self._out_of_order(client, body["expect"])
        elif kind == "ok":
            self._have_read(body)
        elif kind == "error":
            await self._error(client, body)
        else:
            await super()._take(client, message)

    async def _outcome(self, client: PlainClient, body: dict[str, Any]) -> None:
        pending = self._pending.pop(body["mid"], None)
        if body["status"] == "unknown" and pending is None:
            return  # sent again before its outcome came, and acknowledged before the server took it
        if body["status"] == "unknown" and self._history.may_lose:
            # An acknowledgement of before the loss may drop an outcome of after it: the client is told that it is not known.
            self._acknowledged = max(self._acknowledged, body["mid"])
            self.num_unknown += 1
            return
        if body["status"] != "ok":
            self._history.breach(f"{self.name} was told {body}")
            return
        ((_, position),) = body["positions"].items()
        told = Decided(
            self.name,
            body["mid"],
            "?" if pending is None else pending.key,
            body["value"],
            position["epoch"],
            position["offset"],
        )
        if pending is None:
            return  # sent again before its outcome came
        for mid, before in self._pending.items():
            if mid < body["mid"] and before.num_sent < 2:
                self._history.breach(f"{self.name}: {body} before {mid}, which was sent once")
        self._num_stale = 0
        self._acknowledged = max(self._acknowledged, body["mid"])
        self._history.decided(told)
        self._reach(position)
        if self._rng.random() < 0.1:
            await client.send(
                "mutate_ack", upto=min(self._pending, default=self._acknowledged + 1) - 1
            )
        if self._rng.random() < 0.2:
            await self._read(client)
        await self._fill(client)

    def _reach(self, position: dict[str, Any]) -> None:
        """Remember the newest position: an outcome that is told again may be older than others."""
        known = self._positions.get(COLLECTION)
        if (
            known is None
            or known["epoch"] != position["epoch"]
            or known["offset"] < position["offset"]
        ):
            self._positions = {COLLECTION: position}

    async def _out_of_order(self, client: PlainClient, expect: int) -> None:
        """SPEC 18: one that expects what is decided says only that the first undecided one is to be sent again."""
        if expect not in self._pending:
            self._num_stale += 1
            if self._num_stale > 5:
                raise Closed
        await self._send(client, expect)

    def _have_read(self, body: dict[str, Any]) -> None:
        if body["id"] == self._reading and "entries" in body:
            for entry in body["entries"]:
                self._history.read(self.name, self._known, body["position"]["epoch"], entry)

    async def _error(self, client: PlainClient, body: dict[str, Any]) -> None:
        if not body["retryable"]:
            self._history.breach(f"{self.name} was told {body}")
            raise Closed
        self.num_retryable += 1
        self.errors[body["code"]] = self.errors.get(body["code"], 0) + 1
        await wait_as_told(body)
        if "mid" in body:
            await self._send(client, body["mid"])
        else:
            await self._read(client)


class Watcher(Peer):
    """Watches all counters, from where it stands."""

    def __init__(self, name: str, port: Callable[[], int], history: CounterHistory) -> None:
        super().__init__(port)
        self.view = WatchedCounters(history, name)
        self._id = 0

    async def _connected(self, client: PlainClient) -> None:
        self._id += 1
        position = self.view.position()
        asked = {} if position is None else {"position": position}
        await client.send("watch", id=self._id, collection=COLLECTION, all=True, **asked)

    def _disconnected(self) -> None:
        self.view.disconnected()

    async def _take(self, client: PlainClient, message: Message) -> None:
        kind, body = message
        if kind in ("watched", "snapshot", "event", "mark"):
            getattr(self.view, kind)(body)
        elif kind == "lagged":
            self._disconnected()
            await self._connected(client)
        elif kind == "error":
            if not body["retryable"]:
                self.view.history.breach(f"{self.view.name} was told {body}")
            await wait_as_told(body)
            await self._connected(client)
        elif kind == "unsubscribed":
            self.view.history.breach(f"{self.view.name} was told {body}")
        else:
            await super()._take(client, message)


class Publisher(PublishingPeer):
    """A publisher that takes its time."""

    pause_s = 0.02

    async def _fill(self, client: PlainClient) -> None:
        await trio.sleep(self.pause_s)
        await super()._fill(client)
