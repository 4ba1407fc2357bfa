"""What other nodes' sessions mean for those here: clients go over, terms are raised, revocations close."""

from __future__ import annotations

from collections.abc import Sequence

from syncd.codes import CloseCode
from syncd.gateway.peers import PeerSessions
from syncd.gateway.terms import is_stale
from syncd.ports_cluster import Revoked
from syncd.ports_collections import LastMids
from syncd.ports_presence import ReleaseClient, SessionGone
from tests.gateway.desk import Client, Desk
from tests.gateway.test_greetings import asked, returning, state_desk


class FakeCluster:
    """Keeps what it is told, and stamps it."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, ...]] = []
        self.groups: list[tuple[str | None, str, int]] = []
        self.stamp = 100

    def took_over(self, clients: Sequence[str]) -> int:
        self.taken.append(tuple(clients))
        self.stamp += 1
        return self.stamp

    def entered(self, user: str | None, group: str, term: int) -> None:
        self.groups.append((user, group, term))


def _join(desk: Desk) -> tuple[PeerSessions, FakeCluster]:
    cluster = FakeCluster()
    desk.sessions.greetings.cluster = cluster
    return PeerSessions(desk.hub, desk.sessions, desk.admin, lambda: desk.wall_s), cluster


def _claims(client: Client) -> list[dict[str, str]]:
    return [
        {"client": item["client"], "secret": item["secret"]} for item in client.welcome["clients"]
    ]


def test_only_clients_from_before_can_be_elsewhere_and_are_told():
    desk = Desk()
    _, cluster = _join(desk)
    first = desk.client()
    assert cluster.taken == []
    again = desk.client(clients=_claims(first))
    assert cluster.taken == [(again.id,)]
    assert desk.sessions.greetings.taken_at == {again.id: 101}
    desk.hub.drop(again.connection)
    assert desk.sessions.greetings.taken_at == {}


def test_a_client_that_spoke_elsewhere_since_is_taken_from_its_session_here():
    desk = Desk()
    sessions, _ = _join(desk)
    client = desk.client()
    client.say("presence", id=1, channel="open:a", state="here")
    desk.presence.take()
    assert client.connection.announced is not None
    client.connection.remember_presence("open:a", client.id, b"\xa4here")
    assert sessions.take_away(client.id, 50) is None
    desk.turn()
    assert client.heard()[-1] == ("close", CloseCode.TAKEN_OVER)
    released, gone = desk.presence.take()
    assert isinstance(released, ReleaseClient)
    assert released.client == client.id
    assert isinstance(gone, SessionGone)
    assert desk.sessions.by_client == {}


def test_an_older_session_elsewhere_takes_nothing_and_learns_the_later_stamp():
    desk = Desk()
    sessions, _ = _join(desk)
    first = desk.client()
    again = desk.client(clients=_claims(first))
    assert sessions.take_away(again.id, 101) == 101
    assert sessions.take_away(again.id, 7) == 101
    assert desk.sessions.by_client == {again.id: again.connection}
    assert sessions.take_away("nobody", 7) is None


def test_a_waiting_session_that_loses_a_client_to_another_node_does_not_get_it_back():
    desk = state_desk()
    sessions, _ = _join(desk)
    waiting = returning(desk, clients=2)
    command = asked(desk)
    lost, kept = (claim["client"] for claim in waiting.claims)
    assert sessions.take_away(lost, 1000) is None
    command.done(LastMids([1, 2], "era 1"))
    desk.turn()
    assert waiting.connection.clients == (kept,)
    assert desk.sessions.by_client == {kept: waiting.connection}


def test_a_newer_term_elsewhere_makes_sessions_here_stale_and_an_older_one_learns_it():
    desk = Desk()
    sessions, cluster = _join(desk)
    client = desk.client(group="tabs", term=2)
    assert cluster.groups == [(None, "tabs", 2)]
    assert sessions.raise_term(None, "tabs", 1) == 2
    assert not is_stale(client.connection)
    assert sessions.raise_term(None, "tabs", 5) == 2
    assert is_stale(client.connection)
    assert sessions.raise_term("ann", "tabs", 5) == 0, "another user's group of that name"
    assert sessions.terms() == [(None, "tabs", 5)]


def test_revocations_of_peers_close_sessions_once_and_are_handed_on():
    desk = Desk()
    sessions, _ = _join(desk)
    ann, bob = desk.client(token=desk.token("ann")), desk.client(token=desk.token("bob", jti="t"))
    until_s = desk.wall_s + 60
    told = [
        Revoked(until_s, user="ann"),
        Revoked(until_s, token_id="t"),
        Revoked(desk.wall_s - 1, user="old"),
    ]
    assert sessions.add_revoked(told) == 2
    assert sessions.add_revoked(told) == 0
    for client in (ann, bob):
        assert client.heard()[-1] == ("close", CloseCode.UNAUTHORIZED)
    assert list(sessions.revoked()) == told[:2]
    desk.wall_s += 61
    assert list(sessions.revoked()) == []
