"""Grants: looked up once, shared, bounded, and never more than the rules say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.config import Action, Namespace
from syncd.errors import RequestRejected
from syncd.gateway import grants as g
from syncd.gateway.grants import Grants
from syncd.model.permissions import Permissions
from syncd.ports import Identity
from tests.gateway.desk import Desk

BITS = {
    Action.SUBSCRIBE: g.SUBSCRIBE,
    Action.PUBLISH: g.PUBLISH,
    Action.PRESENCE: g.PRESENCE,
    Action.HISTORY: g.HISTORY,
}
RULES = ["anyone", "authenticated", "owner", "role:staff", "claim:channels"]


def code_of(desk, client, channel, bit):
    try:
        desk.sessions.grants.require(client.connection, channel, bit)
    except RequestRejected as error:
        return error.code.value
    return "allowed"


@given(
    allow=st.dictionaries(
        st.sampled_from(list(Action)), st.lists(st.sampled_from(RULES), max_size=2).map(tuple)
    ),
    user=st.none() | st.sampled_from(["ann", "bob"]),
    roles=st.frozensets(st.sampled_from(["staff", "guest"])),
    channels=st.lists(st.sampled_from(["x:ann", "x:*"])),
)
def test_a_grant_says_what_the_rules_say_the_first_time_and_every_time(
    allow, user, roles, channels
):
    namespaces = {"x": Namespace("x", allow=allow)}
    permissions = Permissions(namespaces)
    grants = Grants(permissions)
    client = Desk().client()
    connection = client.connection
    connection.identity = Identity(user=user, roles=roles, claims={"channels": channels})
    for _ in range(2):
        for channel in ("x:ann", "x:bob"):
            for action, bit in BITS.items():
                try:
                    allowed = grants.require(connection, channel, bit) is namespaces["x"]
                except RequestRejected:
                    allowed = False
                assert allowed == permissions.allows(connection.identity, action, channel)


def test_sessions_share_a_grant():
    desk = Desk()
    clients = [desk.client() for _ in range(2)]
    for client in clients:
        for channel in ("open:a", "open:b"):
            assert code_of(desk, client, channel, g.PUBLISH) == "allowed"
    found = {id(grant) for client in clients for grant in client.connection.grants.values()}
    assert len(found) == 1


def test_a_session_remembers_so_many_channels(monkeypatch):
    monkeypatch.setattr(g, "MAX_CACHED", 3)
    desk = Desk()
    client = desk.client()
    for number in range(20):
        assert code_of(desk, client, f"open:{number}", g.PUBLISH) == "allowed"
        assert len(client.connection.grants) <= 3


@pytest.mark.parametrize(
    ("channel", "code"),
    [
        ("open", "bad_channel"),
        ("", "bad_channel"),
        ("$open:a", "permission_denied"),
        ("open:" + "x" * 251, "bad_channel"),
        ("open:" + "x" * 250, "allowed"),
        ("nowhere:a", "permission_denied"),
        ("staff:a", "permission_denied"),
    ],
)
def test_names_that_are_none_are_told_apart_from_channels_one_may_not_use(channel, code):
    desk = Desk()
    assert code_of(desk, desk.client(), channel, g.SUBSCRIBE) == code
