"""How old events are when they have been applied, as a client tells its node in `pong` (SPEC 4.4). Pure."""

from __future__ import annotations

from typing import Any

__all__ = ["AppliedAge"]


class AppliedAge:
    """Of the last event since it was last told."""

    __slots__ = ("_age_ms", "_began_ms", "_wall_ms")

    def __init__(self) -> None:
        self._age_ms: int | None = None
        self._began_ms = self._wall_ms = 0.0

    def welcomed(self, server_time_ms: int, now: float) -> None:
        """A session has begun: what the server's clock says, and ours in seconds."""
        self._age_ms = None
        self._began_ms, self._wall_ms = server_time_ms, server_time_ms - now * 1000

    def applied(self, at_ms: int, now: float) -> None:
        """An event of this time has been applied. One from before the session was not late, the client was away."""
        if at_ms >= self._began_ms:
            self._age_ms = max(round(self._wall_ms + now * 1000) - at_ms, 0)

    def take(self) -> dict[str, Any]:
        """Return the body of a `pong`."""
        age_ms, self._age_ms = self._age_ms, None
        return {} if age_ms is None else {"applied_age_ms": age_ms}
