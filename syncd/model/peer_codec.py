"""How messages of nodes are written: `[node, kind, seq, body]` in msgpack. Pure.

Used by the cluster room alone. Whoever can write to the bus can write anything, so all is checked before it is believed: `decode` returns
a message whose every field has its type and its bound, or raises `BadPeerMessage`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import attrs
import msgpack

from syncd.errors import RequestRejected
from syncd.ids import ChannelName
from syncd.model.peer_messages import (
    Ask,
    Beat,
    Changes,
    Heard,
    Leaving,
    OrderDone,
    OrderGiven,
    Page,
    PeerMessage,
    Taken,
    Terms,
)
from syncd.ports_cluster import (
    Claim,
    DisconnectOrder,
    NodeLoad,
    Order,
    PresenceChange,
    PresenceKey,
    Revoked,
    RevokeOrder,
    UnsubscribeOrder,
    Withdrawal,
)
from syncd.ports_operators import Target
from syncd.wire.channels import check_channel

__all__ = ["MAX_PAYLOAD_BYTES", "BadPeerMessage", "decode", "encode", "prefix_of"]

MAX_PAYLOAD_BYTES = 1_048_576
"""Senders keep to a sixteenth of it."""
MAX_TEXT_BYTES = 1024
MAX_STAMP = 2**53
"""Microseconds: the year 2255."""
_UINT_MAX = 2**64 - 1


class BadPeerMessage(ValueError):
    """What came is no message of a node of this version."""


# ------------------------------------------------------------------------------------------------ encode

_PUT, _LEFT, _MOVED = 0, 1, 2


def encode(node: str, seq: int, message: PeerMessage) -> bytes:
    """Return the payload."""
    kind = _KINDS[type(message)]
    body: bytes = msgpack.packb([node, kind, seq, _BODY_OF[kind](message)])
    return body


def prefix_of(node: str) -> bytes:
    """Return how every payload of a node begins, so that its own echo is known unread."""
    prefix: bytes = b"\x94" + msgpack.packb(node)
    return prefix


def _beat_body(beat: Beat) -> list[Any]:
    return [*attrs.astuple(beat.load), beat.stamp, beat.num_members, beat.digest]


def _changes_body(message: Changes) -> list[Any]:
    return [
        [*key, _PUT, change.stamp, change.user, change.state]
        if isinstance(change, Claim)
        else [*key, _MOVED if change.is_moved else _LEFT, change.stamp, None, b""]
        for key, change in message.changes.items()
    ]


def _page_body(page: Page) -> list[Any]:
    claims = [[*key, c.stamp, c.user, c.state] for key, c in page.claims.items()]
    revoked = [[each.until_s, each.user, each.token_id] for each in page.revoked]
    return [page.is_first, page.is_last, claims, revoked, page.terms]


def _order_body(message: OrderGiven) -> list[Any]:
    order = message.order
    target = list(attrs.astuple(order.target))
    match order:
        case DisconnectOrder():
            return [message.id, "disconnect", target, order.reconnect, order.reason]
        case UnsubscribeOrder():
            return [message.id, "unsubscribe", target, order.channel, None]
        case RevokeOrder():
            return [message.id, "revoke", target, order.until_s, None]


# ------------------------------------------------------------------------------------------------ decode


def decode(payload: bytes) -> Heard:
    """Return what a payload says.

    Raises:
        BadPeerMessage: it is none of ours; the text says why, without what a client wrote.
    """
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise BadPeerMessage("too large")
    try:
        node, kind, seq, body = msgpack.unpackb(payload, raw=False, max_ext_len=0)
        reader = _READER_OF.get(kind)
        if reader is None:
            raise BadPeerMessage("unknown kind")
        return Heard(_name(node), _uint(seq), reader(body))
    except (ValueError, TypeError, KeyError, IndexError, RecursionError, RequestRejected) as error:
        if isinstance(error, BadPeerMessage):
            raise
        raise BadPeerMessage(type(error).__name__) from None
    except msgpack.exceptions.UnpackException as error:
        raise BadPeerMessage(type(error).__name__) from None


def _of(kind: type | tuple[type, ...], value: Any) -> Any:
    wanted = kind if isinstance(kind, tuple) else (kind,)
    if type(value) not in wanted:
        raise BadPeerMessage(f"{type(value).__name__} where {wanted[0].__name__} belongs")
    return value


def _text(value: Any) -> str:
    text: str = _of(str, value)
    if len(text) > MAX_TEXT_BYTES:
        raise BadPeerMessage("a text is too long")
    return text


def _name(value: Any) -> str:
    name = _text(value)
    if not 0 < len(name) <= 64:
        raise BadPeerMessage("not the name of a node")
    return name


def _optional_text(value: Any) -> str | None:
    return None if value is None else _text(value)


def _uint(value: Any, maximum: int = _UINT_MAX) -> int:
    number: int = _of(int, value)
    if not 0 <= number <= maximum:
        raise BadPeerMessage("a number is out of range")
    return number


def _stamp(value: Any) -> int:
    return _uint(value, MAX_STAMP)


def _number(value: Any) -> float:
    number = float(_of((float, int), value))
    if not abs(number) < 2**53:  # NaN fails this too
        raise BadPeerMessage("a number is out of range")
    return number


def _channel(value: Any) -> ChannelName:
    return check_channel(_text(value))


def _state(value: Any) -> bytes:
    """A presence state is passed on to clients as it is: it has to be one value of msgpack."""
    state: bytes = _of(bytes, value)
    msgpack.unpackb(state, raw=False, max_ext_len=0)
    return state


def _claim(stamp: Any, user: Any, state: Any) -> Claim:
    return Claim(_optional_text(user), _state(state), _stamp(stamp))


def _rows(value: Any, width: int) -> Iterable[list[Any]]:
    for row in _of(list, value):
        if len(_of(list, row)) != width:
            raise BadPeerMessage("a row has the wrong length")
        yield row


def _read_beat(body: Any) -> Beat:
    version, address, *numbers, stamp, members, digest = _of(list, body)
    connections, sessions, lag_ms, store_lag_ms, started_at_ms = numbers
    load = NodeLoad(
        _text(version),
        _text(address),
        _uint(connections),
        _uint(sessions),
        _number(lag_ms),
        _number(store_lag_ms),
        _uint(started_at_ms),
    )
    return Beat(load, _stamp(stamp), _uint(members), None if digest is None else _uint(digest))


def _read_changes(body: Any) -> Changes:
    changes: dict[PresenceKey, PresenceChange] = {}
    for channel, client, kind, stamp, user, state in _rows(body, 6):
        key = (_channel(channel), _text(client))
        if kind == _PUT:
            changes[key] = _claim(stamp, user, state)
        elif kind in (_LEFT, _MOVED):
            changes[key] = Withdrawal(_stamp(stamp), kind == _MOVED)
        else:
            raise BadPeerMessage("unknown change")
    return Changes(changes)


def _read_page(body: Any) -> Page:
    is_first, is_last, claims, revoked, terms = _of(list, body)
    return Page(
        _of(bool, is_first),
        _of(bool, is_last),
        {
            (_channel(channel), _text(client)): _claim(stamp, user, state)
            for channel, client, stamp, user, state in _rows(claims, 5)
        },
        [
            Revoked(_number(until_s), _optional_text(user), _optional_text(token_id))
            for until_s, user, token_id in _rows(revoked, 3)
        ],
        _read_terms(terms).terms,
    )


def _read_ask(body: Any) -> Ask:
    return Ask(None if body is None else [_name(node) for node in _of(list, body)])


def _read_order(body: Any) -> OrderGiven:
    number, action, fields, what, reason = _of(list, body)
    target = Target(*(_optional_text(field) for field in _of(list, fields)))
    if target == Target():
        raise BadPeerMessage("an order to nobody")
    order: Order
    if action == "disconnect":
        order = DisconnectOrder(target, _of(bool, what), _text(reason))
    elif action == "unsubscribe":
        order = UnsubscribeOrder(target, _channel(what))
    elif action == "revoke":
        order = RevokeOrder(target, _number(what))
    else:
        raise BadPeerMessage("unknown order")
    return OrderGiven(_uint(number), order)


def _read_done(body: Any) -> OrderDone:
    node, number, count = _of(list, body)
    return OrderDone(_name(node), _uint(number), _uint(count))


def _read_taken(body: Any) -> Taken:
    return Taken([(_text(client), _stamp(stamp)) for client, stamp in _rows(body, 2)])


def _read_terms(body: Any) -> Terms:
    return Terms(
        [
            (_optional_text(user), _text(group), _uint(term, 2**53))
            for user, group, term in _rows(body, 3)
        ]
    )


def _read_leaving(_body: Any) -> Leaving:
    return Leaving()


_KINDS: dict[type, str] = {
    Beat: "beat",
    Changes: "presence",
    Page: "page",
    Ask: "ask",
    OrderGiven: "order",
    OrderDone: "done",
    Taken: "taken",
    Terms: "terms",
    Leaving: "leaving",
}

_BODY_OF: dict[str, Callable[[Any], Any]] = {
    "beat": _beat_body,
    "presence": _changes_body,
    "page": _page_body,
    "ask": lambda message: message.nodes,
    "order": _order_body,
    "done": lambda message: [message.node, message.id, message.count],
    "taken": lambda message: message.clients,
    "terms": lambda message: message.terms,
    "leaving": lambda _message: None,
}

_READER_OF: dict[str, Callable[[Any], PeerMessage]] = {
    "beat": _read_beat,
    "presence": _read_changes,
    "page": _read_page,
    "ask": _read_ask,
    "order": _read_order,
    "done": _read_done,
    "taken": _read_taken,
    "terms": _read_terms,
    "leaving": _read_leaving,
}
