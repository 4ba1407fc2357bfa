"""Messages about rebuilds. As `wire.messages`, from which it takes its checks."""

from __future__ import annotations

import attrs

from syncd.wire.fields import (
    Body,
    optional_bool,
    optional_keys,
    optional_text,
    optional_uint,
    text,
    uint,
)

__all__ = ["Rebuild", "RebuildCancel", "parse_rebuild", "parse_rebuild_cancel"]


@attrs.define
class Rebuild:
    """Read a collection, or some of it, anew from its source."""

    id: int
    collection: str
    mode: str | None = None
    keys: list[str] | None = None
    tag: str | None = None
    join: bool = False
    keep_missing: bool = False
    max_rows_per_s: int | None = None
    deadline_ms: int | None = None
    uid: str | None = None


@attrs.define
class RebuildCancel:
    """Have a job end without effect."""

    id: int
    job: str


def parse_rebuild(body: Body) -> Rebuild:
    """Build a `Rebuild`, or raise `RequestRejected(bad_request)`. What fits together is checked where jobs are known."""
    return Rebuild(
        uint(body, "id"),
        text(body, "collection", 64),
        optional_text(body, "mode", 16),
        optional_keys(body, "keys"),
        optional_text(body, "tag", 128),
        optional_bool(body, "join"),
        optional_bool(body, "keep_missing"),
        optional_uint(body, "max_rows_per_s"),
        optional_uint(body, "deadline_ms"),
        optional_text(body, "uid", 128),
    )


def parse_rebuild_cancel(body: Body) -> RebuildCancel:
    """Build a `RebuildCancel`, or raise `RequestRejected(bad_request)`."""
    return RebuildCancel(uint(body, "id"), text(body, "job", 64))
