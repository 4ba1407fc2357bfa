"""`cached`: a function's results kept in an `LRUCache`, one load a key at a time, for plain and for async functions."""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable, Hashable, Iterable
from typing import Any, ParamSpec, Protocol, TypeVar, overload

from syncd.cache import threads
from syncd.cache.errors import NotFound
from syncd.cache.keys import key_maker
from syncd.cache.loads import Loads, Policy
from syncd.cache.lru_cache import NOTHING, LRUCache
from syncd.cache.statistics import CallStatistics
from syncd.model.failures import Backoff
from syncd.model.lru_facts import ABSENT
from syncd.model.value_sizes import size_of

__all__ = ["CachedFunction", "cached"]

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)

_DEFAULT_ENTRIES = 10_000
"""Where neither limit is given: no cache without one."""


class CachedFunction(Protocol[P, R_co]):
    """A function that `cached` has wrapped."""

    cache: LRUCache[Any, Any]
    """Where the results are, by `key`."""
    key: Callable[..., Hashable]
    """The key of a call with these arguments."""
    __wrapped__: Callable[..., Any]
    """The function itself: loads past the cache."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        """As a method, with the instance as the first argument."""
        ...

    def stats(self) -> CallStatistics:
        """Counts of cache and loads at one moment."""
        ...

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Forget the result of this call, and its last failure; a load under way for it is done again.

        Returns:
            Whether there was a result.
        """
        ...

    def invalidate_tag(self, tag: str) -> int:
        """Forget all results with a tag; return how many there were."""
        ...

    def clear(self) -> None:
        """Forget all results and failures; loads under way are done again."""
        ...


@overload
def cached(function: Callable[P, R_co], /) -> CachedFunction[P, R_co]: ...
@overload
def cached(
    *,
    ttl: float | None = ...,
    stale: float = ...,
    jitter: float = ...,
    negative_ttl: float | None = ...,
    backoff: tuple[float, float] | None = ...,
    max_entries: int | None = ...,
    max_bytes: int | None = ...,
    key: Callable[..., Hashable] | None = ...,
    tags: Callable[..., Iterable[str]] | None = ...,
    size: Callable[[Any], int] | None = ...,
    max_refreshes: int = ...,
    clock: Callable[[], float] = ...,
    chance: Callable[[], float] | None = ...,
) -> Callable[[Callable[P, R_co]], CachedFunction[P, R_co]]: ...
def cached(  # noqa: PLR0913 - settings by name, each with a default
    function: Callable[..., Any] | None = None,
    /,
    *,
    ttl: float | None = None,
    stale: float = 0.0,
    jitter: float = 0.0,
    negative_ttl: float | None = None,
    backoff: tuple[float, float] | None = (0.1, 30.0),
    max_entries: int | None = None,
    max_bytes: int | None = None,
    key: Callable[..., Hashable] | None = None,
    tags: Callable[..., Iterable[str]] | None = None,
    size: Callable[[Any], int] | None = None,
    max_refreshes: int = 32,
    clock: Callable[[], float] = time.monotonic,
    chance: Callable[[], float] | None = None,
) -> Any:
    """Keep a function's results. Times are seconds.

    Args:
        function: When used without parentheses.
        ttl: Results are fresh for so long; None for ever.
        stale: Then they are still served for so long, while one caller's request refreshes them in the background.
        jitter: The part of `ttl` that chance may take away, 0 to 1.
        negative_ttl: That there is nothing (the function raised `NotFound`, or returned None) is remembered for so long;
            None to not remember the one and to keep the other like any result.
        backoff: After an error the next attempt waits for the first of these, doubled with each further one up to the second, less up
            to a half; callers get a copy of the error meanwhile, or a stale result. None to try at every call.
        max_entries: At most so many results; 10,000 if neither this nor `max_bytes` is given.
        max_bytes: At most so many bytes of keys, results and bookkeeping.
        key: Takes the call's arguments and returns a hashable key; else all arguments with their defaults.
        tags: Takes the result and the call's arguments and returns tags for `invalidate_tag`.
        size: Takes a result and returns the bytes it holds; else exact or estimated as `LRUCache` does.
        max_refreshes: At most so many refreshes at a time; beyond, stale results are served without.
        clock: Seconds that never go back.
        chance: Uniform in [0, 1).
    """
    if max_entries is None and max_bytes is None:
        max_entries = _DEFAULT_ENTRIES
    if negative_ttl is not None and not negative_ttl > 0:
        raise ValueError(f"negative_ttl must be above 0 seconds, not {negative_ttl}")
    policy = Policy(
        negative_ttl=negative_ttl,
        backoff=None if backoff is None else Backoff(*backoff),
        max_refreshes=max_refreshes,
        size=size or size_of,
        tags=tags,
    )

    def decorate(function: Callable[..., Any]) -> Any:
        cache: LRUCache[Any, Any] = LRUCache(
            max_entries,
            max_bytes=max_bytes,
            ttl=ttl,
            stale=stale,
            jitter=jitter,
            clock=clock,
            chance=chance,
        )
        key_of = key or key_maker(function)
        if inspect.iscoroutinefunction(function):
            wrapper, loads = _async_wrapper(function, cache, policy, key_of)
        else:
            wrapper, loads = _plain_wrapper(function, cache, policy, key_of)
        return _equip(functools.wraps(function)(wrapper), loads, key_of)

    return decorate if function is None else decorate(function)


def _plain_wrapper(
    function: Callable[..., Any],
    cache: LRUCache[Any, Any],
    policy: Policy,
    key_of: Callable[..., Hashable],
) -> tuple[Callable[..., Any], Loads[Any]]:
    loads: Loads[Any] = Loads(cache, policy, threads.make_gate)
    shell = threads.ThreadShell(function, loads)
    hit, load = cache.hit, shell.load

    def call(*args: Any, **kwargs: Any) -> Any:
        key = key_of(*args, **kwargs)
        value = hit(key)
        if value is NOTHING:
            return load(key, args, kwargs)
        if value is ABSENT:
            raise NotFound(key)
        return value

    return call, loads


def _async_wrapper(
    function: Callable[..., Any],
    cache: LRUCache[Any, Any],
    policy: Policy,
    key_of: Callable[..., Hashable],
) -> tuple[Callable[..., Any], Loads[Any]]:
    from syncd.cache import tasks  # noqa: PLC0415 - programs without Trio use plain functions

    loads: Loads[Any] = Loads(cache, policy, tasks.make_gate)
    shell = tasks.TaskShell(function, loads)
    hit, load = cache.hit, shell.load

    async def call(*args: Any, **kwargs: Any) -> Any:
        key = key_of(*args, **kwargs)
        value = hit(key)
        if value is NOTHING:
            return await load(key, args, kwargs)
        if value is ABSENT:
            raise NotFound(key)
        return value

    return call, loads


def _equip(wrapper: Any, loads: Loads[Any], key_of: Callable[..., Hashable]) -> Any:
    """Give the wrapper what `CachedFunction` promises."""
    cache = loads.cache

    def invalidate(*args: Any, **kwargs: Any) -> bool:
        key = key_of(*args, **kwargs)
        loads.forget_failure(key)
        return cache.invalidate(key)

    def clear() -> None:
        loads.forget_failures()
        cache.clear()

    wrapper.cache = cache
    wrapper.key = key_of
    wrapper.stats = loads.statistics
    wrapper.invalidate = invalidate
    wrapper.invalidate_tag = cache.invalidate_tag
    wrapper.clear = clear
    return wrapper
