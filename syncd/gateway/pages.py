"""Answers on their way to a session that are much larger than their requests: pages of history, entries. Only a few at a time.

Who reads no answers could otherwise have a thousand of 256 KiB made and kept for it, with requests of 60 bytes.
"""

from __future__ import annotations

from collections.abc import Sequence

from syncd.codes import ErrorCode
from syncd.errors import RequestRejected, SyncdError
from syncd.gateway.connection import Connection
from syncd.ids import Epoch
from syncd.ports_collections import EntriesAnswer
from syncd.wire import encode_state

__all__ = ["MAX_PAGES", "MAX_READS", "MAX_READ_BYTES", "EntriesAsker", "PageAsker"]

MAX_PAGES = 4
"""History requests of a session without an answer; SPEC section 12 has the same number. Four pages fill an outbox."""
MAX_READS = 16
"""Reads of a session without an answer; SPEC section 12 has the same number."""
MAX_READ_BYTES = 1_048_576
"""Of one answer with several entries: half of the frame that every client takes. SPEC section 12 has the same number."""
RETRY_MS = 100


def _too_many() -> RequestRejected:
    return RequestRejected(ErrorCode.RATE_LIMITED, after_ms=RETRY_MS)


def _is_behind(connection: Connection) -> bool:
    outbox = connection.outbox
    return outbox is not None and outbox.size_bytes * 2 > outbox.budget_bytes


class PageAsker:
    """Passes the answer of one history request on to its session, which it counts in and off. Implements `ports.Asker`."""

    __slots__ = ("connection",)

    def __init__(self, connection: Connection) -> None:
        """Count it in.

        Raises:
            RequestRejected: rate_limited; too many are on their way, or the session does not read what it has.
        """
        if connection.num_pages >= MAX_PAGES or _is_behind(connection):
            raise _too_many()
        self.connection = connection
        connection.num_pages += 1

    def reply_ok(self, request_id: int, epoch: Epoch | None = None, offset: int = 0) -> None:
        """Answer ok."""
        self.connection.num_pages -= 1
        self.connection.reply_ok(request_id, epoch, offset)

    def reply_error(self, request_id: int, error: SyncdError) -> None:
        """Answer with an error."""
        self.connection.num_pages -= 1
        self.connection.reply_error(request_id, error)

    def reply_events(
        self, request_id: int, epoch: Epoch, offset: int, bodies: Sequence[bytes]
    ) -> None:
        """Answer with the page."""
        self.connection.num_pages -= 1
        self.connection.reply_events(request_id, epoch, offset, bodies)


class EntriesAsker:
    """Passes the answer of one `read` on to its session, which it counts in and off."""

    __slots__ = ("connection", "request_id")

    def __init__(self, connection: Connection, request_id: int) -> None:
        """Count it in.

        Raises:
            RequestRejected: rate_limited; too many are on their way, or the session does not read what it has.
        """
        if connection.num_reads >= MAX_READS or _is_behind(connection):
            raise _too_many()
        self.connection = connection
        self.request_id = request_id
        connection.num_reads += 1

    def answer(self, answer: EntriesAnswer | SyncdError) -> None:
        """Tell the entries or the error. Called once; never waits."""
        connection = self.connection
        connection.num_reads -= 1
        connection.owner.finish_soon()
        if isinstance(answer, SyncdError):
            connection.reply_error(self.request_id, answer)
            return
        entries = [encode_state.entry(e.key, e.version, e.value) for e in answer.entries]
        size = sum(map(len, entries))
        if len(entries) > 1 and size > MAX_READ_BYTES:
            text = f"An answer may have {MAX_READ_BYTES} bytes: ask for fewer keys at once."
            connection.reply_error(self.request_id, RequestRejected(ErrorCode.TOO_LARGE, text))
        elif _has_no_room(connection, size):
            connection.reply_error(self.request_id, _too_many())
        else:
            connection.send(encode_state.ok_entries(self.request_id, answer.position, entries))


def _has_no_room(connection: Connection, size_bytes: int) -> bool:
    """Several answers may have been asked for before the first one filled the outbox."""
    outbox = connection.outbox
    if outbox is None or not outbox:
        return False
    return outbox.size_bytes + size_bytes > outbox.budget_bytes
