"""What a backend asks of collections, as calls that can be awaited: mutate, invalidate, read, clear, warm.

Owns nothing; waits for the cache-owner, never longer than it was made with. The HTTP API and the application's own calls
(`syncd.runtime`) are both made of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import attrs
import msgpack
import trio

from syncd.actors.kit import Reply
from syncd.errors import MailboxFull, NoAnswer, SyncdError, internal_error
from syncd.ids import ChannelName, Position
from syncd.logs import request_id
from syncd.ports import Identity, Subscription
from syncd.ports_collections import (
    CacheOwnerCommand,
    CacheOwnerHandle,
    ClearCache,
    EntriesAnswer,
    InvalidateEntries,
    MutateState,
    ReadEntries,
    WarmCache,
)
from syncd.ports_log import IdempotencyKey
from syncd.ports_state import KeyName
from syncd.wire.encode import pack

__all__ = ["MAY_HAPPEN", "Mutation", "Outcome", "StateCalls", "request_hash"]

T = TypeVar("T")

COMMAND_BYTES = 64
"""Counted for a command besides what it carries."""

MAY_HAPPEN = (
    "No answer in time: it may still happen. Repeat the request with the same Idempotency-Key."
)


@attrs.frozen
class Mutation:
    """One mutation a backend asks for; it may call every mutator."""

    name: str
    args: Any
    """Plain data within the bounds of the wire, nobody else's to change."""
    identity: Identity
    idempotency: IdempotencyKey | None = None
    size_bytes: int = 0
    """Of the arguments, encoded."""


@attrs.frozen
class Outcome:
    """What became of a mutation, for good."""

    status: str
    """`ok`, `rejected`, or `unknown`: decided before, and no longer kept."""
    positions: Mapping[ChannelName, Position]
    """Where its effect can be read."""
    value: Any = None
    """What the mutator returned, decoded."""
    code: str = ""
    """Of a rejection; the application may have its own."""
    message: str = ""


class _OutcomeReply:
    """Waits for one outcome. Implements `MutationAsker`."""

    def __init__(self) -> None:
        self.request = request_id()
        """For the log."""
        self.reply: Reply[Outcome] = Reply()

    def subscription(self, _channel: ChannelName) -> Subscription | None:
        return None

    def send_outcome(self, outcome: bytes, positions: Mapping[ChannelName, Position]) -> None:
        body = msgpack.unpackb(outcome)
        error = body.get("error") or {}
        self.reply.resolve(
            Outcome(
                body["status"],
                dict(positions),
                body.get("value"),
                error.get("code", ""),
                error.get("message", ""),
            )
        )

    def send_out_of_order(self, _client: str, _expect: int) -> None:
        self.reply.reject(internal_error())  # services number nothing

    def refuse_mutation(self, _client: str | None, _mid: int, error: SyncdError) -> None:
        self.reply.reject(error)


class StateCalls:
    """The cache-owner's side of services.

    Every call raises `MailboxFull` when there was no room in time (nothing happened), `NoAnswer` when it was taken and not
    answered in time, and what the cache-owner answers. Cancelled: it may have happened or not.
    """

    def __init__(self, owner: CacheOwnerHandle, timeout_s: float) -> None:
        self._owner = owner
        self._timeout_s = timeout_s

    async def mutate(self, asked: Mutation) -> Outcome:
        """Have a mutation decided; returns once its outcome is stored and its events are on their way.

        Raises:
            SyncdError: it was not decided (`idempotency_mismatch`: nor will it be; else it may be repeated).
        """
        asker = _OutcomeReply()
        command = MutateState(
            asker,
            None,
            0,
            asked.name,
            asked.args,
            asked.identity,
            idempotency=asked.idempotency,
            size_bytes=asked.size_bytes,
            asked_at=trio.current_time(),
        )
        return await self._ask(command, asker.reply, asked.size_bytes)

    async def invalidate(
        self,
        collection: str,
        *,
        keys: Sequence[str] = (),
        tags: Sequence[str] = (),
        cause: str | None = None,
    ) -> Mapping[ChannelName, Position]:
        """Say that entries may have changed at their source, all of the collection with neither keys nor tags.

        Returns:
            Where each channel concerned has the invalidation.

        Raises:
            RequestRejected: `permission_denied` for an unknown collection, `bad_key` for a key that is none.
        """
        names: list[KeyName] = []
        for key in keys:  # of any partitions
            names += self._owner.channel_of(collection, [key])[1]
        reply: Reply[Mapping[ChannelName, Position]] = Reply()
        command = InvalidateEntries(collection, reply.settle, names, list(tags), cause)
        return await self._ask(command, reply, sum(map(len, names)))

    async def read(
        self, collection: str, keys: Sequence[str], after: Mapping[str, Position] | None = None
    ) -> EntriesAnswer:
        """Read entries of one partition, loading what is not in memory.

        Raises:
            RequestRejected: as of `CacheOwnerHandle.channel_of`.
            SyncdError: an entry cannot be had now, or (`behind`) not as new as `after` wants it.
        """
        channel, names = self._owner.channel_of(collection, keys)
        reply: Reply[EntriesAnswer] = Reply()
        command = ReadEntries(collection, channel, names, reply.settle, after=after or {})
        return await self._ask(command, reply, sum(map(len, names)))

    async def clear(self, collection: str | None) -> Mapping[str, int]:
        """Forget what is in memory of a collection, or of all; return how many entries by collection."""
        reply: Reply[Mapping[str, int]] = Reply()
        return await self._ask(ClearCache(collection, reply.settle), reply)

    async def warm(self, collection: str | None, keys: Sequence[str] | None) -> Mapping[str, int]:
        """Bring entries into memory; return how many by collection. Keys that are none are passed over."""
        names = None if keys is None else [KeyName(key) for key in keys]
        reply: Reply[Mapping[str, int]] = Reply()
        return await self._ask(WarmCache(collection, names, reply.settle), reply)

    async def _ask(self, command: CacheOwnerCommand, reply: Reply[T], size_bytes: int = 0) -> T:
        """Hand over and wait for the answer, both within the time."""
        is_taken = False
        try:
            with trio.fail_after(self._timeout_s):
                await self._owner.submit([command], COMMAND_BYTES + size_bytes)
                is_taken = True
                return await reply.wait()
        except trio.TooSlowError:
            raise (NoAnswer(MAY_HAPPEN) if is_taken else MailboxFull()) from None


def request_hash(name: str, args: object) -> bytes:
    """Return what tells one request from another under the same idempotency key; the order of a map's keys does not."""
    return hashlib.sha256(pack([name, _sorted(args)])).digest()


def _sorted(value: Any) -> Any:
    if type(value) is dict:
        return {key: _sorted(value[key]) for key in sorted(value)}
    if type(value) is list:
        return [_sorted(item) for item in value]
    return value
