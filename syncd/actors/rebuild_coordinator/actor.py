"""The rebuild-coordinator: which rebuilds there are, and that they run.

Owner of: the jobs (`RebuildPlan`) and their tasks. Called by HTTP, on the loop; nothing of what is asked waits. Asks the store, and the
cache-owner for the swap. A crash fails the jobs under way; their generations are there to be resumed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog
import trio

from syncd.actors.rebuild_coordinator.running import RebuildStoreHandle, Running
from syncd.codes import ErrorCode
from syncd.errors import RequestRejected
from syncd.model.audit import AuditLog
from syncd.model.definitions import AppDefinition, CollectionDefinition
from syncd.model.rebuild_plan import Job, JobState, Mode, RebuildPlan
from syncd.store.rebuilds import SwapGeneration

__all__ = ["RebuildCoordinator"]

_log = structlog.get_logger("syncd.rebuild")


class RebuildCoordinator:
    """Actor (see the module's docstring). Implements `http.ports.Rebuilds`."""

    name = "rebuild_coordinator"

    def __init__(
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
    ) -> None:
        self._audit = audit
        self.store = store
        self.swap = swap
        self.num_invalidations = num_invalidations
        self.wall_ms = wall_ms
        self.chance = chance
        self._app = app
        self._new_id = new_id
        self._plan = RebuildPlan()
        self._running: dict[str, Running] = {}
        self._wake = trio.Event()

    # ---------------------------------------------------------------- http.ports.Rebuilds

    def start(self, collection: str, mode: Mode, *, joins: bool, who: str) -> dict[str, Any]:
        """See `Rebuilds.start`."""
        self._scanned(collection)
        job = Job(self._new_id(), collection, mode, self.wall_ms(), who)
        about = {"collection": collection, "mode": mode.value}
        with self._audit.action(who, "rebuild_start", **about) as details:
            taken = self._plan.ask(job, joins=joins)
            details["job"] = taken.id
        self._wake.set()
        return self._facts(taken)

    def cancel(self, job_id: str, *, who: str) -> dict[str, Any]:
        """See `Rebuilds.cancel`."""
        job = self._find(job_id)
        self._audit.note(who, "rebuild_cancel", job=job_id, collection=job.collection)
        running = self._running.get(job_id)
        if running is not None:
            running.scope.cancel("asked to")
        elif not job.is_ended:
            job.state = JobState.CANCELLED
        return self._facts(job)

    def job(self, job_id: str) -> dict[str, Any]:
        """See `Rebuilds.job`."""
        return self._facts(self._find(job_id))

    def jobs(self) -> list[dict[str, Any]]:
        """See `Rebuilds.jobs`."""
        return [self._facts(job) for job in self._plan]

    def _find(self, job_id: str) -> Job:
        job = self._plan.find(job_id)
        if job is None:
            raise RequestRejected(ErrorCode.BAD_REQUEST, "There is no such job, or none any more.")
        return job

    def _scanned(self, collection: str) -> CollectionDefinition:
        definition = self._app.collections.get(collection)
        if definition is None:
            raise RequestRejected(ErrorCode.PERMISSION_DENIED)
        if definition.scanner is None:
            raise RequestRejected(ErrorCode.NOT_SUPPORTED, "This collection has no scanner.")
        return definition

    def _facts(self, job: Job) -> dict[str, Any]:
        now = trio.current_time()
        return {
            "job": job.id,
            "collection": job.collection,
            "mode": job.mode.value,
            "state": job.state.value,
            "asked_at_ms": job.asked_at_ms,
            "done": job.done,
            "resumed_at": job.resumed_at,
            "total": job.total,
            "changed": job.changed,
            "rate_per_s": round(job.rate_per_s(now), 1),
            "eta_ms": job.eta_ms(now),
            "error": job.error,
        }

    # ---------------------------------------------------------------- kit.Actor

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run jobs until cancelled; those under way are left to be resumed."""
        async with trio.open_nursery() as nursery:
            task_status.started()
            while True:
                self._wake = trio.Event()
                while (job := self._plan.next()) is not None:
                    self._begin(nursery, job)
                await self._wake.wait()

    def _begin(self, nursery: trio.Nursery, job: Job) -> None:
        job.state = JobState.RUNNING
        definition = self._scanned(job.collection)
        is_owned = self._app.is_owned(job.collection)
        running = self._running[job.id] = Running(self, job, definition, is_owned=is_owned)
        nursery.start_soon(self._perform, running)

    async def _perform(self, running: Running) -> None:
        job = running.job
        try:
            await running.run()
        except Exception as failure:  # noqa: BLE001 - isolation: one rebuild job
            _log.error("rebuild_crashed", job=job.id, exc_info=failure)
            job.state, job.error = JobState.FAILED, "Something went wrong inside; see the log."
            job.ended_at = trio.current_time()
        finally:
            del self._running[job.id]
            self._wake.set()
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
                job.ended_at = trio.current_time()
        self._running.clear()
