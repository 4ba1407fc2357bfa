"""Every message of the server, as its encoder writes it."""

from __future__ import annotations

from typing import Any

from scripts.vectors.case import Case, pack
from syncd.codes import CloseCode, ErrorCode, Reason
from syncd.errors import SyncdError
from syncd.ids import ChannelName, Epoch
from syncd.wire import encode

__all__ = ["CASES"]

ROOM = ChannelName("demo:room")
LIVE = ChannelName("live:cursors")
EPOCH = Epoch("0123456789abcdef")
AT_MS = 1_790_000_000_000
MAX = 2**53 - 1

_PREFIX = encode.EventPrefix(ROOM, EPOCH)
_LATEST = encode.EventPrefix(ROOM, EPOCH, has_prev=False)
_EPHEMERAL = encode.EventPrefix(LIVE, None)


def _record(
    data: object, name: str | None = None, key: str | None = None, client: str | None = None
) -> bytes:
    return encode.event_record(pack(data), AT_MS, name=name, key=key, client=client)


def _position(offset: int) -> dict[str, Any]:
    return {"epoch": EPOCH, "offset": offset}


def _event(offset: int, data: object, **more: object) -> dict[str, Any]:
    place = {"epoch": EPOCH, "prev": offset - 1, "offset": offset}
    return {"channel": ROOM, **place, "data": data, "at_ms": AT_MS, **more}


def _case(name: str, frame: bytes, *decoded: list[Any]) -> Case:
    return Case(name, frame, list(decoded), direction="server")


def _plain(name: str, kind: str, body: dict[str, Any]) -> Case:
    return _case(name, encode.message(kind, body), [kind, body])


def _error(
    name: str, code: ErrorCode, request_id: int | None = None, after_ms: int | None = None
) -> Case:
    failure = SyncdError(code, after_ms=after_ms)
    body: dict[str, Any] = {} if request_id is None else {"id": request_id}
    body |= {"code": code.value, "message": code.text, "retryable": code.retryable}
    if after_ms is not None:
        body["after_ms"] = after_ms
    return _case(name, encode.error(request_id, failure), ["error", body])


_MEMBERS: list[dict[str, Any]] = [
    {
        "member": "ada",
        "user": "ada",
        "states": [{"client": "c1", "state": {"typing": True}}, {"client": "c2", "state": {}}],
    },
    {"member": "c3", "states": [{"client": "c3", "state": "here"}]},
]

_SESSION = [
    _plain(
        "welcome, a client issued now",
        "welcome",
        {
            "session": "s-1",
            "clients": [{"client": "c1", "secret": "a secret", "last_mid": 0}],
            "server_time_ms": AT_MS,
            "ping_ms": 25_000,
            "max_frame_bytes": 65_536,
        },
    ),
    _plain(
        "welcome, a client known already",
        "welcome",
        {
            "session": "s-2",
            "clients": [{"client": "c1", "last_mid": 12}],
            "server_time_ms": AT_MS,
            "ping_ms": 25_000,
            "max_frame_bytes": 65_536,
        },
    ),
    _plain("ping", "ping", {}),
    _plain("pong", "pong", {"nonce": MAX}),
    _plain(
        "reset, one channel",
        "reset",
        {"scope": "channel", "channel": ROOM, "code": Reason.EPOCH_CHANGED.value},
    ),
    _plain(
        "reset, one client",
        "reset",
        {"scope": "client", "client": "c0", "code": Reason.CLIENT_UNKNOWN.value},
    ),
    _plain("reset, all", "reset", {"scope": "all", "code": Reason.EPOCH_CHANGED.value}),
    *(
        _case(
            f"bye {code.value}",
            encode.bye(code, code.name.lower(), reconnect=code.reconnect, after_ms=after_ms),
            [
                "bye",
                {
                    "code": code.value,
                    "reason": code.name.lower(),
                    "reconnect": code.reconnect,
                    "after_ms": after_ms,
                },
            ],
        )
        for code, after_ms in (
            (CloseCode.GOING_AWAY, 1000),
            (CloseCode.UNAUTHORIZED, 0),
            (CloseCode.TAKEN_OVER, 0),
        )
    ),
]

_REPLIES = [
    _case("ok", encode.ok(1), ["ok", {"id": 1}]),
    _case(
        "ok with a position",
        encode.ok(MAX, EPOCH, 300),
        ["ok", {"id": MAX, "position": _position(300)}],
    ),
    _case(
        "ok, history",
        encode.ok_events(
            2,
            EPOCH,
            70_000,
            [encode.event_body(_PREFIX, offset, _record("x")) for offset in (69_999, 70_000)],
        ),
        [
            "ok",
            {
                "id": 2,
                "position": _position(70_000),
                "events": [_event(69_999, "x"), _event(70_000, "x")],
            },
        ],
    ),
    _case(
        "ok, empty history",
        encode.ok_events(2, EPOCH, 0, []),
        ["ok", {"id": 2, "position": _position(0), "events": []}],
    ),
    *(
        _error(f"error {code.value}", code, 3, 250 if code.retryable else None)
        for code in ErrorCode
    ),
    _error("error without an id", ErrorCode.BAD_MESSAGE),
]


def _subscribed(name: str, offset: int, events: list[int], **flags: bool) -> Case:
    bodies = [encode.event_body(_PREFIX, each, _record(each)) for each in events]
    frame = encode.subscribed(4, ROOM, EPOCH, offset, bodies=bodies, **flags)
    body = {
        "id": 4,
        "channel": ROOM,
        "position": _position(offset),
        **flags,
        "events": [_event(each, each) for each in events],
    }
    return _case(name, frame, ["subscribed", body])


_STREAMS = [
    _subscribed("subscribed, fresh", 9, [], was_recovering=False, recovered=False),
    _subscribed("subscribed, recovered", 9, [8, 9], was_recovering=True, recovered=True),
    _subscribed("subscribed, not recovered", 9, [], was_recovering=True, recovered=False),
    _subscribed(
        "subscribed, twenty events", 20, list(range(1, 21)), was_recovering=True, recovered=True
    ),
    _case(
        "subscribed, ephemeral",
        encode.subscribed(5, LIVE, None, 0, was_recovering=False, recovered=False),
        [
            "subscribed",
            {"id": 5, "channel": LIVE, "was_recovering": False, "recovered": False, "events": []},
        ],
    ),
    _case(
        "subscribed again by the server",
        encode.subscribed(None, ROOM, EPOCH, 0, was_recovering=True, recovered=False),
        [
            "subscribed",
            {
                "channel": ROOM,
                "position": _position(0),
                "was_recovering": True,
                "recovered": False,
                "events": [],
            },
        ],
    ),
    _plain(
        "unsubscribed",
        "unsubscribed",
        {"channel": ROOM, "code": Reason.REVOKED.value, "reason": "The permission was taken away."},
    ),
    _case(
        "event", encode.event_message(_PREFIX, 1, _record({"x": 1})), ["event", _event(1, {"x": 1})]
    ),
    _case(
        "event, everything",
        encode.event_message(_PREFIX, 65_536, _record([1, b"\x00"], "moved", "k", "c1")),
        ["event", _event(65_536, [1, b"\x00"], name="moved", key="k", by={"client": "c1"})],
    ),
    _case(
        "event at the largest offset",
        encode.event_message(_PREFIX, MAX, _record(None)),
        ["event", _event(MAX, None)],
    ),
    _case(
        "event with a key __proto__",
        encode.event_message(
            _PREFIX, 2, _record({"__proto__": {"polluted": True}}, key="__proto__")
        ),
        ["event", _event(2, {"__proto__": {"polluted": True}}, key="__proto__")],
    ),
    _case(
        "event of a latest channel, without prev",
        encode.event_message(_LATEST, 300, _record(1, key="a")),
        [
            "event",
            {"channel": ROOM, "epoch": EPOCH, "offset": 300, "data": 1, "key": "a", "at_ms": AT_MS},
        ],
    ),
    _case(
        "event, ephemeral",
        encode.event_message(_EPHEMERAL, 0, _record(-0.0, client="c1")),
        ["event", {"channel": LIVE, "data": -0.0, "at_ms": AT_MS, "by": {"client": "c1"}}],
    ),
    _case(
        "two events and a mark in one frame",
        encode.event_message(_PREFIX, 200, _record(1, key="a"))
        + encode.event_message(_PREFIX, 201, _record(2, key="b"))
        + encode.mark(ROOM, EPOCH, 201),
        ["event", _event(200, 1, key="a")],
        ["event", _event(201, 2, key="b")],
        ["mark", {"channel": ROOM, "position": _position(201)}],
    ),
    _case(
        "lagged",
        encode.lagged(ROOM, EPOCH, 12),
        ["lagged", {"channel": ROOM, "position": _position(12)}],
    ),
    _case("lagged, ephemeral", encode.lagged(LIVE, None, 0), ["lagged", {"channel": LIVE}]),
]

_PRESENCE = [
    _plain("presence_state", "presence_state", {"channel": ROOM, "seq": 3, "members": _MEMBERS}),
    _plain("presence_state, nobody", "presence_state", {"channel": ROOM, "seq": 0, "members": []}),
    _plain(
        "presence_diff",
        "presence_diff",
        {
            "channel": ROOM,
            "seq": 4,
            "joins": _MEMBERS[1:],
            "updates": _MEMBERS[:1],
            "leaves": ["bob"],
        },
    ),
]

_FUTURE = [
    _case(
        "a type and a key of a later version are ignored",
        pack(["fireworks", {"colour": "red"}]) + pack(["ping", {"hint": 1}]),
        ["fireworks", {"colour": "red"}],
        ["ping", {"hint": 1}],
    ),
]

CASES = [*_SESSION, *_REPLIES, *_STREAMS, *_PRESENCE, *_FUTURE]
