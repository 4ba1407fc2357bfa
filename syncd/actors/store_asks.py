"""What is asked of the store actor, how much of it may wait, and how it is answered.

Invariant: an ask that was admitted is released once, when it is settled; what waits and what is in hand count alike.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any, Generic, Protocol, TypeVar

import attrs
import structlog

from syncd.ids import ChannelName
from syncd.ports_log import AppendRequest, LoadedChannel
from syncd.ports_state import MutationCommit

__all__ = [
    "DEFAULT_SETTINGS",
    "Append",
    "Ask",
    "Asks",
    "Commit",
    "Load",
    "Read",
    "StoreSettings",
    "Write",
    "load_of",
    "loads_from",
    "settle",
]

T = TypeVar("T")

_log = structlog.get_logger("syncd.store")

REQUEST_BYTES = 512
"""What a request weighs besides its record: its objects, its key, its callback."""
LOADS_AT_ONCE = 8
"""Channels in one question: some 8,000 events at worst, 10 ms of a shared store's time, and usually next to nothing."""
LOADS_BYTES = 8_388_608


@attrs.frozen
class StoreSettings:
    """Bounds and paces of the store actor."""

    capacity: int = 20_000
    """Requests waiting or in hand; more are refused. About half a second of work."""
    capacity_bytes: int = 64 * 1024 * 1024
    transaction_requests: int = 500
    """A transaction's statements hold the loop, which must not stall for 20 ms: 500 take 5-8 ms, 1,000 up to 24 ms."""
    transaction_bytes: int = 4 * 1024 * 1024
    slice_s: float = 0.005
    """Reads, and a slice of trimming, give way to waiting appends after this."""
    trim_s: float = 1.0
    """Time between looks for what can be trimmed."""
    probe_s: float = 1.0
    """Time between attempts to write while the disk refuses."""
    stop_s: float = 5.0
    """Longest wait for the commit in hand, and for closing, when the node stops."""


DEFAULT_SETTINGS = StoreSettings()


@attrs.define(eq=False)
class Append:
    """Write these; they stay in one transaction."""

    done: Callable[[Any], None]
    batch: list[AppendRequest]
    num_requests: int = attrs.field(init=False)
    size_bytes: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.num_requests = max(1, len(self.batch))
        self.size_bytes = REQUEST_BYTES * self.num_requests + sum(
            len(request.record) for request in self.batch
        )


@attrs.define(eq=False)
class Commit:
    """Decide these mutations; they stay in one transaction. A mutation weighs as many requests as it writes events."""

    done: Callable[[Any], None]
    group: list[MutationCommit]
    num_requests: int = attrs.field(init=False)
    size_bytes: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        num_requests = size_bytes = 0
        for mutation in self.group:
            num_requests += len(mutation.writes) + len(mutation.events) or 1
            size_bytes += len(mutation.outcome)
            for write in mutation.writes:
                size_bytes += len(write.record) + len(write.value or b"")
            for event in mutation.events:
                size_bytes += len(event.record)
        self.num_requests = max(1, num_requests)
        self.size_bytes = size_bytes + REQUEST_BYTES * self.num_requests


@attrs.define(eq=False)
class Read(Generic[T]):
    """Read something; `work` runs in the worker."""

    done: Callable[[Any], None]
    work: Callable[[], T]
    num_requests: int = 1
    size_bytes: int = REQUEST_BYTES


Wanted = tuple[ChannelName, int, int]
"""A channel to be loaded, as `Store.load` takes it."""


@attrs.define(eq=False, kw_only=True)
class Load(Read[Any]):
    """Load a channel; those next to each other are one question to the store."""

    wanted: Wanted


Write = Append | Commit
Ask = Append | Commit | Read[Any]


class Asks:
    """Counts what waits or is in hand. Policy when full: refuse."""

    def __init__(self, capacity: int, capacity_bytes: int) -> None:
        self._capacity = capacity
        self._capacity_bytes = capacity_bytes
        self.num_waiting = 0
        self.bytes_waiting = 0
        self.num_refused = 0

    def admit(self, ask: Ask) -> bool:
        """Count an ask if there is room; with nothing waiting there is room for any."""
        if self.num_waiting and (
            self.num_waiting + ask.num_requests > self._capacity
            or self.bytes_waiting + ask.size_bytes > self._capacity_bytes
        ):
            self.num_refused += ask.num_requests
            return False
        self.num_waiting += ask.num_requests
        self.bytes_waiting += ask.size_bytes
        return True

    def release(self, ask: Ask) -> None:
        """Count an admitted ask out."""
        self.num_waiting -= ask.num_requests
        self.bytes_waiting -= ask.size_bytes


def settle(ask: Ask, answer: object) -> None:
    """Call back; what an asker does with its answer cannot hurt the others."""
    try:
        ask.done(answer)
    except Exception as error:  # noqa: BLE001 - isolation: a fault of one asker stays there
        _log.error("store_callback_failed", exc_info=error)


class _Loads(Protocol):
    def load(self, channel: ChannelName, tail_events: int, tail_bytes: int) -> LoadedChannel: ...


def load_of(store: _Loads, done: Callable[[Any], None], wanted: Wanted) -> Load:
    """Return the ask for a channel."""
    return Load(done, lambda: store.load(*wanted), wanted=wanted)


def loads_from(reads: Iterable[Read[Any]], index: int) -> list[Wanted]:
    """Return the loads next to each other from an index on that one question may ask for."""
    loads: list[Wanted] = []
    num_bytes = 0
    for ask in itertools.islice(reads, index, index + LOADS_AT_ONCE):
        if not isinstance(ask, Load):
            break
        num_bytes += ask.wanted[2]
        if loads and num_bytes > LOADS_BYTES:
            break
        loads.append(ask.wanted)
    return loads
