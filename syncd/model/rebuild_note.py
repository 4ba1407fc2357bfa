"""What a rebuild leaves in the store beside its lease, so that another node can take it over. Pure."""

from __future__ import annotations

from typing import Any

import attrs
import msgpack

from syncd.model.rebuild_plan import Job, JobState, Mode, Wish

__all__ = ["job_from", "note_of"]


def note_of(job: Job, now_ms: int) -> bytes:
    """Return what there is to know of a job that begins now."""
    wish = attrs.asdict(job.wish) | {"mode": job.wish.mode.value}
    note = {
        "wish": wish,
        "who": job.who,
        "uid": job.uid,
        "asked_at_ms": job.asked_at_ms,
        "began_at_ms": now_ms,
        "num_taken": 0,
    }
    packed: bytes = msgpack.packb(note)
    return packed


def job_from(note: bytes, job_id: str, collection: str, now_ms: int) -> Job | None:
    """Return the job that a note is of, as it would be taken over now; None if it says nothing that this version knows."""
    try:
        told: dict[str, Any] = msgpack.unpackb(note)
        wish = dict(told["wish"])
        passed_s = max(0.0, (now_ms - told["began_at_ms"]) / 1000)
        wish["mode"], wish["keys"] = Mode(wish["mode"]), tuple(wish["keys"])
        made = Wish(**wish)
        who, uid, asked_at_ms = told["who"], told["uid"], told["asked_at_ms"]
        num_taken = told["num_taken"] = told["num_taken"] + 1
    except (ValueError, TypeError, KeyError, msgpack.UnpackException):
        return None
    return Job(
        job_id,
        collection,
        made,
        asked_at_ms,
        who,
        uid,
        state=JobState.RUNNING,
        note=msgpack.packb(told),
        passed_s=passed_s,
        num_taken=num_taken,
    )
