"""The opening handshake of RFC 6455 section 4.2, server side, on heads that `wire.head` has read.

The gateway calls, in this order, `check_host`, `check_origin`, `refuse_token_in_query` and `accept_upgrade`, and answers
a `HeadRejected` with `reject_bytes`. All names of the handshake are importable from here.

The 101 response is written here rather than by wsproto: h11 would parse again what `wire.head` has checked more
strictly, for 60 us a connection against 5 here (Python 3.11, a Chrome request of 14 headers), a fifth of the time that
3,000 connections a second leave for each. Every response is byte for byte the one wsproto gives, which a differential
test checks; wsproto stays the oracle.
"""

from __future__ import annotations

import base64
import hashlib
import re
import urllib.parse

from syncd.wire.head import Head, HeadReader, HeadRejected, parse_head, reject_bytes
from syncd.wire.origins import HostPolicy, OriginPolicy, check_host, check_origin

__all__ = [
    "SUBPROTOCOL",
    "Head",
    "HeadReader",
    "HeadRejected",
    "HostPolicy",
    "OriginPolicy",
    "accept_upgrade",
    "check_host",
    "check_origin",
    "parse_head",
    "refuse_token_in_query",
    "reject_bytes",
]

SUBPROTOCOL = "syncd.v1"

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==")
"""Sixteen bytes in base64."""
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_TOKEN_PARAMETER = re.compile(r"(?:^|[&;])\s*(?:token|access_token|jwt)\s*(?:[=&;]|$)")


def refuse_token_in_query(head: Head) -> None:
    """Refuse credentials in the URL, where proxies and browsers write them into logs.

    The query is decoded as a whole, so that no way of writing a parameter's name slips through.

    Raises:
        HeadRejected: 400; says where the token belongs.
    """
    query = urllib.parse.unquote_plus(head.target.partition("?")[2], errors="replace")
    if _TOKEN_PARAMETER.search(query.lower()):
        raise HeadRejected(
            400, "Send the token in the hello message; in the URL it would end up in logs."
        )


def accept_upgrade(head: Head, subprotocol: str | None = SUBPROTOCOL) -> bytes:
    """Return the 101 response that opens the WebSocket; extensions are never accepted.

    Args:
        head: The request.
        subprotocol: The one this endpoint speaks, which the client must offer. None takes the client's first offer, or
            none at all.

    Raises:
        HeadRejected: 405 (not GET), 426 (no upgrade, or a version other than 13) or 400.
    """
    _check_request(head)
    chosen = _choose_subprotocol(head.get_list(b"sec-websocket-protocol"), subprotocol)
    digest = hashlib.sha1(_key(head) + _GUID, usedforsecurity=False).digest()
    response = (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n"
    )
    if chosen is not None:
        response += b"Sec-WebSocket-Protocol: " + chosen + b"\r\n"
    return response + b"\r\n"


def _check_request(head: Head) -> None:
    if head.method != "GET":
        raise HeadRejected(405, "A WebSocket opens with GET.", ((b"Allow", b"GET"),))
    if not head.is_upgrade:
        raise HeadRejected(
            426, "This address speaks WebSocket only.", ((b"Upgrade", b"websocket"),)
        )
    if head.get_all(b"sec-websocket-version") != [b"13"]:
        raise HeadRejected(
            426,
            "Only WebSocket version 13 is spoken.",
            ((b"Upgrade", b"websocket"), (b"Sec-WebSocket-Version", b"13")),
        )
    if b"upgrade" not in [item.lower() for item in head.get_list(b"connection")]:
        raise HeadRejected(400, "The header `Connection: Upgrade` is missing.")
    if head.get(b"transfer-encoding") or int(head.get(b"content-length") or 0):
        raise HeadRejected(400, "An upgrade request has no body.")


def _key(head: Head) -> bytes:
    keys = head.get_all(b"sec-websocket-key")
    if len(keys) != 1 or not _KEY.fullmatch(keys[0]):
        raise HeadRejected(400, "The request needs one valid Sec-WebSocket-Key.")
    return keys[0]


def _choose_subprotocol(offered: list[bytes], wanted: str | None) -> bytes | None:
    if not all(map(_TOKEN.fullmatch, offered)):
        raise HeadRejected(400, "Sec-WebSocket-Protocol is malformed.")
    if wanted is None:
        return offered[0] if offered else None
    if wanted.encode() not in offered:
        raise HeadRejected(
            400, f"The client must offer the subprotocol {wanted} (Sec-WebSocket-Protocol)."
        )
    return wanted.encode()
