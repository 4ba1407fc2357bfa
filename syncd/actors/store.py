"""The store actor: the one owner of the durable log and state. Asked by the rooms above, asks nobody.

Whatever was asked while a commit ran is the next transaction. Write statements run on the loop and only `COMMIT` in the
worker (ADR 0002), unless the store `blocks`; reads and trimming are jobs in the worker, in slices. Invariant: between the first statement of a batch and
the end of its commit no other statement runs.
"""

from __future__ import annotations

import collections
import contextlib
import time
from collections.abc import Callable
from typing import Any, TypeVar

import structlog
import trio

from syncd.actors.kit import Mailbox
from syncd.actors.store_acks import Acknowledgements
from syncd.actors.store_asks import (
    DEFAULT_SETTINGS,
    Append,
    Ask,
    Asks,
    Commit,
    Read,
    StoreSettings,
    Write,
    load_of,
    loads_from,
    settle,
)
from syncd.actors.store_statistics import CommitCounts, StoreActorStatistics
from syncd.actors.store_worker import Job, Worker
from syncd.actors.store_writes import begin, commit_whole, next_group
from syncd.errors import (
    ActorStopped,
    MailboxFull,
    StoreUnavailable,
    SyncdError,
    internal_error,
)
from syncd.ids import ChannelName, Epoch, Position
from syncd.ports_log import AppendRequest, AppendResult, LoadedChannel, LogPage, LogQuery
from syncd.ports_state import KeyName, MutationCommit, MutationResult, StateReader
from syncd.store.base import Slice, Store, StoreFailed
from syncd.store.rebuilds import RebuildStore

__all__ = ["StoreActor", "StoreActorStatistics", "StoreSettings"]

T = TypeVar("T")

_log = structlog.get_logger("syncd.store")


class StoreActor:
    """`StoreHandle`, `StateStoreHandle` and the task behind them.

    A read sees everything committed when it runs, writes asked after it included. A refusal (`MailboxFull`, `ActorStopped`,
    `StoreUnavailable`) comes through `done` like any other answer, in a later tick. When the store is full the asker's own
    work stalls: publications to durable channels and mutations are answered `overloaded`; nothing else in the node waits.
    """

    def __init__(
        self,
        store: Store,
        worker: Worker,
        settings: StoreSettings = DEFAULT_SETTINGS,
        *,
        wall_clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Start nothing.

        Args:
            store: Open already, so that a file that cannot be used is told before anything runs. Closed by this actor.
            worker, settings: Where blocking work runs; bounds and paces.
            wall_clock, timer: Seconds since 1970, for retention by age; measures commits, in seconds.
        """
        self.name = "store"
        self._store = store
        self._worker = worker
        self._settings = settings
        self._wall_clock = wall_clock
        self._timer = timer
        self._asks = Asks(settings.capacity, settings.capacity_bytes)
        # Policy: `Asks` counts and refuses; the mailbox itself never has to.
        self._mailbox: Mailbox[Ask] = Mailbox("store", settings.capacity, 2**62)
        self._writes: collections.deque[Write] = collections.deque()
        self._reads: collections.deque[Read[Any]] = collections.deque()
        self._in_hand: list[Write] = []
        self._acknowledged = Acknowledgements(settings.capacity)
        # Policy: COALESCE per key; keys are few, given by rooms and not by clients.
        self._notes: dict[str, bytes] = {}
        self._is_writable = True
        self._is_stopped = False
        self._failure: StoreFailed | None = None
        self._stuck: Job[Any] | None = None
        self._maintenance_at = 0.0
        self._failed = self._lost = 0
        self._commits = CommitCounts()

    # -------------------------------------------------------------------------------------------- the handle

    def append(
        self,
        batch: list[AppendRequest],
        done: Callable[[list[AppendResult] | SyncdError], None],
    ) -> None:
        """See `StoreHandle.append`."""
        self._ask(Append(done, batch))

    def load(
        self,
        channel: ChannelName,
        tail_events: int,
        tail_bytes: int,
        done: Callable[[LoadedChannel | SyncdError], None],
    ) -> None:
        """See `StoreHandle.load`."""
        self._ask(load_of(self._store, done, (channel, tail_events, tail_bytes)))

    def read(self, query: LogQuery, done: Callable[[LogPage | SyncdError], None]) -> None:
        """See `StoreHandle.read`."""
        store = self._store
        self._ask(Read(done, lambda: store.read(query)))

    def commit(
        self,
        group: list[MutationCommit],
        done: Callable[[list[MutationResult] | SyncdError], None],
    ) -> None:
        """See `StateStoreHandle.commit`."""
        self._ask(Commit(done, group))

    def acknowledge(self, client: str, upto: int, era: str = "") -> None:
        """See `StateStoreHandle.acknowledge`."""
        self._acknowledged.note_outcomes(client, upto, era)

    def acknowledge_forwarded(
        self, channel: ChannelName, key: KeyName, version: int, epoch: Epoch
    ) -> None:
        """See `StateStoreHandle.acknowledge_forwarded`."""
        self._acknowledged.note_forwarded((channel, key), Position(epoch, version))

    def remember(self, key: str, value: bytes) -> None:
        """See `StateStoreHandle.remember`."""
        self._notes[key] = value

    def read_state(
        self, work: Callable[[StateReader], T], done: Callable[[T | SyncdError], None]
    ) -> None:
        """See `StateStoreHandle.read_state`."""
        store = self._store
        self._ask(Read(done, lambda: work(store)))

    def rebuild(
        self, work: Callable[[RebuildStore], T], done: Callable[[T | SyncdError], None]
    ) -> None:
        """Perform something of a rebuild, in the worker, in the order of reads; `done` as of `StateStoreHandle`."""
        store = self._store
        self._ask(Read(done, lambda: work(store.rebuilds)))

    def _ask(self, ask: Ask) -> None:
        refusal: SyncdError
        if self._is_stopped:
            refusal = ActorStopped()
        elif self._failure is not None:
            refusal = StoreUnavailable()
        elif not self._asks.admit(ask):
            refusal = MailboxFull("The store has too much to do.")
        else:
            self._mailbox.put_nowait([ask])
            return
        # In a later tick, as every answer, so that no asker is called back in the middle of its asking.
        trio.lowlevel.current_trio_token().run_sync_soon(settle, ask, refusal)

    def _settle(self, ask: Ask, answer: object) -> None:
        self._asks.release(ask)
        settle(ask, answer)

    def statistics(self) -> StoreActorStatistics:
        """Return counts for health pages and metrics."""
        return StoreActorStatistics(
            is_writable=self._is_writable,
            num_waiting=self._asks.num_waiting,
            bytes_waiting=self._asks.bytes_waiting,
            num_refused=self._asks.num_refused,
            num_commits=self._commits.num,
            num_committed=self._commits.num_requests,
            largest_batch=self._commits.largest,
            num_failed_commits=self._failed,
            commit_s_total=self._commits.total_s,
            commit_s_max=self._commits.max_s,
            num_restarts_in_hand=self._lost,
            log=self._store.statistics(),
            commit_s=self._commits.times.counts(),
            batches=self._commits.batches.counts(),
        )

    # -------------------------------------------------------------------------------------------- the task

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; then finish the commit in hand, settle everybody and close the store.

        Raises:
            StoreFailed: the log cannot be trusted any more; raised again by every further `run`.
        """
        if self._failure is not None:
            raise self._failure
        self._worker.start()
        self._maintenance_at = trio.current_time() + self._settings.trim_s
        task_status.started()
        try:
            while True:
                await self._turn()
        except StoreFailed as failure:
            self._failure = failure
            _log.critical("store_failed", error=str(failure))
            raise
        except trio.Cancelled:
            await self._stop()  # noqa: ASYNC102 - shielded inside, with its deadline
            raise

    def recover(self) -> None:
        """Undo the transaction in hand and fail its askers; whoever still waits keeps waiting, unless the store is lost."""
        self._store.rollback()
        in_hand, self._in_hand = self._in_hand, []
        self._lost += sum(ask.num_requests for ask in in_hand)
        for ask in in_hand:
            self._settle(ask, internal_error())
        if self._failure is not None:
            self._settle_all(self._mailbox.close(), StoreUnavailable())

    async def _turn(self) -> None:
        """One transaction, one slice of reads, one slice of maintenance: as far as there is any."""
        await self._take()
        # A cancellation that `_perform` outlasted shows again here: between two steps, never inside one.
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._writes:
            await self._write()
            await trio.lowlevel.checkpoint_if_cancelled()
        if self._reads:
            await self._read()
            await trio.lowlevel.checkpoint_if_cancelled()
        if trio.current_time() >= self._maintenance_at:
            await self._maintain()

    async def _take(self) -> None:
        """Sort what waits; wait for something only when there is nothing else to do."""
        has_work = bool(self._writes or self._reads)
        if has_work and not self._mailbox.statistics().num_waiting:
            return
        with trio.move_on_at(self._maintenance_at):
            for ask in await self._mailbox.take():
                if isinstance(ask, Read):
                    self._reads.append(ask)
                else:
                    self._writes.append(ask)

    # -------------------------------------------------------------------------------------------- writing

    async def _write(self) -> None:
        """Write the next transaction and tell everybody in it."""
        self._in_hand = asks = next_group(self._writes, self._settings)
        answers: list[object] | SyncdError
        if self._is_writable:
            answers = await self._commit(asks)
        else:
            answers = StoreUnavailable()
            await trio.lowlevel.checkpoint()
        self._in_hand = []
        for index, ask in enumerate(asks):
            self._settle(ask, answers if isinstance(answers, SyncdError) else answers[index])

    async def _commit(self, asks: list[Write]) -> list[object] | SyncdError:
        try:
            self._acknowledged.hand_over(self._store, self._settings.transaction_requests)
            started = self._timer()
            if self._store.blocks:
                answers = await self._perform(lambda: commit_whole(self._store, asks))
            else:
                tell, started = begin(self._store, asks), self._timer()
                await self._perform(self._store.commit)
                answers = tell()
        except StoreUnavailable as error:
            self._failed += 1
            self._note_unwritable(error)
            return error
        num_requests = sum(ask.num_requests for ask in asks)
        self._commits.note(num_requests, self._timer() - started)
        return answers

    def _note_unwritable(self, error: StoreUnavailable) -> None:
        if self._is_writable:
            self._is_writable = False
            self._maintenance_at = trio.current_time() + self._settings.probe_s
            _log.error("store_unwritable", error=error.message)

    # -------------------------------------------------------------------------------------------- the worker

    async def _perform(self, work: Callable[[], T]) -> T:
        """Have the worker do something and wait for it. Cancelled: the wait goes on for up to `stop_s`."""
        job = self._worker.submit(work)
        try:
            return await job.wait()
        except trio.Cancelled:  # noqa: ASYNC103 - a commit in hand is waited for; `_turn` looks for it
            return await self._outlast(job)  # noqa: ASYNC102, ASYNC104 - shielded inside

    async def _outlast(self, job: Job[T]) -> T:  # noqa: RET503 - it ends by raising
        """Wait for a job although cancelled; `_turn` looks for the cancellation before it goes on."""
        with trio.move_on_after(self._settings.stop_s, shield=True):
            return await job.wait()
        self._stuck = job
        await trio.sleep_forever()

    async def _read(self) -> None:
        """Answer as many reads as fit into one slice; they see which changes were acknowledged before."""
        self._acknowledged.hand_over_forwarded(self._store)
        answers = await self._perform(self._read_slice)
        for answer in answers:
            if isinstance(answer, Exception) and not isinstance(answer, SyncdError):
                _log.error("read_failed", exc_info=answer)
                answer = internal_error()  # noqa: PLW2901 - told in place of what went wrong
            self._settle(self._reads.popleft(), answer)

    def _read_slice(self) -> list[object]:
        """Perform the oldest reads. In the worker, while the loop leaves `_reads` alone."""
        time_slice = Slice(self._timer, self._settings.slice_s)
        answers: list[object] = []
        while len(answers) < len(self._reads) and not time_slice.is_over():
            ask = self._reads[len(answers)]
            try:
                loads = loads_from(self._reads, len(answers)) if self._store.blocks else ()
                is_one = len(loads) < 2
                answers += [ask.work()] if is_one else self._store.load_many(loads)
            except StoreFailed:
                raise
            except Exception as error:  # noqa: BLE001 - isolation: one read must not fail the others
                answers.append(error)
        return answers

    async def _maintain(self) -> None:
        """Do a slice of trimming; or see whether the disk takes writes again."""
        settings = self._settings
        now_ms = int(self._wall_clock() * 1000)
        pause_s = settings.trim_s
        try:
            if self._is_writable:
                are_left = self._acknowledged.hand_over(self._store, settings.transaction_requests)
                await self._perform(self._write_notes)
                report = await self._perform(lambda: self._store.trim(now_ms, settings.slice_s))
                pause_s = 0.0 if report.has_more or are_left else settings.trim_s
            else:
                pause_s = settings.probe_s
                await self._perform(self._store.probe)
                self._is_writable = True
                _log.info("store_writable")
        except StoreUnavailable as error:
            self._note_unwritable(error)
            pause_s = settings.probe_s
        self._maintenance_at = trio.current_time() + pause_s

    def _write_notes(self) -> None:
        """Keep what rooms want remembered. In the worker."""
        while self._notes:
            key, value = next(iter(self._notes.items()))
            self._store.meta_set(key, value)
            if self._notes.get(key) is value:
                del self._notes[key]

    def _close_store(self) -> None:
        """Give the store back. In the worker."""
        with contextlib.suppress(StoreUnavailable, StoreFailed):
            self._write_notes()
        self._store.close()

    # -------------------------------------------------------------------------------------------- the end

    async def _stop(self) -> None:
        """Settle whoever is left, then close the store unless a job of its still runs."""
        self._is_stopped = True
        self._settle_all(self._mailbox.close(), ActorStopped())
        if self._stuck is None:
            closing = self._worker.submit(self._close_store)
            with trio.move_on_after(self._settings.stop_s, shield=True):
                await closing.wait()
            self._stuck = None if closing.is_done else closing
        self._worker.stop()
        if self._stuck is not None:
            _log.error("store_not_closed", waited_s=self._settings.stop_s)

    def _settle_all(self, never_taken: list[Ask], error: SyncdError) -> None:
        left = [*self._in_hand, *self._writes, *self._reads, *never_taken]
        self._in_hand = []
        self._writes.clear()
        self._reads.clear()
        for ask in left:
            self._settle(ask, error)
