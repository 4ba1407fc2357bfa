"""The bridge: what nodes that share a store tell each other."""

from syncd.actors.bridge.actor import Bridge, BridgeStatistics

__all__ = ["Bridge", "BridgeStatistics"]
