"""How often something may happen: a token bucket that is one number, without a timer.

It sits in every connection, so the settings are shared (`RateLimit`) and the state is one float that its owner holds: the
time at which the bucket would be full again. `TokenBucket` is both in one object, where memory does not count.
"""

from __future__ import annotations

import math

__all__ = ["RateLimit", "TokenBucket"]

_SLACK_S = 1e-9
"""Forgives the rounding of many small additions; far below one token at any rate used here."""


class RateLimit:
    """`rate_per_s` in the long run, `burst` at once. Immutable; shared by all who are held to it.

    The state of one holder is a float, 0.0 at first: see `spend`. Times are seconds of one monotonic clock.
    """

    __slots__ = ("_burst_s", "_token_s")

    def __init__(self, rate_per_s: float, burst: float) -> None:
        if not (rate_per_s > 0 and burst > 0):
            raise ValueError("rate_per_s and burst must be above 0")
        self._token_s = 1.0 / rate_per_s
        self._burst_s = burst / rate_per_s

    def spend(self, full_at: float, n: float, now: float) -> float:
        """Take `n` tokens from the bucket whose state is `full_at`.

        Returns:
            The new state, or -1.0 when there are too few tokens: the state is then as it was.
        """
        start = full_at if full_at > now else now  # noqa: FURB136 - max() costs three times as much
        after = start + n * self._token_s
        return after if after - now <= self._burst_s + _SLACK_S else -1.0

    def wait_s(self, full_at: float, n: float, now: float) -> float:
        """Return after how long `n` tokens can be taken: 0 for now, infinity for never (more than the burst)."""
        cost_s = n * self._token_s
        if cost_s > self._burst_s + _SLACK_S:
            return math.inf
        left_s = max(full_at, now) + cost_s - self._burst_s - now
        return left_s if left_s > _SLACK_S else 0.0


class TokenBucket:
    """One holder of a rate limit of its own."""

    __slots__ = ("_full_at", "_limit")

    def __init__(self, rate_per_s: float, burst: float) -> None:
        self._limit = RateLimit(rate_per_s, burst)
        self._full_at = 0.0

    def take(self, n: float, now: float) -> bool:
        """Take `n` tokens, or none and return False."""
        full_at = self._limit.spend(self._full_at, n, now)
        if full_at < 0:
            return False
        self._full_at = full_at
        return True

    def wait_s(self, n: float, now: float) -> float:
        """Return after how long `n` tokens can be taken: 0 for now, infinity for never."""
        return self._limit.wait_s(self._full_at, n, now)
