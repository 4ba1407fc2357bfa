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
from syncd.http.asking import Answer, Answers, EventsAnswer
from syncd.http.commands import (
    MAX_BATCH_KEY_BYTES,
    Channels,
    batch_items,
    batch_publication,
    parse_disconnect,
    parse_idempotency_key,
    parse_revoke,
    parse_unsubscribe,
    query_uint,
)
from syncd.http.failures import HttpError, error_body, json_response, no_answer
from syncd.http.json_values import json_from_bodies, jsonable, parse_object
from syncd.http.ports import NodeInfo
from syncd.ids import Position
from syncd.model.permissions import Permissions
from syncd.ports import (
    BroadcasterHandle,
    GatewayPort,
    PresenceHandle,
    PublishEvent,
    QueryPresence,
    ReadHistory,
)

__all__ = ["Api", "actors_json"]

CHUNK_COMMANDS = 100
"""Commands of a batch handed over at a time, in order: well within a mailbox, and one group commit."""

COMMAND_BYTES = 64
"""Counted for a command besides its data."""


@attrs.define(eq=False)
class _Batch:
    """One `/api/batch` on its way."""

    items: list[Any]
    service: str
    key: str | None
    answers: Answers
    num_taken: int = 0
    """Commands the broadcaster has, or that were refused one by one."""


@attrs.define(eq=False)
class Api:
    """The handlers of `/api/*`; `service` is the name of the caller's key."""

    config: Config
    broadcaster: BroadcasterHandle
    presence: PresenceHandle
    gateway: GatewayPort
    node: NodeInfo
    channels: Channels = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.channels = Channels(Permissions(self.config.namespaces))

    # -------------------------------------------------------------------------------------------- publish

    async def publish(self, service: str) -> Response:
        """Answer `POST /api/publish`."""
        body = await _read_object()
        key = parse_idempotency_key(request.headers.get("Idempotency-Key"))
        if key is not None and body.get("uid") not in (None, key):
            text = "Idempotency-Key and uid are two names of one thing and differ here."
            raise RequestRejected(ErrorCode.BAD_REQUEST, text)
        answers = Answers(1)
        command = self.channels.publish(body, service=service, asker=answers, idempotency_key=key)
        await self._ask([command], answers)
        return json_response(_publish_result(answers.get(0, no_answer())))

    async def batch(self, service: str) -> Response:
        """Answer `POST /api/batch`."""
        items = batch_items(await _read_object())
        header = request.headers.get("Idempotency-Key")
        key = parse_idempotency_key(header, max_bytes=MAX_BATCH_KEY_BYTES)
        batch = _Batch(items, service, key, Answers(len(items)))
        try:
            with trio.fail_after(self.config.timing.http_request_s):
                await self._submit_batch(batch)
                await batch.answers.wait()
        except trio.TooSlowError:
            _refuse_rest(batch, MailboxFull())
        return json_response({"results": _results(batch.answers, len(items))})

    async def _submit_batch(self, batch: _Batch) -> None:
        """Hand over all commands, in order; a refusal of one concerns it alone."""
        while batch.num_taken < len(batch.items):
            start = batch.num_taken
            commands = self._parse_chunk(batch, start)
            try:
                await self.broadcaster.submit(commands, _size_bytes(commands))
            except SyncdError as refusal:
                _refuse_rest(batch, refusal)
                return
            batch.num_taken = start + CHUNK_COMMANDS

    def _parse_chunk(self, batch: _Batch, start: int) -> list[PublishEvent]:
        commands: list[PublishEvent] = []
        for index, item in enumerate(batch.items[start : start + CHUNK_COMMANDS], start):
            key = None if batch.key is None else f"{batch.key}/{index}"
            try:
                command = self.channels.publish(
                    batch_publication(item),
                    service=batch.service,
                    asker=batch.answers,
                    request_id=index,
                    idempotency_key=key,
                )
            except SyncdError as refusal:
                batch.answers.reply_error(index, refusal)
            else:
                commands.append(command)
        return commands

    async def _ask(self, commands: Sequence[PublishEvent | ReadHistory], answers: Answers) -> None:
        """Hand over and wait for the answers, both within the request's time."""
        is_taken = False
        try:
            with trio.fail_after(self.config.timing.http_request_s):
                await self.broadcaster.submit(commands, _size_bytes(commands))
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
            {"channel": command.channel, "position": _position_json(answer.position)}
        )
        rest.set_data((await rest.get_data(as_text=True))[:-1] + f',"events":[{",".join(texts)}]}}')
        return rest

    async def list_channels(self, _service: str) -> Response:
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

    async def list_presence(self, _service: str) -> Response:
        """Answer `GET /api/presence`."""
        channel = self.channels.with_presence(request.args.get("channel"))
        limit = query_uint(request.args, "limit", default=1000, maximum=10_000)
        reply: Reply[list[dict[str, Any]]] = Reply()
        query = QueryPresence(channel, _settler(reply))
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

    async def info(self, _service: str) -> Response:
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
        }
        return json_response(payload)

    # -------------------------------------------------------------------------------------------- sessions

    async def disconnect(self, _service: str) -> Response:
        """Answer `POST /api/disconnect`."""
        wanted = parse_disconnect(await _read_object())
        count = self.gateway.disconnect(
            wanted.target, reconnect=wanted.reconnect, reason=wanted.reason
        )
        return json_response({"num_sessions": count})

    async def unsubscribe(self, _service: str) -> Response:
        """Answer `POST /api/unsubscribe`."""
        wanted = parse_unsubscribe(await _read_object(), self.channels)
        return json_response(
            {"num_sessions": self.gateway.unsubscribe(wanted.target, wanted.channel)}
        )

    async def revoke(self, _service: str) -> Response:
        """Answer `POST /api/revoke`."""
        wanted = parse_revoke(await _read_object())
        return json_response(
            {"num_sessions": self.gateway.revoke(wanted.target, until_s=wanted.until_s)}
        )


async def _read_object() -> dict[str, Any]:
    """Return the request's body, which must say it is JSON: a form of a foreign page cannot, without asking first."""
    if request.mimetype != "application/json" or not _is_utf8(request.mimetype_params):
        text = "The body must be sent as application/json, in UTF-8."
        raise HttpError(415, ErrorCode.BAD_REQUEST, text)
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise HttpError(415, ErrorCode.BAD_REQUEST, "Compressed bodies are not read.")
    return parse_object(await request.get_data(cache=False, as_text=False, parse_form_data=False))


def _is_utf8(params: Any) -> bool:
    return str(params.get("charset", "utf-8")).lower() in ("utf-8", "utf8")


def _size_bytes(commands: Sequence[PublishEvent | ReadHistory]) -> int:
    return sum(
        COMMAND_BYTES + (len(item.data) if isinstance(item, PublishEvent) else 0)
        for item in commands
    )


def _refuse_rest(batch: _Batch, error: SyncdError) -> None:
    for index in range(batch.num_taken, len(batch.items)):
        batch.answers.reply_error(index, error)


def _results(answers: Answers, count: int) -> list[dict[str, Any]]:
    missing = no_answer()
    results: list[dict[str, Any]] = []
    for index in range(count):
        answer = answers.get(index, missing)
        if isinstance(answer, SyncdError):
            results.append({"error": error_body(answer)})
        else:
            results.append({"ok": _publish_result(answer)})
    return results


def _settler(reply: Reply[list[dict[str, Any]]]) -> Any:
    def done(answer: list[dict[str, Any]] | SyncdError) -> None:
        if isinstance(answer, SyncdError):
            reply.reject(answer)
        else:
            reply.resolve(answer)

    return done


def _publish_result(answer: Answer) -> dict[str, Any]:
    if isinstance(answer, SyncdError):
        raise answer
    return {"position": _position_json(answer) if isinstance(answer, Position) else None}


def _position_json(position: Position) -> dict[str, Any]:
    return {"epoch": position.epoch, "offset": position.offset}


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
