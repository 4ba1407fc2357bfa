"""What other nodes commit and publish, where several share a store: their events go to their rooms, and what was lost is looked up.

Owner of: checks that the store was asked for, and requests that name positions this node has not heard of yet.

Invariant (RECOVER): an event that another node committed reaches its room by `RemoteEvents`, or a check that begins after it was committed
finds the log ahead of the room (`Gaps.note`); whoever is owed it, is told it by the room. A position that is ahead of what this node was told
is not lost before the store has said so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import structlog

from syncd.actors.broadcaster.committing import Committing
from syncd.actors.broadcaster.messages import BroadcasterMessage, ChannelsChecked
from syncd.actors.broadcaster.publishing import Publishing
from syncd.actors.broadcaster.rooms import Room, Rooms
from syncd.errors import SyncdError
from syncd.ids import ChannelName, Position
from syncd.ports import SubscribeChannel, Subscription
from syncd.ports_collections import WatchChannel
from syncd.ports_log import ChannelHead
from syncd.ports_shared import BridgeHandle, CheckChannels, RemoteEvents, RemotePublications

__all__ = ["Sharing"]

_log = structlog.get_logger("syncd.broadcaster")

CHANNELS_PER_CHECK = 200
"""In one ask: a few milliseconds of the store's thread."""

Command = SubscribeChannel | WatchChannel


class Sharing:
    """The part of the broadcaster that hears of other nodes. Without them nothing of it is ever called."""

    def __init__(
        self,
        rooms: Rooms,
        publishing: Publishing,
        committing: Committing,
        bridge: BridgeHandle | None,
        post: Callable[[BroadcasterMessage], None],
    ) -> None:
        """Begin with nothing to look up."""
        self._rooms = rooms
        self._publishing = publishing
        self._committing = committing
        self._bridge = bridge
        self._post = post
        self._asked: dict[ChannelName, int] = {}
        """Checks of a channel under way."""
        self._unseen: set[ChannelName] = set()
        """Channels that the store could not be asked about: what it has of them is not known before the next check."""
        self._to_check: dict[ChannelName, None] = {}
        """To be looked at with the end of this batch."""
        self._ahead: dict[ChannelName, list[Command]] = {}
        """Requests that wait for what they name."""
        self._looked: set[Subscription] = set()
        """For whom the store was looked at just now: its answer counts."""
        self.num_remote = 0
        """Events of other nodes, heard or looked up."""
        self.num_repaired = 0
        """Channels whose log was ahead of what this node was told."""

    # ---------------------------------------------------------------- heard

    def events(self, message: RemoteEvents) -> None:
        """Take in what others committed."""
        take = self._committing.take
        self.num_remote += len(message.events)
        for event in message.events:
            take(event)

    def publications(self, message: RemotePublications) -> None:
        """Deliver what others published without positions."""
        by_name = self._rooms.by_name
        self.num_remote += len(message.events)
        for event in message.events:
            room = by_name.get(event.channel)
            if room is not None and room.is_ephemeral:
                self._publishing.tell(room, event.key, event.record)

    # ---------------------------------------------------------------- lost

    def check(self, message: CheckChannels) -> None:
        """See in the store how far the logs of channels reach, and read again what could not be read."""
        names = self._rooms.by_name if message.channels is None else message.channels
        self._check(list(names))

    def _check(self, names: Iterable[ChannelName]) -> None:
        tops: dict[ChannelName, Position] = {}
        for name in names:
            room = self._rooms.by_name.get(name)
            if room is None or not room.is_durable:
                continue
            if room.channel is None:
                room.is_unsure = True
                continue
            tops[name] = Position(room.channel.epoch, room.channel.top)
            self._publishing.gaps.read_again(room)
            if len(tops) == CHANNELS_PER_CHECK:
                self._ask(tops)
                tops = {}
        if tops:
            self._ask(tops)

    def _ask(self, tops: dict[ChannelName, Position]) -> None:
        self._unseen.difference_update(tops)
        for name in tops:
            self._asked[name] = self._asked.get(name, 0) + 1

        def done(answer: list[ChannelHead] | SyncdError) -> None:
            self._post(ChannelsChecked(tops, answer, self))

        assert self._bridge is not None, "nobody else calls this"
        self._bridge.heads(tops, done)

    def checked(self, message: ChannelsChecked) -> None:
        """The store has answered."""
        if message.asked_by is not self:
            return
        for name in message.tops:
            self._asked[name] -= 1
            if not self._asked[name]:
                del self._asked[name]
        if isinstance(message.answer, SyncdError):
            self._unseen.update(name for name in message.tops if name in self._ahead)
            return  # it is away: checked again when it is back
        for (name, known), head in zip(message.tops.items(), message.answer, strict=True):
            room = self._rooms.by_name.get(name)
            if room is None or room.channel is None or room.channel.epoch != known.epoch:
                continue
            if head.epoch != known.epoch or head.top < known.offset:
                # Another life of the log, which nobody here has seen anything of.
                _log.warning("channel_renewed", channel=name, knew=known.offset, top=head.top)
                self._publishing.read_anew((name,))
            elif head.top > room.channel.top:
                self.num_repaired += 1
                self._publishing.look_up(name, head.top)

    def loaded(self, room: Room) -> None:
        """A room's channel was loaded; if something was lost meanwhile, the load may not have seen it."""
        if room.is_unsure:
            room.is_unsure = False
            self._to_check[room.name] = None

    # ---------------------------------------------------------------- ahead

    def looks(self, room: Room, position: Position | None, command: Command) -> bool:
        """Keep a request that names a position we have not heard of, until the store was looked at; see `Joining.looks`."""
        channel, subscription = room.channel, command.subscription
        if channel is None or position is None or not room.is_durable:
            return False
        if position.epoch == channel.epoch:
            is_ahead = position.offset > channel.top
        else:  # a snapshot from the store may be of a life that we have not heard of
            is_ahead = isinstance(command, WatchChannel)
        if subscription in self._looked or not is_ahead:
            return False
        self._ahead.setdefault(room.name, []).append(command)
        self._to_check[room.name] = None
        return True

    def due(self) -> list[Command]:
        """Return requests whose channels are as the store has them; they are to be served now, then `served` called.

        Before that the store is asked about the channels of this batch that are to be looked at, all at once.
        """
        if self._to_check:
            to_check, self._to_check = self._to_check, {}
            self._check(to_check)
        if not self._ahead:
            return []
        gaps, asked, unseen = self._publishing.gaps, self._asked, self._unseen
        names = [n for n in self._ahead if n not in asked and n not in unseen and n not in gaps]
        due = [command for name in names for command in self._ahead.pop(name)]
        self._looked.update(command.subscription for command in due)
        return due

    def served(self) -> None:
        """What was due is done with."""
        self._looked.clear()

    def left(self) -> list[Command]:
        """Return requests that wait, for somebody else to answer."""
        return [command for commands in self._ahead.values() for command in commands]
