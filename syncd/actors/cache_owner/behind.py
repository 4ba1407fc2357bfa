"""Requests that ask for something newer than is known here: they wait for it a while, then are told `behind` (DESIGN 5.8).

Who asks for a position of another epoch than memory is of has seen either what came before it, or, on another node, what came after
it: only the store can say. So the channel is looked up before they are answered, once for all who wait; an epoch that the store was
not of when it was read, after it had been asked for, is over for good.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from syncd.actors.cache_owner.holdings import Holdings
from syncd.actors.cache_owner.sharing import Sharing
from syncd.codes import ErrorCode
from syncd.errors import SyncdError
from syncd.ids import ChannelName, Epoch, Position
from syncd.ports_collections import ReadEntries, WatchEntries

__all__ = ["Behind"]

BEHIND_S = 2.0
"""How long a request waits for a position that is not known here yet."""
MAX_BEHIND = 10_000
"""Requests that wait so. Policy when full: refuse, `behind`."""
MAX_OVER = 20_000
"""Epochs that are known to be over: more than can be waited for at once. Policy when full: forget all, and look them up again."""

Command = ReadEntries | WatchEntries


@attrs.define(eq=False)
class _Waiting:
    command: Command
    deadline: float
    is_looked_up: bool = False
    """The store is, or was, read after this had been asked for."""


class Behind:
    """Who waits for what is not known here yet."""

    def __init__(self, holdings: Holdings, refuse: Callable[[Command, SyncdError], None]) -> None:
        """Begin with nobody; `refuse` tells a request that it cannot be had."""
        self._holdings = holdings
        self._refuse = refuse
        self._waiting: list[_Waiting] = []
        self._over: set[tuple[ChannelName, Epoch]] = set()
        self._look: Callable[[ChannelName], None] = lambda _channel: None
        """See in the store what is new in a channel; `_looking` and `_looked` follow."""
        self._look_again: Callable[[], None] = lambda: None

    def follow(self, sharing: Sharing, look_again: Callable[[], None]) -> None:
        """Have looked up in the store what is waited for, and `look_again` called after that."""
        self._look = lambda channel: sharing.look([channel])
        self._look_again = look_again
        sharing.on_look, sharing.on_looked = self._looking, self._looked

    def waits(self, command: Command, position: Position) -> bool:
        """Whether a request has to wait, as it asks for something newer than this; `ready` returns it later."""
        if self._has(command, position):
            return False
        if len(self._waiting) >= MAX_BEHIND:
            self._refuse(command, SyncdError(ErrorCode.BEHIND, after_ms=int(BEHIND_S * 1000)))
        elif not any(each.command is command for each in self._waiting):
            self._waiting.append(_Waiting(command, self._holdings.now + BEHIND_S))
            self._look(command.channel)
        return True

    def _has(self, command: Command, position: Position) -> bool:
        """Whether what is as of a position is new enough."""
        wanted = command.after.get(command.channel)
        if wanted is None:
            return True
        if wanted.epoch == position.epoch:
            return wanted.offset <= position.offset
        return not self._may_be_newer(command.channel, wanted.epoch)

    def may_be_over(self, command: Command, position: Position) -> bool:
        """Whether the client has seen, maybe, what came after the life of the channel that this position is of."""
        wanted = command.after.get(command.channel)
        if wanted is None or wanted.epoch == position.epoch:
            return False
        return self._may_be_newer(command.channel, wanted.epoch)

    def _may_be_newer(self, channel: ChannelName, epoch: Epoch) -> bool:
        """Whether an epoch that memory is not of may be the one that the channel is in."""
        holdings = self._holdings
        if not holdings.is_shared or holdings.is_volatile(channel):
            return False  # nobody but this node begins new ones
        return (channel, epoch) not in self._over

    def _looking(self, channel: ChannelName) -> None:
        """A channel is looked up in the store now."""
        for each in self._waiting:
            if each.command.channel == channel:
                each.is_looked_up = True

    def _looked(self, channel: ChannelName, epoch: Epoch) -> None:
        """The store was read, and is of this epoch; memory is, too, unless it began anew meanwhile."""
        waiting = [each for each in self._waiting if each.command.channel == channel]
        for each in waiting:
            wanted = each.command.after[channel].epoch
            if each.is_looked_up and wanted != epoch:
                if len(self._over) >= MAX_OVER:
                    self._over.clear()
                self._over.add((channel, wanted))
        if not waiting:
            return
        head = self._holdings.head(channel)
        if head is not None and head.epoch != epoch:
            self._look(channel)
        self._look_again()

    def ready(self) -> list[Command]:
        """Return requests that need not wait any more, and refuse those that have waited long enough."""
        now = self._holdings.now
        waiting, self._waiting = self._waiting, []
        ready = []
        for each in waiting:
            command = each.command
            head = self._holdings.head(command.channel)
            if head is None or self._has(command, head):
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
