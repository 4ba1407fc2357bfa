"""What is done between the last page of a rebuild and its swap in Redis, in steps: one script each. Used by `RedisRebuilds`.

Owner of: how far it is, in memory; after a crash it begins anew. First what was not scanned is found. If that, with what has changed, is more than is told key by
key, the generation is made whole: with entries that are kept though they were not scanned, and with what has changed meanwhile as it is now. Which keys
that are is known to the server, which other nodes change too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from syncd.ids import ChannelName
from syncd.ports_state import KeyName, TaggedKey
from syncd.store.base import Slice
from syncd.store.rebuilds import RebuildLease, SwapPlan

__all__ = ["MAX_LATE", "Preparing"]

MAX_LISTED = 1_000
"""Changed rows that the server lists one by one; nobody tells more of them one by one."""

MAX_LATE = 100
"""So many keys that changed meanwhile are left to the swap at most: some ms."""

_KEYS_A_STEP = 500
"""Looked at by one script, without their values: 1 ms."""

_ROWS_A_STEP = 200
"""Copied by one script: some ms."""

_CHANNELS_A_STEP = 200
"""Named at once: most have no more to look at than a few keys."""


class _Ask(Protocol):
    def __call__(self, what: str, collection: str, *args: Any) -> Any:
        """Have a script run."""


class _Channels(Protocol):
    def __call__(
        self, collection: str, limit: int, after: ChannelName | None
    ) -> list[ChannelName]: ...


class Preparing:
    """Prepares one swap."""

    def __init__(
        self, plan: _Ask, change: _Ask, channels: _Channels, lease: RebuildLease, about: SwapPlan
    ) -> None:
        """Begin with nothing done; `plan` and `change` run the scripts of those names, `channels` lists those of a collection."""
        self.is_whole = False
        """Whether more has changed than is told key by key."""
        self.missing: list[TaggedKey] = []
        """What was not scanned and is to be deleted, one more than is told key by key at most."""
        self._plan = plan
        self._change = change
        self._channels = channels
        self._lease = lease
        self._about = about
        self._num_missing: dict[ChannelName, int] = {}
        self._num_changed: dict[ChannelName, int] = {}
        self._num_listed = 0
        self._among: dict[ChannelName, list[KeyName]] | None = None
        if about.among is not None:
            self._among = {}
            for channel, key in about.among:
                self._among.setdefault(channel, []).append(key)
        self._steps = self._run()

    def go_on(self, time_slice: Slice) -> bool:
        """Prepare for a slice; returns whether there is more to do."""
        while not time_slice.is_over():
            if next(self._steps, self) is self:
                return False
        return True

    def finish(self) -> None:
        """Do all that is left, and again what has come since."""
        for _ in self._steps:
            pass
        if self.is_whole:
            for _ in self._copy_touched():
                pass

    def changes(self) -> list[tuple[ChannelName, int]]:
        """Return channels that may change, in order, each with how many of its entries are missing."""
        names = {name for name, count in self._num_changed.items() if count} | set(
            self._num_missing
        )
        return [(name, self._num_missing.get(name, 0)) for name in sorted(names)]

    # -------------------------------------------------------------------------------------------- steps

    def _run(self) -> Iterator[None]:
        """Stop after each step."""
        if self._about.deletes_missing:
            yield from self._find_missing()
        yield from self._count()
        most = self._about.max_events
        total = sum(self._num_changed.values()) + sum(self._num_missing.values())
        self.is_whole = total > most or self._num_listed > MAX_LISTED
        if not self.is_whole:
            return
        if self._among is not None or not self._about.deletes_missing:
            for channel, _ in self.changes():
                yield from self._copy_kept(channel)
        yield from self._copy_touched()

    def _count(self) -> Iterator[None]:
        """Learn how many rows of each channel have changed, and how many of all are listed."""
        after = b"-"
        while True:
            self._num_listed, *found = self._plan("counts", self._lease.collection, after)
            for n in range(0, len(found), 2):
                self._num_changed[ChannelName(found[n].decode())] = found[n + 1]
            yield
            if not found:
                return
            after = b"(" + found[-2]

    def _find_missing(self) -> Iterator[None]:
        if self._among is not None:
            for channel, keys in self._among.items():
                for start in range(0, len(keys), _KEYS_A_STEP):
                    some = keys[start : start + _KEYS_A_STEP]
                    found = self._plan("missing_among", self._lease.collection, channel, some)
                    self._note_missing(channel, _keys(found))
                    yield
            return
        after: ChannelName | None = None
        while True:
            channels = self._channels(self._lease.collection, _CHANNELS_A_STEP, after)
            for channel, keys in self._not_scanned(channels, _KEYS_A_STEP):
                self._note_missing(channel, keys)
                yield
            if len(channels) < _CHANNELS_A_STEP:
                return
            after = channels[-1]

    def _not_scanned(
        self, channels: Sequence[ChannelName], count: int
    ) -> Iterator[tuple[ChannelName, list[KeyName]]]:
        """Yield entries that are neither in the generation nor touched; a script looks at `count` of them."""
        left, after = list(channels), b"-"
        while left:
            last, *found = self._plan("missing", self._lease.collection, left, after, count)
            for channel, keys in zip(left, found, strict=False):
                yield channel, _keys(keys)
            after = b"-" if last is None else b"(" + last
            del left[: len(found) - (last is not None)]

    def _note_missing(self, channel: ChannelName, keys: Sequence[KeyName]) -> None:
        if keys:
            self._num_missing[channel] = self._num_missing.get(channel, 0) + len(keys)
            room = self._about.max_events + 1 - len(self.missing)
            self.missing += [(channel, key) for key in keys[: max(room, 0)]]

    def _copy_kept(self, channel: ChannelName) -> Iterator[None]:
        """Let a generation have what is kept although it was not scanned."""
        gone: frozenset[KeyName] = frozenset()
        if self._about.deletes_missing and self._among is not None:
            gone = frozenset(self._among.get(channel, ()))
        for _, keys in self._not_scanned([channel], _ROWS_A_STEP):
            kept = [key for key in keys if key not in gone]
            lease = self._lease
            if self._change("keep", lease.collection, lease.token, channel, kept) is None:
                return
            yield

    def _copy_touched(self) -> Iterator[None]:
        """Let the generation have what was touched as it is now, until it is little that is left."""
        lease = self._lease
        while True:
            num_left = self._change("copy", lease.collection, lease.token, _ROWS_A_STEP)
            yield
            if num_left is None or num_left <= MAX_LATE:
                return


def _keys(raw: Sequence[bytes]) -> list[KeyName]:
    return [KeyName(key.decode()) for key in raw]
