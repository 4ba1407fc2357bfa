"""Who is told when a message of the cache-owner's mailbox cannot be served."""

from __future__ import annotations

from syncd.actors.cache_owner.messages import CacheOwnerMessage, WatchLost
from syncd.actors.cache_owner.watching import refuse
from syncd.errors import SyncdError
from syncd.ports_collections import (
    AddClients,
    ClearCache,
    InvalidateEntries,
    MutateState,
    ReadEntries,
    WarmCache,
    WatchEntries,
)
from syncd.store.rebuilds import SwapGeneration

__all__ = ["fail"]


def fail(message: CacheOwnerMessage, error: SyncdError) -> None:
    """Tell whoever asked for this message."""
    match message:
        case MutateState():
            message.asker.refuse_mutation(message.client, message.mid, error)
        case WatchEntries():
            refuse(message, error)
        case WatchLost(command=command):
            refuse(command, error)
        case AddClients() | ReadEntries() | InvalidateEntries() | ClearCache() | WarmCache():
            message.done(error)
        case SwapGeneration():
            message.done(error)
        case _:
            pass
