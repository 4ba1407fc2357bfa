"""Who is present where on this node, and what each watcher must be sent for it. Pure; time is passed in and never goes back.

Owned by the presence actor. Commands change the set at once and in O(1); `advance` returns what to send. The invariants:
a watcher gets `presence_state` first and then every diff after it, `seq` without gaps; a member that was told is told to
leave once, when its last client left or did not come back within the grace.
"""

from __future__ import annotations

import collections
import math
from typing import Any, Generic, TypeVar

import attrs

from syncd.codes import ErrorCode
from syncd.errors import RequestRejected
from syncd.ids import ChannelName
from syncd.model.presence_channel import Entry, PresenceChannel
from syncd.wire.encode import pack

__all__ = ["Delivery", "PresenceSet", "PresenceSettings"]

S = TypeVar("S")

MAX_CLIENTS_PER_MEMBER = 100
"""Every update tells a member whole, so one user's clients in a channel are bounded (default of connections_per_user)."""

RETRY_S = 1.0
"""A watcher that refused is tried again this often: a slow client drains or is closed within 10 s (Timing.slow_client_s)."""

EXPIRIES_PER_ADVANCE = 1000
"""Leaves worked off without a pause when a whole network went away: about 2 ms."""


@attrs.frozen
class PresenceSettings:
    """Bounds and durations, from `Limits` and `Timing`."""

    grace_s: float
    """A client may come back for this long before it is told to have left."""
    diff_s: float
    """Changes of a channel are gathered for this long."""
    max_members: int
    """Per channel."""
    max_channels: int


@attrs.define(eq=False)
class Delivery(Generic[S]):
    """One encoded message and everybody who is to have it."""

    channel: ChannelName
    message: bytes
    sessions: list[S]


class PresenceSet(Generic[S]):
    """All channels' members and watchers.

    Args:
        settings: Bounds and durations.
        first_seq: Higher than any `seq` an earlier set has told, so that a channel's never goes back.
        settle_until: Until then watchers wait for their first state: after a crash everybody announces anew, and a state
            sent halfway would show people leaving and coming who never moved.
    """

    def __init__(
        self,
        settings: PresenceSettings,
        *,
        first_seq: int = 0,
        settle_until: float = -math.inf,
    ) -> None:
        self.num_members = 0
        self.num_watchers = 0
        self.num_diffs = 0
        self.top_seq = first_seq
        """Highest `seq` of any channel, ever. New channels start from it."""
        self._settings = settings
        self._settle_until = settle_until
        self._channels: dict[ChannelName, PresenceChannel[S]] = {}
        self._entries: dict[S, set[Entry[S]]] = {}
        self._watched: dict[S, set[PresenceChannel[S]]] = {}
        self._arrivals: dict[PresenceChannel[S], None] = {}
        """Channels with watchers that wait for a state."""
        # Each of these delays is one constant, so arrival order is deadline order.
        self._leaving: collections.deque[tuple[float, Entry[S]]] = collections.deque()
        self._windows: collections.deque[tuple[float, PresenceChannel[S]]] = collections.deque()
        self._retries: collections.deque[tuple[float, PresenceChannel[S]]] = collections.deque()

    @property
    def num_channels(self) -> int:
        """Channels with members or watchers."""
        return len(self._channels)

    # ------------------------------------------------------------------------------------------------ commands

    def announce(
        self,
        session: S,
        name: ChannelName,
        client: str,
        user: str | None,
        state: bytes,
        now: float,
    ) -> None:
        """Set a client's state in a channel; takes it over from an older session and ends a grace.

        Raises:
            RequestRejected: limit_exceeded; nothing changed.
        """
        member_id = client if user is None else user
        channel = self._channels.get(name)
        self._check_limits(channel, client, member_id)
        if channel is None:
            channel = self._new_channel(name)
        held = channel.entries.get(client)
        held_by = None if held is None else held.session
        before = channel.num_members
        entry = channel.put(session, client, user, member_id, state)
        # Nothing below can fail: what could not be encoded has failed above and changed nothing.
        self._channels[name] = channel
        self.num_members += channel.num_members - before
        if held is not None and held_by is not None:
            self._release(held_by, held)
        self._entries.setdefault(session, set()).add(entry)
        self._note_change(channel, now)

    def leave(
        self,
        session: S,
        name: ChannelName,
        client: str,
        now: float,
        *,
        is_own_only: bool = False,
    ) -> None:
        """Take a client out of a channel, at once; nothing if it is not there.

        Args:
            is_own_only: Leave alone what another session has announced since: this one is over.
        """
        channel = self._channels.get(name)
        entry = channel.entries.get(client) if channel is not None else None
        if entry is None or (is_own_only and entry.session is not session):
            return
        if entry.session is not None:
            self._release(entry.session, entry)
        self._remove(entry, now)

    def watch(self, session: S, name: ChannelName) -> None:
        """Send this session the channel's state at the next `advance`, and diffs from then on."""
        channel = self._channels.get(name)
        if channel is None:
            channel = self._channels[name] = self._new_channel(name)
        watched = self._watched.setdefault(session, set())
        self.num_watchers += channel not in watched
        watched.add(channel)
        channel.drop_watcher(session)
        channel.waiting[session] = None
        self._arrivals[channel] = None

    def unwatch(self, session: S, name: ChannelName) -> None:
        """Send this session nothing more of the channel."""
        channel = self._channels.get(name)
        watched = self._watched.get(session)
        if channel is None or watched is None or channel not in watched:
            return
        watched.remove(channel)
        if not watched:
            del self._watched[session]
        self._drop_watcher(session, channel)

    def session_gone(self, session: S, now: float) -> None:
        """End a session: it watches no more, and its clients leave after the grace unless they are announced again."""
        for channel in self._watched.pop(session, ()):
            self._drop_watcher(session, channel)
        for entry in self._entries.pop(session, ()):
            self._give_grace(entry, now)

    def release_client(self, session: S, client: str, now: float) -> list[ChannelName]:
        """A client of a session speaks elsewhere: it leaves after the grace unless it is announced there. Returns the channels."""
        found = [e for e in self._entries.get(session, ()) if e.client == client]
        for entry in found:
            self._release(session, entry)
            self._give_grace(entry, now)
        return [entry.channel.name for entry in found]

    def refused(self, session: S, name: ChannelName, now: float) -> None:
        """Note that a watcher did not take what `advance` returned: it gets a fresh state later instead."""
        channel = self._channels.get(name)
        if channel is None or session not in channel.live:
            return
        del channel.live[session]
        if not channel.stale:
            self._retries.append((now + RETRY_S, channel))
        channel.stale[session] = None

    def members(self, name: ChannelName) -> list[dict[str, Any]]:
        """Return a channel's members now, states decoded, in order of arrival."""
        channel = self._channels.get(name)
        return [] if channel is None else channel.decoded_members()

    # ------------------------------------------------------------------------------------------------ time

    def next_deadline(self) -> float:
        """Return when `advance` has something to do; infinite when it has nothing."""
        deadline = self._settle_until if self._arrivals else math.inf
        for queue in (self._leaving, self._windows, self._retries):
            if queue and queue[0][0] < deadline:
                deadline = queue[0][0]
        return deadline

    def advance(self, now: float) -> list[Delivery[S]]:
        """Work off what is due and return what to send, in order.

        A session stands in at most one delivery of a channel. Whoever does not take it must be named to `refused` before
        the next call.
        """
        deliveries: list[Delivery[S]] = []
        self._expire(now)
        while self._windows and self._windows[0][0] <= now:
            self._close_window(self._windows.popleft()[1], deliveries)
        while self._retries and self._retries[0][0] <= now:
            self._retry(self._retries.popleft()[1])
        if self._arrivals and now >= self._settle_until:
            self._greet(now, deliveries)
        return deliveries

    def _expire(self, now: float) -> None:
        self._expire_from(self._leaving, now)

    def _expire_from(self, leaving: collections.deque[tuple[float, Entry[S]]], now: float) -> None:
        for _ in range(EXPIRIES_PER_ADVANCE):
            if not leaving or leaving[0][0] > now:
                return
            deadline, entry = leaving.popleft()
            if entry.deadline == deadline:
                self._remove(entry, now)

    def _close_window(self, channel: PresenceChannel[S], deliveries: list[Delivery[S]]) -> None:
        channel.has_window = False
        message = channel.commit()
        channel.forget_message()
        self.top_seq = max(self.top_seq, channel.seq)
        if message is not None:
            self.num_diffs += 1
            deliveries.append(Delivery(channel.name, message, list(channel.live)))
        self._free_if_idle(channel)

    def _retry(self, channel: PresenceChannel[S]) -> None:
        if channel.stale:
            channel.waiting.update(channel.stale)
            channel.stale.clear()
            self._arrivals[channel] = None

    def _greet(self, now: float, deliveries: list[Delivery[S]]) -> None:
        """Send each new watcher the state; its bytes are shared by all who come within one window."""
        for channel in self._arrivals:
            if channel.waiting:
                message = channel.state_message()
                deliveries.append(Delivery(channel.name, message, channel.admit_waiting()))
                self._open_window(channel, now)
        self._arrivals.clear()

    # ------------------------------------------------------------------------------------------------ parts

    def _check_limits(
        self, channel: PresenceChannel[S] | None, client: str, member_id: str
    ) -> None:
        if channel is None:
            if len(self._channels) >= self._settings.max_channels:
                raise _limit_exceeded("The node has too many channels with presence.")
            return
        member = channel.members.get(member_id)
        if member is None or not member.entries:
            if channel.num_members >= self._settings.max_members:
                raise _limit_exceeded("The channel has too many members.")
        elif client not in member.entries and len(member.entries) >= MAX_CLIENTS_PER_MEMBER:
            raise _limit_exceeded("This user has too many clients in the channel.")

    def _new_channel(self, name: ChannelName) -> PresenceChannel[S]:
        pack(name)  # a name that cannot be encoded fails its command, not the messages of all
        return PresenceChannel(name, self.top_seq)

    def _free_if_idle(self, channel: PresenceChannel[S]) -> None:
        if channel.is_idle and self._channels.get(channel.name) is channel:
            del self._channels[channel.name]

    def _give_grace(self, entry: Entry[S], now: float) -> None:
        """Nobody speaks for it any more: it leaves unless somebody does again."""
        entry.session = None
        entry.deadline = now + self._settings.grace_s
        self._leaving.append((entry.deadline, entry))

    def _entry(self, name: ChannelName, client: str) -> Entry[S] | None:
        channel = self._channels.get(name)
        return None if channel is None else channel.entries.get(client)

    def _release(self, session: S, entry: Entry[S]) -> None:
        """Make the end of a session no longer matter to an entry."""
        held = self._entries[session]
        held.discard(entry)
        if not held:
            del self._entries[session]

    def _remove(self, entry: Entry[S], now: float) -> None:
        channel = entry.channel
        before = channel.num_members
        channel.remove(entry)
        self.num_members += channel.num_members - before
        self._note_change(channel, now)

    def _note_change(self, channel: PresenceChannel[S], now: float) -> None:
        if channel.has_watchers:
            self._open_window(channel, now)
        else:
            self._commit_unwatched(channel)

    def _commit_unwatched(self, channel: PresenceChannel[S]) -> None:
        """Nobody to tell: forget who left, and the channel with the last of them."""
        channel.commit()
        self.top_seq = max(self.top_seq, channel.seq)
        self._free_if_idle(channel)

    def _open_window(self, channel: PresenceChannel[S], now: float) -> None:
        if not channel.has_window:
            channel.has_window = True
            self._windows.append((now + self._settings.diff_s, channel))

    def _drop_watcher(self, session: S, channel: PresenceChannel[S]) -> None:
        self.num_watchers -= 1
        channel.drop_watcher(session)
        if not channel.has_watchers:
            self._commit_unwatched(channel)


def _limit_exceeded(message: str) -> RequestRejected:
    return RequestRejected(ErrorCode.LIMIT_EXCEEDED, message)
