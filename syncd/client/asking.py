"""Requests of the application: publish, history, read, presence, token. Pure.

Owned by `ClientCore`, which tells it what happened. Every request settles once.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from syncd.client.connection import ConnectionCore
from syncd.client.errors import ClientClosed, RequestFailed
from syncd.client.facts import Complaint, HistoryPage, Output, RequestResult, Settled
from syncd.client.facts_state import ReadResult, job_from_body
from syncd.client.frames import (
    Body,
    encode,
    entry_from_body,
    event_from_body,
    position_from_body,
    position_to_wire,
)
from syncd.client.requests import Request, Requests
from syncd.client.tables import ConnectionState
from syncd.codes import ErrorCode
from syncd.ids import ChannelName, Position

__all__ = ["Asking"]


class Asking:
    """Requests over any number of connections, and the presence states that go with them.

    Args:
        rng: Source of jitter.
        connection: Says whether there is one, and what it takes.
        send: Send one encoded message.
        tell: Queue an output.
    """

    def __init__(
        self,
        rng: random.Random,
        connection: ConnectionCore,
        send: Callable[[bytes], None],
        tell: Callable[[Output], None],
    ) -> None:
        self._connection = connection
        self._send = send
        self._tell = tell
        self._requests = Requests(rng)
        self._announced: dict[ChannelName, Any] = {}
        """Presence states to announce anew on every connection."""

    # -------------------------------------------------------------------------------- connection and time

    def went_online(self) -> None:
        """A session is there: announce presence, and send everything that has no answer."""
        for channel, state in self._announced.items():
            if not self._requests.of_kind("presence", channel):
                self._announce(channel, state)
        for request in self._requests.all_to_send():
            self._send_request(request)

    def _announce(self, channel: ChannelName, state: Any) -> None:
        request_id = self._requests.next_id()
        message = encode("presence", {"id": request_id, "channel": channel, "state": state})
        self._requests.open(request_id, "presence", message, channel, is_internal=True)

    def went_offline(self) -> None:
        """The session is gone; the next hello brings the newest token by itself."""
        for request in self._requests.of_kind("auth", ""):
            self._requests.close(request.id)

    def sizes(self) -> Iterator[int]:
        """Yield how long the messages are that have no answer."""
        return (len(request.message) for request in self._requests.all())

    def leave_all(self) -> None:
        """Take every announcement back."""
        for channel in self._announced:
            self.send_with_id("presence", {"channel": channel})

    def end_all(self, error: Exception) -> None:
        """The client is over: settle everything."""
        self._announced.clear()
        for request in self._requests.close_all():
            self._settle(request, error=error)

    def next_deadline(self) -> float:
        """Return when `tick` has something to do."""
        return self._requests.next_retry_at()

    def tick(self, now: float) -> None:
        """Send again what was put off until now."""
        for request in self._requests.due(now):
            self._send(request.message)

    # -------------------------------------------------------------------------------- the application asks

    def history(
        self, channel: ChannelName, *, limit: int, since: Position | None, reverse: bool
    ) -> int:
        """Ask for events of the past."""
        body = {"channel": channel, "since": position_to_wire(since), "limit": limit}
        body["reverse"] = reverse or None
        return self.ask("history", body)

    def read(
        self, collection: str, keys: Iterable[str], after: Mapping[str, Position] | None
    ) -> int:
        """Ask for entries once."""
        body: Body = {"collection": collection, "keys": list(keys)}
        if after:
            body["after"] = {name: position_to_wire(at) for name, at in after.items()}
        return self.ask("read", body)

    def set_presence(self, channel: ChannelName, state: Any) -> int:
        """Announce a state (None leaves), now and on every later connection."""
        for request in self._requests.of_kind("presence", channel):
            self._requests.close(request.id)
            self._settle(request)
        request_id = self.ask("presence", {"channel": channel, "state": state})
        if state is None:
            self._announced.pop(channel, None)
        elif self._requests.find(request_id) is not None:
            self._announced[channel] = state
        return request_id

    def forget(self, request_id: int) -> None:
        """Nobody waits for this request any more: do not send it again."""
        self._requests.close(request_id)

    def ask(self, kind: str, body: Body, *, is_internal: bool = False) -> int:
        """Make a request that is sent until it has its answer; return its number."""
        request_id = self._requests.next_id()
        message = encode(kind, {"id": request_id, **body})
        channel = body.get("channel", "")
        request = self._requests.open(request_id, kind, message, channel, is_internal=is_internal)
        state = self._connection.state
        if state.is_final:
            self._requests.close(request_id)
            error = self._connection.error or ClientClosed("The client is closed.")
            self._settle(request, error=error)
        elif state is ConnectionState.CONNECTED:
            self._send_request(request)
        return request_id

    def send_with_id(self, kind: str, body: Body) -> int:
        """Send a message whose answer is taken elsewhere, or by nobody."""
        request_id = self._requests.next_id()
        self._send(encode(kind, {"id": request_id, **body}))
        return request_id

    def _send_request(self, request: Request) -> None:
        """Send it, unless the server is known to refuse its size by ending the connection."""
        limit = self._connection.max_frame_bytes
        if len(request.message) <= limit:
            self._send(request.message)
            return
        text = f"The message has {len(request.message)} bytes; the server takes {limit}."
        self._fail(request, RequestFailed(ErrorCode.TOO_LARGE.value, text))

    def _fail(self, request: Request, error: RequestFailed) -> None:
        self._requests.close(request.id)
        if request.kind == "presence":
            self._announced.pop(ChannelName(request.channel), None)
        self._settle(request, error=error)

    def _settle(
        self,
        request: Request,
        *,
        result: RequestResult = None,
        error: Exception | None = None,
    ) -> None:
        if not request.is_internal:
            self._tell(Settled(request.id, result, error))
        elif isinstance(error, RequestFailed):
            self._tell(Complaint(error.code, error.message))

    # -------------------------------------------------------------------------------- the server answers

    def answered(self, body: Body) -> None:
        """Take an `ok`."""
        request = self._requests.close(body["id"])
        if request is not None:
            self._settle(request, result=_result(request.kind, body))

    def refused(self, request_id: int, error: RequestFailed, now: float) -> bool:
        """Take an error; return whether it answered one of these requests."""
        request = self._requests.find(request_id)
        if request is None:
            return False
        if error.retryable:
            self._requests.postpone(request, now, (error.after_ms or 0) / 1000)
            return True
        self._fail(request, error)
        return True


def _result(kind: str, body: Body) -> RequestResult:
    position = position_from_body(body)
    match kind:
        case "history":
            return HistoryPage(tuple(map(event_from_body, body.get("events") or ())), position)
        case "read":
            return ReadResult(position, tuple(map(entry_from_body, body.get("entries") or ())))
        case "rebuild" | "rebuild_cancel":
            return job_from_body(body["job"])
        case _:
            return position
