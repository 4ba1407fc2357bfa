"""Exit codes of `syncd`, the same for every command, and the errors that end in one."""

from __future__ import annotations

import enum

import click

from syncd.codes import ErrorCode
from syncd.errors import SyncdError

__all__ = ["ExitCode", "Failed", "exit_code_of", "no_answer"]


class ExitCode(enum.IntEnum):
    """What a script may rely on."""

    OK = 0
    FAILURE = 1
    """The command was understood and did not succeed."""
    USAGE = 2
    """The command line or the configuration is wrong."""
    UNAUTHORIZED = 3
    """The key or token is missing, not accepted, or not enough."""
    UNREACHABLE = 4
    """No server answers there."""
    STORE_UNAVAILABLE = 5
    """The store cannot be reached now; the same may succeed later."""


class Failed(click.ClickException):
    """End the command with one line on standard error and an exit code."""

    exit_code: int  # type: ignore[misc]  # click has it on the class; one class a code would say no more

    def __init__(self, message: str, exit_code: ExitCode = ExitCode.FAILURE) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def no_answer(url: str, error: Exception | None = None) -> Failed:
    """Return the error of a server that does not answer, with what may be done about it."""
    why = "" if error is None else f" ({error})"
    return Failed(
        f"No answer from {url}{why}. Is a node running there? Start one with syncd serve, or name another with --url or SYNCD_URL.",
        ExitCode.UNREACHABLE,
    )


_BY_ERROR = {
    ErrorCode.UNAUTHORIZED: ExitCode.UNAUTHORIZED,
    ErrorCode.PERMISSION_DENIED: ExitCode.UNAUTHORIZED,
    ErrorCode.CLIENT_DENIED: ExitCode.UNAUTHORIZED,
    ErrorCode.BAD_CHANNEL: ExitCode.USAGE,
    ErrorCode.BAD_KEY: ExitCode.USAGE,
    ErrorCode.STORE_UNAVAILABLE: ExitCode.STORE_UNAVAILABLE,
}


def exit_code_of(error: SyncdError) -> ExitCode:
    """Return the exit code for what the server answered."""
    return _BY_ERROR.get(error.code, ExitCode.FAILURE)
