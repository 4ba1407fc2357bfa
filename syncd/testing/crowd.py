"""Publishers and subscribers that never give up.

They reconnect, resend and recover as SPEC section 13 wants it, and note everything in a `History`. Owner of: each peer's
connection and what it still waits for. A test waits for conditions on them, each with a deadline.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import trio

from syncd.testing.history import History, Observer
from syncd.testing.plain_client import Closed, Message, PlainClient

__all__ = [
    "Crowd",
    "Peer",
    "PublishingPeer",
    "SubscribingPeer",
    "read_log",
    "wait_as_told",
    "wait_until",
]

RETRY_S = 0.05
MAX_WAIT_S = 0.2


async def wait_until(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Return once `condition` holds; AssertionError naming `what` after `timeout_s`."""
    with trio.move_on_after(timeout_s):
        while not condition():  # noqa: ASYNC110 - any condition of a test, on peers that know no events
            await trio.sleep(0.005)
        return
    raise AssertionError(f"not within {timeout_s:g} s: {what}")


async def wait_as_told(error: dict[str, Any]) -> None:
    """Wait as an error says, though never for long: a test is impatient."""
    await trio.sleep(min(error.get("after_ms", 0) / 1000, MAX_WAIT_S))


class Peer:
    """One client over all its connections, always the same identity."""

    def __init__(self, port: int | Callable[[], int]) -> None:
        """Connect to nothing yet; a callable says at each connection where to, as a balancer would."""
        self.port = port
        self.silence_s = math.inf
        """A connection over which nothing comes for so long is dead, and so is one that does not open."""
        self.num_connections = 0
        self.byes: list[int] = []
        self.close_codes: list[int | None] = []
        self._identity: dict[str, str] | None = None
        self._client: PlainClient | None = None

    async def run(self) -> None:
        """Serve for ever: connect, work, and again after every end of a connection."""
        while True:
            try:
                await self._live()
            except (OSError, Closed) as error:
                if isinstance(error, Closed):
                    self.close_codes.append(error.code)
                self._disconnected()
                await trio.sleep(RETRY_S)

    async def hang_up(self) -> None:
        """End the connection, if there is one; another follows."""
        if self._client is not None:
            await self._client.aclose()

    async def _live(self) -> None:
        port = self.port if isinstance(self.port, int) else self.port()
        with self._patience():
            client = await PlainClient.connect(port)
        try:
            with self._patience():
                await self._greet(client)
            self._client = client
            self.num_connections += 1
            await self._connected(client)
            while True:
                with self._patience():
                    message = await client.receive()
                await self._take(client, message)
        finally:
            self._client = None
            await client.aclose()

    @contextlib.contextmanager
    def _patience(self) -> Iterator[None]:
        try:
            with trio.fail_after(self.silence_s):
                yield
        except trio.TooSlowError:
            raise Closed from None

    async def _greet(self, client: PlainClient) -> None:
        claims = [] if self._identity is None else [self._identity]
        welcome = await client.hello(clients=claims, **self._greeting())
        told = welcome["clients"][0]
        if "secret" in told:
            self._identity = {"client": told["client"], "secret": told["secret"]}
        self._welcomed(told)

    def _greeting(self) -> dict[str, Any]:
        """What else to say in `hello`."""
        return {}

    def _welcomed(self, told: dict[str, Any]) -> None:
        """`told` is what `welcome` says of this client."""

    async def _connected(self, client: PlainClient) -> None:
        raise NotImplementedError

    def _disconnected(self) -> None:
        raise NotImplementedError

    async def _take(self, client: PlainClient, message: Message) -> None:
        kind, body = message
        if kind == "ping":
            await client.send("pong")
        elif kind == "bye":
            self.byes.append(body["code"])


class PublishingPeer(Peer):
    """Keeps `window` publications in flight; what was not acknowledged is resent under its uid, in order."""

    def __init__(
        self,
        name: str,
        port: int | Callable[[], int],
        channel: str,
        history: History,
        *,
        window: int = 2,
    ) -> None:
        super().__init__(port)
        self.name = name
        self.channel = channel
        self.is_stopping = False
        self.num_acknowledged = 0
        self.num_resent = 0
        self.num_retryable = 0
        self._history = history
        self._window = window
        self._next = 0
        self._in_flight: dict[int, dict[str, Any]] = {}

    @property
    def is_settled(self) -> bool:
        """Whether everything ever sent was acknowledged."""
        return not self._in_flight

    async def _connected(self, client: PlainClient) -> None:
        self.num_resent += len(self._in_flight)
        if self._in_flight:
            await client.send_many(*(("publish", body) for body in self._in_flight.values()))
        await self._fill(client)

    def _disconnected(self) -> None:
        pass

    async def _fill(self, client: PlainClient) -> None:
        fresh: list[Message] = []
        while len(self._in_flight) < self._window and not self.is_stopping:
            self._next += 1
            uid = f"{self.name}-{self._next}"
            data = {"uid": uid, "by": self.name, "n": self._next}
            body = {"id": self._next, "channel": self.channel, "data": data, "uid": uid}
            self._in_flight[self._next] = body
            fresh.append(("publish", body))
        if fresh:
            await client.send_many(*fresh)

    async def _take(self, client: PlainClient, message: Message) -> None:
        kind, body = message
        if kind == "ok":
            sent = self._in_flight.pop(body["id"])
            self.num_acknowledged += 1
            self._history.acknowledged(self.channel, sent["uid"], body["position"])
            await self._fill(client)
        elif kind == "error":
            if not body["retryable"]:
                self._history.breach(f"{self.name} was told {body}")
            self.num_retryable += 1
            await wait_as_told(body)
            await client.send("publish", **self._in_flight[body["id"]])
        else:
            await super()._take(client, message)


class SubscribingPeer(Peer):
    """Subscribed to some channels, over reconnections from its positions; every message goes to its observers."""

    def __init__(
        self,
        name: str,
        port: int | Callable[[], int],
        channels: Sequence[str],
        history: History,
    ) -> None:
        super().__init__(port)
        self.name = name
        self.observers: dict[str, Observer] = {
            channel: history.observer(name, channel) for channel in channels
        }
        self._asked: list[Observer] = []
        """Whom each request is for, by its id."""
        self._history = history

    async def _connected(self, client: PlainClient) -> None:
        self._asked = []
        for observer in self.observers.values():
            await self._subscribe(client, observer)

    async def _subscribe(self, client: PlainClient, observer: Observer) -> None:
        self._asked.append(observer)
        index = len(self._asked) - 1
        position = observer.position()
        extra = {} if position is None else {"position": position}
        await client.send("subscribe", id=index, channel=observer.channel, **extra)

    def _disconnected(self) -> None:
        for observer in self.observers.values():
            observer.disconnected()

    async def _take(self, client: PlainClient, message: Message) -> None:
        kind, body = message
        observer = self.observers.get(body.get("channel", ""))
        if observer is not None and observer.take(kind, body):
            if kind == "lagged":
                await self._subscribe(client, observer)
        elif kind == "error":
            if not body["retryable"]:
                self._history.breach(f"{self.name} was told {body}")
            await wait_as_told(body)
            if "id" not in body:
                raise Closed  # what it is about is not known: connect anew
            await self._subscribe(client, self._asked[body["id"]])
        else:
            await super()._take(client, message)


class Crowd:
    """Some publishers and subscribers in one nursery."""

    def __init__(self, port: int, channels: Sequence[str], history: History) -> None:
        self.port = port
        self.channels = channels
        self.history = history
        self.publishers: list[PublishingPeer] = []
        self.subscribers: list[SubscribingPeer] = []

    async def subscribe(self, nursery: trio.Nursery, count: int, timeout_s: float = 20.0) -> None:
        """Start subscribers and wait until all are subscribed everywhere."""
        for index in range(count):
            peer = SubscribingPeer(f"subscriber{index}", self.port, self.channels, self.history)
            self.subscribers.append(peer)
            nursery.start_soon(peer.run)
        await wait_until(self.all_subscribed, timeout_s, "everybody subscribed")

    def publish(self, nursery: trio.Nursery, count: int, *, window: int = 2) -> None:
        """Start publishers, spread over the channels."""
        for index in range(count):
            channel = self.channels[index % len(self.channels)]
            peer = PublishingPeer(
                f"publisher{index}", self.port, channel, self.history, window=window
            )
            self.publishers.append(peer)
            nursery.start_soon(peer.run)

    def all_subscribed(self) -> bool:
        """Whether every subscriber is subscribed to all its channels now."""
        return all(o.is_subscribed for peer in self.subscribers for o in peer.observers.values())

    async def settle(self, timeout_s: float = 30.0) -> None:
        """Publish nothing new, and wait until everything sent is acknowledged."""
        for peer in self.publishers:
            peer.is_stopping = True
        await wait_until(
            lambda: all(peer.is_settled for peer in self.publishers), timeout_s, "all acknowledged"
        )

    async def check(self, timeout_s: float = 30.0) -> int:
        """Read the logs, wait until every subscriber is at their top, and hold everything against everything.

        Returns:
            Events in the logs.
        """
        num_events = 0
        for channel in self.channels:
            epoch, events = await read_log(self.port, channel)
            top = events[-1]["offset"] if events else 0
            observers = [peer.observers[channel] for peer in self.subscribers]

            def is_there(watching: Sequence[Observer] = observers, offset: int = top) -> bool:
                return all(o.offset >= offset and o.is_subscribed for o in watching)

            await wait_until(is_there, timeout_s, f"every subscriber at {top} of {channel}")
            self.history.check_log(channel, epoch, events)
            self.history.check_complete(channel, top)
            self._check_publishers_order(channel, events)
            num_events += len(events)
        return num_events

    def _check_publishers_order(self, channel: str, events: Sequence[dict[str, Any]]) -> None:
        """Publications of one client to one channel keep their order, those resent after a reconnection included.

        One that was refused and sent again may come behind its successors.
        """
        last: dict[str, int] = {}
        refused = {peer.name for peer in self.publishers if peer.num_retryable}
        for body in events:
            by, number = body["data"]["by"], body["data"]["n"]
            if by not in refused and number != last.get(by, 0) + 1:
                self.history.breach(f"{channel}: {by} has {number} after {last.get(by, 0)}")
            last[by] = number


async def read_log(
    port: int, channel: str, *, limit: int = 500
) -> tuple[str, list[dict[str, Any]]]:
    """Read a channel's whole log by history paging, from the oldest event kept; returns its epoch and events."""
    client = await PlainClient.connect(port)
    try:
        await client.hello()
        events: list[dict[str, Any]] = []
        since: dict[str, Any] = {}
        while True:
            kind, body = await client.ask("history", channel=channel, limit=limit, **since)
            assert kind == "ok", body
            events += body["events"]
            top = body["position"]
            if not body["events"] or events[-1]["offset"] == top["offset"]:
                return top["epoch"], events
            last = {"epoch": top["epoch"], "offset": events[-1]["offset"]}
            since = {"since": last}
    finally:
        await client.aclose()
