"""What one simulated run consists of: everything that a seed decides beforehand."""

from __future__ import annotations

import random

import attrs

from syncd.config import Action, Config, HistoryKind, Limits, Mode, Namespace, Timing

__all__ = ["CHANNELS", "Plan", "make_config"]

CHANNELS = ("log:a", "log:b", "short:a", "mem:a", "top:a", "hot:a")
"""Durable streams (`short` with little retention), a memory stream, and a durable and a memory `latest` channel."""

_ANYONE: dict[Action, tuple[str, ...]] = dict.fromkeys(Action, ("anyone",))


@attrs.frozen
class Plan:
    """One run. Rates are mean times between two events of their kind; durations are virtual seconds."""

    seed: int
    num_clients: int
    duration_s: float = 20.0
    """Of the troubled part; a calm part follows until everything has settled."""
    think_s: float = 0.25
    """Between two operations of a client."""
    cut_every_s: float = 4.0
    """Between two faults of links, all clients together."""
    crash_every_s: float = 6.0
    """Between two deaths of the process."""
    actor_crash_every_s: float = 25.0
    price_every_s: float = 1.0
    """Between two changes of a backend's."""
    down_s: float = 1.0
    """Mean time until the process is started again."""
    latency_s: float = 0.02
    split: float = 0.3
    """Share of writes that arrive in pieces."""
    window_bytes: int = 65_536
    """What a link holds before its sender has to wait."""
    disk_s: float = 0.004
    """Mean time of a job of the disk's."""
    source_s: float = 0.02
    """Mean time of a call of the application's database."""
    account_ttl_s: float = 3.0
    """How long the node takes what a source said for so."""
    outbox_bytes: int = 1_048_576
    recovery_bytes: int = 262_144
    recovery_events: int = 10_000
    num_nodes: int = 1
    """Of several, each has its way to one store, which tells them of each other's commits."""
    store_away_every_s: float = 8.0
    """Between two times that the store of several nodes is away."""
    bus_cut_every_s: float = 2.0
    """Between two cuts of a node's way to the others."""
    failovers: float = 0.0
    """Share of the times that the store is away after which it is another one, with what it was fed last and no word of the rest."""
    bus_latency_s: float = 0.0
    """Mean time until a node hears what another commits; 0: a quarter of `latency_s`."""
    late_commits: float = 0.0
    """Share of the commits of several nodes that take effect after their node has given up."""
    audit_every_s: float = 0.0
    """Between two looks at what one of several nodes tells of a collection, while also its rooms are looked at; 0: none but at the end."""
    read_back: float = 0.0
    """Share of the mutations on several nodes that their client reads back as soon as it knows that they are done."""
    replica_every_s: float = 0.5
    """Between two times that the other one is fed."""

    @classmethod
    def from_seed(cls, seed: int, **changes: object) -> Plan:
        """Draw a plan; `changes` overrule what was drawn."""
        rng = random.Random(f"plan {seed}")
        drawn: dict[str, object] = {
            "num_clients": rng.randint(3, 8),
            "duration_s": rng.choice((3.0, 6.0, 10.0)),
            "think_s": rng.choice((0.1, 0.3, 0.6)),
            "cut_every_s": rng.choice((0.7, 2.0, 5.0)),
            "crash_every_s": rng.choice((1.5, 3.0, 8.0)),
            "actor_crash_every_s": rng.choice((4.0, 15.0)),
            "down_s": rng.choice((0.1, 1.0)),
            "latency_s": rng.choice((0.001, 0.02, 0.2)),
            "split": rng.choice((0.0, 0.3)),
            "window_bytes": rng.choice((2048, 65_536)),
            "disk_s": rng.choice((0.0005, 0.004, 0.05)),
            "outbox_bytes": rng.choice((8192, 1_048_576)),
            "recovery_bytes": rng.choice((600, 262_144)),
            "recovery_events": rng.choice((40, 10_000)),
            "source_s": rng.choice((0.02, 0.2)),
            "account_ttl_s": rng.choice((0.3, 3.0)),
            "failovers": rng.choice((0.0, 0.0, 0.7)),
            "store_away_every_s": rng.choice((2.0, 8.0)),
            "bus_latency_s": rng.choice((0.0005, 0.02, 0.2, 2.0)),
            "late_commits": rng.choice((0.0, 0.03, 0.15)),
            "audit_every_s": rng.choice((0.0, 0.05, 0.05, 0.3)),
            "read_back": rng.choice((0.0, 0.5)),
        }
        return cls(seed, **{**drawn, **changes})  # type: ignore[arg-type]


def make_config(plan: Plan) -> Config:
    """Return the node's configuration: like a real one, with less room, so that bounds are met."""
    durable, memory = HistoryKind.DURABLE, HistoryKind.MEMORY
    namespaces = (
        Namespace("log", history=durable, allow=_ANYONE),
        Namespace("short", history=durable, history_size=12, allow=_ANYONE),
        Namespace("mem", history=memory, history_size=60, allow=_ANYONE),
        Namespace("top", mode=Mode.LATEST, history=durable, history_size=50, allow=_ANYONE),
        Namespace("hot", mode=Mode.LATEST, history=memory, history_size=50, allow=_ANYONE),
    )
    return Config(
        driver="stream",
        namespaces={namespace.name: namespace for namespace in namespaces},
        limits=Limits(
            outbox_bytes=plan.outbox_bytes,
            recovery_bytes=plan.recovery_bytes,
            recovery_events=plan.recovery_events,
        ),
        timing=Timing(ping_s=6.0, pong_slack_s=2.0, slow_client_s=4.0, stop_s=2.0),
    )
