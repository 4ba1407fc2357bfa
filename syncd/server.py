"""One node, wired from its configuration: what is made, in which order it starts, how it stops.

Start order is the waiting order read backwards: store, broadcaster, presence, HTTP, gateway. Stopping goes the other way, each step with a
deadline, so that whoever produces stops before whoever consumes. `Node` is also what tests run inside their own process.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import signal
import socket
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any

import structlog
import trio

from syncd.actors.bridge import Bridge
from syncd.actors.bridge.cluster import ClusterRoom
from syncd.actors.broadcaster import Broadcaster
from syncd.actors.cache_owner import CacheOwner
from syncd.actors.kit import ActorHealth, NodeFailed
from syncd.actors.presence import Presence
from syncd.actors.rebuild_coordinator import RebuildCoordinator
from syncd.actors.store import StoreActor
from syncd.audit_trail import AuditTrail
from syncd.config import Config
from syncd.config_check import is_loopback
from syncd.errors import ConfigError
from syncd.gateway.admin import GatewayAdmin
from syncd.gateway.authorizer import AuthorizerCalls
from syncd.gateway.gateway import Gateway, bind
from syncd.gateway.grants import Grants
from syncd.gateway.heads import Heads
from syncd.gateway.hub import Hub
from syncd.gateway.sessions import Sessions
from syncd.http.app import create_app
from syncd.http.operator_api import Operating
from syncd.http.ports import NodeStatistics
from syncd.http.serving import HttpServer
from syncd.http.siblings import Siblings
from syncd.ids import Epoch
from syncd.ladder import Ladder
from syncd.loop_lag import LoopLag
from syncd.membership import Membership
from syncd.model.admin_sessions import AdminSessions, NodeTokens
from syncd.model.client_secrets import ClientSecrets
from syncd.model.definitions import AppDefinition
from syncd.model.permissions import Permissions
from syncd.model.reserved import RESERVED
from syncd.model.revocations import Revocations
from syncd.model.state_permissions import StatePermissions
from syncd.model.tokens import TokenVerifier
from syncd.news import News
from syncd.node_parts import (
    calm_collector,
    new_name,
    open_store,
    own_namespaces,
    raise_file_limit,
    return_large_values,
    ssl_context,
    url_of,
)
from syncd.resuming import Resuming
from syncd.runtime import Runtime
from syncd.stats import Stats
from syncd.stop_signals import open_stop_signals
from syncd.store.base import NODE_SECRET, Store, StoreFailed
from syncd.surroundings import REAL, Surroundings
from syncd.upkeep import Upkeep
from syncd.watchdog import Watchdog

__all__ = ["Node", "open_node", "serve"]

_log = structlog.get_logger("syncd.server")


class Node:
    """A node and its parts. Made by `open_node`; implements `http.ports.NodeInfo`."""

    def __init__(
        self,
        config: Config,
        store: Store,
        app: AppDefinition | None = None,
        surroundings: Surroundings = REAL,
        name: str = "",
    ) -> None:
        """Make its parts; nothing runs yet.

        Args:
            config: In force already, as is `app`.
            store: Open; closed by the node.
            surroundings, name: Clocks and the like; its own among those that share the store, as that was told.
        """
        self.name = name or new_name(surroundings)
        self.config = config
        self.app = app or AppDefinition()
        self.surroundings = surroundings
        self.version = importlib.metadata.version("syncd")
        self.started_at_ms = int(surroundings.wall_s() * 1000)
        self._started_at = trio.current_time()
        self._lag, self._ladder = LoopLag(), Ladder()
        self.watchdog = Watchdog(config.timing.stall_s)
        """Watches while `open_node` holds it open; a simulated node has a clock of its own."""
        self.is_stopping = False
        ask = self.app.authorizer
        self.authorizer = None if ask is None else AuthorizerCalls(ask, trio.current_time)
        self.hub = Hub(config, now=trio.current_time, jitter=surroundings.jitter)
        self.sessions, self.hub.era = self._make_sessions(store), store.era
        self.hub.sessions = self.sessions
        self.admin = GatewayAdmin(self.hub, self.sessions, surroundings.wall_s)
        self._make_actors(store)
        self.stats = Stats(self, self.admin, self.broadcaster, surroundings.wall_ms)
        self.siblings = None if config.seat is None else Siblings(config.seat)
        self.http = self._make_http()
        heads = Heads(
            config,
            self.hub,
            serves_http=config.api_listen is None,
            is_loopback=is_loopback(config.listen),
        )
        self.gateway = Gateway(
            config,
            self.hub,
            self.sessions,
            heads,
            serve_http=partial(self.http.serve, keep_alive=False),
            ssl_context=ssl_context(config),
            authorizer=self.authorizer,
        )
        self.addresses: list[Any] = []
        """Socket names of the listeners: `(host, port)` or a path."""

    def _make_actors(self, store: Store) -> None:
        config, surroundings = self.config, self.surroundings
        worker = surroundings.make_worker("syncd-store")
        self.store = StoreActor(
            store, worker, wall_clock=surroundings.wall_s, timer=surroundings.timer
        )
        self._make_ways_to_others(store)
        self.upkeep = Upkeep(self.store, store)
        self.check_store, self.backup = self.upkeep.check, self.upkeep.copy
        self.broadcaster = Broadcaster(
            config,
            fanout=self.hub.writer,
            store=self.store,
            wall_ms=surroundings.wall_ms,
            new_epoch=lambda: Epoch(surroundings.new_id()),
            collections=own_namespaces(self.app, is_shared=self.bridge is not None),
            volatile_head=lambda channel: self.cache_owner.volatile_head(channel),  # noqa: PLW0108 - it is made below
            bridge=self.bridge,
        )
        self.audit = AuditTrail(self.broadcaster, surroundings.wall_ms)
        flush = self.hub.writer.flush
        self.presence = Presence(config.limits, config.timing, flush, self.cluster)
        self.cache_owner = CacheOwner(
            self.app,
            config,
            store=self.store,
            broadcaster=self.broadcaster,
            wall_ms=surroundings.wall_ms,
            new_epoch=lambda: Epoch(surroundings.new_id()),
            chance=surroundings.jitter,
            flush=flush,
            timer=surroundings.timer,
            keeper=surroundings.keeper,
            interest=None if self.bridge is None else self.bridge.entries_interest,
            node=self.name,
        )
        self.rebuild_coordinator = RebuildCoordinator(
            self.app,
            store=self.store,
            swap=self.cache_owner.swap_generation,
            num_invalidations=self.cache_owner.num_invalidations,
            wall_ms=surroundings.wall_ms,
            new_id=surroundings.new_id,
            chance=surroundings.jitter,
            audit=self.audit.log,
            news=News(self.broadcaster),
            is_shared=self.bridge is not None,
        )
        self._connect_rooms()

    def _connect_rooms(self) -> None:
        """Tell rooms of those that were made after them."""
        self.hub.rebuilds, self.hub.cache_owner = self.rebuild_coordinator, self.cache_owner
        self.hub.broadcaster, self.hub.presence = self.broadcaster, self.presence
        if self.bridge is not None:
            self.bridge.connect(self.broadcaster, self.cache_owner)
        if self.members is not None:
            parts = (self.presence, self.hub, self.sessions, self.admin)
            self.members.join(self, *parts, self.store.statistics)

    def _make_ways_to_others(self, store: Store) -> None:
        """Make what leads to the nodes that share the store, if there is a Redis."""
        self.bridge: Bridge | None = None
        self.members: Membership | None = None
        self.cluster: ClusterRoom | None = None
        if self.config.redis is not None:
            from syncd.shared_parts import make_bridge  # noqa: PLC0415 - an extra

            self.members = Membership(self.config, self.name, self.surroundings)
            self.cluster, line = self.members.room, self.members.line
            self.bridge = make_bridge(self.config, line, self.store, store, self.surroundings)

    def _make_sessions(self, store: Store) -> Sessions:
        config, surroundings = self.config, self.surroundings
        node_secret = store.meta_get(NODE_SECRET)
        assert node_secret is not None
        self.admin_sessions = AdminSessions(node_secret, config.api_keys)
        return Sessions(
            self.hub,
            config=config,
            grants=self._make_grants(),
            tokens=NodeTokens(TokenVerifier(config.auth), self.admin_sessions),
            secrets=ClientSecrets(node_secret, surroundings.entropy),
            revocations=Revocations(),
            wall_s=surroundings.wall_s,
            node=self.name,
        )

    def _make_grants(self) -> Grants:
        namespaces = self.config.namespaces | {each.name: each for each in RESERVED}
        return Grants(Permissions(namespaces), StatePermissions(self.app), self.authorizer)

    def _make_http(self) -> HttpServer:
        app = create_app(
            self.config,
            broadcaster=self.broadcaster,
            presence=self.presence,
            gateway=self.admin,
            node=self,
            cache_owner=self.cache_owner,
            operating=Operating(
                self.audit.log,
                self.admin_sessions,
                self.rebuild_coordinator,
                self.surroundings.wall_s,
                self.cluster,
                self.audit.recall,
            ),
            definition=self.app,
        )
        return HttpServer(app, self.config)

    # ---------------------------------------------------------------- http.ports.NodeInfo

    def uptime_s(self) -> float:
        """Seconds since the start."""
        return trio.current_time() - self._started_at

    def loop_lag_ms(self) -> float:
        """How late the event loop lately woke a sleeper, or is waking one now."""
        return self._lag.now_ms()

    def health(self) -> Sequence[ActorHealth]:
        """What became of each actor, in start order."""
        return self._ladder.health

    def statistics(self) -> NodeStatistics:
        """Counts of every part, read when asked for."""
        return NodeStatistics(
            self.store.statistics(),
            self.broadcaster.statistics(),
            self.presence.statistics(),
            self.cache_owner.cache_statistics(),
            mailboxes={
                **{a.name: a.mailbox.statistics() for a in (self.broadcaster, self.cache_owner)},
                "presence": self.presence.statistics().mailbox,
            },
            rebuilds=self.rebuild_coordinator.statistics(),
            loop_lag=self._lag.histogram.counts(),
            num_stalls=self.watchdog.num_stalls,
            cluster=None if self.cluster is None else self.cluster.statistics(),
            bridge=None if self.bridge is None else self.bridge.statistics(),
        )

    def reasons_not_ready(self) -> Sequence[str]:
        """Why the node should get no traffic, one sentence each."""
        reasons = self.upkeep.reasons_not_ready(
            self._ladder.health, self.loop_lag_ms(), is_stopping=self.is_stopping
        )
        if self.bridge is not None and not self.bridge.is_up:
            return [*reasons, "The bus to the other nodes is down."]
        return reasons

    # ---------------------------------------------------------------- up and down

    async def start(
        self,
        nursery: trio.Nursery,
        listeners: Sequence[socket.socket],
        api_listeners: Sequence[socket.socket],
    ) -> None:
        """Start every part in order; each is ready when the next one starts. The application may call from the first on."""
        ladder = self._ladder
        rooms = (self.broadcaster, self.cache_owner, self.presence, self.rebuild_coordinator)
        resuming = Resuming(self.hub, self.admin, *rooms)
        self.app.bind(Runtime(self.cache_owner, self.config.timing.http_request_s))
        await ladder.climb(nursery, "loop_lag", self._lag.run)
        await ladder.climb_actor(nursery, self.store)
        await ladder.climb_actor(nursery, self.broadcaster, resuming.broadcaster)
        await self.audit.restore()
        await ladder.climb_actor(nursery, self.presence, resuming.presence)
        await ladder.climb_actor(nursery, self.cache_owner, resuming.watches)
        await ladder.climb_actor(nursery, self.rebuild_coordinator)
        if self.bridge is not None:
            await ladder.climb_actor(nursery, self.bridge)
        if self.members is not None:
            self.members.listens_at(self.addresses)
            await ladder.climb(nursery, "cluster", self.members.line.run)
        await ladder.climb(nursery, "stats", self.stats.run)
        if self.siblings is not None:
            await ladder.climb(nursery, "siblings", self.siblings.run)
        await ladder.climb(nursery, "http", partial(self.http.run, api_listeners))
        await ladder.climb(nursery, "gateway", partial(self.gateway.run, listeners))

    async def stop(self) -> None:
        """Stop accepting, say good-bye, then stop every part in reverse, each within its deadline."""
        self.is_stopping = True
        self.gateway.stop_accepting()
        await self.gateway.drain(self.config.timing.stop_s / 2)
        if self.cluster is not None:
            self.cluster.leave()
        await self._ladder.descend()


@contextlib.asynccontextmanager
async def open_node(config: Config, app: AppDefinition | None = None) -> AsyncIterator[Node]:
    """Run a node inside the caller's Trio run; it is stopped in order when the block is left.

    Args:
        config: Checked already.
        app: In force already (`model.definitions_check.app_in_force`); None: no collections.

    Raises:
        ConfigError: an address or the store cannot be used.
        NodeFailed: an actor crashed too often, or the store failed for good.

    Cancellation: everything stops at once, as by a crash: nothing acknowledged is lost.
    """
    app, name = app or AppDefinition(), new_name(REAL)
    if config.redis is not None:
        from syncd.shared_parts import with_shared_history  # noqa: PLC0415 - an extra

        config, app = with_shared_history(config, app)
    store = open_store(config, app, name)
    try:
        is_shared = config.seat is not None
        listeners = bind(config.listen, is_shared=is_shared)
        api = config.api_listen
        api_listeners = [] if api is None else bind(api, is_shared=is_shared)
    except ConfigError:
        store.close()
        raise
    node = Node(config, store, app, name=name)
    node.addresses = [sock.getsockname() for sock in listeners]
    try:
        with node.watchdog:
            async with trio.open_nursery() as nursery:
                await node.start(nursery, listeners, api_listeners)
                yield node
                await node.stop()
                nursery.cancel_scope.cancel("node stopped")
    finally:
        node.app.bind(None)
        for sock in (*listeners, *api_listeners):
            sock.close()  # of a node that failed before it listened


def serve(config: Config, app: AppDefinition | None = None) -> int:
    """Run a node until SIGTERM or SIGINT, which the process ignores from then on; the exit code: 0 stopped, 1 failed. Arguments as of `open_node`."""
    raise_file_limit()
    calm_collector()
    return_large_values(app)
    has_failed = False
    try:
        trio.run(_serve, config, app)
    except* (NodeFailed, StoreFailed) as failures:
        has_failed = True
        for failure in failures.exceptions:
            _log.critical("node_failed", error=str(failure))
    if has_failed:  # as a kill: closing the store would checkpoint a log that cannot be trusted
        os._exit(1)
    return 0


async def _serve(config: Config, app: AppDefinition | None) -> None:
    with open_stop_signals() as signals:
        async with open_node(config, app) as node:
            for each in node.addresses:
                _log.info("listening", url=url_of(config, each))
            async for number in signals:
                _log.info("stopping", signal=signal.Signals(number).name)
                break
