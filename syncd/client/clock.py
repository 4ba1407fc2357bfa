"""The client's clock: tells the core when its next deadline is there."""

from __future__ import annotations

from collections.abc import Callable

import trio

from syncd.client.core import ClientCore

__all__ = ["CoreClock"]


class CoreClock:
    """Sleeps until whatever the core has to do next; owned by the shell that performs it."""

    def __init__(self, core: ClientCore, perform: Callable[[], None]) -> None:
        """Start nothing; `perform` is called after each tick and must not wait."""
        self._core = core
        self._perform = perform
        self._is_earlier = trio.Event()
        """Set when the core has something to do earlier than this sleeps."""
        self._sleeps_until = 0.0

    def look(self) -> None:
        """The core has changed: wake up if its next deadline has come nearer."""
        if self._core.next_deadline() < self._sleeps_until:
            self._is_earlier.set()

    async def run(self) -> None:
        """Tick until cancelled."""
        while True:
            self._is_earlier = trio.Event()
            self._sleeps_until = self._core.next_deadline()
            with trio.move_on_at(self._sleeps_until):
                await self._is_earlier.wait()
            self._core.tick(trio.current_time())
            self._perform()
