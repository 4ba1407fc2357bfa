"""The running node as application code reaches it: what `App.invalidate`, `App.read` and `App.mutate` are made of.

Owns nothing. Called from loaders, hooks and authorizers in the node's own Trio run; they wait for the cache-owner as an HTTP request
does, never longer than `http_request_s`. A loader that reads the very key it is loading waits for itself until that is over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgpack

from syncd.errors import MutationRejected, internal_error
from syncd.ids import ChannelName
from syncd.ports import Identity
from syncd.ports_collections import CacheOwnerHandle
from syncd.ports_log import IdempotencyKey
from syncd.ports_state import KeyName
from syncd.state_calls import Mutation, StateCalls, request_hash
from syncd.wire.codec import check_value
from syncd.wire.encode import pack

__all__ = ["Runtime"]

_APP = Identity(service="app")
"""Who asks, for mutators."""


class Runtime:
    """Implements `model.definitions.AppRuntime`."""

    def __init__(self, owner: CacheOwnerHandle, timeout_s: float) -> None:
        self._owner = owner
        self._calls = StateCalls(owner, timeout_s)

    async def invalidate(
        self, collection: str, *, keys: Sequence[str], tags: Sequence[str], everything: bool
    ) -> None:
        """See `AppRuntime.invalidate`."""
        assert keys or tags or everything
        await self._calls.invalidate(collection, keys=keys, tags=tags)

    async def read(self, collection: str, keys: Sequence[str]) -> dict[str, Any]:
        """See `AppRuntime.read`. Keys of several partitions are as of several moments."""
        by_channel: dict[ChannelName, list[KeyName]] = {}
        for key in keys:
            channel, names = self._owner.channel_of(collection, [key])
            by_channel.setdefault(channel, []).extend(names)
        found: dict[str, Any] = {}
        for names in by_channel.values():
            answer = await self._calls.read(collection, names)
            for entry in answer.entries:
                if entry.value is not None:
                    found[entry.key] = msgpack.unpackb(entry.value)
        return found

    async def mutate(self, name: str, args: object, *, idempotency_key: str | None) -> Any:
        """See `AppRuntime.mutate`. Arguments are copied: tuples arrive as lists."""
        try:
            packed = pack(args)
            copy = msgpack.unpackb(packed)
            check_value(copy)
        except (ValueError, TypeError) as failure:
            raise MutationRejected("bad_arguments", str(failure)) from None
        key = None
        if idempotency_key is not None:
            key = IdempotencyKey("app", "mutate", idempotency_key, request_hash(name, copy))
        outcome = await self._calls.mutate(Mutation(name, copy, _APP, key, len(packed)))
        match outcome.status:
            case "ok":
                return outcome.value
            case "rejected":
                raise MutationRejected(outcome.code, outcome.message)
            case _:  # a key is kept as long as its outcome
                raise internal_error()
