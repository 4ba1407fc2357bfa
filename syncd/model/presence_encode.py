"""Encoders of presence messages, spliced from parts that are encoded once. Pure.

A member's parts are shared by every state and diff that tells of it: nothing is decoded or packed again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import chain

import msgpack

from syncd.ids import ChannelName
from syncd.wire.encode import pack, pack_uint

__all__ = [
    "MemberParts",
    "client_state",
    "member_head",
    "member_parts",
    "presence_diff",
    "presence_state",
    "raw_state",
]

MemberParts = tuple[bytes, ...]
"""One `shapes.member` in pieces: its head, the header of `states`, then one piece a client."""

_array_header = msgpack.Packer(autoreset=True).pack_array_header

_CLIENT_STATE = b"\x82" + pack("client")
_STATE = pack("state")
_MEMBER_OF_CLIENT = b"\x82" + pack("member")
_MEMBER_OF_USER = b"\x83" + pack("member")
_USER = pack("user")
_STATES = pack("states")
_PRESENCE_STATE = b"\x92" + pack("presence_state") + b"\x83" + pack("channel")
_PRESENCE_DIFF = b"\x92" + pack("presence_diff") + b"\x85" + pack("channel")
_SEQ = pack("seq")
_MEMBERS = pack("members")
_JOINS = pack("joins")
_UPDATES = pack("updates")
_LEAVES = pack("leaves")


def client_state(client: str, state: bytes) -> bytes:
    """Encode `{client, state}`; `state` is encoded already."""
    return _CLIENT_STATE + pack(client) + _STATE + state


def raw_state(client: str, encoded: bytes) -> bytes:
    """Return the `state` that `client_state` encoded for this client."""
    return encoded[len(_CLIENT_STATE) + len(pack(client)) + len(_STATE) :]


def member_head(member: str, user: str | None) -> bytes:
    """Encode everything of a member before its states."""
    if user is None:
        return _MEMBER_OF_CLIENT + pack(member) + _STATES
    return _MEMBER_OF_USER + pack(member) + _USER + pack(user) + _STATES


def member_parts(head: bytes, states: Sequence[bytes]) -> MemberParts:
    """Return a member as pieces, from its head and its clients' states."""
    return (head, _array_header(len(states)), *states)


def presence_state(channel: ChannelName, seq: int, members: Collection[MemberParts]) -> bytes:
    """Encode `presence_state`."""
    return b"".join(
        chain(
            (_PRESENCE_STATE, pack(channel), _SEQ, pack_uint(seq), _MEMBERS),
            _list(members),
        )
    )


def presence_diff(
    channel: ChannelName,
    seq: int,
    joins: Collection[MemberParts],
    updates: Collection[MemberParts],
    leaves: list[str],
) -> bytes:
    """Encode `presence_diff`."""
    return b"".join(
        chain(
            (_PRESENCE_DIFF, pack(channel), _SEQ, pack_uint(seq), _JOINS),
            _list(joins),
            (_UPDATES,),
            _list(updates),
            (_LEAVES, pack(leaves)),
        )
    )


def _list(members: Collection[MemberParts]) -> Iterable[bytes]:
    return chain((_array_header(len(members)),), chain.from_iterable(members))
