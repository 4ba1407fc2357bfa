"""The statements of one transaction of the store actor: which asks it takes, and how they are run and answered.

Asks are run in the order they came; neighbouring appends are one call of the store, each group of mutations one of its own,
since what its mutations saw of each other is told by their place in it. Invariant: an ask that cannot be stored at all fails
alone.
"""

from __future__ import annotations

import collections
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import structlog

from syncd.actors.store_asks import Append, Commit, StoreSettings, Write
from syncd.errors import StoreUnavailable, internal_error
from syncd.ports_log import AppendResult
from syncd.store.base import Store, StoreFailed

__all__ = ["begin", "commit_whole", "next_group"]

_log = structlog.get_logger("syncd.store")


def next_group(writes: collections.deque[Write], settings: StoreSettings) -> list[Write]:
    """Take the asks of the next transaction: the first, and those after it within the bounds."""
    group = [writes.popleft()]
    requests, size = group[0].num_requests, group[0].size_bytes
    while writes:
        ask = writes[0]
        requests += ask.num_requests
        size += ask.size_bytes
        if requests > settings.transaction_requests or size > settings.transaction_bytes:
            break
        group.append(writes.popleft())
    return group


def commit_whole(store: Store, asks: Sequence[Write]) -> list[object]:
    """Run a transaction from its first statement to its commit, waiting for both; return one answer per ask, as `begin` tells.

    Raises:
        StoreUnavailable, StoreFailed: as `Store.commit`.
    """
    tell = begin(store, asks)
    store.commit()
    return tell()


def begin(store: Store, asks: Sequence[Write]) -> Callable[[], list[object]]:
    """Run the statements of a transaction and leave it open.

    Returns:
        What tells, after the commit, one answer per ask: its results, or an error for a group of mutations that cannot be
        stored at all.

    Raises:
        StoreUnavailable, StoreFailed: as `Store.begin`.
    """
    try:
        return _run(store, asks)
    except (StoreUnavailable, StoreFailed):
        raise
    except Exception as error:  # noqa: BLE001 - isolation: one request must not fail those beside it
        _log.error("append_failed", num_requests=_num_requests(asks), exc_info=error)
    sound = [_sound_part(store, ask) for ask in asks]
    tell_sound = _run(store, [part for part in sound if part is not None])

    def tell() -> list[object]:
        answers = iter(tell_sound())
        return [
            internal_error() if part is None else _whole_answer(ask, part, next(answers))
            for ask, part in zip(asks, sound, strict=True)
        ]

    return tell


def _num_requests(asks: Sequence[Write]) -> int:
    return sum(ask.num_requests for ask in asks)


def _run(store: Store, asks: Sequence[Write]) -> Callable[[], list[Any]]:
    """Run asks in order; an empty transaction is opened all the same."""
    if not asks:
        store.begin([])
    # Per call of the store the asks it was for, and its results: not looked at before the commit.
    begun: list[tuple[list[Append] | None, list[Any]]] = []
    appends: list[Append] = []
    for ask in asks:
        if isinstance(ask, Append):
            appends.append(ask)
            continue
        if appends:
            begun.append((appends, _begin_appends(store, appends)))
            appends = []
        begun.append((None, store.begin_commit(ask.group)))
    if appends:
        begun.append((appends, _begin_appends(store, appends)))

    def tell() -> list[Any]:
        answers: list[Any] = []
        for appended, results in begun:
            answers += [results] if appended is None else _by_ask(appended, results)
        return answers

    return tell


def _begin_appends(store: Store, asks: Sequence[Append]) -> list[AppendResult]:
    return store.begin([request for ask in asks for request in ask.batch])


def _by_ask(asks: Sequence[Append], results: list[AppendResult]) -> list[list[AppendResult]]:
    left = iter(results)
    return [list(itertools.islice(left, len(ask.batch))) for ask in asks]


def _sound_part(store: Store, ask: Write) -> Write | None:
    """Return the appends of a batch that can be stored; a group of mutations is stored whole or not at all."""
    if isinstance(ask, Append):
        return Append(ask.done, [r for r in ask.batch if _can_run(store, Append(ask.done, [r]))])
    return ask if _can_run(store, ask) else None


def _can_run(store: Store, ask: Append | Commit) -> bool:
    try:
        _run(store, [ask])
    except (StoreUnavailable, StoreFailed):
        raise
    except Exception:  # noqa: BLE001 - logged with its batch
        return False
    store.rollback()
    return True


def _whole_answer(ask: Write, part: Write, answer: list[Any]) -> list[Any]:
    """Fill in the error of each append that was left out."""
    if not (isinstance(ask, Append) and isinstance(part, Append)):
        return answer
    stored = iter(answer)
    is_sound = {id(request) for request in part.batch}
    return [next(stored) if id(r) in is_sound else internal_error() for r in ask.batch]
