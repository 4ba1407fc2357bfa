"""Collections as sessions speak of them: mutations, reads and watches, checked and handed to the cache-owner.

Owner of nothing: watches stand in the sessions' subscription tables, entries and outcomes with the cache-owner.
"""

from __future__ import annotations

from syncd.codes import ErrorCode
from syncd.config import Config
from syncd.errors import RequestRejected
from syncd.gateway import grants as g
from syncd.gateway.connection import Connection, was_live
from syncd.gateway.hub import Hub
from syncd.gateway.pages import RETRY_MS, EntriesAsker
from syncd.gateway.terms import is_stale
from syncd.ids import ChannelName, Position
from syncd.ports import Subscription, UnsubscribeChannel, Watch
from syncd.ports_collections import (
    AcknowledgeOutcomes,
    CacheOwnerHandle,
    MutateState,
    NarrowWatch,
    ReadEntries,
    WatchEntries,
)
from syncd.ports_state import KeyName
from syncd.wire import messages as m

__all__ = ["MAX_ASKED", "Collections"]

MAX_ASKED = 64
"""Watch requests of one channel before the first of them is answered."""

_DENIED = "permission_denied"
"""Rejection of a mutation; `codes.Rejection` has the same."""


class Collections:
    """Handles `mutate`, `mutate_ack`, `watch`, `unwatch` and `read`."""

    def __init__(self, hub: Hub, config: Config, grants: g.Grants) -> None:
        self._hub = hub
        self._config = config
        self._grants = grants

    # ---------------------------------------------------------------- mutations

    def mutate(self, connection: Connection, message: m.Mutate) -> None:
        """Check who and by which right, and ask the cache-owner.

        A denial goes there too: it is decided like any outcome, in the order of the client's mutations.
        """
        client, clients, hub = message.client, connection.clients, self._hub
        if client is None and clients:
            client = clients[0]
        try:
            if client not in clients:
                raise RequestRejected(
                    ErrorCode.CLIENT_DENIED, "This session does not speak for it."
                )
            if connection.group is not None and is_stale(connection):
                raise RequestRejected(ErrorCode.STALE_TERM)
            if hub.cache_owner is None:
                raise RequestRejected(ErrorCode.PERMISSION_DENIED)
            is_allowed = self._grants.may_call(connection, message.name, message.args)
        except RequestRejected as error:
            connection.refuse_mutation(client, message.mid, error)
            return
        hub.num_mutations += 1
        lane = hub.to_cache_owner
        lane.size_bytes += hub.charge()
        lane.append(
            MutateState(
                connection,
                client,
                message.mid,
                message.name,
                message.args,
                connection.identity,
                None if is_allowed else _DENIED,
                asked_at=hub.now,
                era=connection.era,
            )
        )

    def acknowledge(self, connection: Connection, message: m.MutateAck) -> None:
        """Pass it on. One of a session that a newer term took over does not count: the newer one may still want the outcomes."""
        client = message.client or (connection.clients[0] if connection.clients else "")
        if client not in connection.clients:
            raise RequestRejected(ErrorCode.CLIENT_DENIED, "This session does not speak for it.")
        if self._hub.cache_owner is not None and not is_stale(connection):
            self._hub.to_cache_owner.append(
                AcknowledgeOutcomes(client, message.upto, connection.era)
            )

    # ---------------------------------------------------------------- reading, watching

    def read(self, connection: Connection, message: m.Read) -> None:
        """Check and ask the cache-owner."""
        channel, keys = self._channel_of(connection, message.collection, message.keys)
        asker = EntriesAsker(connection, message.id)
        hub = self._hub
        hub.num_reads += 1
        hub.to_cache_owner.size_bytes += hub.charge()
        hub.to_cache_owner.append(
            ReadEntries(
                message.collection,
                channel,
                keys,
                asker.answer,
                connection.clients[0] if connection.clients else None,
                _after(connection, channel, message.after),
            )
        )

    def watch(self, connection: Connection, message: m.Watch) -> None:
        """Check, enter the watch in the session's table unless it is there, and ask the cache-owner."""
        keys: list[KeyName] | None = None
        if (message.keys is not None) + message.all + (message.partition is not None) != 1:
            text = "Exactly one of keys, all and partition says what to watch."
            raise RequestRejected(ErrorCode.BAD_REQUEST, text)
        if message.keys is not None:
            channel, keys = self._channel_of(connection, message.collection, message.keys)
        else:
            channel = self._whole_channel(connection, message.collection, message.partition)
        subscription = self._enter(connection, channel, message.id)
        have, hub = message.have, self._hub
        hub.num_watches += 1
        hub.to_cache_owner.size_bytes += hub.charge()
        hub.to_cache_owner.append(
            WatchEntries(
                subscription,
                message.id,
                message.collection,
                channel,
                keys,
                have_epoch=None if have is None else have.epoch,
                have={} if have is None else have.versions,
                position=message.position,
                after=_after(connection, channel, message.after),
            )
        )

    def _enter(self, connection: Connection, channel: ChannelName, request_id: int) -> Subscription:
        """Return the session's watch of a channel, new or there already, with this request noted."""
        subscription = connection.subscription(channel)
        if subscription is None:
            subscription = Subscription(
                connection, channel, pending_id=request_id, watch=Watch(set())
            )
            connection.enter(subscription, self._config.limits.subscriptions)
        watch = subscription.watch
        assert watch is not None
        if not was_live(subscription):
            if len(watch.asked) >= MAX_ASKED:
                raise RequestRejected(ErrorCode.RATE_LIMITED, after_ms=RETRY_MS)
            watch.asked.append(request_id)
        elif watch.asked:
            watch.asked.clear()
        return subscription

    def unwatch(self, connection: Connection, message: m.Unwatch) -> None:
        """End a watch, nothing of the channel follows the ok; or narrow it by keys."""
        subscription, keys = self._watched(connection, message)
        if keys is None:
            connection.release(subscription)
            self._hub.to_broadcaster.append(UnsubscribeChannel(subscription))
        else:
            self._hub.to_broadcaster.append(NarrowWatch(subscription, keys))
        connection.reply_ok(message.id)

    def _watched(
        self, connection: Connection, message: m.Unwatch
    ) -> tuple[Subscription, list[KeyName] | None]:
        """Return the watch that is meant. What cannot be a watch is told like what is none: nothing is learnt by asking."""
        owner, keys = self._owner(), None
        try:
            if message.keys is None:
                channel = owner.whole_channel(message.collection, message.partition)
            else:
                channel, keys = owner.channel_of(message.collection, message.keys)
        except RequestRejected:
            raise RequestRejected(ErrorCode.NOT_WATCHED) from None
        subscription = connection.subscription(channel)
        is_elsewhere = message.partition is not None and not channel.endswith(
            f"/{message.partition}"
        )
        if subscription is None or is_elsewhere:
            raise RequestRejected(ErrorCode.NOT_WATCHED)
        return subscription, keys

    # ---------------------------------------------------------------- which channel, and whether it may be known

    def _owner(self) -> CacheOwnerHandle:
        owner = self._hub.cache_owner
        if owner is None:
            raise RequestRejected(ErrorCode.PERMISSION_DENIED)
        return owner

    def _channel_of(
        self, connection: Connection, collection: str, keys: list[str]
    ) -> tuple[ChannelName, list[KeyName]]:
        try:
            channel, names = self._owner().channel_of(collection, keys)
        except RequestRejected as error:
            raise self._told(connection, collection, error) from None
        self._grants.require_read(connection, channel)
        return channel, names

    def _whole_channel(
        self, connection: Connection, collection: str, partition: str | None
    ) -> ChannelName:
        try:
            channel = self._owner().whole_channel(collection, partition)
        except RequestRejected as error:
            raise self._told(connection, collection, error) from None
        self._grants.require_read(connection, channel)
        return channel

    def _told(
        self, connection: Connection, collection: str, error: RequestRejected
    ) -> RequestRejected:
        """What is wrong with keys is told only to those who may know that there is such a collection."""
        if error.code is not ErrorCode.PERMISSION_DENIED:
            self._grants.require_read(connection, ChannelName(collection))
        return error


def _after(
    connection: Connection, channel: ChannelName, asked: dict[str, Position]
) -> dict[str, Position]:
    """Return what an answer about this channel has to have seen: as the request has it and as `hello` had it."""
    position, earlier = asked.get(channel), (connection.after or {}).get(channel)
    if position is None or (
        earlier is not None and earlier.epoch == position.epoch and earlier.offset > position.offset
    ):
        position = earlier
    return {} if position is None else {channel: position}
