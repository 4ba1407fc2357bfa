"""Idempotency keys of channels that no store keeps: remembered in memory, bounded by number and age.

Owner: the broadcaster. Lost with the process, as the channels' events are; a client sees that by the new epoch.
"""

from __future__ import annotations

import enum

import attrs

from syncd.ids import Epoch
from syncd.ports_log import IdempotencyKey

__all__ = ["Known", "RecentKeys"]


class Known(enum.Enum):
    """What is known of a key that has a different request."""

    MISMATCH = "mismatch"


@attrs.define
class _Entry:
    request_hash: bytes
    epoch: Epoch | None
    offset: int
    forget_at: float


class RecentKeys:
    """Results by idempotency key, oldest forgotten first."""

    def __init__(self, max_keys: int, keep_s: float) -> None:
        self._max_keys = max_keys
        self._keep_s = keep_s
        self._entries: dict[tuple[str, str, str], _Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, key: IdempotencyKey, now: float) -> tuple[Epoch | None, int] | Known | None:
        """Return the first result, `MISMATCH` if the request differs, or None if the key is new."""
        entry = self._entries.get((key.identity, key.operation, key.key))
        if entry is None or entry.forget_at <= now:
            return None
        if entry.request_hash != key.request_hash:
            return Known.MISMATCH
        return entry.epoch, entry.offset

    def add(self, key: IdempotencyKey, epoch: Epoch | None, offset: int, now: float) -> None:
        """Remember a result."""
        entries = self._entries
        name = (key.identity, key.operation, key.key)
        entries.pop(name, None)
        entries[name] = _Entry(key.request_hash, epoch, offset, now + self._keep_s)
        while len(entries) > self._max_keys:
            del entries[next(iter(entries))]

    def expire(self, now: float, max_steps: int = 1000) -> None:
        """Forget what is past its time, oldest first, in bounded steps."""
        for _ in range(max_steps):
            name = next(iter(self._entries), None)
            if name is None or self._entries[name].forget_at > now:
                return
            del self._entries[name]
