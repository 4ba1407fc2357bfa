"""What the Python client and the backend publisher raise on purpose."""

from __future__ import annotations

__all__ = [
    "BadServerMessage",
    "ClientClosed",
    "ClientError",
    "ConnectionStopped",
    "MutationRejected",
    "MutationUnknown",
    "MutationUnsent",
    "QueueFull",
    "RequestFailed",
    "SubscriptionClosed",
    "Unauthorized",
]


class ClientError(Exception):
    """Root of what this client raises."""


class RequestFailed(ClientError):
    """The server refused one request; the connection goes on.

    Attributes:
        code: From `protocol/codes.toml`; a newer server may send one that this client does not know.
        message: For people.
        retryable: The same request may succeed later, unchanged.
        after_ms: Wait at least this long before trying again, if known.
    """

    def __init__(
        self, code: str, message: str, *, retryable: bool = False, after_ms: int | None = None
    ) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.retryable = retryable
        self.after_ms = after_ms

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class SubscriptionClosed(RequestFailed):
    """The server ended a subscription for good: `code` says why."""


class MutationRejected(ClientError):
    """A mutation was refused for good; nothing of it took effect.

    Attributes:
        code: From the application, or one of those in SPEC section 18.
        message: For people.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.code}: {self.message}" if self.message else self.code


class MutationUnknown(ClientError):
    """A mutation was sent, and whether it took effect cannot be found out: do not repeat it blindly."""


class MutationUnsent(ClientError):
    """The client ended before a mutation was sent: it did not take effect."""


class QueueFull(ClientError):
    """Too many mutations are pending; nothing was queued.

    Attributes:
        limit: How many may be.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.limit = limit

    def __str__(self) -> str:
        return f"{self.limit} mutations are pending already."


class ConnectionStopped(ClientError):
    """The server told this client not to come back.

    Attributes:
        code: Close code, 4500-4999, or 4401 when no token was accepted.
        reason: For people.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.code}: {self.reason}" if self.reason else str(self.code)


class Unauthorized(ConnectionStopped):
    """No token of this client is accepted."""


class ClientClosed(ClientError):
    """The client was closed before the answer came; whether the request took effect is unknown."""


class BadServerMessage(ClientError):
    """The server sent something that is not the protocol; the client reconnects."""
