"""The mutations of one client id that the server has not decided: their numbers, their sending, their acknowledgement. Pure.

Owned by `StateCore`, one for each client this connection speaks for. Invariant: the undecided mutations have ascending numbers
without a gap, those that were never sent last.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from syncd.client.backoff import Backoff
from syncd.client.frames import Body, encode
from syncd.client.pending import Pending
from syncd.ids import ClientId

__all__ = ["ACK_COUNT", "ACK_S", "MutationQueue"]

ACK_COUNT = 100
ACK_S = 1.0
"""SPEC section 18: an acknowledgement once every second or every 100 outcomes is enough."""
FIRST_RETRY_S = 0.25
"""As for requests: what the server suggests itself when it has too much to do."""
CALM_S = 1.0
"""`out_of_order` is obeyed at once, but at most this often: the copies in flight are answered with it too."""
MAX_STALE = 3
"""`out_of_order` messages in a row, with no outcome between them, that expect what is decided: only a `welcome` says what is so."""
MAX_MID = 2**53 - 1


class MutationQueue:
    """Undecided mutations, oldest first.

    Args:
        slot: Which client of the session this is; the first needs no name in messages.
        rng: Source of jitter.
        send: Send one encoded message.
    """

    def __init__(self, slot: int, rng: random.Random, send: Callable[[bytes], None]) -> None:
        self.client: ClientId | None = None
        """None: not issued yet, or forgotten by the server."""
        self.undecided: dict[int, Pending] = {}
        """By mid, ascending."""
        self.is_blocked = False
        """The server refuses this session's mutations; another session's it may take."""
        self._slot = slot
        self._send = send
        self._backoff = Backoff(rng, first_s=FIRST_RETRY_S)
        self._is_online = False
        self._last_mid = 0
        """The highest number given, if higher than that of every decided one."""
        self._decided_upto = 0
        self._num_unacked = 0
        self._ack_at = math.inf
        self._retry_at = math.inf
        self._resent_at = -math.inf
        self._num_stale = 0

    @property
    def is_doubtful(self) -> bool:
        """The server goes on expecting what it has decided: it may have lost state, which only a new session can tell."""
        return self._num_stale >= MAX_STALE

    # -------------------------------------------------------------------------------- messages

    def _body(self, pending: Pending) -> Body:
        body: Body = {"mid": pending.mid, "name": pending.name, "args": pending.args}
        body["client"] = self.client if self._slot else None
        return body

    def size_bytes(self, pending: Pending) -> int:
        """Return how large the message of a mutation is at most, whatever number and client it gets.

        Raises:
            ValueError, TypeError, OverflowError: the arguments have no form on the wire.
        """
        body = self._body(pending) | {"mid": MAX_MID}
        if self._slot:
            body["client"] = self.client or "c" * 64
        return len(encode("mutate", body))

    def _send_all(self) -> None:
        if not self._is_online or self.client is None or self.is_blocked:
            return
        for pending in self.undecided.values():
            pending.is_sent = True
            self._send(encode("mutate", self._body(pending)))

    # -------------------------------------------------------------------------------- the application

    def add(self, pending: Pending) -> None:
        """Give a mutation its number and send it, or have it wait for its turn."""
        self._last_mid += 1
        pending.mid = self._last_mid
        self.undecided[pending.mid] = pending
        is_waiting = self._retry_at != math.inf or self.is_blocked
        if self._is_online and self.client is not None and not is_waiting:
            pending.is_sent = True
            self._send(encode("mutate", self._body(pending)))

    # -------------------------------------------------------------------------------- connection and time

    def went_offline(self) -> None:
        """The session is gone."""
        self._is_online, self._num_stale = False, 0
        self._retry_at = self._ack_at = math.inf
        self._backoff.reset()

    def next_deadline(self) -> float:
        """Return when `tick` has something to do."""
        return min(self._retry_at, self._ack_at)

    def tick(self, now: float) -> None:
        """Send again what was put off until now, and acknowledge."""
        if self._retry_at <= now:
            self._retry_at = math.inf
            self._resent_at = now
            self._send_all()
        if self._ack_at <= now:
            self._ack()

    # -------------------------------------------------------------------------------- the server

    def welcomed(self, client: ClientId, last_mid: int, now: float) -> list[Pending]:
        """A session speaks for this client: number what was never sent, and send everything in order.

        Undecided mutations up to `last_mid` are sent too: the server has decided them and answers with the outcome it kept.
        That is right because the server never runs a number twice; dropping them would leave their outcome untold, and
        taking them for done would call rejected ones successful.

        A `last_mid` below what was decided before means that the server lost state. What is above it is not applied there, so
        it is numbered anew.

        Returns:
            What was sent under an id the server has forgotten: nobody can say what became of it.
        """
        lost: list[Pending] = []
        if self.client is not None and client != self.client:
            lost = [p for p in self.undecided.values() if p.is_sent]
        elif last_mid < self._decided_upto:
            for pending in self.undecided.values():
                pending.is_sent = pending.is_sent and pending.mid <= last_mid
        if client != self.client or last_mid < self._decided_upto:
            self._decided_upto = last_mid
        self.client, self.is_blocked, self._is_online = client, False, True
        self._renumber([p for p in self.undecided.values() if p not in lost], last_mid)
        self._resent_at = now
        self._send_all()
        if self._decided_upto:
            self._ack_at = now + ACK_S
        return lost

    def forgotten(self) -> list[Pending]:
        """The server knows this client no more; return what was sent: nobody can say what became of it."""
        lost = [p for p in self.undecided.values() if p.is_sent]
        self.client, self._decided_upto = None, 0
        self._ack_at = self._retry_at = math.inf
        self._renumber([p for p in self.undecided.values() if not p.is_sent], 0)
        return lost

    def _renumber(self, kept: list[Pending], last_mid: int) -> None:
        """Number those never sent, one after the other behind those that were, and behind `last_mid`."""
        top = max([p.mid for p in kept if p.is_sent], default=0)
        top = max(top, last_mid)
        for pending in kept:
            if not pending.is_sent:
                top += 1
                pending.mid = top
        self._last_mid = top
        self.undecided = {p.mid: p for p in kept}

    def decided(self, mid: int, now: float) -> Pending | None:
        """Take an outcome; return the mutation, None if it was decided before. A repetition is acknowledged again."""
        pending = self.undecided.pop(mid, None)
        self._decided_upto = max(self._decided_upto, mid)
        self._backoff.reset()
        self._num_stale = 0
        self._num_unacked += 1
        self._ack_at = min(self._ack_at, now + ACK_S)
        if self._num_unacked >= ACK_COUNT:
            self._ack()
        return pending

    def _ack(self) -> None:
        """Acknowledge every outcome below the first that is missing."""
        self._ack_at, self._num_unacked = math.inf, 0
        upto = min([self._decided_upto, *(mid - 1 for mid in self.undecided)])
        if upto > 0 and self._is_online and self.client is not None:
            body: Body = {"upto": upto}
            if self._slot:
                body["client"] = self.client
            self._send(encode("mutate_ack", body))

    def postponed(self, mid: int, now: float, after_s: float) -> None:
        """A mutation could not be decided for now: send it and everything behind it again later."""
        if mid in self.undecided and self._retry_at == math.inf:
            self._retry_at = now + self._backoff.next_s(after_s)

    def refused(self, mid: int) -> Pending | None:
        """A mutation will never be taken, and was not decided: take it out; those behind it move up and are sent again."""
        pending = self.undecided.pop(mid, None)
        if pending is None:
            return None
        for later in self.undecided.values():
            later.is_sent = later.is_sent and later.mid < mid
        self._renumber(list(self.undecided.values()), mid - 1)
        self._send_all()
        return pending

    def is_missing(self, expect: int, now: float) -> None:
        """The server says that one is missing: send from the first undecided on, but do not answer every echo.

        Those below `expect` are decided, and sent for their outcome. One that expects what was decided before is older than the
        outcomes that came since, which go another way at the server; it says nothing about numbers, whatever is pending keeps its own.
        """
        if self._retry_at != math.inf or not self.undecided:
            return
        if expect < min(self.undecided):
            self._num_stale += 1
        if now - self._resent_at < CALM_S:
            self._retry_at = now + self._backoff.next_s()
            return
        self._resent_at = now
        self._send_all()
