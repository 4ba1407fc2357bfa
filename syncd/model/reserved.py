"""The server's own namespaces, whose names begin with `$`, and who is an operator.

Nobody configures them, no application publishes there; what they carry is told by the node alone (`syncd.news`). Whoever is no operator is
answered as for a channel that does not exist.
"""

from __future__ import annotations

import attrs

from syncd.config import Action, HistoryKind, Mode, Namespace
from syncd.ids import ChannelName
from syncd.ports import Identity

__all__ = [
    "ADMIN_ROLE",
    "AUDIT_CHANNEL",
    "JOBS_CHANNEL",
    "JOBS_KEPT",
    "RESERVED",
    "STATS_CHANNEL",
    "is_admin",
    "is_reserved",
    "progress_channel",
    "reserved_in_force",
    "who_of",
]

ADMIN_ROLE = "admin"
"""In the `roles` of a token: an operator."""

_OPERATORS = (f"role:{ADMIN_ROLE}",)
_KEYS_KEPT = 64
"""Of a channel that tells a state: enough for one that tells it in parts."""
AUDIT_KEPT = 1000
AUDIT_AGE_S = 90 * 86_400.0
JOBS_KEPT = 100
"""Rebuilds; `rebuild_plan.MAX_ENDED` holds as many in memory."""

AUDIT_CHANNEL = ChannelName("$audit:node")
"""What operators did, one event each."""
JOBS_CHANNEL = ChannelName("$jobs:node")
"""Rebuilds as they were started and as they ended, by their id."""
STATS_CHANNEL = ChannelName("$node:stats")
"""How the node stands, once a second while somebody is subscribed."""

RESERVED: tuple[Namespace, ...] = (
    Namespace(
        "$node",
        mode=Mode.LATEST,
        history_size=_KEYS_KEPT,
        allow={Action.SUBSCRIBE: _OPERATORS},
    ),
    Namespace(
        "$rebuild",
        mode=Mode.LATEST,
        history_size=_KEYS_KEPT,
        allow={Action.SUBSCRIBE: _OPERATORS},
    ),
    Namespace(
        "$jobs",
        mode=Mode.LATEST,
        history=HistoryKind.DURABLE,
        history_size=JOBS_KEPT,
        history_age_s=AUDIT_AGE_S,
        allow={Action.SUBSCRIBE: _OPERATORS, Action.HISTORY: _OPERATORS},
    ),
    Namespace(
        "$audit",
        history=HistoryKind.DURABLE,
        history_size=AUDIT_KEPT,
        history_age_s=AUDIT_AGE_S,
        allow={Action.SUBSCRIBE: _OPERATORS, Action.HISTORY: _OPERATORS},
    ),
)
"""All there are."""


def reserved_in_force(*, is_shared: bool) -> list[Namespace]:
    """Return them as a broadcaster has them. Where nodes share a store, what one tells of a rebuild is told on all."""
    return [
        attrs.evolve(each, history=HistoryKind.DURABLE)
        if is_shared and each.name == "$rebuild"
        else each
        for each in RESERVED
    ]


def is_reserved(channel: str) -> bool:
    """Tell whether a channel is the server's own, or would be."""
    return channel.startswith("$")


def progress_channel(collection: str) -> ChannelName:
    """Return where the progress of a collection's rebuilds is told."""
    return ChannelName(f"$rebuild:{collection}")


def is_admin(identity: Identity) -> bool:
    """Tell whether somebody is an operator: a backend with an API key, or a token with the role."""
    return identity.service is not None or ADMIN_ROLE in identity.roles


def who_of(identity: Identity) -> str:
    """Return how the audit log names somebody: `service:` and the name of the key, or `user:` and the subject of the token."""
    return f"user:{identity.user}" if identity.service is None else f"service:{identity.service}"
