"""What one mutation reads and changes, while its mutator runs and after.

Made by `MutationGroup` for one run and thrown away with it, so that a mutator may be interrupted anywhere. It reads through
three layers: its own writes, the overlay of the mutations of the group before it, and the `View` of what is committed. Reads of
the latter two are recorded with what was seen; writes are kept one per entry, the last one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Protocol

import attrs
import msgpack

from syncd.errors import SyncdError
from syncd.ids import ChannelName
from syncd.ports_log import AppendRequest
from syncd.ports_state import EntryRead, EntryWrite, KeyName
from syncd.wire.encode_entries import entry_record
from syncd.wire.merge_patch import patch_if_smaller

__all__ = [
    "UNINTERRUPTED",
    "Change",
    "CollectionRules",
    "Ground",
    "Halted",
    "Invalidation",
    "Missing",
    "MutatorTimedOut",
    "Overlay",
    "Place",
    "Publication",
    "Recording",
    "Rejected",
    "Timekeeper",
    "Untimed",
    "View",
]

MAX_KEY_BYTES = 255
"""As every key of `protocol/messages.toml`."""

MAX_WRITES = 1000
"""Entries one mutation may change: it is one transaction and one burst of events."""

MAX_WRITTEN_BYTES = 8_388_608
"""Over all writes of one mutation."""

MIN_PATCHED_BYTES = 256
"""Values below are told whole: finding a patch would cost more than it saves."""

MAX_PATCHED_BYTES = 262_144
"""Values above are told whole unless the mutator gave the patch: both have to be decoded to find one."""

SEEN_IN_GROUP = -1
"""Version of a read of what is not committed yet; no entry ever has it."""

Place = tuple[ChannelName, KeyName]


class Missing(Exception):
    """The entry is not in memory: a `View` cannot say whether there is one."""


class Halted(BaseException):
    """The run ends here undecided: an entry is missing, or could not be had. Not for mutators to catch."""


class Rejected(BaseException):
    """The mutation is refused for good. No `Exception`, so that a mutator's own `except` does not swallow it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message


class MutatorTimedOut(BaseException):
    """The mutator took longer than it may and is interrupted here. Not for mutators to catch."""


class Timekeeper(Protocol):
    """Whoever watches over how long a mutator runs."""

    is_overdue: bool
    """The mutator that runs now is to be interrupted."""

    def call(self, run: Callable[..., object], /, *args: object, **arguments: object) -> object:
        """Run a mutator; raises `MutatorTimedOut` if it takes too long."""


class Untimed:
    """Nobody keeps the time."""

    is_overdue = False

    def call(self, run: Callable[..., object], /, *args: object, **arguments: object) -> object:
        """Run a mutator."""
        return run(*args, **arguments)


class View(Protocol):
    """What is committed, as far as it is in memory. Nothing in it changes while a group runs."""

    def version_and_value(self, channel: ChannelName, key: KeyName) -> tuple[int, bytes | None]:
        """Return an entry's version and encoded value; (0, None) when there is none.

        Raises:
            Missing: it is not in memory. The mutation is run again when it is.
            SyncdError: it cannot be had. The mutation fails with that: for now if it is retryable, else for good.
        """

    def tags(self, channel: ChannelName, key: KeyName) -> tuple[str, ...]:
        """Return the tags of an entry that was just looked up."""


_has_plain_characters = re.compile(r"[^\x00-\x1f\x7f]{1,255}").fullmatch
_is_partition = re.compile(r"[A-Za-z0-9_.:@#=+~,-]{1,128}").fullmatch
"""A partition is part of a channel's name."""


@attrs.frozen
class CollectionRules:
    """What the entries of one collection may be."""

    name: str
    is_partitioned: bool = False
    """Keys are `<partition>/<id>`, and each partition is a channel of its own."""
    max_value_bytes: int = 262_144
    takes_writes: bool = True
    """Whether mutations may change its entries, see `CollectionDefinition.takes_writes`."""

    def place(self, key: object) -> Place:
        """Return where the entry of a key lives.

        Raises:
            Rejected: `bad_key`.
        """
        if type(key) is not str or not _is_key(key):
            raise Rejected(
                "bad_key", f"A key is 1 to {MAX_KEY_BYTES} bytes without control characters."
            )
        if not self.is_partitioned:
            return ChannelName(self.name), KeyName(key)
        partition, _, rest = key.partition("/")
        if not rest or _is_partition(partition) is None:
            raise Rejected("bad_key", f"Keys of {self.name} are <partition>/<id>.")
        return ChannelName(f"{self.name}/{partition}"), KeyName(key)


def _is_key(key: str) -> bool:
    if key.isascii():
        return 0 < len(key) <= MAX_KEY_BYTES and key.isprintable()
    has_plain_characters = _has_plain_characters(key) is not None
    return has_plain_characters and len(key.encode("utf-8", "surrogatepass")) <= MAX_KEY_BYTES


@attrs.define(eq=False)
class Change:
    """What an entry becomes."""

    value: bytes | None
    """Encoded; None: it is deleted."""
    tags: tuple[str, ...] = ()
    patch: bytes | None = None
    """Encoded merge patch that does the same to version `base`."""
    base: int = 0


@attrs.define(eq=False)
class Publication:
    """An event for a channel that has no log: published once the mutation is committed, lost if the node dies in between."""

    channel: ChannelName
    data: bytes
    name: str | None
    key: str | None


@attrs.define
class Invalidation:
    """Entries that are to be loaded anew once the mutation is committed; of all three kinds only one is given."""

    collection: str
    keys: tuple[KeyName, ...] = ()
    tags: tuple[str, ...] = ()
    is_all: bool = False


Overlay = dict[Place, tuple[int, Change]]
"""What the mutations of a group change: which one did it last, and how."""


@attrs.define(eq=False)
class Ground:
    """What the mutations of one group run on."""

    view: View
    collections: Mapping[str, CollectionRules]
    now_ms: int
    is_logged: Callable[[ChannelName, int], bool]
    """Whether the store keeps an event of that many bytes for this channel; raises `RequestRejected` where it may not go."""
    keeper: Timekeeper = attrs.field(factory=Untimed)


class Recording:
    """What one run of a mutator has read and changed so far."""

    __slots__ = (
        "client",
        "events",
        "failure",
        "ground",
        "invalidations",
        "missing",
        "num_bytes",
        "overlay",
        "publications",
        "reads",
        "writes",
    )

    def __init__(self, ground: Ground, overlay: Overlay, client: str | None) -> None:
        """Begin with nothing; `client` is told as the author, if given."""
        self.ground = ground
        self.overlay = overlay
        self.client = client
        self.reads: dict[Place, EntryRead] = {}
        self.writes: dict[Place, Change] = {}
        self.num_bytes = 0
        self.events: list[AppendRequest] = []
        self.publications: list[Publication] = []
        self.invalidations: list[Invalidation] = []
        self.missing: list[Place] = []
        """Entries to load before the next run. Set even if the mutator swallowed `Halted`."""
        self.failure: SyncdError | None = None

    # -------------------------------------------------------------------------------------------- reading

    def current(self, place: Place) -> bytes | None:
        """Return an entry's value as this mutation sees it."""
        change = self.writes.get(place)
        return self.base(place) if change is None else change.value

    def base(self, place: Place) -> bytes | None:
        """Return an entry's value as it was before this mutation, and record that it was seen."""
        earlier = self.overlay.get(place)
        if earlier is None:
            version, value = self.look_up(place)
            if place not in self.reads:
                self.reads[place] = EntryRead(place[0], place[1], version)
            return value
        if place not in self.reads:
            self.reads[place] = EntryRead(place[0], place[1], SEEN_IN_GROUP, earlier[0])
        return earlier[1].value

    def version(self, place: Place) -> int | None:
        """Return an entry's version, 0 for none; None when what is there now has none yet."""
        value = self.current(place)
        if value is None:
            return 0
        if place not in self.writes and place not in self.overlay:
            return self.reads[place].version
        return None

    def tags(self, place: Place) -> tuple[str, ...]:
        """Return the tags of an entry that was read."""
        change = self.writes.get(place)
        if change is not None:
            return change.tags
        earlier = self.overlay.get(place)
        return self.look_up_tags(place) if earlier is None else earlier[1].tags

    def look_up(self, place: Place) -> tuple[int, bytes | None]:
        """Ask the view; see `UNINTERRUPTED`."""
        ground = self.ground
        try:
            found = ground.view.version_and_value(*place)
        except Missing:
            self.missing.append(place)
        except SyncdError as failure:
            self.failure = failure
        else:
            if ground.keeper.is_overdue:
                raise MutatorTimedOut
            return found
        raise Halted

    def look_up_tags(self, place: Place) -> tuple[str, ...]:
        """Ask the view; see `UNINTERRUPTED`."""
        tags = self.ground.view.tags(*place)
        if self.ground.keeper.is_overdue:
            raise MutatorTimedOut
        return tags

    # -------------------------------------------------------------------------------------------- changing

    def change(self, place: Place, change: Change) -> None:
        """Let an entry become something else.

        Raises:
            ValueError: this is more than one mutation may change.
        """
        if change.value is not None:
            self.num_bytes += len(change.value)
        if self.num_bytes > MAX_WRITTEN_BYTES:
            raise ValueError(f"one mutation may write {MAX_WRITTEN_BYTES} bytes at most")
        if len(self.writes) >= MAX_WRITES and place not in self.writes:
            raise ValueError(f"one mutation may change {MAX_WRITES} entries at most")
        self.writes[place] = change

    def delete(self, place: Place) -> bool:
        """Let there be no entry; tell whether there was one."""
        change = self.writes.get(place)
        if self.base(place) is not None:
            self.change(place, Change(None))
            return change is None or change.value is not None
        return self.writes.pop(place, None) is not None

    # -------------------------------------------------------------------------------------------- afterwards

    def entry_writes(self, mid: int) -> list[EntryWrite]:
        """Return the changes with their events, in the order in which entries were first changed."""
        writes = []
        at_ms, client = self.ground.now_ms, self.client
        author = None if client is None else mid
        for place, change in self.writes.items():
            value, patch, base = change.value, change.patch, change.base
            if patch is None and value is not None and len(value) >= MIN_PATCHED_BYTES:
                patch, base = self._find_patch(place, value)
            key = place[1]
            record = entry_record(
                key, at_ms, value=value, patch=patch, base=base, client=client, mid=author
            )
            full = None
            if patch is not None:
                full = entry_record(key, at_ms, value=value, client=client, mid=author)
            writes.append(EntryWrite(place[0], key, value, record, change.tags, False, full))  # noqa: FBT003
        return writes

    def _find_patch(self, place: Place, value: bytes) -> tuple[bytes | None, int]:
        """Find what tells a change shorter than its value; a patch stands only on the version that it was made for."""
        if len(value) > MAX_PATCHED_BYTES or place in self.overlay:
            return None, 0
        try:
            version, base = self.ground.view.version_and_value(*place)
        except (Missing, SyncdError):
            return None, 0
        if base is None or len(base) > MAX_PATCHED_BYTES:
            return None, 0
        patch = patch_if_smaller(msgpack.unpackb(base), msgpack.unpackb(value), len(value))
        if patch is not None and place not in self.reads:
            self.reads[place] = EntryRead(place[0], place[1], version)
        return patch, version


UNINTERRUPTED = frozenset({Recording.look_up.__code__, Recording.look_up_tags.__code__})
"""What these functions call outlives the mutation, so it is never interrupted halfway; they see to it themselves, afterwards."""
