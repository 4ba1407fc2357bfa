"""`/api/batch`: commands of several kinds, carried out in order and answered one by one.

Publications that follow one another are handed over together. A mutation or an invalidation waits for what stands before it, and
what stands behind it waits for it, so that a batch has the effect of its commands sent one after another.
"""

from __future__ import annotations

from typing import Any

import attrs
import trio
from quart import Response, request

from syncd.config import Config
from syncd.errors import MailboxFull, NoAnswer, SyncdError
from syncd.http.answers import publish_result
from syncd.http.asking import Answers, size_bytes
from syncd.http.bodies import read_object
from syncd.http.commands import (
    MAX_BATCH_KEY_BYTES,
    Channels,
    batch_command,
    batch_items,
    parse_idempotency_key,
)
from syncd.http.failures import error_body, json_response, no_answer
from syncd.http.state_api import StateApi
from syncd.http.state_commands import parse_invalidate, parse_mutate
from syncd.ports import BroadcasterHandle, PublishEvent

__all__ = ["Batches"]

CHUNK_COMMANDS = 100
"""Publications handed over at a time, in order: well within a mailbox, and one group commit."""

Result = dict[str, Any] | SyncdError


@attrs.define(eq=False)
class _Batch:
    """One batch on its way."""

    commands: list[tuple[str, Any] | SyncdError]
    """Kind and body of each, or why it is no command."""
    service: str
    key: str | None
    results: dict[int, Result] = attrs.field(factory=dict)
    num_taken: int = 0
    """Commands that may have happened."""
    refusal: SyncdError | None = None
    """Why the rest is not tried."""

    def key_of(self, index: int) -> str | None:
        return None if self.key is None else f"{self.key}/{index}"


class Batches:
    """Answers `/api/batch`."""

    def __init__(
        self, config: Config, broadcaster: BroadcasterHandle, channels: Channels, state: StateApi
    ) -> None:
        self._config = config
        self._broadcaster = broadcaster
        self._channels = channels
        self._state = state

    async def answer(self, service: str) -> Response:
        """Answer `POST /api/batch`."""
        items = batch_items(await read_object())
        header = request.headers.get("Idempotency-Key")
        key = parse_idempotency_key(header, max_bytes=MAX_BATCH_KEY_BYTES)
        batch = _Batch([_command(item) for item in items], service, key)
        with trio.move_on_after(self._config.timing.http_request_s):
            await self._carry_out(batch)
        return json_response({"results": _results(batch)})

    async def _carry_out(self, batch: _Batch) -> None:
        index = 0
        while index < len(batch.commands) and batch.refusal is None:
            if _is_publication(batch.commands[index]):
                end = index + 1
                while end < len(batch.commands) and _is_publication(batch.commands[end]):
                    end += 1
                await self._publish(batch, index, end)
                index = end
            else:
                await self._change(batch, index)
                index += 1

    # -------------------------------------------------------------------------------------------- publications

    async def _publish(self, batch: _Batch, start: int, end: int) -> None:
        """Hand over a run of publications and wait for their answers."""
        answers = Answers(end - start)
        try:
            for first in range(start, end, CHUNK_COMMANDS):
                last = min(first + CHUNK_COMMANDS, end)
                commands = self._parse(batch, first, last, answers, start)
                try:
                    await self._broadcaster.submit(commands, size_bytes(commands))
                except SyncdError as refusal:
                    batch.refusal = refusal
                    break
                batch.num_taken = last
            else:
                await answers.wait()
        finally:
            for index in range(start, end):
                missing = no_answer() if index < batch.num_taken else batch.refusal or MailboxFull()
                answer = answers.get(index - start, missing)
                if isinstance(answer, SyncdError):
                    batch.results[index] = answer
                else:
                    batch.results[index] = publish_result(answer)

    def _parse(
        self, batch: _Batch, first: int, last: int, answers: Answers, start: int
    ) -> list[PublishEvent]:
        commands: list[PublishEvent] = []
        for index in range(first, last):
            command = batch.commands[index]
            try:
                commands.append(
                    self._channels.publish(
                        _body(command),
                        service=batch.service,
                        asker=answers,
                        request_id=index - start,
                        idempotency_key=batch.key_of(index),
                    )
                )
            except SyncdError as refusal:
                answers.reply_error(index - start, refusal)
        return commands

    # -------------------------------------------------------------------------------------------- collections

    async def _change(self, batch: _Batch, index: int) -> None:
        """Carry out one mutation or invalidation. One that may succeed later keeps back everything behind it."""
        command = batch.commands[index]
        try:
            body = _body(command)
            assert not isinstance(command, SyncdError)
            if command[0] == "mutate":
                key = batch.key_of(index)
                asked = parse_mutate(body, service=batch.service, idempotency_key=key)
                batch.num_taken = index + 1
                batch.results[index] = await self._state.decide(asked)
            else:
                invalidate = parse_invalidate(body)
                batch.num_taken = index + 1
                batch.results[index] = await self._state.carry_out(invalidate)
        except SyncdError as refusal:
            batch.results[index] = refusal
            if refusal.retryable:
                batch.refusal = MailboxFull() if isinstance(refusal, NoAnswer) else refusal


def _command(item: object) -> tuple[str, Any] | SyncdError:
    try:
        return batch_command(item)
    except SyncdError as refusal:
        return refusal


def _is_publication(command: tuple[str, Any] | SyncdError) -> bool:
    """Tell what belongs to a run of publications; what is no command at all stops none."""
    return isinstance(command, SyncdError) or command[0] == "publish"


def _body(command: tuple[str, Any] | SyncdError) -> Any:
    if isinstance(command, SyncdError):
        raise command
    return command[1]


def _results(batch: _Batch) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = []
    for index in range(len(batch.commands)):
        missing = no_answer() if index < batch.num_taken else batch.refusal or MailboxFull()
        result = batch.results.get(index, missing)
        if isinstance(result, SyncdError):
            told.append({"error": error_body(result)})
        else:
            told.append({"ok": result})
    return told
