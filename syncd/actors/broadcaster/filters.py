"""Who watches which entries of a collection's channel: the index from key to subscriptions, and what a filter lets through.

Owner: the channel's room. A subscription's keys are in its `Watch`; they change only while the index does not hold it, or through
`Filters.narrow`, so that index and watches never disagree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import msgpack

from syncd.ports import Subscription
from syncd.ports_log import StoredEvent

__all__ = ["Filters", "is_filtered", "wanted"]


class Filters:
    """The filtered watches of one channel, live or not."""

    __slots__ = ("_by_key", "_subscriptions", "live")

    def __init__(self) -> None:
        self._by_key: dict[str, dict[Subscription, None]] = {}
        self._subscriptions: dict[Subscription, None] = {}
        self.live: dict[Subscription, None] = {}
        """Those that are told at once."""

    def __contains__(self, subscription: object) -> bool:
        return subscription in self._subscriptions

    def __len__(self) -> int:
        return len(self._subscriptions)

    def add(self, subscription: Subscription) -> None:
        """Take in a watch of some keys."""
        assert subscription.watch is not None
        self._subscriptions[subscription] = None
        for key in subscription.watch.keys or ():
            self._by_key.setdefault(key, {})[subscription] = None

    def discard(self, subscription: Subscription) -> None:
        """Take out a watch, if it is there."""
        self.live.pop(subscription, None)
        if subscription not in self._subscriptions:
            return
        del self._subscriptions[subscription]
        assert subscription.watch is not None
        for key in subscription.watch.keys or ():
            self._forget(subscription, key)

    def narrow(self, subscription: Subscription, keys: Iterable[str]) -> None:
        """Watch these keys no more."""
        watched = None if subscription.watch is None else subscription.watch.keys
        for key in keys:
            if watched is not None and key in watched:
                watched.discard(key)
                if subscription in self._subscriptions:
                    self._forget(subscription, key)

    def _forget(self, subscription: Subscription, key: str) -> None:
        others = self._by_key[key]
        others.pop(subscription, None)
        if not others:
            del self._by_key[key]

    def watching(self, key: str) -> Sequence[Subscription] | dict[Subscription, None]:
        """Return who watches a key, live or not."""
        return self._by_key.get(key, ())

    def concerned(self, message: bytes) -> Iterable[Subscription]:
        """Return who is told an encoded `invalidate`: by keys those that watch one of them, else everybody."""
        keys = _named_keys(msgpack.unpackb(message)[1])
        if keys is None:
            return list(self._subscriptions)
        return dict.fromkeys(subscription for key in keys for subscription in self.watching(key))


def is_filtered(subscription: Subscription) -> bool:
    """Whether it is told some keys only."""
    return subscription.watch is not None and subscription.watch.keys is not None


def wanted(subscription: Subscription, events: Sequence[StoredEvent]) -> Sequence[StoredEvent]:
    """Return those of a collection's events that a subscription is to be told."""
    keys = None if subscription.watch is None else subscription.watch.keys
    if keys is None:
        return events
    return [
        event
        for event in events
        if (event.key in keys if event.key is not None else _concerns(keys, event.record))
    ]


def _concerns(keys: set[str], record: bytes) -> bool:
    """Whether an invalidation is told to a watch of these keys."""
    body = msgpack.unpackb(bytes((0x80 | record[0],)) + record[1:])
    named = _named_keys(body["data"])
    return named is None or not keys.isdisjoint(named)


def _named_keys(body: Mapping[str, Any]) -> list[str] | None:
    """Return the keys that an invalidation names, or None when it may concern any."""
    if "tags" in body or "all" in body:
        return None
    return cast("list[str]", body["keys"])
