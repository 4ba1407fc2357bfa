"""A WebSocket client of a few lines that does nothing by itself: for load, and for peers that misbehave on purpose.

It sends what it is told and returns what comes, message by message. Frames are masked with zeros, which the RFC allows and costs
nothing. It answers no ping: who needs a quiet session answers them.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import msgpack
import trio

from syncd.testing.raw_client import request_head

__all__ = ["Closed", "FrameReader", "Message", "PlainClient", "client_frame", "open_client"]

Message = tuple[str, dict[str, Any]]

_CLOSE = 8
READ_BYTES = 65_536


class Closed(Exception):
    """The connection is over. `code` is None when there was no close frame."""

    def __init__(self, code: int | None = None) -> None:
        super().__init__(code)
        self.code = code


def client_frame(*messages: Message) -> bytes:
    """Encode messages as one binary frame of a client."""
    payload = b"".join(msgpack.packb(list(message)) for message in messages)
    return _header(0x82, len(payload)) + payload


def _header(first: int, size: int) -> bytes:
    mask = bytes(4)
    if size < 126:
        return bytes((first, 0x80 | size)) + mask
    if size < 0x10000:
        return bytes((first, 0xFE)) + size.to_bytes(2, "big") + mask
    return bytes((first, 0xFF)) + size.to_bytes(8, "big") + mask


class FrameReader:
    """Turns what a server sends after the handshake into messages."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """Return the messages complete by now; a close frame stands among them as `("close", {"code": ...})`."""
        buffer = self._data
        buffer += data
        messages: list[Message] = []
        while (frame := self._take_frame(buffer)) is not None:
            opcode, payload = frame
            if opcode == _CLOSE:
                code = int.from_bytes(payload[:2], "big") if payload else None
                messages.append(("close", {"code": code}))
                break
            unpacker = msgpack.Unpacker(strict_map_key=False)
            unpacker.feed(payload)
            messages += ((kind, body) for kind, body in unpacker)
        return messages

    @staticmethod
    def _take_frame(buffer: bytearray) -> tuple[int, bytes] | None:
        if len(buffer) < 2:
            return None
        size, start = buffer[1], 2
        if size >= 126:
            start = 4 if size == 126 else 10
            if len(buffer) < start:
                return None
            size = int.from_bytes(buffer[2:start], "big")
        end = start + size
        if len(buffer) < end:
            return None
        opcode, payload = buffer[0] & 15, bytes(buffer[start:end])
        del buffer[:end]
        return opcode, payload


class PlainClient:
    """One connection past its handshake. Reading waits; writing is one send."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.session = ""
        """As told in `welcome`."""
        self._reader = FrameReader()
        self._ready: list[Message] = []
        self._next_id = 0

    @classmethod
    async def connect(cls, port: int, *, receive_buffer_bytes: int = 0) -> PlainClient:
        """Open a WebSocket.

        Args:
            port: On 127.0.0.1.
            receive_buffer_bytes: SO_RCVBUF; a small one makes a client that does not read a slow client soon.

        Raises:
            OSError, Closed: nobody is there, or it hung up.
        """
        sock = trio.socket.socket()
        if receive_buffer_bytes:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        try:
            await sock.connect(("127.0.0.1", port))
        except BaseException:
            sock.close()
            raise
        client = cls(trio.SocketStream(sock))
        try:
            await client._upgrade()
        except BaseException:
            await client.aclose()
            raise
        return client

    async def _upgrade(self) -> None:
        await self._write(request_head())
        head = b""
        while b"\r\n\r\n" not in head:
            head += await self._read()
        first, _, rest = head.partition(b"\r\n\r\n")
        if b" 101 " not in first.split(b"\r\n")[0]:
            raise Closed
        self._ready += self._reader.feed(rest)

    async def hello(self, **body: Any) -> dict[str, Any]:
        """Greet and return the body of `welcome`."""
        await self.send("hello", v=1, **body)
        _, welcome = await self.expect("welcome")
        self.session = welcome["session"]
        return welcome

    async def send(self, kind: str, /, **body: Any) -> None:
        """Send one message."""
        await self._write(client_frame((kind, body)))

    async def send_many(self, *messages: Message) -> None:
        """Send several messages in one frame."""
        await self._write(client_frame(*messages))

    async def ask(self, kind: str, /, **body: Any) -> Message:
        """Send a request with an id and return its answer; what comes in between is passed over."""
        self._next_id += 1
        request_id = self._next_id
        await self.send(kind, id=request_id, **body)
        while True:
            message = await self.receive()
            if message[1].get("id") == request_id:
                return message

    async def expect(self, *kinds: str) -> Message:
        """Return the next message of one of these kinds; others are passed over."""
        while True:
            message = await self.receive()
            if message[0] in kinds:
                return message

    async def receive(self) -> Message:
        """Return the next message; raises `Closed` at the end."""
        while not self._ready:
            self._ready += self._reader.feed(await self._read())
        kind, body = self._ready.pop(0)
        if kind == "close":
            raise Closed(body["code"])
        return kind, body

    def receive_nowait(self) -> Message | None:
        """Return a message that came already, None if there is none."""
        return self._ready.pop(0) if self._ready else None

    async def _write(self, data: bytes) -> None:
        try:
            await self.stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise Closed from None

    async def _read(self) -> bytes:
        try:
            data = await self.stream.receive_some(READ_BYTES)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise Closed from None
        if not data:
            raise Closed
        return bytes(data)

    async def aclose(self) -> None:
        """Hang up without a word."""
        await trio.aclose_forcefully(self.stream)


@contextlib.asynccontextmanager
async def open_client(port: int, **hello: Any) -> AsyncIterator[PlainClient]:
    """Connect and greet; hang up at the end."""
    client = await PlainClient.connect(port)
    try:
        await client.hello(**hello)
        yield client
    finally:
        await client.aclose()
