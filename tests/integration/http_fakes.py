"""Small in-memory owners behind the ports that the HTTP API asks, and a client for raw HTTP over real sockets."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import attrs
import h11
import trio

from syncd.actors.kit import ActorHealth, Health
from syncd.app import App
from syncd.codes import ErrorCode
from syncd.config import Config, HistoryKind, Mode, Namespace, Timing
from syncd.errors import RequestRejected, SyncdError
from syncd.http.app import create_app
from syncd.http.operator_api import Operating
from syncd.http.serving import HttpServer
from syncd.ids import ChannelName, Epoch, Position
from syncd.model.admin_sessions import AdminSessions
from syncd.model.audit import AuditEntry, AuditLog
from syncd.ports import ChannelInfo, Identity, PublishEvent, ReadHistory
from syncd.ports_cluster import ClusterPort
from syncd.ports_collections import (
    EntriesAnswer,
    EntryState,
    InvalidateEntries,
    MutateState,
    ReadEntries,
)
from syncd.ports_operators import GatewayStatistics, SessionInfo, Target
from syncd.ports_presence import QueryPresence
from syncd.ports_state import KeyName
from syncd.store.sqlite_backup import CopyReport
from syncd.wire.encode import EventPrefix, event_body, event_record, pack
from syncd.wire.encode_outcomes import outcome_ok

KEY = "key-of-billing"
EPOCH = Epoch("00000000000000aa")
NAMESPACES = {
    "demo": Namespace("demo", history=HistoryKind.DURABLE, presence=True, max_data_bytes=1000),
    "live": Namespace("live", mode=Mode.EPHEMERAL, history=HistoryKind.NONE),
}


def make_config(**changes: Any) -> Config:
    settings = {
        "api_keys": {"billing": KEY, "other": "key-of-other"},
        "namespaces": NAMESPACES,
        **changes,
    }
    return Config(**settings)


class FakeBroadcaster:
    """Keeps a log per channel and answers at once; can be made full, silent or refusing."""

    def __init__(self) -> None:
        self.logs: dict[str, list[bytes]] = {}
        self.commands: list[Any] = []
        self.batches: list[int] = []
        self.results: dict[tuple[str, str], tuple[bytes, int]] = {}
        self.is_full = False
        self.is_silent = False
        self.refusal: SyncdError | None = None
        self.crash: Exception | None = None

    async def submit(self, commands: Sequence[Any], size_bytes: int) -> None:
        if self.is_full:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        self.submit_nowait(commands, size_bytes)

    def submit_nowait(self, commands: Sequence[Any], size_bytes: int) -> None:
        if self.crash is not None:
            raise self.crash
        if self.refusal is not None:
            raise self.refusal
        assert size_bytes >= sum(len(getattr(item, "data", b"")) for item in commands)
        self.commands.extend(commands)
        self.batches.append(len(commands))
        for command in commands:
            if not self.is_silent:
                self._answer(command)

    def _answer(self, command: Any) -> None:
        if isinstance(command, PublishEvent):
            self._publish(command)
        elif isinstance(command, ReadHistory):
            self._history(command)

    def _publish(self, command: PublishEvent) -> None:
        if command.channel.startswith("live:"):
            command.asker.reply_ok(command.request_id)
            return
        log = self.logs.setdefault(command.channel, [])
        known = command.idempotency
        slot = None if known is None else (known.identity, known.key)
        if slot is not None and known is not None and slot in self.results:
            request_hash, offset = self.results[slot]
            if request_hash == known.request_hash:
                command.asker.reply_ok(command.request_id, EPOCH, offset)
            else:
                refusal = RequestRejected(ErrorCode.IDEMPOTENCY_MISMATCH)
                command.asker.reply_error(command.request_id, refusal)
            return
        record = event_record(
            command.data, 1000, name=command.name, key=command.key, client=command.client
        )
        prefix = EventPrefix(command.channel, EPOCH)
        log.append(event_body(prefix, len(log) + 1, record))
        if slot is not None and known is not None:
            self.results[slot] = (known.request_hash, len(log))
        command.asker.reply_ok(command.request_id, EPOCH, len(log))

    def _history(self, command: ReadHistory) -> None:
        log = self.logs.get(command.channel, [])
        after = 0 if command.since is None else command.since.offset
        bodies = log[after:] if not command.reverse else log[::-1]
        command.asker.reply_events(command.request_id, EPOCH, len(log), bodies[: command.limit])

    def channels(self, prefix: str, limit: int) -> list[ChannelInfo]:
        found = sorted(self.each_channel(), key=lambda info: info.channel)
        return [info for info in found if info.channel.startswith(prefix)][:limit]

    def each_channel(self) -> Iterator[ChannelInfo]:
        for name, log in self.logs.items():
            yield ChannelInfo(ChannelName(name), 1, EPOCH, len(log), len(log))

    def num_subscribers(self, channel: ChannelName) -> int:
        return int(channel in self.logs)


class FakeCacheOwner:
    """One collection in front of nobody: answers at once, keeps what it was asked; can be made full, silent or refusing."""

    def __init__(self) -> None:
        self.commands: list[Any] = []
        self.is_full = False
        self.is_silent = False
        self.refusals: list[SyncdError | None] = []
        """For the next commands, one each."""
        self.settings = {"max_entries": 10, "max_bytes": 1000, "ttl_s": 60.0, "stale_s": 0.0}

    async def submit(self, commands: Sequence[Any], size_bytes: int) -> None:
        if self.is_full:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        for command in commands:
            self.commands.append(command)
            refusal = self.refusals.pop(0) if self.refusals else None
            if not self.is_silent:
                self._answer(command, refusal)

    def _answer(self, command: Any, refusal: SyncdError | None) -> None:
        position = {ChannelName("orders"): Position(EPOCH, len(self.commands))}
        if isinstance(command, MutateState):
            if refusal is not None:
                command.asker.refuse_mutation(command.client, command.mid, refusal)
            else:
                value = pack({"asked": command.args})
                command.asker.send_outcome(outcome_ok("", 0, value), position)
        elif refusal is not None:
            command.done(refusal)
        elif isinstance(command, InvalidateEntries):
            command.done(position)
        elif isinstance(command, ReadEntries):
            entries = [EntryState(key, 1, pack(key)) for key in command.keys]
            command.done(EntriesAnswer(command.channel, Position(EPOCH, 1), entries))
        else:
            command.done({"orders": 1})

    def channel_of(self, collection: str, keys: Sequence[str]) -> tuple[ChannelName, list[KeyName]]:
        self.change_settings(collection, {})
        return ChannelName(collection), [KeyName(key) for key in keys]

    def cache_statistics(self) -> dict[str, dict[str, Any]]:
        counts = ("lookups", "hits", "stale_hits", "loads", "load_ms_mean", "load_ms_max")
        return {"orders": dict.fromkeys(counts, 0)}

    def cache_settings(self) -> dict[str, dict[str, Any]]:
        return {"orders": self.settings}

    def change_settings(self, collection: str, changes: Mapping[str, Any]) -> dict[str, Any]:
        if collection not in ("orders", "prices"):
            raise RequestRejected(ErrorCode.PERMISSION_DENIED)
        self.settings |= changes
        return self.settings


class FakePresence:
    """Answers queries from a table."""

    def __init__(self) -> None:
        self.members: dict[str, list[dict[str, Any]]] = {}
        self.is_silent = False
        self.failure: SyncdError | None = None

    async def submit(self, commands: Sequence[Any], size_bytes: int) -> None:
        await trio.lowlevel.checkpoint()
        self.submit_nowait(commands, size_bytes)

    def submit_nowait(self, commands: Sequence[Any], size_bytes: int) -> None:
        for command in commands:
            assert isinstance(command, QueryPresence)
            if not self.is_silent:
                command.done(self.failure or self.members.get(command.channel, []))


class FakeGateway:
    """Notes what it was asked to do; `users` have a session each, the first one with a fuller outbox than the next."""

    def __init__(self) -> None:
        self.users = ["ada", "ada", "bob"]
        self.calls: list[tuple[Any, ...]] = []
        self.identities: dict[str, Identity] = {}
        """By token."""

    def _count(self, target: Target) -> int:
        return sum(user == target.user for user in self.users)

    def disconnect(self, target: Target, *, reconnect: bool, reason: str) -> int:
        self.calls.append(("disconnect", target, reconnect, reason))
        return self._count(target)

    def unsubscribe(self, target: Target, channel: ChannelName) -> int:
        self.calls.append(("unsubscribe", target, channel))
        return self._count(target)

    def revoke(self, target: Target, *, until_s: float | None) -> int:
        self.calls.append(("revoke", target, until_s))
        return self._count(target)

    def identify(self, token: str) -> Identity | None:
        return self.identities.get(token)

    def statistics(self) -> GatewayStatistics:
        return GatewayStatistics(3, 3, 5, 7, 0, 11, 13, 17, 0, 0, {"4000": 1}, {})

    def counters(self) -> dict[str, int]:
        return {"messages_in": 11}

    def gauges(self) -> dict[str, int]:
        return {"connections": 3}

    def sessions(self, channel: ChannelName | None = None) -> Iterator[SessionInfo]:
        for number, user in enumerate(self.users):
            name = f"s-{number}"
            yield SessionInfo(
                name, user, (f"c-{number}",), "127.0.0.1", 1, 9 - number, 1000, 0.5, 1.0, False
            )

    def channels_of(self, session: str) -> list[ChannelName] | None:
        return [ChannelName("demo:a")] if session == "s-0" else None


class FakeStats:
    """Two samples."""

    def columns(self) -> dict[str, list[float | None]]:
        return {"at_ms": [1000, 2000], "connections": [3, 4]}

    def now(self) -> dict[str, Any]:
        return {"sample": {"at_ms": 2000, "connections": 4}}


class FakeNode:
    """A node whose readiness tests decide."""

    stats = FakeStats()

    version = "9.9.9"
    started_at_ms = 1_700_000_000_000
    siblings = None

    def __init__(self) -> None:
        self.actors = [ActorHealth("broadcaster", Health.OK), ActorHealth("store", Health.OK)]
        self.reasons: list[str] = []

    def uptime_s(self) -> float:
        return 12.5

    def loop_lag_ms(self) -> float:
        return 0.25

    def health(self) -> Sequence[ActorHealth]:
        return self.actors

    def reasons_not_ready(self) -> Sequence[str]:
        return self.reasons

    async def check_store(self) -> None:
        await trio.lowlevel.checkpoint()

    async def backup(self, path: Path) -> CopyReport:
        await trio.lowlevel.checkpoint()
        return CopyReport(4096, {ChannelName("demo:a"): Position(EPOCH, 3)}, 1)

    def statistics(self) -> Any:
        raise NotImplementedError("metrics are tested on real nodes")


class FakeRebuilds:
    """A coordinator whose one job is always queued."""

    JOB: ClassVar[dict[str, Any]] = {
        "job": "4f2a9c01d7be6a53",
        "collection": "orders",
        "mode": "full",
        "state": "queued",
        "asked_at_ms": 1,
        "done": 0,
        "resumed_at": 0,
        "seq": 3,
        "who": "service:billing",
        "ended_at_ms": None,
        "message": None,
        "total": None,
        "changed": None,
        "rate_per_s": 0,
        "eta_ms": None,
        "error": None,
    }

    def start(
        self, collection: str, wish: object, *, joins: bool, who: str, uid: str | None = None
    ) -> dict[str, Any]:
        return self.JOB

    def job(self, job_id: str) -> dict[str, Any]:
        return self.JOB

    def cancel(self, job_id: str, *, who: str) -> dict[str, Any]:
        return self.JOB

    def jobs(self) -> list[dict[str, Any]]:
        return [self.JOB]


@attrs.define(eq=False)
class World:
    """One application with everything behind it."""

    config: Config
    static_folder: Path | None = None
    is_demo: bool = False
    cluster: ClusterPort | None = None
    broadcaster: FakeBroadcaster = attrs.field(factory=FakeBroadcaster)
    presence: FakePresence = attrs.field(factory=FakePresence)
    cache_owner: FakeCacheOwner = attrs.field(factory=FakeCacheOwner)
    gateway: FakeGateway = attrs.field(factory=FakeGateway)
    node: FakeNode = attrs.field(factory=FakeNode)
    actions: list[AuditEntry] = attrs.field(factory=list)
    audit: AuditLog = attrs.field(init=False)
    app: Any = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.audit = AuditLog(lambda: 1_700_000_000_000, self.actions.append)
        self.app = create_app(
            self.config,
            broadcaster=self.broadcaster,
            presence=self.presence,
            gateway=self.gateway,
            node=self.node,
            cache_owner=self.cache_owner,
            operating=Operating(
                self.audit,
                AdminSessions(bytes(32), self.config.api_keys),
                FakeRebuilds(),
                lambda: 1_700_000_000.0,
                self.cluster,
            ),
            definition=attrs.evolve(App().definition(), is_demo=self.is_demo),
            static_folder=self.static_folder,
        )

    async def ask(
        self, method: str, path: str, body: Any = None, *, key: str | None = KEY, **headers: str
    ) -> tuple[int, Any]:
        """Send one request with the API key; headers are given with `_` for `-`."""
        response = await self.respond(method, path, body, key=key, **headers)
        return response.status_code, json.loads(await response.get_data(as_text=True))

    async def respond(
        self, method: str, path: str, body: Any = None, *, key: str | None = KEY, **headers: str
    ) -> Any:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if key is not None:
            sent.setdefault("Authorization", f"Bearer {key}")
        if body is not None:
            sent.setdefault("Content-Type", "application/json")
        data = body if isinstance(body, (bytes, str, type(None))) else json.dumps(body)
        return await self.app.test_client().open(path, method=method, headers=sent, data=data)


# ------------------------------------------------------------------------------------------------ sockets

FAST = Timing(handshake_s=0.2, http_request_s=0.2, stop_s=0.5)
"""Deadlines of real sockets in tests: short, and nothing is asserted about how short."""


@contextlib.asynccontextmanager
async def open_server(
    world: World, *, keep_alive: bool = True, **options: Any
) -> AsyncIterator[tuple[HttpServer, int]]:
    """Serve a world on a real loopback port."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    async with (
        trio.open_nursery() as nursery,
        HttpServer(world.app, world.config, **options) as server,
    ):

        async def handle(stream: trio.SocketStream) -> None:
            head = b"" if keep_alive else bytes(await stream.receive_some(65_536))
            await server.serve(stream, head, keep_alive=keep_alive)

        nursery.start_soon(trio.serve_listeners, handle, listeners)
        try:
            yield server, port
        finally:
            nursery.cancel_scope.cancel()


@attrs.define(eq=False)
class RawClient:
    """One HTTP/1.1 connection whose bytes the test writes itself."""

    stream: trio.SocketStream
    _h11: h11.Connection = attrs.field(factory=lambda: h11.Connection(h11.CLIENT))

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def ask(
        self, method: str, path: str, body: bytes = b"", **headers: str
    ) -> tuple[Any, ...]:
        """Send a well-formed request and read its answer: status, headers, body."""
        fields = {"Host": "127.0.0.1", **{k.replace("_", "-"): v for k, v in headers.items()}}
        if body:
            fields["Content-Length"] = str(len(body))
        request = h11.Request(method=method, target=path, headers=list(fields.items()))
        sent = self._h11.send(request) or b""
        sent += (self._h11.send(h11.Data(data=body)) or b"") if body else b""
        sent += self._h11.send(h11.EndOfMessage()) or b""
        await self.send(sent)
        answer = await self.answer()
        if self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE:
            self._h11.start_next_cycle()
        return answer

    async def answer(self) -> tuple[Any, ...]:
        status, headers, body = 0, {}, b""
        while True:
            event = self._h11.next_event()
            if event is h11.NEED_DATA:
                self._h11.receive_data(await self.stream.receive_some(65_536))
            elif isinstance(event, h11.Response):
                status = event.status_code
                headers = {name.decode(): value.decode() for name, value in event.headers}
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                return status, headers, body

    async def answer_after_request(self, method: str) -> tuple[Any, ...]:
        """Read the answer to a request whose bytes the test wrote itself."""
        self._h11.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
        return await self.answer()

    async def read_to_end(self) -> bytes:
        """Read until the server closes; a reset counts as an end."""
        received = b""
        with contextlib.suppress(trio.BrokenResourceError):
            while data := await self.stream.receive_some(65_536):
                received += data
        return received


@contextlib.asynccontextmanager
async def dial(port: int) -> AsyncIterator[RawClient]:
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        yield RawClient(stream)


async def assert_alive(port: int) -> None:
    """Check that the server answers others."""
    async with dial(port) as client:
        status, _, body = await client.ask("GET", "/health/live")
        assert (status, json.loads(body)) == (200, {"status": "ok"})
