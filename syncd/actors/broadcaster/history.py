"""History requests: from memory at once, or a page of the log."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from syncd.actors.broadcaster.joining import num_fitting
from syncd.actors.broadcaster.messages import BroadcasterMessage, HistoryRead
from syncd.actors.broadcaster.rooms import Rooms
from syncd.codes import ErrorCode
from syncd.config import Config, HistoryKind, Mode
from syncd.errors import RequestRejected, SyncdError
from syncd.model.channel import Channel
from syncd.ports import ReadHistory
from syncd.ports_log import LogPage, LogQuery, StoredEvent, StoreHandle

__all__ = ["Histories"]


class Histories:
    """Answers `history`."""

    def __init__(
        self,
        config: Config,
        rooms: Rooms,
        store: StoreHandle,
        post: Callable[[BroadcasterMessage], None],
    ) -> None:
        self._limits = config.limits
        self._rooms = rooms
        self._store = store
        self._post = post

    def history(self, command: ReadHistory) -> None:
        """Answer from memory, or ask the store."""
        namespace = self._rooms.namespace(command.channel)
        if namespace.mode is Mode.COLLECTION:
            raise RequestRejected(ErrorCode.PERMISSION_DENIED)
        if namespace.history is HistoryKind.DURABLE:
            self._ask_history(command)
            return
        room = self._rooms.open(command.channel)
        channel = room.channel
        assert channel is not None
        since = command.since
        if since is not None and (since.epoch != channel.epoch or since.offset > channel.top + 1):
            raise RequestRejected(ErrorCode.UNRECOVERABLE_POSITION)
        if command.reverse:
            events = channel.after(0)[::-1]
            if since is not None:
                events = [event for event in events if event.offset < since.offset]
        else:
            if since is not None and since.offset < channel.floor:
                raise RequestRejected(ErrorCode.UNRECOVERABLE_POSITION)
            events = channel.after(0 if since is None else since.offset)
        self._answer_history(command, channel, events[: command.limit])

    def _ask_history(self, command: ReadHistory) -> None:
        offset = None if command.since is None else command.since.offset
        query = LogQuery(
            command.channel,
            after=0 if command.reverse or offset is None else offset,
            before=offset if command.reverse else None,
            reverse=command.reverse,
            limit=command.limit,
            max_bytes=self._limits.recovery_bytes,
        )

        def done(answer: LogPage | SyncdError) -> None:
            self._post(HistoryRead(command, answer))

        self._store.read(query, done)

    def history_read(self, message: HistoryRead) -> None:
        """The store's answer to a history request."""
        command, answer = message.command, message.answer
        if isinstance(answer, SyncdError):
            raise answer
        head, since = answer.head, command.since
        if since is not None and (
            since.epoch != head.epoch
            or since.offset > head.top + 1
            or (not command.reverse and since.offset < head.floor)
        ):
            raise RequestRejected(ErrorCode.UNRECOVERABLE_POSITION)
        namespace = self._rooms.namespace(command.channel)
        channel = Channel(command.channel, namespace, head.epoch)
        channel.top = head.top
        self._answer_history(command, channel, answer.events)

    def _answer_history(
        self, command: ReadHistory, channel: Channel, events: Sequence[StoredEvent]
    ) -> None:
        events = events[: num_fitting(events, self._limits.recovery_bytes)]
        command.asker.reply_events(
            command.request_id, channel.epoch, channel.top, channel.bodies(events)
        )
