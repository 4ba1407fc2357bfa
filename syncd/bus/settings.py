"""Times and bounds of the bus."""

from __future__ import annotations

import attrs

from syncd.errors import ConfigError

__all__ = ["BusSettings"]


@attrs.frozen
class BusSettings:
    """Durations in seconds, sizes in bytes.

    Raises:
        ConfigError: two of them contradict each other.
    """

    connect_s: float = 3.0
    """To open a connection and be admitted: a hung Redis accepts and says nothing."""
    ping_s: float = 2.0
    pong_s: float = 5.0
    """A link without an answer is over `ping_s + pong_s` after the last one: so soon is a black hole noticed, and so far may we be
    behind what Redis has for us."""
    backoff_min_s: float = 0.05
    backoff_max_s: float = 2.0
    """Between attempts, with full jitter: all nodes lost Redis at the same moment."""
    stable_s: float = 5.0
    """A connection that lasted this long starts the next backoff anew."""
    discovery_s: float = 10.0
    """How often Sentinels or cluster are asked unprompted: a master that was replaced behind a partition tells nobody."""
    queue_bytes: int = 8_388_608
    """Of publications that wait to be written, each link. Policy: DROP."""
    max_outstanding: int = 50_000
    """Publications written and not answered, each link; more wait in the queue."""
    read_bytes: int = 131_072
    """Taken in one turn: some 500 messages of 200 bytes, about 1 ms of parsing before others run."""

    def __attrs_post_init__(self) -> None:
        if self.backoff_min_s > self.backoff_max_s:
            raise ConfigError("backoff_min_s must not be above backoff_max_s.")
        if min(self.connect_s, self.ping_s, self.pong_s, self.backoff_min_s) <= 0:
            raise ConfigError("connect_s, ping_s, pong_s and backoff_min_s must be above 0.")
