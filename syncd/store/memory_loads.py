"""Claims of loads in memory, for several nodes over one store in a test; see `store.loads`. Owned by `MemoryRebuilds`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

import attrs

from syncd.ids import ChannelName, Position
from syncd.ports_log import LoadedChannel
from syncd.ports_state import Entry, KeyName, MutationCommit, MutationResult, TaggedKey
from syncd.store.loads import ClaimState, FinishedLoad, LoadClaim

__all__ = ["MemoryLoads"]


class _Reads(Protocol):
    """What of its store this uses."""

    def load(self, channel: ChannelName, tail_events: int, tail_bytes: int) -> LoadedChannel: ...
    def entries(self, channel: ChannelName, keys: Sequence[KeyName]) -> list[Entry]: ...


@attrs.define
class _Claim:
    position: Position
    """Of the channel, when it was granted."""
    until: float
    holder: str | None
    """None: it is loaded."""
    is_for_ever: bool = False


class MemoryLoads:
    """`LoadClaims` in a dict."""

    def __init__(self, store: _Reads, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self.clock = clock
        self._claims: dict[TaggedKey, _Claim] = {}
        self._invalidated: dict[ChannelName, int] = {}
        """Offset from which on claims of before are void."""

    def _head(self, channel: ChannelName) -> Position:
        head = self._store.load(channel, 0, 0).head
        return Position(head.epoch, head.top)

    def note(self, group: Sequence[MutationCommit], results: Sequence[MutationResult]) -> None:
        """A group is about to be committed; if it is not, claims have ended early, which does no harm."""
        for mutation, _ in zip(group, results, strict=True):
            for event in mutation.events:
                for key in event.invalidated:
                    self._claims.pop((event.channel, KeyName(key)), None)
                if event.key is None and not event.invalidated:
                    self.void(event.channel)

    def void(self, channel: ChannelName) -> None:
        """What is loaded of a channel, or being loaded, counts no more."""
        self._invalidated[channel] = self._head(channel).offset

    def _valid(self, place: TaggedKey, head: Position) -> _Claim | None:
        claim = self._claims.get(place)
        if claim is None or claim.until <= self.clock() or claim.position.epoch != head.epoch:
            return None
        is_void = claim.position.offset < self._invalidated.get(place[0], 0)
        return None if is_void else claim

    def claim(
        self, places: Sequence[TaggedKey], holder: str, lease_s: float, max_granted: int
    ) -> list[LoadClaim]:
        """See `LoadClaims.claim`."""
        answers: list[LoadClaim] = []
        for place in places:
            head = self._head(place[0])
            claim, answer = self._valid(place, head), LoadClaim(ClaimState.HELD, head)
            if claim is not None and claim.holder is None:
                answer.state = ClaimState.LOADED
                answer.fresh_s = None if claim.is_for_ever else claim.until - self.clock()
                answer.entry = next(iter(self._store.entries(place[0], [place[1]])), None)
            elif claim is None or claim.holder == holder:
                num_granted = sum(each.state is ClaimState.GRANTED for each in answers)
                answer.state = ClaimState.GRANTED if num_granted < max_granted else ClaimState.FREE
                if answer.state is ClaimState.GRANTED:
                    self._claims[place] = _Claim(head, self.clock() + lease_s, holder)
            answers.append(answer)
        return answers

    def renew(self, holder: str, places: Sequence[TaggedKey], lease_s: float) -> None:
        """See `LoadClaims.renew`."""
        for place in places:
            claim = self._valid(place, self._head(place[0]))
            if claim is not None and claim.holder == holder:
                claim.until = self.clock() + lease_s

    def finish(self, holder: str, loads: Sequence[FinishedLoad]) -> None:
        """See `LoadClaims.finish`."""
        for load in loads:
            claim = self._valid(load.place, self._head(load.place[0]))
            if claim is None or claim.holder != holder:
                continue
            if load.fresh_s == 0:
                del self._claims[load.place]
            else:
                claim.holder, claim.is_for_ever = None, load.fresh_s is None
                claim.until = self.clock() + (3600.0 if load.fresh_s is None else load.fresh_s)
