"""The smallest shell round the client's core: WebSocket frames over a simulated link, timers, and an ear for whoever watches.

Nothing of it checks anything; what the core tells goes to `on_fact`, every message either way to `on_message`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgpack
import trio

from syncd.client.clock import CoreClock
from syncd.client.connection import ABNORMAL_CLOSE
from syncd.client.core import ClientCore
from syncd.client.facts import AskToken, Dial, Fact, Hangup, Output, Send
from syncd.client.tables import ConnectionState
from syncd.testing.simulation.links import Link

__all__ = ["Body", "Shell"]

Body = dict[str, object]

_REQUEST = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: c2ltdWxhdGVkIGNsaWVudA==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: syncd.v1\r\n\r\n"
)
_BINARY, _CLOSE, _PING = 2, 8, 9
READ_BYTES = 4096


class Shell:
    """One client: its core, its link, its clock."""

    def __init__(
        self,
        name: str,
        core: ClientCore,
        dial: Callable[[Shell], Link | None],
        on_fact: Callable[[Shell, Fact], None],
    ) -> None:
        self.name = name
        self.core = core
        self.link: Link | None = None
        self.num_dials = 0
        self.slow_s = 0.0
        """Pause between two reads: a client that takes its time."""
        self.on_sent: Callable[[Shell, str, Body], None] = lambda *_: None
        self.on_heard: Callable[[Shell, str, Body], None] = lambda *_: None
        self.on_connected: Callable[[Shell], None] = lambda _shell: None
        self.on_step: Callable[[], None] = lambda: None
        """Called when everything of a step was told."""
        self._dial = dial
        self._on_fact = on_fact
        self._reading: trio.CancelScope | None = None
        self._has_dial = trio.Event()
        self._clock = CoreClock(core, self.perform)
        self._hangup: Hangup | None = None

    async def run(self) -> None:
        """Live until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._clock.run)
            nursery.start_soon(self._run_connections)
            self.core.start(trio.current_time())
            self.perform()

    def perform(self) -> None:
        """Do and tell everything the core has for us."""
        while outputs := self.core.take():
            for output in outputs:
                self._perform_one(output)
        self.on_step()
        self._clock.look()

    def _perform_one(self, output: Output) -> None:
        match output:
            case Send(data=data):
                self._send(data)
            case Dial():
                self._has_dial.set()
            case Hangup():
                self._hangup = output
                if self._reading is not None:
                    self._reading.cancel("hung up")
            case AskToken():
                raise AssertionError("nobody has a token here")
            case _:
                self._on_fact(self, output)

    def _send(self, data: bytes) -> None:
        for kind, body in _messages(data):
            self.on_sent(self, kind, body)
        if self.link is not None:
            self.link.up.push(_frame(_BINARY, data))

    async def _run_connections(self) -> None:
        while True:
            await self._has_dial.wait()
            self._has_dial = trio.Event()
            if self.core.state is not ConnectionState.CONNECTING:
                continue
            code = await self._run_connection()
            hangup, self._hangup = self._hangup, None
            if hangup is not None:
                code = hangup.code
            self.core.closed(trio.current_time(), code)
            self.perform()

    async def _run_connection(self) -> int:
        """Dial and read until the end; the close code."""
        self.num_dials += 1
        self.link = link = self._dial(self)
        if link is None:
            await trio.sleep(0.001)
            return ABNORMAL_CLOSE
        try:
            with trio.CancelScope() as self._reading:
                link.up.push(_REQUEST)
                return await self._read(link)
        except trio.BrokenResourceError:
            pass
        finally:
            link.client_closed()
            self.link = self._reading = None
        return ABNORMAL_CLOSE

    async def _read(self, link: Link) -> int:
        buffer = bytearray()
        while b"\r\n\r\n" not in buffer:
            data = await link.down.pull(READ_BYTES)
            if not data:
                return ABNORMAL_CLOSE
            buffer += data
        head, _, rest = bytes(buffer).partition(b"\r\n\r\n")
        if b" 101 " not in head.split(b"\r\n", 1)[0]:
            return ABNORMAL_CLOSE
        buffer = bytearray(rest)
        self.on_connected(self)
        self.core.connect_succeeded()
        self.perform()
        while True:
            for opcode, payload in _frames(buffer):
                if opcode == _CLOSE:
                    link.up.push(_frame(_CLOSE, payload[:2]))
                    return int.from_bytes(payload[:2], "big") or 1005
                if opcode == _BINARY:
                    self._hear(payload)
            if self.slow_s:
                await trio.sleep(self.slow_s)
            data = await link.down.pull(READ_BYTES)
            if not data:
                return ABNORMAL_CLOSE
            buffer += data

    def _hear(self, payload: bytes) -> None:
        for kind, body in _messages(payload):
            self.on_heard(self, kind, body)
        self.core.receive(payload, trio.current_time())
        self.perform()


def _messages(data: bytes) -> Iterator[tuple[str, Body]]:
    unpacker = msgpack.Unpacker(raw=False)
    unpacker.feed(data)
    yield from unpacker


def _frame(opcode: int, payload: bytes) -> bytes:
    """Write a masked frame whose mask is zero."""
    size = len(payload)
    if size < 126:
        head = bytes((0x80 | opcode, 0x80 | size))
    elif size < 0x10000:
        head = bytes((0x80 | opcode, 0xFE)) + size.to_bytes(2, "big")
    else:
        head = bytes((0x80 | opcode, 0xFF)) + size.to_bytes(8, "big")
    return head + bytes(4) + payload


def _frames(buffer: bytearray) -> Iterator[tuple[int, bytes]]:
    """Take whole frames of a server, which are neither masked nor fragmented, out of a buffer."""
    while len(buffer) >= 2:
        size, start = buffer[1], 2
        if size >= 126:
            start = 4 if size == 126 else 10
            size = int.from_bytes(buffer[2:start], "big")
        if len(buffer) < start or len(buffer) < start + size:
            return
        opcode, payload = buffer[0] & 15, bytes(buffer[start : start + size])
        del buffer[: start + size]
        yield opcode, payload
