"""Collections and mutations of a client: what is confirmed, what is predicted over it, and what of it is shown. Pure.

Owned by `ClientCore` as `core.entries`. Invariant: what a watch shows is `fold(pending in order, confirmed)`; it is made anew
once for each received frame and local call, and told once.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from syncd.client.errors import MutationRejected, QueueFull, RequestFailed
from syncd.client.facts_state import (
    MutationOutcome,
    OutcomeStatus,
    StateFact,
    ViewChanged,
)
from syncd.client.frames import Body, position_from_body
from syncd.client.local_tx import LocalMutator, LocalRejected, Place, as_sent
from syncd.client.own_writes import OwnWrites
from syncd.client.pending import Pending, Predictions
from syncd.client.queue import MutationQueue
from syncd.client.settling import Settling
from syncd.client.shown import Shown
from syncd.client.watch import Selection, Watch
from syncd.client.watching import WatchTable
from syncd.codes import ErrorCode
from syncd.ids import ChannelName, ClientId

__all__ = ["MAX_PENDING", "StateCore"]

MAX_PENDING = 900
"""Mutations that may be pending at once; further ones are refused (REFUSE). Below the 1,000 outcomes the server keeps for a client,
and, with 1,024 requests, within the burst of 2,000 messages it takes after a reconnection."""
MAX_NAME_BYTES = 160


class StateCore:
    """Watches, pending mutations and what they show.

    Args:
        rng: Source of jitter.
        request: Send a message of this type and body under a fresh id, and return the id.
        send: Send one encoded message.
        tell: Queue a fact.
        mutators: Local predictions by full name; None stands for: do not predict. Built-in ones need none.
        num_clients: How many clients the session speaks for.
    """

    def __init__(
        self,
        rng: random.Random,
        request: Callable[[str, Body], int],
        send: Callable[[bytes], None],
        tell: Callable[[StateFact], None],
        *,
        mutators: Mapping[str, LocalMutator | None],
        num_clients: int,
    ) -> None:
        self._tell = tell
        self.own_writes = OwnWrites()
        self._watching = WatchTable(
            rng, request, tell, self.own_writes.of, lambda: bool(self.pending)
        )
        self._settling = Settling(self._watching)
        self._predictions = Predictions(mutators, self._confirmed, self._held)
        self._queues = [MutationQueue(slot, rng, send) for slot in range(num_clients)]
        self._shown = Shown(self._watching, self._predictions)
        self._outcomes: list[MutationOutcome] = []
        """Of this step; told after the view has changed."""
        self._waiting: dict[int, Pending] = {}
        """Decided, but not told by all watches."""
        self._num_made = 0
        self._wall_ms = 0.0
        """Server's wall clock at time 0 of ours."""
        self.handlers: dict[str, Callable[[Body, float], object]] = {
            "watched": self._watching.on_watched,
            "snapshot": self._watching.on_snapshot,
            "invalidate": self._watching.on_invalidate,
            "outcome": self._on_outcome,
        }
        self.shared_handlers: dict[str, Callable[[Body, float], object]] = {
            "event": self._watching.on_event,
            "mark": self._watching.on_mark,
            "lagged": self._watching.on_lagged,
            "unsubscribed": self._watching.on_unsubscribed,
        }
        """For messages that channels without entries get too; what is of another's channel is ignored."""

    # -------------------------------------------------------------------------------- what it knows

    @property
    def pending(self) -> Collection[Pending]:
        """Mutations that are not settled, in the order they were made."""
        return self._predictions.pending.values()

    @property
    def watches(self) -> Collection[Watch]:
        """All watches, to look at."""
        return [w for w in self._watching.watches.values() if not w.is_leaving]

    def sizes(self) -> Iterator[int]:
        """Yield how long the messages of watches and of undecided mutations are at most."""
        yield from (watch.size for watch in self._watching.watches.values())
        for queue in self._queues:
            yield from map(queue.size_bytes, queue.undecided.values())

    def get(self, watch_id: int, key: str) -> Any:
        """Return what a watch shows of an entry, or `NOTHING`. Not to be changed."""
        return self._shown.get(watch_id, key)

    def items(self, watch_id: int) -> dict[str, Any]:
        """Return what a watch shows, by key, sorted; unchanged entries keep their identity. Not to be changed."""
        return self._shown.items(watch_id)

    def pending_of(self, watch_id: int, key: str) -> tuple[int, ...]:
        """Return the ids of the pending mutations that change an entry, oldest first."""
        return self._shown.pending_of(watch_id, key)

    def _confirmed(self, place: Place) -> tuple[Any, int, bool]:
        return self._shown.confirmed(place)

    # -------------------------------------------------------------------------------- the application

    def watch(self, selection: Selection) -> int:
        """Watch entries of a collection; return the watch's number."""
        return self._watching.watch(selection).id

    def unwatch(self, watch_id: int) -> None:
        """End a watch."""
        self._watching.unwatch(watch_id)
        self._shown.forget(watch_id)

    def mutate(
        self, name: str, args: Any, now: float, *, max_bytes: int, slot: int = 0
    ) -> tuple[int, object]:
        """Predict a mutation, queue it, and send it when there is a connection.

        Args:
            name: Full name of the mutator.
            args: A map by name, a list by position, or None.
            now: On the shell's clock.
            max_bytes: Size of a message that the server takes.
            slot: Which client of the session makes it.

        Returns:
            Its id, and what the local mutator returned.

        Raises:
            RequestFailed: `too_large`.
            QueueFull: 900 mutations are pending.
            MutationRejected: the local mutator refused, by what this client knows.
            ValueError, TypeError, OverflowError: name or arguments have no form on the wire.
            Exception: the local mutator raised.
            In every case nothing was queued and nothing changed.
        """
        if not 0 < len(name.encode()) <= MAX_NAME_BYTES:
            msg = f"A mutator's name has 1 to {MAX_NAME_BYTES} bytes."
            raise ValueError(msg)
        if len(self.pending) >= MAX_PENDING:
            raise QueueFull(MAX_PENDING)
        queue = self._queues[slot]
        now_ms = int(self._wall_ms + now * 1000)
        pending = Pending(self._num_made + 1, slot, 0, name, as_sent(args), now_ms)
        size = queue.size_bytes(pending)
        if size > max_bytes:
            text = f"The mutation has up to {size} bytes; the server takes {max_bytes}."
            raise RequestFailed(ErrorCode.TOO_LARGE.value, text)
        try:
            value = self._predictions.add(pending)
        except LocalRejected as rejected:
            raise MutationRejected(rejected.code, rejected.message) from None
        self._num_made += 1
        queue.add(pending)
        return pending.id, value

    # -------------------------------------------------------------------------------- connection and time

    def welcomed(self, body: Body, now: float, *, max_frame_bytes: int, pack_bytes: float) -> None:
        """A session is there: send mutations, then ask for every watch.

        In this order, because the outcomes of what was decided before then come first, and their predictions go in the very
        step in which a snapshot is complete.
        """
        self._wall_ms = body["server_time_ms"] - now * 1000
        self._predictions.doubt()
        self._watching.max_frame_bytes, self._watching.pack_bytes = max_frame_bytes, pack_bytes
        for queue, state in zip(self._queues, body["clients"], strict=False):
            last_mid = state["last_mid"]
            self._drop_too_large(queue, last_mid, max_frame_bytes)
            mids = [(pending, mid) for mid, pending in queue.undecided.items()]
            lost = queue.welcomed(ClientId(state["client"]), last_mid, now)
            if any(pending.mid < mid for pending, mid in mids):
                self._settling.forget()  # the server lost state: what entries hold was said of other mutations
            self._end(lost, OutcomeStatus.UNKNOWN)
        self._watching.clients = {state["client"]: state["last_mid"] for state in body["clients"]}
        self._watching.went_online()

    def _drop_too_large(self, queue: MutationQueue, last_mid: int, max_bytes: int) -> None:
        """Take out what this server would end the connection for, instead of meeting that for ever."""
        for pending in list(queue.undecided.values()):
            if queue.size_bytes(pending) <= max_bytes:
                continue
            if pending.is_sent and pending.mid <= last_mid:
                del queue.undecided[pending.mid]
                self._end([pending], OutcomeStatus.UNKNOWN)
                continue
            queue.refused(pending.mid)
            code = ErrorCode.TOO_LARGE
            self._end([pending], OutcomeStatus.REJECTED, code=code.value, message=code.text)

    def went_offline(self) -> None:
        """The session is gone."""
        self._watching.went_offline()
        for queue in self._queues:
            queue.went_offline()

    def end_all(self) -> None:
        """The client is over: tell what is known of what is pending. Views stay as they are."""
        for pending in list(self.pending):
            if pending.outcome is not None:
                self._settle(pending)
            elif pending.is_sent:
                self._end([pending], OutcomeStatus.UNKNOWN)
            else:
                self._end([pending], OutcomeStatus.UNSENT)
        self._watching.end_all()
        self._tell_outcomes()

    def deadlines(self) -> Iterator[float]:
        """Yield the times at which `tick` has something to do."""
        yield from self._watching.retries()
        yield from (queue.next_deadline() for queue in self._queues)

    def tick(self, now: float) -> None:
        """Do what is due."""
        self._watching.tick(now)
        self._predictions.doubt()
        for queue in self._queues:
            queue.tick(now)

    # -------------------------------------------------------------------------------- the server

    def refused(self, request_id: int, error: RequestFailed, now: float) -> bool:
        """Take an error; return whether it answered a `watch`."""
        return self._watching.refused(request_id, error, now)

    def _queue_of(self, client: str) -> MutationQueue | None:
        return next((queue for queue in self._queues if queue.client == client), None)

    def mutation_failed(self, body: Body, error: RequestFailed, now: float) -> None:
        """Take an error that answers a `mutate`: it is not decided."""
        queue = self._queue_of(body["client"])
        if queue is None:
            return
        self._predictions.doubt()
        if error.retryable:
            queue.postponed(body["mid"], now, (error.after_ms or 0) / 1000)
        elif error.code == ErrorCode.STALE_TERM.value:
            queue.is_blocked = True
        else:
            refused = queue.refused(body["mid"])
            if refused is not None:
                what = OutcomeStatus.REJECTED
                self._end([refused], what, code=error.code, message=error.message)

    def out_of_order(self, body: Body, now: float) -> None:
        """The server says that a mutation is missing."""
        queue = self._queue_of(body["client"])
        if queue is not None:
            self._predictions.doubt()
            queue.is_missing(body["expect"], now)

    def _on_outcome(self, body: Body, now: float) -> None:
        queue = self._queue_of(body["client"])
        pending = queue.decided(body["mid"], now) if queue is not None else None
        if pending is None:
            return
        positions = {
            ChannelName(name): position
            for name in body["positions"]
            if (position := position_from_body(body["positions"], name)) is not None
        }
        self.own_writes.note(positions)
        error = body.get("error") or {}
        pending.outcome = MutationOutcome(
            pending.id,
            ClientId(body["client"]),
            pending.mid,
            _status(body["status"]),
            value=body.get("value"),
            code=error.get("code"),
            message=error.get("message", ""),
            positions=positions,
        )
        pending.waits = self._settling.still_to_tell(positions)
        if pending.waits:
            self._waiting[pending.id] = pending
        else:
            self._settle(pending)

    def _held(self, pending: Pending) -> set[Place]:
        """Return what of the entries that a mutation touches holds what became of it."""
        client, mid = self._queues[pending.slot].client, pending.mid
        if client is None or not pending.is_sent:
            return set()
        return {place for place in pending.touched if self._shown.holds(place, client, mid)}

    def reset(self, channel: str | None, now: float) -> None:
        """Forget positions and versions of one channel, or of all."""
        self._watching.reset(channel, now)

    def forget_client(self, client: str | None) -> None:
        """The server forgot a client (None: all): what was sent is of unknown outcome."""
        self._predictions.doubt()
        for queue in self._queues:
            if queue.client is not None and client in (None, queue.client):
                self._end(queue.forgotten(), OutcomeStatus.UNKNOWN)

    @property
    def needs_session(self) -> bool:
        """Whether a mutation waits for what only a new session gives: a client id, or where the server stands."""
        return any(
            (queue.client is None and queue.undecided) or queue.is_doubtful
            for queue in self._queues
        )

    # -------------------------------------------------------------------------------- settling

    def _end(
        self,
        ended: list[Pending],
        status: OutcomeStatus,
        *,
        code: str | None = None,
        message: str = "",
    ) -> None:
        for pending in ended:
            client = self._queues[pending.slot].client
            pending.outcome = MutationOutcome(
                pending.id, client, pending.mid, status, code=code, message=message
            )
            self._settle(pending)

    def _settle(self, pending: Pending) -> None:
        """Its prediction goes; the outcome is told once the view has changed."""
        assert pending.outcome is not None
        self._waiting.pop(pending.id, None)
        self._predictions.drop(pending)
        self._outcomes.append(pending.outcome)

    def flush(self) -> None:
        """Settle what waited, predict anew where the ground has changed, and tell what is shown differently now."""
        for _, pending in sorted(self._waiting.items()):
            if self._settling.have_told(pending.waits):
                self._settle(pending)
        seen, is_all = self._settling.take_news()
        changed = self._watching.take_changed()
        changed |= self._predictions.fold(changed, seen, is_all=is_all)
        for watch, keys, is_current in self._shown.renew(changed):
            self._tell(ViewChanged(watch, frozenset(keys), is_current))
        self._tell_outcomes()
        if not self.pending:
            self._settling.forget()
            if self._watching.has_leftovers:
                self._watching.prune()

    def _tell_outcomes(self) -> None:
        for outcome in self._outcomes:
            self._tell(outcome)
        self._outcomes.clear()


def _status(word: str) -> OutcomeStatus:
    """Judge a status that this version does not know as unknown."""
    return OutcomeStatus(word) if word in ("ok", "rejected") else OutcomeStatus.UNKNOWN
