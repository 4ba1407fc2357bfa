"""What operators did: who, what, when, and what came of it.

Owner of: a ring of the newest actions. Everything in it is told onwards at once (`tell`): to the store, to subscribers of `$audit:node`, to the
log. Written by HTTP and the rebuild-coordinator, on the loop.
"""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import attrs
import msgpack

from syncd.errors import SyncdError
from syncd.model.reserved import AUDIT_KEPT

__all__ = ["AuditEntry", "AuditLog"]

OK = "ok"


@attrs.frozen
class AuditEntry:
    """One action."""

    at_ms: int
    who: str
    """`service:NAME` or `user:NAME`; `schedule` for what nobody asked for."""
    what: str
    """`disconnect`, `rebuild_start`, ..."""
    outcome: str
    """`ok`, the code of the error, or how a job ended."""
    details: dict[str, Any]
    """Plain values: whom or what it was about."""


def _identity_of(entry: AuditEntry) -> bytes:
    """Return what an entry has in common with itself as it comes back from the store."""
    packed: bytes = msgpack.packb(attrs.astuple(entry, recurse=False))
    return packed


class AuditLog:
    """The newest actions (see the module's docstring)."""

    def __init__(self, wall_ms: Callable[[], int], tell: Callable[[AuditEntry], None]) -> None:
        self._wall_ms = wall_ms
        self._tell = tell
        self._ring: collections.deque[AuditEntry] = collections.deque(maxlen=AUDIT_KEPT)

    def note(self, who: str, what: str, outcome: str = OK, **details: Any) -> None:
        """Enter one action. Never raises, never waits."""
        entry = AuditEntry(self._wall_ms(), who, what, outcome, details)
        self._ring.append(entry)
        self._tell(entry)

    @contextlib.contextmanager
    def action(self, who: str, what: str, **details: Any) -> Iterator[dict[str, Any]]:
        """Enter an action when the block is left, with what came of it; the block may add details."""
        outcome = "interrupted"
        try:
            yield details
            outcome = OK
        except SyncdError as error:
            outcome = error.code.value
            raise
        except Exception:
            outcome = "internal_error"
            raise
        finally:
            self.note(who, what, outcome, **details)

    def merge(self, stored: Iterable[AuditEntry]) -> None:
        """Take over what the store has, ascending: what was there before the start, and what other nodes entered; each once, by time."""
        entries = {_identity_of(each): each for each in (*stored, *self._ring)}
        self._ring.clear()
        self._ring.extend(sorted(entries.values(), key=lambda entry: entry.at_ms))

    def last(self, limit: int) -> list[AuditEntry]:
        """Return the newest ones, the newest first."""
        return list(self._ring)[::-1][:limit]
