"""The codes of `protocol/codes.toml` as enums. A house test keeps both equal."""

from __future__ import annotations

import enum

__all__ = ["CloseCode", "ErrorCode", "Reason", "Rejection"]


class ErrorCode(enum.Enum):
    """`error.code`. The value is what goes over the wire."""

    BAD_MESSAGE = "bad_message"
    UNKNOWN_TYPE = "unknown_type"
    BAD_REQUEST = "bad_request"
    BAD_CHANNEL = "bad_channel"
    UNAUTHORIZED = "unauthorized"
    PERMISSION_DENIED = "permission_denied"
    CLIENT_DENIED = "client_denied"
    ALREADY_SUBSCRIBED = "already_subscribed"
    NOT_SUBSCRIBED = "not_subscribed"
    NOT_SUPPORTED = "not_supported"
    TOO_LARGE = "too_large"
    LIMIT_EXCEEDED = "limit_exceeded"
    IDEMPOTENCY_MISMATCH = "idempotency_mismatch"
    BAD_KEY = "bad_key"
    NOT_WATCHED = "not_watched"
    STALE_TERM = "stale_term"
    LOAD_FAILED = "load_failed"
    LOAD_TIMEOUT = "load_timeout"
    BAD_SOURCE = "bad_source"
    BEHIND = "behind"
    REBUILD_RUNNING = "rebuild_running"
    UNRECOVERABLE_POSITION = "unrecoverable_position"
    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    STORE_UNAVAILABLE = "store_unavailable"
    INTERNAL_ERROR = "internal_error"
    SHUTTING_DOWN = "shutting_down"

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later, unchanged."""
        return self in _RETRYABLE

    @property
    def text(self) -> str:
        """One sentence for people; may change between releases."""
        return ERROR_TEXTS[self]


_RETRYABLE = frozenset(
    {
        ErrorCode.RATE_LIMITED,
        ErrorCode.OVERLOADED,
        ErrorCode.STORE_UNAVAILABLE,
        ErrorCode.INTERNAL_ERROR,
        ErrorCode.SHUTTING_DOWN,
        ErrorCode.LOAD_FAILED,
        ErrorCode.LOAD_TIMEOUT,
        ErrorCode.BEHIND,
    }
)

ERROR_TEXTS: dict[ErrorCode, str] = {
    ErrorCode.BAD_MESSAGE: "The frame is not a sequence of well-formed syncd messages.",
    ErrorCode.UNKNOWN_TYPE: "The server does not know this message type.",
    ErrorCode.BAD_REQUEST: "A field is missing, of the wrong type, or out of range.",
    ErrorCode.BAD_CHANNEL: "The channel name is not of the form namespace:name.",
    ErrorCode.UNAUTHORIZED: "The token or key is missing or not accepted.",
    ErrorCode.PERMISSION_DENIED: (
        "The channel or collection does not exist or this identity may not do that on it."
    ),
    ErrorCode.CLIENT_DENIED: "The client id and its secret do not belong together.",
    ErrorCode.ALREADY_SUBSCRIBED: "This session is already subscribed to the channel.",
    ErrorCode.NOT_SUBSCRIBED: "This session is not subscribed to the channel.",
    ErrorCode.NOT_SUPPORTED: "The channel's namespace does not offer this operation.",
    ErrorCode.TOO_LARGE: "The message is larger than allowed here.",
    ErrorCode.LIMIT_EXCEEDED: "A limit of this session or channel is reached.",
    ErrorCode.IDEMPOTENCY_MISMATCH: ("This idempotency key was used for a different request."),
    ErrorCode.BAD_KEY: (
        "A key is empty, too long, has control characters, or names no partition where one is needed."
    ),
    ErrorCode.NOT_WATCHED: "This session does not watch that collection or partition.",
    ErrorCode.STALE_TERM: (
        "A session with a newer term of this group has taken over; this one may read but not mutate."
    ),
    ErrorCode.LOAD_FAILED: "The source of this collection did not deliver.",
    ErrorCode.LOAD_TIMEOUT: "The source of this collection did not answer in time.",
    ErrorCode.BAD_SOURCE: "The source of this collection delivered something that cannot be kept.",
    ErrorCode.BEHIND: "This node has not yet seen the position asked for.",
    ErrorCode.REBUILD_RUNNING: "A rebuild of this collection is under way.",
    ErrorCode.UNRECOVERABLE_POSITION: (
        "The position is of another epoch or older than what is kept."
    ),
    ErrorCode.RATE_LIMITED: "Too many messages; wait after_ms and go on.",
    ErrorCode.OVERLOADED: "The server has too much to do; try again after after_ms.",
    ErrorCode.STORE_UNAVAILABLE: "The store cannot write or read at the moment.",
    ErrorCode.INTERNAL_ERROR: ("The server failed to handle this request; others are unaffected."),
    ErrorCode.SHUTTING_DOWN: "The node is stopping; reconnect.",
}


class Rejection(enum.Enum):
    """`outcome.error.code` where the server itself refuses a mutation; applications have codes of their own."""

    PERMISSION_DENIED = "permission_denied"
    UNKNOWN_MUTATOR = "unknown_mutator"
    BAD_ARGUMENTS = "bad_arguments"
    BAD_KEY = "bad_key"
    TOO_LARGE = "too_large"
    VERSION_MISMATCH = "version_mismatch"
    NOT_A_NUMBER = "not_a_number"
    OUT_OF_RANGE = "out_of_range"
    MUTATOR_FAILED = "mutator_failed"
    MUTATOR_TIMEOUT = "mutator_timeout"
    SOURCE_OWNED = "source_owned"
    BAD_SOURCE = "bad_source"


class Reason(enum.Enum):
    """`unsubscribed.code` and `reset.code`."""

    UNSUBSCRIBED = "unsubscribed"
    REVOKED = "revoked"
    EXPIRED = "expired"
    EPOCH_CHANGED = "epoch_changed"
    CLIENT_UNKNOWN = "client_unknown"


class CloseCode(enum.IntEnum):
    """WebSocket close codes: 4000-4499 reconnect, 4500-4999 stop."""

    NORMAL = 1000
    PROTOCOL_ERROR_WS = 1002
    UNSUPPORTED_DATA = 1003
    INVALID_PAYLOAD = 1007
    TOO_BIG = 1009
    GOING_AWAY = 4000
    SLOW_CLIENT = 4001
    PING_TIMEOUT = 4002
    INTERNAL_ERROR = 4003
    OVERLOADED = 4004
    TOO_MANY_REQUESTS = 4005
    HELLO_TIMEOUT = 4006
    RECONNECT = 4007
    UNAUTHORIZED = 4401
    PROTOCOL_ERROR = 4500
    UNSUPPORTED_VERSION = 4501
    TOO_MANY_ERRORS = 4502
    DISCONNECTED = 4503
    TAKEN_OVER = 4504
    CLIENT_DENIED = 4505

    @property
    def reconnect(self) -> bool:
        """Whether a client should come back after this code."""
        return not 4500 <= self <= 4999
