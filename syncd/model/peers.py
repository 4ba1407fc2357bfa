"""What a node knows of the others: who is alive, what each claims, and whether anything of it was missed. Pure; time is passed in.

Owned by the cluster room. Invariant: a peer that `is_shown` and needs no snapshot claims exactly what `claims` holds, as far as it has
told. What was missed is found by its dense `seq`, by its heartbeat's digest, or told by the bus, and is made good by a snapshot.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b

import attrs

from syncd.ports_cluster import (
    Claim,
    ClusterTiming,
    NodeLoad,
    PeerFact,
    PresenceChange,
    PresenceKey,
)

__all__ = ["MAX_CLAIMS", "MAX_PEERS", "Claims", "ClusterClock", "Peer", "Peers"]

MAX_PEERS = 256
"""More nodes than a cluster on one Redis has; further ones are not heard."""
MAX_CLAIMS = 200_000
"""Of one peer: twice what 100,000 connections announce once each. Further ones are not taken."""
REMEMBER_LEFT_S = 60.0
"""What a node says after it left came late; it is not heard as that of a new one."""

_DIGEST_MASK = 2**64 - 1


class ClusterClock:
    """Stamps in microseconds, each later than all given or seen before, on whatever node.

    No node gives a million in a second, so stamps do not run ahead of time. Wall clocks differ: a node whose clock is behind takes over the difference, so that from then on its stamps keep pace.
    """

    def __init__(self, wall_s: Callable[[], float]) -> None:
        self._wall_s = wall_s
        self._ahead_us = 0
        self.latest = 0

    def next_stamp(self) -> int:
        """Return a stamp later than all before."""
        self.latest = max(self.latest + 1, self._now())
        return self.latest

    def see(self, stamp: int) -> int:
        """Take note of a peer's stamp; return by how many µs it was ahead of this clock, 0 for not."""
        self.latest = max(self.latest, stamp)
        jump_us = stamp - self._now()
        if jump_us <= 0:
            return 0
        self._ahead_us += jump_us
        return jump_us

    def _now(self) -> int:
        return int(self._wall_s() * 1e6) + self._ahead_us


class Claims:
    """What one node claims, with a digest that does not depend on the order in which it came about."""

    __slots__ = ("by_key", "digest")

    def __init__(self) -> None:
        self.by_key: dict[PresenceKey, Claim] = {}
        self.digest = 0

    def apply(self, changes: dict[PresenceKey, PresenceChange], maximum: int) -> int:
        """Put and drop; return how many claims found no room."""
        num_refused = 0
        for key, change in changes.items():
            if not isinstance(change, Claim):
                self.drop(key)
            elif key in self.by_key or len(self.by_key) < maximum:
                self.drop(key)
                self.by_key[key] = change
                self.digest = (self.digest + _hash_of(key, change.stamp)) & _DIGEST_MASK
            else:
                num_refused += 1
        return num_refused

    def drop(self, key: PresenceKey) -> None:
        """Take a claim out, if it is there."""
        claim = self.by_key.pop(key, None)
        if claim is not None:
            self.digest = (self.digest - _hash_of(key, claim.stamp)) & _DIGEST_MASK


def _hash_of(key: PresenceKey, stamp: int) -> int:
    text = f"{key[0]}\n{key[1]}\n{stamp}".encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big")


@attrs.define(eq=False)
class Peer:
    """One other node."""

    node: str
    next_seq: int
    heard_at: float
    is_shown: bool
    """Its claims were handed on: once they were known whole. One who spoke from beyond the grave is never shown."""
    needs: bool
    """Something was missed: a snapshot is wanted."""
    ask_at: float
    load: NodeLoad | None = None
    claims: Claims = attrs.field(factory=Claims)
    num_refused: int = 0
    """Claims for which there was no room."""
    gathering: set[PresenceKey] | None = None
    """Keys that the snapshot under way has told; None: none is, or a part of it was missed."""

    def change(self, changes: dict[PresenceKey, PresenceChange]) -> None:
        """It told changes."""
        self.num_refused += self.claims.apply(changes, MAX_CLAIMS)
        if self.gathering is None:
            return
        for key, change in changes.items():
            if isinstance(change, Claim):
                self.gathering.add(key)
            else:
                self.gathering.discard(key)

    def begin_snapshot(self) -> None:
        """Its first page is here."""
        self.gathering = set()

    def add_page(self, claims: dict[PresenceKey, Claim]) -> None:
        """A page of a snapshot of which nothing was missed so far."""
        if self.gathering is not None:
            self.change({**claims})

    def end_snapshot(self) -> bool:
        """The last page is here; return whether the whole of it was heard: then this is all that the node claims."""
        told, self.gathering = self.gathering, None
        if told is None:
            return False
        for key in self.claims.by_key.keys() - told:
            self.claims.drop(key)
        self.needs = False
        return True


class Peers:
    """All other nodes."""

    def __init__(self, timing: ClusterTiming, chance: Callable[[], float]) -> None:
        self.by_node: dict[str, Peer] = {}
        self.num_missed = 0
        """Messages that did not come."""
        self.num_unheard = 0
        """Messages of nodes that had left or were too many."""
        self._timing = timing
        self._chance = chance
        self._left: dict[str, float] = {}
        """Nodes that said they leave, and until when that is remembered."""

    def hear(self, node: str, seq: int, now: float) -> tuple[Peer | None, PeerFact | None]:
        """Take note of a message; return who spoke, or None when it is to be ignored, and whether they are new."""
        peer = self.by_node.get(node)
        if peer is None:
            if node in self._left or len(self.by_node) >= MAX_PEERS:
                self.num_unheard += 1
                return None, None
            is_new_born = seq == 1  # nothing of it was missed
            peer = Peer(node, seq + 1, now, is_new_born, not is_new_born, self._soon(now))
            self.by_node[node] = peer
            return peer, PeerFact.JOINED
        if seq < peer.next_seq:
            return None, None
        if seq > peer.next_seq:
            self.num_missed += seq - peer.next_seq
            self.miss(peer, now)
        peer.next_seq = seq + 1
        peer.heard_at = now
        return peer, None

    def miss(self, peer: Peer, now: float) -> None:
        """Something of a peer was not heard."""
        peer.gathering = None
        if not peer.needs:
            peer.needs = True
            peer.ask_at = self._soon(now)

    def miss_all(self, now: float) -> None:
        """Something of anybody may not have been heard."""
        for peer in self.by_node.values():
            self.miss(peer, now)

    def compare(self, peer: Peer, digest: int | None, now: float) -> bool:
        """Compare what a peer says it claims with what is known; return False when that differs and nothing was missed: a fault."""
        if digest is None or peer.needs or peer.gathering is not None or peer.num_refused:
            return True
        if peer.claims.digest == digest:
            return True
        self.miss(peer, now)
        return False

    def wanted(self, now: float) -> list[str]:
        """Return whom to ask for a snapshot now; they are asked again later if it does not come."""
        due = [peer for peer in self.by_node.values() if peer.needs and peer.ask_at <= now]
        for peer in due:
            peer.ask_at = now + self._timing.ask_s
        return [peer.node for peer in due]

    def asked(self, nodes: list[str] | None, now: float) -> None:
        """Somebody else has asked these (None: all): their answers serve us too."""
        for peer in self.by_node.values():
            if peer.needs and (nodes is None or peer.node in nodes):
                peer.ask_at = now + self._timing.ask_s

    def left(self, peer: Peer, now: float) -> None:
        """A peer said that it leaves."""
        del self.by_node[peer.node]
        self._left[peer.node] = now + REMEMBER_LEFT_S

    def pardon_all(self, now: float) -> None:
        """Nobody could be heard until now: everybody has the whole time again."""
        for peer in self.by_node.values():
            peer.heard_at = now

    def bury(self, now: float) -> list[Peer]:
        """Take out and return those that are dead."""
        limit = now - self._timing.dead_s
        dead = [peer for peer in self.by_node.values() if peer.heard_at <= limit]
        for peer in dead:
            del self.by_node[peer.node]
        for node in [node for node, until in self._left.items() if until <= now]:
            del self._left[node]
        return dead

    def _soon(self, now: float) -> float:
        return now + self._chance() * self._timing.jitter_s
