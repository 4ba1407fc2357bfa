"""Loads that nodes share (`single_flight="cluster"`): of a key one node asks the source, the others wait for what it brings, and read that.

Owner of: which keys this node has claimed in the store, and which it waits for. Without other nodes nothing of it is ever called.

Invariant (DESIGN 5.9): what another node has loaded is taken as of the position at which the store said so, together with the entry; an
invalidation after that is heard like any other, one before it has ended the claim (`store.loads`). Whoever waits is told of the end over the
bus, asks again every `POLL_S` in case that was lost, and gives up after the time that a load may take. A claim is a short lease that its node renews, so one that died holds up nobody for longer
than `LEASE_S`. While the store is away nothing can
be claimed, and each node loads for itself: what the source has as it was is served, anything else gets its version in the store or nobody is told it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol

import trio

from syncd.actors.cache_owner.fetching import Fetching
from syncd.actors.cache_owner.gathering import Flight
from syncd.actors.cache_owner.holdings import Holding, Holdings, value_of
from syncd.actors.cache_owner.swapping import RebuildStoreHandle
from syncd.codes import ErrorCode
from syncd.errors import StoreUnavailable, SyncdError
from syncd.model.collection_memory import CachedEntry
from syncd.model.recording import Place
from syncd.ports_shared import LoadsEnded
from syncd.ports_state import KeyName
from syncd.store.loads import ClaimState, FinishedLoad, LoadClaim

__all__ = ["CLUSTER", "KEYS_PER_ASK", "Claiming", "Loader"]

CLUSTER = "cluster"
"""The setting."""
KEYS_PER_ASK = 200
"""One script of a millisecond."""
POLL_S = 0.25
"""Short beside a load that is worth being shared; one script for 200 keys."""
LEASE_S = 5.0
"""For so long the keys of a node that died are not free; longer than the store may hang (3 s) without that losing them."""
RENEW_S = 1.0
"""Of a key, so that four renewals may be late or lost; one command for all keys of a moment."""
SLACK_S = 1.0
"""Whoever waits does so for the longest load and this, so that what it brought can be written."""


class Loader(Protocol):
    """The room that calls loaders."""

    nursery: trio.Nursery

    def queue(self, flight: Flight) -> None:
        """Have a flight's key loaded when its loader has room."""

    def begin(self, holding: Holding, flights: list[Flight]) -> None:
        """Call the loader for keys that may be loaded now."""

    def asked(self, holding: Holding) -> None:
        """The store has answered: more may be asked for."""


class Claiming:
    """See the module's docstring."""

    def __init__(
        self,
        holdings: Holdings,
        store: RebuildStoreHandle,
        holder: str,
        call: Callable[[Callable[[], None]], None],
    ) -> None:
        """Claim nothing; `call` has something done in the actor's turn."""
        self._holdings = holdings
        self._store = store
        self._holder = holder
        self._call = call
        self.loader: Loader
        self.fetching: Fetching
        self._held: dict[Place, float] = {}
        """Granted to this node, and not finished yet; when to renew each."""
        self._is_renewing = False
        self._finished: list[FinishedLoad] = []
        self._waiting: dict[Place, tuple[Flight, float]] = {}
        """Loaded by others, and since when that is waited for."""
        self._again: dict[Place, float] = {}
        """The same, of those that are being asked about again."""
        self._asked: dict[Place, bool] = {}
        """Being asked about; True: the holder has ended its load meanwhile."""
        self._polling: set[str] = set()
        """Collections that are to be asked about again soon."""

    def is_shared(self, holding: Holding) -> bool:
        """Whether nodes share the loads of a collection."""
        return self._holdings.is_shared and holding.definition.single_flight == CLUSTER

    # ---------------------------------------------------------------- claims

    def ask(self, holding: Holding, flights: list[Flight], max_granted: int) -> None:
        """Ask who loads these keys; whatever the answer, `Loader.asked` is called."""
        places, holder = [flight.place for flight in flights], self._holder
        self._asked.update(dict.fromkeys(places, False))

        def done(answer: list[LoadClaim] | SyncdError) -> None:
            if isinstance(answer, StoreUnavailable):
                self._call(lambda: self._load_alone(holding, flights, max_granted))
            else:
                self._call(lambda: self._answered(holding, flights, answer))

        self._store.rebuild(
            lambda store: store.loads.claim(places, holder, LEASE_S, max_granted), done
        )

    def _answered(
        self, holding: Holding, flights: Sequence[Flight], answer: list[LoadClaim] | SyncdError
    ) -> None:
        granted = []
        for index, flight in enumerate(flights):
            since, has_ended = self._forget_ask(flight)
            if not isinstance(answer, SyncdError):
                if self._is_granted(flight, answer[index], since):
                    granted.append(flight)
                if has_ended:
                    self._ask_again(flight.place)
            elif self._is_wanted(flight):
                self.fetching.fail(flight, answer)
        self.loader.asked(holding)
        if granted:
            self.loader.begin(holding, granted)

    def _forget_ask(self, flight: Flight) -> tuple[float | None, bool]:
        """Return since when a key is waited for, and whether its load has ended while it was asked about."""
        flight.is_loading = False
        return self._again.pop(flight.place, None), self._asked.pop(flight.place, False)

    def _is_wanted(self, flight: Flight) -> bool:
        return self.fetching.flights.get(flight.place) is flight

    def _is_granted(self, flight: Flight, claim: LoadClaim, since: float | None) -> bool:
        """Go on with what the store says of a key; return whether it is to be loaded here now."""
        if claim.state is ClaimState.GRANTED:
            self._held[flight.place] = self._holdings.now + RENEW_S
        if not self._is_wanted(flight):
            self.finish(flight.place, 0.0)
        elif claim.state is ClaimState.HELD:
            self._wait(flight, self._holdings.now if since is None else since)
        elif claim.state is ClaimState.LOADED and not flight.is_outdated:
            self._take(flight, claim)
        elif flight.is_changed:
            self.finish(flight.place, 0.0)
            self.fetching.look_anew(flight)
        elif claim.state is ClaimState.GRANTED:
            return True
        else:
            self.loader.queue(flight)
        return False

    def _load_alone(self, holding: Holding, flights: Sequence[Flight], max_begun: int) -> None:
        """No node can claim anything: each loads for itself, as without other nodes; what it brings is told to nobody as loaded."""
        wanted = []
        for flight in flights:
            self._forget_ask(flight)
            if not self._is_wanted(flight):
                continue
            if flight.is_changed:
                self.fetching.look_anew(flight)
            else:
                wanted.append(flight)
        for flight in wanted[max_begun:]:
            self.loader.queue(flight)
        self.loader.asked(holding)
        self.loader.begin(holding, wanted[:max_begun])

    def finish(self, place: Place, fresh_s: float | None) -> None:
        """A claim of ours is over. `fresh_s`: as of `FinishedLoad`."""
        if self._held.pop(place, None) is not None:
            self._finished.append(FinishedLoad(place, fresh_s))

    def landed(self, flight: Flight, fresh_until: float) -> None:
        """What was loaded is in the store."""
        fresh_s = fresh_until - self._holdings.now
        is_old = flight.is_outdated or fresh_s <= 0
        self.finish(flight.place, 0.0 if is_old else None if fresh_s == math.inf else fresh_s)

    def flush(self) -> None:
        """Tell the store what is over."""
        if self._finished:
            finished, self._finished = self._finished, []
            holder = self._holder
            self._store.rebuild(lambda store: store.loads.finish(holder, finished), _ignore)

    def renew(self) -> None:
        """Time has passed: hold what is being loaded for longer. A node that does not, dead or stuck, has lost it `LEASE_S` later."""
        now, holder = self._holdings.now, self._holder
        due = [place for place, at in self._held.items() if at <= now]
        if not due or self._is_renewing:
            return
        self._is_renewing = True
        self._held.update(dict.fromkeys(due, now + RENEW_S))

        def done(_answer: object) -> None:
            self._is_renewing = False

        self._store.rebuild(lambda store: store.loads.renew(holder, due, LEASE_S), done)

    def give_up(self) -> None:
        """This node ends, or begins anew: others need not wait for it."""
        for place in list(self._held):
            self.finish(place, 0.0)
        self.flush()

    # ---------------------------------------------------------------- what others load

    def _wait(self, flight: Flight, since: float) -> None:
        holding = flight.holding
        if self._holdings.now - since > holding.definition.load_timeout_s + SLACK_S:
            holding.counts.load_failures += 1
            self.fetching.fail(flight, SyncdError(ErrorCode.LOAD_TIMEOUT, after_ms=1000))
            return
        if flight.place not in self._waiting and since == self._holdings.now:
            holding.counts.load_waits += 1
        self._waiting[flight.place] = flight, since
        if holding.name not in self._polling:
            self._polling.add(holding.name)
            self.loader.nursery.start_soon(self._poll, holding)

    async def _poll(self, holding: Holding) -> None:
        await trio.sleep(POLL_S)
        self._call(lambda: self._ask_for_all(holding))

    def _ask_for_all(self, holding: Holding) -> None:
        self._polling.discard(holding.name)
        for place, (flight, _since) in list(self._waiting.items()):
            if flight.holding is holding:
                self._ask_again(place)

    def _ask_again(self, place: Place) -> None:
        flight, since = self._waiting.pop(place, (None, 0.0))
        if flight is not None and self._is_wanted(flight):
            self._again[place] = since
            self.loader.queue(flight)

    def ended(self, message: LoadsEnded) -> None:
        """Others have ended loads: see what they brought."""
        for key in message.keys:
            place = (message.channel, KeyName(key))
            if place in self._asked:
                self._asked[place] = True
            self._ask_again(place)

    def _take(self, flight: Flight, claim: LoadClaim) -> None:
        """Another node has loaded it: it is as of the same moment in the store, and as fresh as there."""
        place, holding, holdings = flight.place, flight.holding, self._holdings
        holding.counts.keys_taken += 1
        holdings.read(place[0], claim.position)
        until = math.inf if claim.fresh_s is None else holdings.now + claim.fresh_s
        entry = CachedEntry(0, None, (), until)
        if claim.entry is not None:
            stored = claim.entry
            entry = CachedEntry(stored.version, value_of(stored.value), stored.tags, until)
        holding.failures.forget(place)
        holding.memory.keep(place, entry, holdings.now)
        self.fetching.settle(flight, entry)


def _ignore(_answer: object) -> None:
    """A claim that the store was not told the end of expires."""
