"""Every error syncd raises on purpose, each with a code from `protocol/codes.toml`.

Texts are for people and may change; codes are the contract.
"""

from __future__ import annotations

from syncd.codes import CloseCode, ErrorCode

__all__ = [
    "ActorStopped",
    "ConfigError",
    "Disconnect",
    "MailboxFull",
    "MutationRejected",
    "NoAnswer",
    "RebuildRunning",
    "RequestRejected",
    "StoreUnavailable",
    "StoreUnreachable",
    "SyncdError",
    "internal_error",
]


class SyncdError(Exception):
    """A failure that has a code and can be told to whoever asked.

    Attributes:
        code: From `protocol/codes.toml`.
        message: For people; says what to do. Never holds secrets, paths or stack frames.
        retryable: The same request may succeed later, unchanged.
        after_ms: Wait at least this long before trying again, if known.
    """

    def __init__(self, code: ErrorCode, message: str = "", *, after_ms: int | None = None) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message or code.text
        self.retryable = code.retryable
        self.after_ms = after_ms

    def __str__(self) -> str:
        return f"{self.code.value}: {self.message}"

    @property
    def leaves_unknown(self) -> bool:
        """Whether what was asked for may have happened all the same: whoever remembers how things were has to look again."""
        return self.code is ErrorCode.INTERNAL_ERROR


class RequestRejected(SyncdError):
    """The request is refused; the connection goes on."""


class RebuildRunning(RequestRejected):
    """A rebuild of the collection is under way.

    Attributes:
        job: Its id.
    """

    def __init__(self, job: str) -> None:
        text = f"The job {job} rebuilds this collection; wait for it, join it or cancel it."
        super().__init__(ErrorCode.REBUILD_RUNNING, text)
        self.job = job


class StoreUnavailable(SyncdError):
    """The store cannot read or commit now; nothing was half done.

    Attributes:
        is_unknown: The answer to a commit was lost: it may have taken effect, whole, or may yet.
    """

    def __init__(
        self, message: str = "", *, after_ms: int | None = 1000, is_unknown: bool = False
    ) -> None:
        super().__init__(ErrorCode.STORE_UNAVAILABLE, message, after_ms=after_ms)
        self.is_unknown = is_unknown

    @property
    def leaves_unknown(self) -> bool:
        """See `SyncdError`."""
        return self.is_unknown


class MailboxFull(SyncdError):
    """A bounded mailbox refused a message that may not wait."""

    def __init__(self, message: str = "", *, after_ms: int | None = 250) -> None:
        super().__init__(ErrorCode.OVERLOADED, message, after_ms=after_ms)


class NoAnswer(SyncdError):
    """Whoever was asked did not answer in time: what was asked for may have happened, may happen yet, or not."""

    def __init__(self, message: str = "", *, after_ms: int | None = 1000) -> None:
        super().__init__(ErrorCode.STORE_UNAVAILABLE, message, after_ms=after_ms)


class ActorStopped(SyncdError):
    """The actor has closed its mailbox for good."""

    def __init__(self, message: str = "") -> None:
        super().__init__(ErrorCode.SHUTTING_DOWN, message)


class MutationRejected(Exception):
    """A mutation was refused for good: by its mutator, or because it can never run. The code may be the application's own."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class Disconnect(Exception):
    """End this connection with a close code; its range says whether to come back."""

    def __init__(self, code: CloseCode | int, reason: str = "") -> None:
        super().__init__(code, reason)
        self.code = int(code)
        self.reason = reason


class ConfigError(Exception):
    """The configuration cannot work; the message names the setting and the way out."""


class StoreUnreachable(ConfigError):
    """A node cannot start, because its store does not answer now: the same configuration may work in a moment."""


def internal_error() -> SyncdError:
    """Return the error told to askers when we broke something ourselves."""
    return SyncdError(ErrorCode.INTERNAL_ERROR, after_ms=250)
