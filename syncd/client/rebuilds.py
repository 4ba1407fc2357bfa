"""Rebuilds as an operator's client asks for them. Mixed into `Client`, which owns the connection."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import Any

from syncd.client.core import ClientCore
from syncd.client.facts import Event, RequestResult
from syncd.client.facts_state import RebuildJob, job_from_body
from syncd.client.handles import Subscription

__all__ = ["Progress", "RebuildCalls"]


class Progress:
    """The jobs of one collection, newest state only: iterate over it with `async for`. The present state, if there is one, comes first."""

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription

    def __aiter__(self) -> Progress:
        return self

    async def __anext__(self) -> RebuildJob:
        """Return the next state told. Cancelled: nothing was taken."""
        while True:
            item = await self._subscription.__anext__()
            if isinstance(item, Event):
                return job_from_body(item.data)

    async def until_ended(self, job: str) -> RebuildJob:
        """Return the last state of a job, once it is told."""
        async for state in self:
            if state.job == job and state.is_ended:
                return state
        raise AssertionError("a subscription that ends before is an error already")


class RebuildCalls:
    """What a client does about rebuilds; its token needs the role `admin`."""

    _core: ClientCore

    async def _call(self, ask: Callable[[], int]) -> RequestResult:
        raise NotImplementedError

    def subscribe(self, channel: str) -> contextlib.AbstractAsyncContextManager[Subscription]:
        """See `Client.subscribe`."""
        raise NotImplementedError

    async def rebuild(
        self,
        collection: str,
        *,
        mode: str = "full",
        keys: Iterable[str] | None = None,
        tag: str | None = None,
        join: bool = False,
        keep_missing: bool = False,
        max_rows_per_s: int | None = None,
        deadline_s: float | None = None,
        uid: str | None = None,
    ) -> RebuildJob:
        """Have a collection read anew from its source; returns its job at once.

        Args:
            collection: Its name.
            mode: `full`; `resume`: on from where the last job was left; `keys` or `tag`: only some entries.
            keys: For mode `keys`, at most 1,000.
            tag: For mode `tag`.
            join: If a job of the collection is under way, return that one.
            keep_missing: Entries that the source does not have any more stay.
            max_rows_per_s: Read no faster than this.
            deadline_s: The job fails if it has not ended by then.
            uid: Names the request, so that repeating it returns the same job; one is made if none is given.

        Raises:
            RequestFailed: `rebuild_running`, `permission_denied`, `not_supported`, `bad_request`, `bad_key`, `overloaded`.
        """
        body: dict[str, Any] = {
            "collection": collection,
            "mode": mode,
            "keys": None if keys is None else list(keys),
            "tag": tag,
            "join": join or None,
            "keep_missing": keep_missing or None,
            "max_rows_per_s": max_rows_per_s,
            "deadline_ms": None if deadline_s is None else int(deadline_s * 1000),
            "uid": uid,
        }
        result = await self._call(lambda: self._core.rebuild(body))
        assert isinstance(result, RebuildJob)
        return result

    async def cancel_rebuild(self, job: str) -> RebuildJob:
        """Have a job end without effect, unless it is swapping already; returns where it stands. Raises as `rebuild`."""
        result = await self._call(lambda: self._core.cancel_rebuild(job))
        assert isinstance(result, RebuildJob)
        return result

    @contextlib.asynccontextmanager
    async def rebuild_progress(self, collection: str) -> AsyncGenerator[Progress]:
        """Follow the rebuilds of a collection while the block runs. Raises as `Client.subscribe`."""
        async with self.subscribe(f"$rebuild:{collection}") as subscription:
            yield Progress(subscription)
