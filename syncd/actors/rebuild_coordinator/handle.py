"""The rebuild-coordinator, as the gateway and HTTP see it."""

from __future__ import annotations

from typing import Any, Protocol

from syncd.model.rebuild_plan import Wish

__all__ = ["Rebuilds"]


class Rebuilds(Protocol):
    """Every method returns at once, with what is told of jobs: `shapes.progress` of `messages.toml`, absent ones None."""

    def start(
        self, collection: str, wish: Wish, *, joins: bool, who: str, uid: str | None = None
    ) -> dict[str, Any]:
        """Queue a job. Under a `uid` that this asker has used for the collection, that job is returned.

        Raises:
            RequestRejected: permission_denied for an unknown collection, not_supported for one without a source for this, bad_key.
            RebuildRunning: one is under way, unless `joins`: then that one is returned.
            SyncdError: overloaded.
        """

    def cancel(self, job_id: str, *, who: str) -> dict[str, Any]:
        """Have a job end without a swap, unless it is swapping already. Raises bad_request for one that is unknown."""

    def job(self, job_id: str) -> dict[str, Any]:
        """Return a job. Raises bad_request for one that is unknown."""

    def jobs(self) -> list[dict[str, Any]]:
        """Return all jobs that are not forgotten, the newest last."""
