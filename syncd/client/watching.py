"""All watches of a client and everything the server says about their channels. Pure.

Owned by `StateCore`, which lends it the means to speak.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping

from syncd.client.confirmed import change_from_body
from syncd.client.errors import RequestFailed
from syncd.client.facts_state import Invalidated, StateFact, WatchEnded
from syncd.client.frames import Body, position_from_body, position_to_wire
from syncd.client.watch import Selection, Watch, WatchedChannel, WatchState
from syncd.codes import ErrorCode
from syncd.ids import ChannelName, Position

__all__ = ["WatchTable"]

CALM_S = 5.0
"""Gaps further apart are repaired at once; closer ones wait, so that a broken server is not hammered."""


class WatchTable:
    """Watches by number and their channels by name.

    Args:
        rng: Source of jitter.
        request: Send a message of this type and body under a fresh id, and return the id.
        tell: Queue a fact.
        wanted_after: Returns the position of a channel that answers must reach, None for any.
        has_pending: Returns whether any mutation is not settled.
    """

    def __init__(
        self,
        rng: random.Random,
        request: Callable[[str, Body], int],
        tell: Callable[[StateFact], None],
        wanted_after: Callable[[ChannelName], Position | None],
        has_pending: Callable[[], bool],
    ) -> None:
        self.channels: dict[str, WatchedChannel] = {}
        self.watches: dict[int, Watch] = {}
        self.max_frame_bytes = self.pack_bytes = 65_536.0
        self.clients: Mapping[str, int] = {}
        """Ours, with the last mutation that was decided when the session began: every snapshot is as of that at least."""
        self._rng = rng
        self._request = request
        self._tell = tell
        self._wanted_after = wanted_after
        self._has_pending = has_pending
        self._is_online = False
        self._num_made = 0
        self.has_leftovers = False
        """There are entries, or channels, that nobody watches any more."""
        self._gone: set[tuple[str, str]] = set()
        self._superseded: dict[int, Watch] = {}
        """Requests that were made once more because they may never be answered, and may be all the same."""

    # -------------------------------------------------------------------------------- connection and time

    def went_online(self) -> None:
        """A session is there: ask for everything."""
        self._is_online = True
        for watch in list(self.watches.values()):
            self._pursue(watch)

    def went_offline(self) -> None:
        """The session is gone, and all watches with it."""
        self._is_online = False
        self._superseded.clear()
        for watch in list(self.watches.values()):
            watch.retry_at, watch.request_id, watch.is_known_to_server = None, None, False
            if watch.is_leaving:
                self._forget(watch)
            else:
                watch.state = WatchState.WANTED

    def end_all(self) -> None:
        """The client is over; the application learns that elsewhere."""
        for watch in self.watches.values():
            watch.state = WatchState.ENDED
        self.watches.clear()
        self.channels.clear()

    def retries(self) -> Iterator[float]:
        """Return the times at which `tick` has something to do."""
        return (w.retry_at for w in self.watches.values() if w.retry_at is not None)

    def tick(self, now: float) -> None:
        """Ask again for what was put off until now."""
        for watch in list(self.watches.values()):
            if watch.retry_at is not None and watch.retry_at <= now:
                watch.retry_at = None
                self._pursue(watch)

    # -------------------------------------------------------------------------------- the application asks

    def watch(self, selection: Selection) -> Watch:
        """Begin to watch."""
        self._num_made += 1
        watch = Watch(self._num_made, selection, self._rng)
        self.watches[watch.id] = watch
        if watch.channel is not None:
            self._attach(watch, watch.channel)
        self._pursue(watch)
        return watch

    def unwatch(self, watch_id: int) -> None:
        """End a watch; what other watches cover goes on."""
        watch = self.watches.get(watch_id)
        if watch is None or watch.is_leaving:
            return
        if watch.channel is None and watch.state is WatchState.ASKING:
            watch.is_leaving = True
            return
        self._forget(watch)
        if watch.is_known_to_server and watch.channel is not None:
            self._withdraw(watch, self.channels[watch.channel])

    def _withdraw(self, watch: Watch, channel: WatchedChannel) -> None:
        """Have the server stop telling what nobody watches any more; a refusal would change nothing."""
        body: Body = {"collection": channel.collection, "partition": channel.partition}
        # Those that wait for their first answer may turn out to be on this channel, too.
        others = list(self.may_be_on(channel.name))
        if any(other.selection.is_whole for other in others):
            return
        if watch.selection.keys is not None and others:
            keys = {
                key
                for key in watch.selection.keys
                if not any(other.selection.covers(key) for other in others)
            }
            if keys:
                self._request("unwatch", {**body, "keys": sorted(keys)})
            return
        self._request("unwatch", body)
        for other in others:
            if other.channel is None and not other.is_known_to_server:
                continue  # not asked for yet
            other.state, other.is_known_to_server = WatchState.WANTED, False
            self._pursue(other)

    def _attach(self, watch: Watch, name: ChannelName) -> WatchedChannel:
        channel = self.channels.get(name)
        if channel is None:
            channel = self.channels[name] = WatchedChannel(name, watch.selection.collection)
        watch.channel = name
        if watch not in channel.watches:
            channel.watches.append(watch)
        return channel

    def _forget(self, watch: Watch) -> None:
        watch.state, watch.retry_at = WatchState.ENDED, None
        self.watches.pop(watch.id, None)
        self.has_leftovers = True
        if watch.channel is not None:
            channel = self.channels[watch.channel]
            channel.watches.remove(watch)
            channel.turn()

    def prune(self) -> None:
        """Forget entries and channels nobody watches; for a time when no prediction rests on them."""
        self.has_leftovers = False
        for channel in list(self.channels.values()):
            channel.prune()
            if not channel.watches:
                del self.channels[channel.name]
                self._gone.update((channel.collection, key) for key in channel.take_changed())

    def take_changed(self) -> set[tuple[str, str]]:
        """Return and forget, as collection and key, every entry whose confirmed value is another one now."""
        changed, self._gone = self._gone, set()
        for channel in self.channels.values():
            changed.update((channel.collection, key) for key in channel.take_changed())
        return changed

    def _pursue(self, watch: Watch) -> None:
        """Ask the server for a watch that wants to be asked for."""
        is_wanting = watch.state is WatchState.WANTED and watch.retry_at is None
        if not self._is_online or not is_wanting:
            return
        if refusal := watch.refusal(self.max_frame_bytes):
            self._end(watch, ErrorCode.TOO_LARGE.value, refusal)
            return
        body = watch.selection.to_wire()
        if watch.channel is not None:
            channel = self.channels[watch.channel]
            body["position"] = position_to_wire(channel.position_of(watch))
            body["have"] = channel.have(watch, self.pack_bytes)
            after = self._wanted_after(watch.channel)
            if after is not None and watch.may_ask_after:
                body["after"] = {watch.channel: position_to_wire(after)}
        watch.may_ask_after = watch.is_known_to_server = True
        watch.state = WatchState.ASKING
        watch.request_id = self._request("watch", body)

    def _ask_again(self, watch: Watch, now: float) -> None:
        """Something is missing: ask again, at once unless something was missing just now."""
        if watch.state not in (WatchState.LIVE, WatchState.CATCHING_UP, WatchState.LOADING):
            return
        watch.state, watch.loaded = WatchState.WANTED, None
        if watch.gap_at is None or now - watch.gap_at >= CALM_S:
            watch.backoff.reset()
        else:
            watch.retry_at = now + watch.backoff.next_s()
        watch.gap_at = now
        self._pursue(watch)

    # -------------------------------------------------------------------------------- the server answers

    def refused(self, request_id: int, error: RequestFailed, now: float) -> bool:
        """Take an error; return whether it answered a `watch`."""
        if self._superseded.pop(request_id, None) is not None:
            return True
        for watch in self.watches.values():
            if watch.request_id == request_id and watch.state is WatchState.ASKING:
                self._refused(watch, error, now)
                return True
        return False

    def _refused(self, watch: Watch, error: RequestFailed, now: float) -> None:
        watch.is_known_to_server = False
        if watch.is_leaving:
            self._forget(watch)
        elif error.retryable:
            watch.may_ask_after = error.code != ErrorCode.BEHIND.value
            watch.state = WatchState.WANTED
            watch.retry_at = now + watch.backoff.next_s((error.after_ms or 0) / 1000)
        else:
            self._end(watch, error.code, error.message)

    def _end(self, watch: Watch, code: str, message: str) -> None:
        self._forget(watch)
        self._tell(WatchEnded(watch.id, code, message))

    def on_watched(self, body: Body, now: float) -> None:
        """Take the answer to a `watch`."""
        watch = self._asked(body["id"])
        position = position_from_body(body)
        if watch is None or watch.state is not WatchState.ASKING or position is None:
            self._overhear(body, position)
            return
        channel = self._attach(watch, ChannelName(body["channel"]))
        if watch.is_leaving:
            watch.is_leaving = False
            self._overhear(body, position)
            self.unwatch(watch.id)
            return
        mine = watch.position
        if body["recovered"] and mine is not None and mine.epoch == position.epoch:
            watch.target, watch.is_sure = position.offset, False
            is_there = mine.offset >= position.offset
            watch.state = WatchState.LIVE if is_there else WatchState.CATCHING_UP
            channel.turn()
            return
        if watch.is_shown:
            self._tell(Invalidated.unrecovered(channel.name, position))
        entries = channel.entries_for(position.epoch)
        self._found_epoch(channel, position.epoch, now)
        watch.state, watch.loaded = WatchState.LOADING, position
        watch.told, watch.decided, watch.since = set(), self._decided(body), position.offset
        live, covers = entries.live().items(), watch.selection.covers
        watch.doubtful = {
            key for key, version in live if version <= position.offset and covers(key)
        }
        self._take_page(watch, channel, body, now)

    def on_snapshot(self, body: Body, now: float) -> None:
        """Take further entries of a snapshot."""
        watch = self._asked(body["id"])
        if watch is None or watch.state is not WatchState.LOADING or watch.channel is None:
            self._overhear(body, None)
            return
        self._take_page(watch, self.channels[watch.channel], body, now)

    def _asked(self, request_id: int) -> Watch | None:
        watch = self._superseded.pop(request_id, None)
        if watch is None:
            return next((w for w in self.watches.values() if w.request_id == request_id), None)
        if watch.state is not WatchState.ASKING or watch.request_id is None:
            return None
        self._superseded[watch.request_id], watch.request_id = watch, request_id
        return watch

    def _overhear(self, body: Body, position: Position | None) -> None:
        """A page for a watch that is not there any more counts for the others on its channel, who are told what comes after it."""
        channel = self.channels.get(ChannelName(body["channel"]))
        if channel is not None:
            channel.overhear(body, position, self._decided(body))

    def _take_page(self, watch: Watch, channel: WatchedChannel, body: Body, now: float) -> None:
        assert watch.loaded is not None
        entries = channel.entries_for(watch.loaded.epoch)
        entries.take_page(body, self._decided(body))
        watch.told.update(body["unchanged"], (told["key"] for told in body["entries"]))
        if not body["more"] and not channel.completed(watch):
            watch.has_hole = True
            self._ask_again(watch, now)

    def _decided(self, body: Body) -> Mapping[str, int]:
        """Return what the entries of a page are as of, in the numbers of our clients; empty if nothing waits to be settled."""
        if not self._has_pending():
            return {}
        told = body.get("decided") or {}
        return {client: told.get(client, mid) for client, mid in self.clients.items()}

    # -------------------------------------------------------------------------------- the server speaks

    def on_event(self, body: Body, now: float) -> bool:
        """Take a change of an entry; return whether its channel is one of ours."""
        channel = self.channels.get(body["channel"])
        if channel is None:
            return False
        change = change_from_body(body, self.clients if self._has_pending() else ())
        epoch: str = body["epoch"]
        entries = channel.entries_of(epoch)
        if entries is None:
            self._found_epoch(channel, epoch, now)
            return True
        watches = [w for w in channel.watches if w.selection.covers(change.key)]
        loading = [w for w in watches if w.state is WatchState.LOADING]
        may_wait = any(change.key not in watch.told for watch in loading)
        is_taken = entries.take(change, may_wait=may_wait)
        for watch in loading:
            if change.patch is None:
                watch.told.add(change.key)
            if watch.decided and change.version > watch.since and entries.has(change):
                entries.see(
                    change.key, watch.decided
                )  # what comes after the snapshot holds what it holds
        if not is_taken:
            for watch in watches:
                watch.has_hole = True
                self._ask_again(watch, now)
        for watch in channel.watches:
            watch.advance(epoch, change.version)
        return True

    def _found_epoch(self, channel: WatchedChannel, epoch: str, now: float) -> None:
        """The server speaks of another epoch: watch anew everything that is live in an older one."""
        for watch in list(channel.watches):
            position = watch.position if watch.loaded is None else watch.loaded
            if position is not None and position.epoch != epoch:
                self._ask_again(watch, now)

    def on_invalidate(self, body: Body, _now: float) -> None:
        """Take an invalidation, and tell it."""
        position = position_from_body({"position": body})
        channel = self.channels.get(body["channel"])
        if channel is None or position is None:
            return
        self._tell(Invalidated.from_body(channel.name, position, body))
        for watch in channel.watches:
            watch.advance(position.epoch, position.offset)

    def on_mark(self, body: Body, _now: float) -> None:
        """Everything up to there has been told or superseded."""
        channel, position = self.channels.get(body["channel"]), position_from_body(body)
        if channel is None or position is None:
            return
        for watch in channel.watches:
            watch.advance(position.epoch, position.offset)
            watch.is_sure = watch.is_sure or watch.is_live

    def on_lagged(self, body: Body, now: float) -> None:
        """The watch of a channel is over: watch again, from the position where there is one.

        What is asked for and not answered yet may never be (SPEC 17), so it is asked for once more, too.
        """
        for watch in list(self.may_be_on(body["channel"])):
            if watch.state is WatchState.ASKING and watch.request_id is not None:
                self._superseded[watch.request_id] = watch
                watch.state = WatchState.WANTED
                self._pursue(watch)
            elif watch.channel is not None:
                watch.is_known_to_server = False
                self._ask_again(watch, now)

    def on_unsubscribed(self, body: Body, _now: float) -> None:
        """The server ended all watches of a channel."""
        channel = self.channels.get(body["channel"])
        for watch in list(channel.watches) if channel is not None else ():
            watch.is_known_to_server = False
            self._end(watch, body["code"], body["reason"])

    def reset(self, name: str | None, now: float) -> None:
        """Positions and versions of one channel, or all, mean nothing any more."""
        for channel in list(self.channels.values()):
            if name in (None, channel.name):
                channel.is_void, channel.next = True, None
                for watch in list(channel.watches):
                    watch.position = None
                    self._ask_again(watch, now)

    def may_be_on(self, name: str) -> Iterator[Watch]:
        """Yield the watches whose events may come on this channel."""
        return (w for w in self.watches.values() if not w.is_leaving and w.may_be_on(name))
