"""What one publishing link has to write and what Redis has not answered yet: decided without I/O.

Owner of: the queue of one link. Policy: DROP what is published while the queue is full or the link is down; what was under way when a connection
ended is counted and never written again, for a second time could overtake or double.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import hiredis

from syncd.bus.commands import LinkLost, Verbs, is_misplaced, pack

__all__ = ["Publications"]


class Publications:
    """The state of one publishing link.

    Args:
        verbs: Which kind of pub/sub.
        queue_bytes: Bound of what waits to be written.
        max_outstanding: Bound of messages written and not answered; more wait in the queue.
    """

    def __init__(self, verbs: Verbs, *, queue_bytes: int, max_outstanding: int) -> None:
        self._verb = verbs.publish
        self._max_queue_bytes, self._max_outstanding = queue_bytes, max_outstanding
        self._is_open = False
        self._queue: list[bytes] = []
        self.queue_bytes = 0
        self.num_outstanding = 0
        self.num_published = 0
        self.num_dropped = 0
        self.num_unconfirmed = 0
        self.num_refused = 0

    @property
    def num_queued(self) -> int:
        """Messages that wait to be written."""
        return len(self._queue)

    def publish(self, topic: bytes, payload: bytes) -> bool:
        """See `BusPort.publish`."""
        if not self._is_open or self.queue_bytes + len(payload) > self._max_queue_bytes:
            self.num_dropped += 1
            return False
        command = pack(self._verb, topic, payload)
        self._queue.append(command)
        self.queue_bytes += len(command)
        return True

    def open(self) -> None:
        """A new connection is ready."""
        self._is_open = True

    def close(self) -> None:
        """The connection is over, and what was under way with it."""
        self._is_open = False
        self.num_unconfirmed += self.num_outstanding + len(self._queue)
        self._queue.clear()
        self.queue_bytes = self.num_outstanding = 0

    def has_output(self) -> bool:
        """Whether `take_output` returns anything."""
        return bool(self._queue) and self.num_outstanding < self._max_outstanding

    def take_output(self) -> bytes:
        """Return what may be written now, as one piece."""
        room = self._max_outstanding - self.num_outstanding
        taken, self._queue = self._queue[:room], self._queue[room:]
        output = b"".join(taken)
        self.queue_bytes -= len(output)
        self.num_outstanding += len(taken)
        return output

    def take_replies(self, replies: Iterable[Any]) -> int:
        """Count what Redis answered, in the order of writing.

        Returns:
            How many PINGs were answered.

        Raises:
            LinkLost: the topic is served elsewhere, or there are more answers than questions.
        """
        num_pongs = num_published = 0
        try:
            for reply in replies:
                if type(reply) is int:
                    num_published += 1
                elif reply == b"PONG":
                    num_pongs += 1
                elif isinstance(reply, hiredis.ReplyError):
                    self._refuse(reply)
                else:
                    raise LinkLost("not an answer")
        finally:
            self.num_published += num_published
            self.num_outstanding -= num_published
        if self.num_outstanding < 0:
            raise LinkLost("an answer without a question")
        return num_pongs

    def _refuse(self, reply: hiredis.ReplyError) -> None:
        self.num_refused += 1
        self.num_outstanding -= 1
        if is_misplaced(reply):
            raise LinkLost(str(reply))
