"""Presence of this node's sessions and of all other nodes as one set. Pure; time is passed in and never goes back.

Owned by the presence actor where there is a cluster; without one the plain `PresenceSet` does. Each entry is one claim: of a session
here, or of a peer. Invariants: of two claims of one client the later stamp wins, on every node alike, whatever order they come in;
a client that left as of a stamp is not brought back by an earlier claim; what changes in the claims of this node stands in
`own_changes` until it is taken. Limits hold for the merged set when a session here announces; a peer's claim was admitted there and
is not refused again, or nodes would show different people.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Callable

from syncd.ids import ChannelName
from syncd.model.presence_channel import Entry
from syncd.model.presence_encode import raw_state
from syncd.model.presence_set import PresenceSet, PresenceSettings, S
from syncd.ports_cluster import Claim, PresenceChange, PresenceKey, Withdrawal

__all__ = ["MergedPresence"]

VOID_S = 75.0
"""How long it is remembered that a client left. An earlier claim of it ends by itself before: its session is found dead within 50 s,
and its grace is 15 s."""
MAX_VOID = 100_000
"""About 20 MB; the oldest are forgotten first."""


class MergedPresence(PresenceSet[S]):
    """A presence set with peers.

    Args:
        settings: Bounds and durations, as of `PresenceSet`; `first_seq` and `settle_until` too.
        node: This node's name: decides between equal stamps.
        next_stamp: Gives a stamp later than all seen.
        orphan_s: How long the clients of a peer that died, or that did not say why it dropped them, may take to come back.
    """

    def __init__(
        self,
        settings: PresenceSettings,
        *,
        node: str,
        next_stamp: Callable[[], int],
        orphan_s: float,
        first_seq: int = 0,
        settle_until: float = -math.inf,
    ) -> None:
        super().__init__(settings, first_seq=first_seq, settle_until=settle_until)
        self.own_changes: dict[PresenceKey, PresenceChange] = {}
        """What peers are to be told, the newest of each client."""
        self.taken: list[tuple[S, PresenceKey]] = []
        """Sessions that announce a client no longer, because it is another node's now."""
        self._node = node
        self._next_stamp = next_stamp
        self._orphan_s = orphan_s
        self._by_peer: dict[str, set[Entry[S]]] = {}
        self._orphans: collections.deque[tuple[float, Entry[S]]] = collections.deque()
        self._void: dict[PresenceKey, tuple[int, float]] = {}
        """Left as of which stamp, remembered until when. In the order of the times."""

    # ------------------------------------------------------------------------------------------------ own sessions

    def announce(
        self,
        session: S,
        name: ChannelName,
        client: str,
        user: str | None,
        state: bytes,
        now: float,
    ) -> None:
        """As `PresenceSet.announce`; a client that a peer claimed is ours from now on."""
        held = self._entry(name, client)
        before = None if held is None else (held.state, held.session)
        super().announce(session, name, client, user, state, now)
        entry = self._channels[name].entries[client]
        if held is entry and before == (entry.state, session):
            return  # as it was; under another session it may have been elsewhere in between
        if held is not None:
            self._release_peer(held)
        entry.stamp = self._next_stamp()
        self.own_changes[name, client] = Claim(user, state, entry.stamp)

    def leave(
        self,
        session: S,
        name: ChannelName,
        client: str,
        now: float,
        *,
        is_own_only: bool = False,
    ) -> None:
        """As `PresenceSet.leave`; wherever it was announced, it is gone as of now."""
        entry = self._entry(name, client)
        if entry is None or (is_own_only and entry.session is not session):
            return
        entry.stamp = self._next_stamp()
        self._release_peer(entry)
        super().leave(session, name, client, now, is_own_only=is_own_only)

    def restamp(self) -> None:
        """The cluster's clock was ahead of ours: claim the clients of living sessions again, by the right time."""
        for entries in self._entries.values():
            for entry in entries:
                entry.stamp = self._next_stamp()
                user, state = entry.member.user, raw_state(entry.client, entry.state)
                key = (entry.channel.name, entry.client)
                self.own_changes[key] = Claim(user, state, entry.stamp)

    # ------------------------------------------------------------------------------------------------ peers

    def peer_changed(
        self, node: str, changes: dict[PresenceKey, PresenceChange], now: float
    ) -> None:
        """Apply what a peer told."""
        for key, change in changes.items():
            if isinstance(change, Claim):
                self._put_claim(node, key, change, now)
            elif change.is_moved:
                self._let_go(node, key, now)
            else:
                self._withdraw(node, key, change.stamp, now)

    def keep_only(self, node: str, keys: set[PresenceKey], now: float) -> None:
        """These are all that a peer claims. What it claimed before goes: nobody heard why, so it may have moved."""
        for entry in list(self._by_peer.get(node, ())):
            if (entry.channel.name, entry.client) not in keys:
                self._orphan(entry, now)

    def peer_gone(self, node: str, now: float, *, is_clean: bool) -> None:
        """A node is not there any more: its clients leave unless they come back elsewhere in time."""
        for entry in list(self._by_peer.get(node, ())):
            if is_clean:
                self._let_go(node, (entry.channel.name, entry.client), now)
            else:
                self._orphan(entry, now)

    def _put_claim(self, node: str, key: PresenceKey, claim: Claim, now: float) -> None:
        name, client = key
        held = self._entry(name, client)
        if claim.stamp <= self._void.get(key, (-1, 0.0))[0]:
            return
        if held is not None:
            if (claim.stamp, node) < (held.stamp, held.peer or self._node):
                return
            if held.peer == node and held.stamp == claim.stamp:
                return  # told again, by a snapshot
        channel = self._channels.get(name) or self._new_channel(name)
        before = channel.num_members
        session = None if held is None else held.session
        is_taken = held is not None and held.peer is None and held.stamp > 0
        member_id = client if claim.user is None else claim.user
        entry = channel.put(None, client, claim.user, member_id, claim.state)
        self._channels[name] = channel
        self.num_members += channel.num_members - before
        if held is not None:
            if session is not None:
                self._release(session, held)
                self.taken.append((session, key))
            self._release_peer(held)
        entry.peer, entry.stamp = node, claim.stamp
        self._by_peer.setdefault(node, set()).add(entry)
        if is_taken:
            self.own_changes[key] = Withdrawal(claim.stamp, is_moved=True)
        self._note_change(channel, now)

    def _withdraw(self, node: str, key: PresenceKey, stamp: int, now: float) -> None:
        entry = self._entry(*key)
        self._bury(key, stamp, now)
        if entry is None or not (entry.peer == node or entry.stamp <= stamp):
            return
        if entry.session is not None:
            self._release(entry.session, entry)
            self.taken.append((entry.session, key))
        self._remove(entry, now)

    def _let_go(self, node: str, key: PresenceKey, now: float) -> None:
        """A peer's claim ends, and the client is expected elsewhere within the usual grace."""
        entry = self._entry(*key)
        if entry is not None and entry.peer == node:
            self._unclaim(entry, now)
            self._give_grace(entry, now)

    def _orphan(self, entry: Entry[S], now: float) -> None:
        """A peer's claim ends without a word."""
        self._unclaim(entry, now)
        entry.deadline = now + self._orphan_s
        self._orphans.append((entry.deadline, entry))

    def _unclaim(self, entry: Entry[S], now: float) -> None:
        """Nobody claims it now. This very claim may come back, or a later one; what was earlier is as void as before."""
        self._release_peer(entry)
        self._bury((entry.channel.name, entry.client), entry.stamp - 1, now)
        entry.stamp = 0

    # ------------------------------------------------------------------------------------------------ time

    def next_deadline(self) -> float:
        """Return when `advance` has something to do; infinite when it has nothing."""
        deadline = super().next_deadline()
        return min(deadline, self._orphans[0][0]) if self._orphans else deadline

    def _expire(self, now: float) -> None:
        super()._expire(now)
        self._expire_from(self._orphans, now)
        while self._void:
            key, (_, until) = next(iter(self._void.items()))
            if until > now and len(self._void) <= MAX_VOID:
                break
            del self._void[key]

    # ------------------------------------------------------------------------------------------------ parts

    def _remove(self, entry: Entry[S], now: float) -> None:
        if entry.peer is not None:
            self._release_peer(entry)
        elif entry.stamp:
            key = (entry.channel.name, entry.client)
            self.own_changes[key] = Withdrawal(entry.stamp)
            self._bury(key, entry.stamp, now)
        super()._remove(entry, now)

    def _bury(self, key: PresenceKey, stamp: int, now: float) -> None:
        """Remember that the client left as of a stamp."""
        earlier = self._void.pop(key, (stamp, 0.0))[0]
        self._void[key] = (max(stamp, earlier), now + VOID_S)

    def _release_peer(self, entry: Entry[S]) -> None:
        node, entry.peer = entry.peer, None
        if node is None:
            return
        held = self._by_peer[node]
        held.discard(entry)
        if not held:
            del self._by_peer[node]
