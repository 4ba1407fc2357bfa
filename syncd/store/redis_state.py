"""What the Redis store reads of entries, tags, dirty keys, clients and the ends of logs: one script each, so each is of one moment."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import msgpack

from syncd.ids import ChannelName, Epoch, Position
from syncd.ports_log import ChannelHead
from syncd.ports_state import DirtyKey, Entry, EntryPage, KeyName, LookedUp, TaggedKey
from syncd.store.redis_batch import place_bytes
from syncd.store.redis_scripts import RENEW, STATE, Script

__all__ = ["RedisState", "entry_from", "place_from", "ranges_inside"]

_MAX_LIMIT = 2**31


class RedisState:
    """`StateReader` but for what lies in the log, on whatever runs scripts."""

    def run(self, script: Script, make: Callable[[], list[Any]]) -> Any:
        """Run a script, as `RedisStore.run`."""
        raise NotImplementedError

    def describe(self, channel: ChannelName) -> list[Any]:
        """Return a channel as scripts take it."""
        raise NotImplementedError

    def new_name(self) -> str:
        """Return a name that no era has had."""
        raise NotImplementedError

    def hand_over(self) -> None:
        """Tell the server what was acknowledged."""
        raise NotImplementedError

    def last_mids(self, clients: Sequence[str]) -> list[int]:
        """See `StateReader.last_mids`."""
        names = list(clients)
        found: list[int] = self.run(STATE, lambda: ["mids", names])
        return found

    def entries(self, channel: ChannelName, keys: Sequence[KeyName]) -> list[Entry]:
        """See `StateReader.entries`."""
        wanted = list(keys)
        swapped_at, raws = self.run(STATE, lambda: ["entries", channel, wanted])
        found = zip(wanted, raws, strict=True)
        return [entry_from(key, raw, swapped_at) for key, raw in found if raw is not None]

    def look_up(
        self,
        channel: ChannelName,
        keys: Sequence[KeyName],
        *,
        with_dirty: bool = False,
        clients: Sequence[str] = (),
    ) -> LookedUp:
        """See `StateReader.look_up`."""
        wanted, names = list(keys), list(clients)
        epoch, top, swapped_at, raws, dirty, mids = self.run(
            STATE, lambda: ["look_up", self.describe(channel), wanted, with_dirty, names]
        )
        found = zip(wanted, raws, strict=True)
        entries = [entry_from(key, raw, swapped_at) for key, raw in found if raw is not None]
        unheard = {KeyName(dirty[n].decode()): dirty[n + 1] for n in range(0, len(dirty), 2)}
        return LookedUp(Position(Epoch(epoch.decode()), top), entries, unheard, mids)

    def scan(
        self, channel: ChannelName, after_key: KeyName | None, limit: int, max_bytes: int
    ) -> EntryPage:
        """See `StateReader.scan`."""
        return self.scan_for((), channel, after_key, limit, max_bytes)[0]

    def scan_for(
        self,
        clients: Sequence[str],
        channel: ChannelName,
        after_key: KeyName | None,
        limit: int,
        max_bytes: int,
    ) -> tuple[EntryPage, list[int]]:
        """See `StateReader.scan_for`."""
        after = b"-" if after_key is None else b"(" + after_key.encode()
        names = list(clients)
        reply = self.run(
            STATE, lambda: ["scan", self.describe(channel), after, limit, max_bytes, names]
        )
        entries = [
            entry_from(KeyName(reply[n].decode()), reply[n + 1], reply[4])
            for n in range(5, len(reply), 2)
        ]
        position = Position(Epoch(reply[0].decode()), reply[1])
        return EntryPage(position, entries, is_complete=bool(reply[2])), reply[3]

    def keys_by_tag(
        self, collection: str, tag: str, after: TaggedKey | None, limit: int
    ) -> list[TaggedKey]:
        """See `StateReader.keys_by_tag`."""
        found: list[TaggedKey] = []
        while len(found) < limit:
            # A script looks at so many places at most, whether they count or not.
            ranges, most = ranges_inside(collection, after), min(limit - len(found), _MAX_LIMIT)
            last, *places = self.run(STATE, partial(_tagged, tag, collection, ranges, most))
            found += [place_from(place) for place in places]
            if last is None:
                break
            after = place_from(last)
        return found

    def dirty(self, collection: str, after: TaggedKey | None, limit: int) -> list[DirtyKey]:
        """See `StateReader.dirty`."""
        self.hand_over()
        found = self._places(":ds", collection, after, limit, ":d")
        return [DirtyKey(*place_from(found[n]), found[n + 1]) for n in range(0, len(found), 2)]

    def _places(
        self,
        suffix: str,
        collection: str,
        after: TaggedKey | None,
        limit: int,
        values: str | None = None,
    ) -> list[Any]:
        ranges = ranges_inside(collection, after)
        most = min(limit, _MAX_LIMIT)
        found: list[Any] = self.run(
            STATE, lambda: ["places", suffix, ranges, most, values or False]
        )
        return found

    def heads(
        self, channels: Sequence[ChannelName], told: Mapping[ChannelName, Position] | None = None
    ) -> list[ChannelHead]:
        """See `StateReader.heads`."""
        found = self._heads(channels)
        lost = {
            channel: told[channel]
            for channel, head in zip(channels, found, strict=True)
            if told and channel in told and head.lacks(told[channel])
        }
        if lost:
            self._renew(lost)
            found = self._heads(channels)
        return found

    def _renew(self, told: Mapping[ChannelName, Position]) -> None:
        name = self.new_name()

        def make() -> list[Any]:
            return [name, [[self.describe(each), at.epoch, at.offset] for each, at in told.items()]]

        self.run(RENEW, make)

    def _heads(self, channels: Sequence[ChannelName]) -> list[ChannelHead]:
        found = self.run(STATE, lambda: ["heads", [self.describe(each) for each in channels]])
        return [
            ChannelHead(Epoch(found[n].decode()), found[n + 1], found[n + 2])
            for n in range(0, len(found), 3)
        ]

    def count(self, channel: ChannelName) -> int:
        """See `StateReader.count`."""
        return int(self.run(STATE, lambda: ["count", channel]))

    def channels(
        self, collection: str, limit: int, after: ChannelName | None = None
    ) -> list[ChannelName]:
        """See `StateReader.channels`; those after one if it is named."""
        name = collection.encode()
        ranges = [[b"[" + name, b"[" + name], [b"[" + name + b"/", b"(" + name + b"0"]]
        if after is not None:
            partition = b"[" + name + b"/" if after == collection else b"(" + after.encode()
            ranges = [[partition, b"(" + name + b"0"]]
        most = min(limit, _MAX_LIMIT)
        found = self.run(STATE, lambda: ["places", ":channels", ranges, most, False])
        return [ChannelName(channel.decode()) for channel in found]


def ranges_inside(collection: str, after: TaggedKey | None) -> list[list[bytes]]:
    """Return the ranges of places in `<collection>` and `<collection>/...` after a place, as sorted sets take them."""
    name = collection.encode()
    start = b"" if after is None else place_bytes(*after)
    spans = [(name + b"\0", name + b"\1"), (name + b"/", name + b"0")]
    return [
        [b"(" + start if start >= low else b"[" + low, b"(" + high]
        for low, high in spans
        if start < high
    ]


def place_from(member: bytes) -> TaggedKey:
    """Return what `place_bytes` was made of."""
    channel, _, key = member.partition(b"\0")
    return ChannelName(channel.decode()), KeyName(key.decode())


def _tagged(tag: str, collection: str, ranges: list[list[bytes]], most: int) -> list[Any]:
    return ["tagged", tag, collection, ranges, most]


def entry_from(key: KeyName, raw: bytes, swapped_at: int) -> Entry:
    """Decode an entry as it lies in its channel's hash: version and tags in msgpack, its value behind. Version 0 is that of the last swap."""
    unpacker = msgpack.Unpacker()
    unpacker.feed(raw)
    version, tags = unpacker.unpack()
    return Entry(key, version or swapped_at, raw[unpacker.tell() :], tuple(tags))
