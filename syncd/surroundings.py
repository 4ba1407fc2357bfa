"""What a node takes from the world besides its configuration and its store: clocks, chance, threads. Simulations bring their own."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable

import attrs

from syncd.actors.cache_owner.mutating import RunningTimekeeper
from syncd.actors.store_worker import ThreadWorker, Worker
from syncd.store.base import Entropy

__all__ = ["REAL", "Surroundings"]


@attrs.frozen
class Surroundings:
    """Everything of a node that is not a function of its input; Trio's clock comes besides."""

    wall_s: Callable[[], float] = time.time
    """Seconds since 1970."""
    timer: Callable[[], float] = time.perf_counter
    """Measures work, in seconds."""
    entropy: Entropy = os.urandom
    """For secrets, epochs and names of sessions."""
    jitter: Callable[[], float] = random.SystemRandom().random
    """Between 0 and 1."""
    make_worker: Callable[[str], Worker] = ThreadWorker
    """Where an actor's blocking work runs; gets a name for the thread."""

    keeper: RunningTimekeeper | None = None
    """Keeps the time of mutators; None: by the clock of the process."""

    def wall_ms(self) -> int:
        """Milliseconds since 1970."""
        return int(self.wall_s() * 1000)

    def new_id(self) -> str:
        """Return a random name of 64 bits."""
        return self.entropy(8).hex()


REAL = Surroundings()
