"""The Python client as applications use it: calls, subscriptions and presence over an `Engine`.

Owns who waits for what: replies by request id, handles by channel.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from typing import Any, Self

import trio

from syncd.client.collection import Collection, Entries, Mutation
from syncd.client.core import ClientCore
from syncd.client.engine import Engine, TokenSource
from syncd.client.errors import ClientClosed, RequestFailed
from syncd.client.facts import (
    Complaint,
    Fact,
    HistoryPage,
    Marked,
    PresenceChanged,
    Received,
    RequestResult,
    Reset,
    Settled,
    StateChanged,
    Subscribed,
    SubscriptionEnded,
)
from syncd.client.facts_state import ReadResult
from syncd.client.handles import Presence, Subscription
from syncd.client.rebuilds import RebuildCalls
from syncd.client.tables import ConnectionState
from syncd.client.transport import StreamOpener, Target
from syncd.codes import ErrorCode
from syncd.ids import ChannelName, ClientId, Position

__all__ = ["Client", "States"]

MAX_REQUESTS = 1024
"""Requests that may wait for an answer; further callers wait for a place (BLOCK). Half of what a session may send at once
(`Limits.messages_burst`), so that resending all after a reconnect meets no rate limit."""
BUFFER_EVENTS = 1000
"""Events a subscription keeps for a slow application: with 128-byte data some hundred KiB."""

_log = logging.getLogger("syncd.client")


class _Reply:
    """The answer to one request, for the task that waits for it."""

    __slots__ = ("error", "event", "result")

    def __init__(self) -> None:
        self.event = trio.Event()
        self.result: RequestResult = None
        self.error: Exception | None = None


class States:
    """Connection states, from the present one on. Policy COALESCE: states that were left meanwhile are skipped."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._last: ConnectionState | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ConnectionState:
        """Wait for a state other than the last; stops after a final one."""
        await trio.lowlevel.checkpoint()
        while self._client.state is self._last:
            if self._last.is_final:
                raise StopAsyncIteration
            await self._client.state_changed.wait()
        self._last = self._client.state
        return self._last


class Client(RebuildCalls):
    """A connection that comes back, and what is done over it. Made by `open_client`."""

    def __init__(
        self,
        core: ClientCore,
        target: Target,
        open_stream: StreamOpener,
        token_source: TokenSource | None,
    ) -> None:
        self._core = core
        self._engine = Engine(core, target, open_stream, token_source, self._tell)
        self._entries = Entries(core, self._engine.perform)
        self.state_changed = trio.Event()
        """Set at the next change of state; a new one follows."""
        self._replies: dict[int, _Reply] = {}
        self._places = trio.Semaphore(MAX_REQUESTS)
        self._subscriptions: dict[str, Subscription] = {}
        self._presences: dict[str, Presence] = {}
        self._failed: Callable[[], None] = lambda: None

    # -------------------------------------------------------------------------------- for the application

    @property
    def state(self) -> ConnectionState:
        """What the connection is doing."""
        return self._core.state

    @property
    def client_id(self) -> ClientId | None:
        """The id the server gave this client; it stays over reconnects."""
        claim = self._core.claim
        return None if claim is None else claim.client

    def states(self) -> States:
        """Return an iterator over the connection's states."""
        return States(self)

    def wake(self) -> None:
        """Dial at once if the client waits to: the network is back."""
        self._core.wake(trio.current_time())
        self._engine.perform()

    def set_token(self, token: str) -> None:
        """Use a newer token of the same user, now and on later connections."""
        self._core.set_token(token)
        self._engine.perform()

    async def publish(
        self,
        channel: str,
        data: Any,
        *,
        name: str | None = None,
        key: str | None = None,
        uid: str | None = None,
    ) -> Position | None:
        """Publish an event and return where it stands; None on ephemeral channels.

        Waits while offline and sends again after a reconnect, always under one idempotency key: the event happens once.
        Calls that run at the same time are not ordered among each other.

        Args:
            channel: `namespace:name`.
            data: Any value msgpack can carry.
            name: What kind of event it is.
            key: Conflation and latest-value key.
            uid: Idempotency key; one is made if none is given. Give one to repeat a call safely over a restart.

        Raises:
            RequestFailed: the server refuses it.
            ClientClosed: the client ended first; whether the event happened is unknown.

        Cancellation: the event happens at most once; whether it did is unknown.
        """
        result = await self._call(
            lambda: self._core.publish(ChannelName(channel), data, name=name, key=key, uid=uid)
        )
        assert result is None or isinstance(result, Position)
        return result

    async def history(
        self,
        channel: str,
        *,
        limit: int = 100,
        since: Position | None = None,
        reverse: bool = False,
    ) -> HistoryPage:
        """Return up to `limit` (at most 1,000) events after `since`, or before it and newest first with `reverse`.

        Raises:
            RequestFailed: the server refuses it.
        """
        result = await self._call(
            lambda: self._core.history(
                ChannelName(channel), limit=limit, since=since, reverse=reverse
            )
        )
        assert isinstance(result, HistoryPage)
        return result

    async def read(
        self, collection: str, keys: Iterable[str], *, after: Mapping[str, Position] | None = None
    ) -> ReadResult:
        """Return entries of a collection once, in the order of `keys`.

        Args:
            collection: Its name.
            keys: At most 1,000, all of one partition.
            after: Channel to position: read what is at least that new; for positions of an outcome told elsewhere.

        Raises:
            RequestFailed: the server refuses it.
        """
        result = await self._call(lambda: self._core.read(collection, keys, after=after))
        assert isinstance(result, ReadResult)
        return result

    def collection(self, name: str) -> Collection:
        """Return a collection, to watch and to change."""
        return Collection(name, self._entries)

    def mutate(self, name: str, /, **args: Any) -> Mutation:
        """Change state at the server by a mutator, and show at once what it is going to do. Never waits.

        The mutation is kept in memory, sent in order, and sent again after a reconnection under the same number, until the
        server has decided it; it takes effect at most once. The process's end loses what was not sent.

        Args:
            name: Full name: `<collection>.<mutator>`, or a name alone.
            args: The mutator's arguments.

        Raises:
            RequestFailed: `too_large`.
            QueueFull: too many are pending.
            MutationRejected: the local mutator refused it.
            ClientClosed: the client has ended.
            Exception: whatever the local mutator raised. In every case nothing was queued.
        """
        return self._entries.mutate(name, args)

    async def settled(self) -> None:
        """Wait until no mutation is pending."""
        await self._entries.settled()

    @contextlib.asynccontextmanager
    async def subscribe(
        self,
        channel: str,
        position: Position | None = None,
        *,
        presence: bool = False,
        notices: bool = False,
        buffer: int = BUFFER_EVENTS,
    ) -> AsyncGenerator[Subscription]:
        """Subscribe to a channel while the block runs.

        Args:
            channel: `namespace:name`; one subscription a channel.
            position: Go on from there: everything after it comes first, or a `Reset`.
            presence: Keep `subscription.members`.
            notices: Yield `Subscribed` and `PresenceChanged` too.
            buffer: Events kept for a slow application, at least 2 (see `Subscription`).

        Raises:
            RequestFailed: the server refuses it, or the channel is subscribed already.
        """
        if channel in self._subscriptions:
            raise _refusal(ErrorCode.ALREADY_SUBSCRIBED)
        self._check_open()
        name = ChannelName(channel)
        subscription = Subscription(
            name,
            position=position,
            capacity=max(buffer, 2),
            notices=notices,
            hold=lambda: self._core.hold(name),
            release=lambda: self._release(name),
        )
        self._subscriptions[channel] = subscription
        try:
            self._core.subscribe(name, position, presence=presence or channel in self._presences)
            self._engine.perform()
            await subscription.wait_started()
            yield subscription
        finally:
            self._subscriptions.pop(channel, None)
            subscription.end(None)
            self._leave(name)

    @contextlib.asynccontextmanager
    async def presence(self, channel: str) -> AsyncGenerator[Presence]:
        """Watch who is present in a channel, and announce oneself, while the block runs; leaves at its end.

        Raises:
            RequestFailed: the server refuses it, or it is watched already.
        """
        if channel in self._presences:
            raise _refusal(ErrorCode.ALREADY_SUBSCRIBED)
        self._check_open()
        name = ChannelName(channel)
        presence = Presence(name, lambda state: self._announce(name, state))
        self._presences[channel] = presence
        try:
            self._watch(name, presence)
            self._engine.perform()
            await presence.wait_known()
            yield presence
        finally:
            self._presences.pop(channel, None)
            presence.end(None)
            if presence.is_announced and not self.state.is_final:
                self._core.forget(self._core.set_presence(name, None))
            self._leave(name)

    def _watch(self, channel: ChannelName, presence: Presence) -> None:
        subscription = self._core.find_subscription(channel)
        if subscription is None:
            self._core.subscribe(channel, presence=True)
        elif subscription.presence.is_known:
            presence.put(PresenceChanged(channel, subscription.presence.members))
        else:
            self._core.watch_presence(channel)

    def _leave(self, channel: ChannelName) -> None:
        """A handle is gone: end the subscription, or let it go on for the other handle."""
        if channel in self._presences:
            self._core.release(channel)
        elif channel not in self._subscriptions:
            self._core.unsubscribe(channel)
        self._engine.perform()

    async def _announce(self, channel: ChannelName, state: Any) -> None:
        await self._call(lambda: self._core.set_presence(channel, state))

    def _check_open(self) -> None:
        if self.state.is_final:
            raise self._core.error or ClientClosed("The client is closed.")

    async def _call(self, ask: Callable[[], int]) -> RequestResult:
        """Make a request and wait for its answer."""
        async with self._places:
            request_id = ask()
            reply = self._replies[request_id] = _Reply()
            try:
                self._engine.perform()
                await reply.event.wait()
            finally:
                if self._replies.pop(request_id, None) is not None:
                    self._core.forget(request_id)
        if reply.error is not None:
            raise reply.error
        return reply.result

    def _release(self, channel: ChannelName) -> None:
        self._core.release(channel)
        self._engine.perform()

    # -------------------------------------------------------------------------------- facts

    def _tell(self, fact: Fact) -> None:
        match fact:
            case Settled(request_id=request_id, result=result, error=error):
                reply = self._replies.pop(request_id, None)
                if reply is not None:
                    reply.result, reply.error = result, error
                    reply.event.set()
            case StateChanged():
                self._state_changed(fact)
            case Complaint(code=code, message=message):
                _log.warning("server_complained: %s: %r", code, message)
            case Received(event=event):
                self._tell_handles(event.channel, fact)
            case Marked() | Subscribed() | Reset() | SubscriptionEnded() | PresenceChanged():
                self._tell_handles(fact.channel, fact)
            case _:
                self._entries.tell(fact)

    def _tell_handles(
        self,
        channel: str,
        fact: Received | Marked | Subscribed | Reset | SubscriptionEnded | PresenceChanged,
    ) -> None:
        for handle in (self._subscriptions.get(channel), self._presences.get(channel)):
            if handle is not None:
                handle.put(fact)

    def _state_changed(self, change: StateChanged) -> None:
        _log.debug("state_changed: %s (%s)", change.state.value, change.code)
        self.state_changed.set()
        self.state_changed = trio.Event()
        if change.state is ConnectionState.FAILED:
            self._failed()

    async def aclose(self) -> None:
        """Leave presence and close the connection within a second, even when cancelled. Final."""
        error = ClientClosed("The client was closed.")
        for subscription in self._subscriptions.values():
            subscription.end(error)
        for presence in self._presences.values():
            presence.end(error)
        self._entries.end(error)
        await self._engine.close()

    def start(self, nursery: trio.Nursery) -> None:
        """Start everything; a failure for good cancels the nursery. For `open_client`."""
        self._failed = nursery.cancel_scope.cancel
        self._engine.start(nursery)


def _refusal(code: ErrorCode) -> RequestFailed:
    return RequestFailed(code.value, code.text, retryable=code.retryable)
