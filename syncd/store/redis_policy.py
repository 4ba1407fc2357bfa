"""What a server does when its memory is full: one that throws keys away then is refused at start, and told of when it is met later.

A node that runs goes on with such a server: to stop would not bring back what is gone.
"""

from __future__ import annotations

import structlog

from syncd.errors import ConfigError
from syncd.store.redis_link import ServerInfo

__all__ = ["PolicyWatch", "refuse_policy"]

_log = structlog.get_logger("syncd.store")


def refuse_policy(info: ServerInfo) -> None:
    """Refuse a server that throws keys away when it is full.

    Raises:
        ConfigError: it does.
    """
    if info.evicts:
        raise ConfigError(
            f"Redis has maxmemory-policy {info.policy}: it would throw away parts of the log. Set it to noeviction."
        )


class PolicyWatch:
    """Tells of a server that has come to throw keys away, once and not with each look."""

    def __init__(self) -> None:
        """Have told of nothing yet."""
        self._told = ""

    def see(self, info: ServerInfo) -> None:
        """Compare with what was told last."""
        policy = info.policy if info.evicts else ""
        if policy and policy != self._told:
            _log.error(
                "redis_evicts",
                policy=policy,
                reason="It throws away parts of the log when it is full. Set maxmemory-policy to noeviction (docs/redis.md).",
            )
        self._told = policy
