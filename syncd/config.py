"""What a node is told at start: one frozen tree, built by `load_config`, checked as a whole.

The relations between settings are checked by `check_config`, so that a node that starts can keep its promises.
"""

from __future__ import annotations

import enum

import attrs

__all__ = [
    "Action",
    "Address",
    "AuthSettings",
    "CollectionSettings",
    "Config",
    "HistoryKind",
    "Limits",
    "Mode",
    "Namespace",
    "Timing",
    "WorkerSeat",
]


class Mode(enum.Enum):
    """What a channel of a namespace is."""

    STREAM = "stream"
    """Every event counts and is delivered in order."""
    LATEST = "latest"
    """The newest value per key counts; older ones may be skipped."""
    EPHEMERAL = "ephemeral"
    """Events are for those who are there; nothing is kept, nothing has a position."""
    COLLECTION = "collection"
    """Entries of a collection: made by the application, never a namespace of the configuration."""


class HistoryKind(enum.Enum):
    """Where a namespace's events are kept."""

    NONE = "none"
    MEMORY = "memory"
    DURABLE = "durable"


class Action(enum.Enum):
    """What a rule allows."""

    SUBSCRIBE = "subscribe"
    PUBLISH = "publish"
    PRESENCE = "presence"
    HISTORY = "history"


@attrs.frozen
class Namespace:
    """Options shared by all channels `name:*`."""

    name: str
    mode: Mode = Mode.STREAM
    history: HistoryKind = HistoryKind.MEMORY
    history_size: int = 1000
    """Events kept a channel (latest: keys kept)."""
    history_age_s: float = 86_400.0
    presence: bool = False
    max_data_bytes: int = 65_536
    """Largest encoded `data` of one event."""
    allow: dict[Action, tuple[str, ...]] = attrs.field(factory=dict)
    """Rules per action, any of which admits: `anyone`, `authenticated`, `role:x`, `owner`, `claim:name`."""


@attrs.frozen
class CollectionSettings:
    """The operator's side of one collection. What is None stays as the application has it."""

    name: str
    read: tuple[str, ...] | None = None
    """Rules as of a namespace, any of which admits; also for `watch`."""
    mutate: tuple[str, ...] | None = None
    """Who may call the collection's own mutators."""
    write: tuple[str, ...] | None = None
    """Who may call the built-in ones: `put`, `patch`, `delete`, `incr`."""
    max_entries: int | None = None
    """In memory."""
    max_bytes: int | None = None
    """Of entries in memory, of all partitions together."""


@attrs.frozen
class Address:
    """Where to listen: TCP `host` and `port`, or `path` of a Unix socket."""

    host: str = "127.0.0.1"
    port: int = 8400
    path: str | None = None


@attrs.frozen
class Limits:
    """Bounds on what peers can make a node hold or do. Rates are per session."""

    head_bytes: int = 16_384
    frame_bytes: int = 65_536
    """Largest WebSocket message accepted."""
    hello_bytes: int = 4096
    fragments: int = 64
    connections: int = 0
    """0: four fifths of the file-descriptor limit."""
    connections_per_address: int = 0
    """0: no limit (behind a proxy all clients share an address)."""
    connections_per_user: int = 100
    accept_per_s: float = 0.0
    """0: no limit. Above it connections are answered 503 with Retry-After."""
    messages_per_s: float = 1000.0
    messages_burst: int = 2000
    subscriptions: int = 128
    errors: int = 100
    """Bad messages on one connection before it is closed."""
    outbox_bytes: int = 1_048_576
    recovery_bytes: int = 262_144
    """Missed events above this follow `subscribed` as paced frames."""
    recovery_events: int = 10_000
    """A client further behind is told `recovered: false`."""
    presence_state_bytes: int = 4096
    presence_members: int = 10_000
    """Per channel."""
    channels: int = 100_000
    """Memory channels a node keeps state for."""
    memory_bytes: int = 1_073_741_824
    """Of events in memory, all channels together; beyond it the oldest channels without subscribers lose theirs."""
    read_bytes_per_tick: int = 16_384
    send_buffer_bytes: int = 262_144
    """SO_SNDBUF; 0 leaves the system's default."""


@attrs.frozen
class Timing:
    """Durations in seconds. Tests scale them down together."""

    handshake_s: float = 10.0
    hello_s: float = 10.0
    ping_s: float = 25.0
    pong_slack_s: float = 10.0
    slow_client_s: float = 10.0
    """A client that drains nothing for this long is closed."""
    presence_grace_s: float = 15.0
    presence_diff_s: float = 0.1
    """Diffs of a channel are gathered for this long."""
    node_beat_s: float = 5.0
    """Between two signs of life that a node of a cluster gives the others."""
    node_dead_s: float = 15.0
    """A node that is not heard for this long is dead."""
    node_orphan_s: float = 10.0
    """Members of a dead node stay for this long, so that they can come back elsewhere."""
    close_s: float = 5.0
    """Wait for the peer's close frame."""
    stop_s: float = 10.0
    http_request_s: float = 30.0
    idempotency_s: float = 86_400.0
    tick_s: float = 0.25
    """The one coarse timer."""
    stall_s: float = 1.0
    """A loop that stands still for longer is told in the log, with the stack of what holds it."""


@attrs.frozen
class AuthSettings:
    """How tokens are checked. No key configured: no token is accepted."""

    algorithms: tuple[str, ...] = ()
    """From HS256, RS256, EdDSA."""
    hmac_secret: str | None = attrs.field(default=None, repr=False)
    hmac_kid: str | None = None
    """`kid` that HS256 tokens may carry; those without one are taken anyway, other ones never."""
    public_keys: dict[str, str] = attrs.field(factory=dict)
    """`kid` to PEM; the key `""` serves tokens without `kid`."""
    audience: str | None = None
    issuer: str | None = None
    leeway_s: float = 30.0
    anonymous: bool = True
    """Whether a session without a token may exist at all (rules still decide what it may do)."""


@attrs.frozen
class WorkerSeat:
    """The place of one process among those that share a machine's port. Given by their parent, never by a configuration."""

    index: int
    count: int
    folder: str
    """Where the workers' sockets are, by which they ask each other for metrics."""
    lifeline: int
    """File descriptor that is readable when the parent is gone."""
    ports: tuple[int, int] = (0, 0)
    """What `listen` and `api_listen` are to bind, where the system was to choose."""
    is_known_away: bool = False
    """The process that had this seat before could not reach the store, and has said so: once is enough."""

    def socket_of(self, index: int) -> str:
        """Return the socket of a worker, which is there as soon as it has reached its store, and after its end."""
        return f"{self.folder}/{index}.sock"


def _default_namespaces() -> dict[str, Namespace]:
    anyone = ("anyone",)
    return {
        "demo": Namespace(
            "demo",
            history=HistoryKind.DURABLE,
            presence=True,
            allow=dict.fromkeys(Action, anyone),
        ),
        "live": Namespace(
            "live",
            mode=Mode.EPHEMERAL,
            history=HistoryKind.NONE,
            allow={Action.SUBSCRIBE: anyone, Action.PUBLISH: anyone},
        ),
    }


@attrs.frozen
class Config:
    """Everything one node needs to know."""

    listen: Address = Address()
    api_listen: Address | None = None
    """Own address for HTTP; the shared port then serves `/ws` alone."""
    db: str = "syncd.db"
    """SQLite file, or `:memory:` for a store that forgets."""
    redis: str | None = attrs.field(default=None, repr=False)
    """URL of the Redis that this node shares with others; `db` is not used then. It may hold a password."""
    redis_prefix: str = "syncd"
    """What the names of all keys begin with: two installations that share a Redis differ in it."""
    workers: int = 1
    """Processes that share `listen`, each a node of its own; more than one needs `redis`."""
    seat: WorkerSeat | None = None
    """Of this process, when it is one of several."""
    tls_cert: str | None = None
    tls_key: str | None = None
    origins: tuple[str, ...] = ()
    """Origins browsers may come from, besides the same host. `*` admits all."""
    hosts: tuple[str, ...] = ()
    """Host names answered besides loopback ones; `*` admits all. Empty and not on loopback: all."""
    trusted_proxies: tuple[str, ...] = ()
    """Networks whose `X-Forwarded-For` is believed."""
    api_keys: dict[str, str] = attrs.field(factory=dict, repr=False)
    """Name to key."""
    insecure: bool = False
    driver: str = "auto"
    """`epoll`, `stream` or `auto`."""
    log_format: str = "console"
    log_level: str = "info"
    namespaces: dict[str, Namespace] = attrs.field(factory=_default_namespaces)
    collections: dict[str, CollectionSettings] = attrs.field(factory=dict)
    limits: Limits = Limits()
    timing: Timing = Timing()
    auth: AuthSettings = AuthSettings()
