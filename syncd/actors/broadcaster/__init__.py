"""The broadcaster actor and its parts."""

from syncd.actors.broadcaster.actor import Broadcaster
from syncd.actors.broadcaster.statistics import BroadcasterStatistics

__all__ = ["Broadcaster", "BroadcasterStatistics"]
