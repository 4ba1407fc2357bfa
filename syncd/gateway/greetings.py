"""The `hello` of a session: who speaks, for which clients, and where their mutations stand.

Owner of: the index of sessions by user and by client, and the groups. A session that names clients it has from before waits for the last
mutation decided of each (`AddClients`, behind whatever was handed over for them) before it is welcomed; it speaks for them from `hello`
on, so that an older session's later mutations are refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from syncd.codes import CloseCode, Reason
from syncd.config import Config
from syncd.errors import RequestRejected, SyncdError
from syncd.gateway.connection import ANONYMOUS, Connection
from syncd.gateway.holding import RETRY_MS, MustWait
from syncd.gateway.hub import Hub
from syncd.gateway.terms import Groups
from syncd.model.admin_sessions import Verifier
from syncd.model.client_secrets import ClientSecrets, issue_day_of
from syncd.model.revocations import Revocations
from syncd.ports import Identity
from syncd.ports_cluster import ClusterSessions
from syncd.ports_collections import AddClients, LastMids
from syncd.wire import encode
from syncd.wire import messages as m
from syncd.wire.session import Phase

__all__ = ["CLIENT_DAYS", "UNAUTHORIZED", "Greetings"]

UNAUTHORIZED = "the token is missing or not accepted"
CLIENT_DAYS = 90
"""How long the store knows a client after its last mutation (docs/adr/0007)."""
_DAY_S = 86_400


class Greetings:
    """Handles `hello`, and knows whose sessions are here."""

    def __init__(
        self,
        hub: Hub,
        *,
        config: Config,
        tokens: Verifier,
        secrets: ClientSecrets,
        revocations: Revocations,
        wall_s: Callable[[], float],
        node: str,
        open_session: Callable[[Connection], None],
        on_taken_over: Callable[[Connection, str], None],
    ) -> None:
        self._hub = hub
        self._config = config
        self._tokens = tokens
        self._secrets = secrets
        self._revocations = revocations
        self._wall_s = wall_s
        self._node = node
        self._open_session = open_session
        self._on_taken_over = on_taken_over
        self._num_opened = 0
        self.groups = Groups()
        self.cluster: ClusterSessions | None = None
        """Told who comes, for the other nodes; None: there are none."""
        self.by_user: dict[str, set[Connection]] = {}
        self.by_client: dict[str, Connection] = {}
        self.taken_at: dict[str, int] = {}
        """Since which stamp of the cluster a session here speaks for a client that it had before."""

    def hello(self, connection: Connection, message: m.Hello) -> None:
        """Open the session, or close the connection: 4501, 4401, 4505, 4004."""
        hub = self._hub
        if message.v != 1:
            hub.close(connection, CloseCode.UNSUPPORTED_VERSION, "this server speaks version 1")
            return
        identity = self.identify(message.token)
        if identity is None:
            hub.close(connection, CloseCode.UNAUTHORIZED, UNAUTHORIZED)
            return
        if self._has_too_many(identity):
            reason = "too many connections of this user"
            hub.close(connection, CloseCode.OVERLOADED, reason, after_ms=10_000)
            return
        known = [claim for claim in message.clients if self._secrets.is_known(claim.client)]
        if not all(self._secrets.verify(claim.client, claim.secret) for claim in known):
            hub.close(connection, CloseCode.CLIENT_DENIED, "wrong client secret")
            return
        clients = tuple(dict.fromkeys(claim.client for claim in known))
        self._open(connection, message, identity, clients)
        claimed = [claim.client for claim in message.clients]
        if clients and hub.cache_owner is not None:
            hub.holding.begin(connection).is_opening = True
            waiting = _Greeting(self, connection, clients, claimed)
            hub.to_cache_owner.append(AddClients(clients, waiting.answer))
            raise MustWait(again=_nothing)
        connection.era = hub.era()
        self._welcome(connection, claimed, dict.fromkeys(clients, 0))

    def _open(
        self, connection: Connection, message: m.Hello, identity: Identity, clients: tuple[str, ...]
    ) -> None:
        self._num_opened += 1
        connection.phase = Phase.OPEN
        connection.id = f"{self._node}-{self._num_opened:x}"
        connection.identity = identity
        if message.group is not None:
            self.groups.enter(connection, message.group, message.term or 0)
            if self.cluster is not None:
                self.cluster.entered(identity.user, message.group, message.term or 0)
        connection.after = message.after or None
        connection.clients = clients
        for client in clients:
            self._take_over(client, connection)
        if clients and self.cluster is not None:
            self.taken_at.update(dict.fromkeys(clients, self.cluster.took_over(clients)))
        if identity.user is not None:
            self.by_user.setdefault(identity.user, set()).add(connection)
        self._open_session(connection)

    def welcome(
        self, connection: Connection, claimed: list[str], last_mids: dict[str, int]
    ) -> None:
        """The last mutations of the clients are known: welcome the session and let it go on."""
        held = connection.held
        if held is None or not held.is_opening or connection.phase is not Phase.OPEN:
            return
        held.is_opening = False
        day = int(self._wall_s() // _DAY_S)
        for client, last_mid in list(last_mids.items()):
            if not last_mid and day - issue_day_of(client) > CLIENT_DAYS:
                del last_mids[client]
        self._welcome(connection, claimed, last_mids)
        self._hub.holding.go_on(connection)

    def refuse(self, connection: Connection, error: SyncdError) -> None:
        """They cannot be told now: the client is to come again."""
        held = connection.held
        if held is not None and held.is_opening:
            self._hub.holding.refuse_opening(connection, error.after_ms or RETRY_MS)
            self._hub.finish_soon()

    def _welcome(
        self, connection: Connection, claimed: list[str], last_mids: dict[str, int]
    ) -> None:
        """Tell the clients in the order they were claimed; who is not known gets a new id, and is told so."""
        clients: list[dict[str, Any]] = []
        forgotten: list[str] = []
        for client in claimed:
            if client in last_mids:
                clients.append({"client": client, "last_mid": last_mids[client]})
            else:
                forgotten.append(client)
                clients.append(self._issue())
        if not clients:
            clients.append(self._issue())
        self._rename(connection, [item["client"] for item in clients], claimed)
        connection.send(self._welcome_message(connection, clients))
        for client in forgotten:
            body = {"scope": "client", "client": client, "code": Reason.CLIENT_UNKNOWN.value}
            connection.send(encode.message("reset", body))

    def _rename(self, connection: Connection, clients: list[str], claimed: list[str]) -> None:
        """From now on the session speaks for these; of those it claimed some may be gone to newer sessions, here or elsewhere."""
        for client in connection.clients:
            if client not in clients and self.by_client.get(client) is connection:
                self._disown(client)
        taken = [
            client
            for client in clients
            if client not in claimed or self.by_client.get(client) is connection
        ]
        for client in taken:
            self.by_client[client] = connection
        connection.clients = tuple(taken)
        if connection.outbox is not None:
            connection.outbox.own = connection.own()

    def _issue(self) -> dict[str, Any]:
        client, secret = self._secrets.issue(self._wall_s())
        return {"client": client, "secret": secret, "last_mid": 0}

    def _welcome_message(self, connection: Connection, clients: list[dict[str, Any]]) -> bytes:
        return encode.message(
            "welcome",
            {
                "session": connection.id,
                "clients": clients,
                "server_time_ms": int(self._wall_s() * 1000),
                "ping_ms": int(self._config.timing.ping_s * 1000),
                "max_frame_bytes": self._config.limits.frame_bytes,
            },
        )

    def identify(self, token: str | None) -> Identity | None:
        """Return who speaks, or None when the answer is 4401."""
        if token is None:
            return ANONYMOUS if self._config.auth.anonymous else None
        try:
            identity = self._tokens.verify(token, self._wall_s())
        except RequestRejected:
            return None
        if self._revocations.is_revoked(identity, self._wall_s()):
            return None
        return identity

    def _has_too_many(self, identity: Identity) -> bool:
        limit = self._config.limits.connections_per_user
        return bool(
            limit
            and identity.user is not None
            and len(self.by_user.get(identity.user, ())) >= limit
        )

    def _take_over(self, client: str, connection: Connection) -> None:
        """A newer hello naming a client speaks for it from now on."""
        older = self.by_client.get(client)
        self.by_client[client] = connection
        if older is None or older is connection:
            return
        self._on_taken_over(older, client)
        self._end_claim(client, older)

    def give_up(self, client: str, older: Connection) -> None:
        """A newer session of another node speaks for a client of this one."""
        self._disown(client)
        self._end_claim(client, older)

    def _end_claim(self, client: str, older: Connection) -> None:
        older.clients = tuple(name for name in older.clients if name != client)
        if not older.clients:
            self._hub.close(older, CloseCode.TAKEN_OVER, "a newer connection took over")

    def _disown(self, client: str) -> None:
        del self.by_client[client]
        self.taken_at.pop(client, None)

    def forget(self, connection: Connection) -> None:
        """The session ended: take it out of the indexes."""
        user = connection.identity.user
        if user is not None and (others := self.by_user.get(user)) is not None:
            others.discard(connection)
            if not others:
                del self.by_user[user]
        for client in connection.clients:
            if self.by_client.get(client) is connection:
                self._disown(client)
        self.groups.leave(connection)

    @property
    def num_groups(self) -> int:
        """Groups with sessions."""
        return len(self.groups)


class _Greeting:
    """Waits for the last mutations of a session's clients."""

    __slots__ = ("_claimed", "_clients", "_greetings", "connection")

    def __init__(
        self,
        greetings: Greetings,
        connection: Connection,
        clients: tuple[str, ...],
        claimed: list[str],
    ) -> None:
        self._greetings = greetings
        self.connection = connection
        self._clients = clients
        self._claimed = claimed

    def answer(self, answer: LastMids | SyncdError) -> None:
        """Welcome the session, or send it away for now."""
        if isinstance(answer, SyncdError):
            self._greetings.refuse(self.connection, answer)
            return
        self.connection.era = answer.era
        last_mids = dict(zip(self._clients, answer.mids, strict=True))
        self._greetings.welcome(self.connection, self._claimed, last_mids)


def _nothing() -> None:
    """Nothing of the `hello` is left to do."""
