"""JSON merge patches over decoded values (RFC 7386): apply one, and find the one between two values.

A merge patch says `null` for "remove this field", so it cannot write a null: then there is no patch, and whoever asked sends
the full value. Neither function changes its arguments; results share with them what did not change.
"""

from __future__ import annotations

import math

from syncd.wire.encode import pack

__all__ = ["apply_patch", "find_patch", "patch_if_smaller"]

OVERHEAD_BYTES = 16
"""What an event with a patch carries besides: the word and a `base` version."""


def apply_patch(base: object, patch: object) -> object:
    """Return `base` as `patch` changes it.

    Source: RFC 7386 section 2. A patch that is no map replaces everything; a base that is no map counts as empty.
    """
    if type(patch) is not dict:
        return patch
    merged = dict(base) if type(base) is dict else {}
    for name, change in patch.items():
        if change is None:
            merged.pop(name, None)
        elif type(change) is dict:
            merged[name] = apply_patch(merged.get(name), change)
        else:
            merged[name] = change
    return merged


def find_patch(base: object, new: object) -> dict[str, object] | None:
    """Return the patch that makes `new` of `base`, or None when no merge patch does."""
    if type(base) is not dict or type(new) is not dict:
        return None
    patch: dict[str, object] = dict.fromkeys(base.keys() - new.keys())
    for name, value in new.items():
        if name not in base:
            if not _is_expressible(value):
                return None
            patch[name] = value
            continue
        before = base[name]
        if type(before) is dict and type(value) is dict:
            inner = find_patch(before, value)
            if inner is None:
                return None
            if inner:
                patch[name] = inner
        elif not _is_same(before, value):
            if not _is_expressible(value):
                return None
            patch[name] = value
    return patch


def patch_if_smaller(base: object, new: object, size_bytes: int) -> bytes | None:
    """Return the encoded patch from `base` to `new` if telling it takes less than the `size_bytes` of `new`, else None."""
    patch = find_patch(base, new)
    if patch is None:
        return None
    encoded = pack(patch)
    return encoded if len(encoded) + OVERHEAD_BYTES < size_bytes else None


def _is_expressible(value: object) -> bool:
    """Whether writing `value` in a patch leaves it as it is: no null but inside lists, which are taken whole."""
    if type(value) is dict:
        return all(_is_expressible(item) for item in value.values())
    return value is not None


def _is_same(before: object, value: object) -> bool:
    """Whether two values are encoded alike: 1, 1.0 and True are three values."""
    if type(before) is not type(value):
        return False
    if type(value) is list:
        return pack(before) == pack(value)
    if type(value) is float:
        return before == value and math.copysign(1, value) == math.copysign(1, before)
    return before == value
