"""What the client's core says about collections and mutations: facts for the application to know."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

import attrs

from syncd.ids import ChannelName, ClientId, Position

__all__ = [
    "EntryRead",
    "Invalidated",
    "MutationOutcome",
    "OutcomeStatus",
    "ReadResult",
    "RebuildJob",
    "StateFact",
    "ViewChanged",
    "WatchEnded",
    "job_from_body",
]


class OutcomeStatus(enum.Enum):
    """How a mutation ended."""

    OK = "ok"
    """It took effect, and the view shows it."""
    REJECTED = "rejected"
    """Nothing changed, and nothing will."""
    UNKNOWN = "unknown"
    """It was sent, and whether it took effect cannot be found out."""
    UNSENT = "unsent"
    """The client ended before it was sent: it did not take effect."""


@attrs.frozen
class MutationOutcome:
    """A mutation has ended. Told after the change of the view that belongs to it."""

    id: int
    """What `mutate` returned."""
    client: ClientId | None
    mid: int
    status: OutcomeStatus
    value: Any = None
    """`ok` only: what the mutator returned at the server, if anything."""
    code: str | None = None
    """`rejected` only: from the application, or one of SPEC section 18."""
    message: str = ""
    positions: dict[ChannelName, Position] = attrs.field(factory=dict)
    """`ok` only: where the effect is visible. To be passed as `after` elsewhere."""


@attrs.frozen
class ViewChanged:
    """What a watch shows is different now; at most one a watch and received frame."""

    watch: int
    keys: frozenset[str]
    """Entries whose value, presence or pending flag changed."""
    is_current: bool
    """The view is complete and live; else it is as it was when it last was, under the predictions of today."""


@attrs.frozen
class Invalidated:
    """Entries may have changed at their source; the server loads them anew and tells changes by itself."""

    channel: ChannelName
    position: Position
    keys: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    is_all: bool = False
    cause: str | None = None

    @classmethod
    def from_body(
        cls, channel: ChannelName, position: Position, body: Mapping[str, Any]
    ) -> Invalidated:
        """Read an `invalidate` that stands at a position."""
        keys, tags = tuple(body.get("keys") or ()), tuple(body.get("tags") or ())
        return cls(channel, position, keys, tags, bool(body.get("all")), body.get("cause"))

    @classmethod
    def unrecovered(cls, channel: ChannelName, position: Position) -> Invalidated:
        """Say that a watch began anew: what was invalidated since it was there last is told by nobody."""
        return cls(channel, position, is_all=True, cause="unrecovered")


@attrs.frozen
class WatchEnded:
    """The server ended or refused a watch; it will not come back by itself."""

    watch: int
    code: str
    """An error code or reason of `protocol/codes.toml`."""
    message: str


@attrs.frozen
class EntryRead:
    """One entry of an answer to `read`."""

    key: str
    version: int
    value: Any
    is_deleted: bool
    """There is no such entry; `version` is the offset up to which that is known."""


@attrs.frozen
class ReadResult:
    """Answer to a `read`: one entry a key, in the order asked."""

    position: Position | None
    entries: tuple[EntryRead, ...]


StateFact = MutationOutcome | ViewChanged | Invalidated | WatchEnded


_ENDED = frozenset({"done", "failed", "cancelled"})


@attrs.frozen
class RebuildJob:
    """Where a job stands; fields as `progress` of the protocol, with None for what is not known."""

    job: str
    collection: str
    mode: str
    seq: int
    state: str
    """`queued`, `running`, `swapping`, `done`, `failed` or `cancelled`."""
    who: str
    asked_at_ms: int
    done: int
    """Rows read."""
    resumed_at: int
    rate_per_s: int
    ended_at_ms: int | None = None
    total: int | None = None
    changed: int | None = None
    eta_ms: int | None = None
    message: str | None = None
    error: str | None = None

    @property
    def is_ended(self) -> bool:
        """Whether it will not change any more."""
        return self.state in _ENDED


_FIELDS = {field.name for field in attrs.fields(RebuildJob)}


def job_from_body(body: dict[str, Any]) -> RebuildJob:
    """Return a job as the server tells it; what a newer one adds is left out."""
    return RebuildJob(**{name: value for name, value in body.items() if name in _FIELDS})
