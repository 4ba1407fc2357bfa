"""What the rooms that know of other nodes ask of each other, as Protocols and plain messages; nothing here does anything.

The bridge's cluster room hears the other nodes. Downwards, presence, the gateway and HTTP tell it what the others are to know and
ask what it knows; upwards it hands the presence actor commands and acts on live sessions. Every call returns at once.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import attrs

from syncd.ids import ChannelName
from syncd.ports_operators import SessionOrders, Target

__all__ = [
    "Claim",
    "ClusterPort",
    "ClusterPresence",
    "ClusterSessions",
    "ClusterTiming",
    "DisconnectOrder",
    "NodeLoad",
    "NodeRow",
    "NodeState",
    "Order",
    "PeerChanges",
    "PeerClaims",
    "PeerCommand",
    "PeerFact",
    "PeerGone",
    "Poll",
    "PresenceChange",
    "PresenceKey",
    "RestampPresence",
    "RevokeOrder",
    "Revoked",
    "SessionsPort",
    "UnsubscribeOrder",
    "Withdrawal",
]

# ------------------------------------------------------------------------------------------------ settings


@attrs.frozen
class ClusterTiming:
    """Durations in seconds. Tests scale them down together; `check` keeps their relations."""

    beat_s: float = 5.0
    """Between two heartbeats of a node."""
    dead_s: float = 15.0
    """A peer unheard for this long, while our own link is up, is dead: three heartbeats."""
    orphan_s: float = 10.0
    """Members of a dead peer stay for this long, so that clients find another node: 15 + 10 s and a tick are under 30."""
    ask_s: float = 5.0
    """A peer that was asked for a snapshot and did not give it whole is asked again after this."""
    jitter_s: float = 1.0
    """Asks and answers of many nodes are spread over this."""
    order_s: float = 0.5
    """An operator waits for counts of other nodes for this long."""

    @classmethod
    def scaled(cls, beat_s: float, dead_s: float, orphan_s: float) -> ClusterTiming:
        """Return these, with the times of asking in proportion."""
        return cls(beat_s, dead_s, orphan_s, ask_s=beat_s, jitter_s=beat_s / 5)

    def check(self) -> None:
        """Raise ValueError where these cannot work together."""
        if self.dead_s < 2 * self.beat_s:
            raise ValueError(f"dead_s ({self.dead_s}) must be 2 x beat_s ({self.beat_s}) or more.")
        if self.ask_s < 2 * self.jitter_s:
            raise ValueError(
                f"ask_s ({self.ask_s}) must be 2 x jitter_s ({self.jitter_s}) or more."
            )


# ------------------------------------------------------------------------------------------------ presence

PresenceKey = tuple[ChannelName, str]
"""Channel and client."""


@attrs.define
class Claim:
    """A node speaks for a client in a channel: what is known of it there."""

    user: str | None
    state: bytes
    """Encoded msgpack."""
    stamp: int
    """When, on the cluster's clock: of two claims of one client the later is the true one."""


@attrs.define
class Withdrawal:
    """A node speaks for the client no longer."""

    stamp: int
    """The client is gone as of this: claims up to it are void."""
    is_moved: bool = False
    """It is not gone: another node has claimed it since, whose word may come later than this one."""


PresenceChange = Claim | Withdrawal


@attrs.define(eq=False)
class PeerChanges:
    """What changed in the presence of another node, in order."""

    node: str
    changes: dict[PresenceKey, PresenceChange]


@attrs.define(eq=False)
class PeerClaims:
    """All that another node claims, by name: whatever else it claimed before is over. The claims were told or follow."""

    node: str
    keys: set[PresenceKey]


@attrs.define(eq=False)
class PeerGone:
    """A node is not there any more."""

    node: str
    is_clean: bool
    """It said so: its clients come back elsewhere within the usual grace. Else it died, and most of that time is over."""


@attrs.define(eq=False)
class RestampPresence:
    """The cluster's clock was found to be ahead of what this node gave as stamps: claim everybody here again."""


PeerCommand = PeerChanges | PeerClaims | PeerGone | RestampPresence


class ClusterPresence(Protocol):
    """The cluster room, as the presence actor sees it."""

    node: str
    """This node's name."""
    timing: ClusterTiming

    def next_stamp(self) -> int:
        """Return a stamp later than all that this node has given or seen."""

    def told(self, changes: dict[PresenceKey, PresenceChange]) -> None:
        """Tell the peers what changed in the presence of this node's sessions. The dict is the room's from now on."""

    def presence_anew(self) -> None:
        """The presence actor starts anew, with nothing.

        Everybody of this node is announced again, and of the peers the room submits everything; who is not announced within a
        second or two has left.
        """


# ------------------------------------------------------------------------------------------------ sessions


@attrs.frozen
class Revoked:
    """One revocation."""

    until_s: float
    """Wall clock."""
    user: str | None = None
    token_id: str | None = None
    """One of the two is given."""


class SessionsPort(SessionOrders, Protocol):
    """What the cluster room does to the sessions of this node for the others. Effective when it returns."""

    def take_away(self, client: str, stamp: int) -> int | None:
        """A session of another node speaks for the client since `stamp`: end it here, as a newer session here would.

        Returns:
            None when that was done or nobody here speaks for it; else the later stamp at which a session here took it.
        """

    def raise_term(self, user: str | None, group: str, term: int) -> int:
        """A session of a group is elsewhere: older ones here may not mutate any more. Returns the term known here, 0 for none."""

    def terms(self) -> Iterable[tuple[str | None, str, int]]:
        """Return user, group and term of every group with sessions here."""

    def revoked(self) -> Iterable[Revoked]:
        """Return all revocations that stand."""

    def add_revoked(self, revoked: Iterable[Revoked]) -> int:
        """Take over revocations of a peer, and close the sessions of those that are new here. Returns how many were closed."""


class ClusterSessions(Protocol):
    """The cluster room, as the gateway sees it."""

    def took_over(self, clients: Sequence[str]) -> int:
        """A `hello` named clients that may have spoken elsewhere before: tell the peers. Returns the stamp of it."""

    def entered(self, user: str | None, group: str, term: int) -> None:
        """A session of a group with a term said hello."""


# ------------------------------------------------------------------------------------------------ operators


@attrs.frozen
class DisconnectOrder:
    """`GatewayPort.disconnect`, everywhere."""

    target: Target
    reconnect: bool
    reason: str


@attrs.frozen
class UnsubscribeOrder:
    """`GatewayPort.unsubscribe`, everywhere."""

    target: Target
    channel: ChannelName


@attrs.frozen
class RevokeOrder:
    """`GatewayPort.revoke`, everywhere. The time is never left open: all nodes are to mean the same."""

    target: Target
    until_s: float


Order = DisconnectOrder | UnsubscribeOrder | RevokeOrder


@attrs.define(eq=False)
class Poll:
    """One order on its way: who has answered with how many sessions. `on_answer` is called at each answer."""

    id: int
    expected: frozenset[str]
    """Peers that were alive when it was given."""
    on_answer: Callable[[], None]
    answers: dict[str, int] = attrs.field(factory=dict)

    @property
    def is_complete(self) -> bool:
        """Whether everybody has answered."""
        return len(self.answers) >= len(self.expected)


class NodeState(enum.Enum):
    """What is known of a node."""

    ALIVE = "alive"
    SILENT = "silent"
    """Two heartbeats are missing, or our own link is down: it may be dead."""


@attrs.frozen
class NodeLoad:
    """What a node tells of itself with every heartbeat."""

    version: str
    address: str
    """Where it listens, as it sees it."""
    num_connections: int
    num_sessions: int
    loop_lag_ms: float
    store_lag_ms: float
    """How long its store lately took to answer."""
    started_at_ms: int
    """Wall clock, milliseconds since 1970."""


@attrs.frozen
class NodeRow:
    """One node, as another one knows it."""

    node: str
    is_self: bool
    state: NodeState
    heard_ago_s: float
    num_members: int
    """Clients that it says are present, counted once a channel."""
    load: NodeLoad | None
    """None: no heartbeat heard yet."""


class PeerFact(enum.Enum):
    """What became of a peer."""

    JOINED = "joined"
    LEFT = "left"
    """It said so."""
    DIED = "died"


class ClusterPort(Protocol):
    """The cluster room, as HTTP sees it."""

    timing: ClusterTiming

    def nodes(self) -> list[NodeRow]:
        """Return all nodes that are known, this one first."""

    def order(self, order: Order, on_answer: Callable[[], None]) -> Poll:
        """Have all peers carry out an order. Their answers come into the poll; who waits for them has to `forget` it."""

    def forget(self, poll: Poll) -> None:
        """Nobody waits for this any more."""
