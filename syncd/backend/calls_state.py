"""The calls of the HTTP API about collections as data: what to send, and how to read the answer. Pure."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import attrs

from syncd.backend.calls import Call, Json, position_from_json, value_from_json
from syncd.backend.errors import MutationRejected, Refused
from syncd.ids import ChannelName, Position

__all__ = ["Entries", "Entry", "Mutated"]

Positions = Mapping[ChannelName, Position]


@attrs.frozen
class Mutated:
    """A mutation that took effect and is durable."""

    value: Any
    """What the mutator returned."""
    positions: Positions
    """Where its effect can be read, by channel: `read(..., after=positions)` sees it, on any node."""


@attrs.frozen
class Entry:
    """One entry as it was read."""

    key: str
    version: int
    """Offset of its last change; without an entry, up to which that is known."""
    value: Any
    """None if there is no such entry."""
    is_deleted: bool = False
    """There is no such entry."""


@attrs.frozen
class Entries:
    """Some entries of one partition, as of one position."""

    channel: ChannelName
    position: Position
    entries: tuple[Entry, ...]
    """One for each key, in the order asked for."""

    @property
    def values(self) -> dict[str, Any]:
        """Those entries that there are, by key."""
        return {entry.key: entry.value for entry in self.entries if not entry.is_deleted}


# ------------------------------------------------------------------------------------------------ changing


def mutate(name: str, args: object, key: str) -> Call[Mutated]:
    """Run a mutator, once for each key."""
    body: Json = {"name": name}
    if args is not None:
        body["args"] = json_from_value(args)
    return Call("POST", "/api/mutate", _read_outcome, body=body, key=key)


def _read_outcome(answer: Json) -> Mutated:
    match answer["status"]:
        case "ok":
            return Mutated(value_from_json(answer.get("value")), _positions(answer["positions"]))
        case "rejected":
            error = answer["error"]
            raise MutationRejected(str(error["code"]), str(error["message"]))
        case _:
            text = "It was decided before, and what became of it is no longer kept."
            raise Refused("unknown", text)


def invalidate(
    collection: str,
    *,
    keys: Sequence[str] | None,
    tags: Sequence[str] | None,
    everything: bool,
    cause: str | None,
) -> Call[Positions]:
    """Say that entries may have changed at their source.

    Raises:
        ValueError: not exactly one of the three is given.
    """
    if (keys is not None) + (tags is not None) + everything != 1:
        raise ValueError("give exactly one of keys, tags and everything=True")
    body: Json = {"collection": collection}
    if keys is not None:
        body["keys"] = [keys] if isinstance(keys, str) else list(keys)
    if tags is not None:
        body["tags"] = [tags] if isinstance(tags, str) else list(tags)
    if everything:
        body["all"] = True
    if cause is not None:
        body["cause"] = cause
    return Call("POST", "/api/invalidate", _read_positions, body=body)


def _read_positions(answer: Json) -> Positions:
    return _positions(answer["positions"])


def _positions(value: Json) -> Positions:
    found: dict[ChannelName, Position] = {}
    for channel, place in value.items():
        position = position_from_json(place)
        assert position is not None
        found[ChannelName(channel)] = position
    return found


def json_from_value(value: Any) -> Any:
    """Return a value as the API reads it in `args`: binary data, odd floats and what looks like them are marked."""
    match value:
        case bytes() | bytearray() | memoryview():
            return {"$base64": base64.b64encode(value).decode()}
        case float() if not math.isfinite(value):
            return {"$float": {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")}
        case list() | tuple():
            return [json_from_value(item) for item in value]
        case dict():
            converted = {key: json_from_value(item) for key, item in value.items()}
            is_ambiguous = len(value) == 1 and not _TAGS.isdisjoint(value)
            return {"$escape": converted} if is_ambiguous else converted
        case _:
            return value


_TAGS = frozenset({"$base64", "$float", "$escape"})


# ------------------------------------------------------------------------------------------------ reading


def read(collection: str, keys: Sequence[str], after: Positions | None) -> Call[Entries]:
    """Read entries of one partition."""
    query: dict[str, str | Sequence[str]] = {
        "collection": collection,
        "key": [keys] if isinstance(keys, str) else list(keys),
    }
    if after:
        places = (f"{name}={place.epoch}:{place.offset}" for name, place in after.items())
        query["after"] = ",".join(places)
    return Call("GET", "/api/entries", _read_entries, query=query)


def _read_entries(answer: Json) -> Entries:
    position = position_from_json(answer["position"])
    assert position is not None
    return Entries(ChannelName(answer["channel"]), position, tuple(map(_entry, answer["entries"])))


def _entry(body: Json) -> Entry:
    if body.get("deleted"):
        return Entry(body["key"], body["version"], None, is_deleted=True)
    return Entry(body["key"], body["version"], value_from_json(body["value"]))


# ------------------------------------------------------------------------------------------------ the cache


def cache_stats() -> Call[Json]:
    """Count."""
    return Call("GET", "/api/cache/stats", dict)


def cache_config() -> Call[dict[str, Json]]:
    """Read limits, by collection."""
    return Call("GET", "/api/cache/config", _read_by_collection)


def change_cache_config(collection: str, changes: Mapping[str, Any]) -> Call[Json]:
    """Change limits of a collection; the answer has all of them."""
    body = {"collection": collection, **changes}
    return Call("POST", "/api/cache/config", lambda answer: answer["collections"][collection], body)


def clear_cache(collection: str | None) -> Call[dict[str, int]]:
    """Forget what is in memory; the answer counts entries by collection."""
    return Call("POST", "/api/cache/clear", _read_by_collection, _of(collection))


def warm_cache(collection: str | None, keys: Sequence[str] | None) -> Call[dict[str, int]]:
    """Bring entries into memory; the answer counts them by collection."""
    body = _of(collection)
    if keys is not None:
        body["keys"] = list(keys)
    return Call("POST", "/api/cache/warm", _read_by_collection, body)


def _of(collection: str | None) -> Json:
    return {} if collection is None else {"collection": collection}


def _read_by_collection(answer: Json) -> dict[str, Any]:
    return dict(answer["collections"])


# ------------------------------------------------------------------------------------------------ rebuilds


class RebuildOptions(TypedDict, total=False):
    """How a collection is rebuilt; what is left out or None has its default."""

    keys: Sequence[str] | None
    """Mode keys: which, at most 1,000."""
    tag: str | None
    """Mode tag: which."""
    join: bool
    """If a job is under way, return that one."""
    keep_missing: bool
    """Entries that the source does not have any more stay."""
    max_rows_per_s: int | None
    deadline_ms: int | None
    """The job fails when it has not ended by then."""
    uid: str | None
    """Names the request, so that repeating it returns the same job."""


def rebuild(collection: str, options: Mapping[str, Any]) -> Call[Json]:
    """Start a job, or join the one under way; an option that is None is left out."""
    given = {name: value for name, value in options.items() if value is not None}
    return Call("POST", "/api/rebuild", dict, {"collection": collection, **given})


def rebuild_job(job: str) -> Call[Json]:
    """Read how far a job is."""
    return Call("GET", f"/api/rebuild/{job}", dict)


def rebuild_jobs() -> Call[list[Json]]:
    """Read the last jobs."""
    return Call("GET", "/api/rebuild", lambda body: list(body["jobs"]))


def cancel_rebuild(job: str) -> Call[Json]:
    """Have a job end."""
    return Call("DELETE", f"/api/rebuild/{job}", dict)
