"""Who is told when a message of the broadcaster fails."""

from __future__ import annotations

from syncd.actors.broadcaster.joining import Joining
from syncd.actors.broadcaster.messages import (
    AppendsDone,
    BroadcasterMessage,
    HistoryRead,
    PageRead,
)
from syncd.errors import ActorStopped, SyncdError
from syncd.ports import PublishEvent, ReadHistory, SubscribeChannel
from syncd.ports_collections import WatchChannel

__all__ = ["fail"]


def fail(message: BroadcasterMessage, error: SyncdError) -> None:
    """Tell whoever asked for this message."""
    match message:
        case PublishEvent() | ReadHistory():
            message.asker.reply_error(message.request_id, error)
        case SubscribeChannel(subscription):
            Joining.refuse(subscription, error)
        case WatchChannel():
            if isinstance(error, ActorStopped):
                Joining.refuse(message.subscription, error)
            else:
                Joining.refuse_watch(message, error)
        case PageRead(subscription=subscription):
            Joining.refuse(subscription, error)
        case HistoryRead(command=command):
            command.asker.reply_error(command.request_id, error)
        case AppendsDone(commands=publications):
            for publication in publications:
                publication.asker.reply_error(publication.request_id, error)
        case _:
            pass
