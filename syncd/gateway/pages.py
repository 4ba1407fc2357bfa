"""Pages of history on their way to a session: small requests with large answers, so only a few at a time.

Who reads no answers could otherwise have a thousand of 256 KiB made and kept for it, with requests of 60 bytes.
"""

from __future__ import annotations

from collections.abc import Sequence

from syncd.codes import ErrorCode
from syncd.errors import RequestRejected, SyncdError
from syncd.gateway.connection import Connection
from syncd.ids import Epoch

__all__ = ["MAX_PAGES", "PageAsker"]

MAX_PAGES = 4
"""History requests of a session without an answer; SPEC section 12 has the same number. Four pages fill an outbox."""
RETRY_MS = 100


class PageAsker:
    """Passes the answer of one history request on to its session, which it counts in and off. Implements `ports.Asker`."""

    __slots__ = ("connection",)

    def __init__(self, connection: Connection) -> None:
        """Count it in.

        Raises:
            RequestRejected: rate_limited; too many are on their way, or the session does not read what it has.
        """
        outbox = connection.outbox
        is_behind = outbox is not None and outbox.size_bytes * 2 > outbox.budget_bytes
        if connection.num_pages >= MAX_PAGES or is_behind:
            raise RequestRejected(ErrorCode.RATE_LIMITED, after_ms=RETRY_MS)
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
