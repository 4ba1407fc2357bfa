"""What a cached function decides, for threads and tasks alike: serve, load, wait for another's load, or refuse.

Nothing here waits; the shells in `threads` and `tasks` do, and report how each load ended. Every decision is made under the cache's
lock, in one piece with the lookup it follows from, so a key has one load at most and every count is exact.

Who loads sets `current_flight`, a context variable that follows into child tasks and `trio.to_thread`. A read from inside a load is
known by it: the wait of that load is written down (`Flight.waits_for`), and one that would close a circle is refused.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Hashable, Iterable
from typing import Any, Generic, TypeVar

import attrs

from syncd.cache.errors import CircularLoad, NotFound, twin_of
from syncd.cache.lru_cache import LRUCache
from syncd.cache.statistics import CallStatistics, LoadStatistics
from syncd.model.failures import Backoff, Failures
from syncd.model.flights import Flight, circle
from syncd.model.lru_facts import ABSENT, State
from syncd.model.value_sizes import size_of

__all__ = ["Found", "Landing", "Loads", "Pending", "Policy", "current_flight"]

K = TypeVar("K", bound=Hashable)

MAX_RERUNS = 3
"""A key that changes during every load: after so many repetitions callers get what there is, and it is not kept."""

current_flight: contextvars.ContextVar[Flight[Any] | None] = contextvars.ContextVar(
    "syncd_cache_flight", default=None
)
"""The load that this code runs for."""

_waits = threading.Lock()
"""Guards `waits_for` of all flights of all caches; taken inside a cache's lock, and only for reads from inside a load."""


@attrs.frozen
class Policy:
    """How a cached function loads, besides the lifetimes of its cache. Seconds."""

    negative_ttl: float | None
    backoff: Backoff | None
    max_refreshes: int
    size: Callable[[Any], int]
    tags: Callable[..., Iterable[str]] | None


@attrs.define
class Found:
    """A value to return now, and the refresh to begin in the background, if any."""

    value: Any
    refresh: Flight[Any] | None


@attrs.define
class Pending:
    """A load to begin (`is_leader`) or to wait for."""

    flight: Flight[Any]
    waiter: Flight[Any] | None
    """The load that waits for it, if the reader is inside one."""
    is_leader: bool


@attrs.define
class Landing:
    """What one run of the loader brought."""

    value: Any
    error: Exception | None
    size_bytes: int
    tags: tuple[str, ...] = ()


class Loads(Generic[K]):
    """The loads of one cached function, with its counts.

    Args:
        cache: What they fill. Its lock guards everything here.
        make_gate: Makes what waiters of one flight wait at; closed at first.
    """

    def __init__(
        self, cache: LRUCache[K, Any], policy: Policy, make_gate: Callable[[], Any]
    ) -> None:
        self.cache = cache
        self._core = cache.core
        self._policy = policy
        self._make_gate = make_gate
        backoff = policy.backoff
        self._failures: Failures[K] | None = (
            None if backoff is None else Failures(backoff, self._core.chance)
        )
        self._started = self._succeeded = self._not_found = self._failed = self._abandoned = 0
        self._refreshes = self._reruns = self._joined = self._refused = self._circular = 0
        self._num_refreshing = 0
        self._seconds = self._longest_s = 0.0

    # ---------------------------------------------------------------------------------------- before

    def step(self, key: K, run: object, *, is_retry: bool) -> Found | Pending:
        """Decide about a call that found nothing fresh.

        Args:
            run: The caller's event loop, or None.
            is_retry: The load this caller waited for was abandoned; the call has been counted.

        Raises:
            NotFound: The key is known to be absent.
            CircularLoad: The caller's own load would wait for itself.
            Exception: A copy of the last error, if it is too early to try again.
        """
        core = self._core
        with core.lock:
            now = core.clock()
            self._joined -= is_retry
            state, value = (core.lru.peek if is_retry else core.lru.look)(key, now)
            if state is not State.MISS:
                self._joined += is_retry
                if state is State.ABSENT:
                    raise NotFound(key)
                return Found(value, self._refresh(key, run, now) if state is State.STALE else None)
            self._refuse_early(key, now)
            flight = core.flights.find(key, run)
            if flight is None:
                flight = self._open(key, run, is_refresh=False)
                return Pending(flight, self._wait(flight), is_leader=True)
            waiter = self._wait(flight)
            self._joined += 1
            return Pending(flight, waiter, is_leader=False)

    def _refresh(self, key: K, run: object, now: float) -> Flight[K] | None:
        """Begin a refresh unless there is a load already, or it is too early, or too many are under way."""
        if (
            self._num_refreshing >= self._policy.max_refreshes
            or self._core.flights.find(key, run) is not None
            or (self._failures is not None and self._failures.find(key, now) is not None)
        ):
            return None
        self._num_refreshing += 1
        self._refreshes += 1
        return self._open(key, run, is_refresh=True)

    def _open(self, key: K, run: object, *, is_refresh: bool) -> Flight[K]:
        self._started += 1
        gate = self._make_gate()
        flight = self._core.flights.open(key, run, is_refresh=is_refresh, gate=gate)
        flight.began_at = self._core.clock()
        return flight

    def _refuse_early(self, key: K, now: float) -> None:
        failure = None if self._failures is None else self._failures.find(key, now)
        if failure is None:
            return
        self._refused += 1
        error = twin_of(failure.error)
        error.add_note(
            f"Remembered by the cache: this load failed {now - failure.failed_at:.3g} s ago, attempt "
            f"{failure.num_in_row} in a row; the next may be in {failure.retry_at - now:.3g} s."
        )
        raise error

    def _wait(self, flight: Flight[K]) -> Flight[Any] | None:
        """Write down that the load we are in, if any, waits for `flight`; return that load."""
        own = current_flight.get()
        if own is None or own.is_settled:
            return None
        with _waits:
            path = circle(own, flight)
            if not path:
                own.waits_for.append(flight)
                return own
        self._circular += 1
        keys = " -> ".join(repr(each.key) for each in [own, *path])
        raise CircularLoad(f"loads wait for each other: {keys}")

    # ---------------------------------------------------------------------------------------- after

    def brought(self, value: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Landing:
        """Weigh and tag what the loader returned. Runs the application's `size` and `tags`, so outside the lock."""
        policy = self._policy
        tags = () if policy.tags is None else tuple(policy.tags(value, *args, **kwargs))
        return Landing(value, None, policy.size(value), tags)

    def land(self, flight: Flight[K], landing: Landing) -> bool:
        """End a flight with what the loader brought. Returns False if it has to load again: the key changed meanwhile."""
        core = self._core
        with core.lock:
            is_outdated = flight.is_outdated_by(landing.tags)
            if is_outdated and flight.num_reruns < MAX_RERUNS and not flight.is_settled:
                flight.begin_again()
                self._reruns += 1
                return False
            if self._settle(flight, landing.value, landing.error):
                is_nothing = landing.error is not None or self._is_nothing(landing.value)
                self._not_found += is_nothing
                self._succeeded += not is_nothing
                if self._failures is not None:
                    self._failures.forget(flight.key)
                if not is_outdated:
                    self._keep(flight.key, landing)
            return True

    def _is_nothing(self, value: Any) -> bool:
        return value is None and self._policy.negative_ttl is not None

    def _keep(self, key: K, landing: Landing) -> None:
        """Put what was loaded into the cache."""
        lru, now = self._core.lru, self._core.clock()
        negative_ttl, own = self._policy.negative_ttl, self._core.lifetimes
        size_bytes = landing.size_bytes + size_of(key)
        if landing.error is not None and negative_ttl is None:
            lru.remove(key, now)
        elif negative_ttl is not None and (landing.error is not None or landing.value is None):
            value = None if landing.error is None else ABSENT
            lru.put(key, value, size_bytes, now, ttl_s=negative_ttl, tags=landing.tags)
        else:
            lru.put(
                key,
                landing.value,
                size_bytes,
                now,
                ttl_s=own.ttl_s,
                stale_s=own.stale_s,
                jitter=own.jitter,
                tags=landing.tags,
            )

    def fail(self, flight: Flight[K], error: Exception) -> None:
        """End a flight with the loader's error."""
        with self._core.lock:
            if self._settle(flight, None, error):
                self._failed += 1
                if self._failures is not None and not isinstance(error, CircularLoad):
                    self._failures.add(flight.key, twin_of(error), self._core.clock())

    def abandon(self, flight: Flight[K], error: BaseException | None = None) -> None:
        """End a flight that has no result. Does nothing to one that has ended.

        Args:
            error: What interrupted it, if those who wait shall have it too; else they try again.
        """
        with self._core.lock:
            if self._settle(flight, None, error):
                flight.is_abandoned = error is None
                self._abandoned += 1

    def _settle(self, flight: Flight[K], value: Any, error: BaseException | None) -> bool:
        """Take a flight out and give it its result; False if that was done already."""
        if flight.is_settled:
            return False
        self._core.flights.close(flight)
        flight.value, flight.error = value, error
        flight.is_settled = True
        self._num_refreshing -= flight.is_refresh
        took_s = self._core.clock() - flight.began_at
        self._seconds += took_s
        self._longest_s = max(self._longest_s, took_s)
        return True

    def arrived(self, pending: Pending) -> None:
        """The wait is over, one way or another."""
        if pending.waiter is not None:
            with _waits:
                pending.waiter.waits_for.remove(pending.flight)

    # ---------------------------------------------------------------------------------------- asked from outside

    def forget_failure(self, key: K) -> None:
        """Let the next call try at once."""
        with self._core.lock:
            if self._failures is not None:
                self._failures.forget(key)

    def forget_failures(self) -> None:
        """Let every next call try at once."""
        with self._core.lock:
            if self._failures is not None:
                self._failures.clear()

    def statistics(self) -> CallStatistics:
        """All counts at one moment."""
        with self._core.lock:
            ended = self._succeeded + self._not_found + self._failed + self._abandoned
            loads = LoadStatistics(
                started=self._started,
                succeeded=self._succeeded,
                not_found=self._not_found,
                failed=self._failed,
                abandoned=self._abandoned,
                running=self._started - ended,
                refreshes=self._refreshes,
                reruns=self._reruns,
                joined=self._joined,
                refused=self._refused,
                circular=self._circular,
                seconds=self._seconds,
                longest_s=self._longest_s,
            )
            return CallStatistics(cache=self._core.lru.statistics(), loads=loads)
