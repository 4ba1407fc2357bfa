"""The routes about rebuilds. Nothing here waits: jobs are asked about again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quart import Response, request

from syncd.actors.rebuild_coordinator.handle import Rebuilds
from syncd.http.bodies import read_object
from syncd.http.failures import json_response
from syncd.http.fields import only, optional_text, rejected, text, texts
from syncd.model.rebuild_plan import wish_of
from syncd.model.reserved import who_of
from syncd.ports import Identity
from syncd.wire.fields import MAX_INTEGER, MAX_KEYS

__all__ = ["RebuildApi"]


_OPTIONS = (
    "mode",
    "keys",
    "tag",
    "join",
    "keep_missing",
    "max_rows_per_s",
    "deadline_ms",
    "uid",
)


class RebuildApi:
    """The handlers of the routes; each is given who asks."""

    def __init__(self, rebuilds: Rebuilds) -> None:
        self._rebuilds = rebuilds

    async def start(self, operator: Identity) -> Response:
        """Answer `POST /api/rebuild`."""
        fields = await read_object()
        only(fields, "collection", *_OPTIONS)
        collection = text(fields, "collection", 64)
        wish = wish_of(
            optional_text(fields, "mode", 16),
            keys=texts(fields, "keys", MAX_KEYS, 255),
            tag=optional_text(fields, "tag", 128),
            keeps_missing=_flag(fields, "keep_missing"),
            max_rows_per_s=_count(fields, "max_rows_per_s"),
            deadline_ms=_count(fields, "deadline_ms"),
        )
        uid = optional_text(fields, "uid", 128)
        who, joins = who_of(operator), _flag(fields, "join")
        return json_response(self._rebuilds.start(collection, wish, joins=joins, who=who, uid=uid))

    async def jobs(self, _operator: Identity) -> Response:
        """Answer `GET /api/rebuild`."""
        return json_response({"jobs": self._rebuilds.jobs()})

    async def job(self, _operator: Identity) -> Response:
        """Answer `GET /api/rebuild/ID`."""
        return json_response(self._rebuilds.job(_id()))

    async def cancel(self, operator: Identity) -> Response:
        """Answer `DELETE /api/rebuild/ID`."""
        return json_response(self._rebuilds.cancel(_id(), who=who_of(operator)))


def _flag(fields: Mapping[str, Any], name: str) -> bool:
    value = fields.get(name, False)
    if type(value) is not bool:
        raise rejected(f"Field {name!r} must be true or false.")
    return value


def _count(fields: Mapping[str, Any], name: str) -> int | None:
    value = fields.get(name)
    if value is not None and (type(value) is not int or not 0 <= value <= MAX_INTEGER):
        raise rejected(f"Field {name!r} must be a whole number from 0 on.")
    return value


def _id() -> str:
    return str((request.view_args or {})["job"])
