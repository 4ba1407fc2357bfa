"""What both publishers do with collections; each brings how a call is sent."""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, TypeVar, Unpack

from syncd.backend import calls_state as calls
from syncd.backend.calls import Call
from syncd.backend.calls_state import Entries, Mutated, Positions, RebuildOptions

__all__ = ["AsyncStateMethods", "StateMethods"]

T = TypeVar("T")
Texts = str | Sequence[str]


class StateMethods(ABC):
    """The blocking ones."""

    @abstractmethod
    def _do(self, call: Call[T]) -> T: ...

    def mutate(
        self, name: str, args: object = None, *, idempotency_key: str | None = None
    ) -> Mutated:
        """Run a mutator and return what it returned and where. It happens once, whatever is repeated.

        Args:
            name: `orders.ship`, or `ship` for one of no collection.
            args: A dict by name, a list by position, or None; what JSON can hold, or bytes.
            idempotency_key: Kept for 24 h; one is made if none is given. Derive it from what caused the call and it is safe to
                repeat after a crash too.

        Raises:
            MutationRejected: it was refused for good; the same key is answered so again.
        """
        return self._do(calls.mutate(name, args, idempotency_key or secrets.token_urlsafe(16)))

    def invalidate(
        self,
        collection: str,
        *,
        keys: Texts | None = None,
        tags: Texts | None = None,
        everything: bool = False,
        cause: str | None = None,
    ) -> Positions:
        """Say that entries may have changed at their source: by keys, by tags, or everything (exactly one of them).

        Call it after the source has committed. When it returns, nobody reads the old values as fresh any more.

        Args:
            cause: Told to watchers.

        Raises:
            ValueError: not exactly one of the three is given.
        """
        return self._do(
            calls.invalidate(collection, keys=keys, tags=tags, everything=everything, cause=cause)
        )

    def read(self, collection: str, keys: Texts, *, after: Positions | None = None) -> Entries:
        """Read entries of one partition, loaded if need be: as many keys as fit into a URL of 16 KiB.

        Args:
            after: The answer is at least as new: `Mutated.positions` of a mutation whose effect must be in it.
        """
        return self._do(calls.read(collection, keys, after))

    def cache_stats(self) -> dict[str, Any]:
        """Count what collections hold and what became of lookups: `{collections: {name: {...}}, total: {...}}`."""
        return self._do(calls.cache_stats())

    def cache_config(self) -> dict[str, dict[str, Any]]:
        """Read the limits of collections in memory, by name."""
        return self._do(calls.cache_config())

    def change_cache_config(self, collection: str, **changes: float | None) -> dict[str, Any]:
        """Change limits (max_entries, max_bytes, ttl_s, stale_s) until the node stops; return all of the collection."""
        return self._do(calls.change_cache_config(collection, changes))

    def clear_cache(self, collection: str | None = None) -> dict[str, int]:
        """Forget what is in memory of a collection, or of all; return how many entries by collection. Nothing is lost."""
        return self._do(calls.clear_cache(collection))

    def warm_cache(
        self, collection: str | None = None, keys: Sequence[str] | None = None
    ) -> dict[str, int]:
        """Bring entries into memory, those used most without keys; return how many by collection."""
        return self._do(calls.warm_cache(collection, keys))

    def rebuild(
        self, collection: str, *, mode: str = "full", **options: Unpack[RebuildOptions]
    ) -> dict[str, Any]:
        """Have a collection read anew from its source; return the job, which has begun at most.

        Args:
            mode: `full`; `resume` to go on where the last job was left; `keys` or `tag` for some entries only.
            options: See `RebuildOptions`.

        Raises:
            Refused: `rebuild_running`, `not_supported` (no scanner), `permission_denied` (no such collection).
        """
        return self._do(calls.rebuild(collection, {"mode": mode, **options}))

    def rebuild_job(self, job: str) -> dict[str, Any]:
        """Return how far a job is: `state`, `done`, `total`, ... as the API tells it."""
        return self._do(calls.rebuild_job(job))

    def rebuild_jobs(self) -> list[dict[str, Any]]:
        """Return the last hundred jobs, the newest last."""
        return self._do(calls.rebuild_jobs())

    def cancel_rebuild(self, job: str) -> dict[str, Any]:
        """Have a job end without a change of entries, unless it is swapping already; return it as it is now."""
        return self._do(calls.cancel_rebuild(job))


class AsyncStateMethods(ABC):
    """The awaiting ones."""

    @abstractmethod
    async def _do(self, call: Call[T]) -> T: ...

    async def mutate(
        self, name: str, args: object = None, *, idempotency_key: str | None = None
    ) -> Mutated:
        """As `Publisher.mutate`."""
        return await self._do(
            calls.mutate(name, args, idempotency_key or secrets.token_urlsafe(16))
        )

    async def invalidate(
        self,
        collection: str,
        *,
        keys: Texts | None = None,
        tags: Texts | None = None,
        everything: bool = False,
        cause: str | None = None,
    ) -> Positions:
        """As `Publisher.invalidate`."""
        return await self._do(
            calls.invalidate(collection, keys=keys, tags=tags, everything=everything, cause=cause)
        )

    async def read(
        self, collection: str, keys: Texts, *, after: Positions | None = None
    ) -> Entries:
        """As `Publisher.read`."""
        return await self._do(calls.read(collection, keys, after))

    async def cache_stats(self) -> dict[str, Any]:
        """As `Publisher.cache_stats`."""
        return await self._do(calls.cache_stats())

    async def cache_config(self) -> dict[str, dict[str, Any]]:
        """As `Publisher.cache_config`."""
        return await self._do(calls.cache_config())

    async def change_cache_config(self, collection: str, **changes: float | None) -> dict[str, Any]:
        """As `Publisher.change_cache_config`."""
        return await self._do(calls.change_cache_config(collection, changes))

    async def clear_cache(self, collection: str | None = None) -> dict[str, int]:
        """As `Publisher.clear_cache`."""
        return await self._do(calls.clear_cache(collection))

    async def warm_cache(
        self, collection: str | None = None, keys: Sequence[str] | None = None
    ) -> dict[str, int]:
        """As `Publisher.warm_cache`."""
        return await self._do(calls.warm_cache(collection, keys))

    async def rebuild(
        self, collection: str, *, mode: str = "full", **options: Unpack[RebuildOptions]
    ) -> dict[str, Any]:
        """As `Publisher.rebuild`."""
        return await self._do(calls.rebuild(collection, {"mode": mode, **options}))

    async def rebuild_job(self, job: str) -> dict[str, Any]:
        """As `Publisher.rebuild_job`."""
        return await self._do(calls.rebuild_job(job))

    async def rebuild_jobs(self) -> list[dict[str, Any]]:
        """As `Publisher.rebuild_jobs`."""
        return await self._do(calls.rebuild_jobs())

    async def cancel_rebuild(self, job: str) -> dict[str, Any]:
        """As `Publisher.cancel_rebuild`."""
        return await self._do(calls.cancel_rebuild(job))
