"""Good frames of a client, and messages that are well-formed but wrong in a field."""

from __future__ import annotations

from typing import Any

from scripts.vectors.case import Case, pack

__all__ = ["CASES"]

POSITION = {"epoch": "0123456789abcdef", "offset": 41}
MAX = 2**53 - 1


def _good(name: str, *messages: list[Any]) -> Case:
    return Case(name, b"".join(map(pack, messages)), list(messages))


def _bad(
    name: str, message: list[Any], code: str = "bad_request", *, is_id_lost: bool = False
) -> Case:
    body = message[1]
    return Case(name, pack(message), error=code, request_id=None if is_id_lost else body.get("id"))


_DATA: dict[str, Any] = {
    "nil": None,
    "true": True,
    "false": False,
    "integer 0": 0,
    "integer 127": 127,
    "integer 128": 128,
    "integer 2^32": 2**32,
    "integer 2^53-1": MAX,
    "integer -(2^53-1)": -MAX,
    "integer -1": -1,
    "float 1.5": 1.5,
    "float -0.0": -0.0,
    "float 1e308": 1e308,
    "empty string": "",
    "text": "Grüße, 世界 \U0001f310",
    "text with NUL": "a\x00b",
    "bin": b"\x00\xff\x80",
    "empty bin": b"",
    "empty array": [],
    "empty map": {},
    "nested": {"a": [1, {"b": [None, {"c": "d"}]}]},
    "key __proto__": {"__proto__": {"polluted": True}, "constructor": 1, "toString": 2},
    "empty key": {"": 1},
}


def _publish(data: object) -> list[Any]:
    return ["publish", {"id": 1, "channel": "demo:room", "data": data}]


def _nested(depth: int) -> Any:
    value: Any = None
    for _ in range(depth):
        value = [value]
    return value


_HELLO = [
    _good("hello, anonymous", ["hello", {"v": 1}]),
    _good("hello, nil stands for absent", ["hello", {"v": 1, "token": None, "clients": None}]),
    _good(
        "hello, everything",
        [
            "hello",
            {
                "v": 1,
                "token": "eyJhbGciOiJIUzI1NiJ9.e30.c2ln",
                "group": "device-1",
                "term": 3,
                "clients": [{"client": "c1", "secret": "s1"}, {"client": "c2", "secret": "s2"}],
                "after": {"demo:room": POSITION},
            },
        ],
    ),
    _good("hello, unknown keys are ignored", ["hello", {"v": 1, "colour": "blue", "x": [1, {}]}]),
    _good("hello, a version from the future", ["hello", {"v": 2}]),
    _bad("hello without a version", ["hello", {}]),
    _bad("hello, version as text", ["hello", {"v": "1"}]),
    _bad("hello, version true", ["hello", {"v": True}]),
    _bad("hello, token too long", ["hello", {"v": 1, "token": "t" * 4097}]),
    _bad("hello, clients not a list", ["hello", {"v": 1, "clients": {}}]),
    _bad(
        "hello, 65 clients", ["hello", {"v": 1, "clients": [{"client": "c", "secret": "s"}] * 65}]
    ),
    _bad("hello, client without a secret", ["hello", {"v": 1, "clients": [{"client": "c"}]}]),
    _bad("hello, after not positions", ["hello", {"v": 1, "after": {"demo:room": 5}}]),
]

_REQUESTS = [
    _good("auth", ["auth", {"id": 1, "token": "a.b.c"}]),
    _good("subscribe", ["subscribe", {"id": 2, "channel": "demo:room"}]),
    _good(
        "subscribe from a position, with presence",
        ["subscribe", {"id": 3, "channel": "demo:room", "position": POSITION, "presence": True}],
    ),
    _good("unsubscribe", ["unsubscribe", {"id": 4, "channel": "demo:room"}]),
    _good(
        "publish, everything",
        [
            "publish",
            {
                "id": MAX,
                "channel": "demo:room",
                "name": "moved",
                "data": {"x": 1},
                "key": "k",
                "uid": "u",
            },
        ],
    ),
    _good("presence", ["presence", {"id": 5, "channel": "demo:room", "state": {"typing": True}}]),
    _good(
        "presence, leaving",
        ["presence", {"id": 6, "channel": "demo:room", "client": "c1", "state": None}],
    ),
    _good("history", ["history", {"id": 7, "channel": "demo:room", "limit": 1000}]),
    _good(
        "history backwards from a position",
        [
            "history",
            {"id": 8, "channel": "demo:room", "since": POSITION, "limit": 0, "reverse": True},
        ],
    ),
    _good("probe", ["probe", {"nonce": 7}]),
    _good("pong", ["pong", {}]),
    _good("pong with an age", ["pong", {"applied_age_ms": 40}]),
    _good("pong, unknown keys are ignored", ["pong", {"late": True}]),
    _good(
        "three messages in one frame",
        ["hello", {"v": 1}],
        ["subscribe", {"id": 1, "channel": "demo:a"}],
        ["subscribe", {"id": 2, "channel": "demo:b"}],
    ),
]

_WRONG = [
    _bad("auth without a token", ["auth", {"id": 1}]),
    _bad("subscribe without an id", ["subscribe", {"channel": "demo:room"}]),
    _bad(
        "subscribe, negative id", ["subscribe", {"id": -1, "channel": "demo:room"}], is_id_lost=True
    ),
    _bad("subscribe, id 1.0", ["subscribe", {"id": 1.0, "channel": "demo:room"}], is_id_lost=True),
    _bad(
        "subscribe, id true", ["subscribe", {"id": True, "channel": "demo:room"}], is_id_lost=True
    ),
    _bad("subscribe without a channel", ["subscribe", {"id": 1}]),
    _bad("subscribe, channel as bin", ["subscribe", {"id": 1, "channel": b"demo:room"}]),
    _bad(
        "subscribe, channel of 256 bytes", ["subscribe", {"id": 1, "channel": "demo:" + "r" * 251}]
    ),
    _bad(
        "subscribe, bare offset", ["subscribe", {"id": 1, "channel": "demo:room", "position": 41}]
    ),
    _bad(
        "subscribe, position without an epoch",
        ["subscribe", {"id": 1, "channel": "demo:room", "position": {"offset": 1}}],
    ),
    _bad(
        "subscribe, negative offset",
        ["subscribe", {"id": 1, "channel": "demo:room", "position": {"epoch": "e", "offset": -1}}],
    ),
    _bad("subscribe, presence 1", ["subscribe", {"id": 1, "channel": "demo:room", "presence": 1}]),
    _bad("publish without data", ["publish", {"id": 9, "channel": "demo:room"}]),
    _bad(
        "publish, uid too long",
        ["publish", {"id": 9, "channel": "demo:room", "data": 1, "uid": "u" * 129}],
    ),
    _bad(
        "publish, name of 129 bytes in 65 characters",
        ["publish", {"id": 9, "channel": "demo:room", "data": 1, "name": "é" * 64 + "e"}],
    ),
    _bad(
        "publish, key as integer",
        ["publish", {"id": 9, "channel": "demo:room", "data": 1, "key": 5}],
    ),
    _bad("history without a limit", ["history", {"id": 9, "channel": "demo:room"}]),
    _bad("history, limit 1001", ["history", {"id": 9, "channel": "demo:room", "limit": 1001}]),
    _bad("probe without a nonce", ["probe", {}]),
    _bad("unknown type", ["dance", {"id": 5}], "unknown_type"),
    _bad("type of a later version", ["receipt", {"id": 6}], "unknown_type"),
    _bad("type of the server", ["welcome", {}], "unknown_type"),
    _bad("type in upper case", ["HELLO", {"v": 1}], "unknown_type"),
]

CASES = [
    *_HELLO,
    *_REQUESTS,
    *(_good(f"data: {name}", _publish(value)) for name, value in _DATA.items()),
    _good("data: 30 deep, 32 with the message", _publish(_nested(30))),
    _good("data: 9,995 items, 10,000 values in all", _publish([0] * 9995)),
    *_WRONG,
]
