"""What nodes say to each other on the bus's topic of nodes; `peer_codec` has how that is written. Pure data."""

from __future__ import annotations

import attrs

from syncd.ports_cluster import (
    Claim,
    NodeLoad,
    Order,
    PresenceChange,
    PresenceKey,
    Revoked,
)

__all__ = [
    "Ask",
    "Beat",
    "Changes",
    "Heard",
    "Leaving",
    "OrderDone",
    "OrderGiven",
    "Page",
    "PeerMessage",
    "Taken",
    "Term",
    "Terms",
]

Term = tuple[str | None, str, int]
"""User, group and term."""


@attrs.define
class Beat:
    """A sign of life, and what can be seen of the node."""

    load: NodeLoad
    stamp: int
    """The latest that it has given or seen."""
    num_members: int
    digest: int | None
    """Of what it claims, as told so far; None: not all of it could be told."""


@attrs.define
class Changes:
    """What changed in the node's presence."""

    changes: dict[PresenceKey, PresenceChange]


@attrs.define
class Page:
    """A part of a snapshot. Between its first and last page changes may stand."""

    is_first: bool
    is_last: bool
    claims: dict[PresenceKey, Claim]
    revoked: list[Revoked]
    terms: list[Term]


@attrs.define
class Ask:
    """A snapshot is wanted of these nodes; None: of all."""

    nodes: list[str] | None


@attrs.define
class OrderGiven:
    """An operator's order, to all."""

    id: int
    order: Order


@attrs.define
class OrderDone:
    """How many sessions an order touched."""

    node: str
    """Who had given it."""
    id: int
    count: int


@attrs.define
class Taken:
    """Clients that sessions of the node speak for, since when."""

    clients: list[tuple[str, int]]


@attrs.define
class Terms:
    """Groups that have sessions at the node."""

    terms: list[Term]


@attrs.define
class Leaving:
    """The node stops."""


PeerMessage = Beat | Changes | Page | Ask | OrderGiven | OrderDone | Taken | Terms | Leaving


@attrs.define
class Heard:
    """One message, from whom, and its place in what that node says."""

    node: str
    seq: int
    message: PeerMessage
