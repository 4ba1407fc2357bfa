"""What is told of jobs: their progress on `$rebuild:<collection>`, their start and end on `$jobs:node`.

Owner of: what is still to be told. Policy COALESCE: of a job only what is newest is told, of a collection at most ten times a second; the end of
a job is always told.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import trio

from syncd.model.rebuild_plan import Job
from syncd.model.reserved import JOBS_CHANNEL, progress_channel
from syncd.news import News

__all__ = ["TELL_S", "Telling"]

TELL_S = 0.1
"""Between two tellings of one collection."""
RETRY_S = 0.05
"""When the broadcaster has no room, or a job may be another node's."""


class Telling:
    """Tells while `run` runs."""

    def __init__(self, news: News, facts: Callable[[Job], dict[str, Any]]) -> None:
        self._news = news
        self._facts = facts
        self._due: dict[str, Job] = {}
        self._told_at: dict[str, float] = {}
        self._unkept: dict[str, Job] = {}
        self._wake = trio.Event()

    def note(self, job: Job, *, keeps: bool = False) -> None:
        """Something of a job has changed; `keeps`: so much that it is to outlive the node."""
        self._due[job.id] = job
        if keeps:
            self._unkept[job.id] = job
        self._wake.set()

    def forget(self, job: Job) -> None:
        """A job is another node's, which tells of it."""
        self._due.pop(job.id, None)
        self._unkept.pop(job.id, None)

    async def run(self) -> None:
        """Tell until cancelled."""
        while True:
            next_at = self._tell_due()
            with trio.move_on_at(next_at):
                await self._wake.wait()
            self._wake = trio.Event()

    def _tell_due(self) -> float:
        """Tell what may be told now; return when to look again."""
        now, next_at = trio.current_time(), math.inf
        for job in list(self._unkept.values()):
            if _is_doubtful(job, now):
                next_at = now + RETRY_S
            elif self._news.tell(JOBS_CHANNEL, "job", self._facts(job), key=job.id):
                del self._unkept[job.id]
            else:
                next_at = now + RETRY_S
        for job in list(self._due.values()):
            at = self._told_at.get(job.collection, -math.inf) + TELL_S
            if _is_doubtful(job, now):
                at = now + RETRY_S
            elif at <= now:
                at = self._tell(job, now)
            next_at = min(next_at, at)
        return next_at

    def _tell(self, job: Job, now: float) -> float:
        job.seq += 1
        if job.final is not None:
            job.final["seq"] = job.seq
        facts = {name: each for name, each in self._facts(job).items() if each is not None}
        if not self._news.tell(progress_channel(job.collection), "progress", facts):
            return now + RETRY_S
        del self._due[job.id]
        self._told_at[job.collection] = now
        return math.inf


def _is_doubtful(job: Job, now: float) -> bool:
    """Tell whether another node may have the job by now: this one stood still, or the store is away."""
    return job.final is None and now > job.vouched_until
