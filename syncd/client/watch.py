"""One watch of the client and one channel that is watched: what they hold, and what is left to be told. Pure.

Owned by `WatchTable`, which speaks to the server for them. Invariant: `Watch.position` is an offset up to which the entries of
this watch are complete in the channel's entries of that epoch, whatever came after it.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Iterable, Mapping

import attrs

from syncd.client.backoff import Backoff
from syncd.client.confirmed import Entries
from syncd.client.frames import Body, encode
from syncd.client.values import NOTHING
from syncd.ids import ChannelName, Epoch, Position

__all__ = ["Selection", "Watch", "WatchState", "WatchedChannel"]

MAX_HAVE = 1000
"""Versions that one `watch` may name (SPEC section 17)."""
HAVE_SHARE = 2
"""`have` takes at most this part of what a frame has left beside what to watch."""
OTHER_BYTES = 500
"""What a `watch` has besides what to watch, and `have`: some positions."""
HAVE_ITEM_BYTES = 12
"""What a version costs besides the bytes of its key: a head of up to 3, an integer of up to 9."""


class WatchState(enum.Enum):
    """What a watch is doing on the present connection."""

    WANTED = "wanted"
    """The server has not been asked: offline, or waiting to ask again."""
    ASKING = "asking"
    """Asked; what it shows is what it showed before."""
    LOADING = "loading"
    """A snapshot is coming in: entries of it count, but it is not complete."""
    CATCHING_UP = "catching_up"
    """What was missed follows as events."""
    LIVE = "live"
    ENDED = "ended"
    """Final."""


@attrs.frozen
class Selection:
    """Which entries of a collection a watch is of: some keys, one partition, or, with neither, all."""

    collection: str
    keys: frozenset[str] | None = None
    """All of one partition."""
    partition: str | None = None

    @property
    def is_whole(self) -> bool:
        """Whether it is of a whole channel."""
        return self.keys is None

    @property
    def channel(self) -> ChannelName | None:
        """The channel it is on; None when only the server can say."""
        if self.partition is not None:
            return ChannelName(f"{self.collection}/{self.partition}")
        return ChannelName(self.collection) if self.keys is None else None

    def covers(self, key: str) -> bool:
        """Return whether an entry of this collection belongs to it."""
        if self.keys is not None:
            return key in self.keys
        return self.partition is None or key.startswith(self.partition + "/")

    def may_be_on(self, channel: str) -> bool:
        """Return whether it may turn out to be on this channel."""
        known = self.channel
        if known is not None:
            return known == channel
        return channel == self.collection or channel.startswith(self.collection + "/")

    def to_wire(self) -> Body:
        """Build the fields of a `watch` that say what to watch."""
        if self.keys is not None:
            return {"collection": self.collection, "keys": sorted(self.keys)}
        if self.partition is not None:
            return {"collection": self.collection, "partition": self.partition}
        return {"collection": self.collection, "all": True}


@attrs.define(eq=False)
class Watch:
    """One watch."""

    id: int
    selection: Selection
    rng: random.Random
    state: WatchState = WatchState.WANTED
    channel: ChannelName | None = None
    position: Position | None = None
    request_id: int | None = None
    """Of the `watch` in flight, or answered last."""
    retry_at: float | None = None
    gap_at: float | None = None
    """When something was last missing."""
    is_known_to_server: bool = False
    """The server may tell of its entries on the present connection."""
    is_sure: bool = False
    """Nothing it missed is still to come: false after it went on from a position, until a snapshot or a `mark` says so."""
    is_leaving: bool = False
    """Nobody wants it any more; it only waits to learn its channel, to end it there."""
    has_hole: bool = False
    """Something after `position` is missing that events cannot bring."""
    is_shown: bool = False
    """It was complete once: it may be shown."""
    was_current: bool = False
    """What the application was last told of `is_current`."""
    may_ask_after: bool = True
    """The node did not answer `behind` to the last attempt."""
    told: set[str] = attrs.field(factory=set)
    """While loading: keys of which the snapshot or an event told."""
    doubtful: set[str] = attrs.field(factory=set)
    """While loading: keys that are gone unless told of."""
    loaded: Position | None = None
    """While loading: the position of the snapshot, carried on by events."""
    since: int = 0
    """While loading: where the snapshot began; events after it hold all that it holds."""
    decided: Mapping[str, int] = attrs.field(factory=dict)
    """While loading: what the snapshot's first page is as of, in the numbers of our clients, and so all of it at least."""
    target: int = 0
    """While catching up: live from here."""
    size: int = attrs.field(init=False)
    """How long its message is at most without `have`, in bytes."""

    @size.default
    def _measured(self) -> int:
        return len(encode("watch", self.selection.to_wire())) + OTHER_BYTES

    def refusal(self, max_bytes: float) -> str | None:
        """Return why it cannot be asked for; None: it can."""
        if self.size <= max_bytes:
            return None
        return (
            f"The watch has {self.size} bytes; the server takes {max_bytes:.0f}: watch fewer keys."
        )

    backoff: Backoff = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.backoff = Backoff(self.rng)
        self.channel = self.selection.channel

    @property
    def is_live(self) -> bool:
        """Whether it is complete, and events keep it so."""
        return self.state is WatchState.LIVE

    @property
    def is_settled(self) -> bool:
        """Whether no snapshot is outstanding."""
        return self.state in (WatchState.LIVE, WatchState.CATCHING_UP)

    def may_be_on(self, channel: str) -> bool:
        """Return whether its events may come on this channel."""
        if self.channel is not None:
            return self.channel == channel
        return self.selection.may_be_on(channel)

    def advance(self, epoch: str, offset: int) -> None:
        """Everything up to there has been told or superseded."""
        if self.state is WatchState.LOADING:
            if self.loaded is not None and self.loaded.epoch == epoch:
                self.loaded = Position(Epoch(epoch), max(offset, self.loaded.offset))
            return
        position = self.position
        if not self.is_settled or position is None or position.epoch != epoch:
            return
        if offset > position.offset:
            self.position = Position(Epoch(epoch), offset)
        if self.state is WatchState.CATCHING_UP and offset >= self.target:
            self.state = WatchState.LIVE

    def has_told(self, position: Position) -> bool:
        """Return whether it has told everything up to a position of its channel, or goes on in another epoch."""
        if not self.is_settled or self.position is None:
            return False
        return self.position.epoch != position.epoch or self.position.offset >= position.offset


class WatchedChannel:
    """The channel of a collection, or of one partition, with everything that watches it."""

    def __init__(self, name: ChannelName, collection: str) -> None:
        self.name = name
        self.collection = collection
        self.watches: list[Watch] = []
        self.shown: Entries | None = None
        self.next: Entries | None = None
        """Of a newer epoch: shown in place of `shown` once all watches are complete in it."""
        self.is_void = False
        """The epoch of `shown` means nothing any more, even if it comes again."""
        self.changed: set[str] = set()
        """Keys that changed by a new epoch taking the place of an old one."""

    @property
    def partition(self) -> str | None:
        """The partition, as `unwatch` names it."""
        rest = self.name[len(self.collection) + 1 :]
        return rest or None

    @property
    def newest(self) -> Entries | None:
        """The entries that the server's answers are compared with."""
        return self.next or (None if self.is_void else self.shown)

    def entries_of(self, epoch: str) -> Entries | None:
        """Return the entries of an epoch."""
        if self.next is not None and self.next.epoch == epoch:
            return self.next
        if self.shown is not None and self.shown.epoch == epoch and not self.is_void:
            return self.shown
        return None

    def entries_for(self, epoch: str) -> Entries:
        """Return the entries of an epoch, begun if it is new."""
        found = self.entries_of(epoch)
        if found is None:
            found = Entries(epoch, lambda key: self._known_upto(epoch, key))
            if self.shown is None:
                self.shown = found
            else:
                self.next = found
        elif found is self.shown:
            self.next = None
        return found

    def overhear(self, body: Body, position: Position | None, decided: Mapping[str, int]) -> None:
        """Take a page that is for none of the watches here, if it is of the life that they are shown."""
        if position is None:
            entries = None if self.next is not None else self.shown
        else:
            entries = self.entries_of(position.epoch)
        if entries is not None:
            entries.take_page(body, decided)

    def _known_upto(self, epoch: str, key: str) -> int:
        known = 0
        for watch in self.watches:
            position = watch.position
            if position is not None and position.epoch == epoch and watch.selection.covers(key):
                known = max(known, position.offset)
        return known

    def have(self, watch: Watch, max_bytes: float) -> Body | None:
        """Build `have`: versions of what is there of a watch, as many as fit."""
        entries = self.newest
        if entries is None:
            return None
        budget = (max_bytes - watch.size) / HAVE_SHARE
        versions = dict[str, int]()
        for key, version in entries.live().items():
            if not watch.selection.covers(key):
                continue
            budget -= len(key.encode()) + HAVE_ITEM_BYTES
            if budget < 0 or len(versions) == MAX_HAVE:
                break
            versions[key] = version
        return {"epoch": entries.epoch, "versions": versions} if versions else None

    def position_of(self, watch: Watch) -> Position | None:
        """Return from where a watch may go on."""
        entries, position = self.newest, watch.position
        if entries is None or position is None or watch.has_hole:
            return None
        return position if position.epoch == entries.epoch else None

    def completed(self, watch: Watch) -> bool:
        """The snapshot of a watch is all there; return False if a patch still misses its base."""
        assert watch.loaded is not None
        entries = self.entries_for(watch.loaded.epoch)
        entries.release_all()
        if watch.selection.is_whole:
            entries.drop(watch.doubtful - watch.told)
        watch.position, watch.loaded = watch.loaded, None
        watch.state, watch.has_hole, watch.is_shown = WatchState.LIVE, False, True
        watch.told, watch.doubtful = set(), set()
        watch.is_sure = True
        entries.see_all(watch.selection.covers, watch.decided)
        is_whole = not entries.is_waiting
        self.turn()
        return is_whole

    def turn(self) -> None:
        """Show the newer epoch if it is complete, and forget tombstones if no snapshot needs them."""
        if not all(watch.is_settled for watch in self.watches):
            return
        if self.next is not None:
            if self.shown is not None:
                self.changed.update(self.shown.live())
            self.shown, self.next, self.is_void = self.next, None, False
            self.shown.has_news = True
            self.changed.update(self.shown.live())
        if self.shown is not None:
            self.shown.settle()

    def take_changed(self) -> set[str]:
        """Return and forget the keys whose confirmed value is another one now."""
        taken, self.changed = self.changed, set()
        if self.shown is not None:
            taken |= self.shown.touched
            self.shown.touched = set()
        return taken

    def prune(self) -> None:
        """Forget entries that nobody watches."""
        for entries in filter(None, (self.shown, self.next)):
            entries.drop({key for key in entries.live() if not self.is_watched(key)})

    def is_watched(self, key: str) -> bool:
        """Return whether any watch covers a key."""
        return _any_covers(self.watches, key)

    def holds(self, key: str, client: str, mid: int) -> bool:
        """Return whether what is shown of an entry, there or not, holds what became of a mutation."""
        return self.shown is not None and self.shown.holds(key, client, mid)

    def forget_seen(self) -> None:
        """Nothing is pending, or what is has other numbers now."""
        for entries in filter(None, (self.shown, self.next)):
            entries.forget_seen()
        for watch in self.watches:
            watch.decided = {}

    def value(self, key: str) -> object:
        """Return the confirmed value that is shown."""
        return NOTHING if self.shown is None else self.shown.value(key)


def _any_covers(watches: Iterable[Watch], key: str) -> bool:
    return any(watch.selection.covers(key) for watch in watches)
