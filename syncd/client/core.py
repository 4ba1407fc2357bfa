"""The Python client without its socket, its clock and its randomness: the reference of what a client does.

`ClientCore` owns everything a client knows. The shell (`syncd.client.shell`), tests and the simulator tell it what
happened and perform what `take` returns. Methods never wait and never call back.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from syncd.client.channels import ChannelTable
from syncd.client.connection import ClientClaim, ConnectionCore, ConnectionSettings
from syncd.client.errors import BadServerMessage, ClientClosed, RequestFailed
from syncd.client.facts import Complaint, HistoryPage, Output, Send, Settled
from syncd.client.frames import (
    Body,
    decode_frame,
    encode,
    event_from_body,
    pack_frames,
    position_from_body,
    position_to_wire,
)
from syncd.client.requests import Request, Requests
from syncd.client.subscription import SubscriptionCore
from syncd.client.tables import ConnectionState
from syncd.codes import ErrorCode
from syncd.ids import ChannelName, Position

__all__ = ["ClientCore"]

PONG = encode("pong", {})


class ClientCore:
    """One client over any number of connections.

    Args:
        rng: Source of jitter.
        new_uid: Makes idempotency keys; must not repeat over processes.
        token: Told in `hello`; None for anonymous clients.
        has_token_source: `AskToken` will be answered.
        settings: Durations.
    """

    def __init__(
        self,
        rng: random.Random,
        new_uid: Callable[[], str],
        *,
        token: str | None = None,
        has_token_source: bool = False,
        settings: ConnectionSettings | None = None,
    ) -> None:
        self._rng = rng
        self._new_uid = new_uid
        self._outputs: list[Output] = []
        self._messages: list[bytes] = []
        self._requests = Requests(rng)
        self._channels = ChannelTable(rng, self._send_with_id, self._outputs.append)
        self._announced: dict[ChannelName, Any] = {}
        """Presence states to announce anew on every connection."""
        self._connection = ConnectionCore(
            rng,
            self._outputs.append,
            settings or ConnectionSettings(),
            token=token,
            has_token_source=has_token_source,
        )
        self._handlers: dict[str, Callable[[Body, float], None]] = {
            "welcome": self._on_welcome,
            "ok": self._on_ok,
            "error": self._on_error,
            "reset": self._on_reset,
            "ping": self._on_ping,
            "bye": self._on_bye,
            **self._channels.handlers,
        }

    # -------------------------------------------------------------------------------- what it knows

    @property
    def state(self) -> ConnectionState:
        """The connection's state."""
        return self._connection.state

    @property
    def error(self) -> Exception | None:
        """Why the connection failed for good."""
        return self._connection.error

    @property
    def claim(self) -> ClientClaim | None:
        """The client id and secret the server issued."""
        return self._connection.claim

    def find_subscription(self, channel: str) -> SubscriptionCore | None:
        """Return the subscription of a channel, to look at."""
        return self._channels.find(channel)

    def next_deadline(self) -> float:
        """Return when `tick` has something to do; infinity for never."""
        deadline = self._connection.next_deadline()
        if self.state is not ConnectionState.CONNECTED:
            return deadline
        return min(deadline, self._requests.next_retry_at(), *self._channels.retries())

    def take(self) -> list[Output]:
        """Return and forget everything to be done and told since the last time, in order."""
        self._flush()
        taken = self._outputs.copy()
        self._outputs.clear()
        return taken

    def _flush(self) -> None:
        if self._messages:
            frames = pack_frames(self._messages, self._connection.max_frame_bytes)
            self._messages.clear()
            self._outputs.extend(map(Send, frames))

    # -------------------------------------------------------------------------------- lifecycle

    def start(self, now: float) -> None:
        """Begin to connect."""
        self._connection.start(now)

    def close(self) -> None:
        """Leave politely and end for good; open requests settle with `ClientClosed`."""
        if self.state is ConnectionState.CONNECTED:
            for channel in self._announced:
                self._send_with_id("presence", {"channel": channel})
        self._flush()
        self._connection.close()
        self._end_everything(ClientClosed("The client was closed."))

    def wake(self, now: float) -> None:
        """Dial at once if a dial is waited for."""
        self._connection.wake(now)

    def set_token(self, token: str) -> None:
        """Use a newer token of the same user, on this connection and later ones."""
        self._connection.token = token
        if self.state is ConnectionState.CONNECTED:
            self._ask("auth", {"token": token}, is_internal=True)

    def token_supplied(self, now: float, token: str) -> None:
        """Answer `AskToken`."""
        self._connection.token_supplied(now, token)

    def token_unavailable(self, now: float) -> None:
        """Answer `AskToken`: not now, ask again later."""
        self._connection.token_unavailable(now)

    def token_missing(self) -> None:
        """Answer `AskToken`: there is none; the client fails."""
        self._connection.token_missing()
        self._after_loss()

    def connect_succeeded(self) -> None:
        """Answer `Dial`: the WebSocket is open."""
        self._connection.connect_succeeded()

    def closed(self, now: float, code: int, reason: str = "", *, after_s: float = 0.0) -> None:
        """Answer `Dial`: the connection or the attempt is over.

        Args:
            now: On the shell's clock.
            code: Close code, 1006 when there was none.
            reason: For people.
            after_s: The server asked to wait this long (`Retry-After`).
        """
        self._messages.clear()
        self._connection.closed(now, code, reason, after_s)
        self._after_loss()

    def _after_loss(self) -> None:
        if self.state is ConnectionState.CONNECTED:
            return
        self._channels.went_offline()
        for request in self._requests.of_kind("auth", ""):
            self._requests.close(request.id)
        if self.state is ConnectionState.FAILED:
            self._end_everything(self._connection.error or ClientClosed())

    def _end_everything(self, error: Exception) -> None:
        self._channels.end_all()
        self._announced.clear()
        for request in self._requests.close_all():
            self._settle(request, error=error)

    def tick(self, now: float) -> None:
        """Do what is due."""
        self._connection.tick(now)
        if self.state is not ConnectionState.CONNECTED:
            return
        for request in self._requests.due(now):
            self._messages.append(request.message)
        self._channels.tick(now)

    # -------------------------------------------------------------------------------- the application asks

    def subscribe(
        self, channel: ChannelName, position: Position | None = None, *, presence: bool = False
    ) -> None:
        """Subscribe, or begin anew from another position."""
        self._channels.subscribe(channel, position, presence=presence)

    def watch_presence(self, channel: ChannelName) -> None:
        """Add presence to a subscription that is there."""
        self._channels.watch_presence(channel)

    def unsubscribe(self, channel: ChannelName) -> None:
        """End a subscription."""
        self._channels.unsubscribe(channel)

    def hold(self, channel: ChannelName) -> None:
        """The application cannot keep up: tell the server to stop; `release` goes on from there."""
        self._channels.hold(channel)

    def release(self, channel: ChannelName) -> None:
        """The application has caught up."""
        self._channels.release(channel)

    def publish(
        self,
        channel: ChannelName,
        data: Any,
        *,
        name: str | None = None,
        key: str | None = None,
        uid: str | None = None,
    ) -> int:
        """Publish; the request is resent until answered, under one idempotency key."""
        body = {"channel": channel, "name": name, "data": data, "key": key}
        body["uid"] = uid or self._new_uid()
        return self._ask("publish", body)

    def history(
        self,
        channel: ChannelName,
        *,
        limit: int = 100,
        since: Position | None = None,
        reverse: bool = False,
    ) -> int:
        """Ask for events of the past."""
        body = {"channel": channel, "since": position_to_wire(since), "limit": limit}
        body["reverse"] = reverse or None
        return self._ask("history", body)

    def set_presence(self, channel: ChannelName, state: Any) -> int:
        """Announce a state (None leaves), now and on every later connection.

        A state still on its way is superseded; who waits for it is told so by an ok.
        """
        for request in self._requests.of_kind("presence", channel):
            self._requests.close(request.id)
            self._settle(request)
        request_id = self._ask("presence", {"channel": channel, "state": state})
        if state is None:
            self._announced.pop(channel, None)
        else:
            self._announced[channel] = state
        return request_id

    def forget(self, request_id: int) -> None:
        """Nobody waits for this request any more: do not send it again."""
        self._requests.close(request_id)

    def _ask(self, kind: str, body: Body, *, is_internal: bool = False) -> int:
        request_id = self._requests.next_id()
        message = encode(kind, {"id": request_id, **body})
        channel = body.get("channel", "")
        request = self._requests.open(request_id, kind, message, channel, is_internal=is_internal)
        if self.state.is_final:
            self._requests.close(request_id)
            self._settle(request, error=self.error or ClientClosed("The client is closed."))
        elif self.state is ConnectionState.CONNECTED:
            self._send_request(request)
        return request_id

    def _send_request(self, request: Request) -> None:
        """Send it, unless the server is known to refuse its size by ending the connection."""
        limit = self._connection.max_frame_bytes
        if len(request.message) <= limit:
            self._messages.append(request.message)
            return
        self._requests.close(request.id)
        text = f"The message has {len(request.message)} bytes; the server takes {limit}."
        self._settle(request, error=RequestFailed(ErrorCode.TOO_LARGE.value, text))

    def _send_with_id(self, kind: str, body: Body) -> int:
        """Send a message whose answer is taken elsewhere, or by nobody."""
        request_id = self._requests.next_id()
        self._messages.append(encode(kind, {"id": request_id, **body}))
        return request_id

    def _settle(
        self,
        request: Request,
        *,
        result: Position | HistoryPage | None = None,
        error: Exception | None = None,
    ) -> None:
        if not request.is_internal:
            self._outputs.append(Settled(request.id, result, error))
        elif isinstance(error, RequestFailed):
            self._outputs.append(Complaint(error.code, error.message))

    # -------------------------------------------------------------------------------- the server speaks

    def receive(self, data: bytes, now: float) -> None:
        """Take one binary frame. Unknown messages are ignored; a broken one ends the connection."""
        if not self._connection.is_listening:
            return
        self._connection.heard(now)
        try:
            for kind, body in decode_frame(data):
                handler = self._handlers.get(kind)
                if handler is not None and self._connection.is_listening:
                    handler(body, now)
        except BadServerMessage as error:
            self._connection.hang_up_broken(str(error))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            self._connection.hang_up_broken(f"A message is malformed: {error!r}")

    def _on_welcome(self, body: Body, now: float) -> None:
        if not self._connection.welcomed(body, now):
            return
        self._channels.went_online()
        for channel, state in self._announced.items():
            if not self._requests.of_kind("presence", channel):
                self._announce(channel, state)
        for request in self._requests.all_to_send():
            self._send_request(request)

    def _announce(self, channel: ChannelName, state: Any) -> None:
        request_id = self._requests.next_id()
        message = encode("presence", {"id": request_id, "channel": channel, "state": state})
        self._requests.open(request_id, "presence", message, channel, is_internal=True)

    def _on_ok(self, body: Body, _now: float) -> None:
        request = self._requests.close(body["id"])
        if request is None:
            return
        position = position_from_body(body)
        if request.kind != "history":
            self._settle(request, result=position)
            return
        events = tuple(map(event_from_body, body.get("events") or ()))
        self._settle(request, result=HistoryPage(events, position))

    def _on_error(self, body: Body, now: float) -> None:
        after_ms = body.get("after_ms")
        error = RequestFailed(
            body["code"], body["message"], retryable=body["retryable"], after_ms=after_ms
        )
        request_id = body.get("id")
        if request_id is None:
            self._outputs.append(Complaint(error.code, error.message))
            return
        request = self._requests.find(request_id)
        if request is not None:
            self._request_refused(request, error, now)
            return
        self._channels.refused(request_id, error, now)

    def _request_refused(self, request: Request, error: RequestFailed, now: float) -> None:
        if error.retryable:
            self._requests.postpone(request, now, (error.after_ms or 0) / 1000)
            return
        self._requests.close(request.id)
        if request.kind == "presence":
            self._announced.pop(ChannelName(request.channel), None)
        self._settle(request, error=error)

    def _on_reset(self, body: Body, now: float) -> None:
        if body["scope"] == "client":
            self._connection.forget_client(body.get("client"))
        else:
            self._channels.reset(None if body["scope"] == "all" else body["channel"], now)

    def _on_ping(self, _body: Body, _now: float) -> None:
        self._messages.append(PONG)

    def _on_bye(self, body: Body, _now: float) -> None:
        self._flush()
        self._connection.said_bye(body)
