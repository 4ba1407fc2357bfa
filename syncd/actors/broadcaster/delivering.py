"""Fanning out what a tick brought: room by room, and within large rooms slice by slice, so that others get their turn."""

from __future__ import annotations

import trio

from syncd.actors.broadcaster.publishing import Publishing
from syncd.actors.broadcaster.rooms import Room
from syncd.actors.broadcaster.telling import parts_of, tell_part
from syncd.ports import Fanout, Run, Subscription

__all__ = ["Delivering"]

DELIVERIES_PER_SLICE = 1500
"""Sends between two checkpoints: some 6 ms; 20,000 subscribers must not stall the loop for 20 ms."""


class Delivering:
    """The part of the broadcaster that hands runs to sessions. Owner of nothing."""

    def __init__(self, publishing: Publishing, fanout: Fanout) -> None:
        self._publishing = publishing
        self._fanout = fanout

    async def deliver(self) -> bool:
        """Fan out what this tick brought, if it did. Sends are counted: after a slice others get their turn."""
        num_left = DELIVERIES_PER_SLICE
        touched = self._publishing.take_touched()
        for room in touched:
            channel = room.channel
            if room.filters is not None:
                for part, run in parts_of(room, DELIVERIES_PER_SLICE):
                    if len(part) > num_left:
                        await self.give_way()
                        num_left = DELIVERIES_PER_SLICE
                    num_left -= len(part)
                    tell_part(room, part, run, self._fanout)
                room.forget_run()
                continue
            epoch, top = (None, 0) if channel is None else (channel.epoch, channel.top)
            run = Run(room.name, room.run, epoch, top, room.is_latest)
            count = len(room.subscribers) + len(room.late)
            if count > num_left:
                await self.give_way()
                num_left = DELIVERIES_PER_SLICE
            num_left -= count
            if num_left >= 0:
                fallen = self._fanout.deliver(room.subscribers, run)
                if room.late:
                    self._deliver_late(room, run, list(room.late))
            else:
                fallen = await self._deliver_in_slices(room, run)
                num_left = 0
            for subscription in fallen:
                room.remove(subscription)
            room.run = []
            if room.late:
                room.late = {}
        return bool(touched)

    async def _deliver_in_slices(self, room: Room, run: Run) -> list[Subscription]:
        fallen: list[Subscription] = []
        subscribers, late = list(room.subscribers), list(room.late)
        for start in range(0, len(subscribers), DELIVERIES_PER_SLICE):
            part = subscribers[start : start + DELIVERIES_PER_SLICE]
            fallen += self._fanout.deliver(part, run)
            await self.give_way()
        for start in range(0, len(late), DELIVERIES_PER_SLICE):
            self._deliver_late(room, run, late[start : start + DELIVERIES_PER_SLICE])
            await self.give_way()
        return fallen

    async def give_way(self) -> None:
        """Write what is queued and let others have a turn."""
        self._fanout.flush()
        await trio.lowlevel.checkpoint()

    def _deliver_late(self, room: Room, run: Run, late: list[Subscription]) -> None:
        """Who went live during this tick gets only what came after that."""
        for subscription in late:
            rest = run.messages[room.late[subscription] :]
            if not subscription.is_live:
                continue
            room.subscribers[subscription] = None
            if rest:
                part = Run(run.channel, rest, run.epoch, run.offset, run.is_conflatable)
                for fallen in self._fanout.deliver([subscription], part):
                    room.remove(fallen)
