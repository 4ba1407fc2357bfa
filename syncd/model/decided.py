"""Up to which mutation of each client something is as of. Pure.

Owned by the cache-owner: for entries in memory. Invariant: memory holds what became of every mutation of a client up to the number
here, and of none after it; of a client that is not here nothing is known.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["Decided"]

MAX_CLIENTS = 65_536
"""Policy when full: those who mutated longest ago are forgotten. They have their outcomes, and only what is pending needs this."""


class Decided:
    """The last mutation that was decided, by client."""

    def __init__(self, max_clients: int = MAX_CLIENTS) -> None:
        self._max_clients = max_clients
        self._mids: dict[str, int] = {}
        """Those who mutated last stand last."""

    def note(self, client: str, mid: int) -> None:
        """What became of this mutation, and of every earlier one, is in."""
        mids = self._mids
        known = mids.pop(client, 0)
        mids[client] = max(known, mid)
        if len(mids) > self._max_clients:
            del mids[next(iter(mids))]

    def of(self, clients: Sequence[str]) -> dict[str, int]:
        """Return the last one of each of these that is known."""
        mids = self._mids
        return {client: mids[client] for client in clients if client in mids}
