"""Messages about collections and mutations: good and bad ones of a client, and every one of the server."""

from __future__ import annotations

from typing import Any

from scripts.vectors.case import Case, pack
from syncd.codes import ErrorCode
from syncd.errors import RebuildRunning, SyncdError
from syncd.ids import ChannelName, Epoch, Position
from syncd.wire import encode, encode_state
from syncd.wire.encode_entries import entry_record, invalidation_record
from syncd.wire.encode_outcomes import (
    outcome_message,
    outcome_ok,
    outcome_rejected,
    outcome_unknown,
)

__all__ = ["CLIENT", "SERVER"]

ORDERS = ChannelName("orders")
EU = ChannelName("orders/eu")
EPOCH = Epoch("0123456789abcdef")
AT_MS = 1_790_000_000_000
MAX = 2**53 - 1
HERE = {"epoch": EPOCH, "offset": 41}
_PREFIX = encode.EventPrefix(ORDERS, EPOCH, has_prev=False)


def _good(name: str, *messages: list[Any]) -> Case:
    return Case(name, b"".join(map(pack, messages)), list(messages))


def _bad(name: str, message: list[Any]) -> Case:
    return Case(name, pack(message), error="bad_request", request_id=message[1].get("id"))


def _watch(**fields: object) -> list[Any]:
    return ["watch", {"id": 1, "collection": "orders", **fields}]


CLIENT = [
    _good("mutate", ["mutate", {"mid": 1, "name": "orders.ship", "args": {"order_id": "7"}}]),
    _good("mutate without args", ["mutate", {"mid": 2, "name": "tidy"}]),
    _good(
        "mutate, arguments by position, of a named client",
        ["mutate", {"client": "c2", "mid": MAX, "name": "orders.incr", "args": ["7", 2]}],
    ),
    _good(
        "three mutations in one frame",
        *(["mutate", {"mid": mid, "name": "orders.incr", "args": ["7"]}] for mid in (1, 2, 3)),
    ),
    _good("mutate_ack", ["mutate_ack", {"upto": 17}]),
    _good("mutate_ack of a named client", ["mutate_ack", {"client": "c2", "upto": 0}]),
    _good("watch all", _watch(all=True)),
    _good("watch keys", _watch(keys=["7", "8"])),
    _good("watch a partition from a position", _watch(partition="eu", position=HERE)),
    _good(
        "watch keys with what is there",
        _watch(keys=["7"], have={"epoch": EPOCH, "versions": {"7": 40}}, after={"orders": HERE}),
    ),
    _good("unwatch", ["unwatch", {"id": 2, "collection": "orders"}]),
    _good(
        "unwatch keys of a partition",
        ["unwatch", {"id": 3, "collection": "orders", "partition": "eu", "keys": ["eu/7"]}],
    ),
    _good("read", ["read", {"id": 4, "collection": "orders", "keys": ["7"]}]),
    _good(
        "read no older than a position",
        ["read", {"id": 5, "collection": "orders", "keys": ["7"], "after": {"orders": HERE}}],
    ),
    _good(
        "hello of a leader, no older than a position",
        ["hello", {"v": 1, "group": "g", "term": 3, "after": {"orders": HERE}}],
    ),
    _good("rebuild", ["rebuild", {"id": 9, "collection": "orders"}]),
    _good(
        "rebuild keys",
        ["rebuild", {"id": 10, "collection": "orders", "mode": "keys", "keys": ["7", "8"]}],
    ),
    _good(
        "rebuild with everything",
        [
            "rebuild",
            {
                "id": 11,
                "collection": "orders",
                "mode": "tag",
                "tag": "customer:42",
                "join": True,
                "keep_missing": True,
                "max_rows_per_s": 500,
                "deadline_ms": 60_000,
                "uid": "u1",
            },
        ],
    ),
    _good("rebuild_cancel", ["rebuild_cancel", {"id": 12, "job": "4f2a9c01d7be6a53"}]),
    _bad("rebuild without a collection", ["rebuild", {"id": 13}]),
    _bad("rebuild, keys that are no list", ["rebuild", {"id": 14, "collection": "o", "keys": "7"}]),
    _bad("rebuild, join that is no bool", ["rebuild", {"id": 15, "collection": "o", "join": 1}]),
    _bad("rebuild_cancel without a job", ["rebuild_cancel", {"id": 16}]),
    _bad("mutate without mid", ["mutate", {"name": "tidy"}]),
    _bad("mutate with a negative mid", ["mutate", {"mid": -1, "name": "tidy"}]),
    _bad("mutate without a name", ["mutate", {"mid": 1}]),
    _bad("mutate with a name that is too long", ["mutate", {"mid": 1, "name": "n" * 161}]),
    _bad("mutate_ack without upto", ["mutate_ack", {}]),
    _bad("watch, keys that are no strings", _watch(keys=[1])),
    _bad("watch, too many keys", _watch(keys=["k"] * 1001)),
    _bad("watch, all that is no bool", _watch(all=1)),
    _bad(
        "watch, versions that are no integers", _watch(have={"epoch": "e", "versions": {"a": "1"}})
    ),
    _bad("watch, have without an epoch", _watch(have={"versions": {}})),
    _bad("read without keys", ["read", {"id": 6, "collection": "orders"}]),
    _bad(
        "read after too many channels",
        [
            "read",
            {"id": 7, "collection": "o", "keys": [], "after": {f"c{n}": HERE for n in range(65)}},
        ],
    ),
    _bad("unwatch without a collection", ["unwatch", {"id": 8}]),
]


def _case(name: str, frame: bytes, kind: str, body: dict[str, Any]) -> Case:
    return Case(name, frame, [[kind, body]], direction="server")


_POSITION = Position(EPOCH, 41)
_VALUE = pack({"status": "shipped", "lines": [1, 2]})
_ENTRY = encode_state.entry("7", 40, _VALUE)
_GONE = encode_state.entry("8", 41, None)
_TOLD = [
    {"key": "7", "version": 40, "value": {"status": "shipped", "lines": [1, 2]}},
    {"key": "8", "version": 41, "deleted": True},
]


def _event(name: str, data: dict[str, Any], record: bytes, **more: object) -> Case:
    body = {"channel": ORDERS, "epoch": EPOCH, "offset": 41, "data": data, "at_ms": AT_MS, **more}
    return _case(name, encode.event_message(_PREFIX, 41, record), "event", body)


_EVENTS = [
    _event(
        "event of an entry's value",
        {"value": {"status": "shipped", "lines": [1, 2]}},
        entry_record("7", AT_MS, value=_VALUE, client="c1", mid=9),
        key="7",
        by={"client": "c1", "mid": 9},
    ),
    _event(
        "event of an entry's patch",
        {"patch": {"status": None}, "base": 40},
        entry_record("7", AT_MS, value=_VALUE, patch=pack({"status": None}), base=40),
        key="7",
    ),
    _event(
        "event of a deletion",
        {"deleted": True},
        entry_record("7", AT_MS, value=None),
        key="7",
    ),
]


def _invalidate(name: str, record: bytes, **what: object) -> Case:
    body = {"channel": ORDERS, "epoch": EPOCH, "offset": 41, **what, "at_ms": AT_MS}
    return _case(name, encode_state.invalidate(ORDERS, EPOCH, 41, record), "invalidate", body)


_INVALIDATIONS = [
    _invalidate(
        "invalidate keys",
        invalidation_record(AT_MS, keys=["7"], cause="sync"),
        keys=["7"],
        cause="sync",
    ),
    _invalidate(
        "invalidate tags", invalidation_record(AT_MS, tags=["customer:9"]), tags=["customer:9"]
    ),
    _invalidate("invalidate all", invalidation_record(AT_MS), all=True),
]

_JOB = {
    "job": "4f2a9c01d7be6a53",
    "collection": "orders",
    "mode": "full",
    "seq": 17,
    "state": "running",
    "who": "user:ann",
    "asked_at_ms": AT_MS,
    "done": 25_000,
    "resumed_at": 0,
    "total": 100_000,
    "rate_per_s": 12_500,
    "eta_ms": 6000,
}

_UNDECIDED = SyncdError(ErrorCode.STORE_UNAVAILABLE, after_ms=1000)

SERVER = [
    _case(
        "watched, with more to come",
        encode_state.watched(1, ORDERS, _POSITION, [_ENTRY, _GONE], unchanged=["9"], more=True),
        "watched",
        {
            "id": 1,
            "channel": "orders",
            "position": HERE,
            "recovered": False,
            "entries": _TOLD,
            "unchanged": ["9"],
            "more": True,
        },
    ),
    _case(
        "watched, recovered",
        encode_state.watched(2, EU, _POSITION, [], recovered=True),
        "watched",
        {
            "id": 2,
            "channel": "orders/eu",
            "position": HERE,
            "recovered": True,
            "entries": [],
            "unchanged": [],
            "more": False,
        },
    ),
    _case(
        "snapshot, the last page",
        encode_state.snapshot(1, ORDERS, [_ENTRY], more=False),
        "snapshot",
        {"id": 1, "channel": "orders", "entries": _TOLD[:1], "unchanged": [], "more": False},
    ),
    _case(
        "watched, as of a mutation",
        encode_state.watched(3, ORDERS, _POSITION, [_ENTRY], decided={"c1": 7}),
        "watched",
        {
            "id": 3,
            "channel": "orders",
            "position": HERE,
            "recovered": False,
            "entries": _TOLD[:1],
            "unchanged": [],
            "more": False,
            "decided": {"c1": 7},
        },
    ),
    _case(
        "snapshot, as of mutations of two clients",
        encode_state.snapshot(3, ORDERS, [], more=True, decided={"c1": 7, "c2": 300}),
        "snapshot",
        {
            "id": 3,
            "channel": "orders",
            "entries": [],
            "unchanged": [],
            "more": True,
            "decided": {"c1": 7, "c2": 300},
        },
    ),
    _case(
        "ok to read",
        encode_state.ok_entries(4, _POSITION, [_ENTRY, _GONE]),
        "ok",
        {"id": 4, "position": HERE, "entries": _TOLD},
    ),
    _case(
        "ok to rebuild",
        encode.message("ok", {"id": 9, "job": _JOB}),
        "ok",
        {"id": 9, "job": _JOB},
    ),
    _case(
        "error that names the rebuild under way",
        encode.error(9, RebuildRunning("4f2a9c01d7be6a53")),
        "error",
        {
            "id": 9,
            "code": "rebuild_running",
            "message": RebuildRunning("4f2a9c01d7be6a53").message,
            "retryable": False,
            "job": "4f2a9c01d7be6a53",
        },
    ),
    _case(
        "event of a rebuild's progress",
        encode.event_message(
            encode.EventPrefix(ChannelName("$rebuild:orders"), EPOCH, has_prev=False),
            41,
            encode.event_record(pack(_JOB), AT_MS, name="progress", key=None, client=None),
        ),
        "event",
        {
            "channel": "$rebuild:orders",
            "epoch": EPOCH,
            "offset": 41,
            "data": _JOB,
            "at_ms": AT_MS,
            "name": "progress",
        },
    ),
    *_EVENTS,
    *_INVALIDATIONS,
    _case(
        "outcome ok",
        outcome_message(outcome_ok("c1", 9, pack(3)), {ORDERS: _POSITION}),
        "outcome",
        {"client": "c1", "mid": 9, "status": "ok", "value": 3, "positions": {"orders": HERE}},
    ),
    _case(
        "outcome ok without a value",
        outcome_message(outcome_ok("c1", 9), {}),
        "outcome",
        {"client": "c1", "mid": 9, "status": "ok", "positions": {}},
    ),
    _case(
        "outcome rejected",
        outcome_message(outcome_rejected("c1", 9, "unknown_order", "No such order."), {}),
        "outcome",
        {
            "client": "c1",
            "mid": 9,
            "status": "rejected",
            "error": {"code": "unknown_order", "message": "No such order."},
            "positions": {},
        },
    ),
    _case(
        "outcome unknown",
        outcome_message(outcome_unknown("c1", 9), {}),
        "outcome",
        {"client": "c1", "mid": 9, "status": "unknown", "positions": {}},
    ),
    _case(
        "out_of_order",
        encode_state.out_of_order("c1", 8),
        "out_of_order",
        {"client": "c1", "expect": 8},
    ),
    _case(
        "error of a mutation",
        encode_state.undecided("c1", 9, _UNDECIDED),
        "error",
        {
            "client": "c1",
            "mid": 9,
            "code": "store_unavailable",
            "message": ErrorCode.STORE_UNAVAILABLE.text,
            "retryable": True,
            "after_ms": 1000,
        },
    ),
]
