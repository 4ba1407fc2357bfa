"""What a source delivers, checked and encoded. Pure."""

from __future__ import annotations

from typing import Any

from syncd.model.definitions import CollectionDefinition
from syncd.model.recording import Rejected
from syncd.model.transaction import check_tags, encode_value
from syncd.store.rebuilds import ScannedRow

__all__ = ["BadRow", "RowReader"]


class BadRow(Exception):
    """A source delivered something that cannot be kept; the text says why."""


class RowReader:
    """Makes rows of what the source of one collection delivers."""

    __slots__ = ("_max_bytes", "_place")

    def __init__(self, definition: CollectionDefinition) -> None:
        self._place = definition.rules.place
        self._max_bytes = definition.max_value_bytes

    def row(self, yielded: Any) -> ScannedRow:
        """Return one row as the store takes it. Raises `BadRow`."""
        if type(yielded) is not tuple or len(yielded) not in (2, 3) or type(yielded[0]) is not str:
            raise BadRow("a scanner yields (key, value) or (key, value, tags), the key a text")
        key, value, tags = yielded if len(yielded) == 3 else (*yielded, ())
        try:
            channel, name = self._place(key)
            if value is None:
                raise BadRow(f"the value of {key!r} is None; leave out what there is not")
            encoded = encode_value(value)
            if len(encoded) > self._max_bytes:
                raise BadRow(f"the value of {key!r} has more than max_value_bytes")
            return ScannedRow(channel, name, encoded, check_tags(tags))
        except Rejected as refusal:
            raise BadRow(f"the key {key!r}: {refusal.message}") from None
        except (ValueError, TypeError) as failure:
            raise BadRow(f"the row of {key!r}: {failure}") from None
