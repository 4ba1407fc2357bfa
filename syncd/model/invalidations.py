"""Two encoded `invalidate` messages that stand directly behind each other, made one: for sessions that are behind.

Called by the outbox. Invariant: whatever entry either of the two names, the merged one names, too, at the newer offset.
"""

from __future__ import annotations

from typing import Any, Final

import msgpack

from syncd.wire.encode import message, pack

__all__ = ["MAX_NAMES", "is_invalidation", "merged"]

MAX_NAMES: Final = 1000
"""Keys, or tags, of a merged invalidation; past it everything may have changed. Also what one request may name (SPEC 12)."""

_HEAD: Final = b"\x92" + pack("invalidate")
_KINDS: tuple[str, ...] = ("keys", "tags", "all")


def is_invalidation(encoded: bytes) -> bool:
    """Whether an encoded message is an `invalidate`."""
    return encoded.startswith(_HEAD)


def merged(older: bytes, newer: bytes) -> bytes | None:
    """Return the one message that says what two say, or None where there is none.

    Keys join keys, tags join tags, in the order they came; `all` swallows either, and stands for more than `MAX_NAMES`. The offset
    and the time are the newer one's; a `cause` stays if both have the same.

    Args:
        older: An encoded `invalidate`.
        newer: The next one of the same channel.
    """
    was: dict[str, Any] = msgpack.unpackb(older)[1]
    now: dict[str, Any] = msgpack.unpackb(newer)[1]
    if was["channel"] != now["channel"] or was["epoch"] != now["epoch"]:
        return None
    kinds = [{kind for kind in _KINDS if kind in body} for body in (was, now)]
    is_all = "all" in was or "all" in now
    if not is_all and kinds[0] != kinds[1]:
        return None
    body: dict[str, Any] = {name: now[name] for name in ("channel", "epoch", "offset")}
    names = (
        {} if is_all else {kind: list(dict.fromkeys(was[kind] + now[kind])) for kind in kinds[0]}
    )
    if is_all or any(len(each) > MAX_NAMES for each in names.values()):
        body["all"] = True
    else:
        body.update(names)
    if "cause" in now and was.get("cause") == now["cause"]:
        body["cause"] = now["cause"]
    return message("invalidate", {**body, "at_ms": now["at_ms"]})
