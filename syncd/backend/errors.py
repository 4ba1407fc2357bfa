"""What a publisher raises on purpose."""

from __future__ import annotations

__all__ = ["BackendError", "MutationRejected", "Refused", "Unauthorized", "Unreachable"]


class BackendError(Exception):
    """Root of what a publisher raises."""


class MutationRejected(BackendError):
    """A mutation was refused for good: by its mutator, or because it can never run. Nothing changed.

    Attributes:
        code: The application's own, or one of syncd's (`unknown_mutator`, `bad_arguments`, ...).
        message: For people.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class Refused(BackendError):
    """The server answered with an error.

    Attributes:
        code: From `protocol/codes.toml`; a newer server may send one that this version does not know.
        message: For people.
        retryable: The same call, with the same key, may succeed later.
        after_ms: Wait at least this long, if known.
        status: HTTP status; None for one command of a batch.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        retryable: bool = False,
        after_ms: int | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.retryable = retryable
        self.after_ms = after_ms
        self.status = status

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class Unauthorized(Refused):
    """The API key is missing or not accepted."""


class Unreachable(BackendError):
    """No server answered, at any attempt; whether the last one took effect is unknown: repeat it with the same key."""
