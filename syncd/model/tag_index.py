"""Which keys of a cache carry which tags. Owned by `Lru`; empty, and then free of cost, where no tags are used."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

__all__ = ["TAG_BYTES", "TagIndex"]

K = TypeVar("K", bound=Hashable)

TAG_BYTES = 330
"""Charged for each tag of an entry: what a tag takes that no other entry has; a shared one takes about 120. A test holds it to be enough."""


class TagIndex(Generic[K]):
    """Keys by tag and tags by key. Invariant: both directions say the same, and no tag is kept without keys."""

    __slots__ = ("_keys", "tags_of")

    def __init__(self) -> None:
        self._keys: dict[str, dict[K, None]] = {}
        self.tags_of: dict[K, tuple[str, ...]] = {}
        """Only of keys that have any."""

    def add(self, key: K, tags: Iterable[str]) -> None:
        """Tag a key that has no tags yet."""
        distinct = tuple(dict.fromkeys(tags))
        if not distinct:
            return
        self.tags_of[key] = distinct
        for tag in distinct:
            self._keys.setdefault(tag, {})[key] = None

    def drop(self, key: K) -> None:
        """Forget a key's tags, if it has any."""
        for tag in self.tags_of.pop(key, ()):
            keys = self._keys[tag]
            del keys[key]
            if not keys:
                del self._keys[tag]

    def keys(self, tag: str) -> list[K]:
        """The keys that carry a tag, in the order they were tagged."""
        return list(self._keys.get(tag, ()))
