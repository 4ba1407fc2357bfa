"""Mutations: who waits, whose turn it is, what is under way at the store.

Owner of: the queue of mutations, those that wait for entries, the group in flight. One group is in flight at a time; what comes
meanwhile is the next one, so nobody sets a batching delay.

Invariant (ONCE): a client's mutations are decided in the order they came; one that has to wait holds back the later ones of its client
and no others. Whether a mutation happened before is the store's to say.
"""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import structlog

from syncd.actors.cache_owner.committing import (
    Group,
    Item,
    Settle,
    refuse_untold,
    split,
    tell,
    write_memory,
)
from syncd.actors.cache_owner.held import Held
from syncd.actors.cache_owner.holdings import TOMBSTONE, Holding, Holdings
from syncd.actors.cache_owner.invalidating import events_of
from syncd.actors.cache_owner.messages import GroupDone, Turn
from syncd.actors.kit import origin_of
from syncd.codes import ErrorCode
from syncd.errors import SyncdError, internal_error
from syncd.ids import ChannelName, Position
from syncd.model.mutation_group import (
    Decided,
    MutationGroup,
    NeedsKeys,
    rerun_after,
)
from syncd.model.mutators import Mutators
from syncd.model.recording import Ground, Invalidation, Place, Timekeeper
from syncd.ports_collections import DeliverCommitted, MutateState, RenewChannel
from syncd.ports_state import (
    Committed,
    Conflict,
    MutationCommit,
    MutationResult,
    OutOfOrder,
    StateStoreHandle,
)

__all__ = ["Mutating", "RunningTimekeeper"]

_log = structlog.get_logger("syncd.mutations")

GROUP_MUTATIONS = 500
"""Run in one go, which holds the loop: some 8 ms. Written in another: as many as `StoreSettings.transaction_requests`."""
MAX_WAITING = 20_000
MAX_WAITING_BYTES = 67_108_864
"""Policy when full: refuse, `overloaded` (retryable)."""
RETRY_MS = 250


class RunningTimekeeper(Timekeeper, Protocol):
    """A timekeeper that is armed while a group runs."""

    def running(self) -> contextlib.AbstractContextManager[None]:
        """Keep the time of the mutators that are called within."""


class Mutating:
    """The mutating half of the cache-owner."""

    def __init__(  # noqa: PLR0913 - everything it works with, once
        self,
        holdings: Holdings,
        mutators: Mutators,
        store: StateStoreHandle,
        *,
        keeper: RunningTimekeeper,
        is_logged: Callable[[ChannelName, int], bool],
        wall_ms: Callable[[], int],
        deliver: Callable[[DeliverCommitted | RenewChannel], None],
        post: Callable[[GroupDone | Turn], None],
        fetch: Callable[[Sequence[Place], Callable[[SyncdError | None], None]], None],
        invalidated: Callable[[Invalidation, Committed], None],
        changed: Callable[[Place], None],
    ) -> None:
        """Begin with nothing waiting.

        Args:
            fetch: Brings entries into memory (`Holdings.borrowed`), then calls back.
            invalidated: A mutation's invalidation is committed.
            changed: An entry that the application has to hear of was committed.
        """
        self._holdings = holdings
        self._mutators = mutators
        self._store = store
        self._keeper = keeper
        self._is_logged = is_logged
        self._wall_ms = wall_ms
        self._deliver = deliver
        self._post = post
        self._invalidated = invalidated
        self._changed = changed
        self._queue: collections.deque[MutateState] = collections.deque()
        self._held = Held(holdings, fetch=fetch, refuse=self._refuse, go_on=self._queue.extendleft)
        self._own: list[tuple[MutationCommit, Settle]] = []
        """Changes of the owner's own for the next group."""
        self._counted: tuple[str, Holding | None] = ("", None)
        """The mutation that was counted last, mostly one like the next, and its collection."""
        self.in_flight: Group | None = None
        self.num_waiting = 0
        self._bytes_waiting = 0

    # ---------------------------------------------------------------- in

    def mutate(self, command: MutateState) -> None:
        """Queue a mutation. Raises what its asker is told."""
        size = self._bytes_waiting + command.size_bytes
        if self.num_waiting >= MAX_WAITING or (self.num_waiting and size > MAX_WAITING_BYTES):
            raise SyncdError(ErrorCode.OVERLOADED, after_ms=RETRY_MS)
        self.num_waiting += 1
        self._bytes_waiting += command.size_bytes
        self._queue.append(
            command
        )  # behind earlier ones of its client, wherever those are: `_run` sees to that

    def commit(self, commit: MutationCommit, settle: Settle) -> None:
        """Have a change of the owner's own committed with the next group; `settle` is told in its turn."""
        self._own.append((commit, settle))

    def touches(self, place: Place) -> bool:
        """Whether the group in flight reads or writes a volatile entry."""
        return self.in_flight is not None and place in self.in_flight.volatile_places

    # ---------------------------------------------------------------- out

    def pump(self) -> None:
        """Hand the next group to the store, if none is there and something waits."""
        if self.in_flight is not None or not (self._queue or self._own):
            return
        group = self._make_group()
        if group.items:
            self.in_flight = group
            self._ask(group)
            return
        self._held.release_those_of_group()
        if self._queue:
            self._post(Turn())  # all so far wait or were refused: others first, then the rest

    def _ask(self, group: Group) -> None:
        holdings, deliver, post = self._holdings, self._deliver, self._post

        def done(answer: list[MutationResult] | SyncdError) -> None:
            group.answer = answer
            if not isinstance(answer, SyncdError):
                deliver(tell(holdings, group, answer))
            if group.left_with is not None:
                refuse_untold(group, group.left_with)
            post(GroupDone(group, answer))

        self._store.commit(group.commits(), done)

    def _make_group(self) -> Group:
        holdings = self._holdings
        holdings.tick()
        ground = Ground(holdings, holdings.rules, self._wall_ms(), self._is_logged, self._keeper)
        runs = MutationGroup(self._mutators, ground)
        group = Group([])
        with self._keeper.running():
            for _ in range(min(GROUP_MUTATIONS, len(self._queue))):
                command = self._queue.popleft()
                try:
                    self._run(runs, command, group)
                except Exception:
                    # A fault of ours: the actor crashes, and nobody of this group may be forgotten.
                    group.answer, self.in_flight = internal_error(), group
                    if not group.items or group.items[-1].command is not command:
                        self._queue.appendleft(command)
                    raise
        own, self._own = self._own, []
        for commit, settle in own:
            group.items.append(Item(commit, settle=settle))
        return group

    def _run(self, runs: MutationGroup, command: MutateState, group: Group) -> None:
        held = self._held
        if held.takes(command):
            return
        decision = runs.run(command)
        if isinstance(decision, NeedsKeys):
            held.hold(command, decision.places)
            return
        held.give_back(command)
        if type(decision) is Decided:
            self._join(runs, command, decision, group)
        else:
            assert isinstance(decision, SyncdError)
            self._refuse(command, decision)

    def _join(
        self, runs: MutationGroup, command: MutateState, decided: Decided, group: Group
    ) -> None:
        """Let a decided mutation be of the group; one that meets another over a volatile entry waits for the next one."""
        commit = decided.commit
        commit.era = command.era
        self._prepare_writes(commit)
        self._holdings.stamp(commit)
        if decided.invalidations:
            commit.events += events_of(self._holdings, decided.invalidations, commit.at_ms)
        kept, volatile, places = split(self._holdings, commit)
        if places & group.volatile_places:
            runs.take_back()
            self._held.hold(command, [])
            return
        group.volatile_places |= places
        group.items.append(Item(kept, command, decided, volatile=volatile))
        if decided.failure is not None:
            about = {"mutator": command.name, "client": command.client, **origin_of(command)}
            _log.error("mutator_failed", **about, exc_info=decided.failure)

    def _prepare_writes(self, commit: MutationCommit) -> None:
        """Say of each write whether the application has to hear of it, and keep deletions where a loader could undo them."""
        for write in commit.writes:
            holding = self._holdings.of_channel(write.channel)
            assert holding is not None, "entries are written by collections"
            if holding.is_forwarded:
                write.is_forwarded = True
            elif write.value is None and holding.keeps_tombstones:
                write.value = TOMBSTONE

    def _refuse(self, command: MutateState, error: SyncdError) -> None:
        self._forget(command)
        command.asker.refuse_mutation(command.client, command.mid, error)

    def _forget(self, command: MutateState) -> None:
        self.num_waiting -= 1
        self._bytes_waiting -= command.size_bytes

    # ---------------------------------------------------------------- decided

    def group_done(self, message: GroupDone) -> None:
        """The store has decided: bring memory up to date, and see who has to run again."""
        group, answer = message.group, message.answer
        self._holdings.tick()
        if group is not self.in_flight:
            self._inherit(group, answer)
            return
        self._held.release_those_of_group()  # first: one that runs again comes before its client's later ones
        if isinstance(answer, SyncdError):
            self._failed(group.items, answer)
        else:
            self._decided(group.items, answer)
        self.in_flight = None  # last: if this crashed, `fail_all` tells who is not told

    def _inherit(self, group: Group, answer: list[MutationResult] | SyncdError) -> None:
        """Bring memory up to date with a group of before a crash. Its askers are told already."""
        if isinstance(answer, SyncdError):
            if answer.leaves_unknown:
                self._look_anew(group.items)
            return
        for item, result in zip(group.items, answer, strict=True):
            if isinstance(result, Committed):
                write_memory(self._holdings, item, result, is_old=item.settle is not None)
                self._holdings.committed_alone(result.positions)
                self._follow(item, result)

    def _failed(self, items: Iterable[Item], error: SyncdError) -> None:
        """Tell everybody of a group that was not decided. If nobody knows whether it was, look at it anew."""
        if error.leaves_unknown:
            self._look_anew(items)
        for item in items:
            item.is_told = True
            if item.command is not None:
                self._refuse(item.command, error)
            elif item.settle is not None:
                item.settle(error)

    def _look_anew(self, items: Iterable[Item]) -> None:
        channels: set[ChannelName] = set()
        for item in items:
            channels |= {write.channel for write in item.commit.writes}
            channels |= {event.channel for event in item.commit.events}
            for write in item.commit.writes:
                self._holdings.forget_entry((write.channel, write.key))
        for channel in channels:
            self._deliver(RenewChannel(channel))

    def _decided(self, items: list[Item], results: list[MutationResult]) -> None:
        failed: list[tuple[Item, MutationResult]] = []
        holdings = self._holdings
        heads: dict[ChannelName, Position] = {}
        for item, result in zip(items, results, strict=True):
            if item.settle is not None:
                item.is_told = True
                item.settle(result)
            elif type(result) is Committed:
                write_memory(holdings, item, result)
                heads.update(result.positions)
                self._committed(item, result)
            else:
                failed.append((item, result))
        holdings.committed_alone(heads)
        if failed:
            self._not_committed(failed)

    def _committed(self, item: Item, result: Committed) -> None:
        """Do what is left to do for a mutation; its outcome was told with its events."""
        command, decided = item.command, item.decided
        assert command is not None
        assert decided is not None
        self.num_waiting -= 1
        self._bytes_waiting -= command.size_bytes
        self._count(decided)
        self._follow(item, result)

    def _follow(self, item: Item, result: Committed) -> None:
        """Have done what a commit entails."""
        for write in item.commit.writes:
            if write.is_forwarded:
                self._changed((write.channel, write.key))
        if item.decided is not None:
            for invalidation in item.decided.invalidations:
                self._invalidated(invalidation, result)

    def _not_committed(self, failed: list[tuple[Item, MutationResult]]) -> None:
        """Run those in conflict again, before anything newer of their clients; tell the others."""
        decided = [item.decided for item, _ in failed if item.decided is not None]
        again = {id(each) for each in rerun_after(decided, [result for _, result in failed])}
        rerun = []
        for item, result in failed:
            command = item.command
            assert command is not None
            item.is_told = True
            if id(command) in again:
                rerun.append(command)
                self._count_conflict(result)
            elif isinstance(result, SyncdError):
                self._refuse(command, result)
            else:
                self._forget(command)
                if isinstance(result, OutOfOrder):
                    command.asker.send_out_of_order(command.client or "", result.expect)
        self._queue.extendleft(reversed(rerun))

    def _count_conflict(self, result: MutationResult) -> None:
        if isinstance(result, Conflict):
            read = result.read
            holding = self._holdings.of_channel(read.channel)
            if holding is not None:
                holding.counts.conflicts += 1
            if read.written_by is None:
                self._holdings.forget_entry((read.channel, read.key))

    def _count(self, decided: Decided) -> None:
        name = decided.mutation.name
        if name != self._counted[0]:
            self._counted = (name, self._holdings.by_name.get(name.partition(".")[0]))
        holding = self._counted[1]
        if holding is None:
            return
        if decided.is_rejected:
            holding.counts.mutations_rejected += 1
        else:
            holding.counts.mutations_ok += 1

    # ---------------------------------------------------------------- the end

    def fail_all(self, error: SyncdError) -> None:
        """Tell everybody who waits. The group in flight is left to the store, which tells its askers what became of it."""
        for command in self._queue:
            self._refuse(command, error)
        self._queue.clear()
        self._held.fail_all(error)
        own, self._own = self._own, []
        for _commit, settle in own:
            settle(error)
        group, self.in_flight = self.in_flight, None
        if group is not None:
            group.leave(error)
            if group.answer is not None:
                refuse_untold(group, error)
