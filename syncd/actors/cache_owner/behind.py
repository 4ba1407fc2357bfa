"""Requests that ask for something newer than is known here: they wait for it a while, then are told `behind` (DESIGN 5.8)."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from syncd.actors.cache_owner.holdings import Holdings
from syncd.codes import ErrorCode
from syncd.errors import SyncdError
from syncd.ids import ChannelName, Position
from syncd.ports_collections import ReadEntries, WatchEntries

__all__ = ["Behind"]

BEHIND_S = 2.0
"""How long a request waits for a position that is not known here yet."""
MAX_BEHIND = 10_000
"""Requests that wait so. Policy when full: refuse, `behind`."""

Command = ReadEntries | WatchEntries


@attrs.define(eq=False)
class _Waiting:
    command: Command
    deadline: float


class Behind:
    """Who waits for what is not known here yet."""

    def __init__(self, holdings: Holdings, refuse: Callable[[Command, SyncdError], None]) -> None:
        """Begin with nobody; `refuse` tells a request that it cannot be had."""
        self.look: Callable[[ChannelName], None] = lambda _channel: None
        """See in the store what is new in a channel. Set by `Sharing`."""
        self._holdings = holdings
        self._refuse = refuse
        self._waiting: list[_Waiting] = []

    def waits(self, command: Command, position: Position) -> bool:
        """Whether a request has to wait, as it asks for something newer than this; `ready` returns it later."""
        wanted = command.after.get(command.channel)
        if wanted is None or wanted.epoch != position.epoch or wanted.offset <= position.offset:
            return False
        if len(self._waiting) >= MAX_BEHIND:
            self._refuse(command, SyncdError(ErrorCode.BEHIND, after_ms=int(BEHIND_S * 1000)))
        elif not any(each.command is command for each in self._waiting):
            self._waiting.append(_Waiting(command, self._holdings.now + BEHIND_S))
            self.look(command.channel)
        return True

    def ready(self) -> list[Command]:
        """Return requests that need not wait any more, and refuse those that have waited long enough."""
        now = self._holdings.now
        waiting, self._waiting = self._waiting, []
        ready = []
        for each in waiting:
            command = each.command
            head, wanted = self._holdings.head(command.channel), command.after[command.channel]
            if head is None or head.epoch != wanted.epoch or head.offset >= wanted.offset:
                ready.append(command)
            elif now < each.deadline:
                self._waiting.append(each)
            else:
                self._refuse(command, SyncdError(ErrorCode.BEHIND, after_ms=1000))
        return ready

    def fail_all(self, error: SyncdError) -> None:
        """Tell everybody who waits."""
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            self._refuse(each.command, error)
