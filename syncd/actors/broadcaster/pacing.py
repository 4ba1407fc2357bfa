"""Whose turn it is to be sent missed events: one page a session and batch, one read of the log a session at a time.

A session may recover many channels at once. Without turns, all their pages would be read and queued before the first was written; with
them a session that does not read holds one page, however many channels it asked for.
"""

from __future__ import annotations

from collections.abc import Callable

from syncd.ports import SessionDrained, SessionPort, Subscription

__all__ = ["Pace"]


class Pace:
    """Turns of sessions; who has to wait is looked at again by `SessionDrained`."""

    def __init__(self, post: Callable[[SessionDrained], None]) -> None:
        self._post = post
        self._served: set[SessionPort] = set()
        """Sent a page in this batch: whether they keep up shows only when it is written."""
        self._reading: dict[SessionPort, list[Subscription]] = {}
        """A page of theirs is being read; who waits for that."""

    def begin(self) -> None:
        """A batch begins: what the last one queued is written."""
        self._served.clear()

    def has_turn(self, subscription: Subscription) -> bool:
        """Whether a page may be sent or read now; if not, it will be looked at again."""
        session = subscription.session
        behind = self._reading.get(session)
        if behind is not None:
            behind.append(subscription)
        elif session in self._served:
            self.later(subscription)
        elif not session.has_room():
            session.call_when_drained(subscription)
        else:
            return True
        return False

    def later(self, subscription: Subscription) -> None:
        """Look at it again once this batch is written: only then does the session know whether it has room."""
        self._post(SessionDrained([subscription]))

    def note_page(self, session: SessionPort) -> None:
        """A page was queued."""
        self._served.add(session)

    def begin_read(self, session: SessionPort) -> None:
        """A page is asked of the store."""
        self._reading.setdefault(session, [])

    def end_read(self, session: SessionPort) -> None:
        """The store has answered."""
        behind = self._reading.pop(session, [])
        if behind:
            self._post(SessionDrained(behind))
