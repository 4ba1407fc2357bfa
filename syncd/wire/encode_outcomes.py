"""Encoders for outcomes of mutations. An outcome is stored without positions, which only the commit gives.

What is stored is the encoded body `{client, mid, status, value? | error?}`, a map of three or four pairs; the `outcome` message
is the same bytes with one pair more.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

from syncd.ids import ChannelName, Epoch, Position
from syncd.wire.encode import pack, pack_uint

__all__ = ["outcome_message", "outcome_ok", "outcome_rejected", "outcome_unknown"]

_CLIENT = pack("client")
_MID = pack("mid")
_OK = pack("status") + pack("ok")
_THREE_PAIRS = b"\x83" + _CLIENT
_REJECTED = pack("status") + pack("rejected") + pack("error")
_UNKNOWN = pack("status") + pack("unknown")
_VALUE = pack("value")
_POSITIONS = pack("positions")
_ONE_POSITION = _POSITIONS + b"\x81"
_EPOCH, _OFFSET = pack("epoch"), pack("offset")
_OUTCOME_OF = [b"\x92" + pack("outcome") + bytes((0x81 + pairs,)) for pairs in range(15)]
"""By how many pairs the stored outcome has: the message has one more."""


def outcome_ok(client: str, mid: int, value: bytes | None = None) -> bytes:
    """Encode the outcome of a mutation that took effect; `value` is encoded, None leaves it out."""
    if value is None:
        return b"".join((_THREE_PAIRS, pack(client), _MID, pack_uint(mid), _OK))
    return b"".join((b"\x84", _CLIENT, pack(client), _MID, pack_uint(mid), _OK, _VALUE, value))


def outcome_rejected(client: str, mid: int, code: str, message: str) -> bytes:
    """Encode the outcome of a mutation that was refused for good."""
    error = pack({"code": code, "message": message})
    return b"".join((b"\x84", _CLIENT, pack(client), _MID, pack_uint(mid), _REJECTED, error))


def outcome_unknown(client: str, mid: int) -> bytes:
    """Encode the answer about a mutation that was decided, but whose outcome is no longer kept."""
    return b"".join((b"\x83", _CLIENT, pack(client), _MID, pack_uint(mid), _UNKNOWN))


def outcome_message(outcome: bytes, positions: Mapping[ChannelName, Position]) -> bytes:
    """Encode an `outcome` message from a stored outcome and where its effect is visible."""
    head, pairs = _OUTCOME_OF[outcome[0] & 0x0F], outcome[1:]
    if len(positions) == 1:
        ((channel, position),) = positions.items()
        place = _place(channel, position.epoch)
        return b"".join((head, pairs, _ONE_POSITION, place, pack_uint(position.offset)))
    places = {
        channel: {"epoch": position.epoch, "offset": position.offset}
        for channel, position in positions.items()
    }
    return b"".join((head, pairs, _POSITIONS, pack(places)))


@functools.lru_cache(maxsize=256)
def _place(channel: ChannelName, epoch: Epoch) -> bytes:
    """Encode a pair of `positions`, but for its offset: it is the same for one outcome after the other."""
    return b"".join((pack(channel), b"\x82", _EPOCH, pack(epoch), _OFFSET))
