"""Asking sources: which keys are loaded when, what becomes of what they bring.

Owner of: the queue of each collection's loader and the number of its calls under way. Calls run as tasks of the actor; what they bring comes
back through its mailbox, so that state changes in one place.

Invariant (DESIGN 5.9): a load counts as read when it began. Any change, invalidation or acknowledgement of a key since then wins: the flight
is outdated, or the commit of what it brought meets another version and is thrown away.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import structlog
import trio

from syncd.actors.cache_owner.claiming import KEYS_PER_ASK, Claiming
from syncd.actors.cache_owner.fetching import Fetching
from syncd.actors.cache_owner.gathering import Flight
from syncd.actors.cache_owner.holdings import TOMBSTONE, Holding, Holdings
from syncd.actors.cache_owner.messages import LoadDone
from syncd.actors.kit_application import application_code
from syncd.codes import ErrorCode
from syncd.errors import SyncdError
from syncd.model.collection_memory import CachedEntry
from syncd.model.definitions import Tagged, has_other_keys
from syncd.model.recording import Place
from syncd.model.transaction import check_tags, encode_value
from syncd.ports_shared import LoadsEnded
from syncd.ports_state import (
    Committed,
    Conflict,
    EntryRead,
    EntryWrite,
    MutationCommit,
    MutationResult,
)
from syncd.wire.encode_entries import entry_record

__all__ = ["Loading"]

_log = structlog.get_logger("syncd.collections")


class _Queue:
    """The keys that one collection's loader is to be asked for. Urgent ones first, then what most watch."""

    def __init__(self) -> None:
        self.urgent: dict[Place, Flight] = {}
        self.refreshes: dict[Place, Flight] = {}
        self.num_active = 0
        self.is_asking = False
        """The store is asked which of its keys this node may load."""

    def add(self, flight: Flight) -> None:
        """Queue a flight."""
        (self.urgent if flight.waiters else self.refreshes)[flight.place] = flight

    def take(self, count: int) -> list[Flight]:
        """Take the next ones."""
        taken: list[Flight] = []
        self.promote()
        for queue in (self.urgent, self.refreshes):
            places = list(queue)
            if queue is self.refreshes and len(places) > count:
                places.sort(key=lambda place: -queue[place].num_watching)
            taken += [queue.pop(place) for place in places[: count - len(taken)]]
        return taken

    def promote(self) -> None:
        """Refreshes that somebody waits for meanwhile are urgent."""
        for place in [place for place, flight in self.refreshes.items() if flight.waiters]:
            self.urgent[place] = self.refreshes.pop(place)

    def __bool__(self) -> bool:
        return bool(self.urgent or self.refreshes)


class Loading:
    """The source side of the cache-owner."""

    def __init__(
        self,
        holdings: Holdings,
        *,
        wall_ms: Callable[[], int],
        timer: Callable[[], float],
        commit: Callable[[MutationCommit, Callable[[MutationResult | SyncdError], None]], None],
        commit_volatile: Callable[[EntryWrite, float], bool],
        post: Callable[[LoadDone], None],
        claiming: Claiming,
    ) -> None:
        """Begin with nothing under way.

        Args:
            commit: Has a change committed with the next group.
            commit_volatile: Makes a change of a volatile entry, fresh until then; False if a mutation is at it just now.
        """
        self._holdings = holdings
        self._wall_ms = wall_ms
        self._timer = timer
        self._commit = commit
        self._commit_volatile = commit_volatile
        self._post = post
        self._claiming = claiming
        claiming.loader = self
        self.fetching: Fetching
        self.nursery: trio.Nursery
        self._queues: dict[str, _Queue] = {}

    # ---------------------------------------------------------------- calls

    def queue(self, flight: Flight) -> None:
        """Have a flight's key loaded when its loader has room."""
        flight.is_outdated = False
        self._queues.setdefault(flight.holding.name, _Queue()).add(flight)

    def start(self) -> None:
        """Begin the calls that there is room for."""
        self._claiming.flush()  # before a key is claimed anew, or the end of its last claim would end this one
        for name, queue in list(self._queues.items()):
            holding = self._holdings.by_name[name]
            definition, size = holding.definition, _batch_size(holding)
            if self._claiming.is_shared(holding):
                self._claim(holding, queue, size)
                continue
            while queue and queue.num_active < definition.load_concurrency:
                flights = self._take(queue, size)
                if flights:
                    queue.num_active += 1
                    self.nursery.start_soon(self._call, holding, flights)
        self.fetching.flush()

    def _take(self, queue: _Queue, count: int) -> list[Flight]:
        """Take flights to be loaded now; what was changed since it was queued is looked at once more first."""
        flights = []
        for flight in queue.take(count):
            if flight.is_changed:
                self.fetching.look_anew(flight)
            else:
                flight.is_loading, flight.is_outdated = True, False
                flights.append(flight)
        return flights

    def give_up(self) -> None:
        """This node ends, or begins anew: what it was loading others need not wait for."""
        self._claiming.give_up()

    def ended(self, message: LoadsEnded) -> None:
        """See `LoadsEnded`."""
        self._claiming.ended(message)

    def look_again(self) -> None:
        """Time has passed: what is being loaded here is still loaded here."""
        self._claiming.renew()

    # ---------------------------------------------------------------- claiming.Loader

    def _claim(self, holding: Holding, queue: _Queue, size: int) -> None:
        """Ask which keys may be loaded here, as many as there is room for; one ask of a collection at a time."""
        room = (holding.definition.load_concurrency - queue.num_active) * size
        if queue.is_asking or not queue or room <= 0:
            return
        queue.is_asking = True
        flights = queue.take(KEYS_PER_ASK)
        for flight in flights:
            flight.is_loading, flight.is_outdated = True, False
        self._claiming.ask(holding, flights, room)

    def asked(self, holding: Holding) -> None:
        """See `claiming.Loader.asked`."""
        queue = self._queues.get(holding.name)
        if queue is not None:
            queue.is_asking = False

    def begin(self, holding: Holding, flights: list[Flight]) -> None:
        """See `claiming.Loader.begin`."""
        size = _batch_size(holding)
        for flight in flights:
            flight.is_loading, flight.is_outdated = True, False
        for start in range(0, len(flights), size):
            self._queues.setdefault(holding.name, _Queue()).num_active += 1
            self.nursery.start_soon(self._call, holding, flights[start : start + size])

    # ---------------------------------------------------------------- calls

    async def _call(self, holding: Holding, flights: list[Flight]) -> None:
        """Call the application's loader; whatever it does, something comes back."""
        definition = holding.definition
        loader = definition.loader
        assert loader is not None, "see `start`"
        keys = [flight.place[1] for flight in flights]
        began = self._timer()
        values: Mapping[Place, Any] = {}
        error: SyncdError | None = None
        try:
            with trio.fail_after(definition.load_timeout_s), application_code:
                answer = await loader.call(keys if loader.takes_list else keys[0])
            values = _by_place(flights, answer, takes_list=loader.takes_list)
        except trio.TooSlowError:
            error = SyncdError(ErrorCode.LOAD_TIMEOUT)
            _log.error("load_timeout", collection=holding.name, num_keys=len(keys))
        except _BadSource as failure:
            error = SyncdError(ErrorCode.BAD_SOURCE)
            _log.error("bad_source", collection=holding.name, reason=str(failure))
        except Exception as failure:  # noqa: BLE001 - isolation: a source's fault concerns its keys alone
            error = SyncdError(ErrorCode.LOAD_FAILED)
            _log.error("load_failed", collection=holding.name, num_keys=len(keys), exc_info=failure)
        self._post(LoadDone(flights, values, error, self._timer() - began))

    # ---------------------------------------------------------------- what they bring

    def done(self, message: LoadDone) -> None:
        """A call has ended."""
        holding = message.flights[0].holding
        if self._holdings.by_name.get(holding.name) is not holding:
            return  # of before a crash: whoever waited was told
        self._queues[holding.name].num_active -= 1
        counts = holding.counts
        counts.loads += 1
        counts.load_s_total += message.duration_s
        counts.load_s_max = max(counts.load_s_max, message.duration_s)
        for flight in message.flights:
            flight.is_loading = False
            if self.fetching.flights.get(flight.place) is not flight:
                self._claiming.finish(flight.place, 0.0)
                continue
            if message.error is not None:
                counts.load_failures += 1
                self._failed(flight, message.error)
            elif flight.is_outdated or holding.is_dirty(flight.place):
                self._begin_again(flight)
            else:
                counts.keys_loaded += 1
                self._land(flight, message.values.get(flight.place))

    def _begin_again(self, flight: Flight) -> None:
        self._claiming.finish(flight.place, 0.0)
        self.fetching.begin_again(flight)

    def _failed(self, flight: Flight, error: SyncdError) -> None:
        self._claiming.finish(flight.place, 0.0)
        now = self._holdings.now
        failure = flight.holding.failures.add(flight.place, error, now)
        after_ms = int((failure.retry_at - now) * 1000) + 1
        self.fetching.fail(flight, SyncdError(error.code, after_ms=after_ms))

    def _land(self, flight: Flight, loaded: object) -> None:
        """One key's value is here: keep it as what it is, if it is another than before."""
        holding, known = flight.holding, flight.known
        try:
            value, tags = _encoded(holding, loaded)
        except (ValueError, TypeError) as failure:
            reason = str(failure)
            _log.error("bad_source", collection=holding.name, key=flight.place[1], reason=reason)
            self._failed(flight, SyncdError(ErrorCode.BAD_SOURCE))
            return
        holding.failures.forget(flight.place)
        now = self._holdings.now
        until = holding.fresh_until(now, is_there=value is not None)
        if known is not None and known.value == value and known.tags == tags:
            known.fresh_until = until
            holding.memory.keep(flight.place, known, now)
            self._claiming.landed(flight, until)
            self.fetching.settle(flight, known)
        elif value is None and (known is None or known.value is None):
            absent = CachedEntry(0 if known is None else known.version, None, (), until)
            self._holdings.head(flight.place[0])
            holding.memory.keep(flight.place, absent, now)
            self._claiming.landed(flight, until)
            self.fetching.settle(flight, absent)
        else:
            self._write(flight, value, tags, until)

    def _write(
        self, flight: Flight, value: bytes | None, tags: tuple[str, ...], until: float
    ) -> None:
        channel, key = flight.place
        at_ms = self._wall_ms()
        record = entry_record(key, at_ms, value=value)
        write = EntryWrite(channel, key, value, record, tags)
        holding = flight.holding
        if holding.is_volatile:
            if not self._commit_volatile(write, until):
                self.fetching.begin_again(flight)
                return
            entry = holding.memory.peek(flight.place, self._holdings.now)
            self.fetching.settle(flight, entry or CachedEntry(0, value, tags, until))
            return
        if value is None and holding.is_owned:
            write.value = TOMBSTONE
        known = flight.known
        version = 0 if known is None else known.version
        is_shared = holding.is_forwarded and self._holdings.is_shared
        read = EntryRead(channel, key, version, unless_dirty=is_shared)

        def settle(result: MutationResult | SyncdError) -> None:
            self._written(flight, write, result, until)

        self._commit(MutationCommit(None, 0, [read], [write], b"", at_ms), settle)

    def _written(
        self,
        flight: Flight,
        write: EntryWrite,
        result: MutationResult | SyncdError,
        until: float,
    ) -> None:
        """What a load brought is committed, or met a newer change."""
        if self.fetching.flights.get(flight.place) is not flight:
            self._claiming.finish(flight.place, 0.0)
            return
        if isinstance(result, Conflict):
            if result.is_dirty:
                flight.holding.dirty_elsewhere.add(flight.place)
            self._begin_again(flight)
        elif isinstance(result, Committed):
            holding, holdings = flight.holding, self._holdings
            version = result.versions[0] if write.value is not None else 0
            value = None if write.value == TOMBSTONE else write.value
            entry = CachedEntry(version, value, write.tags, until)
            if flight.is_outdated:
                entry.fresh_until = -math.inf
            position = result.positions[flight.place[0]]
            holdings.note(flight.place[0], position)
            holding.memory.keep(flight.place, entry, holdings.now)
            if holdings.is_overtaken(flight.place[0], position):
                flight.is_outdated = True
                holdings.forget_entry(flight.place)
            self._claiming.landed(flight, until)
            if flight.is_outdated:
                self.fetching.begin_again(flight)
            else:
                self.fetching.settle(flight, entry)
        elif isinstance(result, SyncdError):
            self._claiming.finish(flight.place, 0.0)
            self.fetching.fail(flight, result)

    def forget(self) -> None:
        """Nothing is queued or under way any more that anybody hears of."""
        self._queues.clear()


def _batch_size(holding: Holding) -> int:
    loader = holding.definition.loader
    assert loader is not None, "only flights with a loader are queued"
    return holding.definition.load_batch if loader.takes_list else 1


class _BadSource(Exception):
    """A loader returned something that is no answer; the text names the types."""


def _by_place(flights: list[Flight], answer: Any, *, takes_list: bool) -> dict[Place, Any]:
    """Return what a loader brought, by place."""
    if not takes_list:
        return {flights[0].place: answer}
    if isinstance(answer, Mapping):
        if has_other_keys(answer):
            raise _BadSource("a dict of values has the keys that were asked for, which are texts")
        return {
            flight.place: answer[flight.place[1]] for flight in flights if flight.place[1] in answer
        }
    if isinstance(answer, list | tuple):
        if len(answer) != len(flights):
            raise _BadSource(f"{len(answer)} values for {len(flights)} keys")
        return {flight.place: value for flight, value in zip(flights, answer, strict=True)}
    raise _BadSource(f"a loader of lists returns a dict or a list, not {type(answer).__name__}")


def _encoded(holding: Holding, loaded: object) -> tuple[bytes | None, tuple[str, ...]]:
    """Return a loaded value as it is kept, with its tags.

    Raises:
        ValueError, TypeError: it cannot be kept.
    """
    tags: tuple[str, ...] = ()
    if isinstance(loaded, Tagged):
        tags = check_tags(loaded.tags)
        loaded = loaded.value
    if loaded is None:
        return None, ()
    value = encode_value(loaded)
    if len(value) > holding.definition.max_value_bytes:
        raise ValueError(f"a value has {holding.definition.max_value_bytes} bytes at most here")
    return value, tags
