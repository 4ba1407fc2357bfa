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
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import attrs
import structlog
import trio

from syncd.actors.broadcaster import Broadcaster
from syncd.actors.cache_owner import CacheOwner
from syncd.actors.kit import Actor, ActorHealth, Health, NodeFailed, supervise
from syncd.actors.presence import Presence
from syncd.actors.rebuild_coordinator import RebuildCoordinator
from syncd.actors.store import StoreActor
from syncd.audit_trail import AuditTrail
from syncd.config import Config
from syncd.config_check import is_loopback
from syncd.errors import ActorStopped, ConfigError, MailboxFull
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
from syncd.ids import Epoch
from syncd.loop_lag import LoopLag
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
    collection_namespaces,
    open_store,
    raise_file_limit,
    return_large_values,
    ssl_context,
    url_of,
)
from syncd.ports import ResumeSubscriptions
from syncd.ports_collections import ResumeWatches
from syncd.runtime import Runtime
from syncd.store.base import NODE_SECRET, Store, StoreFailed
from syncd.surroundings import REAL, Surroundings
from syncd.upkeep import Upkeep

__all__ = ["Node", "open_node", "serve"]

_log = structlog.get_logger("syncd.server")

LAG_LIMIT_MS = 1000.0
"""A loop that wakes sleepers later than this is not ready for traffic."""
STEP_STOP_S = 5.0
"""For one rung on the way down; a shield never stands without a deadline."""


@attrs.define(eq=False)
class _Rung:
    """One running part: how to end it, and when it has ended."""

    name: str
    scope: trio.CancelScope
    done: trio.Event


class Node:
    """A node and its parts. Made by `open_node`; implements `http.ports.NodeInfo`."""

    def __init__(
        self,
        config: Config,
        store: Store,
        app: AppDefinition | None = None,
        surroundings: Surroundings = REAL,
    ) -> None:
        self.config = config
        self.app = app or AppDefinition()
        self.surroundings = surroundings
        self.version = importlib.metadata.version("syncd")
        self.started_at_ms = int(surroundings.wall_s() * 1000)
        self._started_at = trio.current_time()
        self._lag = LoopLag()
        self._health: list[ActorHealth] = []
        self._rungs: list[_Rung] = []
        self.is_stopping = False
        self.authorizer = None
        if self.app.authorizer is not None:
            self.authorizer = AuthorizerCalls(self.app.authorizer, trio.current_time)
        self.hub = Hub(config, now=trio.current_time, jitter=surroundings.jitter)
        self.sessions = self.hub.sessions = self._make_sessions(store)
        self.admin = GatewayAdmin(self.hub, self.sessions, surroundings.wall_s)
        self._make_actors(store)
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
        self.upkeep = Upkeep(self.store, store)
        self.check_store, self.backup = self.upkeep.check, self.upkeep.copy
        self.broadcaster = Broadcaster(
            config,
            fanout=self.hub.writer,
            store=self.store,
            wall_ms=surroundings.wall_ms,
            new_epoch=lambda: Epoch(surroundings.new_id()),
            collections=[*collection_namespaces(self.app), *RESERVED],
            volatile_head=lambda channel: self.cache_owner.volatile_head(channel),  # noqa: PLW0108 - it is made below
        )
        self.audit = AuditTrail(self.broadcaster, surroundings.wall_ms)
        self.presence = Presence(config.limits, config.timing, self.hub.writer.flush)
        self.cache_owner = CacheOwner(
            self.app,
            config,
            store=self.store,
            broadcaster=self.broadcaster,
            wall_ms=surroundings.wall_ms,
            new_epoch=lambda: Epoch(surroundings.new_id()),
            chance=surroundings.jitter,
            flush=self.hub.writer.flush,
            timer=surroundings.timer,
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
        )
        self.hub.rebuilds, self.hub.cache_owner = self.rebuild_coordinator, self.cache_owner
        self.hub.broadcaster, self.hub.presence = self.broadcaster, self.presence

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
            node=surroundings.entropy(3).hex(),
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
        return self._health

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
            loop_lag=self._lag.histogram.counts(),
        )

    def reasons_not_ready(self) -> Sequence[str]:
        """Why the node should get no traffic, one sentence each."""
        reasons = [
            f"The actor {health.name} is {health.state.value}."
            for health in self._health
            if health.state is not Health.OK
        ]
        if not self.store.statistics().is_writable:
            reasons.append("The store cannot commit.")
        elif self.upkeep.refusal is not None:
            reasons.append(self.upkeep.refusal)
        if self.loop_lag_ms() > LAG_LIMIT_MS:
            reasons.append("The event loop lags.")
        if self.is_stopping:
            reasons.append("The node is stopping.")
        return reasons

    # ---------------------------------------------------------------- up and down

    async def start(
        self,
        nursery: trio.Nursery,
        listeners: Sequence[socket.socket],
        api_listeners: Sequence[socket.socket],
    ) -> None:
        """Start every part in order; each is ready when the next one starts. The application may call from the first on."""
        self.app.bind(Runtime(self.cache_owner, self.config.timing.http_request_s))
        await self._climb(nursery, "loop_lag", self._lag.run)
        await self._climb_actor(nursery, self.store)
        await self._climb_actor(nursery, self.broadcaster, self._resume_broadcaster)
        await self.audit.restore()
        await self._climb_actor(nursery, self.presence, self._resume_presence)
        await self._climb_actor(nursery, self.cache_owner, self._resume_watches)
        await self._climb_actor(nursery, self.rebuild_coordinator)
        await self._climb(nursery, "http", partial(self.http.run, api_listeners))
        await self._climb(nursery, "gateway", partial(self.gateway.run, listeners))

    async def stop(self) -> None:
        """Stop accepting, say good-bye, then stop every part in reverse, each within its deadline."""
        self.is_stopping = True
        self.gateway.stop_accepting()
        await self.gateway.drain(self.config.timing.stop_s / 2)
        for rung in reversed(self._rungs):
            rung.scope.cancel(f"stopping {rung.name}")
            with trio.move_on_after(STEP_STOP_S) as waiting:
                await rung.done.wait()
            if waiting.cancelled_caught:
                _log.error("stop_overdue", part=rung.name)

    async def _climb_actor(
        self, nursery: trio.Nursery, actor: Actor, on_restart: Callable[[], None] = lambda: None
    ) -> None:
        health = ActorHealth(actor.name)
        self._health.append(health)
        run = partial(supervise, actor, health, on_restart=on_restart)
        await self._climb(nursery, actor.name, run)

    async def _climb(
        self, nursery: trio.Nursery, name: str, run: Callable[..., Awaitable[None]]
    ) -> None:
        rung = _Rung(name, trio.CancelScope(), trio.Event())

        async def part(*, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
            try:
                with rung.scope:
                    await run(task_status=task_status)
            finally:
                rung.done.set()

        await nursery.start(part)
        self._rungs.append(rung)

    # ---------------------------------------------------------------- healing

    def _resume_broadcaster(self) -> None:
        self.rebuild_coordinator.tell_again()
        subscriptions = self.admin.open_subscriptions()
        if subscriptions:
            self.broadcaster.mailbox.put_reply(ResumeSubscriptions(subscriptions))

    def _resume_watches(self) -> None:
        subscriptions = self.admin.open_watches()
        if subscriptions:
            self.cache_owner.mailbox.put_reply(ResumeWatches(subscriptions))

    def _resume_presence(self) -> None:
        commands = self.admin.presence_commands()
        if not commands:
            return
        try:
            self.presence.submit_nowait(commands, 0)
        except (MailboxFull, ActorStopped):
            self.hub.to_presence.extend(commands)


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
    app = app or AppDefinition()
    store = open_store(config, app)
    try:
        listeners = bind(config.listen)
        api_listeners = [] if config.api_listen is None else bind(config.api_listen)
    except ConfigError:
        store.close()
        raise
    node = Node(config, store, app)
    node.addresses = [sock.getsockname() for sock in listeners]
    try:
        async with trio.open_nursery() as nursery:
            await node.start(nursery, listeners, api_listeners)
            yield node
            await node.stop()
            nursery.cancel_scope.cancel("node stopped")
    finally:
        node.app.bind(None)


def serve(config: Config, app: AppDefinition | None = None) -> int:
    """Run a node until SIGTERM or SIGINT; the exit code: 0 stopped, 1 failed. Arguments as of `open_node`."""
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
    if has_failed:
        os._exit(
            1
        )  # as a kill would: closing the store would checkpoint a log that cannot be trusted
    return 0


async def _serve(config: Config, app: AppDefinition | None) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with open_node(config, app) as node:
            for address in node.addresses:
                _log.info("listening", url=url_of(config, address))
            async for number in signals:
                _log.info("stopping", signal=signal.Signals(number).name)
                break
