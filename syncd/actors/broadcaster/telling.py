"""Delivery of a collection's run: all of it to whole watches, to filtered ones what concerns them, one run a subscription."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from syncd.actors.broadcaster.filters import is_filtered
from syncd.actors.broadcaster.rooms import Room
from syncd.ports import Fanout, Run, Subscription

__all__ = ["Part", "parts_of", "tell_part"]

Part = tuple[list[Subscription], Run]
"""Who is delivered what."""


def parts_of(room: Room, max_subscriptions: int) -> Iterator[Part]:
    """Yield who is told what of this tick's run, so many at once, and put those live who came during it."""
    for subscriptions, run in _parts(room):
        for start in range(0, len(subscriptions), max_subscriptions):
            yield subscriptions[start : start + max_subscriptions], run


def _parts(room: Room) -> list[Part]:
    channel = room.channel
    if channel is None or not room.run:
        return []
    run = Run(room.name, room.run, channel.epoch, channel.top, is_conflatable=True)
    run.fulls = room.fulls
    parts: list[Part] = [(list(room.subscribers), run)] if room.subscribers else []
    told = _told(room)
    for subscription, start in room.late.items():
        if not subscription.is_live:
            continue
        indices = told.pop(subscription, [])
        if not is_filtered(subscription):
            indices = list(range(start, len(room.run)))
        told[subscription] = [index for index in indices if index >= start]
        room.place(subscription)
    alike: dict[tuple[int, ...], list[Subscription]] = {}
    for subscription, indices in told.items():
        if indices:
            alike.setdefault(tuple(indices), []).append(subscription)
    parts += [(who, _cut(run, indices)) for indices, who in alike.items()]
    return parts


def _told(room: Room) -> dict[Subscription, list[int]]:
    """Return what of the run concerns each filtered watch that is live, or late."""
    told: dict[Subscription, list[int]] = {}
    filters = room.filters
    if filters is None or not len(filters):
        return told
    for index, (key, message) in enumerate(room.run):
        who = filters.concerned(message) if key is None else filters.watching(key)
        for subscription in who:
            if subscription in filters.live or subscription in room.late:
                told.setdefault(subscription, []).append(index)
    return told


def _cut(run: Run, indices: Sequence[int]) -> Run:
    """Return some messages of a run; everything up to its end is told by them."""
    if len(indices) == len(run.messages):
        return run
    first = run.offset - len(run.messages) + 1
    fulls = run.fulls or {}
    return Run(
        run.channel,
        [run.messages[index] for index in indices],
        run.epoch,
        run.offset,
        run.is_conflatable,
        {place: fulls[index] for place, index in enumerate(indices) if index in fulls} or None,
        [first + index for index in indices],
    )


def tell_part(room: Room, subscriptions: Sequence[Subscription], run: Run, fanout: Fanout) -> None:
    """Deliver a part: who has no room left is out, and whoever marks positions need not tell this one again."""
    for fallen in fanout.deliver(subscriptions, run):
        room.remove(fallen)
    last = run.offset if run.offsets is None else run.offsets[-1]
    for subscription in subscriptions:
        if subscription.watch is not None:
            subscription.watch.marked = last
