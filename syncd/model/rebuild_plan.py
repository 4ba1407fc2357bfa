"""Which rebuilds run when: jobs, their states, one a collection at a time, a bounded number at once.

Owned by the rebuild-coordinator, which performs what this decides. Pure: times are given, in seconds of one clock.

Invariant: of one collection at most one job is queued, running or swapping.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator, Sequence
from typing import Any

import attrs

from syncd.codes import ErrorCode
from syncd.errors import RebuildRunning, RequestRejected, SyncdError

__all__ = ["ENDED", "MAX_RUNNING", "Job", "JobState", "Mode", "RebuildPlan", "Wish", "wish_of"]

MAX_RUNNING = 2
"""Rebuilds at once, of all collections: more would only share one store."""
MAX_QUEUED = 100
"""Policy when full: refuse, `overloaded`."""
MAX_ENDED = 100
"""Ended jobs remembered; the oldest goes."""


class Mode(enum.Enum):
    """What a job scans."""

    FULL = "full"
    """From the first key on."""
    RESUME = "resume"
    """On from where the last job of the collection was left; from the first key if there is nothing left of one."""

    KEYS = "keys"
    """Some keys: through the loader, or those of the scanner's rows."""
    TAG = "tag"
    """Entries with a tag, here or at the source: those of the scanner's rows, or through the loader."""


@attrs.frozen
class Wish:
    """What a job shall do, as it was asked for. Made by `wish_of`."""

    mode: Mode = Mode.FULL
    keys: tuple[str, ...] = ()
    """For `KEYS`."""
    tag: str | None = None
    """For `TAG`."""
    keeps_missing: bool = False
    """Entries that the source does not have any more stay."""
    max_rows_per_s: int | None = None
    deadline_s: float | None = None
    """From its start; then it fails."""


def wish_of(
    mode: str | None = None,
    *,
    keys: Sequence[str] | None = None,
    tag: str | None = None,
    keeps_missing: bool = False,
    max_rows_per_s: int | None = None,
    deadline_ms: int | None = None,
) -> Wish:
    """Return what was asked for. Raises `RequestRejected(bad_request)` where it does not fit together."""
    modes = [each.value for each in Mode]
    if mode is None:
        mode = Mode.FULL.value
    if mode not in modes:
        raise _bad(f"Field 'mode' must be one of {', '.join(modes)}.")
    if (mode == Mode.KEYS.value) != bool(keys):
        raise _bad("Field 'keys' goes with mode keys, and names at least one.")
    if (mode == Mode.TAG.value) != bool(tag):
        raise _bad("Field 'tag' goes with mode tag, and names one.")
    if max_rows_per_s == 0 or deadline_ms == 0:
        raise _bad("max_rows_per_s and deadline_ms must be above 0, or left out.")
    deadline_s = None if deadline_ms is None else deadline_ms / 1000
    named = tuple(dict.fromkeys(keys or ()))
    return Wish(Mode(mode), named, tag, keeps_missing, max_rows_per_s, deadline_s)


def _bad(text: str) -> RequestRejected:
    return RequestRejected(ErrorCode.BAD_REQUEST, text)


class JobState(enum.Enum):
    """Where a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    SWAPPING = "swapping"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


_ENDED = frozenset({JobState.DONE, JobState.FAILED, JobState.CANCELLED})
ENDED = frozenset(each.value for each in _ENDED)
"""As it is told."""


@attrs.define(eq=False)
class Job:
    """One rebuild."""

    id: str
    collection: str
    wish: Wish
    asked_at_ms: int
    who: str
    """Who asked, as in the audit log."""
    uid: str | None = None
    """Under which name, so that asking twice is asking once."""
    state: JobState = JobState.QUEUED
    seq: int = 0
    """How often it was told."""
    done: int = 0
    """Rows read."""
    resumed_at: int = 0
    """Rows that were there when it began."""
    total: int | None = None
    """Rows there will be, if the application counts them."""
    changed: int | None = None
    """Entries that the swap has changed."""
    error: str | None = None
    """Why it failed; the log has the rest."""
    message: str | None = None
    """What it waits for just now."""
    ended_at_ms: int | None = None
    final: dict[str, Any] | None = None
    """What is told of it for ever, once it has ended."""
    started_at: float | None = None
    ended_at: float | None = None
    note: bytes | None = None
    """Of a job that was begun on another node: what that left of it (`rebuild_note`)."""
    passed_s: float = 0.0
    """Of its deadline, on other nodes."""
    num_taken: int = 0
    """How many nodes have left it before."""
    takes_over: int | None = None
    """The token of the lease that the other node has left."""
    vouched_until: float = math.inf
    """Until then nobody else can have its lease, so that it may be told of."""

    @property
    def is_ended(self) -> bool:
        """Whether nothing of it will change any more."""
        return self.state in _ENDED

    def rate_per_s(self, now: float) -> float:
        """Return rows a second since it began."""
        if self.started_at is None:
            return 0.0
        passed_s = (now if self.ended_at is None else self.ended_at) - self.started_at
        return (self.done - self.resumed_at) / passed_s if passed_s > 0 else 0.0

    def eta_ms(self, now: float) -> int | None:
        """Return how long it may take yet; None: nobody knows."""
        rate = self.rate_per_s(now)
        if self.total is None or self.state is not JobState.RUNNING or rate <= 0:
            return None
        return int(max(0, self.total - self.done) / rate * 1000)


class RebuildPlan:
    """All jobs, the last one of each collection included."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}

    def __iter__(self) -> Iterator[Job]:
        return iter(self._jobs.values())

    def find(self, job_id: str) -> Job | None:
        """Return a job that is not forgotten."""
        return self._jobs.get(job_id)

    def active(self, collection: str) -> Job | None:
        """Return the job of a collection that has not ended."""
        for job in self._jobs.values():
            if job.collection == collection and not job.is_ended:
                return job
        return None

    def ask(self, job: Job, *, joins: bool) -> Job:
        """Queue a job; returns it, or the one it joins.

        Raises:
            RebuildRunning: with that job's id.
            SyncdError: `overloaded`.
        """
        known = self.asked_before(job)
        if known is not None:
            return known
        running = self.active(job.collection)
        if running is not None:
            if joins:
                return running
            raise RebuildRunning(running.id)
        if sum(not each.is_ended for each in self._jobs.values()) >= MAX_QUEUED:
            raise SyncdError(ErrorCode.OVERLOADED, after_ms=1000)
        self._jobs[job.id] = job
        self._forget_oldest()
        return job

    def take_in(self, job: Job) -> bool:
        """Queue a job that another node has left; False: there is no room, or one of its collection is under way."""
        num_active = sum(not each.is_ended for each in self._jobs.values())
        if num_active >= MAX_RUNNING or self.active(job.collection) is not None:
            return False
        self._jobs[job.id] = job
        return True

    def asked_before(self, job: Job) -> Job | None:
        """Return the job of the same request."""
        if job.uid is None:
            return None
        name = (job.uid, job.who, job.collection)
        for each in self._jobs.values():
            if (each.uid, each.who, each.collection) == name:
                return each
        return None

    def remember(self, job: Job) -> None:
        """Take in a job of before the start, which has ended."""
        self._jobs[job.id] = job
        self._forget_oldest()

    def forget(self, job: Job) -> None:
        """It is not told any more."""
        del self._jobs[job.id]

    def _forget_oldest(self) -> None:
        ended = [job.id for job in self._jobs.values() if job.is_ended]
        for job_id in ended[: max(0, len(ended) - MAX_ENDED)]:
            del self._jobs[job_id]

    def next(self) -> Job | None:
        """Return the job to start now, if any: the one that was asked first, and so one of each collection in turn."""
        num_running = 0
        first = None
        for job in self._jobs.values():
            if job.state is JobState.QUEUED and first is None:
                first = job
            num_running += not job.is_ended and job.state is not JobState.QUEUED
        return first if num_running < MAX_RUNNING else None
