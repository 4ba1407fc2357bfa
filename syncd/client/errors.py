"""What the Python client and the backend publisher raise on purpose."""

from __future__ import annotations

__all__ = [
    "BadServerMessage",
    "ClientClosed",
    "ClientError",
    "ConnectionStopped",
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
