"""Outcomes under idempotency keys in memory. Owned by `MemoryState`."""

from __future__ import annotations

import itertools

import attrs

from syncd.errors import SyncdError
from syncd.ids import ChannelName, Position
from syncd.ports_log import IdempotencyKey
from syncd.ports_state import KnownOutcome, MutationCommit
from syncd.store.base import mismatch
from syncd.store.memory_log import Undo

__all__ = ["KeyedOutcomes"]


@attrs.define
class _Known:
    request_hash: bytes
    outcome: bytes
    positions: dict[ChannelName, Position]
    at_ms: int


class KeyedOutcomes:
    """What is known under keys, oldest first."""

    def __init__(self, undo: list[Undo]) -> None:
        self._undo = undo
        self._known: dict[tuple[str, str, str], _Known] = {}

    def find(self, key: IdempotencyKey) -> KnownOutcome | SyncdError | None:
        """Return the answer to a mutation whose key is known."""
        known = self._known.get((key.identity, key.operation, key.key))
        if known is None:
            return None
        if known.request_hash != key.request_hash:
            return mismatch()
        return KnownOutcome(known.outcome, dict(known.positions))

    def remember(
        self, key: IdempotencyKey, mutation: MutationCommit, positions: dict[ChannelName, Position]
    ) -> None:
        """Keep an outcome, in the open transaction."""
        name = (key.identity, key.operation, key.key)
        self._known[name] = _Known(
            key.request_hash, mutation.outcome, dict(positions), mutation.at_ms
        )
        self._undo.append(lambda: self._known.__delitem__(name))

    def forget(self, cutoff: int) -> int:
        """Forget from the oldest on, up to the first that is young enough; return how many."""
        expired = itertools.takewhile(lambda item: item[1].at_ms < cutoff, self._known.items())
        old = [name for name, _ in expired]
        for name in old:
            del self._known[name]
        return len(old)
