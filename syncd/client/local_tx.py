"""What a mutator is given at the client: the same words as at the server, over what this client knows. Pure.

A local run is a prediction. It may read entries that this client does not know; `has_guessed` says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

import msgpack

from syncd.client.errors import ClientError
from syncd.client.values import NOTHING, copied
from syncd.wire.codec import check_value
from syncd.wire.merge_patch import apply_patch

__all__ = [
    "BUILT_IN",
    "LocalMutator",
    "LocalRejected",
    "LocalTx",
    "Place",
    "Reader",
    "Reading",
    "as_sent",
]

Place = tuple[str, str]
"""Collection and key."""

LocalMutator = Callable[..., object]
"""`(tx, **args)`: a plain function; it decides by nothing but its arguments and `tx`."""

Reading = tuple[Any, int | None, bool]
"""Value (or `NOTHING`), version (None: changed by a pending mutation), and whether that is known."""

Reader = Callable[[Place], Reading]


class LocalRejected(ClientError):
    """A mutator refused at the client."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message


def as_sent(value: Any) -> Any:
    """Return a value as the server will decode it, sharing nothing with this one.

    Raises:
        ValueError, TypeError: it is beyond the bounds of the wire.
    """
    decoded = msgpack.unpackb(msgpack.packb(value, use_bin_type=True), raw=False)
    check_value(decoded)
    return decoded


class LocalTx:
    """One run of one mutator. Methods act on the mutator's collection unless `collection` names another.

    Attributes:
        reason: `optimistic` at the first run, `rebase` at later ones: side effects belong to the first alone.
        now_ms: The server's wall clock as known when the mutation was made; the same at every run.
        identity: None: the client does not know whom the server takes it for.
    """

    def __init__(self, collection: str | None, read: Reader, *, reason: str, now_ms: int) -> None:
        self.reason = reason
        self.now_ms = now_ms
        self.identity = None
        self.writes: dict[Place, Any] = {}
        """What it changed; `NOTHING`: deleted."""
        self.touched: set[Place] = set()
        """What it read or changed."""
        self.has_guessed = False
        """It read an entry of which this client does not know whether it is there."""
        self._collection = collection
        self._read = read

    def _place(self, key: str, collection: str | None) -> Place:
        name = collection or self._collection
        if name is None:
            msg = "This mutator belongs to no collection: name one."
            raise LookupError(msg)
        return name, key

    def _current(self, place: Place) -> Any:
        self.touched.add(place)
        if place in self.writes:
            return self.writes[place]
        value, _, is_known = self._read(place)
        self.has_guessed = self.has_guessed or not is_known
        return value

    def get(self, key: str, *, collection: str | None = None) -> Any:
        """Return a copy of an entry's value as it is predicted, or None; None too where it is not watched."""
        value = self._current(self._place(key, collection))
        return None if value is NOTHING else copied(value)

    def get_many(self, keys: Iterable[str], *, collection: str | None = None) -> dict[str, Any]:
        """Return the values of the entries there are, by key, in the order of `keys`."""
        found = {key: self._current(self._place(key, collection)) for key in keys}
        return {key: copied(value) for key, value in found.items() if value is not NOTHING}

    def version(self, key: str, *, collection: str | None = None) -> int | None:
        """Return an entry's version, 0 if there is none, or None if a pending mutation changes it."""
        place = self._place(key, collection)
        value = self._current(place)
        if place in self.writes:
            return 0 if value is NOTHING else None
        return self._read(place)[1]

    def put(
        self, key: str, value: object, *, tags: Sequence[str] = (), collection: str | None = None
    ) -> None:
        """Set an entry. Tags are the server's business."""
        self._write(self._place(key, collection), as_sent(value))

    def patch(
        self,
        key: str,
        changes: dict[str, Any],
        *,
        tags: Sequence[str] | None = None,
        collection: str | None = None,
    ) -> None:
        """Merge `changes` into an entry (RFC 7386); without an entry, into an empty map."""
        if type(changes) is not dict:
            msg = "changes must be a dict"
            raise TypeError(msg)
        place = self._place(key, collection)
        old = self._current(place)
        self._write(place, apply_patch(None if old is NOTHING else old, as_sent(changes)))

    def delete(self, key: str, *, collection: str | None = None) -> bool:
        """Remove an entry; return whether there was one."""
        place = self._place(key, collection)
        was_there = self._current(place) is not NOTHING
        self._write(place, NOTHING)
        return was_there

    def incr(
        self,
        key: str,
        by: float = 1,
        *,
        field: str | None = None,
        collection: str | None = None,
    ) -> int | float:
        """Add to the number that an entry is, or to one field of it, and return the sum. What is not there counts as 0."""
        if type(by) not in (int, float) or type(field) not in (str, type(None)):
            msg = "`by` must be a number and `field` a str"
            raise TypeError(msg)
        place = self._place(key, collection)
        entry = self._current(place)
        entry = None if entry is NOTHING else entry
        if field is not None and type(entry) not in (dict, type(None)):
            self.reject("not_a_number", "The entry has no fields.")
        number = (entry or {}).get(field) if field is not None else entry
        number = 0 if number is None else number
        if type(number) not in (int, float):
            self.reject("not_a_number", "What is there is not a number.")
        total: int | float = number + by
        try:
            check_value(total)
        except ValueError:
            self.reject("out_of_range", "The sum would be too large.")
        self._write(place, total if field is None else apply_patch(entry, {field: total}))
        return total

    def reject(self, code: str, message: str = "") -> NoReturn:
        """Refuse the mutation."""
        raise LocalRejected(code, message)

    def publish(
        self, channel: str, data: object, *, name: str | None = None, key: str | None = None
    ) -> None:
        """Do nothing: the server publishes when the mutation takes effect."""

    def invalidate(
        self,
        *keys: str,
        tags: Sequence[str] = (),
        everything: bool = False,
        collection: str | None = None,
    ) -> None:
        """Do nothing: the server knows the source."""

    def _write(self, place: Place, value: Any) -> None:
        self.touched.add(place)
        self.writes[place] = value


def _require_version(tx: LocalTx, key: str, if_version: int | None) -> None:
    if if_version is not None and tx.version(key) != if_version:
        tx.reject("version_mismatch", "The entry has changed since.")


def _put(tx: LocalTx, key: str, value: Any, if_version: int | None = None) -> None:
    _require_version(tx, key, if_version)
    tx.put(key, value)


def _patch(tx: LocalTx, key: str, patch: dict[str, Any], if_version: int | None = None) -> None:
    _require_version(tx, key, if_version)
    tx.patch(key, patch)


def _delete(tx: LocalTx, key: str, if_version: int | None = None) -> None:
    _require_version(tx, key, if_version)
    tx.delete(key)


def _incr(
    tx: LocalTx,
    key: str,
    by: float = 1,
    field: str | None = None,
    if_version: int | None = None,
) -> int | float:
    _require_version(tx, key, if_version)
    return tx.incr(key, by, field=field)


BUILT_IN: dict[str, LocalMutator] = {
    "put": _put,
    "patch": _patch,
    "delete": _delete,
    "incr": _incr,
}
"""Predictions of the server's built-in mutators, by the part of the name behind the collection."""
