"""The rebuild-coordinator: which rebuilds there are, and that they run.

Owner of: the jobs (`RebuildPlan`) and their tasks. Called by the gateway and HTTP, on the loop; nothing of what is asked waits. Asks the store, and
the cache-owner for the swap; tells the broadcaster. A crash fails the jobs under way; their generations are there to be resumed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import structlog
import trio

from syncd.actors.rebuild_coordinator.others import Others
from syncd.actors.rebuild_coordinator.running import RebuildStoreHandle, Running
from syncd.actors.rebuild_coordinator.schedule import SCHEDULE, Schedule
from syncd.actors.rebuild_coordinator.statistics import RebuildCounts, RebuildStatistics
from syncd.actors.rebuild_coordinator.telling import Telling
from syncd.codes import ErrorCode
from syncd.errors import RequestRejected
from syncd.model.audit import AuditLog
from syncd.model.definitions import AppDefinition, CollectionDefinition
from syncd.model.rebuild_plan import ENDED, Job, JobState, Mode, RebuildPlan, Wish
from syncd.model.recording import Rejected
from syncd.model.reserved import JOBS_CHANNEL, JOBS_KEPT
from syncd.news import News
from syncd.store.rebuilds import SwapGeneration

__all__ = ["RebuildCoordinator"]

_log = structlog.get_logger("syncd.rebuild")

LEFT = "The node stopped meanwhile; mode resume goes on where it was left."


class RebuildCoordinator:
    """Actor (see the module's docstring). Implements `handle.Rebuilds`."""

    name = "rebuild_coordinator"

    def __init__(  # noqa: PLR0913 - what is injected, once
        self,
        app: AppDefinition,
        *,
        store: RebuildStoreHandle,
        swap: Callable[[SwapGeneration], None],
        num_invalidations: Callable[[str], int],
        wall_ms: Callable[[], int],
        new_id: Callable[[], str],
        chance: Callable[[], float],
        audit: AuditLog,
        news: News,
        is_shared: bool = False,
    ) -> None:
        """Run nothing yet; `is_shared`: other nodes have the store open too."""
        self._audit = audit
        self.store = store
        self.swap = swap
        self.num_invalidations = num_invalidations
        self.wall_ms = wall_ms
        self.chance = chance
        self._app = app
        self._new_id = new_id
        self._plan = RebuildPlan()
        self.is_shared = is_shared
        self._others = Others(self, self._plan, news, app.collections) if is_shared else None
        self._news = news
        self._telling = Telling(news, self.facts)
        self._has_restored = False
        self._schedule = Schedule(
            app, wall_ms=wall_ms, ask=self._queue_scheduled, last_run_ms=self._last_run_ms
        )
        self.counts = RebuildCounts()
        self._running: dict[str, Running] = {}
        self._wake = trio.Event()

    # ---------------------------------------------------------------- handle.Rebuilds

    def start(
        self, collection: str, wish: Wish, *, joins: bool, who: str, uid: str | None = None
    ) -> dict[str, Any]:
        """See `Rebuilds.start`."""
        about = {"collection": collection, "mode": wish.mode.value}
        with self._audit.action(who, "rebuild_start", **about) as details:
            self._check(collection, wish)
            job = Job(self._new_id(), collection, wish, self.wall_ms(), who, uid)
            if self._others is not None and self._plan.asked_before(job) is None:
                other = self._others.joined(job, joins=joins)
                if other is not None:
                    details["job"] = other["job"]
                    return other
            taken = self._plan.ask(job, joins=joins)
            details["job"] = taken.id
        if taken is job:
            self._telling.note(job, keeps=True)
        self._wake.set()
        return self.facts(taken)

    def cancel(self, job_id: str, *, who: str) -> dict[str, Any]:
        """See `Rebuilds.cancel`."""
        other = self._elsewhere(job_id)
        if other is not None and self._others is not None:
            self._audit.note(who, "rebuild_cancel", job=job_id, collection=other["collection"])
            self._others.revoke(job_id)
            return other
        job = self._find(job_id)
        self._audit.note(who, "rebuild_cancel", job=job_id, collection=job.collection)
        running = self._running.get(job_id)
        if running is not None:
            running.scope.cancel("asked to")
        elif not job.is_ended:
            job.state = JobState.CANCELLED
            self._ended(job)
        return self.facts(job)

    def job(self, job_id: str) -> dict[str, Any]:
        """See `Rebuilds.job`."""
        return self._elsewhere(job_id) or self.facts(self._find(job_id))

    def jobs(self) -> list[dict[str, Any]]:
        """See `Rebuilds.jobs`."""
        others = [] if self._others is None else self._others.facts()
        elsewhere = {each["job"] for each in others}
        return [self.facts(job) for job in self._plan if job.id not in elsewhere] + others

    def _elsewhere(self, job_id: str) -> dict[str, Any] | None:
        return None if self._others is None else self._others.find(job_id)

    def _find(self, job_id: str) -> Job:
        job = self._plan.find(job_id)
        if job is None:
            raise RequestRejected(ErrorCode.BAD_REQUEST, "There is no such job, or none any more.")
        return job

    def _check(self, collection: str, wish: Wish) -> None:
        """Refuse what cannot be done at all."""
        definition = self._app.collections.get(collection)
        if definition is None:
            raise RequestRejected(ErrorCode.PERMISSION_DENIED)
        is_partial = wish.mode in (Mode.KEYS, Mode.TAG)
        if definition.scanner is None and not (is_partial and definition.loader is not None):
            raise RequestRejected(ErrorCode.NOT_SUPPORTED, "This collection has no scanner.")
        if definition.is_volatile:
            text = "A volatile collection is not rebuilt; invalidate it."
            raise RequestRejected(ErrorCode.NOT_SUPPORTED, text)
        for key in wish.keys:
            try:
                definition.rules.place(key)
            except Rejected as refusal:
                raise RequestRejected(ErrorCode.BAD_KEY, refusal.message) from None

    def facts(self, job: Job) -> dict[str, Any]:
        """See `others.Ground`."""
        if job.final is not None:
            return job.final
        now = trio.current_time()
        return {
            "job": job.id,
            "collection": job.collection,
            "mode": job.wish.mode.value,
            "seq": job.seq,
            "state": job.state.value,
            "who": job.who,
            "asked_at_ms": job.asked_at_ms,
            "ended_at_ms": job.ended_at_ms,
            "done": job.done,
            "resumed_at": job.resumed_at,
            "total": job.total,
            "changed": job.changed,
            "rate_per_s": round(job.rate_per_s(now)),
            "eta_ms": job.eta_ms(now),
            "message": job.message,
            "error": job.error,
        }

    def statistics(self) -> RebuildStatistics:
        """Return counts."""
        return self.counts.statistics(sum(not job.is_ended for job in self._plan))

    # ---------------------------------------------------------------- the schedule

    def _queue_scheduled(self, job: Job) -> bool:
        known = self._plan.find(job.id)
        if self._plan.active(job.collection) is not None:
            return False
        if known is not None:
            if known.state is JobState.DONE:
                return False
            self._plan.forget(known)  # a crash cut it off; under its id it gets its lease again
        self._plan.ask(job, joins=False)
        self._wake.set()
        return True

    def _last_run_ms(self) -> dict[str, int]:
        """See `Schedule`."""
        return {
            job.collection: job.asked_at_ms
            for job in self._plan
            if job.state is JobState.DONE and job.wish.mode in (Mode.FULL, Mode.RESUME)
        }

    # ---------------------------------------------------------------- over restarts

    def _restore(self, jobs: Iterable[Mapping[str, Any]]) -> None:
        """Take in the jobs of before the start, the oldest first; those that had not ended have failed, or are another node's."""
        for facts in jobs:
            if facts["state"] in ENDED:
                self.remember(facts)
            elif not self.is_shared:
                left = {"state": "failed", "error": LEFT, "eta_ms": None, "message": None}
                self.remember({**facts, **left})
        self.tell_again()

    def remember(self, facts: Mapping[str, Any]) -> None:
        """See `others.Ground`."""
        job = Job(
            facts["job"],
            facts["collection"],
            Wish(Mode(facts["mode"])),
            facts["asked_at_ms"],
            facts["who"],
            state=JobState(facts["state"]),
            seq=facts["seq"],
            final=dict(facts),
        )
        self._plan.remember(job)

    def tell_again(self) -> None:
        """The channels of progress have forgotten everything: tell where the last job of each collection stands."""
        if self.is_shared:
            return  # they lie in the store
        newest = {job.collection: job for job in self._plan}
        for job in newest.values():
            self._telling.note(job)

    # ---------------------------------------------------------------- kit.Actor

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run jobs until cancelled; those under way are left to be resumed."""
        if not self._has_restored:
            self._restore(await self._news.recall(JOBS_CHANNEL, JOBS_KEPT))
            self._has_restored = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._telling.run)
            nursery.start_soon(self._schedule.run)
            if self._others is not None:
                nursery.start_soon(self._others.run)
            task_status.started()
            while True:
                self._wake = trio.Event()
                while (job := self._plan.next()) is not None:
                    self._begin(nursery, job)
                await self._wake.wait()

    def _begin(self, nursery: trio.Nursery, job: Job) -> None:
        job.state = JobState.RUNNING
        if job.who != SCHEDULE and job.takes_over is None:
            self.tell(job)
        definition: CollectionDefinition = self._app.collections[job.collection]
        is_owned = self._app.is_owned(job.collection)
        running = self._running[job.id] = Running(self, job, definition, is_owned=is_owned)
        nursery.start_soon(self._perform, running)

    def tell(self, job: Job) -> None:
        """Something of a job has changed; see `running.Ground`."""
        self._telling.note(job)

    def acquired(self, job: Job) -> None:
        """See `running.Ground`."""
        about = {"collection": job.collection, "mode": job.wish.mode.value}
        if job.takes_over is not None:
            self.counts.num_taken_over += 1
            self._audit.note(job.who, "rebuild_taken_over", **about, job=job.id)
        elif job.who == SCHEDULE:
            self._audit.note(SCHEDULE, "rebuild_start", **about, job=job.id)
        self._telling.note(job, keeps=True)

    async def _perform(self, running: Running) -> None:
        job = running.job
        try:
            await running.run()
        except Exception as failure:  # noqa: BLE001 - isolation: one rebuild job
            _log.error("rebuild_crashed", job=job.id, exc_info=failure)
            job.state, job.error = JobState.FAILED, "Something went wrong inside; see the log."
        finally:
            del self._running[job.id]
            self._wake.set()
        if running.is_done_elsewhere:
            self._plan.forget(job)
            self._telling.forget(job)
            if self._others is not None:
                has_ended = running.has_ended_elsewhere
                self._others.gone(job, self.facts(job), has_ended=has_ended)
        else:
            self._ended(job)

    def take_over(self, job: Job) -> None:
        """See `others.Ground`."""
        with contextlib.suppress(RequestRejected):
            self._check(job.collection, job.wish)
            if self._plan.take_in(job):
                self._wake.set()

    def ended(self, job: Job) -> None:
        """See `others.Ground`."""
        self._plan.remember(job)
        self._ended(job)

    def _ended(self, job: Job) -> None:
        job.message, job.ended_at = None, trio.current_time()
        job.ended_at_ms = self.wall_ms()
        job.final = self.facts(job)
        self.counts.note_end(job)
        self._telling.note(job, keeps=True)
        self._audit.note(
            job.who,
            "rebuild_end",
            job.state.value,
            job=job.id,
            collection=job.collection,
            num_rows=job.done,
            num_changed=job.changed,
            error=job.error,
        )

    def recover(self) -> None:
        """Fail the jobs that were under way; their leases expire, their generations can be resumed."""
        for job in self._plan:
            if job.state in (JobState.RUNNING, JobState.SWAPPING):
                job.state, job.error = JobState.FAILED, "The coordinator crashed."
                self._ended(job)
        self._running.clear()
