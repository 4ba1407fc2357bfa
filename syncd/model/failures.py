"""Which loads failed lately, and when each may be tried again: a source in trouble is not hammered.

Owned by whoever loads. The wait doubles with each failure in a row, and chance takes up to half of it away, so that keys that failed
together are not tried together.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import attrs

__all__ = ["Backoff", "Failure", "Failures"]

K = TypeVar("K", bound=Hashable)

MAX_FAILURES = 1_000
"""Keys remembered as failing; the oldest goes, and its next reader tries at once."""


@attrs.frozen
class Backoff:
    """The wait after a first failure and the longest one, in seconds."""

    first_s: float
    max_s: float

    def __attrs_post_init__(self) -> None:
        if not 0 < self.first_s <= self.max_s:
            raise ValueError("backoff needs 0 < first_s <= max_s")


@attrs.define
class Failure:
    """The last failure of a key."""

    error: Exception
    failed_at: float
    retry_at: float
    num_in_row: int


class Failures(Generic[K]):
    """Failures by key."""

    def __init__(self, backoff: Backoff, chance: Callable[[], float]) -> None:
        self._backoff = backoff
        self._chance = chance
        self._failures: dict[K, Failure] = {}

    def __len__(self) -> int:
        return len(self._failures)

    def find(self, key: K, now: float) -> Failure | None:
        """The failure that forbids another attempt now, if one does."""
        failure = self._failures.get(key)
        return failure if failure is not None and now < failure.retry_at else None

    def add(self, key: K, error: Exception, now: float) -> Failure:
        """Remember a failure; the error must not hold frames (its traceback) alive."""
        former = self._failures.pop(key, None)
        num_in_row = 1 if former is None else former.num_in_row + 1
        longest_s = min(self._backoff.max_s, self._backoff.first_s * 2.0 ** min(num_in_row - 1, 60))
        wait_s = longest_s * (1.0 - self._chance() / 2.0)
        failure = Failure(error, now, now + wait_s, num_in_row)
        self._failures[key] = failure
        if len(self._failures) > MAX_FAILURES:
            del self._failures[next(iter(self._failures))]
        return failure

    def forget(self, key: K) -> None:
        """A load succeeded, or somebody asked for a new start."""
        if self._failures:
            self._failures.pop(key, None)

    def clear(self) -> None:
        """Forget all."""
        self._failures.clear()
