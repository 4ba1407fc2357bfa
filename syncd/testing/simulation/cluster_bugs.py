"""Known bugs of nodes that share a store, planted from outside as those of `bugs`: they show only with several nodes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from syncd.actors.bridge import Bridge
from syncd.actors.broadcaster.sharing import Sharing
from syncd.actors.cache_owner.fetching import Fetching
from syncd.actors.cache_owner.turns import Turns
from syncd.model.heads import Heads, SharedHeads
from syncd.ports_state import LookedUp
from syncd.testing.simulation.shared import SharedStore

__all__ = ["CLUSTER_BUGS"]


@contextlib.contextmanager
def _replaced(owner: type, name: str, method: Callable[..., Any]) -> Iterator[None]:
    original = vars(owner)[name]
    setattr(owner, name, method)
    try:
        yield
    finally:
        setattr(owner, name, original)


def _gaps_ignored() -> contextlib.AbstractContextManager[None]:
    """What the bus has lost is not looked up."""

    def on_gap(_self: Any, _topics: Any) -> None:
        """Nothing is told."""

    return _replaced(Bridge, "on_gap", on_gap)


def _ahead_is_lost() -> contextlib.AbstractContextManager[None]:
    """A position that another node gave counts as lost where nobody has heard of it yet."""

    def looks(_self: Any, *_args: Any) -> bool:
        return False

    return _replaced(Sharing, "looks", looks)


def _heads_jump() -> contextlib.AbstractContextManager[None]:
    """An own commit moves the head of its channel over what others have committed before it."""

    def note(self: Any, channel: Any, position: Any) -> bool:
        known = self._heads.get(channel)
        is_other = known is not None and known.epoch != position.epoch
        Heads.read(self, channel, position)  # `Heads.note` would end in `SharedHeads.read`
        return is_other

    return _replaced(SharedHeads, "note", note)


def _stale_page_kept() -> contextlib.AbstractContextManager[None]:
    """An entry that another node changed while the store was read is kept as it was."""
    original = vars(Fetching)["paged"]

    def paged(self: Any, message: Any) -> None:
        for flight in message.flights:
            flight.is_outdated = False
        original(self, message)

    return _replaced(Fetching, "paged", paged)


def _dirty_not_told() -> contextlib.AbstractContextManager[None]:
    """What is read does not say that its source has not heard of it yet."""
    original = vars(Fetching)["paged"]

    def paged(self: Any, message: Any) -> None:
        if isinstance(message.answer, LookedUp):
            message.answer.dirty = {}
        original(self, message)

    return _replaced(Fetching, "paged", paged)


def _everybody_forwards() -> contextlib.AbstractContextManager[None]:
    """Every node takes itself for the one that tells the application."""

    def is_ours(_self: Any, _holding: Any) -> bool:
        return True

    return _replaced(Turns, "is_ours", is_ours)


def _own_echo_ignored() -> contextlib.AbstractContextManager[None]:
    """A commit whose answer was lost is not recognised when the bus tells of it."""

    def is_unsure(_self: Any) -> bool:
        return False

    return _replaced(SharedStore, "is_unsure", is_unsure)


CLUSTER_BUGS: dict[str, Callable[[], contextlib.AbstractContextManager[None]]] = {
    "gaps_ignored": _gaps_ignored,
    "ahead_is_lost": _ahead_is_lost,
    "heads_jump": _heads_jump,
    "stale_page_kept": _stale_page_kept,
    "dirty_not_told": _dirty_not_told,
    "everybody_forwards": _everybody_forwards,
    "own_echo_ignored": _own_echo_ignored,
}
"""Name to what plants it; each one's docstring says what is wrong."""
