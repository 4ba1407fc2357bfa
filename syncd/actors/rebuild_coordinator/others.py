"""Rebuilds of the other nodes: which are under way, how they ended, and taking over those whose node has died.

Owner of: what is known of them, at most `LOOK_S` and a bit old. Made where nodes share a store; asks the store and the log of jobs, waits for both.

Invariants: a job is taken over under its own id and a new token, so of all nodes that find it abandoned the store lets one begin, and its old
holder writes nothing more. One whose end was told is given back in place of being taken over, and one that was cancelled here is revoked.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import attrs
import structlog
import trio

from syncd.actors.rebuild_coordinator.running import RebuildStoreHandle, ask_store
from syncd.errors import RebuildRunning, SyncdError
from syncd.model.rebuild_note import job_from
from syncd.model.rebuild_plan import ENDED, Job, JobState, RebuildPlan
from syncd.model.reserved import JOBS_CHANNEL, JOBS_KEPT, progress_channel
from syncd.news import News
from syncd.store.rebuilds import RebuildLease, RebuildStanding

__all__ = ["LOOK_S", "Others"]

_log = structlog.get_logger("syncd.rebuild")

LOOK_S = 2.0
"""Between two looks, a quarter more or less. With the lease of 10 s a job goes on 13 s after its node has died, at the latest."""
LOOKS_FOR_END = 5
"""The end of a job is told a moment after its lease is given back."""
SEQ_GAP = 100
"""What the old holder may have told that is not in the log yet is older than what the new one tells: it tells ten a second, for three seconds."""
MAX_TAKEN = 3
"""A source that kills whoever reads it must not kill one node after the other."""
GIVEN_UP = (
    f"{MAX_TAKEN + 1} nodes have died while they did it; mode resume goes on where it was left."
)
LEFT = "Its node is silent; another goes on with it."


class Ground(Protocol):
    """The coordinator."""

    store: RebuildStoreHandle
    wall_ms: Callable[[], int]
    chance: Callable[[], float]

    def facts(self, job: Job) -> dict[str, Any]:
        """Return what is told of a job."""

    def take_over(self, job: Job) -> None:
        """Go on with another node's job, if there is room for it and it can be done here."""

    def remember(self, facts: Mapping[str, Any]) -> None:
        """A job has ended elsewhere."""

    def ended(self, job: Job) -> None:
        """Another node's job was cancelled or given up here."""


@attrs.define(eq=False)
class _Other:
    """A job that is under way, and not here."""

    job: Job
    facts: dict[str, Any]


class Others:
    """See the module's docstring."""

    def __init__(
        self, ground: Ground, plan: RebuildPlan, news: News, collections: Iterable[str]
    ) -> None:
        """Know nobody."""
        self._ground = ground
        self._plan = plan
        self._news = news
        self._collections = list(collections)
        self._jobs: dict[str, _Other] = {}
        self._ends: dict[str, int] = {}
        """Jobs whose end is not known yet, and how often it is still looked for."""
        self._last: dict[str, tuple[str, int]] = {}
        """Of each collection the last job and token that were seen to have ended."""

    # ---------------------------------------------------------------- asked by the coordinator

    def facts(self) -> list[dict[str, Any]]:
        """Return what is told of the jobs under way elsewhere."""
        return [each.facts for each in self._jobs.values() if self._is_elsewhere(each.job.id)]

    def find(self, job_id: str) -> dict[str, Any] | None:
        """Return what is told of one of them."""
        other = self._jobs.get(job_id)
        return None if other is None or not self._is_elsewhere(job_id) else other.facts

    def joined(self, job: Job, *, joins: bool) -> dict[str, Any] | None:
        """Return the job under way elsewhere that somebody asks for with this one; None: there is none in its way.

        Raises:
            RebuildRunning: there is one, and it is not asked to be joined.
        """
        for other in self._jobs.values():
            found = other.job
            if found.collection == job.collection and self._is_elsewhere(found.id):
                is_same = job.uid is not None and (job.uid, job.who) == (found.uid, found.who)
                if not (joins or is_same):
                    raise RebuildRunning(found.id)
                return other.facts
        return None

    def revoke(self, job_id: str) -> None:
        """Have one of them end; its node finds that it has lost its lease."""
        job = self._jobs[job_id].job

        def done(answer: bool | SyncdError) -> None:  # noqa: FBT001 - as the store answers
            other = self._jobs.pop(job_id, None)
            if answer is True and other is not None and self._plan.find(job_id) is None:
                job.state = JobState.CANCELLED
                self._ground.ended(job)

        self._ground.store.rebuild(lambda store: store.revoke(job.collection, job_id), done)

    def gone(self, job: Job, facts: dict[str, Any], *, has_ended: bool) -> None:
        """A job of this node is another's now: it has ended there, or is under way, or waits to be taken over."""
        if has_ended:
            self._ends[job.id] = LOOKS_FOR_END
        else:
            self._jobs.setdefault(job.id, _Other(job, facts))

    def _is_elsewhere(self, job_id: str) -> bool:
        return self._plan.find(job_id) is None

    # ---------------------------------------------------------------- looking

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            with contextlib.suppress(SyncdError):
                await self._look()
            await trio.sleep(LOOK_S * (0.75 + self._ground.chance() / 2))

    async def _look(self) -> None:
        ground, names, now_ms = self._ground, self._collections, self._ground.wall_ms()
        standings = await ask_store(ground.store, lambda store: store.standings(names, now_ms))
        under_way = {each.job: each for each in standings if each.is_held or each.is_abandoned}
        self._note_ends(standings, under_way)
        told = dict[str, dict[str, Any]]()
        if self._ends or any(each.is_abandoned for each in under_way.values()):
            kept = await self._news.recall(JOBS_CHANNEL, JOBS_KEPT)
            told = {each["job"]: each for each in kept}
            self._remember_ends(told)
        for standing in under_way.values():
            await self._see(standing, told.get(standing.job))

    def _note_ends(
        self, standings: Sequence[RebuildStanding], under_way: Mapping[str, RebuildStanding]
    ) -> None:
        """See which have ended since the last look."""
        for job_id in [each for each in self._jobs if each not in under_way]:
            del self._jobs[job_id]
            self._ends[job_id] = LOOKS_FOR_END
        for each in standings:
            last = (each.job, each.token)
            if each.job in under_way or self._last.get(each.collection) == last:
                continue
            self._last[each.collection] = last
            if self._plan.find(each.job) is None:
                self._ends[each.job] = LOOKS_FOR_END

    def _remember_ends(self, told: Mapping[str, dict[str, Any]]) -> None:
        for job_id, num_left in list(self._ends.items()):
            facts = told.get(job_id)
            if facts is not None and facts["state"] in ENDED and self._plan.find(job_id) is None:
                self._ground.remember(facts)
                del self._ends[job_id]
            elif num_left > 1 and self._plan.find(job_id) is None:
                self._ends[job_id] = num_left - 1
            else:
                del self._ends[job_id]

    async def _see(self, standing: RebuildStanding, told: Mapping[str, Any] | None) -> None:
        """Note one that is under way; take it over if its node has left it."""
        ground, own = self._ground, self._plan.find(standing.job)
        if own is not None and not own.is_ended:
            self._jobs.pop(standing.job, None)
            return  # it is done here
        job = job_from(standing.note, standing.job, standing.collection, ground.wall_ms())
        if job is None:
            return
        job.done = standing.done
        facts = ground.facts(job)
        progress = await self._news.recall(progress_channel(standing.collection), 1)
        for each in progress:
            if each["job"] == job.id and each["state"] not in ENDED:
                facts |= each
        if standing.is_abandoned:
            facts["message"] = LEFT
        job.done, job.seq = facts["done"], facts["seq"] + SEQ_GAP
        self._jobs[job.id] = _Other(job, facts)
        state = own.state.value if own is not None else told["state"] if told is not None else None
        if state == JobState.CANCELLED.value:
            self.revoke(job.id)
        elif standing.is_abandoned:
            await self._take(job, standing, has_ended=state in ENDED)

    async def _take(self, job: Job, standing: RebuildStanding, *, has_ended: bool) -> None:
        if has_ended or job.num_taken > MAX_TAKEN:
            lease = RebuildLease(job.collection, job.id, standing.token, None, 0)
            is_ours = await ask_store(
                self._ground.store, lambda store: store.release(lease, keeps_generation=True)
            )
            if is_ours and not has_ended:
                job.state, job.error = JobState.FAILED, GIVEN_UP
                self._ground.ended(job)
            return
        _log.info("rebuild_abandoned", job=job.id, collection=job.collection, num_rows=job.done)
        job.state, job.done = JobState.QUEUED, 0
        job.takes_over = standing.token
        self._ground.take_over(job)
