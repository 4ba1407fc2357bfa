"""Plays one scene about the connection and channels against the Python client's core, and writes down every step.

What a scene is about it asserts by `told` and `sent`, by hand; the rest is recorded.
"""

from __future__ import annotations

import random
from typing import Any

import msgpack

from scripts.traces.steps import Steps
from scripts.vectors.case import plain
from syncd.client.core import ClientCore
from syncd.client.errors import ClientError, RequestFailed
from syncd.client.facts import (
    Complaint,
    Dial,
    Event,
    Hangup,
    HistoryPage,
    Marked,
    Member,
    PresenceChanged,
    Received,
    Reset,
    Send,
    Settled,
    StateChanged,
    SubscriptionEnded,
)
from syncd.ids import ChannelName, Epoch, Position

__all__ = ["CHANNEL", "ChannelScene"]

CHANNEL = ChannelName("demo:room")
EPOCH = "e1"
Body = dict[str, Any]


class ChannelScene(Steps):
    """A trace that is being written. Every method is one step, or looks at what the last one left."""

    def __init__(self) -> None:
        self.core = ClientCore(random.Random(1), lambda: "uid")
        self.steps: list[Body] = []
        self.now = 0.0
        self._requests: dict[int, int] = {}
        """Request id to its number among those of the application."""
        self._asked: dict[str, int] = {}
        """Kind of message to the id of the last one that was sent."""
        self._told: list[list[Any]] = []
        self._sent: list[list[Any]] = []
        self._is_started = False

    # -------------------------------------------------------------------------------- steps

    def _step(self, do: str, **fields: Any) -> None:
        step: Body = {"do": do, **fields}
        self._told, self._sent = [], []
        hangs_up = False
        for output in self.core.take():
            match output:
                case Send(data=data):
                    self._note_sent(data)
                case Hangup():
                    hangs_up = True
                case Dial():
                    """Every connection is opened by a step of its own."""
                case _:
                    self._told += _words(output, self._requests)
        done = {"told": self._told, "sent": self._sent}
        step |= {key: plain(value) for key, value in done.items() if value}
        if hangs_up:
            step["hangs_up"] = True
        subscription = self.core.find_subscription(CHANNEL)
        step["position"] = None if subscription is None else _position(subscription.position)
        self.steps.append(step)

    def _note_sent(self, frame: bytes) -> None:
        unpacker = msgpack.Unpacker()
        unpacker.feed(frame)
        for kind, body in unpacker:
            self._asked[kind] = body.get("id", 0)
            self._sent.append([kind, body])

    def subscribe(self, *, position: int | None = None, presence: bool = False) -> None:
        """The application subscribes, or begins anew."""
        at = None if position is None else Position(Epoch(EPOCH), position)
        self.core.subscribe(CHANNEL, at, presence=presence)
        more: Body = {"presence": True} if presence else {}
        self._step("subscribe", channel=CHANNEL, from_position=_position(at), **more)

    def unsubscribe(self) -> None:
        """The application ends the subscription."""
        self.core.unsubscribe(CHANNEL)
        self._step("unsubscribe", channel=CHANNEL)

    def publish(self, data: Any, *, uid: str = "u1") -> None:
        """The application publishes."""
        self._ask(self.core.publish(CHANNEL, data, uid=uid))
        self._step("publish", channel=CHANNEL, data=data, uid=uid)

    def history(self, limit: int) -> None:
        """The application asks for the past."""
        self._ask(self.core.history(CHANNEL, limit=limit))
        self._step("history", channel=CHANNEL, limit=limit)

    def presence(self, state: Any) -> None:
        """The application announces a state, or leaves."""
        self._ask(self.core.set_presence(CHANNEL, state))
        self._step("presence", channel=CHANNEL, state=state)

    def _ask(self, request_id: int) -> None:
        self._requests[request_id] = len(self._requests) + 1

    def open(self, max_frame_bytes: int = 65_536) -> None:
        """A connection opens, hello is sent, and welcome comes."""
        if self._is_started:
            self.core.wake(self.now)
        else:
            self.core.start(self.now)
        clients: list[Body] = [{"client": "c1", "last_mid": 0}]
        if not self._is_started:
            clients[0]["secret"] = "s-c1"
        self._is_started = True
        self.core.connect_succeeded()
        self._step("open")
        limits = {"server_time_ms": 0, "ping_ms": 25_000, "max_frame_bytes": max_frame_bytes}
        self.receive(["welcome", {"session": "s", "clients": clients, **limits}])

    def close(self) -> None:
        """The application closes the client."""
        self.core.close()
        self._step("close")

    # -------------------------------------------------------------------------------- the server's messages

    def subscribed(self, offset: int | None, *events: list[Any], **more: Any) -> list[Any]:
        """Build the answer to the last subscribe; `recovered=True` for one that goes on."""
        recovered = more.pop("recovered", False)
        epoch = more.pop("epoch", EPOCH)
        body: Body = {"id": self._asked["subscribe"], "channel": CHANNEL}
        if offset is not None:
            body["position"] = {"epoch": epoch, "offset": offset}
        body |= {"was_recovering": recovered, "recovered": recovered}
        return ["subscribed", body | {"events": [event for _, event in events]} | more]

    def event(self, offset: int | None, **more: Any) -> list[Any]:
        """Build an event of a stream channel; `prev=None` for others, no offset for an ephemeral one."""
        body: Body = {"channel": CHANNEL, "data": offset, "at_ms": 0}
        if offset is not None:
            body |= {"epoch": EPOCH, "prev": offset - 1, "offset": offset}
        return ["event", {k: v for k, v in (body | more).items() if k != "prev" or v is not None}]

    def ok(self, kind: str, **more: Any) -> list[Any]:
        """Build the ok to the last message of this kind."""
        return ["ok", {"id": self._asked[kind], **more}]

    def error(self, kind: str, code: str, **more: Any) -> list[Any]:
        """Build an error to the last message of this kind."""
        body = {"id": self._asked[kind], "code": code, "message": "no", "retryable": False}
        return ["error", body | more]

    # -------------------------------------------------------------------------------- what a scene asserts

    def told(self, *words: Any) -> None:
        """Assert what the last step told: the first words of each fact, the offset alone for an event."""
        found = [fact[2] if fact[0] == "event" else fact[0] for fact in self._told]
        assert found == list(words), (found, words)

    def sent(self, *kinds: str) -> None:
        """Assert what the last step sent."""
        assert [kind for kind, _ in self._sent] == list(kinds), (self._sent, kinds)


def _words(fact: Any, requests: dict[int, int]) -> list[list[Any]]:
    """Return a fact as plain words; nothing for those that are no part of a trace."""
    match fact:
        case Received(event=event):
            return [["event", event.channel, _offset(event), event.data]]
        case Reset(channel=channel, position=position, cause=cause):
            return [["reset", channel, _position(position), cause.value.replace("_", "-")]]
        case Marked(channel=channel, position=position):
            return [["mark", channel, _position(position)]]
        case SubscriptionEnded(channel=channel, code=code):
            return [["ended", channel, code]]
        case PresenceChanged(channel=channel, members=members):
            return [["presence", channel, [_member(member) for member in members]]]
        case Settled(request_id=request_id, result=result, error=error):
            return [["settled", requests[request_id], _result(result), _code(error)]]
        case StateChanged(state=state, code=code):
            return [["state", state.value.replace("_", "-"), code]]
        case Complaint(code=code):
            return [["complaint", code]]
        case _:
            return []


def _position(position: Position | None) -> Body | None:
    return None if position is None else {"epoch": position.epoch, "offset": position.offset}


def _offset(event: Event) -> int | None:
    return None if event.position is None else event.position.offset


def _member(member: Member) -> list[Any]:
    return [member.member, [[state.client, state.state] for state in member.states]]


def _result(result: Any) -> Any:
    if isinstance(result, HistoryPage):
        return [_position(result.position), [_offset(event) for event in result.events]]
    return _position(result)


def _code(error: Exception | None) -> str | None:
    match error:
        case RequestFailed(code=code):
            return code
        case ClientError():
            return type(error).__name__
        case _:
            return None
