"""Requests that wait for an answer, over as many connections as it takes. Pure.

Owned by `ClientCore`. Every request settles once: by the server's word, by `forget`, or when the client ends.
"""

from __future__ import annotations

import math
import random

import attrs

from syncd.client.backoff import Backoff

__all__ = ["Request", "Requests"]

FIRST_RETRY_S = 0.25
"""What the server suggests itself (`MailboxFull.after_ms`) when it has too much to do."""


@attrs.define(eq=False)
class Request:
    """One request and its encoded message, which is the same at every attempt."""

    id: int
    kind: str
    message: bytes
    channel: str
    is_internal: bool
    """Nobody waits for it: the core asks for itself."""
    backoff: Backoff
    retry_at: float | None = None


class Requests:
    """Open requests in the order they were made. Bounded by whoever makes them: the shell admits 1,024 at a time."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._open: dict[int, Request] = {}
        self._num_made = 0
        self._delayed: dict[int, Request] = {}

    def next_id(self) -> int:
        """Return a number no message of this client carried before."""
        self._num_made += 1
        return self._num_made

    def open(
        self, request_id: int, kind: str, message: bytes, channel: str, *, is_internal: bool
    ) -> Request:
        """Add a request."""
        backoff = Backoff(self._rng, first_s=FIRST_RETRY_S)
        request = Request(request_id, kind, message, channel, is_internal, backoff)
        self._open[request_id] = request
        return request

    def find(self, request_id: int) -> Request | None:
        """Return an open request."""
        return self._open.get(request_id)

    def close(self, request_id: int) -> Request | None:
        """Remove and return a request; None when it is not open (any more)."""
        self._delayed.pop(request_id, None)
        return self._open.pop(request_id, None)

    def of_kind(self, kind: str, channel: str) -> list[Request]:
        """Return the open requests of this kind for this channel."""
        return [r for r in self._open.values() if r.kind == kind and r.channel == channel]

    def postpone(self, request: Request, now: float, after_s: float) -> None:
        """Send it again later."""
        request.retry_at = now + request.backoff.next_s(after_s)
        self._delayed[request.id] = request

    def all(self) -> list[Request]:
        """Return all, oldest first."""
        return list(self._open.values())

    def all_to_send(self) -> list[Request]:
        """Return all, oldest first, and forget what was postponed: a new connection asks everything again."""
        self._delayed.clear()
        return self.all()

    def due(self, now: float) -> list[Request]:
        """Return, oldest first, the postponed ones whose time has come."""
        due = [r for _, r in sorted(self._delayed.items()) if _retry_at(r) <= now]
        for request in due:
            del self._delayed[request.id]
        return due

    def next_retry_at(self) -> float:
        """Return when the first postponed one is due; infinity for none."""
        return min(map(_retry_at, self._delayed.values()), default=math.inf)

    def close_all(self) -> list[Request]:
        """Remove and return all, oldest first."""
        left = self.all()
        self._open.clear()
        self._delayed.clear()
        return left


def _retry_at(request: Request) -> float:
    return 0.0 if request.retry_at is None else request.retry_at
