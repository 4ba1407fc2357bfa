"""How much memory a value holds, for caches that are limited by bytes.

`bytes`, `str`, numbers: exact, with the object's header. Containers (`dict`, `list`, `tuple`, sets, `deque`) and objects (attributes
in `__dict__` and `__slots__`): themselves and all they hold, an object met twice counted once, classes, functions, modules and
enumeration members not at all, as others hold them too. About 2,000 objects of a value are looked at, shared out fairly among its
branches; of a large container some items spread over it (at most 64) stand for the rest. So the estimate of a huge value costs about
a millisecond. Anything else: what `sys.getsizeof` says. Whoever knows better passes the size.
"""

from __future__ import annotations

import enum
import sys
import types
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

__all__ = ["size_of"]

_SAMPLE = 64
"""Items of one container that are looked at, if the share of the container allows as many."""

_MAX_OBJECTS = 2_000
"""Objects of one value that are looked at."""

_FLAT = frozenset({bytes, str, int, float, complex, bool, type(None), bytearray, range})
_FREE = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, enum.Enum)

_BYTES_HEADER = sys.getsizeof(b"")
_STR_HEADER = sys.getsizeof("")
_getsizeof = sys.getsizeof

_Weighed = tuple[Any, float, int]
"""An object, how many it stands for, and how many may be looked at from there."""


def size_of(value: Any) -> int:
    """Return the bytes a value holds: exact or estimated as this module's docstring says."""
    kind = type(value)
    if kind is bytes:
        return len(value) + _BYTES_HEADER
    if kind is str:
        return len(value) + _STR_HEADER if value.isascii() else _getsizeof(value)
    if kind in _FLAT:
        return _getsizeof(value)
    return _estimate(value)


def _estimate(value: object) -> int:
    """Walk over a value with a stack of its own, so that deep nesting is no danger."""
    total = weight_seen = 0.0
    seen: set[int] = set()
    stack: list[_Weighed] = [(value, 1.0, _MAX_OBJECTS)]
    while stack and len(seen) < _MAX_OBJECTS:
        item, weight, share = stack.pop()
        if id(item) in seen or isinstance(item, _FREE):
            continue
        seen.add(id(item))
        total += weight * _own_size(item)
        weight_seen += weight
        if type(item) not in _FLAT:
            stack += _children(item, weight, share, len(seen))
    if stack:  # what is left is taken to be like what was seen
        total += sum(weight for _, weight, _ in stack) * total / weight_seen
    return int(total)


def _own_size(item: Any) -> int:
    if isinstance(item, memoryview):
        return item.nbytes + _getsizeof(item)
    try:
        return _getsizeof(item)
    except (TypeError, ValueError):  # a class whose __sizeof__ is wrong
        return object.__sizeof__(item)


def _children(item: Any, weight: float, share: int, turn: int) -> Iterator[_Weighed]:
    """What an object holds. `turn` varies where samples begin, so that no field of many records is always left out."""
    if isinstance(item, dict):
        yield from _sample(item.keys(), len(item), (weight, share // 2, turn))
        yield from _sample(item.values(), len(item), (weight, share // 2, turn))
    elif isinstance(item, list | tuple | set | frozenset | deque):
        yield from _sample(item, len(item), (weight, share, turn))
    held = getattr(item, "__dict__", None)
    if type(held) is dict:
        yield held, weight, share
    for owner in type(item).__mro__:
        for name in _slots(owner):
            child = getattr(item, name, None)
            if child is not None:
                yield child, weight, share // 4


def _slots(owner: type) -> Iterator[str]:
    """The names under which a class keeps its slots; `__private` ones are kept under longer names."""
    slots = owner.__dict__.get("__slots__", ())
    for name in (slots,) if isinstance(slots, str) else slots:
        if name.startswith("__") and not name.endswith("__"):
            yield f"_{owner.__name__.lstrip('_')}{name}"
        elif name not in {"__dict__", "__weakref__"}:
            yield name


def _sample(
    items: Iterable[Any], num_items: int, parent: tuple[float, int, int]
) -> Iterator[_Weighed]:
    """All items, or some that lie evenly spread and stand for all."""
    weight, share, turn = parent
    num_wanted = min(num_items, _SAMPLE, max(1, share // 3))
    if not num_wanted:
        return
    step = -(-num_items // num_wanted)
    start = turn % step
    num_taken = -(-(num_items - start) // step)
    for item in islice(items, start, None, step):
        yield item, weight * num_items / num_taken, share // num_taken
