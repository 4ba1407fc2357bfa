"""How much memory a value holds, for caches that are limited by bytes.

`bytes`, `str`, numbers: exact, with the object's header. Containers (`dict`, `list`, `tuple`, sets, `deque`) and objects (attributes
in `__dict__` and `__slots__`): themselves and all they hold, an object met twice counted once, classes, functions, modules and
enumeration members not at all, as others hold them too. Of a large container 64 items spread over it are looked at and stand for
the rest, and after 2,000 objects the average seen so far stands for what is left, so the estimate of a huge value costs about a
millisecond. Anything else: what `sys.getsizeof` says. Whoever knows better passes the size.
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
"""Items of one container that are looked at."""

_MAX_OBJECTS = 2_000
"""Objects of one value that are looked at."""

_FLAT = frozenset({bytes, str, int, float, complex, bool, type(None), bytearray, range})
_FREE = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, enum.Enum)

_BYTES_HEADER = sys.getsizeof(b"")
_getsizeof = sys.getsizeof

_Weighed = tuple[Any, float]
"""An object, and how many it stands for."""


def size_of(value: object) -> int:
    """Return the bytes a value holds: exact or estimated as this module's docstring says."""
    kind = type(value)
    if kind is bytes:
        return len(value) + _BYTES_HEADER  # type: ignore[arg-type]
    if kind in _FLAT:
        return _getsizeof(value)
    return _estimate(value)


def _estimate(value: object) -> int:
    """Walk over a value with a stack of its own, so that deep nesting is no danger."""
    total = weight_seen = 0.0
    seen: set[int] = set()
    stack: list[_Weighed] = [(value, 1.0)]
    while stack and len(seen) < _MAX_OBJECTS:
        item, weight = stack.pop()
        if id(item) in seen or isinstance(item, _FREE):
            continue
        seen.add(id(item))
        total += weight * _own_size(item)
        weight_seen += weight
        if type(item) not in _FLAT:
            stack += _children(item, weight)
    if stack:
        total += sum(weight for _, weight in stack) * total / weight_seen
    return int(total)


def _own_size(item: Any) -> int:
    if isinstance(item, memoryview):
        return item.nbytes + _getsizeof(item)
    try:
        return _getsizeof(item)
    except (TypeError, ValueError):  # a class whose __sizeof__ is wrong
        return object.__sizeof__(item)


def _children(item: Any, weight: float) -> Iterator[_Weighed]:
    """What an object holds, each with the number of objects it stands for."""
    if isinstance(item, dict):
        yield from _sample(item.keys(), len(item), weight)
        yield from _sample(item.values(), len(item), weight)
    elif isinstance(item, list | tuple | set | frozenset | deque):
        yield from _sample(item, len(item), weight)
    held = getattr(item, "__dict__", None)
    if type(held) is dict:
        yield held, weight
    for owner in type(item).__mro__:
        for name in _slots(owner):
            child = getattr(item, name, None)
            if child is not None:
                yield child, weight


def _slots(owner: type) -> Iterator[str]:
    """The names under which a class keeps its slots; `__private` ones are kept under longer names."""
    slots = owner.__dict__.get("__slots__", ())
    for name in (slots,) if isinstance(slots, str) else slots:
        if name.startswith("__") and not name.endswith("__"):
            yield f"_{owner.__name__.lstrip('_')}{name}"
        elif name not in {"__dict__", "__weakref__"}:
            yield name


def _sample(items: Iterable[Any], num_items: int, weight: float) -> Iterator[_Weighed]:
    """All items, or some that lie evenly spread and stand for all."""
    if num_items <= _SAMPLE:
        for item in items:
            yield item, weight
        return
    step = -(-num_items // _SAMPLE)
    each = weight * num_items / -(-num_items // step)
    for item in islice(items, 0, None, step):
        yield item, each
