"""What an application holds of one channel: a subscription's events, or who is present.

Each handle owns its buffer. The client puts facts in and never waits; the application takes them out.
"""

from __future__ import annotations

import collections
from collections.abc import Awaitable, Callable
from typing import Any, Self

import trio

from syncd.client.errors import SubscriptionClosed
from syncd.client.facts import (
    Event,
    Marked,
    Member,
    PresenceChanged,
    Received,
    Reset,
    Subscribed,
    SubscriptionEnded,
)
from syncd.ids import ChannelName, Position

__all__ = ["Presence", "Subscription"]

SubscriptionFact = Received | Marked | Reset | Subscribed | SubscriptionEnded | PresenceChanged
Item = Event | Reset | Subscribed | PresenceChanged


class _Ending:
    """A handle's end and the event that wakes whoever waits on it."""

    def __init__(self) -> None:
        self.changed = trio.Event()
        self.error: Exception | None = None
        self.is_over = False

    def touch(self) -> None:
        self.changed.set()
        self.changed = trio.Event()

    def end(self, error: Exception | None) -> None:
        if not self.is_over:
            self.is_over, self.error = True, error
            self.touch()

    def check(self) -> None:
        if self.error is not None:
            raise self.error


class Subscription:
    """Events of one channel, in order: iterate over it with `async for`.

    Yields `Event`, and `Reset` where events may have been missed (with `notices`: `Subscribed` and `PresenceChanged`
    too). Policy LAG: when `capacity` events wait, the server is told to stop and the rest is recovered from the position
    once half of them were taken; on channels without history what came meanwhile is lost and told as a `Reset`. Other
    subscriptions and requests of the client go on.

    Attributes:
        channel: Its name.
        position: Of the last event that was handed out: store it to go on from there in another process. None until
            known, and always on ephemeral channels.
        started: What the server said when the subscription began.
        members: Who is present, if it was made with presence.
    """

    def __init__(
        self,
        channel: ChannelName,
        *,
        position: Position | None,
        capacity: int,
        notices: bool,
        hold: Callable[[], None],
        release: Callable[[], None],
    ) -> None:
        self.channel = channel
        self.position = position
        self.started: Subscribed | None = None
        self.members: tuple[Member, ...] = ()
        self._capacity = capacity
        self._notices = notices
        self._hold = hold
        self._release = release
        self._is_held = False
        self._items: collections.deque[Item | Marked] = collections.deque()
        self._ending = _Ending()

    def put(self, fact: SubscriptionFact) -> None:
        """Take a fact from the client. Never waits."""
        match fact:
            case Received(event=event):
                self._append(event)
            case Marked():
                self._mark(fact)
            case Reset():
                self._append(fact)
            case Subscribed():
                self.started = self.started or fact
                self._notice(fact)
            case PresenceChanged(members=members):
                self.members = members
                self._notice(fact)
            case SubscriptionEnded(code=code, reason=reason):
                self.end(SubscriptionClosed(code, reason))
        self._ending.touch()

    def _notice(self, fact: Subscribed | PresenceChanged) -> None:
        if self._notices:
            self._append(fact)

    def _append(self, item: Item) -> None:
        self._items.append(item)
        if len(self._items) >= self._capacity and not self._is_held:
            self._is_held = True
            self._hold()

    def _mark(self, mark: Marked) -> None:
        if not self._items:
            self.position = mark.position
            return
        if isinstance(self._items[-1], Marked):
            self._items.pop()
        self._items.append(mark)

    def end(self, error: Exception | None) -> None:
        """Nothing comes after what waits; then `error` is raised, or the iteration stops. Never waits."""
        self._ending.end(error)

    async def wait_started(self) -> None:
        """Wait until the server carries the subscription, or raise what it said instead."""
        while self.started is None:
            self._ending.check()
            await self._ending.changed.wait()
        await trio.lowlevel.checkpoint()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Item:
        """Return the next item. Cancelled: nothing was taken."""
        await trio.lowlevel.checkpoint()
        while True:
            item = self._take()
            if item is not None:
                return item
            if not self._items:
                await self._wait()

    async def _wait(self) -> None:
        if self._ending.is_over:
            self._ending.check()
            raise StopAsyncIteration
        await self._ending.changed.wait()

    def _take(self) -> Item | None:
        """Remove the oldest item and follow its position; None for a mark, or when there is none."""
        if not self._items:
            return None
        item = self._items.popleft()
        if self._is_held and len(self._items) <= self._capacity // 2:
            self._is_held = False
            self._release()
        match item:
            case Marked(position=position):
                self.position = position
                return None
            case Event(position=position) if position is not None:
                self.position = position
            case Reset(position=position):
                self.position = position
            case _:
                """The others say nothing about the position."""
        return item


class Presence:
    """Who is present in one channel, and what this client announces there.

    Iterating yields all members after every change. Policy COALESCE: an application that is slow sees the newest state and
    not those between.

    Attributes:
        channel: Its name.
        members: The last known members, in order of arrival.
    """

    def __init__(self, channel: ChannelName, announce: Callable[[Any], Awaitable[None]]) -> None:
        self.channel = channel
        self.members: tuple[Member, ...] = ()
        self.is_announced = False
        self._announce = announce
        self._num_changes = 0
        self._num_seen = 0
        self._ending = _Ending()

    def put(self, fact: SubscriptionFact) -> None:
        """Take a fact from the client. Never waits."""
        match fact:
            case PresenceChanged(members=members):
                self.members = members
                self._num_changes += 1
                self._ending.touch()
            case SubscriptionEnded(code=code, reason=reason):
                self.end(SubscriptionClosed(code, reason))
            case _:
                """Events are not for this handle."""

    def end(self, error: Exception | None) -> None:
        """No change comes any more. Never waits."""
        self._ending.end(error)

    async def set(self, state: Any) -> None:
        """Announce a state; it is announced again after every reconnect.

        Raises:
            RequestFailed: the server refuses it.
        """
        self.is_announced = True
        await self._announce(state)

    async def leave(self) -> None:
        """Take the announcement back."""
        self.is_announced = False
        await self._announce(None)

    async def wait_known(self) -> None:
        """Wait for the first members, or raise what the server said instead."""
        while self._num_changes == 0:
            self._ending.check()
            await self._ending.changed.wait()
        await trio.lowlevel.checkpoint()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[Member, ...]:
        """Wait for a change that was not seen yet and return all members."""
        await trio.lowlevel.checkpoint()
        while self._num_seen == self._num_changes:
            if self._ending.is_over:
                self._ending.check()
                raise StopAsyncIteration
            await self._ending.changed.wait()
        self._num_seen = self._num_changes
        return self.members
