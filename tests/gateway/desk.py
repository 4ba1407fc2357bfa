"""A hub with its sessions and nothing real around it: sockets in memory, mailboxes instead of actors, a clock to turn by hand."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import attrs
import jwt
import msgpack

from syncd.actors.kit import Mailbox
from syncd.codes import ErrorCode
from syncd.config import Action, AuthSettings, Config, HistoryKind, Limits, Mode, Namespace, Timing
from syncd.errors import RequestRejected
from syncd.gateway.admin import GatewayAdmin
from syncd.gateway.authorizer import AuthorizerCalls
from syncd.gateway.connection import Connection
from syncd.gateway.grants import Grants
from syncd.gateway.hub import Hub
from syncd.gateway.sessions import Sessions
from syncd.ids import ChannelName, Epoch
from syncd.model.client_secrets import ClientSecrets
from syncd.model.definitions import AppDefinition, Authorizer
from syncd.model.permissions import Permissions
from syncd.model.recording import CollectionRules, Rejected
from syncd.model.revocations import Revocations
from syncd.model.state_permissions import StatePermissions
from syncd.model.tokens import TokenVerifier
from syncd.ports import Run, SubscribeChannel, Subscription
from syncd.ports_state import KeyName
from syncd.wire import encode
from syncd.wire.encode import EventPrefix

SECRET = "0123456789abcdef0123456789abcdef"
EPOCH = Epoch("0123456789abcdef")
ANYONE = ("anyone",)
NAMESPACES = {
    "open": Namespace("open", presence=True, allow=dict.fromkeys(Action, ANYONE)),
    "latest": Namespace("latest", Mode.LATEST, allow=dict.fromkeys(Action, ANYONE)),
    "live": Namespace(
        "live",
        Mode.EPHEMERAL,
        HistoryKind.NONE,
        max_data_bytes=100,
        allow=dict.fromkeys(Action, ANYONE),
    ),
    "staff": Namespace("staff", presence=True, allow=dict.fromkeys(Action, ("role:staff",))),
    "read": Namespace("read", presence=True, allow={Action.SUBSCRIBE: ANYONE}),
}


class MemorySocket:
    """Takes as many bytes as there is room for, then none; can be broken."""

    def __init__(self) -> None:
        self.taken = bytearray()
        self.room: int | None = None
        """Bytes it still takes; None for everything."""
        self.is_broken = False
        self.is_closed = False
        self.num_sends = 0

    def send(self, data: bytes, /) -> int:
        assert not self.is_closed
        if self.is_broken:
            raise BrokenPipeError
        self.num_sends += 1
        if self.room is None:
            self.taken += data
            return len(data)
        if self.room == 0:
            raise BlockingIOError
        taken = data[: self.room]
        self.room -= len(taken)
        self.taken += taken
        return len(taken)

    def close(self) -> None:
        self.is_closed = True


@attrs.define
class NotingDriver:
    """Does what the poller does to a socket, and notes it."""

    hub: Hub
    notes: list[tuple[str, Any]] = attrs.field(factory=list)

    def watch_room(self, connection: Connection) -> None:
        self.notes.append(("watch_room", connection))

    def set_reading(self, connection: Connection, *, is_reading: bool) -> None:
        self.notes.append(("reading", is_reading))

    def forget(self, connection: Connection) -> None:
        self.notes.append(("forget", connection))

    def end(self, connection: Connection, *, is_mutual: bool) -> None:
        self.notes.append(("end", is_mutual))
        self.hub.writer.flush()
        if is_mutual:
            self.hub.drop(connection)


class Inbox:
    """Stands for an actor: a real mailbox, read by the test."""

    def __init__(self, name: str) -> None:
        self.mailbox: Mailbox[Any] = Mailbox(name, 10_000, 1_000_000, lambda: 0.0)
        self.sizes: list[int] = []

    def submit_nowait(self, commands: Sequence[Any], size_bytes: int) -> None:
        self.mailbox.put_nowait(commands, size_bytes)
        self.sizes.append(size_bytes)

    async def submit(self, commands: Sequence[Any], size_bytes: int) -> None:
        await self.mailbox.put(commands, size_bytes)

    def channels(self, prefix: str, limit: int) -> list[Any]:
        raise NotImplementedError

    def take(self) -> list[Any]:
        """Everything handed over since, without waiting."""
        batch, self.mailbox._waiting = self.mailbox._waiting, []
        self.mailbox._bytes = 0
        return batch


class FakeCacheOwner(Inbox):
    """Stands for the cache-owner: names channels as it does, and keeps what it is asked for the test to answer."""

    def __init__(self, app: AppDefinition) -> None:
        super().__init__("cache_owner")
        self.app = app

    def channel_of(self, collection: str, keys: Sequence[str]) -> tuple[ChannelName, list[KeyName]]:
        rules = self._rules(collection)
        try:
            places = [rules.place(key) for key in keys]
        except Rejected as rejection:
            raise RequestRejected(ErrorCode.BAD_KEY, rejection.message) from None
        if len({channel for channel, _ in places}) != 1:
            raise RequestRejected(ErrorCode.BAD_REQUEST)
        return places[0][0], [key for _, key in places]

    def whole_channel(self, collection: str, partition: str | None) -> ChannelName:
        if self._rules(collection).is_partitioned != (partition is not None):
            raise RequestRejected(ErrorCode.BAD_REQUEST)
        return ChannelName(collection if partition is None else f"{collection}/{partition}")

    def _rules(self, collection: str) -> CollectionRules:
        definition = self.app.collections.get(collection)
        if definition is None:
            raise RequestRejected(ErrorCode.PERMISSION_DENIED)
        return definition.rules


class Desk:
    """Everything of the gateway between the drivers and the actors."""

    def __init__(
        self,
        *,
        app: AppDefinition | None = None,
        authorizer: Authorizer | None = None,
        **changes: Any,
    ) -> None:
        limits = Limits(**changes.pop("limits", {}))
        timing = Timing(**changes.pop("timing", {}))
        auth = AuthSettings(algorithms=("HS256",), hmac_secret=SECRET, **changes.pop("auth", {}))
        self.config = Config(
            namespaces=NAMESPACES, limits=limits, timing=timing, auth=auth, **changes
        )
        self.now = 1000.0
        self.wall_s = 1_700_000_000.0
        self.hub = Hub(self.config, now=lambda: self.now, jitter=lambda: 0.5)
        self.authorizer = (
            None if authorizer is None else AuthorizerCalls(authorizer, lambda: self.now)
        )
        self.entropy = itertools.count(1)
        self.revocations = Revocations()
        self.sessions = self.hub.sessions = Sessions(
            self.hub,
            config=self.config,
            grants=Grants(
                Permissions(NAMESPACES),
                None if app is None else StatePermissions(app),
                self.authorizer,
            ),
            tokens=TokenVerifier(auth),
            secrets=ClientSecrets(b"n" * 32, lambda size: next(self.entropy).to_bytes(size, "big")),
            revocations=self.revocations,
            wall_s=lambda: self.wall_s,
            node="node",
        )
        self.admin = GatewayAdmin(self.hub, self.sessions, lambda: self.wall_s)
        self.broadcaster, self.presence = Inbox("broadcaster"), Inbox("presence")
        self.hub.broadcaster, self.hub.presence = self.broadcaster, self.presence
        if app is not None:
            self.cache_owner = self.hub.cache_owner = FakeCacheOwner(app)
        self.driver = NotingDriver(self.hub)

    # ------------------------------------------------------------------ time

    def pass_time(self, seconds: float) -> None:
        """Turn both clocks and let the coarse timer look, tick by tick, as `Gateway` does."""
        end = self.now + seconds
        while self.now < end - 1e-9:
            step = min(self.config.timing.tick_s, end - self.now)
            self.now += step
            self.wall_s += step
            self.hub.now = self.now
            for connection in self.hub.wheel.advance(self.now):
                self.sessions.on_due(connection)
            self.turn()

    def turn(self) -> None:
        """The end of a round."""
        self.hub.hand_over()
        self.hub.writer.flush()

    def token(self, user: str = "ann", *, expires_in_s: float = 600, **claims: Any) -> str:
        body = {"sub": user, "exp": int(self.wall_s + expires_in_s), **claims}
        return jwt.encode(body, SECRET, algorithm="HS256")

    # ------------------------------------------------------------------ clients

    def dial(self) -> Client:
        """A connection past its handshake, before hello."""
        socket = MemorySocket()
        connection = self.hub.open(socket, 7, "10.0.0.1", self.driver)
        self.hub.upgrade(connection, b"", b"")
        return Client(self, connection, socket)

    def client(self, **hello: Any) -> Client:
        """An open session."""
        client = self.dial()
        client.say("hello", v=1, **hello)
        kind, client.welcome = client.heard()[0]
        assert kind == "welcome"
        return client

    def live(self, client: Client, channel: str, offset: int = 0) -> Subscription:
        """Subscribe, and answer as the broadcaster does."""
        client.say("subscribe", id=next(client.ids), channel=channel)
        (subscription,) = (
            command.subscription
            for command in self.broadcaster.take()
            if isinstance(command, SubscribeChannel)
        )
        subscription.is_live, subscription.pending_id = True, None
        subscription.epoch, subscription.offset = EPOCH, offset
        return subscription

    def deliver(self, subscriptions: Sequence[Subscription], *events: Event) -> list[Subscription]:
        """Fan out as the broadcaster does and flush."""
        fallen = self.hub.writer.deliver(subscriptions, run_of(*events))
        self.hub.writer.flush()
        return fallen


@attrs.define
class Event:
    """One event of a run."""

    channel: str
    offset: int
    data: Any = None
    key: str | None = None


def run_of(*events: Event) -> Run:
    """What the broadcaster makes of consecutive events of a channel."""
    channel = ChannelName(events[0].channel)
    is_latest, is_live = channel.startswith("latest"), channel.startswith("live")
    prefix = EventPrefix(channel, None if is_live else EPOCH, has_prev=not is_latest)
    messages = []
    for event in events:
        data = encode.pack(event.data)
        record = encode.event_record(data, 1, name=None, key=event.key, client=None)
        messages.append((event.key, encode.event_message(prefix, event.offset, record)))
    epoch, offset = (None, 0) if is_live else (EPOCH, events[-1].offset)
    return Run(channel, messages, epoch, offset, is_latest)


class Client:
    """The other end of a connection."""

    def __init__(self, desk: Desk, connection: Connection, socket: MemorySocket) -> None:
        self.desk = desk
        self.connection = connection
        self.socket = socket
        self.welcome: dict[str, Any] = {}
        self.ids = itertools.count(1)
        self._num_read = 0

    @property
    def id(self) -> str:
        """The first client id of the session."""
        client: str = self.welcome["clients"][0]["client"]
        return client

    @property
    def claim(self) -> dict[str, str]:
        issued = self.welcome["clients"][0]
        return {"client": issued["client"], "secret": issued["secret"]}

    def say(self, kind: str, **body: Any) -> None:
        """Send one message in a frame of its own and let the round end."""
        self.say_all((kind, body))

    def say_all(self, *messages: tuple[str, dict[str, Any]]) -> None:
        """Send several messages in one frame."""
        self.send_frame(0x82, b"".join(msgpack.packb(list(message)) for message in messages))

    def send_frame(self, first: int, payload: bytes) -> None:
        size = len(payload)
        if size < 126:
            head = bytes((first, 0x80 | size))
        elif size < 0x10000:
            head = bytes((first, 0xFE)) + size.to_bytes(2, "big")
        else:
            head = bytes((first, 0xFF)) + size.to_bytes(8, "big")
        self.desk.hub.now = self.desk.now
        self.desk.hub.receive(self.connection, head + bytes(4) + payload)
        self.desk.turn()

    def drain(self, num_bytes: int | None = None) -> bool:
        """The socket has room again, once: for so many bytes or for everything."""
        self.socket.room = num_bytes
        self.desk.hub.now = self.desk.now
        is_empty = self.desk.hub.writer.on_room(self.connection)
        self.desk.turn()
        return is_empty

    # ------------------------------------------------------------------ what came

    def frames(self) -> list[tuple[int, bytes]]:
        """Whole frames that came since the last look: (opcode, payload)."""
        data, found = bytes(self.socket.taken), []
        while len(data) - self._num_read >= 2:
            start, size = self._num_read + 2, data[self._num_read + 1]
            if size >= 126:
                width = 2 if size == 126 else 8
                size = int.from_bytes(data[start : start + width], "big")
                start += width
            if start + size > len(data):
                break
            found.append((data[self._num_read] & 15, data[start : start + size]))
            self._num_read = start + size
        return found

    def heard(self) -> list[tuple[str, Any]]:
        """Messages that came since the last look; control frames as ("close", code) and ("pong frame", payload)."""
        found: list[tuple[str, Any]] = []
        for opcode, payload in self.frames():
            if opcode == 8:
                found.append(("close", int.from_bytes(payload[:2], "big")))
            elif opcode == 10:
                found.append(("pong frame", payload))
            else:
                kind, body = msgpack.unpackb(payload)
                found.append((kind, body))
        return found

    def codes(self) -> list[Any]:
        """What was heard, shortened: error codes, and kinds of everything else."""
        return [body["code"] if kind == "error" else kind for kind, body in self.heard()]
