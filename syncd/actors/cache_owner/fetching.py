"""Bringing entries into memory: from the store first, then from the collection's source; one flight a key, whoever asks.

Owner of: flights and the requests that wait for them. A flight is *outdated* when its key was changed or invalidated while it was on
its way to the source: what it brings may be older than that, so it is thrown away and the source is asked again. One whose key was *changed*
while it waited for its turn is looked up once more before that: what the source says is compared with what there is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog

from syncd.actors.cache_owner.gathering import Flight, Gathering
from syncd.actors.cache_owner.holdings import Holding, Holdings
from syncd.actors.cache_owner.messages import EntriesPaged, LoadDone
from syncd.actors.cache_owner.paging import KEYS_PER_JOB
from syncd.codes import ErrorCode
from syncd.errors import SyncdError
from syncd.ids import ChannelName, Position
from syncd.model.collection_memory import CachedEntry, Freshness
from syncd.model.recording import Place
from syncd.ports_collections import EntryState
from syncd.ports_state import KeyName, LookedUp, StateReader, StateStoreHandle

__all__ = ["Fetching"]

_log = structlog.get_logger("syncd.collections")

MAX_FLIGHTS = 50_000
"""Keys on their way at once. Policy when full: refuse, `overloaded` (retryable)."""
MAX_RERUNS = 10
"""Loads of one key that were outdated in a row; then its readers are told to come again."""


class Fetching:
    """The reading half of the cache-owner."""

    def __init__(
        self,
        holdings: Holdings,
        store: StateStoreHandle,
        post: Callable[[EntriesPaged | LoadDone], None],
        load: Callable[[Flight], None],
    ) -> None:
        """Begin with nothing on its way.

        Args:
            load: Queues a flight for the source; ends in `Loading`, which lands it by `settle` or `fail`.
        """
        self._holdings = holdings
        self._store = store
        self._post = post
        self._load = load
        self.flights: dict[Place, Flight] = {}
        self.on_settled: Callable[[Flight], None] = lambda _flight: None
        self.on_failed: Callable[[Flight, SyncdError], None] = lambda _flight, _error: None
        """A flight has landed, or could not bring its entry. Set by `Reloading`."""
        holdings.outdate, holdings.outdate_all = self.changed, self.changed_all
        self._is_shared = holdings.is_shared
        self._to_page: dict[ChannelName, list[Flight]] = {}

    # ---------------------------------------------------------------- asking

    def gather(self, gathering: Gathering) -> None:
        """Find entries, now or when they have come. `done` or `failed` is called once, maybe at once."""
        holdings = self._holdings
        now = holdings.now
        holding = holdings.of_channel(gathering.channel)
        assert holding is not None, "gateway and HTTP check names"
        if len(self.flights) + len(gathering.keys) > MAX_FLIGHTS:
            gathering.failed(SyncdError(ErrorCode.OVERLOADED, after_ms=500))
            return
        for key in gathering.keys:
            place = (gathering.channel, key)
            entry = holding.memory.look_up(place, now)
            if entry is not None and self._may_serve(holding, place, entry, gathering):
                self._find(gathering, place, entry)
            else:
                gathering.num_missing += 1
                gathering.has_waited = True
                self._want(holding, place, entry, waiter=gathering)
        self._finish(gathering)

    def fetch(self, places: Sequence[Place], done: Callable[[SyncdError | None], None]) -> None:
        """Bring entries of any channels into `Holdings.borrowed`; `done` is called once, maybe at once."""
        by_channel: dict[ChannelName, list[KeyName]] = {}
        for channel, key in places:
            by_channel.setdefault(channel, []).append(key)
        left = len(by_channel)

        def finish(error: SyncdError | None) -> None:
            nonlocal left
            if left <= 0:
                return
            left = 0 if error is not None else left - 1
            if left == 0:
                done(error)

        def found(_entries: list[EntryState], _position: Position) -> None:
            finish(None)

        for channel, keys in by_channel.items():
            self.gather(Gathering(channel, keys, found, finish, needs_fresh=True))

    def _may_serve(
        self, holding: Holding, place: Place, entry: CachedEntry, gathering: Gathering
    ) -> bool:
        freshness = holding.freshness(place, entry, self._holdings.now)
        if freshness is Freshness.FRESH:
            return True
        if freshness is Freshness.DEAD or gathering.needs_fresh:
            return False
        if gathering.client is not None and gathering.client == entry.writer:
            return False
        self.refresh(holding, place, entry)
        return True

    def refresh(
        self, holding: Holding, place: Place, entry: CachedEntry | None, *, num_watching: int = 0
    ) -> bool:
        """Have an entry loaded anew though nobody waits.

        Returns:
            Whether it is on its way. Not if its last failure is to be waited out, its source has not heard of a change yet, or there
            is no room.
        """
        flight = self.flights.get(place)
        if flight is not None:
            flight.num_watching = max(flight.num_watching, num_watching)
            return True
        failure = holding.failures.find(place, self._holdings.now)
        if failure is not None or holding.is_dirty(place) or not holding.has_source:
            return False
        if len(self.flights) >= MAX_FLIGHTS:
            return False
        self._want(holding, place, entry, num_watching=num_watching)
        return True

    def _want(
        self,
        holding: Holding,
        place: Place,
        entry: CachedEntry | None,
        *,
        waiter: Gathering | None = None,
        num_watching: int = 0,
    ) -> None:
        """Have an entry brought; joins the flight that is under way, if there is one. It may land at once."""
        flight = self.flights.get(place)
        is_new = flight is None
        if flight is None:
            flight = Flight(place, holding, known=entry, num_watching=num_watching)
            self.flights[place] = flight
        if waiter is not None:
            flight.waiters.append(waiter)
        if not is_new:
            return
        if entry is None and not holding.is_volatile:
            self._to_page.setdefault(place[0], []).append(flight)
        else:
            self._ask_source(flight)

    def _find(self, gathering: Gathering, place: Place, entry: CachedEntry) -> None:
        key = place[1]
        position = self._holdings.head(place[0])
        assert position is not None, "what is in memory is as of a position"
        version = entry.version if entry.value is not None else position.offset
        gathering.found[key] = EntryState(key, version, entry.value)
        known = gathering.position
        if known is not None and known.epoch != position.epoch:
            gathering.is_torn = True
        if known is None or position.offset < known.offset:
            gathering.position = position
        if gathering.needs_fresh and place in self._holdings.borrowers:
            self._holdings.borrowed[place] = entry

    def _finish(self, gathering: Gathering) -> None:
        if gathering.num_missing or gathering.is_over:
            return
        if gathering.is_torn:
            gathering.begin_again()
            self.gather(gathering)
            return
        gathering.is_over = True
        position = gathering.position
        assert position is not None, "at least one key was asked for"
        if gathering.has_waited and not gathering.needs_fresh:
            self._find_newer(gathering)
        gathering.done([gathering.found[key] for key in gathering.keys], position)

    def _find_newer(self, gathering: Gathering) -> None:
        """Take what changed while the last of it was on its way, so that everything is as of one moment."""
        holding, now = self._holdings.of_channel(gathering.channel), self._holdings.now
        assert holding is not None, "gateway and HTTP check names"
        for key, state in list(gathering.found.items()):
            entry = holding.memory.peek((gathering.channel, key), now)
            if entry is None:
                continue
            if entry.value is not None and entry.version > state.version:
                gathering.found[key] = EntryState(key, entry.version, entry.value)
            elif entry.value is None and state.value is not None:
                self._find(gathering, (gathering.channel, key), entry)

    # ---------------------------------------------------------------- from the store

    def flush(self) -> None:
        """Ask the store for what this batch needs of it."""
        to_page, self._to_page = self._to_page, {}
        for channel, flights in to_page.items():
            for start in range(0, len(flights), KEYS_PER_JOB):
                self._page(channel, flights[start : start + KEYS_PER_JOB])

    def _page(self, channel: ChannelName, flights: list[Flight]) -> None:
        keys = [flight.place[1] for flight in flights]

        with_dirty = self._is_shared and flights[0].holding.is_forwarded

        def work(reader: StateReader) -> LookedUp:
            return reader.look_up(channel, keys, with_dirty=with_dirty)

        def done(answer: LookedUp | SyncdError) -> None:
            self._post(EntriesPaged(channel, flights, answer))

        self._store.read_state(work, done)

    def paged(self, message: EntriesPaged) -> None:
        """The store has answered: what is there is in memory now, the rest is up to the source."""
        answer = message.answer
        flights = [each for each in message.flights if self.flights.get(each.place) is each]
        if isinstance(answer, SyncdError):
            for flight in flights:
                self.fail(flight, answer)
            return
        holdings = self._holdings
        holdings.read(message.channel, answer.position)
        holding = message.flights[0].holding
        for key in answer.dirty:
            # Its source has not heard of it: asked now, it would tell what was before.
            holding.dirty_elsewhere.add((message.channel, key))
        entries = {entry.key: entry for entry in answer.entries}
        for flight in flights:
            if flight.is_outdated and self._is_shared:
                # Another node has changed it since the store was read, and memory would never hear of that again.
                flight.is_outdated = flight.is_changed = False
                self._to_page.setdefault(message.channel, []).append(flight)
                continue
            flight.is_paged, flight.is_changed = True, False
            place, holding = flight.place, flight.holding
            entry = holding.memory.peek(place, holdings.now)
            stored = entries.get(place[1])
            if entry is None and stored is not None:
                entry = holding.entry_from_store(stored)
                holding.counts.paged_in += 1
                holding.memory.keep(place, entry, holdings.now)
            self._paged_one(flight, entry)

    def _paged_one(self, flight: Flight, entry: CachedEntry | None) -> None:
        holding, place = flight.holding, flight.place
        flight.known = entry
        if entry is not None and holding.is_usable(place, entry, self._holdings.now):
            self.settle(flight, entry)
        elif entry is None and holding.definition.loader is None:
            absent = CachedEntry(0, None)
            holding.memory.keep(place, absent, self._holdings.now)
            self.settle(flight, absent)
        else:
            self._ask_source(flight)

    def _serve_stale(self, flight: Flight, entry: CachedEntry | None) -> None:
        """Whoever may be served what came from the store need not wait for the source."""
        if (
            entry is None
            or flight.holding.freshness(flight.place, entry, self._holdings.now)
            is not Freshness.STALE
        ):
            return
        waiters, flight.waiters = flight.waiters, []
        for gathering in waiters:
            own = gathering.client is not None and gathering.client == entry.writer
            if gathering.needs_fresh or own:
                flight.waiters.append(gathering)
            else:
                self._land(flight, gathering, entry)

    # ---------------------------------------------------------------- from the source

    def _ask_source(self, flight: Flight) -> None:
        holding = flight.holding
        if holding.definition.loader is None:
            absent = CachedEntry(0, None)
            self._holdings.head(flight.place[0])
            holding.memory.keep(flight.place, absent, self._holdings.now)
            self.settle(flight, absent)
            return
        failure = holding.failures.find(flight.place, self._holdings.now)
        if failure is not None:
            after_ms = int((failure.retry_at - self._holdings.now) * 1000) + 1
            self.fail(flight, SyncdError(ErrorCode.LOAD_FAILED, after_ms=after_ms))
        elif holding.is_dirty(flight.place):
            # So many are dirty that this one may be, as deleted: what the source has of it may not be taken.
            self.fail(flight, SyncdError(ErrorCode.OVERLOADED, after_ms=1000))
        else:
            self._load(flight)

    def changed(self, place: Place) -> None:
        """An entry is another one now."""
        self.outdate(place)
        flight = self.flights.get(place)
        if flight is not None:
            flight.is_changed = True

    def changed_all(self, channels: Callable[[ChannelName], bool]) -> None:
        """All entries of these channels may be others now."""
        self.outdate_all(channels)
        for place, flight in self.flights.items():
            if channels(place[0]):
                flight.is_changed = True

    def outdate(self, place: Place) -> None:
        """An entry was changed or invalidated: a load under way may bring something older."""
        flight = self.flights.get(place)
        if flight is not None:
            flight.is_outdated = True

    def outdate_all(self, channels: Callable[[ChannelName], bool]) -> None:
        """All entries of these channels were invalidated."""
        for place, flight in self.flights.items():
            if channels(place[0]):
                flight.is_outdated = True

    def begin_again(self, flight: Flight) -> None:
        """What a flight brought is not to be used: look at what there is now, and load once more if need be."""
        flight.holding.counts.loads_discarded += 1
        flight.num_reruns += 1
        if flight.num_reruns > MAX_RERUNS:
            self.fail(flight, SyncdError(ErrorCode.LOAD_FAILED, after_ms=250))
        else:
            self.look_anew(flight)

    def look_anew(self, flight: Flight) -> None:
        """See what there is of a key now, and load it if need be."""
        flight.is_outdated = flight.is_changed = False
        entry = flight.holding.memory.peek(flight.place, self._holdings.now)
        if entry is None and not flight.holding.is_volatile:
            self._to_page.setdefault(flight.place[0], []).append(flight)
        elif entry is not None and flight.holding.is_usable(
            flight.place, entry, self._holdings.now
        ):
            self.settle(flight, entry)
        else:
            flight.known = entry
            self._ask_source(flight)

    # ---------------------------------------------------------------- landing

    def settle(self, flight: Flight, entry: CachedEntry) -> None:
        """A flight has brought its entry."""
        self.flights.pop(flight.place, None)
        self.on_settled(flight)
        for gathering in flight.waiters:
            self._land(flight, gathering, entry)

    def _land(self, flight: Flight, gathering: Gathering, entry: CachedEntry) -> None:
        self._find(gathering, flight.place, entry)
        gathering.num_missing -= 1
        self._finish(gathering)

    def fail(self, flight: Flight, error: SyncdError) -> None:
        """A flight could not bring its entry: who may be served something stale is, the others are told."""
        self.flights.pop(flight.place, None)
        self.on_failed(flight, error)
        entry = flight.holding.memory.peek(flight.place, self._holdings.now)
        self._serve_stale(flight, entry)
        for gathering in flight.waiters:
            if not gathering.is_over:
                gathering.is_over = True
                gathering.failed(error)

    def fail_all(self, error: SyncdError) -> None:
        """Tell everybody who waits."""
        flights, self.flights = self.flights, {}
        self._to_page.clear()
        for flight in flights.values():
            for gathering in flight.waiters:
                if not gathering.is_over:
                    gathering.is_over = True
                    gathering.failed(error)
