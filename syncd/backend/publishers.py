"""The two publishers: the same calls, one that blocks and one that awaits.

Each owns an HTTP connection pool, made on first use of httpx, and nothing else. Both may be shared: `Publisher` by threads,
`AsyncPublisher` by the tasks of one event loop (asyncio or Trio).
"""

from __future__ import annotations

import ipaddress
import random
import secrets
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import anyio
import httpx

from syncd.backend import calls
from syncd.backend.attempts import Attempts, RetryPolicy
from syncd.backend.calls import Call, ChannelInfo, History, Members, Publication
from syncd.backend.errors import Refused
from syncd.backend.state_methods import AsyncStateMethods, StateMethods
from syncd.ids import Position

__all__ = ["AsyncPublisher", "Publisher"]

T = TypeVar("T")

TIMEOUT_S = 35.0
"""The server answers within 30 s (`Timing.http_request_s`), if only to say that it cannot."""
CONNECT_TIMEOUT_S = 5.0


def _api_url(url: str) -> str:
    """Return the address of the HTTP API; a WebSocket URL of the same node will do."""
    parts = urlsplit(url)
    scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
    if scheme not in ("http", "https") or not parts.hostname:
        msg = f"Not an HTTP URL: {url!r}. Write http://HOST:PORT or https://HOST."
        raise ValueError(msg)
    path = parts.path.removesuffix("/").removesuffix("/ws")
    return f"{scheme}://{parts.netloc}{path}"


def _http_options(url: str, api_key: str | None, timeout_s: float) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    options = {
        "base_url": _api_url(url),
        "headers": headers,
        "timeout": httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S),
    }
    if _is_loopback(urlsplit(url).hostname):
        options["trust_env"] = False
        options["verify"] = ssl.create_default_context()  # which SSL_CERT_FILE counts for
    return options


def _is_loopback(host: str | None) -> bool:
    """Whether a proxy of the environment could not reach it anyway."""
    try:
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def _request_options(call: Call[Any]) -> dict[str, Any]:
    headers = {} if call.key is None else {"Idempotency-Key": call.key}
    options: dict[str, Any] = {"headers": headers, "params": call.query}
    return options if call.body is None else {**options, "json": call.body}


def _publication_calls(
    publications: Sequence[Publication], key: str | None
) -> Call[tuple[Position | Refused | None, ...]]:
    return calls.batch(publications, key or secrets.token_urlsafe(16))


class Publisher(StateMethods):
    """Publishes, changes collections and acts over the HTTP API, blocking.

    Args:
        url: `http://HOST:PORT` of a node.
        api_key: Sent with every call; None sends none.
        timeout_s: For one attempt.
        retry: How often and how patiently a call is tried again.
        http: An httpx client to use instead of an own one; the caller closes it.
        sleep: Waits between attempts.

    Every method raises `Unauthorized` (the key), `Refused` (any other answer but success), or `Unreachable`.
    """

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
        retry: RetryPolicy | None = None,
        http: httpx.Client | None = None,
        sleep: Callable[[float], None] = time.sleep,  # noqa: TID251 - this one is meant to block its thread
    ) -> None:
        self._http = http or httpx.Client(**_http_options(url, api_key, timeout_s))
        self._owns_http = http is None
        self._retry = retry or RetryPolicy()
        self._sleep = sleep
        self._rng = random.Random(secrets.randbits(64))  # noqa: S311 - jitter needs no secrecy

    def _do(self, call: Call[T]) -> T:
        attempts = Attempts(call, self._retry, self._rng)
        while True:
            try:
                response = self._http.request(call.method, call.path, **_request_options(call))
            except httpx.HTTPError as failure:
                self._sleep(attempts.failed(failure))
                continue
            wait_s = attempts.answered(response)
            if wait_s is None:
                return attempts.result
            self._sleep(wait_s)

    def publish(
        self,
        channel: str,
        data: Any,
        *,
        name: str | None = None,
        key: str | None = None,
        uid: str | None = None,
    ) -> Position | None:
        """Publish an event and return its position; None on ephemeral channels. It happens once, whatever is repeated.

        Args:
            channel: `namespace:name`.
            data: Anything JSON can hold, or bytes.
            name: What kind of event it is.
            key: Conflation and latest-value key.
            uid: Idempotency key; one is made if none is given. Derive it from what caused the event (an order's id and
                version, say) and the call is safe to repeat after a crash too.
        """
        publication = Publication(channel, data, name, key)
        return self._do(calls.publish(publication, uid or secrets.token_urlsafe(16)))

    def batch(
        self, publications: Sequence[Publication], *, key: str | None = None
    ) -> tuple[Position | Refused | None, ...]:
        """Publish up to 1,000 events, in order; return an outcome each: a position, None, or a refusal."""
        return self._do(_publication_calls(publications, key))

    def disconnect(
        self,
        *,
        user: str | None = None,
        session: str | None = None,
        client: str | None = None,
        reconnect: bool = False,
        reason: str | None = None,
    ) -> int:
        """End the sessions of whoever is named, to stay away or to reconnect; return how many."""
        who = {"user": user, "session": session, "client": client}
        return self._do(calls.disconnect(who, reconnect=reconnect, reason=reason))

    def unsubscribe(
        self,
        channel: str,
        *,
        user: str | None = None,
        session: str | None = None,
        client: str | None = None,
    ) -> int:
        """End the subscriptions of a channel by whoever is named; return of how many sessions."""
        who = {"user": user, "session": session, "client": client}
        return self._do(calls.unsubscribe(channel, who))

    def revoke(
        self, *, user: str | None = None, token_id: str | None = None, until_ms: int | None = None
    ) -> int:
        """Refuse a user's tokens, or one token, from now on, and end their sessions; return how many."""
        return self._do(calls.revoke({"user": user, "token_id": token_id}, until_ms))

    def history(
        self,
        channel: str,
        *,
        limit: int = 100,
        since: Position | None = None,
        reverse: bool = False,
    ) -> History:
        """Read up to 1,000 events after `since`; before it and newest first with `reverse`."""
        return self._do(calls.history(channel, limit=limit, since=since, reverse=reverse))

    def presence(self, channel: str, *, limit: int = 1000) -> Members:
        """Read who is present in a channel."""
        return self._do(calls.presence(channel, limit))

    def channels(self, prefix: str = "", *, limit: int = 100) -> tuple[ChannelInfo, ...]:
        """Read which channels are in use on this node."""
        return self._do(calls.channels(prefix, limit))

    def info(self) -> dict[str, Any]:
        """Read how the node does."""
        return self._do(calls.info())

    def close(self) -> None:
        """Close the connections."""
        if self._owns_http:
            self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class AsyncPublisher(AsyncStateMethods):
    """`Publisher` for asyncio and Trio: the same arguments, methods and errors.

    Cancellation: whether the call took effect is unknown; repeating it with the same `uid` is safe.
    """

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
        retry: RetryPolicy | None = None,
        http: httpx.AsyncClient | None = None,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self._http = http or httpx.AsyncClient(**_http_options(url, api_key, timeout_s))
        self._owns_http = http is None
        self._retry = retry or RetryPolicy()
        self._sleep = sleep
        self._rng = random.Random(secrets.randbits(64))  # noqa: S311 - jitter needs no secrecy

    async def _do(self, call: Call[T]) -> T:
        attempts = Attempts(call, self._retry, self._rng)
        while True:
            try:
                response = await self._http.request(
                    call.method, call.path, **_request_options(call)
                )
            except httpx.HTTPError as failure:
                await self._sleep(attempts.failed(failure))
                continue
            wait_s = attempts.answered(response)
            if wait_s is None:
                return attempts.result
            await self._sleep(wait_s)

    async def publish(
        self,
        channel: str,
        data: Any,
        *,
        name: str | None = None,
        key: str | None = None,
        uid: str | None = None,
    ) -> Position | None:
        """As `Publisher.publish`."""
        publication = Publication(channel, data, name, key)
        return await self._do(calls.publish(publication, uid or secrets.token_urlsafe(16)))

    async def batch(
        self, publications: Sequence[Publication], *, key: str | None = None
    ) -> tuple[Position | Refused | None, ...]:
        """As `Publisher.batch`."""
        return await self._do(_publication_calls(publications, key))

    async def disconnect(
        self,
        *,
        user: str | None = None,
        session: str | None = None,
        client: str | None = None,
        reconnect: bool = False,
        reason: str | None = None,
    ) -> int:
        """As `Publisher.disconnect`."""
        who = {"user": user, "session": session, "client": client}
        return await self._do(calls.disconnect(who, reconnect=reconnect, reason=reason))

    async def unsubscribe(
        self,
        channel: str,
        *,
        user: str | None = None,
        session: str | None = None,
        client: str | None = None,
    ) -> int:
        """As `Publisher.unsubscribe`."""
        who = {"user": user, "session": session, "client": client}
        return await self._do(calls.unsubscribe(channel, who))

    async def revoke(
        self, *, user: str | None = None, token_id: str | None = None, until_ms: int | None = None
    ) -> int:
        """As `Publisher.revoke`."""
        return await self._do(calls.revoke({"user": user, "token_id": token_id}, until_ms))

    async def history(
        self,
        channel: str,
        *,
        limit: int = 100,
        since: Position | None = None,
        reverse: bool = False,
    ) -> History:
        """As `Publisher.history`."""
        return await self._do(calls.history(channel, limit=limit, since=since, reverse=reverse))

    async def presence(self, channel: str, *, limit: int = 1000) -> Members:
        """As `Publisher.presence`."""
        return await self._do(calls.presence(channel, limit))

    async def channels(self, prefix: str = "", *, limit: int = 100) -> tuple[ChannelInfo, ...]:
        """As `Publisher.channels`."""
        return await self._do(calls.channels(prefix, limit))

    async def info(self) -> dict[str, Any]:
        """As `Publisher.info`."""
        return await self._do(calls.info())

    async def aclose(self) -> None:
        """Close the connections."""
        if self._owns_http:
            await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()
