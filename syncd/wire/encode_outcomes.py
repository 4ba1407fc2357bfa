"""Encoders for outcomes of mutations. An outcome is stored without positions, which only the commit gives.

What is stored is the encoded body `{client, mid, status, value? | error?}`, a map of three or four pairs; the `outcome` message
is the same bytes with one pair more.
"""

from __future__ import annotations

from collections.abc import Mapping

from syncd.ids import ChannelName, Position
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
_NO_POSITIONS = _POSITIONS + b"\x80"
_OUTCOME = b"\x92" + pack("outcome")


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
    head = bytes((outcome[0] + 1,))
    if not positions:
        return b"".join((_OUTCOME, head, outcome[1:], _NO_POSITIONS))
    places = {
        channel: {"epoch": position.epoch, "offset": position.offset}
        for channel, position in positions.items()
    }
    return b"".join((_OUTCOME, head, outcome[1:], _POSITIONS, pack(places)))
