"""The connection's half of the core: dialling, hello, liveness, backoff, tokens and the clients it speaks for. Pure.

Owned by `ClientCore`. Invariant: every `Dial` is answered by one `closed` before the next `Dial` is told.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Sequence

import attrs

from syncd.client.backoff import Backoff
from syncd.client.errors import BadServerMessage, ConnectionStopped, Unauthorized
from syncd.client.facts import AskToken, Dial, Hangup, Output, Send, StateChanged
from syncd.client.frames import Body, encode
from syncd.client.tables import CONNECTION_TABLE, ConnectionInput, ConnectionState
from syncd.codes import CloseCode
from syncd.ids import ClientId

__all__ = ["ClientClaim", "ConnectionCore", "ConnectionSettings"]

PROTOCOL_VERSION = 1
ABNORMAL_CLOSE = 1006
"""RFC 6455: the connection ended without a close frame."""
LEAST_PACK_BYTES = 1_024
"""Frames of several messages are not made smaller than this."""


@attrs.frozen
class ConnectionSettings:
    """Durations and bounds of one connection."""

    connect_timeout_s: float = 20.0
    """From dialling to `welcome`: the server allows 10 s for the upgrade and 10 s for `hello`."""
    silence_slack_s: float = 10.0
    """Hearing nothing for `ping_ms` and this long means the connection is dead (DESIGN section 6)."""
    stable_s: float = 5.0
    """A connection that lasted this long resets the backoff and the count of refused tokens."""
    group: str | None = None
    """Told in `hello`: tabs of one user on one device."""
    term: int | None = None
    """Told in `hello`: leadership term within the group; a lower one than the server knows may not mutate."""


@attrs.frozen
class ClientClaim:
    """A client id and the secret that was issued with it."""

    client: ClientId
    secret: str = attrs.field(repr=False)


@attrs.define
class _Advice:
    """What `bye` said before the close."""

    code: int
    reason: str
    reconnect: bool
    after_s: float


class ConnectionCore:
    """State machine of the one connection."""

    def __init__(
        self,
        rng: random.Random,
        tell: Callable[[Output], None],
        settings: ConnectionSettings,
        *,
        token: str | None,
        has_token_source: bool,
        claims: Sequence[ClientClaim] = (),
    ) -> None:
        self.state = ConnectionState.IDLE
        self.token = token
        self.claims: list[ClientClaim] = list(claims)
        """Clients it speaks for, in the order of `welcome.clients`."""
        self.max_frame_bytes = 65_536
        """What the server accepts, told by `welcome`, or less where it has turned out that such does not get through."""
        self.pack_bytes = math.inf
        """What frames of several messages have at most: half as much after each session that `TOO_BIG` ended."""
        self.error: ConnectionStopped | None = None
        """Why it is FAILED."""
        self._tell = tell
        self._settings = settings
        self._backoff = Backoff(rng)
        self._has_token_source = has_token_source
        self._needs_token = False
        self._num_refused = 0
        self._advice: _Advice | None = None
        self._is_hanging_up = False
        self._deadline = math.inf
        """Of the state: to dial, to be welcome, or to have heard something."""
        self._silence_s = math.inf
        self._welcomed_at = math.inf
        self._is_cut = False
        """The last session was ended by `TOO_BIG`."""
        self._most_bytes: float = math.inf
        """Longer messages do not get through."""

    def _step(self, happened: ConnectionInput, code: int | None = None, reason: str = "") -> bool:
        """Go to the next state and tell it; return False where the table has no step."""
        next_state = CONNECTION_TABLE.get((self.state, happened))
        if next_state is None:
            return False
        self.state = next_state
        self._tell(StateChanged(next_state, code, reason))
        return True

    def next_deadline(self) -> float:
        """Return when `tick` has something to do; infinity for never."""
        return math.inf if self._is_hanging_up else self._deadline

    # -------------------------------------------------------------------------------- the application

    def start(self, now: float) -> None:
        """Begin."""
        if self.token is None and self._has_token_source:
            if self._step(ConnectionInput.DENIED):
                self._ask_token()
        elif self._step(ConnectionInput.START):
            self._dial(now)

    def wake(self, now: float) -> None:
        """Dial at once if it only waits for that: the network is back, say."""
        if self.state is ConnectionState.OFFLINE:
            self._deadline = now
            self.tick(now)

    def close(self) -> None:
        """End for good."""
        was_up = self.state in (ConnectionState.CONNECTING, ConnectionState.CONNECTED)
        if self._step(ConnectionInput.CLOSE):
            self._deadline = math.inf
            if was_up:
                self._hang_up(CloseCode.NORMAL, "")

    def token_supplied(self, now: float, token: str) -> None:
        """Here is the token that was asked for."""
        self.token = token
        if self._step(ConnectionInput.TOKEN):
            self._needs_token = False
            self._dial(now)

    def token_unavailable(self, now: float) -> None:
        """No token can be had now; ask again after a while."""
        if self._step(ConnectionInput.NO_TOKEN_NOW):
            self._deadline = now + self._backoff.next_s()

    def token_missing(self) -> None:
        """The application has no token to give."""
        self._fail(ConnectionInput.NO_TOKEN, CloseCode.UNAUTHORIZED, "There is no token.")

    # -------------------------------------------------------------------------------- the transport

    def connect_succeeded(self) -> None:
        """The WebSocket is open: say hello."""
        if self.state is not ConnectionState.CONNECTING or self._is_hanging_up:
            return
        claims = [{"client": claim.client, "secret": claim.secret} for claim in self.claims]
        body: Body = {"v": PROTOCOL_VERSION, "token": self.token, "clients": claims or None}
        body["group"], body["term"] = self._settings.group, self._settings.term
        self._tell(Send(encode("hello", body)))

    def closed(self, now: float, code: int, reason: str, after_s: float) -> None:
        """The connection, or the attempt, is over."""
        if self.state not in (ConnectionState.CONNECTING, ConnectionState.CONNECTED):
            return
        advice, self._advice = self._advice, None
        self._is_hanging_up = False
        may_return = True
        if advice is not None:
            code, reason, may_return = advice.code, advice.reason, advice.reconnect
            after_s = max(after_s, advice.after_s)
        if now - self._welcomed_at >= self._settings.stable_s:
            self._backoff.reset()
            self._num_refused = 0
        if code == CloseCode.TOO_BIG and self._welcomed_at < math.inf:
            self._is_cut = True
            self.pack_bytes = max(self.pack_bytes / 2, LEAST_PACK_BYTES)
        self._welcomed_at = math.inf
        if code == CloseCode.UNAUTHORIZED:
            self._denied(code, reason)
        elif not may_return or 4500 <= code <= 4999:
            self._fail(ConnectionInput.STOPPED, code, reason)
        elif self._step(ConnectionInput.LOST, code, reason):
            self._deadline = now + self._backoff.next_s(after_s)

    def _denied(self, code: int, reason: str) -> None:
        if not self._has_token_source or self._num_refused > 0:
            self._fail(ConnectionInput.STOPPED, code, reason)
        elif self._step(ConnectionInput.DENIED, code, reason):
            self._num_refused += 1
            self._ask_token()

    def _fail(self, happened: ConnectionInput, code: int, reason: str) -> None:
        if self._step(happened, code, reason):
            kind = Unauthorized if code == CloseCode.UNAUTHORIZED else ConnectionStopped
            self.error = kind(int(code), reason)
            self._deadline = math.inf

    def hang_up_broken(self, reason: str) -> None:
        """End this connection, because the server does not speak the protocol, and come back."""
        self._hang_up(CloseCode.PROTOCOL_ERROR_WS, reason)

    def hang_up_anew(self) -> None:
        """End this connection, because only a new session gives what is needed."""
        self._hang_up(CloseCode.NORMAL, "")

    @property
    def claim(self) -> ClientClaim | None:
        """The first client it speaks for."""
        return self.claims[0] if self.claims else None

    @property
    def is_listening(self) -> bool:
        """Whether what comes in still counts."""
        up = self.state in (ConnectionState.CONNECTING, ConnectionState.CONNECTED)
        return up and not self._is_hanging_up

    def _hang_up(self, code: int, reason: str) -> None:
        if not self._is_hanging_up:
            self._is_hanging_up = True
            self._tell(Hangup(int(code), reason))

    # -------------------------------------------------------------------------------- the server

    def heard(self, now: float) -> None:
        """Something came in: the connection lives."""
        if self.state is ConnectionState.CONNECTED:
            self._deadline = now + self._silence_s

    def welcomed(self, body: Body, now: float) -> bool:
        """Take `welcome`: adopt the client and the limits.

        Raises:
            BadServerMessage: a field is missing or of the wrong type.
        """
        try:
            claims = _claims_after(self.claims, body["clients"])
            silence_s = body["ping_ms"] / 1000 + self._settings.silence_slack_s
            max_frame_bytes = int(body["max_frame_bytes"])
        except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
            msg = "A welcome misses a field."
            raise BadServerMessage(msg) from error
        if not self._step(ConnectionInput.WELCOMED):
            return False
        self.claims = claims
        self.max_frame_bytes = int(min(max_frame_bytes, self._most_bytes))
        self.pack_bytes = min(self.pack_bytes, self.max_frame_bytes)
        self._silence_s = silence_s
        self._welcomed_at = now
        self._deadline = now + silence_s
        return True

    def blame(self, sizes: Iterable[int]) -> None:
        """The messages that have no answer are so long.

        If `TOO_BIG` ended the last session, and none of its frames of several messages can have been as long as the longest of these, then
        that is too long, whichever frame it was: that was a shorter one, or this. What was answered has got through, so it is shorter.
        """
        if self._is_cut and (longest := max(sizes, default=0)) > 2 * self.pack_bytes:
            self.max_frame_bytes = self._most_bytes = longest - 1
        self._is_cut = False

    def said_bye(self, body: Body) -> None:
        """Take `bye`: note its advice and end the connection."""
        try:
            after_s = body["after_ms"] / 1000
            self._advice = _Advice(body["code"], body["reason"], body["reconnect"], after_s)
        except (KeyError, TypeError) as error:
            msg = "A bye misses a field."
            raise BadServerMessage(msg) from error
        self._hang_up(CloseCode.NORMAL, "")

    def forget_client(self, client: str | None) -> None:
        """The server no longer knows this client."""
        self.claims = [c for c in self.claims if client not in (None, c.client)]

    # -------------------------------------------------------------------------------- time

    def tick(self, now: float) -> None:
        """Do what is due."""
        if now < self.next_deadline():
            return
        match self.state:
            case ConnectionState.OFFLINE if self._needs_token:
                self._deadline = math.inf
                self._step(ConnectionInput.TIMER_WITHOUT_TOKEN)
                self._ask_token()
            case ConnectionState.OFFLINE:
                self._step(ConnectionInput.TIMER)
                self._dial(now)
            case ConnectionState.CONNECTING:
                self._hang_up(ABNORMAL_CLOSE, "The server did not answer in time.")
            case ConnectionState.CONNECTED:
                self._hang_up(ABNORMAL_CLOSE, "Nothing was heard from the server in time.")
            case _:
                """The other states have no deadline."""

    def _dial(self, now: float) -> None:
        self._is_hanging_up = False
        self._deadline = now + self._settings.connect_timeout_s
        self._tell(Dial())

    def _ask_token(self) -> None:
        self._needs_token = True
        self._deadline = math.inf
        self._tell(AskToken())


def _claims_after(claims: Sequence[ClientClaim], states: Sequence[Body]) -> list[ClientClaim]:
    """Return the claims that `welcome.clients` leaves: each as it was, or as it was issued anew."""
    kept = []
    for place, state in enumerate(states):
        client, secret = ClientId(state["client"]), state.get("secret")
        if secret is not None:
            kept.append(ClientClaim(client, secret))
        elif place < len(claims) and claims[place].client == client:
            kept.append(claims[place])
        else:
            raise KeyError("secret")
    if not kept:
        raise IndexError
    return kept
