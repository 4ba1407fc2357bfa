"""What is written to Redis and what its answers are, as bytes: the few commands of pub/sub in RESP2.

RESP2, because its pub/sub answers are plain arrays that `hiredis` builds fastest, and because every server since 6 speaks it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import attrs
import hiredis

__all__ = [
    "PING",
    "SHARDED",
    "WHOLE",
    "LinkLost",
    "ReplyReader",
    "Verbs",
    "check_hello",
    "chunks",
    "hello",
    "is_misplaced",
    "pack",
]


class LinkLost(Exception):
    """This connection to Redis is over; the message says why."""


def pack(*words: bytes | str) -> bytes:
    """Encode one command."""
    packed: bytes = hiredis.pack_command(words)  # type: ignore[arg-type]  # its stub means tuples of any length
    return packed


PING = pack("PING")


@attrs.frozen
class Verbs:
    """Commands and answers of one kind of pub/sub."""

    publish: bytes
    subscribe: bytes
    unsubscribe: bytes
    message: bytes
    """Kind of an array that brings one message."""


WHOLE = Verbs(b"PUBLISH", b"SUBSCRIBE", b"UNSUBSCRIBE", b"message")
SHARDED = Verbs(b"SPUBLISH", b"SSUBSCRIBE", b"SUNSUBSCRIBE", b"smessage")


def hello(name: str, username: str | None, password: str | None) -> bytes:
    """Encode what opens a connection: protocol, user and name in one; no right is needed for it."""
    words = ["HELLO", "2"]
    if password is not None:
        words += ["AUTH", username or "default", password]
    return pack(*words, "SETNAME", name)


def check_hello(answer: Any) -> None:
    """Read the answer to `hello`.

    Raises:
        LinkLost: refused, or this is a replica, where nobody hears what is published.
    """
    if isinstance(answer, hiredis.ReplyError):
        raise LinkLost(str(answer))
    if not isinstance(answer, list):
        raise LinkLost("not Redis")
    facts = dict(zip(answer[::2], answer[1::2], strict=False))
    if facts.get(b"role") != b"master":
        raise LinkLost("this server is a replica")


def is_misplaced(error: hiredis.ReplyError) -> bool:
    """Whether another server serves this topic now, or none does."""
    return str(error).startswith(("MOVED", "ASK", "CLUSTERDOWN", "READONLY"))


_END = object()


class ReplyReader:
    """Turns received bytes into answers."""

    __slots__ = ("_feed", "_gets")

    def __init__(self) -> None:
        reader = hiredis.Reader(notEnoughData=_END)
        self._feed: Callable[..., None] = reader.feed
        self._gets: Callable[[], Any] = reader.gets

    def read(self, data: bytes | bytearray) -> Iterator[Any]:
        """Take what was received and yield every whole answer. `hiredis.ProtocolError` comes out of the iteration."""
        self._feed(data)
        return iter(self._gets, _END)


def chunks(topics: list[bytes], size: int) -> Iterable[list[bytes]]:
    """Cut a list."""
    return (topics[start : start + size] for start in range(0, len(topics), size))
