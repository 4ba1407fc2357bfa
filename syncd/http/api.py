"""The API proper: each method answers one route. Waits only downwards (presence, broadcaster), never without a deadline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import trio
from quart import Response, request

from syncd.actors.kit import Reply
from syncd.codes import ErrorCode
from syncd.config import Config, Namespace
from syncd.errors import MailboxFull, RequestRejected, SyncdError
from syncd.http.answers import position_json, publish_result
from syncd.http.asking import COMMAND_BYTES, Answers, EventsAnswer, size_bytes
from syncd.http.bodies import read_object
from syncd.http.commands import (
    Channels,
    parse_idempotency_key,
)
from syncd.http.failures import json_response, no_answer
from syncd.http.fields import query_uint
from syncd.http.json_values import json_from_bodies, jsonable
from syncd.http.ports import NodeInfo
from syncd.http.state_api import collections_json
from syncd.model.definitions import AppDefinition
from syncd.ports import BroadcasterHandle, Identity, PublishEvent, ReadHistory
from syncd.ports_operators import GatewayPort
from syncd.ports_presence import PresenceHandle, QueryPresence

__all__ = ["Api", "actors_json"]


@attrs.define(eq=False)
class Api:
    """The handlers of the routes; `service` is the name of the caller's key."""

    config: Config
    broadcaster: BroadcasterHandle
    presence: PresenceHandle
    gateway: GatewayPort
    node: NodeInfo
    app: AppDefinition
    channels: Channels

    # -------------------------------------------------------------------------------------------- publish

    async def publish(self, service: str) -> Response:
        """Answer `POST /api/publish`."""
        body = await read_object()
        key = parse_idempotency_key(request.headers.get("Idempotency-Key"))
        if key is not None and body.get("uid") not in (None, key):
            text = "Idempotency-Key and uid are two names of one thing and differ here."
            raise RequestRejected(ErrorCode.BAD_REQUEST, text)
        answers = Answers(1)
        command = self.channels.publish(body, service=service, asker=answers, idempotency_key=key)
        await self._ask([command], answers)
        return json_response(publish_result(answers.get(0, no_answer())))

    async def _ask(self, commands: Sequence[PublishEvent | ReadHistory], answers: Answers) -> None:
        """Hand over and wait for the answers, both within the request's time."""
        is_taken = False
        try:
            with trio.fail_after(self.config.timing.http_request_s):
                await self.broadcaster.submit(commands, size_bytes(commands))
                is_taken = True
                await answers.wait()
        except trio.TooSlowError:
            raise (no_answer() if is_taken else MailboxFull()) from None

    # -------------------------------------------------------------------------------------------- reads

    async def history(self, _service: str) -> Response:
        """Answer `GET /api/history`."""
        answers = Answers(1)
        command = self.channels.history(request.args, answers)
        await self._ask([command], answers)
        answer = answers.get(0, no_answer())
        if isinstance(answer, SyncdError):
            raise answer
        if not isinstance(answer, EventsAnswer):
            raise RequestRejected(ErrorCode.NOT_SUPPORTED)
        texts = await json_from_bodies(answer.bodies)
        rest = json_response(
            {"channel": command.channel, "position": position_json(answer.position)}
        )
        rest.set_data((await rest.get_data(as_text=True))[:-1] + f',"events":[{",".join(texts)}]}}')
        return rest

    async def list_channels(self, _operator: Identity) -> Response:
        """Answer `GET /api/channels`."""
        limit = query_uint(request.args, "limit", default=100, maximum=1000)
        prefix = request.args.get("prefix", "")
        found = self.broadcaster.channels(prefix, limit + 1)
        rows = [
            {
                "channel": info.channel,
                "num_subscribers": info.num_subscribers,
                "position": None
                if info.epoch is None
                else {"epoch": info.epoch, "offset": info.offset},
            }
            for info in found[:limit]
        ]
        return json_response({"channels": rows, "is_complete": len(found) <= limit})

    async def list_presence(self, _operator: Identity) -> Response:
        """Answer `GET /api/presence`."""
        channel = self.channels.with_presence(request.args.get("channel"))
        limit = query_uint(request.args, "limit", default=1000, maximum=10_000)
        reply: Reply[list[dict[str, Any]]] = Reply()
        query = QueryPresence(channel, reply.settle)
        is_taken = False
        try:
            with trio.fail_after(self.config.timing.http_request_s):
                await self.presence.submit([query], COMMAND_BYTES)
                is_taken = True
                members = await reply.wait()
        except trio.TooSlowError:
            raise (no_answer() if is_taken else MailboxFull()) from None
        payload = {
            "channel": channel,
            "num_members": len(members),
            "members": jsonable(members[:limit]),
        }
        return json_response(payload)

    async def info(self, _operator: Identity) -> Response:
        """Answer `GET /api/info`."""
        payload = {
            "version": self.node.version,
            "started_at_ms": self.node.started_at_ms,
            "uptime_s": round(self.node.uptime_s(), 3),
            "loop_lag_ms": round(self.node.loop_lag_ms(), 3),
            "not_ready": list(self.node.reasons_not_ready()),
            "actors": actors_json(self.node),
            "gateway": attrs.asdict(self.gateway.statistics()),
            "namespaces": {
                name: _namespace_json(item) for name, item in self.config.namespaces.items()
            },
            "collections": collections_json(self.app),
        }
        return json_response(payload)


def actors_json(node: NodeInfo) -> list[dict[str, Any]]:
    """Return the health of every actor as JSON."""
    return [
        {
            "name": item.name,
            "state": item.state.value,
            "num_restarts": item.num_restarts,
            "last_error": item.last_error,
        }
        for item in node.health()
    ]


def _namespace_json(namespace: Namespace) -> dict[str, Any]:
    return {
        "mode": namespace.mode.value,
        "history": namespace.history.value,
        "history_size": namespace.history_size,
        "history_age_s": namespace.history_age_s,
        "presence": namespace.presence,
        "max_data_bytes": namespace.max_data_bytes,
    }
