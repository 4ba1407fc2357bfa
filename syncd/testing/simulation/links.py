"""Connections in memory: they delay, split, hold back, break, go half-open, and know when an end of theirs is dead.

A link has a client's end, used without waiting by a shell, and a server's end, a Trio stream for the gateway's stream driver.
"""

from __future__ import annotations

import collections
import math
import random

import attrs
import trio

__all__ = ["Link", "ServerEnd", "Weather"]


@attrs.define
class Weather:
    """How all links are at the moment."""

    latency_s: float
    split: float
    window_bytes: int


class _Pipe:
    """One direction. Bounded by its window where its sender waits; a client's shell does not, and sends little."""

    def __init__(self, rng: random.Random, weather: Weather) -> None:
        self._rng = rng
        self._weather = weather
        self._chunks: collections.deque[tuple[float, bytes]] = collections.deque()
        self._size = 0
        self._last_at = 0.0
        self._eof_at = math.inf
        self._changed = trio.Event()
        self.is_broken = False
        self.is_silent = False
        """Whatever is sent from now on never arrives, and nobody is told."""

    def push(self, data: bytes) -> None:
        """Send without waiting."""
        rng, weather = self._rng, self._weather
        self._size += len(data)
        if self.is_silent:
            return
        pieces = [data]
        if len(data) > 1 and rng.random() < weather.split:
            place = rng.randrange(1, len(data))
            pieces = [data[:place], data[place:]]
        for piece in pieces:
            delay_s = weather.latency_s * (0.5 + rng.random())
            if rng.random() < 0.02:
                delay_s *= 10
            self._last_at = max(self._last_at, trio.current_time() + delay_s)
            self._chunks.append((self._last_at, piece))
        self.wake()

    async def push_when_open(self, data: bytes) -> None:
        """Send, waiting while the window is full."""
        await trio.lowlevel.checkpoint()
        while self._size >= self._weather.window_bytes and not self.is_broken:
            await self._changed.wait()
        if self.is_broken:
            raise trio.BrokenResourceError
        self.push(data)

    def push_eof(self) -> None:
        """End the direction behind what was sent."""
        if not self.is_silent:
            self._eof_at = max(self._last_at, trio.current_time() + self._weather.latency_s)
            self.wake()

    async def pull(self, max_bytes: int) -> bytes:
        """Wait for bytes; nothing at the end.

        Raises:
            trio.BrokenResourceError: the link was cut.
        """
        await trio.lowlevel.checkpoint()
        while True:
            if self.is_broken:
                raise trio.BrokenResourceError
            now = trio.current_time()
            if self._chunks and self._chunks[0][0] <= now:
                return self._take(max_bytes)
            if not self._chunks and self._eof_at <= now:
                return b""
            with trio.move_on_at(self._chunks[0][0] if self._chunks else self._eof_at):
                await self._changed.wait()

    def _take(self, max_bytes: int) -> bytes:
        at, piece = self._chunks.popleft()
        taken, rest = piece[:max_bytes], piece[max_bytes:]
        if rest:
            self._chunks.appendleft((at, rest))
        self._size -= len(taken)
        self.wake()
        return taken

    def fall_silent(self) -> None:
        """Lose what is under way and everything after it."""
        self.is_silent = True
        self._chunks.clear()
        self._eof_at = math.inf

    def break_off(self) -> None:
        """Both ends learn of it; what is under way is lost."""
        self.is_broken = True
        self._chunks.clear()
        self.wake()

    def wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


class ServerEnd(trio.abc.HalfCloseableStream):
    """The end that the gateway serves."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._is_closed = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """See `trio.abc.SendStream`."""
        self._check_open()
        await self._link.down.push_when_open(bytes(data))

    async def wait_send_all_might_not_block(self) -> None:
        """See `trio.abc.SendStream`."""
        await trio.lowlevel.checkpoint()

    async def send_eof(self) -> None:
        """See `trio.abc.HalfCloseableStream`."""
        self._check_open()
        self._link.down.push_eof()
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """See `trio.abc.ReceiveStream`."""
        self._check_open()
        return await self._link.up.pull(max_bytes or 65_536)

    async def aclose(self) -> None:
        """Close both directions: what was sent arrives, what comes is lost."""
        if not self._is_closed:
            self._is_closed = True
            self._link.server_closed()
        await trio.lowlevel.checkpoint()

    def _check_open(self) -> None:
        if self._is_closed:
            raise trio.ClosedResourceError


class Link:
    """One connection between a client and a process."""

    def __init__(self, number: int, rng: random.Random, weather: Weather) -> None:
        self.number = number
        self.up = _Pipe(rng, weather)
        self.down = _Pipe(rng, weather)
        self.server = ServerEnd(self)
        self.is_over = False

    def cut(self) -> None:
        """A reset reaches both ends; what is under way is lost."""
        self.is_over = True
        self.up.break_off()
        self.down.break_off()

    def go_half_open(self, *, up: bool, down: bool) -> None:
        """Nothing more arrives in these directions, and nobody is told."""
        if up:
            self.up.fall_silent()
        if down:
            self.down.fall_silent()

    @property
    def is_half_open(self) -> bool:
        """Whether somebody speaks into the void."""
        return self.up.is_silent or self.down.is_silent

    def server_died(self, *, is_told: bool) -> None:
        """The process is gone: nothing of it is sent any more; its peer gets a reset, or (as after a power cut) nothing."""
        self.up.break_off()
        if is_told:
            self.cut()
        else:
            self.go_half_open(up=True, down=True)

    def server_closed(self) -> None:
        """The server closed the connection."""
        self.up.break_off()
        self.down.push_eof()

    def client_closed(self) -> None:
        """The client closed the connection."""
        self.is_over = True
        self.up.push_eof()
        self.down.break_off()
