"""Reads what the sessions of a `World` were sent, as a client that trusts nothing, and says which promise was broken.

ORDER, RECOVER and "each request is answered once": every subscriber's events join on to its stated position without a gap and
without a repetition; an offset means the same event to everybody; `subscribed` alone decides.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import attrs

from syncd.config import HistoryKind, Mode
from syncd.ids import ChannelName, Position
from syncd.ports_log import LogQuery
from syncd.wire.channels import namespace_of
from tests.actors.broadcaster_world import COLLECTIONS, NAMESPACES, FakeSession, World


@attrs.define
class View:
    """What a client knows of one channel it is subscribed to."""

    mode: Mode
    epoch: str | None = None
    offset: int = 0
    values: dict[str | None, Any] = attrs.field(factory=dict)
    """Of a latest channel, as far as this client was told since it had it whole."""
    is_whole: bool = False
    num_ephemeral: int = -1


class Promises:
    """Checks a whole world after the fact."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.events: dict[tuple[str, str, int], Any] = {}
        """What stands at a position, as first told to anybody."""

    def check(self) -> None:
        """Everything that must hold once nothing moves any more."""
        views = {session: self._read(session) for session in self.world.sessions}
        self._check_log()
        for session, by_channel in views.items():
            if not session.closed:
                ordinary = {name for name, s in session.subscriptions.items() if s.watch is None}
                assert set(by_channel) == ordinary, session.id
                for channel, view in by_channel.items():
                    self._check_is_at_top(session, channel, view)
        self._check_rooms()

    # ------------------------------------------------------------------ one client

    def _read(self, session: FakeSession) -> dict[ChannelName, View]:
        views: dict[ChannelName, View] = {}
        answered: Counter[int] = Counter()
        for kind, body in session.notes:
            where = f"{session.id}: {kind} {body}"
            request_id = body.get("id")
            if request_id is not None:
                answered[request_id] += 1
                assert answered[request_id] == 1, f"answered twice: {where}"
            if kind == "outcome" or namespace_of(body.get("channel", "")) in COLLECTIONS:
                continue  # watches have a check of their own
            match kind:
                case "subscribed":
                    self._subscribed(session, views, body, where)
                case "event":
                    assert body["channel"] in views, f"not subscribed: {where}"
                    self._event(views[body["channel"]], body, where)
                case "lagged":
                    view = views.pop(body["channel"])
                    if view.mode is Mode.STREAM and view.epoch is not None:
                        assert body["position"] == {"epoch": view.epoch, "offset": view.offset}
                case "ok":
                    self._ok(session, views, body, where)
                case _:
                    assert kind == "error", where
        if not session.closed:
            missing = set(session.asked) - set(answered)
            assert not missing, f"{session.id}: no answer to {[session.asked[i] for i in missing]}"
        return views

    def _ok(
        self, session: FakeSession, views: dict[ChannelName, View], body: dict[str, Any], where: str
    ) -> None:
        what, about = session.asked[body["id"]]
        if what in ("unsubscribe", "unwatch"):
            views.pop(about, None)
        elif what == "publish" and "position" in body:
            channel, data, _key = about
            self._note_event(channel, body["position"], data, where)

    def _note_event(self, channel: str, position: dict[str, Any], data: object, where: str) -> None:
        key = (channel, position["epoch"], position["offset"])
        assert self.events.setdefault(key, data) == data, f"two events at one offset: {where}"

    def _subscribed(
        self, session: FakeSession, views: dict[ChannelName, View], body: dict[str, Any], where: str
    ) -> None:
        channel = body["channel"]
        mode = NAMESPACES[namespace_of(channel)].mode
        if "id" in body:
            what, (asked_channel, since) = session.asked[body["id"]]
            assert (what, asked_channel) == ("subscribe", channel), where
            assert channel not in views, f"subscribed twice: {where}"
        else:
            view = views[channel]
            assert view.epoch is not None, where
            since = Position(view.epoch, view.offset)  # type: ignore[arg-type]
            assert not body["recovered"], f"there is nothing to tell: {where}"
        assert body["was_recovering"] == (since is not None), where
        views[channel] = self._start(views.get(channel), mode, since, body, where)

    def _start(
        self,
        known: View | None,
        mode: Mode,
        since: Position | None,
        body: dict[str, Any],
        where: str,
    ) -> View:
        view = View(mode)
        if mode is Mode.EPHEMERAL:
            assert "position" not in body, where
            assert not body["recovered"], where
            assert not body["events"], where
            return view
        position = body["position"]
        view.epoch, top = position["epoch"], position["offset"]
        if body["recovered"]:
            assert since is not None, where
            assert since.epoch == view.epoch, where
            view.offset = since.offset
        else:
            is_there = since is not None and (since.epoch, since.offset) == (view.epoch, top)
            assert not is_there, f"nothing was missed: {where}"
            assert mode is Mode.LATEST or not body["events"], where
            view.is_whole = mode is Mode.LATEST
            view.offset = 0 if mode is Mode.LATEST else top
        for event in body["events"]:
            self._event(view, event, where)
        assert view.offset == top or mode is Mode.LATEST, f"a part of it: {where}"
        view.offset = max(view.offset, top) if mode is Mode.STREAM else view.offset
        return view

    def _event(self, view: View, body: dict[str, Any], where: str) -> None:
        if view.mode is Mode.EPHEMERAL:
            assert body["data"][0] > view.num_ephemeral, f"again or out of order: {where}"
            view.num_ephemeral = body["data"][0]
            return
        assert body["epoch"] == view.epoch, where
        self._note_event(body["channel"], body, body["data"], where)
        if view.mode is Mode.STREAM:
            assert body["prev"] == body["offset"] - 1, where
            assert body["prev"] == view.offset, f"a gap or a repetition at {view.offset}: {where}"
        else:
            assert "prev" not in body, where
            assert body["offset"] > view.offset, f"a repetition at {view.offset}: {where}"
            view.values[body.get("key")] = body["data"]
        view.offset = body["offset"]

    # ------------------------------------------------------------------ at rest

    def _check_is_at_top(self, session: FakeSession, channel: ChannelName, view: View) -> None:
        room = self.world.broadcaster.rooms.by_name[channel]
        where = f"{session.id} on {channel}"
        if view.mode is Mode.EPHEMERAL:
            return
        assert room.channel is not None, where
        assert view.epoch == room.channel.epoch, where
        if view.mode is Mode.STREAM:
            assert view.offset == room.channel.top, f"left behind: {where}"
        elif view.is_whole:
            for event in room.channel.state():
                told = self.events[channel, view.epoch, event.offset]
                assert view.values[event.key] == told, f"not the newest: {where}"

    def _check_rooms(self) -> None:
        """Nobody is in a room who left it, and everybody live is in one."""
        inside = {
            subscription
            for room in self.world.broadcaster.rooms.by_name.values()
            for subscription in (*room.subscribers, *(room.filters.live if room.filters else ()))
        }
        wanted = {
            subscription
            for session in self.world.sessions
            for subscription in session.subscriptions.values()
        }
        assert inside == wanted
        for room in self.world.broadcaster.rooms.by_name.values():
            left = [room.catching_up, room.late, room.run, room.waiting, room.early]
            assert not any(left), room.name
        assert not self.world.broadcaster.publishing.gaps._gaps
        assert not self.world.broadcaster.committing.left()
        assert not self.world.broadcaster.watching._probing

    def _check_log(self) -> None:
        """What was told of durable channels is what the log holds; what memory says of it, too."""
        for room in self.world.broadcaster.rooms.by_name.values():
            if room.namespace.history is HistoryKind.DURABLE and room.channel is not None:
                page = self.world.store.log.read(LogQuery(room.name))
                assert room.channel.top == page.head.top
                assert room.channel.epoch == page.head.epoch
                tail = {event.offset: event.record for event in room.channel.after(0)}
                assert tail.items() <= {e.offset: e.record for e in page.events}.items() or (
                    room.channel.is_latest
                )
        for channel, epoch, offset in self.events:
            if NAMESPACES[namespace_of(ChannelName(channel))].history is HistoryKind.DURABLE:
                page = self.world.store.log.read(LogQuery(ChannelName(channel)))
                assert page.head.epoch == epoch
                assert 1 <= offset <= page.head.top
