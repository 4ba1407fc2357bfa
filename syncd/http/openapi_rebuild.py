"""The routes and shapes of `/openapi.json` that rebuilds have. Data only."""

from __future__ import annotations

from typing import Any

from syncd.http.openapi_parts import answer_of, body_of, operation
from syncd.http.openapi_schemas import Schema, list_of, obj, or_null, ref, text, uint

__all__ = ["REBUILD_PATHS", "REBUILD_SCHEMAS"]

_JOB = {
    "job": "4f2a9c01d7be6a53",
    "collection": "orders",
    "mode": "full",
    "state": "running",
    "seq": 17,
    "who": "service:default",
    "asked_at_ms": 1_700_000_000_000,
    "ended_at_ms": None,
    "done": 25_000,
    "resumed_at": 0,
    "total": 100_000,
    "changed": None,
    "rate_per_s": 12_500,
    "eta_ms": 6000,
    "message": None,
    "error": None,
}
_BY_ID: dict[str, Any] = {
    "name": "job",
    "in": "path",
    "required": True,
    "description": "Id of a job.",
    "schema": {"type": "string"},
    "example": _JOB["job"],
}

REBUILD_PATHS: dict[str, Schema] = {
    "/api/rebuild": {
        "post": operation(
            "Have a collection read anew from its source.",
            answer_of("Queued, or the job joined; ask for it again.", "RebuildJob", _JOB),
            "403",
            "409",
            "413",
            "415",
            "503",
            operationId="rebuild",
            tags=["rebuilds"],
            requestBody=body_of("Rebuild", {"collection": "orders", "mode": "full"}),
        ),
        "get": operation(
            "Tell the last hundred jobs.",
            answer_of("The newest last.", "RebuildJobs", {"jobs": [_JOB]}),
            "403",
            operationId="rebuildJobs",
            tags=["rebuilds"],
        ),
    },
    "/api/rebuild/{job}": {
        "get": operation(
            "Tell how far a job is.",
            answer_of("As it is now.", "RebuildJob", _JOB),
            "403",
            operationId="rebuildJob",
            tags=["rebuilds"],
            parameters=[_BY_ID],
        ),
        "delete": operation(
            "Cancel a job. Entries stay as they are, unless it is swapping already.",
            answer_of("It ends soon; ask for it again.", "RebuildJob", _JOB),
            "403",
            operationId="cancelRebuild",
            tags=["rebuilds"],
            parameters=[_BY_ID],
        ),
    },
}

_FIELDS: dict[str, Schema] = {
    "job": text("Its id.", 64),
    "collection": text("What it rebuilds.", 64),
    "mode": {"type": "string", "enum": ["full", "resume", "keys", "tag"]},
    "seq": uint("Ascending: what was told later is newer."),
    "state": {
        "type": "string",
        "enum": ["queued", "running", "swapping", "done", "failed", "cancelled"],
    },
    "who": text("Who asked for it, as in the audit log."),
    "asked_at_ms": uint("When it was asked for, milliseconds since 1970."),
    "ended_at_ms": or_null(uint("When it ended, milliseconds since 1970.")),
    "done": uint("Rows read."),
    "resumed_at": uint("Rows that were there when it began."),
    "total": or_null({"type": "integer", "description": "Rows there are, if that is known."}),
    "changed": or_null({"type": "integer", "description": "Entries that it has changed."}),
    "rate_per_s": uint("Rows a second."),
    "eta_ms": or_null({"type": "integer", "description": "How long it may take yet."}),
    "message": or_null(text("What it waits for.")),
    "error": or_null(text("Why it failed.")),
}

REBUILD_SCHEMAS: dict[str, Schema] = {
    "Rebuild": obj(
        {
            "collection": text("A collection with a scanner.", 64),
            "mode": {
                "type": "string",
                "enum": ["full", "resume", "keys", "tag"],
                "description": "`resume` goes on where the last job was left; else from the first key. `keys` and `tag` read some entries "
                "only.",
            },
            "keys": list_of(text("Of one entry.", 255), maxItems=1000),
            "tag": text("Entries that carry it, here or at the source.", 128),
            "keep_missing": {
                "type": "boolean",
                "description": "Entries that the source does not have any more stay.",
            },
            "max_rows_per_s": uint("Read no faster than this."),
            "deadline_ms": uint("The job fails when it has not ended by then."),
            "uid": text("The same request again is answered with its job.", 128),
            "join": {
                "type": "boolean",
                "description": "If a job is under way, return that one instead of an error.",
            },
        },
        "collection",
        closed=True,
    ),
    "RebuildJob": obj(_FIELDS, *_FIELDS),
    "RebuildJobs": obj({"jobs": list_of(ref("RebuildJob"))}, "jobs"),
}
