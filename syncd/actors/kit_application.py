"""What functions of the application may do to the node: fail, and no more.

Whoever calls one keeps `except Exception` for its faults and puts `application_code` inside.
"""

from __future__ import annotations

from types import TracebackType

import trio

__all__ = ["LeftProgram", "application_code"]

_NOT_ITS_OWN = (trio.Cancelled, KeyboardInterrupt, GeneratorExit)
"""What comes from outside, through the application's code: a cancellation, an operator, the end of its coroutine."""


class LeftProgram(Exception):
    """A function of the application raised what would have ended the node, such as the `SystemExit` of `sys.exit()`."""


class _ApplicationCode:
    __slots__ = ()

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if error is None or isinstance(error, (Exception, *_NOT_ITS_OWN)):
            return
        if isinstance(error, BaseExceptionGroup) and error.subgroup(_NOT_ITS_OWN) is not None:
            return
        raise LeftProgram(f"{type(error).__name__} in the application's code") from error


application_code = _ApplicationCode()
"""A block whose exceptions are `Exception`s, but for those that are not the application's own."""
