"""What operators ask of collections in memory: counts, limits, clearing, warming up.

Owner of nothing. Which keys were hottest is remembered in the store now and then, so that a node that starts can warm up.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgpack
import structlog

from syncd.actors.cache_owner.fetching import Fetching
from syncd.actors.cache_owner.gathering import Gathering
from syncd.actors.cache_owner.holdings import Holding, Holdings
from syncd.actors.cache_owner.paging import KEYS_PER_JOB
from syncd.actors.kit_application import application_code
from syncd.codes import ErrorCode
from syncd.errors import RequestRejected, SyncdError
from syncd.ids import Position
from syncd.model.collection_memory import Limits
from syncd.model.recording import Place, Rejected
from syncd.ports_collections import ClearCache, EntryState, WarmCache
from syncd.ports_state import KeyName, StateReader, StateStoreHandle

__all__ = ["Upkeep"]

_log = structlog.get_logger("syncd.collections")

MAX_WARM = 10_000
"""Keys of one warm-up, and hottest keys remembered."""


class Upkeep:
    """Looks after collections for operators."""

    def __init__(
        self,
        holdings: Holdings,
        fetching: Fetching,
        store: StateStoreHandle,
        *,
        call: Callable[[Callable[[], None]], None],
    ) -> None:
        self._holdings = holdings
        self._fetching = fetching
        self._store = store
        self._call = call
        self._asked: set[WarmCache] = set()

    # ---------------------------------------------------------------- counts and limits

    def statistics(self) -> dict[str, dict[str, Any]]:
        """See `CacheOwnerHandle.cache_statistics`."""
        return {name: self._of(holding) for name, holding in self._holdings.by_name.items()}

    def _of(self, holding: Holding) -> dict[str, Any]:
        memory, counts = holding.memory, holding.counts
        lookups = memory.hits + memory.stale_hits + memory.misses
        loads = counts.loads
        return {
            "num_entries": len(memory),
            "num_bytes": memory.num_bytes,
            "lookups": lookups,
            "hits": memory.hits,
            "negative_hits": memory.negative_hits,
            "stale_hits": memory.stale_hits,
            "misses": memory.misses,
            "hit_rate": (memory.hits + memory.stale_hits) / lookups if lookups else 0.0,
            "evictions": memory.evictions,
            "paged_in": counts.paged_in,
            "loads": loads,
            "keys_loaded": counts.keys_loaded,
            "load_failures": counts.load_failures,
            "loads_discarded": counts.loads_discarded,
            "load_waits": counts.load_waits,
            "keys_taken": counts.keys_taken,
            "load_ms_mean": counts.load_s_total / loads * 1000 if loads else 0.0,
            "load_ms_max": counts.load_s_max * 1000,
            "invalidations": counts.invalidations,
            "mutations_ok": counts.mutations_ok,
            "mutations_rejected": counts.mutations_rejected,
            "conflicts": counts.conflicts,
            "dirty": len(holding.dirty),
            "forwarded": counts.forwarded,
            "forward_failures": counts.forward_failures,
        }

    def settings(self) -> dict[str, dict[str, Any]]:
        """See `CacheOwnerHandle.cache_settings`."""
        return {name: _settings(each) for name, each in self._holdings.by_name.items()}

    def change(self, collection: str, changes: Mapping[str, Any]) -> dict[str, Any]:
        """See `CacheOwnerHandle.change_settings`."""
        holding = self._holdings.holding(collection)
        settings = _settings(holding)
        for name, value in changes.items():
            if name not in settings:
                raise RequestRejected(ErrorCode.BAD_REQUEST, f"There is no setting {name[:64]!r}.")
            settings[name] = _checked(holding, name, value)
        holding.memory.change_limits(Limits(**settings), self._holdings.tick())
        return _settings(holding)

    # ---------------------------------------------------------------- clear

    def clear(self, command: ClearCache) -> None:
        """Forget what is in memory. Raises what its asker is told."""
        command.done({each.name: each.memory.clear() for each in self._named(command.collection)})

    def _named(self, collection: str | None) -> list[Holding]:
        if collection is None:
            return list(self._holdings.by_name.values())
        return [self._holdings.holding(collection)]

    # ---------------------------------------------------------------- warm

    def warm(self, command: WarmCache) -> None:
        """Bring entries into memory and tell how many. Raises what its asker is told."""
        holdings = self._named(command.collection)
        warmed: dict[str, int] = {}

        def finish(name: str, count: int) -> None:
            warmed[name] = count
            if len(warmed) == len(holdings):
                self._asked.discard(command)
                command.done(warmed)

        self._asked.add(command)
        for holding in holdings:
            self._warm(holding, command.keys, finish)

    def _warm(
        self,
        holding: Holding,
        keys: Sequence[KeyName] | None,
        finish: Callable[[str, int], None],
    ) -> None:
        if keys is not None:
            self.bring(holding, keys, lambda count: finish(holding.name, count))
            return

        def done(answer: list[KeyName] | SyncdError) -> None:
            hot = [] if isinstance(answer, SyncdError) else answer
            self._call(lambda: self.bring(holding, hot, lambda n: finish(holding.name, n)))

        self._store.read_state(lambda reader: _hottest(reader, holding.name), done)

    async def warm_up(self) -> None:
        """Begin to warm up all collections, as a node does at its start."""
        for holding in self._holdings.by_name.values():
            warm = holding.definition.warm
            if callable(warm):
                try:
                    with application_code:
                        keys = list(await warm())
                except Exception as failure:  # noqa: BLE001 - isolation: an application's warm-up concerns nobody else
                    _log.error("warm_up_failed", collection=holding.name, exc_info=failure)
                    continue
                self._call(functools.partial(self.bring, holding, keys, _ignore))
            elif warm:
                self.warm_hottest(holding)

    def warm_hottest(self, holding: Holding) -> None:
        """Warm up as a node does at its start."""
        self._warm(holding, None, _note_warmed)

    def bring(self, holding: Holding, keys: Sequence[str], done: Callable[[int], None]) -> None:
        """Bring entries into memory, in parts; `done` gets how many there are."""
        places: list[Place] = []
        for key in keys[:MAX_WARM]:
            try:
                places.append(holding.rules.place(key))
            except Rejected:
                continue
        _Warming(self._fetching, self._call, places, done).go_on()

    def fail_all(self, error: SyncdError) -> None:
        """Tell everybody who waits."""
        asked, self._asked = self._asked, set()
        for command in asked:
            command.done(error)

    # ---------------------------------------------------------------- hottest

    def remember_hottest(self) -> None:
        """Let the store keep which keys were used last, for those collections that warm up by that."""
        for holding in self._holdings.by_name.values():
            count = holding.definition.warm
            if isinstance(count, int) and count > 0 and not holding.is_volatile:
                keys = [place[1] for place in holding.memory.newest(min(count, MAX_WARM))]
                self._store.remember(_note_of(holding.name), msgpack.packb(keys))


class _Warming:
    """One warm-up: a part at a time, so that others have their turn."""

    def __init__(
        self,
        fetching: Fetching,
        call: Callable[[Callable[[], None]], None],
        places: list[Place],
        done: Callable[[int], None],
    ) -> None:
        self._fetching = fetching
        self._call = call
        self._left = places
        self._done = done
        self._count = 0

    def go_on(self) -> None:
        """Bring the next part: keys of one channel."""
        if not self._left:
            self._done(self._count)
            return
        channel = self._left[0][0]
        part = [place[1] for place in self._left if place[0] == channel][:KEYS_PER_JOB]
        taken = {(channel, key) for key in part}
        self._left = [place for place in self._left if place not in taken]
        self._fetching.gather(Gathering(channel, part, self._brought, self._failed))

    def _brought(self, entries: list[EntryState], _position: Position) -> None:
        self._count += sum(entry.value is not None for entry in entries)
        self._call(self.go_on)

    def _failed(self, _error: SyncdError) -> None:
        self._call(self.go_on)


def _ignore(_count: int) -> None:
    """Nobody waits."""


def _note_warmed(collection: str, count: int) -> None:
    _log.info("warmed_up", collection=collection, num_entries=count)


def _note_of(collection: str) -> str:
    return f"hottest:{collection}"


def _hottest(reader: StateReader, collection: str) -> list[KeyName]:
    noted = reader.meta_get(_note_of(collection))
    keys: list[KeyName] = [] if noted is None else msgpack.unpackb(noted)
    return keys


def _settings(holding: Holding) -> dict[str, Any]:
    limits = holding.memory.limits
    return {
        "max_entries": limits.max_entries,
        "max_bytes": limits.max_bytes,
        "ttl_s": limits.ttl_s,
        "stale_s": limits.stale_s,
    }


def _checked(holding: Holding, name: str, value: Any) -> Any:
    """Return a setting's new value.

    Raises:
        RequestRejected: bad_request, with what it must be.
    """
    is_number = type(value) in (int, float)
    if name in ("max_entries", "max_bytes"):
        if type(value) is not int or value < 1:
            raise RequestRejected(ErrorCode.BAD_REQUEST, f"{name} must be an integer above 0.")
    elif name == "ttl_s" and value is None:
        return None
    elif not is_number or not 0 <= value < float("inf") or (name == "ttl_s" and value == 0):
        raise RequestRejected(ErrorCode.BAD_REQUEST, f"{name} must be a number of seconds.")
    elif not holding.has_source and value:
        raise RequestRejected(
            ErrorCode.BAD_REQUEST,
            f"{name}: entries of this collection have no source to expire for.",
        )
    return value
