"""What goes wrong with a cached function besides its own errors."""

from __future__ import annotations

import copy
from typing import TypeVar

__all__ = ["CircularLoad", "LoadFailed", "NotFound", "twin_of"]

E = TypeVar("E", bound=BaseException)


class NotFound(LookupError):
    """Raised by a loader: the source has nothing there. Remembered for `negative_ttl`, then raised again without a load."""


class CircularLoad(RuntimeError):
    """A loader reads, itself or through others, what is being loaded: it would wait for itself for ever."""


class LoadFailed(RuntimeError):
    """Stands for a loader's error that cannot be copied for several callers; its text tells which."""


def twin_of(error: E) -> E | LoadFailed:
    """Return an error of the same type and content without a traceback.

    Each caller raises one of their own: tracebacks are written as an error rises, and those of several callers would mix. And a
    remembered error must not keep the loader's frames alive.
    """
    try:
        twin = copy.copy(error)
    except Exception:  # noqa: BLE001 - a constructor that does not take its own args; anything may come out of it
        twin = None
    if twin is None or type(twin) is not type(error):
        return LoadFailed(f"{type(error).__name__}: {error}")
    notes = getattr(error, "__notes__", None)
    if notes is not None:
        twin.__notes__ = list(notes)
    return twin.with_traceback(None)
