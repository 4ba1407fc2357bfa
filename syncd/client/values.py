"""Values of entries: compared as they are encoded, copied where a mutator might change them. Pure."""

from __future__ import annotations

import math
from typing import Any, Final

__all__ = ["NOTHING", "Nothing", "copied", "is_same"]


class Nothing:
    """Type of `NOTHING`."""

    def __repr__(self) -> str:
        return "NOTHING"


NOTHING: Final = Nothing()
"""No entry: None is a value like any other."""


def is_same(one: object, other: object) -> bool:
    """Return whether two values are the same on the wire: 1, 1.0 and True are three values, -0.0 is not 0.0."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    match one, other:
        case dict(), dict():
            return one.keys() == other.keys() and all(is_same(one[k], other[k]) for k in one)
        case list(), list():
            return len(one) == len(other) and all(map(is_same, one, other))
        case float(), float():
            return one == other and math.copysign(1, one) == math.copysign(1, other)
        case _:
            return one == other


def copied(value: Any) -> Any:
    """Return a value that shares no list or map with this one."""
    if type(value) is dict:
        return {key: copied(item) for key, item in value.items()}
    if type(value) is list:
        return [copied(item) for item in value]
    return value
