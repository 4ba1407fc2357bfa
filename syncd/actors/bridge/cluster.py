"""The room of the bridge that knows the other nodes: heartbeats, their presence, take-overs and operators' orders.

Speaks on one topic of the bus, `<prefix>:nodes`, and is driven by the bridge: `heard`, `gap`, `link` and a `tick` a few times a
second. It waits for nobody and has no task. What peers say of presence goes up to the presence actor, orders and take-overs to the
gateway; presence, gateway and HTTP tell it what the peers are to know (`ports_cluster`). Docs: `docs/cluster.md`.

Invariants: a peer is declared dead only after `dead_s` in which we could hear; while our link is down nobody dies. Whatever of a peer
was missed is asked for until it came whole. What a peer claims is handed on only once it was heard whole, so that the late word of a
dead node brings nobody back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import structlog

from syncd.actors.bridge.handing import Handing, Submit
from syncd.actors.bridge.orders import Orders, carry_out
from syncd.actors.bridge.speaking import OwnPresence, Snapshot, Speaker
from syncd.actors.bridge.telling import ClusterStatistics, row_of
from syncd.model import peer_messages as m
from syncd.model.peer_codec import BadPeerMessage, decode
from syncd.model.peers import ClusterClock, Peer, Peers
from syncd.ports_cluster import (
    ClusterTiming,
    NodeLoad,
    NodeRow,
    NodeState,
    Order,
    PeerFact,
    Poll,
    PresenceChange,
    PresenceKey,
    RevokeOrder,
    SessionsPort,
)

__all__ = ["ClusterRoom"]

_log = structlog.get_logger("syncd.cluster")

CONFIRM_S = 2.0
"""After a crash of the presence actor everybody is announced again within this."""
SKEW_US = 1_000_000
"""A peer's clock that is so far ahead of a node's that has just met it made claims of that node look old."""


DEFAULT_TIMING = ClusterTiming()


class ClusterRoom:
    """See the module's docstring. Implements `ClusterPresence`, `ClusterSessions` and `ClusterPort`.

    Args:
        node: This node's name, random at each start.
        publish: Publishes a payload on the topic; False: not taken.
        clock: Seconds that never go back.
        wall_s: Wall clock.
        chance: Between 0 and 1.
        on_fact: Told what becomes of peers; must return at once.
    """

    def __init__(
        self,
        node: str,
        *,
        publish: Callable[[bytes], bool],
        clock: Callable[[], float],
        wall_s: Callable[[], float],
        chance: Callable[[], float],
        timing: ClusterTiming = DEFAULT_TIMING,
        on_fact: Callable[[PeerFact, str], None] = lambda _fact, _node: None,
    ) -> None:
        timing.check()
        self.node = node
        self.timing = timing
        self._load: Callable[[], NodeLoad] | None = None
        self._clock = clock
        self._chance = chance
        self._on_fact = on_fact
        self._stamps = ClusterClock(wall_s)
        self._sessions: SessionsPort | None = None
        self._speaker = Speaker(node, publish)
        self._own = OwnPresence(self._speaker)
        self._snapshot = Snapshot(self._speaker, self._own, lambda: self._sessions)
        self._peers = Peers(timing, chance)
        self._handing = Handing()
        self._orders = Orders()
        self._beat_at = 0.0
        self._asks_all = True
        """A node that starts knows nothing of anybody."""
        self._ticked_at = clock()
        self._met_at: float | None = None
        """When the first peer was heard: until shortly after it this node has the clock of its machine alone."""
        self._num_bad = self._num_faults = self._num_dead = 0
        self._handlers: dict[type, Callable[[Peer, Any], None]] = {
            m.Beat: self._on_beat,
            m.Changes: self._on_changes,
            m.Page: self._on_page,
            m.Ask: self._on_ask,
            m.OrderGiven: self._on_order,
            m.OrderDone: self._on_done,
            m.Taken: self._on_taken,
            m.Terms: self._on_terms,
            m.Leaving: self._on_leaving,
        }

    def connect(
        self, submit_presence: Submit, sessions: SessionsPort, load: Callable[[], NodeLoad]
    ) -> None:
        """Say who is told, and what tells of this node's load every `beat_s`. Called once, before the start."""
        self._handing.submit = submit_presence
        self._sessions = sessions
        self._load = load

    # ------------------------------------------------------------------------------------------------ the bus

    def heard(self, payloads: Sequence[bytes]) -> None:
        """Take what came on the topic, in order. A bad payload is counted, and the first one logged; nothing is raised."""
        for payload in payloads:
            try:
                heard = decode(payload)
            except BadPeerMessage as error:
                self._note_bad("bad_peer_message", error)
                continue
            if heard.node == self.node:
                continue
            try:
                self._take(heard)
            except Exception as error:  # noqa: BLE001 - one message fails, the cluster goes on
                self._note_bad("peer_message_failed", error)

    def _take(self, heard: m.Heard) -> None:
        peer, fact = self._peers.hear(heard.node, heard.seq, self._clock())
        if fact is not None:
            if self._met_at is None:
                self._met_at = self._clock()
            self._tell_fact(fact, heard.node)
            soon = self._clock() + self._chance() * self.timing.jitter_s
            self._beat_at = min(self._beat_at, soon)  # it is to know us soon
        if peer is not None:
            self._handlers[type(heard.message)](peer, heard.message)

    def _note_bad(self, event: str, error: Exception) -> None:
        self._num_bad += 1
        if self._num_bad == 1:
            _log.error(event, error=str(error), exc_info=error)

    def gap(self) -> None:
        """Something may have been lost on the topic, and it is subscribed now."""
        self._peers.miss_all(self._clock())
        self._asks_all = True

    def link(self, *, is_up: bool) -> None:
        """The bus can publish and hear, or it cannot. While it cannot nobody dies."""
        if is_up and not self._speaker.is_up:
            self._peers.pardon_all(self._clock())
            self._beat_at = self._clock()
        self._speaker.is_up = is_up

    def tick(self, now: float) -> None:
        """Do what is due. To be called every second or more often, with the same clock as `clock`."""
        if now - self._ticked_at > self.timing.beat_s:
            self._peers.pardon_all(now)  # it was we who stood still
        self._ticked_at = now
        self._handing.retry()
        self._own.settle(now)
        self._speaker.flush()
        is_all_told = self._own.flush()
        if not self._speaker.is_up:
            return
        if self._own.owes_snapshot:
            self._snapshot.want(now)
        if now >= self._beat_at:
            self._beat(now)
        self._ask(now)
        if is_all_told:
            self._snapshot.advance(now)
        for peer in self._peers.bury(now):
            self._num_dead += 1
            self._lose(peer, PeerFact.DIED)

    def leave(self) -> None:
        """The node stops: its clients come back elsewhere. To be called when its sessions have been sent away."""
        self._speaker.flush()
        self._own.flush()
        self._speaker.say(m.Leaving())

    def _beat(self, now: float) -> None:
        if self._load is None:
            return
        beat = m.Beat(
            self._load(), self._stamps.latest, len(self._own.claims.by_key), self._own.digest
        )
        if self._speaker.say(beat):
            self._beat_at = now + self.timing.beat_s

    def _ask(self, now: float) -> None:
        if self._asks_all:
            self._asks_all = not self._speaker.say(m.Ask(None))
            self._peers.asked(None, now)
            return
        wanted = self._peers.wanted(now)
        if wanted:
            self._speaker.say(m.Ask(wanted))

    # ------------------------------------------------------------------------------------------------ what peers say

    def _on_beat(self, peer: Peer, beat: m.Beat) -> None:
        peer.load = beat.load
        self._see(beat.stamp)
        if not self._peers.compare(peer, beat.digest, self._clock()):
            self._num_faults += 1
            _log.warning("peer_differs", node=peer.node)

    def _on_changes(self, peer: Peer, message: m.Changes) -> None:
        self._hand_on(peer, message.changes)

    def _hand_on(self, peer: Peer, changes: dict[PresenceKey, PresenceChange]) -> None:
        for change in changes.values():
            self._see(change.stamp)
        peer.change(changes)
        if peer.is_shown:
            self._handing.changes(peer, changes)

    def _on_page(self, peer: Peer, page: m.Page) -> None:
        if self._sessions is not None:
            self._sessions.add_revoked(page.revoked)
        self._raise_terms(page.terms)
        if page.is_first and peer.needs:
            peer.gathering = set()
        if peer.gathering is None:
            return
        peer.ask_at = self._clock() + self.timing.ask_s
        self._hand_on(peer, {**page.claims})
        if not (page.is_last and peer.end_snapshot()):
            return
        if peer.is_shown:
            self._handing.keys(peer)
        else:
            peer.is_shown = True
            self._handing.everything(peer)

    def _on_ask(self, _peer: Peer, ask: m.Ask) -> None:
        now = self._clock()
        self._peers.asked(ask.nodes, now)
        if ask.nodes is None or self.node in ask.nodes:
            self._snapshot.want(now + self._chance() * self.timing.jitter_s)

    def _on_order(self, peer: Peer, message: m.OrderGiven) -> None:
        if self._sessions is not None:
            count = carry_out(message.order, self._sessions)
            self._speaker.say(m.OrderDone(peer.node, message.id, count))

    def _on_done(self, peer: Peer, message: m.OrderDone) -> None:
        if message.node == self.node:
            self._orders.answered(peer.node, message.id, message.count)

    def _on_taken(self, _peer: Peer, message: m.Taken) -> None:
        for client, stamp in message.clients:
            self._see(stamp)
            later = None if self._sessions is None else self._sessions.take_away(client, stamp)
            if later is not None:
                self._speaker.take(client, later)  # theirs is the older session

    def _on_terms(self, _peer: Peer, message: m.Terms) -> None:
        self._raise_terms(message.terms)

    def _raise_terms(self, terms: Sequence[m.Term]) -> None:
        if self._sessions is None:
            return
        for user, group, term in terms:
            known = self._sessions.raise_term(user, group, term)
            if known > term:
                self._speaker.enter(user, group, known)

    def _on_leaving(self, peer: Peer, _message: m.Leaving) -> None:
        self._peers.left(peer, self._clock())
        self._lose(peer, PeerFact.LEFT)

    def _lose(self, peer: Peer, fact: PeerFact) -> None:
        if peer.is_shown:
            self._handing.gone(peer.node, is_clean=fact is PeerFact.LEFT)
        self._tell_fact(fact, peer.node)

    def _tell_fact(self, fact: PeerFact, node: str) -> None:
        _log.info(f"peer_{fact.value}", node=node)
        self._on_fact(fact, node)

    def _see(self, stamp: int) -> None:
        is_far_behind = self._stamps.see(stamp) > SKEW_US
        if is_far_behind and self._clock() < (self._met_at or 0.0) + self.timing.dead_s:
            _log.warning("clock_behind_peers")
            self._handing.restamp()

    # ------------------------------------------------------------------------------------------------ ClusterPresence

    def next_stamp(self) -> int:
        """See `ClusterPresence.next_stamp`."""
        return self._stamps.next_stamp()

    def told(self, changes: dict[PresenceKey, PresenceChange]) -> None:
        """See `ClusterPresence.told`."""
        self._own.change(changes)
        self._own.flush()

    def presence_anew(self) -> None:
        """See `ClusterPresence.presence_anew`."""
        self._own.doubt(self._clock() + CONFIRM_S)
        for peer in self._peers.by_node.values():
            if peer.is_shown:
                self._handing.everything(peer)

    # ------------------------------------------------------------------------------------------------ ClusterSessions

    def took_over(self, clients: Sequence[str]) -> int:
        """See `ClusterSessions.took_over`."""
        stamp = self._stamps.next_stamp()
        for client in clients:
            self._speaker.take(client, stamp)
        return stamp

    def entered(self, user: str | None, group: str, term: int) -> None:
        """See `ClusterSessions.entered`."""
        self._speaker.enter(user, group, term)

    # ------------------------------------------------------------------------------------------------ ClusterPort

    def nodes(self) -> list[NodeRow]:
        """See `ClusterPort.nodes`."""
        now, is_up = self._clock(), self._speaker.is_up
        num_own = len(self._own.claims.by_key)
        load = None if self._load is None else self._load()
        own = NodeRow(self.node, True, NodeState.ALIVE, 0.0, num_own, load)  # noqa: FBT003 - the column
        return [
            own,
            *(row_of(peer, now, self.timing, is_up=is_up) for peer in self._peers.by_node.values()),
        ]

    def order(self, order: Order, on_answer: Callable[[], None]) -> Poll:
        """See `ClusterPort.order`."""
        poll = self._orders.open(self._peers.by_node, on_answer)
        is_said = self._speaker.say(m.OrderGiven(poll.id, order))
        if not is_said and isinstance(order, RevokeOrder):
            self._own.owes_snapshot = True  # it stands here, and goes to the others with all else
        return poll

    def forget(self, poll: Poll) -> None:
        """See `ClusterPort.forget`."""
        self._orders.close(poll)

    def statistics(self) -> ClusterStatistics:
        """Return counts for health pages and metrics."""
        peers = self._peers
        return ClusterStatistics(
            num_nodes=1 + len(peers.by_node),
            num_claims=sum(len(peer.claims.by_key) for peer in peers.by_node.values()),
            num_spoken=self._speaker.seq,
            num_refused=self._speaker.num_refused,
            num_missed=peers.num_missed,
            num_unheard=peers.num_unheard,
            num_bad=self._num_bad,
            num_faults=self._num_faults,
            num_snapshots=self._snapshot.num_told,
            num_overflows=self._handing.num_overflows,
            num_dead=self._num_dead,
        )
