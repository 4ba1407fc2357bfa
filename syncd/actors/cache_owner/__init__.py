"""The cache-owner actor and its parts."""

from syncd.actors.cache_owner.actor import CacheOwner

__all__ = ["CacheOwner"]
