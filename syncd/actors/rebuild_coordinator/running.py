"""One rebuild from its lease to its swap.

Owner of: the lease of its job. Whatever ends it, the lease is given back or left to expire; the entries change in the swap or not at all.
Waits for the store, the scanner and the cache-owner.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import structlog
import trio

from syncd.actors.rebuild_coordinator.rows import BadRow, row_from_scan
from syncd.actors.rebuild_coordinator.statistics import RebuildCounts
from syncd.errors import SyncdError
from syncd.model.definitions import CollectionDefinition
from syncd.model.rebuild_plan import Job, JobState, Mode
from syncd.store.rebuilds import (
    RebuildLease,
    RebuildStore,
    ScannedRow,
    SwapGeneration,
    Swapped,
)

__all__ = ["LEASE_S", "Failed", "Ground", "RebuildStoreHandle", "Running"]

_log = structlog.get_logger("syncd.rebuild")

LEASE_S = 10.0
"""A holder that has not renewed it for this long has lost it: so long a resumed job waits after `kill -9`."""
RENEW_S = 3.0
"""Three attempts before it expires."""
RETRY_S = 0.5
MAX_RETRY_S = 30.0
MAX_ATTEMPTS = 5
"""Failures of a scanner in a row, without a page between them; then the job fails, its checkpoint kept."""
RELEASE_S = 2.0
"""For giving the lease back when the job is cancelled; else it expires."""

SWAP_S = 120.0
"""Longest wait for a swap: a million rows take some seconds."""

T = TypeVar("T")


class RebuildStoreHandle(Protocol):
    """The store actor, as rebuilds see it."""

    def rebuild(
        self, work: Callable[[RebuildStore], T], done: Callable[[T | SyncdError], None]
    ) -> None:
        """Perform something of a rebuild; `done` comes later and must not block."""


class Ground(Protocol):
    """What a job stands on; the coordinator."""

    store: RebuildStoreHandle
    wall_ms: Callable[[], int]
    chance: Callable[[], float]
    swap: Callable[[SwapGeneration], None]
    num_invalidations: Callable[[str], int]
    counts: RebuildCounts


class Failed(Exception):
    """The job has failed; the text says why, without anything of the source's data."""


class Running:
    """One job under way."""

    def __init__(
        self, ground: Ground, job: Job, definition: CollectionDefinition, *, is_owned: bool
    ) -> None:
        self.job = job
        self.scope = trio.CancelScope()
        self._ground = ground
        self._definition = definition
        self._is_owned = is_owned
        self._lease: RebuildLease | None = None
        self._has_lost = False

    async def run(self) -> None:
        """Rebuild. The job's state tells what came of it.

        Cancellation: by `scope` the job is cancelled and its generation dropped; from outside it is left to be resumed.
        """
        job = self.job
        try:
            with self.scope:
                await self._rebuild()
            if not job.is_ended:
                job.state, job.error = JobState.CANCELLED, None
                if self._has_lost:
                    job.state, job.error = JobState.FAILED, "The lease was lost to another node."
                else:
                    await self._release(keeps_generation=False)
        except Failed as failure:
            await self._release(keeps_generation=True)
            job.state, job.error = JobState.FAILED, str(failure)
        except SyncdError as error:
            await self._release(keeps_generation=True)
            job.state, job.error = JobState.FAILED, error.message
        job.ended_at = trio.current_time()

    async def _release(self, *, keeps_generation: bool) -> None:
        lease, self._lease = self._lease, None
        if lease is None:
            return
        with trio.move_on_after(RELEASE_S), contextlib.suppress(SyncdError):
            await self._ask(lambda store: store.release(lease, keeps_generation=keeps_generation))

    async def _ask(self, work: Callable[[RebuildStore], T]) -> T:
        """Ask the store and wait. Cancelled: it may be done or not."""
        answers: list[T | SyncdError] = []
        is_answered = trio.Event()

        def done(answer: T | SyncdError) -> None:
            answers.append(answer)
            is_answered.set()

        self._ground.store.rebuild(work, done)
        await is_answered.wait()
        answer = answers[0]
        if isinstance(answer, SyncdError):
            raise answer
        return answer

    # -------------------------------------------------------------------------------------------- steps

    async def _rebuild(self) -> None:
        job, ground = self.job, self._ground
        num_invalidations = ground.num_invalidations(job.collection)
        lease = self._lease = await self._acquire()
        job.done = job.resumed_at = lease.done
        job.started_at = trio.current_time()
        failure: Failed | SyncdError | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep, lease)
            try:
                job.total = await self._count()
                await self._scan(lease)
                job.state = JobState.SWAPPING
                was_invalidated = ground.num_invalidations(job.collection) != num_invalidations
                # Past this point it cannot be told any more from outside whether entries have changed.
                with trio.CancelScope(shield=True, deadline=trio.current_time() + SWAP_S):
                    await self._swap(lease, was_invalidated=was_invalidated or lease.done > 0)
            except (Failed, SyncdError) as error:
                failure = error
            nursery.cancel_scope.cancel("scanned")
        if failure is not None:
            raise failure
        if not job.is_ended:
            raise Failed(f"The swap has not ended within {SWAP_S:g} s.")

    async def _acquire(self) -> RebuildLease:
        """Take the lease, once nobody else holds it."""
        job, resumes = self.job, self.job.mode is Mode.RESUME
        while True:
            now_ms = self._ground.wall_ms()

            def acquire(store: RebuildStore, now_ms: int = now_ms) -> RebuildLease | str:
                return store.acquire(
                    job.collection,
                    job.id,
                    now_ms,
                    lease_ms=int(LEASE_S * 1000),
                    resumes=resumes,
                    fills=self._is_owned,
                )

            answer = await self._ask(acquire)
            if isinstance(answer, RebuildLease):
                return answer
            await trio.sleep(RENEW_S / 3)

    async def _keep(self, lease: RebuildLease) -> None:
        """Renew the lease; end the job when it is lost."""
        while True:
            await trio.sleep(RENEW_S)
            now_ms = self._ground.wall_ms()
            with contextlib.suppress(SyncdError):
                held = await self._ask(lambda s, t=now_ms: s.renew(lease, t, int(LEASE_S * 1000)))  # type: ignore[misc]
                if not held and self.job.state is JobState.RUNNING:
                    self._lose()

    def _lose(self) -> None:
        self._has_lost = True
        self.scope.cancel("lease lost")

    async def _count(self) -> int | None:
        """Return what the application says that there is; None if it does not say, or fails to."""
        count = self._definition.count
        if count is None:
            return None
        try:
            with trio.move_on_after(self._definition.load_timeout_s):
                return int(await count())
        except Exception as failure:  # noqa: BLE001 - isolation: it is for percentages alone
            _log.warning("rebuild_count_failed", job=self.job.id, exc_info=failure)
        return None

    # -------------------------------------------------------------------------------------------- the scan

    async def _scan(self, lease: RebuildLease) -> None:
        """Bring all pages into the generation, over failures of the scanner."""
        place = _Place(lease.after)
        num_failures, retry_s = 0, RETRY_S
        while True:
            done = self.job.done
            try:
                await self._scan_from(lease, place)
            except (SyncdError, Failed):
                raise
            except BadRow as failure:
                raise Failed(f"The source delivered what cannot be kept: {failure}.") from None
            except Exception as failure:
                if self.job.done > done:
                    num_failures, retry_s = 0, RETRY_S
                num_failures += 1
                _log.error("scan_failed", job=self.job.id, attempt=num_failures, exc_info=failure)
                if num_failures >= MAX_ATTEMPTS:
                    text = f"The scanner failed {num_failures} times in a row ({type(failure).__name__})."
                    raise Failed(text) from failure
            else:
                return
            await trio.sleep(retry_s * (1.0 - self._ground.chance() / 2))
            retry_s = min(retry_s * 2, MAX_RETRY_S)

    async def _scan_from(self, lease: RebuildLease, place: _Place) -> None:
        """Call the scanner once and write down its pages."""
        scanner = self._definition.scanner
        assert scanner is not None, "only collections with one are rebuilt"
        rows: list[ScannedRow] = []
        async with contextlib.aclosing(scanner.call(place.after)) as scan:
            async for yielded in scan:
                rows.append(row_from_scan(self._definition, yielded))
                if len(rows) >= scanner.page:
                    await self._write(lease, rows, place)
                    rows = []
        if rows:
            await self._write(lease, rows, place)

    async def _write(self, lease: RebuildLease, rows: Sequence[Any], place: _Place) -> None:
        after, done = rows[-1].key, self.job.done + len(rows)
        if not await self._ask(lambda store: store.write_page(lease, rows, after, done)):
            self._lose()
            await trio.lowlevel.checkpoint()
        place.after, self.job.done = after, done
        self._ground.counts.rows[self.job.collection] += len(rows)

    async def _swap(self, lease: RebuildLease, *, was_invalidated: bool) -> None:
        answers: list[Swapped | SyncdError | None] = []
        is_answered = trio.Event()

        def done(answer: Swapped | SyncdError | None) -> None:
            answers.append(answer)
            is_answered.set()

        message = SwapGeneration(lease, not self._is_owned, was_invalidated, done)
        self._ground.swap(message)
        await is_answered.wait()
        answer = answers[0]
        if isinstance(answer, SyncdError):
            raise answer
        if answer is None:
            raise Failed("The lease was lost to another node.")
        self._lease = None
        self.job.changed, self.job.state = answer.num_changed, JobState.DONE


class _Place:
    """How far a scan is written down."""

    def __init__(self, after: str | None) -> None:
        self.after = after
