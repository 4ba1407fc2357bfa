"""A node reduced to what a client can see of it: one dict of channels, no I/O, no clock, no limits.

For tests of clients. It keeps the promises of SPEC in the plainest way, so that a client that misses an event here would
miss it anywhere; the faults are played by whoever moves its messages.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import msgpack

from syncd.codes import CloseCode, ErrorCode, Reason
from syncd.testing.model_state import ModelState, ModelWatches
from syncd.wire.encode import message

__all__ = ["ModelChannel", "ModelServer", "ModelSession"]

Body = dict[str, Any]


@attrs.define(eq=False)
class ModelChannel:
    """A channel's whole past: every epoch's events, and how much of the present one is kept."""

    name: str
    epoch: str
    is_ephemeral: bool = False
    top: int = 0
    floor: int = 0
    events: list[Body] = attrs.field(factory=list)
    """Bodies of the present epoch that are kept; offsets floor+1..top."""
    all_events: list[Body] = attrs.field(factory=list)
    """Bodies of every epoch, never trimmed: what tests compare with."""
    members: dict[str, Any] = attrs.field(factory=dict)
    seq: int = 0

    def position(self) -> Body:
        """Return where the channel stands."""
        return {"epoch": self.epoch, "offset": self.top}

    def trim(self, keep: int) -> None:
        """Forget all but the newest events."""
        self.events = self.events[-keep:] if keep else []
        self.floor = self.top - len(self.events)


class ModelServer:
    """Channels, sessions and idempotency keys."""

    def __init__(self, *, ping_ms: int = 25_000, max_frame_bytes: int = 65_536) -> None:
        self.channels: dict[str, ModelChannel] = {}
        self.sessions: list[ModelSession] = []
        self.secrets: dict[str, str] = {}
        self.results: dict[str, Body | None] = {}
        """Outcome of every idempotency key."""
        self.tokens: set[str] | None = None
        """Tokens that are accepted; None accepts everybody."""
        self.denied: set[str] = set()
        """Channels nobody may use."""
        self.failures: list[tuple[ErrorCode, int]] = []
        """Errors, with `after_ms`, for the next publications."""
        self.ping_ms = ping_ms
        self.max_frame_bytes = max_frame_bytes
        self._num_made = 0
        self.state = ModelState(self.fresh, self.sessions)

    def fresh(self, prefix: str) -> str:
        """Return a name that was never used."""
        self._num_made += 1
        return f"{prefix}{self._num_made}"

    def channel(self, name: str) -> ModelChannel:
        """Return a channel, made on first use; `live:*` are ephemeral."""
        if name not in self.channels:
            is_ephemeral = name.startswith("live:")
            self.channels[name] = ModelChannel(name, self.fresh("epoch"), is_ephemeral)
        return self.channels[name]

    def connect(self) -> ModelSession:
        """Open a session."""
        session = ModelSession(self)
        self.sessions.append(session)
        return session

    def publish(self, name: str, data: Any, /, **extra: Any) -> Body | None:
        """Append an event and queue it to every subscriber; return its position."""
        channel = self.channel(name)
        body: Body = {"channel": name, "data": data, "at_ms": 0, **extra}
        if not channel.is_ephemeral:
            body |= {"epoch": channel.epoch, "prev": channel.top, "offset": channel.top + 1}
            channel.top += 1
            channel.events.append(body)
            channel.all_events.append(body)
        for session in self.sessions:
            if name in session.subscriptions:
                session.send("event", body)
        return None if channel.is_ephemeral else channel.position()

    def change_epoch(self, name: str, *, is_told: bool = True) -> None:
        """Lose a channel's history, as a crash of a memory channel does, and tell its subscribers (or not)."""
        channel = self.channel(name)
        channel.epoch, channel.top, channel.floor = self.fresh("epoch"), 0, 0
        channel.events = []
        for session in self.sessions:
            if is_told and name in session.subscriptions:
                answer = {"was_recovering": True, "recovered": False, "events": []}
                session.send("subscribed", {"channel": name, **answer} | session.place(channel))

    def lag(self, name: str) -> None:
        """Stop the delivery of a channel to everybody."""
        for session in self.sessions:
            if session.subscriptions.pop(name, None) is not None:
                session.send("lagged", {"channel": name, "position": self.channel(name).position()})

    def announce(self, name: str, client: str, state: Any) -> None:
        """Change one member and tell who watches."""
        channel = self.channel(name)
        is_new, was_there = client not in channel.members, client in channel.members
        if state is None:
            channel.members.pop(client, None)
        else:
            channel.members[client] = state
        if state is None and not was_there:
            return
        channel.seq += 1
        member = _member(client, state)
        diff: Body = {"channel": name, "seq": channel.seq, "joins": [], "updates": []}
        diff["leaves"] = [client] if state is None else []
        if state is not None:
            diff["joins" if is_new else "updates"] = [member]
        for session in self.sessions:
            if session.subscriptions.get(name):
                session.send("presence_diff", diff)


def _member(client: str, state: Any) -> Body:
    return {"member": client, "states": [{"client": client, "state": state}]}


class ModelSession:
    """One connection; `outgoing` are encoded messages in order, for the test to move."""

    def __init__(self, server: ModelServer) -> None:
        self.server = server
        self.outgoing: list[bytes] = []
        self.subscriptions: dict[str, bool] = {}
        """Channel to whether presence was asked for."""
        self.client: str | None = None
        self.token: str | None = None
        self.close_code: int | None = None
        """Set when the server wants the connection closed after `outgoing`."""
        self.received: list[tuple[str, Body]] = []
        self._handlers: dict[str, Callable[[Body], None]] = {
            "hello": self._on_hello,
            "auth": self._on_auth,
            "subscribe": self._on_subscribe,
            "unsubscribe": self._on_unsubscribe,
            "publish": self._on_publish,
            "history": self._on_history,
            "presence": self._on_presence,
        }
        self.state = ModelWatches(server.state, self)
        self._handlers |= self.state.handlers

    def send(self, kind: str, body: Body) -> None:
        """Queue a message."""
        self.outgoing.append(message(kind, body))

    def gone(self) -> None:
        """The connection is over."""
        self.subscriptions.clear()
        self.state.gone()
        if self in self.server.sessions:
            self.server.sessions.remove(self)

    def end(self, code: int, *, reconnect: bool, after_ms: int = 0) -> None:
        """Say goodbye."""
        body = {"code": code, "reason": "told so", "reconnect": reconnect, "after_ms": after_ms}
        self.send("bye", body)
        self.close_code = code

    def receive(self, frame: bytes) -> None:
        """Take one binary frame."""
        if len(frame) > self.server.max_frame_bytes:
            self.close_code = int(CloseCode.TOO_BIG)
            return
        unpacker = msgpack.Unpacker()
        unpacker.feed(frame)
        for kind, body in unpacker:
            self.received.append((kind, body))
            handler = self._handlers.get(kind)
            if handler is not None and self.close_code is None:
                handler(body)

    def fail(self, body: Body, code: ErrorCode, after_ms: int | None = None) -> None:
        """Answer a request with an error."""
        error: Body = {"id": body["id"], "code": code.value, "message": code.text}
        error["retryable"] = code.retryable
        if after_ms is not None:
            error["after_ms"] = after_ms
        self.send("error", error)

    def _on_hello(self, body: Body) -> None:
        self.token = body.get("token")
        if self.server.tokens is not None and self.token not in self.server.tokens:
            self.end(CloseCode.UNAUTHORIZED, reconnect=True)
            return
        states: list[Body] = []
        forgotten: list[str] = []
        for claim in body.get("clients") or [None]:
            if claim is not None and claim["client"] in self.server.secrets:
                if self.server.secrets[claim["client"]] != claim["secret"]:
                    self.end(CloseCode.CLIENT_DENIED, reconnect=False)
                    return
                client = claim["client"]
                states.append({"client": client, "last_mid": self.server.state.last.get(client, 0)})
                continue
            client, secret = self.server.fresh("client"), self.server.fresh("secret")
            self.server.secrets[client] = secret
            states.append({"client": client, "secret": secret, "last_mid": 0})
            if claim is not None:
                forgotten.append(claim["client"])
        self.client = states[0]["client"]
        welcome: Body = {"session": self.server.fresh("session"), "clients": states}
        welcome |= {"server_time_ms": 0, "ping_ms": self.server.ping_ms}
        self.send("welcome", {**welcome, "max_frame_bytes": self.server.max_frame_bytes})
        for client in forgotten:
            code = Reason.CLIENT_UNKNOWN.value
            self.send("reset", {"scope": "client", "client": client, "code": code})

    def _on_auth(self, body: Body) -> None:
        self.token = body["token"]
        self.send("ok", {"id": body["id"]})

    def place(self, channel: ModelChannel) -> Body:
        """Return the position field of an answer, empty for ephemeral channels."""
        return {} if channel.is_ephemeral else {"position": channel.position()}

    def _on_subscribe(self, body: Body) -> None:
        name = body["channel"]
        if name in self.server.denied:
            self.fail(body, ErrorCode.PERMISSION_DENIED)
            return
        if name in self.subscriptions:
            self.fail(body, ErrorCode.ALREADY_SUBSCRIBED)
            return
        channel = self.server.channel(name)
        self.subscriptions[name] = bool(body.get("presence"))
        position = body.get("position")
        missed = _missed(channel, position) if position is not None else None
        answer = {"id": body["id"], "channel": name, "was_recovering": position is not None}
        answer |= {"recovered": missed is not None, "events": missed or []}
        self.send("subscribed", answer | self.place(channel))
        if self.subscriptions[name]:
            members = [_member(c, s) for c, s in channel.members.items()]
            state = {"channel": name, "seq": channel.seq, "members": members}
            self.send("presence_state", state)

    def _on_unsubscribe(self, body: Body) -> None:
        if self.subscriptions.pop(body["channel"], None) is None:
            self.fail(body, ErrorCode.NOT_SUBSCRIBED)
        else:
            self.send("ok", {"id": body["id"]})

    def revoke(self, channel: str) -> None:
        """Take a subscription away."""
        self.subscriptions.pop(channel, None)
        reason = Reason.REVOKED.value
        self.send("unsubscribed", {"channel": channel, "code": reason, "reason": "taken away"})

    def _on_publish(self, body: Body) -> None:
        results = self.server.results
        if self.server.failures:
            self.fail(body, *self.server.failures.pop(0))
            return
        if body["channel"] in self.server.denied:
            self.fail(body, ErrorCode.PERMISSION_DENIED)
            return
        uid = body["uid"]
        if uid not in results:
            extra = {k: body[k] for k in ("name", "key") if k in body}
            by = {"client": self.client}
            results[uid] = self.server.publish(body["channel"], body["data"], by=by, **extra)
        position = results[uid]
        place = {} if position is None else {"position": position}
        self.send("ok", {"id": body["id"], **place})

    def _on_history(self, body: Body) -> None:
        channel = self.server.channel(body["channel"])
        events, since = channel.events, body.get("since")
        if body.get("reverse"):
            before = [e for e in events if since is None or e["offset"] < since["offset"]]
            page = before[::-1]
        else:
            page = [e for e in events if since is None or e["offset"] > since["offset"]]
        answer = {"id": body["id"], "events": page[: body["limit"]]}
        self.send("ok", {**answer, "position": channel.position()})

    def _on_presence(self, body: Body) -> None:
        assert self.client is not None
        self.server.announce(body["channel"], self.client, body.get("state"))
        self.send("ok", {"id": body["id"]})


def _missed(channel: ModelChannel, position: Body) -> list[Body] | None:
    """Return the events after a position, or None when they cannot all be had."""
    if channel.is_ephemeral or position["epoch"] != channel.epoch:
        return None
    if not channel.floor <= position["offset"] <= channel.top:
        return None
    return [e for e in channel.events if e["offset"] > position["offset"]]
