"""The cache-owner: collections, what is in memory of them, and the mutations that change them.

Owner of: entries in memory, the queue of mutations, loads, snapshots, changes to be told to the application (each in a room of its own). Called
by the gateway and HTTP through `CacheOwnerHandle`; asks the store through callbacks and hands watches and committed events to the
broadcaster, for whose mailbox it may wait. When its own mailbox is full, the sessions that filled it are not read.

Invariant: everything changes in `_serve`, message by message, so that whatever a client is told was so at one moment.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import structlog
import trio

from syncd.actors.cache_budget import Budget
from syncd.actors.cache_owner.claiming import Claiming
from syncd.actors.cache_owner.committing import write_volatile
from syncd.actors.cache_owner.failing import fail
from syncd.actors.cache_owner.fetching import Fetching
from syncd.actors.cache_owner.forwarding import Forwarding
from syncd.actors.cache_owner.greeting import Greeting
from syncd.actors.cache_owner.handle import Handle
from syncd.actors.cache_owner.holdings import Holdings
from syncd.actors.cache_owner.invalidating import Invalidating
from syncd.actors.cache_owner.loading import Loading
from syncd.actors.cache_owner.messages import (
    CacheOwnerMessage,
    Call,
    ChangeForwarded,
    EntriesPaged,
    GroupDone,
    LoadDone,
    SnapshotPage,
    Turn,
    WatchLost,
)
from syncd.actors.cache_owner.mutating import Mutating, RunningTimekeeper
from syncd.actors.cache_owner.reloading import Reloading
from syncd.actors.cache_owner.sharing import Sharing
from syncd.actors.cache_owner.swapping import OwnersStore, Swapping
from syncd.actors.cache_owner.turns import Turns
from syncd.actors.cache_owner.upkeep import Upkeep
from syncd.actors.cache_owner.watching import Watching
from syncd.actors.kit import Mailbox, origin_of
from syncd.codes import ErrorCode
from syncd.config import Config, HistoryKind
from syncd.errors import ActorStopped, RequestRejected, SyncdError, internal_error
from syncd.ids import ChannelName, Epoch
from syncd.model.decided import Decided
from syncd.model.definitions import AppDefinition
from syncd.model.recording import Invalidation, Place
from syncd.ports_collections import (
    AcknowledgeOutcomes,
    AddClients,
    CacheOwnerCommand,
    ClearCache,
    InvalidateEntries,
    MutateState,
    ReadEntries,
    RenewChannel,
    ResumeWatches,
    SnapshotDrained,
    WarmCache,
    WatchChannel,
    WatchEntries,
    WatchingHandle,
)
from syncd.ports_shared import InterestHandle, LoadsEnded, RemoteEvents
from syncd.ports_state import Committed, EntryWrite
from syncd.store.rebuilds import SwapGeneration
from syncd.wire.channels import namespace_of

__all__ = ["CacheOwner"]

_log = structlog.get_logger("syncd.cache_owner")

MAILBOX_COMMANDS = 20_000  # BLOCK: about a second of mutations
MAILBOX_BYTES = 33_554_432
BATCH_COMMANDS = 512
"""Served between two checkpoints: some 5 ms."""
SWEEP_S = 0.5
REMEMBER_S = 60.0
"""Between two notes of the hottest keys: one small commit."""


class CacheOwner(Handle):
    """Actor (see the module's docstring). Implements `CacheOwnerHandle`."""

    name = "cache_owner"

    def __init__(  # noqa: PLR0913 - what is injected, once
        self,
        app: AppDefinition,
        config: Config,
        *,
        store: OwnersStore,
        broadcaster: WatchingHandle,
        wall_ms: Callable[[], int],
        new_epoch: Callable[[], Epoch],
        chance: Callable[[], float],
        flush: Callable[[], None] = lambda: None,
        keeper: RunningTimekeeper | None = None,
        timer: Callable[[], float] = time.perf_counter,
        interest: InterestHandle | None = None,
        node: str = "",
    ) -> None:
        self.mailbox: Mailbox[CacheOwnerMessage] = Mailbox(
            self.name, MAILBOX_COMMANDS, MAILBOX_BYTES
        )
        self._app = app
        self._config = config
        self._store = store
        self._broadcaster = broadcaster
        self._wall_ms = wall_ms
        self._new_epoch = new_epoch
        self._chance = chance
        self._flush = flush
        self._keeper: RunningTimekeeper = keeper or Budget()
        self._timer = timer
        self._interest, self._node = interest, node
        self._batch: Sequence[CacheOwnerMessage] = ()
        self._num_done = 0
        self._joins: list[WatchChannel] = []
        self._life = 0
        self._decided = Decided()
        self._start_empty()
        self._handlers = self._handle()

    def _start_empty(self) -> None:
        """Hold nothing, as at the start."""
        life = self._life = self._life + 1
        post, store, wall_ms = self.mailbox.put_reply, self._store, self._wall_ms

        def call(work: Callable[[], None]) -> None:
            post(Call(work, life))

        holdings = self.holdings = Holdings(
            self._app,
            self._decided,
            self._new_epoch,
            self._chance,
            trio.current_time,
            self._interest,
        )
        deliver = self._broadcaster.deliver_committed
        self.forwarding = Forwarding(holdings, store, post=post, chance=self._chance)
        self.mutating = self._make_mutating()
        self.loading = Loading(
            holdings,
            wall_ms=wall_ms,
            timer=self._timer,
            commit=self.mutating.commit,
            commit_volatile=self._commit_volatile,
            post=post,
            claiming=(claiming := Claiming(holdings, store, self._node, call)),
        )
        self.fetching = self.loading.fetching = Fetching(holdings, store, post, self.loading.queue)
        claiming.fetching = self.fetching
        self.reloading = Reloading(holdings, self.fetching, store, self._broadcaster, call)
        self.watching = Watching(
            holdings, self.fetching, self.reloading, store, post=post, join=self._join
        )
        self.invalidating = Invalidating(
            holdings,
            self.fetching,
            store,
            commit=self.mutating.commit,
            deliver=deliver,
            call=call,
            reloading=self.reloading,
            wall_ms=wall_ms,
        )
        self.upkeep = Upkeep(holdings, self.fetching, store, call=call)
        self.swapping = self._make_swapping(call)
        self.turns = Turns(holdings, self.forwarding, store, self._node, wall_ms)
        self.sharing = self._make_sharing(call)
        self.greeting, self._joins = Greeting(store), []

    def _make_mutating(self) -> Mutating:
        return Mutating(
            self.holdings,
            self._app.mutators,
            self._store,
            keeper=self._keeper,
            is_logged=self._is_logged,
            wall_ms=self._wall_ms,
            deliver=self._broadcaster.deliver_committed,
            post=self.mailbox.put_reply,
            fetch=self._fetch,
            invalidated=self._invalidated,
            changed=self.forwarding.changed,
        )

    def _make_sharing(self, call: Callable[[Callable[[], None]], None]) -> Sharing:
        rooms = (self.holdings, self.fetching, self.invalidating, self.reloading)
        sharing = Sharing(*rooms, self.forwarding, self._store, call)
        if self._interest is not None:
            self.watching.behind.follow(sharing, self.watching.look_again)
        return sharing

    def _make_swapping(self, call: Callable[[Callable[[], None]], None]) -> Swapping:
        rooms = (self.holdings, self.fetching, self.reloading)
        deliver, wall_ms = self._broadcaster.deliver_committed, self._wall_ms
        return Swapping(*rooms, self._store, deliver=deliver, call=call, wall_ms=wall_ms)

    # ---------------------------------------------------------------- kit.Actor

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; then whoever waits is told, and nothing is taken any more.

        Ready once it is known which changes the application has not acknowledged.
        """
        try:
            async with trio.open_nursery() as nursery:
                self.loading.nursery = self.forwarding.nursery = nursery
                if self._interest is None:
                    await self.forwarding.read_dirty()
                    self.forwarding.start()
                else:
                    nursery.start_soon(self.turns.run)
                nursery.start_soon(self._sweep)
                nursery.start_soon(self.upkeep.warm_up)
                task_status.started()
                while True:
                    await self._serve_batch(await self.mailbox.take())
        finally:
            if trio.current_effective_deadline() == -math.inf:
                self._close()

    async def _serve_batch(self, batch: Sequence[CacheOwnerMessage]) -> None:
        self._batch, self._num_done = batch, 0
        for start in range(0, len(batch), BATCH_COMMANDS):
            await self._serve(batch[start : start + BATCH_COMMANDS])
            if start + BATCH_COMMANDS < len(batch) or self.mailbox.statistics().num_waiting:
                await trio.lowlevel.checkpoint()  # `take` would not wait: others first

    async def _serve(self, part: Sequence[CacheOwnerMessage]) -> None:
        """Take a part of a batch without waiting, then do what came of it."""
        self.holdings.tick()
        handlers = self._handlers
        for message in part:
            try:
                handlers[type(message)](message)
            except Exception as error:  # noqa: BLE001 - isolation: it fails that message alone
                self._fail_one(message, error)
            self._num_done += 1
        self.mutating.pump()
        self.greeting.ask()
        self.fetching.flush()
        self.loading.start()
        self.forwarding.start()
        if self._joins:
            joins = self._joins
            await self._broadcaster.submit(joins, sum(len(join.prelude) for join in joins))
            self._joins = []  # not before: if this crashed, `fail_all` sees to them
        self._flush()

    def _handle(self) -> dict[type, Callable[[Any], None]]:
        """What is done with each kind of message."""
        return {
            MutateState: self.mutating.mutate,
            GroupDone: self._group_done,
            AcknowledgeOutcomes: lambda message: self._store.acknowledge(
                message.client, message.upto, message.era
            ),
            AddClients: self.greeting.greet,
            ReadEntries: self.watching.read,
            WatchEntries: self.watching.watch,
            WatchLost: lambda message: self.watching.lost(message.command, message.num_lost),
            SnapshotPage: self.watching.page_read,
            SnapshotDrained: self.watching.go_on,
            ResumeWatches: lambda message: self.watching.resume(message.subscriptions),
            EntriesPaged: self.fetching.paged,
            LoadDone: self.loading.done,
            InvalidateEntries: self.invalidating.invalidate,
            ChangeForwarded: self.forwarding.forwarded,
            ClearCache: self.upkeep.clear,
            WarmCache: self.upkeep.warm,
            SwapGeneration: self.swapping.swap,
            RemoteEvents: self._remote,
            **self.sharing.handlers(),
            LoadsEnded: self.loading.ended,
            Call: self._do,
            Turn: self._turn,
        }

    def _group_done(self, message: GroupDone) -> None:
        self.mutating.group_done(message)
        self.watching.look_again()

    def _turn(self, _message: Turn) -> None:
        self.watching.look_again()
        self.watching.forget_closed()
        self.reloading.look_again()
        self.loading.look_again()
        self.sharing.look_again()

    def _remote(self, message: RemoteEvents) -> None:
        self.sharing.events(message)
        self.watching.look_again()

    # ---------------------------------------------------------------- what the rooms need of each other

    def _is_logged(self, channel: ChannelName, size_bytes: int) -> bool:
        """See `Ground.is_logged`."""
        namespace = self._config.namespaces.get(namespace_of(channel))
        if namespace is None:
            raise RequestRejected(ErrorCode.PERMISSION_DENIED)
        if size_bytes > namespace.max_data_bytes:
            raise RequestRejected(ErrorCode.TOO_LARGE)
        return namespace.history is HistoryKind.DURABLE

    def _commit_volatile(self, write: EntryWrite, fresh_until: float) -> bool:
        """See `Loading`."""
        if self.mutating.touches((write.channel, write.key)):
            return False
        message = write_volatile(self.holdings, write, fresh_until, self._wall_ms())
        self._broadcaster.deliver_committed(message)
        return True

    def _fetch(self, places: Sequence[Place], done: Callable[[SyncdError | None], None]) -> None:
        """See `Mutating`; `done` comes in another turn."""
        life, post = self._life, self.mailbox.put_reply
        self.fetching.fetch(places, lambda error: post(Call(lambda: done(error), life)))

    def _invalidated(self, invalidation: Invalidation, result: Committed) -> None:
        self.invalidating.take_effect(invalidation, result)

    def _join(self, join: WatchChannel) -> None:
        self._joins.append(join)

    def _do(self, call: Call) -> None:
        if call.life == self._life:
            call.work()

    # ---------------------------------------------------------------- tasks beside

    async def _sweep(self) -> None:
        """Look again at what waits for time to pass; remember the hottest keys now and then."""
        remember_at = trio.current_time() + REMEMBER_S
        while True:
            await trio.sleep(SWEEP_S)
            self.mailbox.put_reply(Turn())
            if trio.current_time() >= remember_at:
                remember_at = trio.current_time() + REMEMBER_S
                self.upkeep.remember_hottest()

    # ---------------------------------------------------------------- failures and the end

    def _fail_one(self, message: CacheOwnerMessage, error: Exception) -> None:
        """An exception over one command fails that command, not the actor.

        Over what the store, a source or the actor's own tasks brought it fails the actor: memory may be half changed then, and
        who waits for it is known only to the rooms.
        """
        if not isinstance(error, SyncdError):
            if not isinstance(message, CacheOwnerCommand):
                raise error
            about = {"kind": type(message).__name__, **origin_of(message)}
            _log.error("message_failed", actor=self.name, **about, exc_info=error)
            error = internal_error()
        fail(message, error)

    def _fail_everybody(self, error: SyncdError) -> None:
        left = [*self._batch[self._num_done :], *self.greeting.take()]
        self._batch, self._num_done = (), 0
        for message in left:
            fail(message, error)
        self.mutating.fail_all(error)
        self.fetching.fail_all(error)
        self.loading.give_up()
        joins, self._joins = self._joins, []
        self.watching.fail_all(error, joins)
        self.invalidating.fail_all(error)
        self.upkeep.fail_all(error)
        self.swapping.fail_all(error)

    def _close(self) -> None:
        """Answer everybody: nobody else will."""
        self.upkeep.remember_hottest()
        error = ActorStopped()
        self._fail_everybody(error)
        for message in self.mailbox.close():
            fail(message, error)

    def recover(self) -> None:
        """Tell whoever waits that it failed, and forget everything; volatile channels begin anew."""
        self._fail_everybody(internal_error())
        volatile = list(self.holdings.volatile)
        self._start_empty()
        self._handlers = self._handle()
        for channel in volatile:
            self._broadcaster.deliver_committed(RenewChannel(channel))
