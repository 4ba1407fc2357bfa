"""RFC 6455 frames as a server reads and writes them: no I/O, no clock, nothing known of syncd's messages.

One `FrameDecoder` a connection turns bytes into whole messages and control frames; the session calls it. It keeps this
promise: nothing is buffered that the limits do not allow, work is linear in the bytes received however they are
split, and after a close frame or an error everything further is ignored. Masked binary frames that arrive whole,
the usual case, take a lane without a function call; an idle decoder holds no buffer.
"""

from __future__ import annotations

import codecs
import struct

__all__ = [
    "BINARY",
    "CLOSE",
    "PING",
    "PONG",
    "TEXT",
    "FrameDecoder",
    "FrameError",
    "Message",
    "encode_close",
    "encode_frame",
    "parse_close",
]

CONTINUATION = 0
TEXT = 1
BINARY = 2
CLOSE = 8
PING = 9
PONG = 10

PROTOCOL_ERROR = 1002
INVALID_PAYLOAD = 1007
TOO_BIG = 1009

MAX_CONTROL_BYTES = 125
"""RFC 6455 section 5.5; also the largest length that fits the second header byte."""
MAX_REASON_BYTES = MAX_CONTROL_BYTES - 2
DEFAULT_FRAGMENTS = 64
"""Fragments of one message, empty ones included; `config.Limits.fragments` has the same default."""

Message = tuple[int, bytes]
"""Opcode (never CONTINUATION) and payload."""


class FrameError(Exception):
    """The peer broke RFC 6455 or a limit; the connection is over.

    Attributes:
        code: WebSocket close code to answer with (1002, 1007 or 1009).
        reason: For people; holds nothing the peer sent.
        messages: What was complete before the error in the same bytes, in order.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason
        self.messages: list[Message] = []


# ------------------------------------------------------------------------------------------------ writing


_NUM_HEADERS = 1024
_BINARY_HEADERS = [
    bytes((0x82, size)) if size <= MAX_CONTROL_BYTES else struct.pack(">BBH", 0x82, 126, size)
    for size in range(_NUM_HEADERS)
]
"""Headers of short binary frames, which is what nearly all are: a look-up costs a third of building one."""


def encode_frame(opcode: int, payload: bytes) -> bytes:
    """Frame a whole message or control frame, unmasked.

    Args:
        opcode: One of the constants of this module. The caller keeps control payloads at 125 bytes or less.
        payload: Any length; UTF-8 if `opcode` is TEXT.
    """
    size = len(payload)
    if opcode == BINARY and size < _NUM_HEADERS:
        return _BINARY_HEADERS[size] + payload
    if size <= MAX_CONTROL_BYTES:
        return bytes((0x80 | opcode, size)) + payload
    if size < 0x10000:
        return struct.pack(">BBH", 0x80 | opcode, 126, size) + payload
    return struct.pack(">BBQ", 0x80 | opcode, 127, size) + payload


def encode_close(code: int, reason: str = "") -> bytes:
    """Frame a close; `reason` is cut to what a control frame holds, between two characters."""
    text = reason.encode("utf-8", "replace")
    if len(text) > MAX_REASON_BYTES:
        text = text[:MAX_REASON_BYTES].decode("utf-8", "ignore").encode()
    return encode_frame(CLOSE, code.to_bytes(2, "big") + text)


# ------------------------------------------------------------------------------------------------ reading


def parse_close(payload: bytes) -> tuple[int | None, str]:
    """Read the payload of a close frame.

    Returns:
        The code, None if the peer gave none, and the reason.

    Raises:
        FrameError: A payload of one byte or a code that may not be sent (1002), a reason that is not UTF-8 (1007).

    Source:
        RFC 6455 section 7.4; 1012 to 1014 are registered with IANA since.
    """
    if not payload:
        return None, ""
    if len(payload) == 1:
        raise FrameError(PROTOCOL_ERROR, "close frame of one byte")
    code = int.from_bytes(payload[:2], "big")
    if not (1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999):
        raise FrameError(PROTOCOL_ERROR, "close code not allowed")
    try:
        return code, payload[2:].decode()
    except UnicodeDecodeError:
        raise FrameError(INVALID_PAYLOAD, "close reason is not UTF-8") from None


_LANE_BYTES = 1024
"""Largest payload of the hot lane: the patterns below take 130 KiB at this size."""
_PATTERNS = [
    int.from_bytes(b"\1\0\0\0" * words, "little") for words in range((_LANE_BYTES + 7) // 4 + 1)
]
"""Times a 32-bit key: that key repeated over so many words."""
_XOR_TABLES = [bytes(key ^ byte for byte in range(256)) for key in range(256)]
_STRIDED_FROM_BYTES = 3072
"""From here four strided table look-ups beat one big integer (52 against 80 us at 64 KiB)."""


def _unmask(payload: bytes | bytearray, key: bytes | bytearray) -> bytes:
    size = len(payload)
    if size < _STRIDED_FROM_BYTES:
        mask = (key * ((size + 3) // 4))[:size]
        return (int.from_bytes(payload, "little") ^ int.from_bytes(mask, "little")).to_bytes(
            size, "little"
        )
    out = bytearray(payload)
    for place in range(4):
        out[place::4] = out[place::4].translate(_XOR_TABLES[key[place]])
    return bytes(out)


class _Fragments:
    """A message of which some fragments are here and the last one is not."""

    __slots__ = ("num_bytes", "opcode", "parts", "utf8")

    def __init__(self, opcode: int) -> None:
        self.opcode = opcode
        self.parts: list[bytes] = []
        self.num_bytes = 0
        self.utf8 = codecs.getincrementaldecoder("utf-8")() if opcode == TEXT else None

    def add(self, payload: bytes, *, is_last: bool) -> None:
        if self.utf8 is not None:
            _check_utf8(self.utf8, payload, is_last=is_last)
        self.parts.append(payload)
        self.num_bytes += len(payload)


def _check_utf8(decoder: codecs.IncrementalDecoder, payload: bytes, *, is_last: bool) -> None:
    try:
        decoder.decode(payload, is_last)
    except UnicodeDecodeError:
        raise FrameError(INVALID_PAYLOAD, "text is not UTF-8") from None


class FrameDecoder:
    """Turns what a client sends into whole messages and control frames.

    Memory: at most `max_message_bytes` of fragments, one frame of at most that size, and what the last read held.

    Args:
        max_message_bytes: Largest payload of a message, over all its fragments. May be changed between calls.
        max_fragments: Most frames of one message, empty ones included.
        first_message_bytes: Limit for the first data message only; the decoder itself goes on with
            `max_message_bytes`, so a client may send its second message in the same packet as a short first one.
    """

    __slots__ = (
        "_buffer",
        "_fragments",
        "_later_message_bytes",
        "is_closed",
        "max_fragments",
        "max_message_bytes",
    )

    def __init__(
        self,
        max_message_bytes: int,
        max_fragments: int = DEFAULT_FRAGMENTS,
        *,
        first_message_bytes: int | None = None,
    ) -> None:
        self.max_message_bytes = max_message_bytes
        self.max_fragments = max_fragments
        self.is_closed = False
        """A close frame or an error was seen; `receive` returns nothing any more."""
        self._buffer: bytearray | None = None
        self._fragments: _Fragments | None = None
        self._later_message_bytes: int | None = None
        if first_message_bytes is not None:
            self.max_message_bytes = first_message_bytes
            self._later_message_bytes = max_message_bytes

    @property
    def has_partial(self) -> bool:
        """Whether a frame or message has begun and not ended."""
        return self._buffer is not None or self._fragments is not None

    def receive(self, data: bytes) -> list[Message]:
        """Take bytes from the socket and return what they complete, in order.

        Text is valid UTF-8 and close payloads pass `parse_close`; text is checked a frame at a time.

        Raises:
            FrameError: At the first breach; its `messages` hold what was complete before. Later calls return [].
        """
        messages: list[Message] = []
        if self.is_closed:
            return messages
        if self._buffer is None:
            used = self._decode(data, messages)
            if used < len(data) and not self.is_closed:
                self._buffer = bytearray(memoryview(data)[used:])
            return messages
        buffer = self._buffer
        buffer += data
        used = self._decode(buffer, messages)
        if used == len(buffer) or self.is_closed:
            self._buffer = None
        elif used:
            del buffer[:used]
        return messages

    def _decode(self, data: bytes | bytearray, messages: list[Message]) -> int:
        """Append what `data` holds whole to `messages`; return how many bytes that took."""
        position = 0
        try:
            while not self.is_closed:
                if self._fragments is None and self._later_message_bytes is None:
                    position = self._decode_short(data, position, messages)
                if len(data) - position < 2:
                    break
                stop = self._decode_frame(data, position, messages)
                if stop is None:
                    break
                position = stop
        except FrameError as failure:
            failure.messages = messages
            self._close()
            raise
        return position

    def _decode_short(self, data: bytes | bytearray, position: int, messages: list[Message]) -> int:
        """Take short whole final masked binary frames as long as they follow each other: the hot lane."""
        limit = min(self.max_message_bytes, _LANE_BYTES)
        end = len(data)
        while end - position >= 6 and data[position] == 0x82:
            second = data[position + 1]
            if 0x7F < second < 0xFE:
                start = position + 6
                size = second & 0x7F
            elif second == 0xFE and end - position >= 8:
                start = position + 8
                size = data[position + 2] << 8 | data[position + 3]
                if size <= MAX_CONTROL_BYTES:
                    break
            else:
                break
            stop = start + size
            if stop > end or size > limit:
                break
            masked = data[start - 4 : stop]  # begins with the key, which XORed with itself is zero
            plain = int.from_bytes(masked, "little") ^ (
                int.from_bytes(masked[:4], "little") * _PATTERNS[(size + 7) >> 2]
            )
            messages.append((BINARY, plain.to_bytes(size + 8, "little")[4 : size + 4]))
            position = stop
        return position

    def _decode_frame(
        self, data: bytes | bytearray, position: int, messages: list[Message]
    ) -> int | None:
        """Take one frame of any kind; return where it ends, or None if more bytes are needed."""
        first = data[position]
        second = data[position + 1]
        self._check_header(first, second)
        start = position + 6
        size = second & 0x7F
        if size > MAX_CONTROL_BYTES:
            num_bytes = 2 if size == 126 else 8
            start += num_bytes
            if len(data) < start - 4:
                return None
            size = _long_size(data[start - 4 - num_bytes : start - 4])
        opcode = first & 0x0F
        if opcode < CLOSE:
            self._check_size(size)
        stop = start + size
        if stop > len(data):
            return None
        payload = _unmask(data[start:stop], data[start - 4 : start])
        if opcode >= CLOSE:
            self._take_control(opcode, payload, messages)
        else:
            self._take_data(opcode, payload, messages, is_last=first > 0x7F)
        return stop

    def _check_header(self, first: int, second: int) -> None:
        opcode = first & 0x0F
        if first & 0x70:
            raise FrameError(PROTOCOL_ERROR, "reserved bit set")
        if opcode > PONG or BINARY < opcode < CLOSE:
            raise FrameError(PROTOCOL_ERROR, "reserved opcode")
        if second < 0x80:
            raise FrameError(PROTOCOL_ERROR, "frame is not masked")
        if opcode >= CLOSE:
            if first < 0x80:
                raise FrameError(PROTOCOL_ERROR, "control frame is fragmented")
            if second & 0x7F > MAX_CONTROL_BYTES:
                raise FrameError(PROTOCOL_ERROR, "control frame above 125 bytes")
        elif (opcode == CONTINUATION) != (self._fragments is not None):
            raise FrameError(PROTOCOL_ERROR, "fragments out of sequence")

    def _check_size(self, size: int) -> None:
        """Refuse a declared data frame before any of it is kept."""
        fragments = self._fragments
        if fragments is not None:
            size += fragments.num_bytes
            if len(fragments.parts) >= self.max_fragments:
                raise FrameError(TOO_BIG, "too many fragments")
        if size > self.max_message_bytes:
            raise FrameError(TOO_BIG, "message too big")

    def _take_control(self, opcode: int, payload: bytes, messages: list[Message]) -> None:
        if opcode == CLOSE:
            parse_close(payload)
            self._close()
        messages.append((opcode, payload))

    def _take_data(
        self, opcode: int, payload: bytes, messages: list[Message], *, is_last: bool
    ) -> None:
        fragments = self._fragments
        if fragments is None:
            fragments = _Fragments(opcode)
        fragments.add(payload, is_last=is_last)
        if not is_last:
            self._fragments = fragments
            return
        self._fragments = None
        messages.append((fragments.opcode, b"".join(fragments.parts)))
        if self._later_message_bytes is not None:
            self.max_message_bytes = self._later_message_bytes
            self._later_message_bytes = None

    def _close(self) -> None:
        self.is_closed = True
        self._buffer = None
        self._fragments = None


def _long_size(field: bytes | bytearray) -> int:
    """Read an extended payload length of two or eight bytes, which must be the shortest form."""
    size = int.from_bytes(field, "big")
    if size >= 1 << 63:
        raise FrameError(PROTOCOL_ERROR, "length with the top bit set")
    if size <= (MAX_CONTROL_BYTES if len(field) == 2 else 0xFFFF):
        raise FrameError(PROTOCOL_ERROR, "length not in its shortest form")
    return size
