"""States of a connection and of a subscription, and every step between them, as tables.

`ClientCore` and `SubscriptionCore` own the states; nothing here does anything but look a step up.
"""

from __future__ import annotations

import enum

__all__ = [
    "CONNECTION_TABLE",
    "SUBSCRIPTION_TABLE",
    "ConnectionInput",
    "ConnectionState",
    "SubscriptionInput",
    "SubscriptionState",
]


class ConnectionState(enum.Enum):
    """What a client's one connection is doing."""

    IDLE = "idle"
    """Made, not started."""
    CONNECTING = "connecting"
    """Dialling, or waiting for `welcome`."""
    CONNECTED = "connected"
    OFFLINE = "offline"
    """Waiting to dial again."""
    NEEDS_AUTH = "needs_auth"
    """Waiting for a token from the application."""
    FAILED = "failed"
    """The server said stop, or no token was accepted. Final."""
    CLOSED = "closed"
    """The application closed it. Final."""

    @property
    def is_final(self) -> bool:
        """Whether nothing comes after it."""
        return self in (ConnectionState.FAILED, ConnectionState.CLOSED)


class ConnectionInput(enum.Enum):
    """What can happen to a connection."""

    START = "start"
    WELCOMED = "welcomed"
    LOST = "lost"
    """Ended with leave to come back."""
    STOPPED = "stopped"
    """Ended for good, by the server's word."""
    DENIED = "denied"
    """The token was not accepted and another may be had."""
    TIMER = "timer"
    """The wait before the next dial is over."""
    TIMER_WITHOUT_TOKEN = "timer_without_token"  # noqa: S105 - a name, not a secret
    """The same, but a token must be asked for first."""
    TOKEN = "token"  # noqa: S105 - a name, not a secret
    NO_TOKEN_NOW = "no_token_now"  # noqa: S105 - a name, not a secret
    """The application could not get a token; it may later."""
    NO_TOKEN = "no_token"  # noqa: S105 - a name, not a secret
    """The application has no token to give."""
    CLOSE = "close"


_C = ConnectionState
_I = ConnectionInput

CONNECTION_TABLE: dict[tuple[ConnectionState, ConnectionInput], ConnectionState] = {
    (_C.IDLE, _I.START): _C.CONNECTING,
    (_C.IDLE, _I.DENIED): _C.NEEDS_AUTH,
    (_C.CONNECTING, _I.WELCOMED): _C.CONNECTED,
    (_C.CONNECTING, _I.LOST): _C.OFFLINE,
    (_C.CONNECTING, _I.STOPPED): _C.FAILED,
    (_C.CONNECTING, _I.DENIED): _C.NEEDS_AUTH,
    (_C.CONNECTED, _I.LOST): _C.OFFLINE,
    (_C.CONNECTED, _I.STOPPED): _C.FAILED,
    (_C.CONNECTED, _I.DENIED): _C.NEEDS_AUTH,
    (_C.OFFLINE, _I.TIMER): _C.CONNECTING,
    (_C.OFFLINE, _I.TIMER_WITHOUT_TOKEN): _C.NEEDS_AUTH,
    (_C.NEEDS_AUTH, _I.TOKEN): _C.CONNECTING,
    (_C.NEEDS_AUTH, _I.NO_TOKEN_NOW): _C.OFFLINE,
    (_C.NEEDS_AUTH, _I.NO_TOKEN): _C.FAILED,
    (_C.IDLE, _I.CLOSE): _C.CLOSED,
    (_C.CONNECTING, _I.CLOSE): _C.CLOSED,
    (_C.CONNECTED, _I.CLOSE): _C.CLOSED,
    (_C.OFFLINE, _I.CLOSE): _C.CLOSED,
    (_C.NEEDS_AUTH, _I.CLOSE): _C.CLOSED,
}
"""A pair that is missing cannot happen by the server's doing: `ClientCore` ignores it."""


class SubscriptionState(enum.Enum):
    """What one subscription is doing on the present connection."""

    UNSUBSCRIBED = "unsubscribed"
    """The server has not been asked: offline, or waiting to ask again."""
    SUBSCRIBING = "subscribing"
    """Asked; whatever comes before the answer belongs to an older subscription and is ignored."""
    SUBSCRIBED = "subscribed"
    LAGGED = "lagged"
    """The application is behind: the server was told to stop until it has caught up."""
    ENDED = "ended"
    """Final."""


class SubscriptionInput(enum.Enum):
    """What can happen to a subscription."""

    ASK = "ask"
    """A connection is there and nothing stands in the way."""
    ANSWERED = "answered"
    GAP = "gap"
    """Something is missing: `prev` does not fit, the server said `lagged` or `reset`."""
    POSTPONED = "postponed"
    """The server refused for now."""
    OFFLINE = "offline"
    RESTART = "restart"
    """The application wants something else of it."""
    HOLD = "hold"
    RELEASE = "release"
    END = "end"


_S = SubscriptionState
_N = SubscriptionInput

SUBSCRIPTION_TABLE: dict[tuple[SubscriptionState, SubscriptionInput], SubscriptionState] = {
    (_S.UNSUBSCRIBED, _N.ASK): _S.SUBSCRIBING,
    (_S.UNSUBSCRIBED, _N.OFFLINE): _S.UNSUBSCRIBED,
    (_S.UNSUBSCRIBED, _N.RESTART): _S.UNSUBSCRIBED,
    (_S.UNSUBSCRIBED, _N.HOLD): _S.LAGGED,
    (_S.UNSUBSCRIBED, _N.END): _S.ENDED,
    (_S.SUBSCRIBING, _N.ANSWERED): _S.SUBSCRIBED,
    (_S.SUBSCRIBING, _N.POSTPONED): _S.UNSUBSCRIBED,
    (_S.SUBSCRIBING, _N.OFFLINE): _S.UNSUBSCRIBED,
    (_S.SUBSCRIBING, _N.RESTART): _S.UNSUBSCRIBED,
    (_S.SUBSCRIBING, _N.HOLD): _S.LAGGED,
    (_S.SUBSCRIBING, _N.END): _S.ENDED,
    (_S.SUBSCRIBED, _N.ANSWERED): _S.SUBSCRIBED,
    (_S.SUBSCRIBED, _N.GAP): _S.UNSUBSCRIBED,
    (_S.SUBSCRIBED, _N.OFFLINE): _S.UNSUBSCRIBED,
    (_S.SUBSCRIBED, _N.RESTART): _S.UNSUBSCRIBED,
    (_S.SUBSCRIBED, _N.HOLD): _S.LAGGED,
    (_S.SUBSCRIBED, _N.END): _S.ENDED,
    (_S.LAGGED, _N.RELEASE): _S.UNSUBSCRIBED,
    (_S.LAGGED, _N.RESTART): _S.UNSUBSCRIBED,
    (_S.LAGGED, _N.OFFLINE): _S.LAGGED,
    (_S.LAGGED, _N.HOLD): _S.LAGGED,
    (_S.LAGGED, _N.END): _S.ENDED,
}
"""A pair that is missing changes nothing."""
