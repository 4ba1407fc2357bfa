"""What retention no longer covers goes from Redis in steps, whichever node comes first. Owned by `RedisStore`."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from syncd.ids import ChannelName
from syncd.store.base import Slice, StoreOptions, TrimReport, client_cutoff_ms, cutoff_ms
from syncd.store.redis_link import StoreFull
from syncd.store.redis_scripts import SWEEP, TRIM, TRIM_LOGS, Script

__all__ = ["Trimmer"]

ROOM_S = 0.05
"""What a look at a full server may take: such looks come once a second."""


class _Scripts(Protocol):
    """What of its store this uses."""

    def run(self, script: Script, make: Callable[[], list[Any]]) -> Any: ...
    def describe(self, channel: ChannelName) -> list[Any]: ...
    def hand_over_all(self) -> bool: ...


class Trimmer:
    """Walks what is due, and counts what went. A step is some scripts, each within some ms."""

    def __init__(
        self,
        store: _Scripts,
        options: StoreOptions,
        timer: Callable[[], float],
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._options = options
        self._timer = timer
        self._wall_s = wall_s
        self.num_events = self.num_idempotency = self.num_outcomes = self.num_clients = 0

    @contextlib.contextmanager
    def making_room(self) -> Iterator[None]:
        """Trim where what runs inside finds the server full, which is raised on: next time there may be room."""
        try:
            yield
        except StoreFull:
            self.trim(int(self._wall_s() * 1000), ROOM_S)
            raise

    def trim(self, now_ms: int, budget_s: float) -> TrimReport:
        """See `Store.trim`."""
        time_slice = Slice(self._timer, budget_s)
        events, keys = self.num_events, self.num_idempotency
        outcomes, clients = self.num_outcomes, self.num_clients
        has_more = True
        while has_more and not time_slice.is_over():
            has_more = self._step(now_ms)
        return TrimReport(
            self.num_events - events,
            self.num_idempotency - keys,
            has_more,
            self.num_outcomes - outcomes,
            self.num_clients - clients,
        )

    def _step(self, now_ms: int) -> bool:
        """Do one step; return whether there is more to do."""
        are_left = self._store.hand_over_all()
        options = self._options
        cutoffs = [
            cutoff_ms(now_ms, options.idempotency_s),
            cutoff_ms(now_ms, options.outcomes_s),
            client_cutoff_ms(now_ms, options.clients_s),
        ]
        keys, outcomes, clients, is_more, due = self._store.run(TRIM, lambda: [now_ms, *cutoffs])
        self.num_idempotency += keys
        self.num_outcomes += outcomes
        self.num_clients += clients
        if due:
            names = [ChannelName(name.decode()) for name in due]
            events, is_late = self._store.run(
                TRIM_LOGS, lambda: [now_ms, [self._store.describe(name) for name in names]]
            )
            self.num_events += events
            is_more = is_more or is_late
        is_left = self._store.run(SWEEP, list)
        return bool(is_more or are_left or is_left)
