"""Request heads of the port that serves both WebSocket and HTTP: read strictly, within bounds, before anyone else sees them.

The gateway feeds what it reads to a `HeadReader` and hands the `Head` to the WebSocket handshake or, with its raw bytes
and whatever followed them, to the HTTP server. What two servers could read in two ways (smuggling) is refused here.

HTTP/1.0 is refused for all requests, not only for upgrades: nothing needs it, and nginx speaks it to us only when
`proxy_http_version 1.1` was forgotten, which the answer then says.
"""

from __future__ import annotations

import http
import re

import attrs

__all__ = ["Head", "HeadReader", "HeadRejected", "parse_head", "reject_bytes"]

MAX_LINE_BYTES = 8192
"""Longest request line, request target and header line, as common proxies allow."""
MAX_HEADERS = 128
"""Browsers behind proxies send 15 to 40."""

_BAD_BYTES = re.compile(rb"(?<!\r)\n|\r(?=[^\n])|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
"""Bare LF, bare CR, control characters. A CR at the very end may still get its LF."""
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_TARGET = re.compile(rb"/[\x21\x22\x24-\x7e]*")
"""Origin form: visible ASCII without `#`."""
_VERSION = re.compile(rb"HTTP/[0-9]\.[0-9]")
_HOST = re.compile(
    rb"(?:[0-9A-Za-z_~-]+(?:\.[0-9A-Za-z_~-]+)*\.?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?"
)
_LENGTH = re.compile(rb"[0-9]{1,18}")
_REFUSED_METHODS = frozenset((b"CONNECT", b"TRACE"))
_ALLOW = ((b"Allow", b"GET, HEAD, POST, OPTIONS"),)

_Headers = list[tuple[bytes, bytes]]


class HeadRejected(Exception):
    """The request is answered with an HTTP error and the connection closed.

    Attributes:
        status: HTTP status.
        reason: One sentence for the body; never holds what the peer sent.
        headers: Sent besides the usual ones.
    """

    def __init__(
        self, status: int, reason: str, headers: tuple[tuple[bytes, bytes], ...] = ()
    ) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason
        self.headers = headers


@attrs.define
class Head:
    """A request head that passed all checks of this module."""

    method: str
    target: str
    """In origin form: begins with `/`; still percent-encoded."""
    path: str
    """`target` up to `?`; still percent-encoded."""
    headers: _Headers
    """Lower-case names, in order, repeated ones included."""
    raw: bytes = attrs.field(repr=False)
    """The head as received, with the empty line; what followed it begins at `len(raw)`."""
    is_upgrade: bool
    """An `Upgrade` header mentions websocket."""

    def get(self, name: bytes) -> bytes | None:
        """Return the first value of the header `name` (lower case), or None."""
        for key, value in self.headers:
            if key == name:
                return value
        return None

    def get_all(self, name: bytes) -> list[bytes]:
        """Return every value of the header `name` (lower case), in order."""
        return [value for key, value in self.headers if key == name]

    def get_list(self, name: bytes) -> list[bytes]:
        """Return the comma-separated items of all headers `name`, without empty ones."""
        items = b",".join(self.get_all(name)).split(b",")
        return [stripped for item in items if (stripped := item.strip(b" \t"))]


class HeadReader:
    """Gathers the head of one request; linear in the bytes however they are split.

    Args:
        max_bytes: Largest head. The reader holds at most this and one read.
    """

    __slots__ = ("_buffer", "_length", "_scanned", "max_bytes")

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._buffer = bytearray()
        self._scanned = 0
        self._length = 0

    def feed(self, data: bytes) -> Head | None:
        """Take bytes from the socket; return the head once it is whole.

        Raises:
            HeadRejected: As `parse_head`.
        """
        self._buffer += data
        head = parse_head(self._buffer, self.max_bytes, scan_from=self._scanned)
        if head is None:
            self._scanned = len(self._buffer)
        else:
            self._length = len(head.raw)
        return head

    @property
    def rest(self) -> bytes:
        """What was received after the head."""
        return bytes(self._buffer[self._length :])


def parse_head(buffer: bytes | bytearray, max_bytes: int, *, scan_from: int = 0) -> Head | None:
    """Read the request head at the start of `buffer`.

    Args:
        buffer: Everything received on the connection so far.
        max_bytes: Largest head, the empty line included.
        scan_from: Length of `buffer` at an earlier call that returned None.

    Returns:
        None while the head is incomplete.

    Raises:
        HeadRejected: 400, 405, 414, 431 or 505, as soon as it is certain.
    """
    end = buffer.find(b"\r\n\r\n", max(0, scan_from - 3))
    length = end + 4 if end >= 0 else len(buffer)
    if _BAD_BYTES.search(buffer, max(0, scan_from - 1), min(length, max_bytes)):
        raise HeadRejected(400, "Line breaks must be CRLF and control characters are not allowed.")
    if end < 0 and length <= min(MAX_LINE_BYTES + 1, max_bytes):
        return None
    if buffer.find(b"\r\n", 0, MAX_LINE_BYTES + 2) < 0:
        raise HeadRejected(414, "The request line is too long.")
    if length > max_bytes:
        raise HeadRejected(431, "The request head is too large.")
    return None if end < 0 else _read(bytes(buffer[:length]))


def reject_bytes(rejected: HeadRejected) -> bytes:
    """Return the whole HTTP response that tells `rejected` and ends the connection."""
    body = rejected.reason.encode() + b"\n"
    connection = (
        b"close, Upgrade" if rejected.status == http.HTTPStatus.UPGRADE_REQUIRED else b"close"
    )
    lines = [
        b"HTTP/1.1 %d %b" % (rejected.status, http.HTTPStatus(rejected.status).phrase.encode()),
        b"Content-Type: text/plain; charset=utf-8",
        b"Content-Length: %d" % len(body),
        b"Cache-Control: no-store",
        b"X-Content-Type-Options: nosniff",
        b"Connection: " + connection,
        *(name + b": " + value for name, value in rejected.headers),
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


# ------------------------------------------------------------------------------------------------ parts


def _read(raw: bytes) -> Head:
    request_line, *lines = raw[:-4].split(b"\r\n")
    method, target = _request_line(request_line)
    if len(lines) > MAX_HEADERS:
        raise HeadRejected(431, "The request has more than 128 headers.")
    headers = [_header(line) for line in lines]
    head = Head(
        method=method.decode(),
        target=target.decode(),
        path=target.partition(b"?")[0].decode(),
        headers=headers,
        raw=raw,
        is_upgrade=False,
    )
    _check_host(head)
    _check_framing(head)
    head.is_upgrade = any(item.lower() == b"websocket" for item in head.get_list(b"upgrade"))
    return head


def _request_line(line: bytes) -> tuple[bytes, bytes]:
    parts = line.split(b" ")
    if len(parts) != 3 or not _TOKEN.fullmatch(parts[0]) or not _VERSION.fullmatch(parts[2]):
        raise HeadRejected(400, "The request line is malformed.")
    method, target, version = parts
    if version != b"HTTP/1.1":
        raise HeadRejected(
            505, "This server speaks HTTP/1.1 only (behind nginx: proxy_http_version 1.1)."
        )
    if method in _REFUSED_METHODS:
        raise HeadRejected(405, "This method is not allowed here.", _ALLOW)
    if not _TARGET.fullmatch(target):
        raise HeadRejected(400, "The request target must be a path.")
    return method, target


def _header(line: bytes) -> tuple[bytes, bytes]:
    if len(line) > MAX_LINE_BYTES:
        raise HeadRejected(431, "A header is longer than 8 KiB.")
    name, colon, value = line.partition(b":")
    if not colon or not _TOKEN.fullmatch(name):
        raise HeadRejected(400, "A header line is malformed.")
    return name.lower(), value.strip(b" \t")


def _check_host(head: Head) -> None:
    values = head.get_all(b"host")
    if len(values) != 1 or not _HOST.fullmatch(values[0]):
        raise HeadRejected(400, "The request needs exactly one valid Host header.")


def _check_framing(head: Head) -> None:
    """Refuse bodies whose end two servers could see in different places."""
    lengths = set(head.get_all(b"content-length"))
    codings = head.get_all(b"transfer-encoding")
    if lengths and codings:
        raise HeadRejected(400, "Content-Length and Transfer-Encoding exclude each other.")
    if len(lengths) > 1 or not all(map(_LENGTH.fullmatch, lengths)):
        raise HeadRejected(400, "Content-Length must be one number.")
    if codings and (len(codings) > 1 or codings[0].lower() != b"chunked"):
        raise HeadRejected(400, "The only Transfer-Encoding understood is chunked.")
