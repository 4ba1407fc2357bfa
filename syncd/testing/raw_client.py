"""A WebSocket client that does what it is told, right or wrong: for tests of what peers may do to a node.

It speaks over any Trio stream, checks nothing it sends, and shows every frame that comes back. Nothing runs in the background: who
does not call `receive_frame` does not read.
"""

from __future__ import annotations

import base64
import contextlib
import secrets
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import attrs
import msgpack
import trio

from syncd.wire.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT

__all__ = [
    "BINARY",
    "CLOSE",
    "CONTINUATION",
    "PING",
    "PONG",
    "TEXT",
    "Frame",
    "RawClient",
    "Refused",
    "Response",
    "client_frame",
    "pack_messages",
    "request_head",
]

READ_BYTES = 65_536
SUBPROTOCOL = "syncd.v1"
_NO_LINGER = struct.pack("ii", 1, 0)


@attrs.frozen
class Frame:
    """One WebSocket frame of the server."""

    opcode: int
    payload: bytes
    is_final: bool = True

    @property
    def close_code(self) -> int:
        """Code of a close frame; 1005 without one."""
        return int.from_bytes(self.payload[:2], "big") or 1005

    @property
    def messages(self) -> list[list[Any]]:
        """The syncd messages of a binary frame: `[type, body]` each."""
        unpacker = msgpack.Unpacker(None, raw=False, strict_map_key=True)
        unpacker.feed(self.payload)
        return list(unpacker)


@attrs.frozen
class Response:
    """The head of an HTTP response, and the body as far as it was read."""

    status: int
    headers: dict[str, str]
    body: bytes = b""


class Refused(Exception):
    """The upgrade was answered with something else than 101."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status, response.body)
        self.response = response


def client_frame(
    opcode: int,
    payload: bytes = b"",
    *,
    is_final: bool = True,
    is_masked: bool = True,
    reserved: int = 0,
    declared_bytes: int | None = None,
) -> bytes:
    """Write one frame as a client would, or as none should.

    Args:
        opcode: 0 to 15.
        payload: Sent as it is, masked with a random key unless `is_masked` is False.
        is_final: The FIN bit.
        is_masked: Whether the mask bit and a key are there.
        reserved: RSV1 to RSV3 as a number from 0 to 7.
        declared_bytes: What the length field says, if not the truth; above 65,535 it always has eight bytes.
    """
    size = len(payload) if declared_bytes is None else declared_bytes
    first = (0x80 if is_final else 0) | reserved << 4 | opcode
    mask_bit = 0x80 if is_masked else 0
    if size <= 125:
        header = bytes((first, mask_bit | size))
    elif size < 0x10000:
        header = struct.pack(">BBH", first, mask_bit | 126, size)
    else:
        header = struct.pack(">BBQ", first, mask_bit | 127, size)
    if not is_masked:
        return header + payload
    key = secrets.token_bytes(4)
    mask = int.from_bytes((key * (len(payload) // 4 + 1))[: len(payload)], "big")
    masked = (int.from_bytes(payload, "big") ^ mask).to_bytes(len(payload), "big")
    return header + key + masked


def pack_messages(*messages: Sequence[Any]) -> bytes:
    """Encode syncd messages `(type, body)`, one behind the other."""
    return b"".join(msgpack.packb(list(message)) for message in messages)


def request_head(
    path: str = "/ws",
    *lines: str,
    method: str = "GET",
    version: str = "HTTP/1.1",
    host: str | None = "127.0.0.1",
    upgrade: bool = True,
    subprotocol: str | None = SUBPROTOCOL,
) -> bytes:
    """Write a request head, by default one that opens a WebSocket; `lines` are further header lines."""
    head = [f"{method} {path} {version}"]
    if host is not None:
        head.append(f"Host: {host}")
    if upgrade:
        key = base64.b64encode(secrets.token_bytes(16)).decode()
        head += ["Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Key: {key}"]
        head.append("Sec-WebSocket-Version: 13")
    if subprotocol is not None and upgrade:
        head.append(f"Sec-WebSocket-Protocol: {subprotocol}")
    return "\r\n".join([*head, *lines, "", ""]).encode("latin-1")


class RawClient:
    """One connection to a node."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._buffer = bytearray()
        self._inbox: list[tuple[str, dict[str, Any]]] = []
        """Messages that were read and not yet asked for."""

    @classmethod
    @contextlib.asynccontextmanager
    async def over(cls, stream: trio.abc.Stream) -> AsyncIterator[RawClient]:
        """Use a stream and close it at the end, without any farewell."""
        try:
            yield cls(stream)
        finally:
            await trio.aclose_forcefully(stream)

    # ---------------------------------------------------------------- writing

    async def send(self, data: bytes) -> None:
        """Send bytes."""
        await self.stream.send_all(data)

    async def send_messages(self, *messages: Sequence[Any]) -> None:
        """Send syncd messages in one frame."""
        await self.send(client_frame(BINARY, pack_messages(*messages)))

    async def send_close(self, code: int = 1000) -> None:
        """Send a close frame."""
        await self.send(client_frame(CLOSE, code.to_bytes(2, "big")))

    async def send_eof(self) -> None:
        """Close our half, if the server has not closed both."""
        assert isinstance(self.stream, trio.abc.HalfCloseableStream)
        with contextlib.suppress(trio.BrokenResourceError):
            await self.stream.send_eof()

    async def reset(self) -> None:
        """End the TCP connection with a reset instead of a farewell."""
        assert isinstance(self.stream, trio.SocketStream)
        self.stream.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, _NO_LINGER)
        await self.stream.aclose()

    # ---------------------------------------------------------------- opening

    async def upgrade(self, head: bytes | None = None, behind: bytes = b"") -> Response:
        """Open the WebSocket.

        Args:
            head: The request; a good one by default.
            behind: Sent right behind it, in the same packet.

        Raises:
            Refused: The answer is not 101.
        """
        await self.send((request_head() if head is None else head) + behind)
        response = await self.receive_response()
        if response.status != 101:
            raise Refused(response)
        return response

    async def hello(self, **fields: Any) -> dict[str, Any]:
        """Open the session and return `welcome`."""
        await self.send_messages(("hello", {"v": 1, **fields}))
        return await self.receive_message("welcome")

    async def ask(self, kind: str, **body: Any) -> tuple[str, dict[str, Any]]:
        """Send a request and return the type and body of its answer; other messages wait for `receive_message`."""
        await self.send_messages((kind, body))
        return await self._take_message(lambda _kind, fields: fields.get("id") == body["id"])

    # ---------------------------------------------------------------- reading

    async def receive_response(self) -> Response:
        """Read an HTTP response; the body of an error as far as Content-Length says.

        Raises:
            EOFError: The server closed before.
        """
        while b"\r\n\r\n" not in self._buffer:
            await self._read_more()
        end = self._buffer.index(b"\r\n\r\n") + 4
        first, *lines = bytes(self._buffer[: end - 4]).decode("latin-1").split("\r\n")
        del self._buffer[:end]
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        size = int(headers.get("content-length", "0"))
        while len(self._buffer) < size:
            await self._read_more()
        body = bytes(self._buffer[:size])
        del self._buffer[:size]
        return Response(int(first.split(" ")[1]), headers, body)

    async def receive_frame(self) -> Frame:
        """Read one frame.

        Raises:
            EOFError: The server closed, or cut off, before its end.
        """
        while (frame := self._take_frame()) is None:
            await self._read_more()
        return frame

    def _take_frame(self) -> Frame | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        size, start = buffer[1] & 0x7F, 2
        assert buffer[1] < 0x80, "a server never masks"
        if size >= 126:
            start = 4 if size == 126 else 10
            if len(buffer) < start:
                return None
            size = int.from_bytes(buffer[2:start], "big")
        if len(buffer) < start + size:
            return None
        frame = Frame(
            buffer[0] & 0x0F, bytes(buffer[start : start + size]), is_final=buffer[0] > 0x7F
        )
        del buffer[: start + size]
        return frame

    async def receive_binary(self) -> Frame:
        """Read up to the next binary frame; a close frame is an end, too.

        Raises:
            EOFError: The server closed; the text tells the code.
        """
        while True:
            frame = await self.receive_frame()
            if frame.opcode == BINARY:
                return frame
            if frame.opcode == CLOSE:
                raise EOFError(f"closed with {frame.close_code}")

    async def receive_message(self, kind: str) -> dict[str, Any]:
        """Return the body of the first message of a type that nobody has taken; others wait for their turn.

        Raises:
            EOFError: The server closed before it came.
        """
        return (await self._take_message(lambda other, _body: other == kind))[1]

    async def _take_message(
        self, is_wanted: Callable[[str, dict[str, Any]], bool]
    ) -> tuple[str, dict[str, Any]]:
        position = 0
        while True:
            for number in range(position, len(self._inbox)):
                if is_wanted(*self._inbox[number]):
                    return self._inbox.pop(number)
            position = len(self._inbox)
            self._inbox += [(kind, body) for kind, body in (await self.receive_binary()).messages]

    async def receive_close(self) -> Frame:
        """Read up to the close frame.

        Raises:
            EOFError: The server closed without one.
        """
        while (frame := await self.receive_frame()).opcode != CLOSE:
            pass
        return frame

    async def read_to_end(self) -> bytes:
        """Read everything until the server closes or resets the connection; what was read before is included."""
        with contextlib.suppress(EOFError):
            while True:
                await self._read_more()
        rest, self._buffer = bytes(self._buffer), bytearray()
        return rest

    async def _read_more(self) -> None:
        try:
            data = await self.stream.receive_some(READ_BYTES)
        except trio.BrokenResourceError as error:
            raise EOFError("connection reset") from error
        if not data:
            raise EOFError("connection closed")
        self._buffer += data
