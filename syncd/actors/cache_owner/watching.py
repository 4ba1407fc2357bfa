"""Telling entries: `read`, `watch`, and the pages of a snapshot.

Owner of: snapshots that are not complete, and requests that ask for something newer than is known here. A watch is joined by the
broadcaster: it is handed entries as of a position and goes on from there, so that nothing falls between (DESIGN 5.2). Further pages of a large
snapshot follow one by one as the session drains; what changes meanwhile comes as events, and versions say which is newer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from syncd.actors.cache_owner.behind import Behind
from syncd.actors.cache_owner.fetching import Fetching
from syncd.actors.cache_owner.gathering import Gathering
from syncd.actors.cache_owner.holdings import Holdings
from syncd.actors.cache_owner.messages import SnapshotPage, WatchLost
from syncd.actors.cache_owner.paging import (
    KEYS_PER_JOB,
    PageReader,
    ScannedPage,
    Snapshot,
    keys_to_tell,
    look_up_entries,
    num_fitting,
    scan_entries,
    sort_out,
    states_of,
)
from syncd.actors.cache_owner.reloading import Reloading
from syncd.codes import ErrorCode
from syncd.errors import RequestRejected, SyncdError
from syncd.ids import Position
from syncd.ports import Subscription
from syncd.ports_collections import (
    EntriesAnswer,
    EntryState,
    ReadEntries,
    SnapshotDrained,
    WatchChannel,
    WatchEntries,
)
from syncd.ports_state import KeyName, StateReader, StateStoreHandle
from syncd.wire import encode_state

__all__ = ["Watching", "refuse"]

MAX_LOST = 5
"""Snapshots of one request that were too old when they came to the broadcaster: its channel changes faster than its log is long.
Policy then: refuse, `overloaded` (retryable)."""
READ_BYTES = 1_048_576
"""Of the values that one `read` of several keys may bring: what a session's outbox holds by default. One entry may always be had."""


class Watching:
    """The telling half of the cache-owner."""

    def __init__(
        self,
        holdings: Holdings,
        fetching: Fetching,
        reloading: Reloading,
        store: StateStoreHandle,
        *,
        post: Callable[[SnapshotPage | WatchLost], None],
        join: Callable[[WatchChannel], None],
    ) -> None:
        """Begin with no snapshot.

        Args:
            post: Puts a message of ours into the mailbox.
            join: Hands a watch to the broadcaster with the rest of this batch.
        """
        self._holdings = holdings
        self._fetching = fetching
        self._reloading = reloading
        self._store = store
        self._post = post
        self._join = join
        self._snapshots: dict[Subscription, list[Snapshot]] = {}
        self.behind = Behind(holdings, _refuse_any)

    # ---------------------------------------------------------------- read

    def read(self, command: ReadEntries) -> None:
        """Tell entries once."""

        def done(entries: list[EntryState], position: Position) -> None:
            if self.behind.waits(command, position):
                return
            size_bytes = sum(len(entry.value or b"") for entry in entries)
            if len(entries) > 1 and size_bytes > READ_BYTES:
                text = f"These entries have more than {READ_BYTES} bytes; read fewer at once."
                command.done(RequestRejected(ErrorCode.TOO_LARGE, text))
            else:
                command.done(EntriesAnswer(command.channel, position, entries))

        self._fetching.gather(
            Gathering(command.channel, command.keys, done, command.done, command.client)
        )

    # ---------------------------------------------------------------- watch

    def watch(self, command: WatchEntries) -> None:
        """Go on from the client's position if that can be, else tell what is there."""
        if command.subscription.is_closed:
            return
        if command.position is not None or command.keys is not None:
            # A whole snapshot sees to it by itself.
            self._reloading.watched(command.channel, command.keys)
        if command.position is None or self.behind.may_be_over(command, command.position):
            self.watch_anew(command)
            return
        prelude = encode_state.watched(
            command.request_id, command.channel, command.position, [], recovered=True
        )
        self._hand_over(command, command.position, prelude)

    def lost(self, command: WatchEntries, num_lost: int) -> None:
        """The broadcaster could not go on from what it was handed."""
        if num_lost < MAX_LOST:
            self.watch_anew(command, num_lost)
        else:
            self._forget(command)
            refuse(command, SyncdError(ErrorCode.OVERLOADED, after_ms=1000))

    def _forget(self, command: WatchEntries) -> None:
        for begun in list(self._snapshots.get(command.subscription, ())):
            if begun.command is command:
                self._close(begun)

    def watch_anew(self, command: WatchEntries, num_lost: int = 0) -> None:
        """Tell what is there, and go on from that; from the beginning, if this was begun before."""
        if command.subscription.is_closed:
            return
        self._forget(command)
        snapshot = Snapshot(command, keys_to_tell(self._holdings, command), num_lost=num_lost)
        self._snapshots.setdefault(command.subscription, []).append(snapshot)
        if snapshot.keys_left is None:
            watch = command.subscription.watch
            assert watch is not None, "the gateway made it a watch"
            watch.snapshot_id, watch.page_after = command.request_id, None
            watch.have = dict(command.have)
        self._next_page(snapshot)

    def _hand_over(
        self,
        command: WatchEntries,
        since: Position,
        prelude: bytes,
        num_lost: int = 0,
        *,
        has_more: bool = False,
        is_recovered: bool = False,
    ) -> Callable[[], None]:
        def lost() -> None:
            self._post(WatchLost(command, num_lost + 1))

        subscription, keys = command.subscription, command.keys
        self._join(WatchChannel(subscription, keys, since, prelude, lost, has_more, is_recovered))
        return lost

    # ---------------------------------------------------------------- pages

    def go_on(self, message: SnapshotDrained) -> None:
        """Sessions have room: the next page of each of their snapshots."""
        for subscription in message.subscriptions:
            for snapshot in list(self._snapshots.get(subscription, ())):
                self._next_page(snapshot)

    def _next_page(self, snapshot: Snapshot) -> None:
        if self._is_over(snapshot):
            return
        if snapshot.keys_left is None:
            self._read_page(snapshot, partial(scan_entries, after=snapshot.after_key))
            return
        keys = snapshot.keys_left[:KEYS_PER_JOB]
        if not keys:
            position = self._holdings.head(snapshot.command.channel)
            assert position is not None, "only volatile channels are told by the keys they have"
            decided = self._holdings.decided.of(snapshot.command.subscription.session.clients)
            self._tell(snapshot, [], position, decided, more=False)
            return

        def done(entries: list[EntryState], position: Position) -> None:
            if self._holdings.is_shared:
                # What others have committed, memory does not know in the numbers of clients.
                self._read_page(snapshot, partial(look_up_entries, keys=keys))
                return
            if self._is_over(snapshot) or self.behind.waits(snapshot.command, position):
                self._close(snapshot)
                return
            decided = self._holdings.decided.of(command.subscription.session.clients)
            self._tell_keys(snapshot, entries, position, decided)

        command = snapshot.command

        def failed(error: SyncdError) -> None:
            self._fail(snapshot, error)

        client = _first(command.subscription.session.clients)
        self._fetching.gather(Gathering(command.channel, keys, done, failed, client))

    def _read_page(self, snapshot: Snapshot, read: PageReader) -> None:
        channel = snapshot.command.channel
        clients = snapshot.command.subscription.session.clients

        def work(reader: StateReader) -> ScannedPage:
            return read(reader, channel, clients=clients)

        def done(answer: ScannedPage | SyncdError) -> None:
            self._post(SnapshotPage(snapshot, answer))

        self._store.read_state(work, done)

    def page_read(self, message: SnapshotPage) -> None:
        """The store has read a page."""
        snapshot, answer = message.snapshot, message.answer
        if self._is_over(snapshot):
            return
        if isinstance(answer, SyncdError):
            self._fail(snapshot, answer)
            return
        page = answer.page
        if not snapshot.is_joined and self.behind.waits(snapshot.command, page.position):
            self._close(snapshot)
            return
        if snapshot.keys_left is not None:
            entries = states_of(page, snapshot.keys_left[:KEYS_PER_JOB])
            self._tell_keys(snapshot, entries, page.position, answer.decided)
            return
        if page.entries:
            snapshot.after_key = page.entries[-1].key
        entries = [state for state in states_of(page) if state.value is not None]
        self._tell(snapshot, entries, page.position, answer.decided, more=not page.is_complete)
        self._reloading.told(snapshot.command.channel, page)

    def _tell_keys(
        self,
        snapshot: Snapshot,
        entries: Sequence[EntryState],
        position: Position,
        decided: Mapping[str, int],
    ) -> None:
        """Send as many of the entries asked for as fit into a page."""
        assert snapshot.keys_left is not None, "a scan has no keys"
        count = num_fitting(entries)
        del snapshot.keys_left[:count]
        more = bool(snapshot.keys_left)
        self._tell(snapshot, entries[:count], position, decided, more=more)

    def _tell(
        self,
        snapshot: Snapshot,
        entries: Sequence[EntryState],
        position: Position,
        decided: Mapping[str, int],
        *,
        more: bool,
    ) -> None:
        """Send one page; the first one goes with the watch to the broadcaster."""
        command = snapshot.command
        request_id, channel = command.request_id, command.channel
        told, unchanged = sort_out(entries, position, command)
        is_first = not snapshot.is_joined
        if not is_first:
            message = encode_state.snapshot(
                request_id, channel, told, unchanged=unchanged, more=more, decided=decided
            )
            command.subscription.session.send_event(channel, message)
        else:
            prelude = encode_state.watched(
                request_id,
                channel,
                position,
                told,
                unchanged=unchanged,
                more=more,
                decided=decided,
            )
            snapshot.is_joined = True
            snapshot.on_lost = self._hand_over(
                command, position, prelude, snapshot.num_lost, has_more=more
            )
        if not more:
            self._close(snapshot)
            return
        if snapshot.keys_left is None and command.subscription.watch is not None:
            command.subscription.watch.page_after = snapshot.after_key
        if not is_first:  # behind the first page the broadcaster asks
            command.subscription.session.page_when_drained(command.subscription)

    def _is_over(self, snapshot: Snapshot) -> bool:
        subscription = snapshot.command.subscription
        if subscription.is_closed:
            self._snapshots.pop(subscription, None)
        return snapshot not in self._snapshots.get(subscription, ())

    def _close(self, snapshot: Snapshot) -> None:
        subscription = snapshot.command.subscription
        left = self._snapshots.get(subscription, [])
        if snapshot in left:
            left.remove(snapshot)
        if not left:
            self._snapshots.pop(subscription, None)
        watch = subscription.watch
        if watch is not None and watch.snapshot_id == snapshot.command.request_id:
            watch.snapshot_id = watch.page_after = watch.have = None

    def _fail(self, snapshot: Snapshot, error: SyncdError) -> None:
        """A page cannot be had: the request is refused, or, if it was answered already, the watch has to begin anew."""
        is_over, command = self._is_over(snapshot), snapshot.command
        self._close(snapshot)
        if is_over:
            return
        if snapshot.is_joined:
            command.subscription.session.lag(command.subscription)
        else:
            refuse(command, error)

    def forget_closed(self) -> None:
        """Drop the snapshots of sessions that are gone: nobody asks for their next page."""
        for subscription in [each for each in self._snapshots if each.is_closed]:
            del self._snapshots[subscription]

    def look_again(self) -> None:
        """Something was committed, or time has passed."""
        for command in self.behind.ready():
            if isinstance(command, ReadEntries):
                self.read(command)
            else:
                self.watch(command)

    # ---------------------------------------------------------------- after a crash

    def resume(self, subscriptions: Iterable[Subscription]) -> None:
        """Go on with watches of before a crash: loads were lost with it, and snapshots; those of single keys are asked for again."""
        for subscription in subscriptions:
            watch = subscription.watch
            if subscription.is_closed or watch is None:
                continue
            channel = subscription.channel
            holding = self._holdings.of_channel(channel)
            keys = None if watch.keys is None else [KeyName(key) for key in watch.keys]
            self._reloading.watched(channel, keys)
            if holding is not None and not subscription.is_live:
                self._reloading.owe(holding, (), [channel])  # its keys are not all known yet
            if watch.snapshot_id is None:
                continue
            if watch.page_after is None or holding is None or holding.is_volatile:
                subscription.session.lag(subscription)
                continue
            command = WatchEntries(
                subscription, watch.snapshot_id, holding.name, channel, None, None, watch.have or {}
            )
            after = KeyName(watch.page_after)
            snapshot = Snapshot(command, None, after, is_joined=True)
            self._snapshots.setdefault(subscription, []).append(snapshot)
            self._next_page(snapshot)

    def fail_all(self, error: SyncdError, joins: Sequence[WatchChannel]) -> None:
        """Tell everybody who waits; snapshots that were begun are gone on with by `resume`, or begin anew.

        Args:
            joins: Were not handed to the broadcaster.
        """
        unsent = {id(join.on_lost) for join in joins}
        for join in joins:
            join.on_lost()  # the next life begins them anew, if they are still wanted
        snapshots, self._snapshots = self._snapshots, {}
        for snapshot in (each for several in snapshots.values() for each in several):
            subscription = snapshot.command.subscription
            if id(snapshot.on_lost) in unsent:
                if subscription.watch is not None:
                    subscription.watch.snapshot_id = None
            elif not snapshot.is_joined:
                if subscription.watch is not None:
                    subscription.watch.snapshot_id = None
                refuse(snapshot.command, error)
            elif snapshot.keys_left is not None and not subscription.is_closed:
                subscription.session.lag(subscription)
        self.behind.fail_all(error)


def refuse(command: WatchEntries, error: SyncdError) -> None:
    """Answer a watch request with an error; a watch that was there before goes on."""
    subscription = command.subscription
    if not subscription.is_closed:
        subscription.session.fail_watch(subscription, command.request_id, error)


def _refuse_any(command: ReadEntries | WatchEntries, error: SyncdError) -> None:
    if isinstance(command, ReadEntries):
        command.done(error)
    else:
        refuse(command, error)


def _first(clients: Sequence[str]) -> str | None:
    return clients[0] if clients else None
