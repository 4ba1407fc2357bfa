"""A world with a small cache-owner: it commits changes of entries, makes snapshots, and hands both to the broadcaster when told to.

`WatchPromises` reads what sessions were sent by the client's rules of SPEC 17 and 18, and says which promise was broken.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from syncd.errors import internal_error
from syncd.ids import ChannelName, Epoch, Position
from syncd.ports import PublishEvent, Subscription, UnsubscribeChannel, Watch
from syncd.ports_collections import (
    CommittedEvent,
    DeliverCommitted,
    NarrowWatch,
    OutcomeToTell,
    RenewChannel,
    WatchChannel,
)
from syncd.ports_log import AppendRequest
from syncd.wire import encode, encode_state
from syncd.wire.encode_entries import entry_record, invalidation_record
from syncd.wire.merge_patch import apply_patch
from tests.actors.broadcaster_world import COLLECTIONS, FakeSession, World, make_config

Version = tuple[int, Any]
"""(offset, value); the value is None for what was deleted."""


@attrs.define(eq=False)
class Truth:
    """Every change of one channel's entries."""

    epoch: Epoch
    top: int = 0
    history: dict[str, list[Version]] = attrs.field(factory=dict)

    def at(self, key: str, offset: int) -> Version:
        """What an entry was at an offset."""
        found = [change for change in self.history.get(key, []) if change[0] <= offset]
        return found[-1] if found else (0, None)


@attrs.define(eq=False)
class WatchRequest:
    """A watch on its way: its snapshot is to be made, again if the broadcaster lost it."""

    session: FakeSession
    subscription: Subscription
    request_id: int
    keys: list[str] | None
    since: Position | None
    """The client's own, to recover from."""
    is_answered: bool = False


class WatchingWorld(World):
    """See the module's docstring."""

    def __init__(self, **limits: Any) -> None:
        self.truths: dict[ChannelName, Truth] = {}
        self.num_epochs = 0
        super().__init__(make_config(**limits))
        self.undelivered: list[DeliverCommitted | RenewChannel] = []
        self.requests: list[WatchRequest] = []
        """Whose snapshot is to be made."""
        self.num_lost = 0

    def volatile_head(self, channel: ChannelName) -> Position:
        truth = self.truth(channel)
        return Position(truth.epoch, truth.top)

    def truth(self, channel: ChannelName) -> Truth:
        if channel not in self.truths:
            if channel.startswith("orders"):
                head = self.store.log.load(channel, 0, 0).head
                self.truths[channel] = Truth(head.epoch, head.top)
            else:
                self.num_epochs += 1
                self.truths[channel] = Truth(Epoch(f"{self.num_epochs:016d}"))
        return self.truths[channel]

    # ------------------------------------------------------------------ the cache-owner commits

    def append(self, channel: ChannelName, key: str | None, record: bytes) -> Position:
        """Give a committed event its place."""
        if channel.startswith("cached"):
            truth = self.truth(channel)
            truth.top += 1
            return Position(truth.epoch, truth.top)
        log = self.store.log
        (appended,) = log.begin([AppendRequest(channel, record, 5, key)])
        log.commit()
        if channel.startswith("orders"):
            self.truth(channel).top = appended.offset  # type: ignore[union-attr]
        return Position(appended.epoch, appended.offset)  # type: ignore[union-attr]

    def change(
        self, channel: str, key: str, value: Any, *, is_patch: bool = False
    ) -> CommittedEvent:
        """Commit a change of an entry; as a patch on what it was, where that can be."""
        name = ChannelName(channel)
        truth = self.truth(name)
        base, before = truth.at(key, truth.top)
        full = None if value is None else entry_record(key, 5, value=encode.pack(value))
        record = full or entry_record(key, 5, value=None)
        if is_patch and before is not None and value is not None:
            patch = encode.pack(value)
            value = apply_patch(before, value)
            full = entry_record(key, 5, value=encode.pack(value))
            record = entry_record(key, 5, value=encode.pack(value), patch=patch, base=base)
        else:
            full = None
        position = self.append(name, key, record)
        truth.history.setdefault(key, []).append((position.offset, value))
        return CommittedEvent(name, position.epoch, position.offset, 5, key, record, full)

    def invalidate(self, channel: str, **what: Any) -> CommittedEvent:
        name, record = ChannelName(channel), invalidation_record(5, **what)
        position = self.append(name, None, record)
        return CommittedEvent(name, position.epoch, position.offset, 5, None, record)

    def publish_in_mutation(self, channel: str, data: object) -> CommittedEvent:
        """An event of an ordinary durable channel, in the same commit."""
        name = ChannelName(channel)
        record = encode.event_record(encode.pack(data), 5, name=None, key=None, client=None)
        position = self.append(name, None, record)
        return CommittedEvent(name, position.epoch, position.offset, 5, None, record)

    def commit(
        self,
        *events: CommittedEvent,
        asker: FakeSession | None = None,
        publications: Sequence[PublishEvent] = (),
    ) -> None:
        """What was committed waits to be handed over, with an outcome for its author."""
        message = DeliverCommitted(list(events), list(publications))
        if asker is not None:
            places = {event.channel: Position(event.epoch, event.offset) for event in events}
            message.outcomes.append(OutcomeToTell(asker, encode.pack(len(places)), places))
        self.undelivered.append(message)

    def hand_over(self, count: int = 1000) -> None:
        """Hand over what was committed, oldest first."""
        now, self.undelivered = self.undelivered[:count], self.undelivered[count:]
        for message in now:
            self.broadcaster.deliver_committed(message)

    def renew(self, channel: str) -> None:
        """A volatile channel loses its state."""
        name = ChannelName(channel)
        self.num_epochs += 1
        self.truths[name] = Truth(Epoch(f"{self.num_epochs:016d}"))
        self.undelivered.append(RenewChannel(name))

    def renew_durable(self, channel: str) -> None:
        """The cache-owner crashed behind a commit of this channel."""
        self.undelivered.append(RenewChannel(ChannelName(channel)))

    # ------------------------------------------------------------------ watches

    def watch(
        self,
        session: FakeSession,
        channel: str,
        keys: Sequence[str] | None = None,
        since: Position | None = None,
    ) -> Subscription:
        """Ask for entries: as the gateway, which enters the subscription, and the cache-owner, which has to make a snapshot."""
        name, request_id = ChannelName(channel), next(session.ids)
        subscription = session.subscriptions.get(name)
        wanted = None if keys is None else list(keys)
        if subscription is None:
            watch = Watch(None if wanted is None else set())
            subscription = Subscription(session, name, pending_id=request_id, watch=watch)
            session.subscriptions[name] = subscription
        session.asked[request_id] = ("watch", (name, wanted, since))
        self.requests.append(WatchRequest(session, subscription, request_id, wanted, since))
        return subscription

    def snapshot(self, number: int = 0) -> None:
        """Make one of the snapshots that are asked for, as of what the cache-owner knows now."""
        request = self.requests.pop(number)
        subscription = request.subscription
        if subscription.is_closed:
            self._refuse(request)
            return
        name = subscription.channel
        truth, since = self.truth(name), request.since
        recovered = since is not None
        position = since or Position(truth.epoch, truth.top)
        keys = request.keys if request.keys is not None else sorted(truth.history)
        entries = []
        for key in [] if recovered else keys:
            version, value = truth.at(key, position.offset)
            packed = None if value is None else encode.pack(value)
            entries.append(encode_state.entry(key, version or position.offset, packed))
        prelude = encode_state.watched(
            request.request_id, name, position, entries, recovered=recovered
        )

        def lost() -> None:
            self.num_lost += 1
            request.since = None
            self.requests.append(request)

        self.broadcaster.submit_nowait(
            [
                WatchChannel(
                    subscription, request.keys, position, prelude, lost, is_recovered=recovered
                )
            ],
            0,
        )

    @staticmethod
    def _refuse(request: WatchRequest) -> None:
        """The subscription is gone: whoever still waits for an answer gets one."""
        session, request_id = request.session, request.request_id
        was_told = any(body.get("id") == request_id for _kind, body in session.notes)
        if not session.closed and not was_told and request_id in session.asked:
            session.reply_error(request_id, internal_error())

    def unwatch(self, session: FakeSession, channel: str) -> None:
        """As the gateway does it: closed and answered at once, told afterwards; requests on their way are refused."""
        subscription = session.subscriptions[ChannelName(channel)]
        session.release(subscription)
        request_id = next(session.ids)
        session.asked[request_id] = ("unwatch", subscription.channel)
        session.reply_ok(request_id)
        self.submit(UnsubscribeChannel(subscription))

    def narrow(self, session: FakeSession, channel: str, keys: Sequence[str]) -> None:
        request_id = next(session.ids)
        session.asked[request_id] = ("narrow", (ChannelName(channel), list(keys)))
        session.reply_ok(request_id)
        subscription = session.subscriptions[ChannelName(channel)]
        self.broadcaster.submit_nowait([NarrowWatch(subscription, list(keys))], 0)

    async def quiet(self) -> None:
        for _ in range(50):
            self.hand_over()
            while self.requests:
                self.snapshot()
            await super().quiet()
            if not self.requests and not self.undelivered:
                return
        raise AssertionError("watches never come to rest")


# ------------------------------------------------------------------------------------------------ the client's rules


@attrs.define(eq=False)
class WatchView:
    """What a client knows of a collection's channel."""

    epoch: str
    keys: set[str] | None
    position: int
    """Everything up to here was told."""
    entries: dict[str, Version] = attrs.field(factory=dict)
    known: WatchView | None = None
    """The view before it lagged: what is asked for with its position goes on from that."""
    narrowed: set[str] = attrs.field(factory=set)
    """Keys whose events may still have been on their way when they were given up."""

    def has(self, key: str) -> bool:
        return self.keys is None or key in self.keys


class WatchPromises:
    """Reads a session's notes as they come; `check` at the end."""

    def __init__(self, world: WatchingWorld) -> None:
        self.world = world
        self.num_read: dict[FakeSession, int] = {}
        self.views: dict[FakeSession, dict[str, WatchView]] = {}
        self.lost: dict[FakeSession, dict[str, WatchView]] = {}
        """Watches that lagged: their view is complete up to their position, so it can be recovered from."""
        self.num_outcomes = self.num_patches = self.num_marks = 0

    def read(self, session: FakeSession) -> dict[str, WatchView]:
        """Return what the session's client knows now."""
        views = self.views.setdefault(session, {})
        start = self.num_read.get(session, 0)
        self.num_read[session] = len(session.notes)
        for kind, body in session.notes[start:]:
            where = f"{session.id}: {kind} {body}"
            if kind == "outcome":
                self._outcome(views, body, where)
            elif kind == "ok":
                self._ok(session, views, body)
            elif body.get("channel", "").partition("/")[0] in COLLECTIONS:
                self._told(session, views, kind, body, where)
        return views

    def _ok(self, session: FakeSession, views: dict[str, WatchView], body: Any) -> None:
        what, about = session.asked[body["id"]]
        if what == "unwatch":
            views.pop(about, None)
        elif what == "narrow" and about[0] in views:
            view = views[about[0]]
            if view.keys is not None:
                view.narrowed |= view.keys & set(about[1])
                view.keys -= view.narrowed
                for key in view.narrowed:
                    view.entries.pop(key, None)

    def _told(
        self, session: FakeSession, views: dict[str, WatchView], kind: str, body: Any, where: str
    ) -> None:
        channel = body["channel"]
        if kind == "watched":
            self._watched(session, views, body, where)
            return
        view = views[channel]
        if kind == "lagged":
            lost = views.pop(channel)
            assert body["position"]["epoch"] == lost.epoch, where
            assert body["position"]["offset"] >= lost.position, where
            lost.position = body["position"]["offset"]
            self.lost.setdefault(session, {})[channel] = lost
        elif kind == "mark":
            self.num_marks += 1
            assert body["position"]["epoch"] == view.epoch, where
            view.position = body["position"]["offset"]
        else:
            assert body["epoch"] == view.epoch, where
            assert body["offset"] > view.position, f"told again without need: {where}"
            view.position = body["offset"]
            if kind == "event":
                self._event(view, body, where)
            else:
                assert kind == "invalidate", where
        self._check_complete(view, channel, where)

    def _watched(
        self, session: FakeSession, views: dict[str, WatchView], body: Any, where: str
    ) -> None:
        channel, position = body["channel"], body["position"]
        what, (name, keys, _since) = session.asked[body["id"]]
        assert (what, name) == ("watch", channel), where
        view = views.get(channel)
        if view is None:
            known = self.lost.get(session, {}).pop(channel, None)
            view = WatchView(position["epoch"], set() if keys is not None else None, 0)
            view.position, view.known = position["offset"], known
            views[channel] = view
        if body["recovered"]:
            assert view.known is not None, where
            for key, version in view.known.entries.items():
                if version[0] > view.entries.get(key, (-1, None))[0]:
                    view.entries[key] = version
        assert view.epoch == position["epoch"], where
        view.position = min(view.position, position["offset"])
        if keys is None:
            view.keys = None
        elif view.keys is not None:
            view.keys |= set(keys)
            view.narrowed -= set(keys)
        for entry in body["entries"]:
            value = None if entry.get("deleted") else entry["value"]
            if entry["version"] > view.entries.get(entry["key"], (-1, None))[0]:
                view.entries[entry["key"]] = (entry["version"], value)

    def _event(self, view: WatchView, body: Any, where: str) -> None:
        key, offset, data = body["key"], body["offset"], body["data"]
        assert view.has(key) or key in view.narrowed, f"not watched: {where}"
        assert "prev" not in body, where
        version, before = view.entries.get(key, (0, None))
        if offset <= version or not view.has(key):
            return
        if "patch" in data:
            self.num_patches += 1
            assert version == data["base"], f"a patch on what it does not have ({version}): {where}"
            view.entries[key] = (offset, apply_patch(before, data["patch"]))
        else:
            view.entries[key] = (offset, data.get("value"))

    def _check_complete(self, view: WatchView, channel: str, where: str) -> None:
        """Nothing up to the position is missing."""
        truth = self.world.truths[ChannelName(channel)]
        if truth.epoch != view.epoch:
            return
        for key in truth.history:
            if view.has(key):
                offset, value = truth.at(key, view.position)
                told = view.entries.get(key, (0, None))
                assert told[0] >= offset, f"{key} is missing at {view.position}: {where}"
                if told[0] == offset:
                    assert told[1] == value, f"{key} is wrong at {view.position}: {where}"

    def _outcome(self, views: dict[str, WatchView], body: Any, where: str) -> None:
        """An outcome comes behind its events."""
        self.num_outcomes += 1
        for channel, (epoch, offset) in body["positions"].items():
            view = views.get(channel)
            truth = self.world.truths.get(ChannelName(channel))
            if view is None or truth is None or view.epoch != epoch or truth.epoch != epoch:
                continue
            for key in truth.history:
                if view.has(key):
                    changed, _value = truth.at(key, offset)
                    told = view.entries.get(key, (0, None))[0]
                    assert told >= changed, f"{key}@{changed} comes behind: {where}"

    def check(self) -> None:
        """Everything that must hold once nothing moves any more."""
        for session in self.world.sessions:
            views = self.read(session)
            if session.closed:
                continue
            watched = {name for name, s in session.subscriptions.items() if s.watch is not None}
            assert set(views) == watched, session.id
            for channel, view in views.items():
                truth = self.world.truths[ChannelName(channel)]
                assert view.epoch == truth.epoch, f"{session.id} {channel}"
                for key in truth.history:
                    if view.has(key):
                        newest = truth.at(key, truth.top)[1]
                        told = view.entries.get(key, (0, None))[1]
                        assert told == newest, f"{session.id} {channel} {key}"
