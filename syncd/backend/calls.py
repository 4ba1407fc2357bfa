"""Every call of the HTTP API as data: what to send, and how to read the answer. Pure."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import attrs

from syncd.backend.errors import Refused
from syncd.ids import ChannelName, ClientId, Epoch, Position

__all__ = [
    "Call",
    "ChannelInfo",
    "History",
    "Members",
    "PresentMember",
    "Publication",
    "PublishedEvent",
    "position_from_json",
    "refusal_from_error",
    "value_from_json",
]

T = TypeVar("T")
Json = dict[str, Any]


@attrs.frozen
class Call(Generic[T]):
    """One request and the reader of its answer."""

    method: str
    path: str
    read: Callable[[Any], T]
    body: Json | None = None
    query: Mapping[str, str | Sequence[str]] = attrs.field(factory=dict)
    key: str | None = None
    """Goes out as `Idempotency-Key`, the same at every attempt."""


@attrs.frozen
class Publication:
    """One event to publish; `bytes` as `data` arrive as binary data, anything else must be JSON."""

    channel: str
    data: Any
    name: str | None = None
    key: str | None = None
    uid: str | None = None


@attrs.frozen
class PublishedEvent:
    """One event of a channel's history."""

    channel: ChannelName
    data: Any
    name: str | None
    key: str | None
    position: Position | None
    by: ClientId | None
    """Client that published it; None for backends."""
    at_ms: int


@attrs.frozen
class History:
    """Some of a channel's past."""

    events: tuple[PublishedEvent, ...]
    position: Position
    """The channel's top."""


@attrs.frozen
class PresentMember:
    """One user, or one anonymous client, present in a channel."""

    member: str
    user: str | None
    states: tuple[tuple[ClientId, Any], ...]
    """(client, state) for each of its clients."""


@attrs.frozen
class Members:
    """Who is present in a channel."""

    members: tuple[PresentMember, ...]
    """At most as many as asked for, in order of arrival."""
    num_members: int
    """All of them."""


@attrs.frozen
class ChannelInfo:
    """One channel that somebody uses on the node."""

    channel: ChannelName
    num_subscribers: int
    position: Position | None


# ------------------------------------------------------------------------------------------------ publishing


def publish(publication: Publication, key: str) -> Call[Position | None]:
    """Publish one event; the answer is its position, None on ephemeral channels."""
    body = _publication_body(publication)
    return Call("POST", "/api/publish", _read_published, body=body, key=key)


def batch(
    publications: Sequence[Publication], key: str
) -> Call[tuple[Position | Refused | None, ...]]:
    """Publish up to 1,000 events; the answer has one outcome each, in order."""
    commands = [{"publish": _publication_body(item)} for item in publications]
    return Call("POST", "/api/batch", _read_results, body={"commands": commands}, key=key)


def _publication_body(item: Publication) -> Json:
    body: Json = {"channel": item.channel}
    if isinstance(item.data, bytes | bytearray | memoryview):
        body["data_base64"] = base64.b64encode(item.data).decode()
    else:
        body["data"] = item.data
    optional = {"name": item.name, "key": item.key, "uid": item.uid}
    return body | {field: text for field, text in optional.items() if text is not None}


def _read_published(answer: Json) -> Position | None:
    return position_from_json(answer["position"])


def _read_results(answer: Json) -> tuple[Position | Refused | None, ...]:
    return tuple(map(_read_result, answer["results"]))


def _read_result(item: Json) -> Position | Refused | None:
    if "error" in item:
        return refusal_from_error(item["error"])
    return _read_published(item["ok"])


def refusal_from_error(error: Json, status: int | None = None) -> Refused:
    """Build the refusal an `error` object stands for."""
    return Refused(
        str(error["code"]),
        str(error["message"]),
        retryable=bool(error["retryable"]),
        after_ms=error.get("after_ms"),
        status=status,
    )


# ------------------------------------------------------------------------------------------------ sessions


def disconnect(who: Mapping[str, str | None], *, reconnect: bool, reason: str | None) -> Call[int]:
    """End sessions; the answer is how many."""
    body: Json = {**_given(who), "reconnect": reconnect, **_given({"reason": reason})}
    return Call("POST", "/api/disconnect", _read_count, body=body)


def unsubscribe(channel: str, who: Mapping[str, str | None]) -> Call[int]:
    """End subscriptions of a channel; the answer is of how many sessions."""
    body: Json = {**_given(who), "channel": channel}
    return Call("POST", "/api/unsubscribe", _read_count, body=body)


def revoke(who: Mapping[str, str | None], until_ms: int | None) -> Call[int]:
    """Refuse tokens and end their sessions; the answer is how many."""
    body: Json = dict(_given(who))
    if until_ms is not None:
        body["until_ms"] = until_ms
    return Call("POST", "/api/revoke", _read_count, body=body)


def _given(fields: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in fields.items() if value is not None}


def _read_count(answer: Json) -> int:
    return int(answer["num_sessions"])


# ------------------------------------------------------------------------------------------------ reads


def history(channel: str, *, limit: int, since: Position | None, reverse: bool) -> Call[History]:
    """Read events of the past."""
    query = {"channel": channel, "limit": str(limit)}
    if since is not None:
        query |= {"since_epoch": since.epoch, "since_offset": str(since.offset)}
    if reverse:
        query["reverse"] = "true"
    return Call("GET", "/api/history", _read_history, query=query)


def presence(channel: str, limit: int) -> Call[Members]:
    """Read who is present."""
    query = {"channel": channel, "limit": str(limit)}
    return Call("GET", "/api/presence", _read_members, query=query)


def channels(prefix: str, limit: int) -> Call[tuple[ChannelInfo, ...]]:
    """Read which channels are in use on the node."""
    query = {"prefix": prefix, "limit": str(limit)}
    return Call("GET", "/api/channels", _read_channels, query=query)


def info() -> Call[Json]:
    """Read how the node does."""
    return Call("GET", "/api/info", dict)


def _read_history(answer: Json) -> History:
    position = position_from_json(answer["position"])
    assert position is not None
    return History(tuple(map(_event, answer["events"])), position)


def _event(body: Json) -> PublishedEvent:
    by = body.get("by")
    return PublishedEvent(
        channel=ChannelName(body["channel"]),
        data=value_from_json(body["data"]),
        name=body.get("name"),
        key=body.get("key"),
        position=position_from_json(body) if "offset" in body else None,
        by=None if by is None else ClientId(by["client"]),
        at_ms=body["at_ms"],
    )


def _read_members(answer: Json) -> Members:
    members = tuple(
        PresentMember(
            item["member"],
            item.get("user"),
            tuple((ClientId(s["client"]), value_from_json(s.get("state"))) for s in item["states"]),
        )
        for item in answer["members"]
    )
    return Members(members, int(answer["num_members"]))


def _read_channels(answer: Json) -> tuple[ChannelInfo, ...]:
    return tuple(
        ChannelInfo(
            ChannelName(item["channel"]),
            item["num_subscribers"],
            position_from_json(item["position"]),
        )
        for item in answer["channels"]
    )


def position_from_json(value: Json | None) -> Position | None:
    """Read a position."""
    return None if value is None else Position(Epoch(value["epoch"]), int(value["offset"]))


def value_from_json(value: Any) -> Any:
    """Undo what the API does to values that JSON cannot hold: `$base64`, `$float`, `$escape`."""
    match value:
        case list():
            return [value_from_json(item) for item in value]
        case {"$base64": str() as text} if len(value) == 1:
            return base64.b64decode(text, validate=True)
        case {"$float": "NaN" | "Infinity" | "-Infinity" as text} if len(value) == 1:
            return {"NaN": math.nan, "Infinity": math.inf}.get(text, -math.inf)
        case {"$escape": dict() as inner} if len(value) == 1:
            return {key: value_from_json(item) for key, item in inner.items()}
        case dict():
            return {key: value_from_json(item) for key, item in value.items()}
        case _:
            return value
