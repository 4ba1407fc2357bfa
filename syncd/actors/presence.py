"""Presence actor: one task that owns who is present on this node and, in a cluster, on all others, and tells the watchers.

Owns the `PresenceSet`; the gateway and HTTP submit commands, sessions take what is sent. In a cluster the bridge submits what peers
tell, and is told what changed here. It waits for nobody: whatever a
session does not take is replaced later by a fresh state. When its mailbox is full, presence commands of the gateway stall
and with them the sessions that sent them.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Callable, Sequence

import attrs
import structlog
import trio

from syncd.actors.kit import Mailbox, MailboxStatistics, origin_of
from syncd.codes import ErrorCode
from syncd.config import Limits, Timing
from syncd.errors import ActorStopped, RequestRejected, SyncdError, internal_error
from syncd.model.presence_merged import MergedPresence
from syncd.model.presence_set import Delivery, PresenceSet, PresenceSettings
from syncd.ports import SessionPort
from syncd.ports_cluster import (
    ClusterPresence,
    PeerChanges,
    PeerClaims,
    PeerCommand,
    PeerGone,
    RestampPresence,
)
from syncd.ports_presence import (
    Announce,
    PresenceCommand,
    QueryPresence,
    ReleaseClient,
    SessionGone,
    UnwatchPresence,
    WatchPresence,
)

__all__ = ["Presence", "PresenceStatistics"]

MAILBOX_COMMANDS = 20_000
"""BLOCK. A burst of 10,000 clients that each announce and watch fits."""
MAILBOX_BYTES = 32 * 1024 * 1024

SLICE = 1000
"""Commands applied, or messages sent, before other tasks get a turn: about 5 ms."""

SETTLE_S = 1.0
"""After a crash announcements are gathered this long before anybody is sent a state: several fills of the mailbox."""

_log = structlog.get_logger("syncd.presence")


@attrs.frozen
class PresenceStatistics:
    """Presence at one moment; counters count since start."""

    num_channels: int
    num_members: int
    num_watchers: int
    num_diffs: int
    """Encoded, not deliveries of them."""
    num_deliveries: int
    num_refused: int
    """Messages a session had no budget for."""
    mailbox: MailboxStatistics


class Presence:
    """Serves presence commands (`ports_presence.PresenceHandle`) and sends states and diffs.

    Args:
        limits: For `presence_members` and `channels`.
        timing: For `presence_grace_s` and `presence_diff_s`.
        flush: Called after every slice: writes what was queued to sessions.
        cluster: Told what changes here, for the peers; None: there are none.

    After a crash the set starts empty; whoever starts the actor anew (`supervise(on_restart=...)`) submits every announced
    state and every watcher again. Members in their grace at that moment are lost: the fresh state that every watcher gets
    says that they left.
    """

    name = "presence"

    def __init__(
        self,
        limits: Limits,
        timing: Timing,
        flush: Callable[[], None],
        cluster: ClusterPresence | None = None,
    ) -> None:
        self._mailbox: Mailbox[PresenceCommand | PeerCommand] = Mailbox(
            self.name, MAILBOX_COMMANDS, MAILBOX_BYTES
        )
        self._settings = PresenceSettings(
            grace_s=timing.presence_grace_s,
            diff_s=timing.presence_diff_s,
            max_members=limits.presence_members,
            max_channels=limits.channels,
        )
        self._flush = flush
        self._cluster = cluster
        self._merged: MergedPresence[SessionPort] | None = None
        """The set itself, where there is a cluster."""
        self._set = self._new_set(first_seq=0, settle_until=-math.inf)
        self._in_hand: collections.deque[PresenceCommand | PeerCommand] = collections.deque()
        """Taken and not answered yet."""
        self._num_deliveries = 0
        self._num_refused = 0
        self._num_diffs_before = 0
        """Of sets that a crash ended."""

    def _new_set(self, *, first_seq: int, settle_until: float) -> PresenceSet[SessionPort]:
        cluster = self._cluster
        if cluster is None:
            return PresenceSet(self._settings, first_seq=first_seq, settle_until=settle_until)
        self._merged = MergedPresence(
            self._settings,
            node=cluster.node,
            next_stamp=cluster.next_stamp,
            orphan_s=cluster.timing.orphan_s,
            first_seq=first_seq,
            settle_until=settle_until,
        )
        return self._merged

    # ------------------------------------------------------------------------------------------------ handle

    def submit_nowait(
        self, commands: Sequence[PresenceCommand | PeerCommand], size_bytes: int
    ) -> None:
        """Hand over all or none; raises `MailboxFull` or `ActorStopped`."""
        self._mailbox.put_nowait(commands, size_bytes)

    async def submit(self, commands: Sequence[PresenceCommand], size_bytes: int) -> None:
        """Hand over, waiting for room. Cancelled: none was handed over."""
        await self._mailbox.put(commands, size_bytes)

    def statistics(self) -> PresenceStatistics:
        """Return counts for health pages and metrics."""
        presence = self._set
        return PresenceStatistics(
            presence.num_channels,
            presence.num_members,
            presence.num_watchers,
            self._num_diffs_before + presence.num_diffs,
            self._num_deliveries,
            self._num_refused,
            self._mailbox.statistics(),
        )

    # ------------------------------------------------------------------------------------------------ life

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled or closed.

        Cancellation: whoever waits for an answer gets `shutting_down`; nothing is accepted any more.
        """
        task_status.started()
        try:
            while True:
                try:
                    batch = await self._next_batch()
                except ActorStopped:
                    return
                await self._serve(batch)
        except trio.Cancelled:
            self.close()
            raise

    def close(self) -> None:
        """Accept nothing more and answer whoever still waits; `run` returns. May be called again."""
        self._in_hand.extend(self._mailbox.close())
        self._fail_in_hand(ActorStopped())

    def recover(self) -> None:
        """Prepare for another `run` after a crash: nobody waits for ever, and `seq` does not go back."""
        self._num_diffs_before += self._set.num_diffs
        self._set = self._new_set(
            first_seq=self._set.top_seq + 1, settle_until=trio.current_time() + SETTLE_S
        )
        self._fail_in_hand(internal_error())
        if self._cluster is not None:
            self._cluster.presence_anew()

    def _fail_in_hand(self, error: SyncdError) -> None:
        while self._in_hand:
            self._fail(self._in_hand.popleft(), error)

    # ------------------------------------------------------------------------------------------------ serving

    async def _next_batch(self) -> list[PresenceCommand | PeerCommand]:
        """Wait for commands, or return none when something is due."""
        with trio.move_on_at(self._set.next_deadline()):
            return await self._mailbox.take()
        return []

    async def _serve(self, batch: list[PresenceCommand | PeerCommand]) -> None:
        in_hand = self._in_hand
        in_hand.extend(batch)
        while True:
            now = trio.current_time()
            room = SLICE
            while in_hand and room > 0:
                command = in_hand[0]
                self._apply(command, now)
                in_hand.popleft()
                room -= len(command.changes) if isinstance(command, PeerChanges) else 1
            deliveries = self._set.advance(now)
            self._tell_peers()
            await self._deliver(deliveries)
            if not in_hand:
                return

    def _apply(self, command: PresenceCommand | PeerCommand, now: float) -> None:
        try:
            self._obey(command, now)
        except RequestRejected as error:
            self._fail(command, error)
        except Exception as error:  # noqa: BLE001 - one command fails, presence goes on
            about = {"command": type(command).__name__, **origin_of(command)}
            _log.error("presence_command_failed", **about, exc_info=error)
            self._fail(command, internal_error())

    def _obey(self, command: PresenceCommand | PeerCommand, now: float) -> None:
        match command:
            case Announce():
                self._announce(command, now)
            case WatchPresence():
                if not command.session.closed:
                    self._set.watch(command.session, command.channel)
            case UnwatchPresence():
                self._set.unwatch(command.session, command.channel)
            case SessionGone():
                self._set.session_gone(command.session, now)
            case ReleaseClient():
                session, client = command.session, command.client
                for channel in self._set.release_client(session, client, now):
                    session.remember_presence(channel, client, None)
            case QueryPresence():
                command.done(self._set.members(command.channel))
            case _:
                self._obey_peer(command, now)

    def _obey_peer(self, command: PeerCommand, now: float) -> None:
        merged = self._merged
        if merged is None:
            return  # nobody submits these without a cluster
        match command:
            case PeerChanges():
                merged.peer_changed(command.node, command.changes, now)
            case PeerClaims():
                merged.keep_only(command.node, command.keys, now)
            case PeerGone():
                merged.peer_gone(command.node, now, is_clean=command.is_clean)
            case RestampPresence():
                merged.restamp()

    def _tell_peers(self) -> None:
        """Hand over what changed here, and have sessions forget whom they do not speak for any more."""
        merged, cluster = self._merged, self._cluster
        if merged is None or cluster is None:
            return
        for session, (channel, client) in merged.taken:
            session.remember_presence(channel, client, None)
        merged.taken.clear()
        if merged.own_changes:
            changes, merged.own_changes = merged.own_changes, {}
            cluster.told(changes)

    def _announce(self, command: Announce, now: float) -> None:
        session = command.session
        if command.state is None:
            self._set.leave(
                session, command.channel, command.client, now, is_own_only=session.closed
            )
        elif session.closed:
            # Its SessionGone may have been served already: nobody would ever take this member out.
            raise RequestRejected(ErrorCode.CLIENT_DENIED, "This session is over.")
        else:
            self._set.announce(
                session,
                command.channel,
                command.client,
                session.identity.user,
                command.state,
                now,
            )
        session.remember_presence(command.channel, command.client, command.state)
        if command.request_id is not None:
            session.reply_ok(command.request_id)

    def _fail(self, command: PresenceCommand | PeerCommand, error: SyncdError) -> None:
        """Answer with an error whoever waits for this command."""
        try:
            if isinstance(command, QueryPresence):
                command.done(error)
            elif isinstance(command, Announce) and command.request_id is not None:
                command.session.reply_error(command.request_id, error)
        except Exception as failure:  # noqa: BLE001 - an asker that cannot be answered is its own loss
            _log.error("presence_answer_failed", exc_info=failure)

    # ------------------------------------------------------------------------------------------------ sending

    async def _deliver(self, deliveries: list[Delivery[SessionPort]]) -> None:
        """Send everything, flushing and letting others run after every slice."""
        room = SLICE
        for delivery in deliveries:
            start = 0
            while start < len(delivery.sessions):
                chunk = delivery.sessions[start : start + room]
                self._send(delivery, chunk)
                start += len(chunk)
                room -= len(chunk)
                if not room:
                    self._flush()
                    await trio.lowlevel.checkpoint()
                    room = SLICE
        self._flush()
        await trio.lowlevel.checkpoint()

    def _send(self, delivery: Delivery[SessionPort], sessions: Sequence[SessionPort]) -> None:
        for session in sessions:
            if session.closed:
                continue
            if self._is_taken(session, delivery):
                self._num_deliveries += 1
            else:
                self._num_refused += 1
                self._set.refused(session, delivery.channel, trio.current_time())

    def _is_taken(self, session: SessionPort, delivery: Delivery[SessionPort]) -> bool:
        try:
            return session.send_presence(delivery.channel, delivery.message)
        except Exception as error:  # noqa: BLE001 - one session fails, the others are served
            _log.error("presence_send_failed", session=session.id, exc_info=error)
            return False
