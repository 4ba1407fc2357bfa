"""One Trio run that does the same every time: a clock that jumps, and a scheduler whose choices come from a seed."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import trio
import trio.testing
from trio._core import _run as trio_scheduler

__all__ = ["run_virtually"]

T = TypeVar("T")


@contextlib.contextmanager
def _seeded_scheduler(seed: int) -> Iterator[None]:
    """Let Trio shuffle each batch of runnable tasks by a seeded generator.

    Trio has no public switch for this; these are the two names that its own plugin for Hypothesis uses. With them a batch is
    sorted by the age of its tasks and then shuffled, so that neither addresses nor the order of timers decide.
    """
    chance = trio_scheduler._r  # noqa: SLF001
    state = chance.getstate()
    was_allowed = trio_scheduler._ALLOW_DETERMINISTIC_SCHEDULING  # noqa: SLF001
    trio_scheduler._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]  # noqa: SLF001
    chance.seed(seed)
    try:
        yield
    finally:
        trio_scheduler._ALLOW_DETERMINISTIC_SCHEDULING = was_allowed  # type: ignore[misc]  # noqa: SLF001
        chance.setstate(state)


def run_virtually(main: Callable[[], Awaitable[T]], seed: int) -> T:
    """Run `main` to its end on a clock that starts at 0 and jumps to the next deadline whenever nothing can run."""
    with _seeded_scheduler(seed):
        result: T = trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    return result
