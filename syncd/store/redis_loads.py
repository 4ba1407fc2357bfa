"""Claims of loads in Redis; see `store.loads`. Owned by `RedisRebuilds`. Their times run by the clock of the server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from syncd.ids import ChannelName, Epoch, Position
from syncd.ports_state import TaggedKey
from syncd.store.loads import LOADED_S, ClaimState, FinishedLoad, LoadClaim, by_channel
from syncd.store.redis_scripts import LOADS, Script
from syncd.store.redis_state import entry_from

__all__ = ["RedisLoads"]

_FOR_EVER = -1
RENEWED_A_CALL = 1000
"""Two milliseconds of the server's time."""


class _Scripts(Protocol):
    """What of its store this uses."""

    @property
    def publishing(self) -> list[Any]: ...

    def run(self, script: Script, make: Callable[[], list[Any]]) -> Any: ...
    def describe(self, channel: ChannelName) -> list[Any]: ...


class RedisLoads:
    """`LoadClaims` on a server: one script for each channel, and one to renew the claims of all."""

    def __init__(self, store: _Scripts) -> None:
        self._store = store

    def claim(
        self, places: Sequence[TaggedKey], holder: str, lease_s: float, max_granted: int
    ) -> list[LoadClaim]:
        """See `LoadClaims.claim`."""
        claims: dict[int, LoadClaim] = {}
        lease_ms = max(1, int(lease_s * 1000))
        for channel, wanted in by_channel(places).items():
            left = max_granted - sum(c.state is ClaimState.GRANTED for c in claims.values())
            keys = [key for _, key in wanted]

            def make(
                channel: ChannelName = channel, keys: list[Any] = keys, left: int = left
            ) -> list[Any]:
                return ["claim", holder, self._store.describe(channel), keys, lease_ms, left]

            epoch, top, swapped_at, *found = self._store.run(LOADS, make)
            position = Position(Epoch(epoch.decode()), top)
            for n, (index, key) in enumerate(wanted):
                state, fresh_ms, raw = found[3 * n : 3 * n + 3]
                entry = None if raw is None else entry_from(key, raw, swapped_at)
                fresh_s = None if fresh_ms == _FOR_EVER else fresh_ms / 1000
                claims[index] = LoadClaim(ClaimState(state), position, fresh_s, entry)
        return [claims[index] for index in range(len(places))]

    def renew(self, holder: str, places: Sequence[TaggedKey], lease_s: float) -> None:
        """See `LoadClaims.renew`."""
        lease_ms = max(1, int(lease_s * 1000))
        for start in range(0, len(places), RENEWED_A_CALL):
            claimed = by_channel(places[start : start + RENEWED_A_CALL])
            rows = [[name, [key for _, key in keys]] for name, keys in claimed.items()]

            def make(rows: list[Any] = rows) -> list[Any]:
                return ["renew", holder, False, rows, lease_ms]

            self._store.run(LOADS, make)

    def finish(self, holder: str, loads: Sequence[FinishedLoad]) -> None:
        """See `LoadClaims.finish`."""
        for channel, finished in by_channel([load.place for load in loads]).items():
            told = [[key, *_life(loads[index].fresh_s)] for index, key in finished]

            def make(channel: ChannelName = channel, told: list[Any] = told) -> list[Any]:
                described = self._store.describe(channel)
                return ["finish", holder, described, told, *self._store.publishing]

            self._store.run(LOADS, make)


def _life(fresh_s: float | None) -> tuple[int, bool]:
    """Return for how many ms a key is remembered as loaded, and whether it is fresh beyond that."""
    if fresh_s is None:
        return int(LOADED_S * 1000), True
    return int(min(fresh_s, LOADED_S) * 1000), False
