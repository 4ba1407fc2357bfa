"""The session state machine: which client message may come when.

    OPENING --hello--> OPEN --(anything but hello)--> OPEN --close--> CLOSING --> CLOSED

The table is all there is: a message type that a phase does not list breaks the protocol, and the connection is closed with
4500. What a message *does* is the gateway's business; this module only says whether it may come.
"""

from __future__ import annotations

import enum

from syncd.wire import messages as m

__all__ = ["TRANSITIONS", "Phase", "next_phase"]


class Phase(enum.IntEnum):
    """Where a connection stands. The first two lie before the protocol proper."""

    HEAD = 0
    """Reading the HTTP request head."""
    OPENING = 1
    """WebSocket established, `hello` awaited."""
    OPEN = 2
    CLOSING = 3
    """Our close frame is queued; only the peer's close frame still counts."""
    CLOSED = 4


_WHILE_OPEN: tuple[type, ...] = (
    m.Auth,
    m.Subscribe,
    m.Unsubscribe,
    m.Publish,
    m.EncodedPublish,
    m.Presence,
    m.History,
    m.Mutate,
    m.MutateAck,
    m.Watch,
    m.Unwatch,
    m.Read,
    m.Rebuild,
    m.RebuildCancel,
    m.Probe,
    m.Pong,
)

TRANSITIONS: dict[Phase, dict[type, Phase]] = {
    Phase.HEAD: {},
    Phase.OPENING: {m.Hello: Phase.OPEN},
    Phase.OPEN: dict.fromkeys(_WHILE_OPEN, Phase.OPEN),
    Phase.CLOSING: {},
    Phase.CLOSED: {},
}


def next_phase(phase: Phase, message_type: type) -> Phase | None:
    """Return the phase after a message of this type, or None if it may not come now."""
    return TRANSITIONS[phase].get(message_type)
