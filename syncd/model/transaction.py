"""What a mutator is given: the one way to read and change state, and all that it may know.

A mutator may run several times for one mutation (an entry had to be loaded, another change came first), so it must do nothing
but what `tx` offers, and decide by nothing else than its arguments and `tx`. What it changes takes effect all at once, or not at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

import msgpack

from syncd.model.recording import (
    Change,
    CollectionRules,
    Halted,
    Invalidation,
    Place,
    Publication,
    Recording,
    Rejected,
)
from syncd.ports import Identity
from syncd.ports_log import AppendRequest
from syncd.wire.channels import check_channel
from syncd.wire.codec import check_value
from syncd.wire.encode import event_record, pack
from syncd.wire.merge_patch import OVERHEAD_BYTES, apply_patch

__all__ = ["Tx", "check_tags", "encode_value"]

MAX_CODE_LENGTH = 64
MAX_MESSAGE_LENGTH = 500
"""Of a rejection; a longer text is cut."""

MAX_TAGS = 32
MAX_TAG_LENGTH = 128

MAX_NAME_LENGTH = 128
MAX_EVENT_KEY_LENGTH = 255
"""Of a published event, as `protocol/messages.toml` has them for `publish`."""


def encode_value(value: object) -> bytes:
    """Encode a value that leaves a mutator.

    Raises:
        ValueError: it is beyond the bounds of the wire.
    """
    try:
        check_value(value)
    except ValueError as failure:
        raise ValueError(f"this value cannot be kept: {failure}") from None
    return pack(value)


class Tx:
    """One run of one mutator. Methods act on the mutator's collection unless `collection` names another."""

    __slots__ = ("_collection", "_key", "_place_of_key", "_recording", "identity", "now_ms")

    reason = "authoritative"
    """Here the mutation is decided; where a client predicts it, the same mutator sees `optimistic` or `rebase`."""

    def __init__(
        self, recording: Recording, collection: CollectionRules | None, identity: Identity
    ) -> None:
        self._recording = recording
        self._collection = collection
        self._key: str | None = None
        """The last key of the mutator's collection, which most mutators read and then write, and its place."""
        self._place_of_key: Place
        self.identity = identity
        """Who asked for the mutation."""
        self.now_ms = recording.ground.now_ms
        """The server's wall clock, the same for the whole mutation; never the local clock, which a second run would see differently."""

    # -------------------------------------------------------------------------------------------- reading

    def get(self, key: str, *, collection: str | None = None) -> Any:
        """Return an entry's value as this mutation has it so far, or None. It is a copy: changing it changes nothing."""
        value = self._recording.current(self._place(key, collection))
        return None if value is None else msgpack.unpackb(value)

    def get_many(self, keys: Iterable[str], *, collection: str | None = None) -> dict[str, Any]:
        """Return the values of the entries there are, by key, in the order of `keys`; all are loaded at once."""
        found = {}
        has_missing = False
        for key in keys:
            try:
                value = self.get(key, collection=collection)
            except Halted:
                has_missing = True
                continue
            if value is not None:
                found[key] = value
        if has_missing:
            raise Halted
        return found

    def version(self, key: str, *, collection: str | None = None) -> int | None:
        """Return an entry's version, 0 if there is none, or None if it is changing in this very commit and has none yet."""
        return self._recording.version(self._place(key, collection))

    # -------------------------------------------------------------------------------------------- changing

    def put(
        self, key: str, value: object, *, tags: Sequence[str] = (), collection: str | None = None
    ) -> None:
        """Set an entry, its tags included, whatever it was."""
        place = self._place(key, collection)
        change = Change(encode_value(value), check_tags(tags) if tags else ())
        self._write(self._rules(collection), place, change)

    def patch(
        self,
        key: str,
        changes: dict[str, Any],
        *,
        tags: Sequence[str] | None = None,
        collection: str | None = None,
    ) -> None:
        """Merge `changes` into an entry (RFC 7386: None removes a field); without an entry, into an empty map.

        Tags stay as they are unless given.
        """
        if type(changes) is not dict:
            raise TypeError("changes must be a dict")
        rules = self._rules(collection)
        place = rules.place(key)
        recording = self._recording
        old = recording.current(place)
        patch = encode_value(changes)
        value = encode_value(apply_patch(None if old is None else msgpack.unpackb(old), changes))
        change = Change(value, self._tags(place, old, tags))
        seen = recording.reads.get(place)
        is_on_committed = place not in recording.writes and seen is not None and seen.version > 0
        if is_on_committed and len(patch) + OVERHEAD_BYTES < len(value):
            assert seen is not None
            change.patch, change.base = patch, seen.version
        self._write(rules, place, change)

    def delete(self, key: str, *, collection: str | None = None) -> bool:
        """Remove an entry; return whether there was one."""
        rules = self._rules(collection)
        place = rules.place(key)
        self._check_writable(rules)
        return self._recording.delete(place)

    def incr(
        self,
        key: str,
        by: float = 1,
        *,
        field: str | None = None,
        collection: str | None = None,
    ) -> int | float:
        """Add to the number that an entry is, or to one field of it, and return the sum. What is not there counts as 0.

        A sum of a text or a map is refused with `not_a_number`, one that leaves the range of the wire with `out_of_range`.
        """
        if type(by) not in (int, float) or type(field) not in (str, type(None)):
            raise TypeError("`by` must be a number and `field` a str")
        rules = self._rules(collection)
        place = rules.place(key)
        old = self._recording.current(place)
        entry = None if old is None else msgpack.unpackb(old)
        if field is not None and type(entry) not in (dict, type(None)):
            self.reject("not_a_number", "The entry has no fields.")
        number = (entry or {}).get(field) if field is not None else entry
        if number is None:
            number = 0
        if type(number) not in (int, float):
            self.reject("not_a_number", "What is there is not a number.")
        total: int | float = number + by
        try:
            check_value(total)
        except ValueError:
            self.reject("out_of_range", "The sum would be too large.")
        if field is None:
            self._write(rules, place, Change(pack(total), self._tags(place, old, None)))
        else:
            self.patch(key, {field: total}, collection=collection)
        return total

    # -------------------------------------------------------------------------------------------- the rest

    def reject(self, code: str, message: str = "") -> NoReturn:
        """Refuse the mutation for good: nothing of it takes effect, and its client is told this.

        Args:
            code: For programs; the application's own words, such as `unknown_order`.
            message: For people.
        """
        if type(code) is not str or not 0 < len(code) <= MAX_CODE_LENGTH:
            raise ValueError(f"a code is a str of 1 to {MAX_CODE_LENGTH} characters")
        raise Rejected(code, str(message)[:MAX_MESSAGE_LENGTH])

    def publish(
        self, channel: str, data: object, *, name: str | None = None, key: str | None = None
    ) -> None:
        """Publish an event if and when the mutation takes effect."""
        checked = check_channel(channel)
        for text, max_length in ((name, MAX_NAME_LENGTH), (key, MAX_EVENT_KEY_LENGTH)):
            if text is not None and (type(text) is not str or not 0 < len(text) <= max_length):
                raise ValueError("name and key of an event are short texts, or None")
        encoded = encode_value(data)
        recording = self._recording
        ground = recording.ground
        if not ground.is_logged(checked, len(encoded)):
            recording.publications.append(Publication(checked, encoded, name, key))
            return
        record = event_record(encoded, ground.now_ms, name=name, key=key, client=recording.client)
        recording.events.append(AppendRequest(checked, record, ground.now_ms, key))

    def invalidate(
        self,
        *keys: str,
        tags: Sequence[str] = (),
        everything: bool = False,
        collection: str | None = None,
    ) -> None:
        """Have entries loaded anew from their source once the mutation took effect: by key, by tag, or `everything`."""
        rules = self._rules(collection)
        checked_tags = check_tags(tags)
        if [bool(keys), bool(checked_tags), everything].count(True) != 1:
            raise ValueError("invalidate by keys, by tags, or everything")
        places = tuple(rules.place(key)[1] for key in keys)
        invalidation = Invalidation(rules.name, places, checked_tags, everything)
        self._recording.invalidations.append(invalidation)

    # -------------------------------------------------------------------------------------------- within

    def _rules(self, collection: str | None) -> CollectionRules:
        rules = self._collection
        if rules is not None and collection is None:
            return rules
        if collection is not None:
            rules = self._recording.ground.collections.get(collection)
        if rules is None:
            raise LookupError(f"no collection {collection!r}")
        return rules

    def _place(self, key: str, collection: str | None) -> Place:
        if collection is None and key is self._key:
            return self._place_of_key
        place = self._rules(collection).place(key)
        if collection is None:
            self._place_of_key = place
            self._key = key
        return place

    def _tags(self, place: Place, old: bytes | None, tags: Sequence[str] | None) -> tuple[str, ...]:
        if tags is not None:
            return check_tags(tags)
        return () if old is None else self._recording.tags(place)

    def _write(self, rules: CollectionRules, place: Place, change: Change) -> None:
        assert change.value is not None
        self._check_writable(rules)
        if len(change.value) > rules.max_value_bytes:
            self.reject("too_large", f"A value has {rules.max_value_bytes} bytes at most here.")
        self._recording.change(place, change)

    def _check_writable(self, rules: CollectionRules) -> None:
        if not rules.takes_writes:
            text = f"The entries of {rules.name} belong to its source; they can only be read here."
            self.reject("source_owned", text)


def check_tags(tags: object) -> tuple[str, ...]:
    """Return tags as they are kept: once each."""
    if tags == ():
        return ()
    if not isinstance(tags, list | tuple):
        raise TypeError("tags must be a list or a tuple")
    for tag in tags:
        if type(tag) is not str or not 0 < len(tag) <= MAX_TAG_LENGTH:
            raise ValueError(f"a tag is a str of 1 to {MAX_TAG_LENGTH} characters")
    unique = tuple(dict.fromkeys(tags))
    if len(unique) > MAX_TAGS:
        raise ValueError(f"an entry has {MAX_TAGS} tags at most")
    return unique
