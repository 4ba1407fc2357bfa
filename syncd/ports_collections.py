"""What rooms ask of each other about collections: commands of the cache-owner and what it tells the broadcaster.

Waiting goes gateway, http -> cache_owner -> presence -> broadcaster -> store. Plain messages; nothing here does anything.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import attrs

from syncd.errors import SyncdError
from syncd.ids import ChannelName, Epoch, Position
from syncd.ports import Identity, PublishEvent, Subscription
from syncd.ports_log import IdempotencyKey
from syncd.ports_state import KeyName

__all__ = [
    "AcknowledgeOutcomes",
    "AddClients",
    "CacheOwnerCommand",
    "CacheOwnerHandle",
    "ClearCache",
    "CommittedEvent",
    "DeliverCommitted",
    "EntriesAnswer",
    "EntryState",
    "InvalidateEntries",
    "MutateState",
    "MutationAsker",
    "NarrowWatch",
    "OutcomeToTell",
    "ReadEntries",
    "RenewChannel",
    "ResumeWatches",
    "SnapshotDrained",
    "WarmCache",
    "WatchChannel",
    "WatchEntries",
    "WatchingHandle",
]

# ------------------------------------------------------------------------------------------------ to the cache-owner


class MutationAsker(Protocol):
    """Whoever waits for the outcome of a mutation: a session, or an HTTP request. Its methods never wait and never raise."""

    def subscription(self, channel: ChannelName) -> Subscription | None:
        """Return its open subscription to a channel: an outcome waits for events owed to that. None for HTTP requests."""

    def send_outcome(self, outcome: bytes, positions: Mapping[ChannelName, Position]) -> None:
        """Tell a decided mutation's outcome (as `wire.encode_outcomes` makes it, without positions)."""

    def send_out_of_order(self, client: str, expect: int) -> None:
        """Tell that an earlier mutation of the client is missing; nothing happened."""

    def refuse_mutation(self, client: str | None, mid: int, error: SyncdError) -> None:
        """Tell that the mutation was not decided; nothing advanced."""


@attrs.define(eq=False)
class MutateState:
    """Decide one mutation. Its client belongs to the session; who may call what was checked already (see `refusal`)."""

    asker: MutationAsker
    client: str | None
    """None for services: nobody numbers their mutations."""
    mid: int
    name: str
    args: object
    identity: Identity
    refusal: str | None = None
    """Code of a rejection that the gateway decided on (permission_denied): it is stored like any outcome, so that the client's
    queue goes on."""
    idempotency: IdempotencyKey | None = None
    """Services only."""
    size_bytes: int = 0
    """About what the arguments take; counted while it waits."""
    asked_at: float = math.inf
    """When it came, on Trio's clock; inf: nobody measures its age."""
    era: str = ""
    """See `MutationCommit.era`."""


@attrs.define(eq=False)
class AcknowledgeOutcomes:
    """Outcomes of a client up to a mutation need not be kept."""

    client: str
    upto: int
    era: str = ""
    """Life of the store that the number is of; see `StateStoreHandle.acknowledge`."""


@attrs.define
class LastMids:
    """The last mutation decided for each of some clients."""

    mids: list[int]
    era: str
    """Life of the store in which that is so (`StateReader.era`)."""


@attrs.define(eq=False)
class AddClients:
    """A session greets with clients it knows: tell the last mutation decided for each, in order.

    Mutations of these clients that were handed over before count. `done` never waits.
    """

    clients: Sequence[str]
    done: Callable[[LastMids | SyncdError], None]


@attrs.define(eq=False)
class WatchEntries:
    """Tell entries, then put the subscription live without a gap. Authorised already; the answer goes to `request_id`.

    The gateway has entered `subscription` (with its `Watch`) in the session's table under `channel`; if the session watches the
    channel already, it is the subscription that is there, to be widened by what is asked now.
    """

    subscription: Subscription
    request_id: int
    collection: str
    channel: ChannelName
    keys: Sequence[KeyName] | None
    """None: all of the channel."""
    have_epoch: str | None = None
    have: Mapping[str, int] = attrs.field(factory=dict)
    position: Position | None = None
    after: Mapping[str, Position] = attrs.field(factory=dict)


@attrs.define(eq=False)
class ResumeWatches:
    """After a crash of the cache-owner: every open watch. A snapshot that is not complete is gone on with after `Watch.page_after`."""

    subscriptions: list[Subscription]


@attrs.define(eq=False)
class SnapshotDrained:
    """Sessions with an incomplete snapshot have room again."""

    subscriptions: list[Subscription]


@attrs.define
class EntryState:
    """What an entry is now: a value, or nothing."""

    key: KeyName
    version: int
    """Of the last change; without an entry the offset up to which that is known."""
    value: bytes | None
    """Encoded msgpack; None: there is no such entry."""


@attrs.define
class EntriesAnswer:
    """Entries in the order they were asked for, as of a position."""

    channel: ChannelName
    position: Position
    entries: list[EntryState]


@attrs.define(eq=False)
class ReadEntries:
    """Tell some entries once, loading those that are not there. Authorised already. `done` never waits."""

    collection: str
    channel: ChannelName
    keys: Sequence[KeyName]
    done: Callable[[EntriesAnswer | SyncdError], None]
    client: str | None = None
    """Whose own writes may not be served stale."""
    after: Mapping[str, Position] = attrs.field(factory=dict)


@attrs.define(eq=False)
class InvalidateEntries:
    """Entries may have changed at their source: by keys, by tags, or (with neither) all of a collection.

    `done` gets the positions of the invalidation events by channel, after their commit.
    """

    collection: str
    done: Callable[[Mapping[ChannelName, Position] | SyncdError], None]
    keys: Sequence[KeyName] = ()
    tags: Sequence[str] = ()
    cause: str | None = None


@attrs.define(eq=False)
class ClearCache:
    """Forget what is in memory of a collection (None: of all). Dirty entries stay; nothing is invalidated. `done` gets counts."""

    collection: str | None
    done: Callable[[Mapping[str, int] | SyncdError], None]


@attrs.define(eq=False)
class WarmCache:
    """Bring entries into memory: these keys, or those that warm-up at start would. `done` gets the number per collection."""

    collection: str | None
    keys: Sequence[KeyName] | None
    done: Callable[[Mapping[str, int] | SyncdError], None]


CacheOwnerCommand = (
    MutateState
    | AcknowledgeOutcomes
    | AddClients
    | WatchEntries
    | ResumeWatches
    | SnapshotDrained
    | ReadEntries
    | InvalidateEntries
    | ClearCache
    | WarmCache
)


class CacheOwnerHandle(Protocol):
    """The cache-owner, as the gateway and HTTP see it."""

    def submit_nowait(self, commands: Sequence[CacheOwnerCommand], size_bytes: int) -> None:
        """Hand over all or none; raises `MailboxFull` or `ActorStopped`."""

    async def submit(self, commands: Sequence[CacheOwnerCommand], size_bytes: int) -> None:
        """Hand over, waiting for room."""

    def channel_of(self, collection: str, keys: Sequence[str]) -> tuple[ChannelName, list[KeyName]]:
        """Check keys of one request and return their channel. Returns at once.

        Raises:
            RequestRejected: permission_denied for an unknown collection, bad_key for a key that is none, bad_request when the keys
                lie in several partitions or there are none.
        """

    def whole_channel(self, collection: str, partition: str | None) -> ChannelName:
        """Check and return the channel of a collection or of one partition. Raises as `channel_of`."""

    def cache_statistics(self) -> dict[str, dict[str, Any]]:
        """Return counts by collection, for operators."""

    def cache_settings(self) -> dict[str, dict[str, Any]]:
        """Return each collection's limits that may change while running: max_entries, max_bytes, ttl_s, stale_s."""

    def change_settings(self, collection: str, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Change limits, effective at once; return all of the collection's.

        Raises:
            RequestRejected: permission_denied for an unknown collection, bad_request for a setting or value that is none.
        """


# ------------------------------------------------------------------------------------------------ to the broadcaster


@attrs.define(eq=False)
class CommittedEvent:
    """An event that the store committed (or the cache-owner, on a volatile channel), with its place."""

    channel: ChannelName
    epoch: Epoch
    offset: int
    at_ms: int
    key: str | None
    record: bytes
    full: bytes | None = None
    """Record with the whole value, when `record` tells a patch: for sessions that skip what the patch applies to."""


@attrs.define(eq=False)
class OutcomeToTell:
    """What to tell an asker once the events of its mutation are queued."""

    asker: MutationAsker
    outcome: bytes
    positions: Mapping[ChannelName, Position]


@attrs.define(eq=False)
class DeliverCommitted:
    """Deliver what a commit brought: its events in the order of their offsets, then publications, then outcomes, in one flush.

    Comes by `put_reply` of the mailbox: never refused, bounded by the groups that the cache-owner has under way.
    """

    events: list[CommittedEvent]
    publications: list[PublishEvent] = attrs.field(factory=list)
    """For channels without a log; nobody waits for their answers."""
    outcomes: list[OutcomeToTell] = attrs.field(factory=list)
    since: float = math.inf
    """When the oldest of the mutations came, on Trio's clock."""


@attrs.define(eq=False)
class WatchChannel:
    """Widen a subscription to `keys` (None: all of the channel) and go on from `since`, behind the prelude.

    If everything after `since` can be had, `prelude` (an encoded `watched`) is queued, then what came after it, then the subscription
    is live. Otherwise nothing happens but `on_lost()`, which never waits. It is also called after a crash of the broadcaster, and
    when the subscription is closed or was ended just now: then `pending_id` is answered, any other request is for the cache-owner to
    answer.
    """

    subscription: Subscription
    keys: Sequence[KeyName] | None
    since: Position
    prelude: bytes
    on_lost: Callable[[], None]
    has_more: bool = False
    """Further pages of the snapshot are to follow: `page_when_drained` is called once the prelude is queued, and not before, as
    the broadcaster may have to read the log first."""
    is_recovered: bool = False
    """The client goes on from what it has: it is told by a `mark` where what it missed ends."""


@attrs.define(eq=False)
class NarrowWatch:
    """Tell these keys no more."""

    subscription: Subscription
    keys: Sequence[KeyName]


@attrs.define(eq=False)
class RenewChannel:
    """A volatile channel has lost its state and begins anew: subscribers are told `lagged` and watch again.

    Of a durable channel it says that commits may not have been told, after a crash of the cache-owner: they are read from the log.
    """

    channel: ChannelName


class WatchingHandle(Protocol):
    """The broadcaster, as the cache-owner sees it."""

    def deliver_committed(self, message: DeliverCommitted | RenewChannel) -> None:
        """Hand over; never refused, returns at once."""

    def submit_nowait(
        self, commands: Sequence[WatchChannel | NarrowWatch], size_bytes: int
    ) -> None:
        """Hand over all or none; raises `MailboxFull` or `ActorStopped`."""

    async def submit(self, commands: Sequence[WatchChannel | NarrowWatch], size_bytes: int) -> None:
        """Hand over, waiting for room."""

    def num_watching(self, channel: ChannelName, key: KeyName) -> int:
        """Return how many subscriptions would be told a change of this entry."""

    def is_watched(self, channel: ChannelName) -> bool:
        """Return whether anybody watches entries of a channel."""
