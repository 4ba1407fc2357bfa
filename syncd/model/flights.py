"""Loads under way: one a key, what happened to the key meanwhile, and who waits for whom.

A `Flight` is one load, with all who wait for it. It is *abandoned* when it ended without a result (cancelled, interrupted), *outdated* when its key was written, invalidated or cleared after it took off:
what it brings may be older than that, is not kept, and is loaded once more.

Loads may wait for other loads (a loader that reads other keys). Each flight knows those it waits for, so a wait that would close
a circle, and never end, is seen before it begins: `circle`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any, Generic, TypeVar

__all__ = ["Flight", "Flights", "circle"]

K = TypeVar("K", bound=Hashable)


class Flight(Generic[K]):
    """One load.

    Args:
        key: What is loaded.
        run: Tells apart those who cannot wait for each other (event loops).
        is_refresh: Nobody asked for it: a stale value was served meanwhile.
        gate: What its owner lets waiters wait at.
    """

    __slots__ = (
        "began_at",
        "error",
        "gate",
        "is_abandoned",
        "is_outdated",
        "is_refresh",
        "is_settled",
        "key",
        "num_reruns",
        "num_waiting",
        "outdated_tags",
        "run",
        "value",
        "waits_for",
    )

    def __init__(self, key: K, run: object, *, is_refresh: bool, gate: Any) -> None:
        self.key = key
        self.run = run
        self.is_refresh = is_refresh
        self.gate = gate
        self.is_settled = self.is_abandoned = False
        self.value: Any = None
        self.error: BaseException | None = None
        self.is_outdated = False
        self.outdated_tags: set[str] = set()
        self.num_waiting = self.num_reruns = 0
        self.began_at = 0.0
        self.waits_for: list[Flight[Any]] = []

    def is_outdated_by(self, tags: Iterable[str]) -> bool:
        """Whether what it brings, with these tags, may be older than the last change."""
        return self.is_outdated or not self.outdated_tags.isdisjoint(tags)

    def begin_again(self) -> None:
        """Load once more: what happened until now is in it."""
        self.num_reruns += 1
        self.is_outdated = False
        self.outdated_tags.clear()


class Flights(Generic[K]):
    """The loads of one cache. Invariant: at most one a key and run."""

    def __init__(self) -> None:
        self.by_key: dict[K, list[Flight[K]]] = {}
        """Empty most of the time, which hot paths look at first."""

    def __len__(self) -> int:
        return sum(map(len, self.by_key.values()))

    def find(self, key: K, run: object = None) -> Flight[K] | None:
        """The flight that brings this key to this run."""
        return next((each for each in self.by_key.get(key, ()) if each.run is run), None)

    def open(
        self, key: K, run: object = None, *, is_refresh: bool = False, gate: Any = None
    ) -> Flight[K]:
        """Begin a flight; there must be none."""
        flight = Flight(key, run, is_refresh=is_refresh, gate=gate)
        self.by_key.setdefault(key, []).append(flight)
        return flight

    def close(self, flight: Flight[K]) -> bool:
        """Take a flight out, however it ended. Returns whether it was still there."""
        flights = self.by_key.get(flight.key, [])
        if flight not in flights:
            return False
        flights.remove(flight)
        if not flights:
            del self.by_key[flight.key]
        return True

    def outdate(self, key: K) -> None:
        """The key changed."""
        for flight in self.by_key.get(key, ()):
            flight.is_outdated = True

    def outdate_tag(self, tag: str) -> None:
        """Whatever has this tag changed; which loads that concerns is known when they land."""
        for flights in self.by_key.values():
            for flight in flights:
                flight.outdated_tags.add(tag)

    def outdate_all(self) -> None:
        """Everything changed."""
        for flights in self.by_key.values():
            for flight in flights:
                flight.is_outdated = True


def circle(own: Flight[Any], other: Flight[Any]) -> list[Flight[Any]]:
    """Return the flights between `other` and `own`, both included, that would wait in a circle if `own` waited for `other`.

    Empty if there is no such circle.
    """
    came_from: dict[int, Flight[Any] | None] = {id(other): None}
    stack = [other]
    while stack:
        flight = stack.pop()
        if flight is own:
            path: list[Flight[Any]] = []
            step: Flight[Any] | None = flight
            while step is not None:
                path.append(step)
                step = came_from[id(step)]
            return path[::-1]
        for waited in flight.waits_for:
            if id(waited) not in came_from:
                came_from[id(waited)] = flight
                stack.append(waited)
    return []
