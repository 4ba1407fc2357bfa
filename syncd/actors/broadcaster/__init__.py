"""The broadcaster actor and its parts."""

from syncd.actors.broadcaster.actor import Broadcaster, BroadcasterStatistics

__all__ = ["Broadcaster", "BroadcasterStatistics"]
