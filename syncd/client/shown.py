"""What the watches show: predictions over confirmed entries, kept so that what did not change keeps its identity. Pure.

Owned by `StateCore`. Invariant: after `renew`, `_values` holds every entry that is there, as predicted, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from syncd.client.local_tx import Place
from syncd.client.pending import Predictions
from syncd.client.values import NOTHING, is_same
from syncd.client.watch import Watch, WatchedChannel
from syncd.client.watching import WatchTable

__all__ = ["Shown"]


class Shown:
    """Values by collection and key."""

    def __init__(self, watching: WatchTable, predictions: Predictions) -> None:
        self._watching = watching
        self._predictions = predictions
        self._values: dict[str, dict[str, Any]] = {}
        """By collection and key."""
        self._new: set[int] = set()

    # -------------------------------------------------------------------------------- looking

    def _channels(self, place: Place) -> Iterator[WatchedChannel]:
        """Yield the channels that may hold an entry."""
        collection, key = place
        partition, slash, _ = key.partition("/")
        names = (f"{collection}/{partition}", collection) if slash else (collection,)
        for name in names:
            channel = self._watching.channels.get(name)
            if channel is not None and channel.collection == collection:
                yield channel

    def confirmed(self, place: Place) -> tuple[Any, int, bool]:
        """Return an entry's confirmed value (or `NOTHING`), its version, and whether that is known."""
        is_known = False
        for channel in self._channels(place):
            value = channel.value(place[1])
            if value is not NOTHING:
                assert channel.shown is not None
                return value, channel.shown.version(place[1]), True
            is_known = is_known or any(
                watch.is_shown and watch.selection.covers(place[1]) for watch in channel.watches
            )
        return NOTHING, 0, is_known

    def holds(self, place: Place, client: str, mid: int) -> bool:
        """Return whether what is confirmed and shown of an entry holds what became of a mutation."""
        return any(channel.holds(place[1], client, mid) for channel in self._channels(place))

    def _selected(self, watch_id: int) -> Watch | None:
        watch = self._watching.watches.get(watch_id)
        return watch if watch is not None and watch.is_shown else None

    def get(self, watch_id: int, key: str) -> Any:
        """Return what a watch shows of an entry, or `NOTHING`."""
        watch = self._selected(watch_id)
        if watch is None or not watch.selection.covers(key):
            return NOTHING
        return self._values.get(watch.selection.collection, {}).get(key, NOTHING)

    def items(self, watch_id: int) -> dict[str, Any]:
        """Return everything a watch shows, by key, sorted."""
        watch = self._selected(watch_id)
        if watch is None:
            return {}
        values = self._values.get(watch.selection.collection, {})
        if watch.selection.keys is not None:
            return {key: values[key] for key in sorted(watch.selection.keys) if key in values}
        return {key: values[key] for key in sorted(values) if watch.selection.covers(key)}

    def pending_of(self, watch_id: int, key: str) -> tuple[int, ...]:
        """Return the ids of the pending mutations that change an entry."""
        watch = self._watching.watches.get(watch_id)
        if watch is None:
            return ()
        predicted = self._predictions.predicted((watch.selection.collection, key))
        return () if predicted is None else predicted.ids

    # -------------------------------------------------------------------------------- renewing

    def forget(self, watch_id: int) -> None:
        """A watch is over."""
        self._new.discard(watch_id)

    def renew(self, changed: set[Place]) -> list[tuple[int, set[str], bool]]:
        """Show what has changed.

        Returns:
            For each watch that shows something else now: its number, the keys, and whether it is current.
        """
        for place in changed:
            self._renew_one(place)
        told = []
        for watch in self._watching.watches.values():
            if not watch.is_shown:
                continue
            selection = watch.selection
            keys = {k for c, k in changed if c == selection.collection and selection.covers(k)}
            if watch.id not in self._new:
                self._new.add(watch.id)
                keys.update(self.items(watch.id))
            elif not keys and watch.was_current == watch.is_live:
                continue
            watch.was_current = watch.is_live
            told.append((watch.id, keys, watch.is_live))
        return told

    def _renew_one(self, place: Place) -> None:
        collection, key = place
        values = self._values.setdefault(collection, {})
        predicted = self._predictions.predicted(place)
        value = self.confirmed(place)[0] if predicted is None else predicted.value
        if value is NOTHING:
            values.pop(key, None)
        elif key not in values or not is_same(values[key], value):
            values[key] = value
