"""The routes about rebuilds. Nothing here waits: jobs are asked about again."""

from __future__ import annotations

from quart import Response, request

from syncd.http.bodies import read_object
from syncd.http.failures import json_response
from syncd.http.fields import only, optional_text, rejected, text
from syncd.http.ports import Rebuilds
from syncd.model.rebuild_plan import Mode
from syncd.model.reserved import who_of
from syncd.ports import Identity

__all__ = ["RebuildApi"]


class RebuildApi:
    """The handlers of the routes; each is given who asks."""

    def __init__(self, rebuilds: Rebuilds) -> None:
        self._rebuilds = rebuilds

    async def start(self, operator: Identity) -> Response:
        """Answer `POST /api/rebuild`."""
        fields = await read_object()
        only(fields, "collection", "mode", "join")
        collection = text(fields, "collection", 64)
        mode = optional_text(fields, "mode", 16) or Mode.FULL.value
        joins = fields.get("join", False)
        if type(joins) is not bool:
            raise rejected("Field 'join' must be true or false.")
        modes = [each.value for each in Mode]
        if mode not in modes:
            raise rejected(f"Field 'mode' must be one of {', '.join(modes)}.")
        job = self._rebuilds.start(collection, Mode(mode), joins=joins, who=who_of(operator))
        return json_response(job)

    async def jobs(self, _operator: Identity) -> Response:
        """Answer `GET /api/rebuild`."""
        return json_response({"jobs": self._rebuilds.jobs()})

    async def job(self, _operator: Identity) -> Response:
        """Answer `GET /api/rebuild/ID`."""
        return json_response(self._rebuilds.job(_id()))

    async def cancel(self, operator: Identity) -> Response:
        """Answer `DELETE /api/rebuild/ID`."""
        return json_response(self._rebuilds.cancel(_id(), who=who_of(operator)))


def _id() -> str:
    return str((request.view_args or {})["job"])
