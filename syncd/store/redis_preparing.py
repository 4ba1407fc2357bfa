"""How a swap in Redis is prepared: one script a step. Used by `RedisRebuilds`.

Which keys have changed meanwhile is known to the server, which other nodes change too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from syncd.ids import ChannelName
from syncd.ports_state import KeyName
from syncd.store.preparing import MAX_LATE, MAX_LISTED, Steps
from syncd.store.rebuilds import RebuildLease, SwapPlan

__all__ = ["Preparing"]

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


class Preparing(Steps):
    """Prepares one swap."""

    def __init__(
        self, plan: _Ask, change: _Ask, channels: _Channels, lease: RebuildLease, about: SwapPlan
    ) -> None:
        """Begin with nothing done; `plan` and `change` run the scripts of those names, `channels` lists those of a collection."""
        super().__init__(about)
        self._ask = plan
        self._change = change
        self._channels = channels
        self._lease = lease
        self._num_changed: dict[ChannelName, int] = {}
        self._num_listed = 0

    def finish(self) -> None:
        """Do all that is left, and again what has come since."""
        self._finish_steps()
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
        if self._plan.deletes_missing:
            yield from self._find_missing()
        yield from self._count()
        most = self._plan.max_events
        total = sum(self._num_changed.values()) + sum(self._num_missing.values())
        self.is_whole = total > most or self._num_listed > MAX_LISTED
        if not self.is_whole:
            return
        if self.keeps_unscanned:
            for channel, _ in self.changes():
                yield from self._copy_kept(channel)
        yield from self._copy_touched()

    def _count(self) -> Iterator[None]:
        """Learn how many rows of each channel have changed, and how many of all are listed."""
        after = b"-"
        while True:
            self._num_listed, *found = self._ask("counts", self._lease.collection, after)
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
                    found = self._ask("missing_among", self._lease.collection, channel, some)
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
            last, *found = self._ask("missing", self._lease.collection, left, after, count)
            for channel, keys in zip(left, found, strict=False):
                yield channel, _keys(keys)
            after = b"-" if last is None else b"(" + last
            del left[: len(found) - (last is not None)]

    def _copy_kept(self, channel: ChannelName) -> Iterator[None]:
        """Let a generation have what is kept although it was not scanned."""
        for _, keys in self._not_scanned([channel], _ROWS_A_STEP):
            kept = self._kept(channel, keys)
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
