"""One rebuild from its lease to its swap.

Owner of: the lease of its job. Whatever ends it, the lease is given back or left to expire; the entries change in the swap or not at all.
Waits for the store, the scanner and the cache-owner.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol, TypeVar

import structlog
import trio

from syncd.actors.kit import Reply
from syncd.actors.kit_application import application_code
from syncd.actors.rebuild_coordinator.reading import Failed, Reading
from syncd.actors.rebuild_coordinator.statistics import RebuildCounts
from syncd.errors import SyncdError
from syncd.model.definitions import CollectionDefinition
from syncd.model.rebuild_note import note_of
from syncd.model.rebuild_plan import Job, JobState, Mode
from syncd.model.recording import Place
from syncd.ports_state import StateReader
from syncd.store.rebuilds import (
    RebuildLease,
    RebuildStore,
    ScannedRow,
    SwapGeneration,
    Swapped,
)

__all__ = ["LEASE_S", "Ground", "RebuildStoreHandle", "Running", "ask_store"]

_log = structlog.get_logger("syncd.rebuild")

LEASE_S = 10.0
"""A holder that has not renewed it for this long has lost it: so long a resumed job waits after `kill -9`."""
RENEW_S = 3.0
"""Three attempts before it expires."""
RELEASE_S = 2.0
"""For giving the lease back when the job is cancelled; else it expires."""

SWAP_S = 120.0
"""Longest wait for a swap: a million rows take some seconds."""

TAG_PAGE = 1000
"""Keys of a tag that are read in one slice of the store's time."""
LOST = "The lease was lost to another node."

T = TypeVar("T")


class RebuildStoreHandle(Protocol):
    """The store actor, as rebuilds see it."""

    def rebuild(
        self, work: Callable[[RebuildStore], T], done: Callable[[T | SyncdError], None]
    ) -> None:
        """Perform something of a rebuild; `done` comes later and must not block."""

    def read_state(
        self, ask: Callable[[StateReader], T], done: Callable[[T | SyncdError], None]
    ) -> None:
        """Read something; `done` comes later and must not block."""


async def answer_of(ask: Callable[[Callable[[T | SyncdError], None]], None]) -> T:
    """Ask somebody who answers by a call, and wait. Cancelled: it may be done or not."""
    reply: Reply[T] = Reply()
    ask(reply.settle)
    return await reply.wait()


async def ask_store(store: RebuildStoreHandle, work: Callable[[RebuildStore], T]) -> T:
    """Ask the store something of a rebuild, and wait."""
    return await answer_of(partial(store.rebuild, work))


class Ground(Protocol):
    """What a job stands on; the coordinator."""

    store: RebuildStoreHandle
    wall_ms: Callable[[], int]
    chance: Callable[[], float]
    swap: Callable[[SwapGeneration], None]
    num_invalidations: Callable[[str], int]
    counts: RebuildCounts
    is_shared: bool
    """Other nodes have the store open too."""

    def tell(self, job: Job) -> None:
        """Something of a job has changed."""

    def acquired(self, job: Job) -> None:
        """A job has its lease: nobody else will do it."""


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
        self._is_partial = job.wish.mode in (Mode.KEYS, Mode.TAG)
        self._lease: RebuildLease | None = None
        self._has_lost = False
        self.is_done_elsewhere = False
        """It is, was, or will be done by another node: the job is not this one's any more."""
        self.has_ended_elsewhere = False
        """Nothing of it is under way there any more."""

    async def run(self) -> None:
        """Rebuild. The job's state tells what came of it.

        Cancellation: by `scope` the job is cancelled and its generation dropped; from outside it is left to be resumed.
        """
        job = self.job
        try:
            deadline_s = job.wish.deadline_s
            left_s = math.inf if deadline_s is None else max(0.0, deadline_s - job.passed_s)
            with self.scope, trio.move_on_after(left_s) as in_time:
                await self._rebuild()
            if in_time.cancelled_caught:
                raise Failed(f"It has not ended within {deadline_s:g} s.")
            if self._has_lost:
                raise Failed(LOST)
            if not (job.is_ended or self.is_done_elsewhere):
                await self._end(JobState.CANCELLED, None)
        except Failed as failure:
            await self._end(JobState.FAILED, str(failure))
        except SyncdError as error:
            await self._end(JobState.FAILED, error.message)

    async def _end(self, state: JobState, error: str | None) -> None:
        """Give the lease back and have the job ended, unless it turns out to be another node's."""
        job, lease, self._lease = self.job, self._lease, None
        if lease is not None:
            keeps = state is JobState.FAILED and not self._is_partial
            try:
                with trio.fail_after(RELEASE_S):
                    is_ours = await self._ask(lambda s: s.release(lease, keeps_generation=keeps))
                    if not is_ours:
                        state, error = await self._after_loss(lease, state)
            except (SyncdError, trio.TooSlowError):
                # Where it is shared, whoever reaches the store first finds it abandoned.
                self.is_done_elsewhere = self._ground.is_shared and state is JobState.FAILED
        if not self.is_done_elsewhere:
            job.state, job.error = state, error

    async def _after_loss(
        self, lease: RebuildLease, state: JobState
    ) -> tuple[JobState, str | None]:
        """Find out what became of a job whose lease was not ours any more."""
        names, now_ms = [lease.collection], self._ground.wall_ms()
        found = next(iter(await self._ask(lambda s: s.standings(names, now_ms))), None)
        if found is None or found.job != lease.job:
            return JobState.FAILED, LOST
        if found.token == lease.token:
            return JobState.DONE, None  # it was swapped, and the answer was lost
        if state is JobState.CANCELLED:
            await self._ask(lambda s: s.revoke(lease.collection, lease.job))
            return state, None
        self.is_done_elsewhere = True
        self.has_ended_elsewhere = not found.is_open
        return state, None

    async def _ask(self, work: Callable[[RebuildStore], T]) -> T:
        """Ask the store and wait. Cancelled: it may be done or not."""
        return await ask_store(self._ground.store, work)

    # -------------------------------------------------------------------------------------------- steps

    async def _rebuild(self) -> None:
        job, ground = self.job, self._ground
        num_invalidations = ground.num_invalidations(job.collection)
        lease = self._lease = await self._acquire()
        if lease is None:
            self.is_done_elsewhere = True
            self.has_ended_elsewhere = job.takes_over is None
            return
        ground.acquired(job)
        job.done = job.resumed_at = lease.done
        job.started_at = trio.current_time()
        failure: Failed | SyncdError | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep, lease)
            try:
                job.total = await self._count()
                about = await self._read(lease)
                job.state = JobState.SWAPPING
                ground.tell(job)
                was_invalidated = ground.num_invalidations(job.collection) != num_invalidations
                # Past this point it cannot be told any more from outside whether entries have changed.
                with trio.CancelScope(shield=True, deadline=trio.current_time() + SWAP_S):
                    await self._swap(
                        lease, about, was_invalidated=was_invalidated or lease.done > 0
                    )
            except (Failed, SyncdError) as error:
                failure = error
            nursery.cancel_scope.cancel("scanned")
        if failure is not None:
            raise failure
        if not job.is_ended:
            raise Failed(f"The swap has not ended within {SWAP_S:g} s.")

    async def _acquire(self) -> RebuildLease | None:
        """Take the lease, once nobody else holds it; None: this very job has ended elsewhere."""
        job, resumes = self.job, self.job.wish.mode is Mode.RESUME
        while True:
            now_ms, asked_at = self._ground.wall_ms(), trio.current_time()
            note = job.note or note_of(job, now_ms)

            def acquire(
                store: RebuildStore, now_ms: int = now_ms, note: bytes = note
            ) -> RebuildLease | str | None:
                return store.acquire(
                    job.collection,
                    job.id,
                    now_ms,
                    lease_ms=int(LEASE_S * 1000),
                    resumes=resumes,
                    fills=self._is_owned,
                    is_partial=self._is_partial,
                    note=note,
                    takes_over=job.takes_over,
                )

            answer = await self._ask(acquire)
            if answer is None or isinstance(answer, RebuildLease):
                job.message, job.vouched_until = None, asked_at + LEASE_S
                return answer
            if job.takes_over is not None:
                return None  # another node was faster
            if job.message is None:
                job.message = (
                    f"It waits for the lease that the job {answer} holds, or held until a crash."
                )
                self._ground.tell(job)
            await trio.sleep(RENEW_S / 3)

    async def _keep(self, lease: RebuildLease) -> None:
        """Renew the lease; end the job when it is lost."""
        while True:
            await trio.sleep(RENEW_S)
            now_ms, asked_at = self._ground.wall_ms(), trio.current_time()
            with contextlib.suppress(SyncdError):
                held = await self._ask(lambda s, t=now_ms: s.renew(lease, t, int(LEASE_S * 1000)))  # type: ignore[misc]
                if held:
                    self.job.vouched_until = asked_at + LEASE_S
                elif self.job.state is JobState.RUNNING:
                    self._lose()

    def _lose(self) -> None:
        self._has_lost = True
        self.scope.cancel("lease lost")

    async def _count(self) -> int | None:
        """Return what the application says that there is; None if it does not say, or fails to."""
        wish, count = self.job.wish, self._definition.count
        if wish.mode is Mode.KEYS and self._definition.loader is not None:
            return len(wish.keys)
        if count is None or self._definition.scanner is None:
            return None
        try:
            with trio.move_on_after(self._definition.load_timeout_s), application_code:
                return int(await count())
        except Exception as failure:  # noqa: BLE001 - isolation: it is for percentages alone
            _log.warning("rebuild_count_failed", job=self.job.id, exc_info=failure)
        return None

    # -------------------------------------------------------------------------------------------- reading, writing

    async def _read(self, lease: RebuildLease) -> Sequence[Place] | None:
        """Bring what the source has into the generation; returns the entries that this was about, None for all."""
        job, definition, wish = self.job, self._definition, self.job.wish

        reading = Reading(
            job,
            definition,
            write=partial(self._write, lease),
            lose=self._lose,
            chance=self._ground.chance,
            tell=partial(self._ground.tell, job),
        )
        if wish.mode is Mode.KEYS:
            about = [definition.rules.place(key) for key in wish.keys]
            if definition.loader is not None:
                await reading.load(wish.keys)
            else:
                await reading.scan(None, frozenset(about))
            return about
        if wish.mode is Mode.TAG:
            assert wish.tag is not None, "see `wish_of`"
            about = await self._tagged(wish.tag)
            if definition.scanner is not None:
                await reading.scan(None, frozenset(about))
            else:
                job.total = len(about)
                await reading.load([key for _, key in about])
            return about
        await reading.scan(lease.after, None)
        return None

    async def _tagged(self, tag: str) -> list[Place]:
        """Return the entries that carry a tag now; one that is tagged later was changed, and is left alone."""
        collection, found = self.job.collection, list[Place]()
        while True:
            after = found[-1] if found else None

            def page(reader: StateReader, after: Place | None = after) -> list[Place]:
                return list(reader.keys_by_tag(collection, tag, after, TAG_PAGE))

            places = await answer_of(partial(self._ground.store.read_state, page))
            found += places
            if len(places) < TAG_PAGE:
                return found

    def _write(
        self, lease: RebuildLease, rows: Sequence[ScannedRow], after: str, num_read: int
    ) -> Reply[bool]:
        """See `reading.Write`. The job's count follows as soon as the store has answered."""
        reply: Reply[bool] = Reply()
        done = self.job.done + num_read

        def settle(answer: bool | SyncdError) -> None:  # noqa: FBT001 - as the store answers
            if answer is True:
                self.job.done = done
                self._ground.counts.rows[self.job.collection] += num_read
                self._ground.tell(self.job)
            reply.settle(answer)

        self._ground.store.rebuild(lambda store: store.write_page(lease, rows, after, done), settle)
        return reply

    async def _swap(
        self, lease: RebuildLease, about: Sequence[Place] | None, *, was_invalidated: bool
    ) -> None:
        deletes_missing = not (self._is_owned or self.job.wish.keeps_missing)

        def ask(done: Callable[[Swapped | SyncdError | None], None]) -> None:
            message = SwapGeneration(lease, deletes_missing, was_invalidated, done, about)
            self._ground.swap(message)

        answer = await answer_of(ask)
        if answer is None:
            raise Failed(LOST)
        self._lease = None
        self.job.changed, self.job.state = answer.num_changed, JobState.DONE
