"""One connection to Redis, opened again whenever it ends: the Trio shell round a state that decides.

Owner of: the socket, its two tasks (one writes, one reads) and its heartbeat. A send that was cut short ends the connection: nothing is ever
written behind a torn command. `Subscriptions` and `Publications` are the states.

Invariant: a link is up only after the first PING of its connection was answered. It is written behind all that there was to ask first, and
answers come in order, so a link that Redis lets in and then refuses, as without the right to subscribe, never was up.
"""

from __future__ import annotations

import functools
import os
import ssl
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol

import attrs
import hiredis
import structlog
import trio

from syncd.bus.backoff import Backoff
from syncd.bus.commands import PING, LinkLost, ReplyReader, check_hello, hello
from syncd.bus.heartbeat import Heartbeat
from syncd.bus.settings import BusSettings
from syncd.ports_bus import LinkStatistics
from syncd.redis_address import Endpoint

__all__ = ["Dialer", "Link", "LinkState"]

_log = structlog.get_logger("syncd.bus")

_FAILURES = (OSError, trio.BrokenResourceError, LinkLost, hiredis.ProtocolError)
"""What ends a connection and is answered by the next one; anything else is our own fault and ends the bus. `ssl.SSLError` is an OSError."""


_CLOSED = "closed by Redis"


class LinkState(Protocol):
    """What decides on one link: `Subscriptions` or `Publications`."""

    def open(self) -> None:
        """A new connection is ready to be written to; it is not up yet."""

    def close(self) -> None:
        """The connection is over."""

    def has_output(self) -> bool:
        """Whether there is anything to write."""

    def take_output(self) -> bytes:
        """Return what is to be written, as one piece."""

    def take_replies(self, replies: Iterable[Any]) -> int:
        """Take what one read brought; returns the number of PINGs answered. Raises `LinkLost`."""


@attrs.frozen
class Dialer:
    """How connections of one bus are opened."""

    name: str
    """Told as CLIENT SETNAME, with the role behind it."""
    settings: BusSettings
    username: str | None = None
    password: str | None = attrs.field(default=None, repr=False)
    ssl_context: ssl.SSLContext | None = None

    async def open(self, endpoint: Endpoint, role: str) -> trio.abc.Stream:
        """Connect and be admitted.

        Raises:
            OSError, trio.BrokenResourceError: it cannot be reached, or in time.
            LinkLost: it refused.

        Cancellation: nothing is left behind.
        """
        with trio.move_on_after(self.settings.connect_s) as scope:
            stream = await self._connect(endpoint)
            try:
                await stream.send_all(hello(f"{self.name}:{role}", self.username, self.password))
                await self._be_admitted(stream)
            except BaseException:
                await trio.aclose_forcefully(stream)
                raise
            return stream
        assert scope.cancelled_caught
        raise LinkLost(f"not admitted within {self.settings.connect_s:g} s")

    async def _connect(self, endpoint: Endpoint) -> trio.abc.Stream:
        if endpoint.path is not None:
            return await trio.open_unix_socket(endpoint.path)
        plain = await trio.open_tcp_stream(endpoint.host, endpoint.port)
        if self.ssl_context is None:
            return plain
        host = endpoint.host
        return trio.SSLStream(plain, self.ssl_context, server_hostname=host, https_compatible=True)

    async def _be_admitted(self, stream: trio.abc.Stream) -> None:
        reader = ReplyReader()
        while True:
            for answer in reader.read(await _receive(stream, 4096)):
                check_hello(answer)
                return


async def _receive(stream: trio.abc.Stream, size: int) -> bytes | bytearray:
    data = await stream.receive_some(size)
    if not data:
        raise LinkLost(_CLOSED)
    return data


def _receiver(stream: trio.abc.Stream, size: int) -> Callable[[], Awaitable[bytes | bytearray]]:
    """Return what reads next from a stream that has no other reader.

    `receive_some` tries to read before it waits, which costs a system call and an exception where answers come one by one. A socket of the
    system's own is waited for first, and then read at once.
    """
    if os.name == "posix" and isinstance(stream, trio.SocketStream):
        return functools.partial(_wait_and_read, stream.socket.fileno(), size)
    return functools.partial(_receive, stream, size)


async def _wait_and_read(fd: int, size: int) -> bytes:
    while True:
        await trio.lowlevel.wait_readable(fd)
        try:
            data = os.read(fd, size)
        except BlockingIOError:
            continue  # woken for nothing
        if not data:
            raise LinkLost(_CLOSED)
        return data


class Link:
    """One connection that is opened again whenever it ends.

    Args:
        role: `subscribe` or `publish`.
        endpoint: Where to.
        state: Decides; told of every beginning and end.
        dialer: Opens.
        chance: Between 0 and 1, for the backoff.
        on_change: Called when it is up, and at every end, after `state` knows.
    """

    def __init__(
        self,
        role: str,
        endpoint: Endpoint,
        state: LinkState,
        dialer: Dialer,
        *,
        chance: Callable[[], float],
        on_change: Callable[[Link], None],
    ) -> None:
        self.role, self.endpoint = role, endpoint
        self.is_up = False
        self.num_lost = 0
        self._state, self._dialer, self._on_change = state, dialer, on_change
        self._settings = dialer.settings
        self._backoff = Backoff(self._settings.backoff_min_s, self._settings.backoff_max_s, chance)
        self._heartbeat: Heartbeat | None = None
        self._wake = trio.Event()
        self._last_error = ""

    def wake(self) -> None:
        """There is output: the writer takes everything of this tick."""
        self._wake.set()

    def statistics(self) -> LinkStatistics:
        """How it is now."""
        beat = self._heartbeat
        return LinkStatistics(
            self.role,
            str(self.endpoint),
            self.is_up,
            None if beat is None else beat.round_trip_s,
            self._last_error,
        )

    async def run(self) -> None:
        """Hold a connection, for ever.

        Cancellation: the connection is closed at once and the state told so.
        """
        while True:
            lost = await self._attempt()
            # Trio tells what TLS or the system said by the cause alone.
            reason = str(lost) or str(lost.__cause__ or "") or type(lost).__name__
            if reason != self._last_error:
                _log.warning(
                    "bus_link_lost", role=self.role, address=str(self.endpoint), reason=reason
                )
            self._last_error = reason
            self._on_change(self)
            await trio.sleep(self._backoff.next_s())

    async def _attempt(self) -> Exception:
        """Hold one connection as long as it lasts; returns why it ended."""
        try:
            stream = await self._dialer.open(self.endpoint, self.role)
        except _FAILURES as failure:
            return failure
        opened_at = trio.current_time()
        try:
            return await self._hold(stream)
        finally:
            self.num_lost += self.is_up
            self.is_up = False
            self._state.close()
            self._on_change(self)
            if trio.current_time() - opened_at >= self._settings.stable_s:
                self._backoff.reset()
            await trio.aclose_forcefully(stream)

    async def _hold(self, stream: trio.abc.Stream) -> Exception:
        beat = Heartbeat(self._settings.ping_s, self._settings.pong_s, trio.current_time())
        self._heartbeat = beat
        self._state.open()
        failures: list[Exception] = []

        async def guard(work: Callable[..., Awaitable[None]]) -> None:
            try:
                await work(stream, beat, nursery.cancel_scope)
            except _FAILURES as failure:
                failures.append(failure)
                nursery.cancel_scope.cancel("link lost")

        async with trio.open_nursery() as nursery:
            nursery.cancel_scope.deadline = beat.deadline
            nursery.start_soon(guard, self._write)
            nursery.start_soon(guard, self._read)
        if failures:
            return failures[0]
        silent_s = self._settings.ping_s + self._settings.pong_s
        return LinkLost(f"no answer to PING within {silent_s:g} s")

    async def _write(
        self, stream: trio.abc.Stream, beat: Heartbeat, _scope: trio.CancelScope
    ) -> None:
        while True:
            self._wake = trio.Event()
            output = self._state.take_output()
            if beat.ask(trio.current_time()):
                output += PING
            if output:
                await stream.send_all(output)
            if not self._state.has_output():
                with trio.move_on_at(beat.due_at):
                    await self._wake.wait()

    async def _read(
        self, stream: trio.abc.Stream, beat: Heartbeat, scope: trio.CancelScope
    ) -> None:
        receive = _receiver(stream, self._settings.read_bytes)
        read, take = ReplyReader().read, self._state.take_replies
        while True:
            if take(read(await receive())):
                beat.answer(trio.current_time())
                scope.deadline = beat.deadline
                self._come_up()
                self._wake.set()
            elif self._state.has_output():
                self._wake.set()

    def _come_up(self) -> None:
        if not self.is_up:
            self.is_up = True
            self._on_change(self)
            _log.info("bus_link_up", role=self.role, address=str(self.endpoint))
