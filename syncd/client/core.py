"""The Python client without its socket, its clock and its randomness: the reference of what a client does.

`ClientCore` owns everything a client knows. The shell (`syncd.client.shell`), tests and the simulator tell it what
happened and perform what `take` returns. Methods never wait and never call back.
"""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from syncd.client.ages import AppliedAge
from syncd.client.asking import Asking
from syncd.client.channels import ChannelTable
from syncd.client.connection import ClientClaim, ConnectionCore, ConnectionSettings
from syncd.client.errors import BadServerMessage, ClientClosed, RequestFailed
from syncd.client.facts import Complaint, Output, Send
from syncd.client.frames import Body, decode_frame, encode, pack_frames
from syncd.client.local_tx import LocalMutator
from syncd.client.state import StateCore
from syncd.client.subscription import SubscriptionCore
from syncd.client.tables import ConnectionState
from syncd.client.watch import Selection
from syncd.ids import ChannelName, Position

__all__ = ["ClientCore"]


class ClientCore:
    """One client over any number of connections.

    Args:
        rng: Source of jitter.
        new_uid: Makes idempotency keys; must not repeat over processes.
        token: Told in `hello`; None for anonymous clients.
        has_token_source: `AskToken` will be answered.
        settings: Durations.
        mutators: What predicts mutations, by full name; see `StateCore`.
        claims: Clients to speak for, from earlier sessions; none: one is issued.
    """

    def __init__(
        self,
        rng: random.Random,
        new_uid: Callable[[], str],
        *,
        token: str | None = None,
        has_token_source: bool = False,
        settings: ConnectionSettings | None = None,
        mutators: Mapping[str, LocalMutator | None] | None = None,
        claims: Sequence[ClientClaim] = (),
    ) -> None:
        self._new_uid = new_uid
        self._outputs: list[Output] = []
        self._messages: list[bytes] = []
        self._connection = ConnectionCore(
            rng,
            self._outputs.append,
            settings or ConnectionSettings(),
            token=token,
            has_token_source=has_token_source,
            claims=claims,
        )
        self._age = AppliedAge()
        send, tell = self._messages.append, self._outputs.append
        self._asking = Asking(rng, self._connection, send, tell)
        request = self._asking.send_with_id
        self._channels = ChannelTable(rng, request, tell)
        self.entries = StateCore(
            rng, request, send, tell, mutators=mutators or {}, num_clients=max(len(claims), 1)
        )
        """Collections and mutations."""
        self._handlers: dict[str, Callable[[Body, float], object]] = {
            "welcome": self._on_welcome,
            "ok": self._on_ok,
            "error": self._on_error,
            "reset": self._on_reset,
            "ping": self._on_ping,
            "bye": self._on_bye,
            **self._channels.handlers,
            **self.entries.handlers,
            "out_of_order": self._on_out_of_order,
        }
        for kind in self.entries.shared_handlers:
            self._handlers[kind] = functools.partial(self._on_shared, kind)

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
        rooms = (*self._channels.retries(), *self.entries.deadlines())
        return min(deadline, self._asking.next_deadline(), *rooms)

    def take(self) -> list[Output]:
        """Return and forget everything to be done and told since the last time, in order."""
        self.entries.flush()
        self._flush()
        taken = self._outputs.copy()
        self._outputs.clear()
        return taken

    def _flush(self) -> None:
        if self._messages:
            frames = pack_frames(self._messages, self._connection.pack_bytes)
            self._messages.clear()
            self._outputs.extend(map(Send, frames))

    # -------------------------------------------------------------------------------- lifecycle

    def start(self, now: float) -> None:
        """Begin to connect."""
        self._connection.start(now)

    def close(self) -> None:
        """Leave politely and end for good; open requests settle with `ClientClosed`."""
        if self.state is ConnectionState.CONNECTED:
            self._asking.leave_all()
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
            self._asking.ask("auth", {"token": token}, is_internal=True)

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
        self.entries.went_offline()
        self._asking.went_offline()
        if self.state is ConnectionState.FAILED:
            self._end_everything(self._connection.error or ClientClosed())

    def _end_everything(self, error: Exception) -> None:
        self._channels.end_all()
        self.entries.end_all()
        self._asking.end_all(error)

    def tick(self, now: float) -> None:
        """Do what is due."""
        self._connection.tick(now)
        if self.state is not ConnectionState.CONNECTED:
            return
        self._asking.tick(now)
        self._channels.tick(now)
        self.entries.tick(now)

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
        return self._asking.ask("publish", body)

    def history(
        self,
        channel: ChannelName,
        *,
        limit: int = 100,
        since: Position | None = None,
        reverse: bool = False,
    ) -> int:
        """Ask for events of the past."""
        return self._asking.history(channel, limit=limit, since=since, reverse=reverse)

    def read(
        self,
        collection: str,
        keys: Iterable[str],
        *,
        after: Mapping[str, Position] | None = None,
    ) -> int:
        """Ask for entries of a collection once, at least as new as `after` and as what this client has changed."""
        wanted = list(keys)
        after = self.entries.own_writes.after(collection, wanted, after)
        return self._asking.read(collection, wanted, after)

    def rebuild(self, body: Body) -> int:
        """Start a rebuild; resent until answered, it is one job."""
        return self._asking.ask("rebuild", {**body, "uid": body.get("uid") or self._new_uid()})

    def cancel_rebuild(self, job: str) -> int:
        """Have a rebuild end."""
        return self._asking.ask("rebuild_cancel", {"job": job})

    def set_presence(self, channel: ChannelName, state: Any) -> int:
        """Announce a state (None leaves), now and on every later connection.

        A state still on its way is superseded; who waits for it is told so by an ok.
        """
        return self._asking.set_presence(channel, state)

    def forget(self, request_id: int) -> None:
        """Nobody waits for this request any more: do not send it again."""
        self._asking.forget(request_id)

    def watch(self, selection: Selection) -> int:
        """Watch entries of a collection; return the watch's number."""
        return self.entries.watch(selection)

    def unwatch(self, watch_id: int) -> None:
        """End a watch."""
        self.entries.unwatch(watch_id)

    def mutate(
        self, now: float, name: str, args: Any = None, *, slot: int = 0
    ) -> tuple[int, object]:
        """Predict a mutation and send it until it is decided; see `StateCore.mutate`.

        Raises:
            ClientClosed: the client has ended.
        """
        if self.state.is_final:
            raise self.error or ClientClosed("The client is closed.")
        limit = self._connection.max_frame_bytes
        made = self.entries.mutate(name, args, now, max_bytes=limit, slot=slot)
        if self.entries.needs_session and self.state is ConnectionState.CONNECTED:
            self._connection.hang_up_anew()
        return made

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
                    if kind == "event":
                        self._age.applied(body["at_ms"], now)
        except BadServerMessage as error:
            self._connection.hang_up_broken(str(error))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            self._connection.hang_up_broken(f"A message is malformed: {error!r}")

    def _on_welcome(self, body: Body, now: float) -> None:
        if not self._connection.welcomed(body, now):
            return
        self._age.welcomed(body["server_time_ms"], now)
        self._connection.blame(itertools.chain(self._asking.sizes(), self.entries.sizes()))
        self.entries.welcomed(
            body,
            now,
            max_frame_bytes=self._connection.max_frame_bytes,
            pack_bytes=self._connection.pack_bytes,
        )
        self._channels.went_online()
        self._asking.went_online()

    def _on_ok(self, body: Body, _now: float) -> None:
        self._asking.answered(body)

    def _on_error(self, body: Body, now: float) -> None:
        after_ms = body.get("after_ms")
        error = RequestFailed(
            body["code"], body["message"], retryable=body["retryable"], after_ms=after_ms
        )
        request_id = body.get("id")
        if request_id is not None:
            for room in (self._asking, self._channels, self.entries):
                if room.refused(request_id, error, now):
                    return
        elif body.get("mid") is not None:
            self.entries.mutation_failed(body, error, now)
            if not error.retryable:
                self._outputs.append(Complaint(error.code, error.message))
        else:
            self._outputs.append(Complaint(error.code, error.message))

    def _on_reset(self, body: Body, now: float) -> None:
        scope = body["scope"]
        if scope != "channel":
            client = body.get("client") if scope == "client" else None
            self._connection.forget_client(client)
            self.entries.forget_client(client)
        if scope != "client":
            channel = None if scope == "all" else body["channel"]
            self._channels.reset(channel, now)
            self.entries.reset(channel, now)
        if self.entries.needs_session:
            self._connection.hang_up_anew()

    def _on_out_of_order(self, body: Body, now: float) -> None:
        self.entries.out_of_order(body, now)
        if self.entries.needs_session:
            self._connection.hang_up_anew()

    def _on_shared(self, kind: str, body: Body, now: float) -> None:
        """Hand on what both kinds of channels are told; each room knows its own."""
        self._channels.handlers[kind](body, now)
        self.entries.shared_handlers[kind](body, now)

    def _on_ping(self, _body: Body, _now: float) -> None:
        self._messages.append(encode("pong", self._age.take()))

    def _on_bye(self, body: Body, _now: float) -> None:
        self._flush()
        self._connection.said_bye(body)
