"""What peers say of presence, handed up to the presence actor, which is never waited for.

Owned by the cluster room. When the actor's mailbox is full a peer's changes are dropped and the peer is owed: it is handed over whole
at the next tick that finds room (policy: COALESCE). So the actor comes to the same state, later.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice

from syncd.errors import ActorStopped, MailboxFull
from syncd.model.peers import Peer
from syncd.ports_cluster import (
    Claim,
    PeerChanges,
    PeerClaims,
    PeerCommand,
    PeerGone,
    PresenceChange,
    PresenceKey,
    RestampPresence,
)

__all__ = ["Handing", "Submit"]

Submit = Callable[[Sequence[PeerCommand], int], None]

CHANGES_PER_COMMAND = 500
"""The presence actor lets others run between commands: about 3 ms."""
CHANGE_BYTES = 64


class Handing:
    """Hands over and keeps who is owed."""

    def __init__(self) -> None:
        self.submit: Submit = _nobody
        self.num_overflows = 0
        self._owed: dict[str, Peer | PeerGone] = {}
        self._owes_restamp = False

    def changes(self, peer: Peer, changes: dict[PresenceKey, PresenceChange]) -> None:
        """A peer told changes, which stand in its claims already."""
        if not changes or peer.node in self._owed:
            return
        size = sum(
            CHANGE_BYTES + (len(each.state) if isinstance(each, Claim) else 0)
            for each in changes.values()
        )
        if not self._is_taken([PeerChanges(peer.node, changes)], size):
            self._owed[peer.node] = peer

    def keys(self, peer: Peer) -> None:
        """These are all that a peer claims; the claims were handed on as they came."""
        if peer.node not in self._owed and not self._is_taken(
            [PeerClaims(peer.node, set(peer.claims.by_key))], CHANGE_BYTES
        ):
            self._owed[peer.node] = peer

    def everything(self, peer: Peer) -> None:
        """A peer is known whole, or the presence actor starts anew."""
        held = iter(peer.claims.by_key.items())
        commands: list[PeerCommand] = [PeerClaims(peer.node, set(peer.claims.by_key))]
        size = 0
        while part := dict(islice(held, CHANGES_PER_COMMAND)):
            changes: dict[PresenceKey, PresenceChange] = {**part}
            commands.append(PeerChanges(peer.node, changes))
            size += sum(CHANGE_BYTES + len(claim.state) for claim in part.values())
        if self._is_taken(commands, size):
            self._owed.pop(peer.node, None)
        else:
            self._owed[peer.node] = peer

    def gone(self, node: str, *, is_clean: bool) -> None:
        """A peer is not there any more."""
        command = PeerGone(node, is_clean)
        if self._is_taken([command], CHANGE_BYTES):
            self._owed.pop(node, None)
        else:
            self._owed[node] = command

    def restamp(self) -> None:
        """The cluster's clock is ahead of what was given."""
        self._owes_restamp = not self._is_taken([RestampPresence()], CHANGE_BYTES)

    def retry(self) -> None:
        """Hand over what is owed, where there is room again."""
        if self._owes_restamp:
            self.restamp()
        for node, owed in list(self._owed.items()):
            if isinstance(owed, Peer):
                self.everything(owed)
            else:
                self.gone(node, is_clean=owed.is_clean)

    def _is_taken(self, commands: Sequence[PeerCommand], size_bytes: int) -> bool:
        try:
            self.submit(commands, size_bytes)
        except MailboxFull:
            self.num_overflows += 1
            return False
        except ActorStopped:
            pass  # the node stops
        return True


def _nobody(_commands: Sequence[PeerCommand], _size_bytes: int) -> None:
    """No presence actor is there yet."""
