"""Tokens that a node signs for operators' pages: how long they live, and what ends them."""

import attrs
import pytest

from syncd.config import AuthSettings
from syncd.model.admin_sessions import LOGIN_S, SESSION_S, AdminSessions, NodeTokens
from syncd.model.reserved import is_admin, who_of
from syncd.model.tokens import TokenClaims, TokenRefused, TokenVerifier, make_token
from syncd.ports import Identity

NOW = 1_800_000_000.0
NODE_SECRET = bytes(range(32))
KEYS = {"ops": "the key of operations"}
SECRET = "correct horse battery staple, at length"
OPS = Identity(service="ops")


def sessions(**changes):
    given = {"node_secret": NODE_SECRET, "api_keys": KEYS, **changes}
    return AdminSessions(given["node_secret"], given["api_keys"])


def test_a_session_speaks_for_a_user_named_as_the_key_with_the_admin_role_for_an_hour():
    token, expires_at_ms = sessions().issue(OPS, NOW)
    identity = sessions().verify(token, NOW + SESSION_S - 1)
    assert (identity.user, identity.service, is_admin(identity)) == ("ops", None, True)
    assert expires_at_ms == int((NOW + SESSION_S) * 1000)
    with pytest.raises(TokenRefused):
        sessions().verify(token, NOW + SESSION_S + 60)


def test_a_session_is_renewed_with_itself_until_the_key_has_to_be_shown_again():
    now, token = NOW, sessions().issue(OPS, NOW)[0]
    while now < NOW + LOGIN_S - 1800:
        now += 1800
        token, expires_at_ms = sessions().issue(sessions().verify(token, now), now)
        assert expires_at_ms <= (NOW + LOGIN_S) * 1000
    last = sessions().verify(token, NOW + LOGIN_S - 1)
    with pytest.raises(TokenRefused):
        sessions().issue(last, NOW + LOGIN_S)


def test_a_session_never_outlives_the_token_that_was_shown_for_it():
    issuer = TokenVerifier(AuthSettings(algorithms=("HS256",), hmac_secret=SECRET, leeway_s=0))
    shown = make_token(TokenClaims("ann", ttl_s=300, roles=("admin",)), SECRET, now_s=NOW)
    ann = issuer.verify(shown, NOW)
    token, expires_at_ms = sessions().issue(ann, NOW)
    assert expires_at_ms == int((NOW + 300) * 1000)
    renewed = sessions().issue(sessions().verify(token, NOW + 200), NOW + 200)
    assert renewed[1] == expires_at_ms
    assert who_of(sessions().verify(token, NOW)) == "user:ann"


@pytest.mark.parametrize(
    "changes",
    [{"node_secret": bytes(32)}, {"api_keys": {"ops": "another key"}}, {"api_keys": {}}],
    ids=["another node", "the key was changed", "the key is gone"],
)
def test_a_session_ends_with_the_nodes_secret_and_with_any_api_key(changes):
    token, _ = sessions().issue(OPS, NOW)
    with pytest.raises(TokenRefused):
        sessions(**changes).verify(token, NOW)


def test_the_issuers_secret_signs_no_session_and_no_session_passes_for_the_issuers():
    configured = TokenVerifier(AuthSettings(algorithms=("HS256",), hmac_secret=SECRET))
    tokens = NodeTokens(configured, sessions())
    token, _ = sessions().issue(OPS, NOW)
    assert tokens.verify(token, NOW).user == "ops"
    with pytest.raises(TokenRefused):
        configured.verify(token, NOW)
    claims = TokenClaims("eve", roles=("admin",), issuer="syncd:admin")
    with pytest.raises(TokenRefused):
        sessions().verify(make_token(claims, SECRET, now_s=NOW), NOW)


def test_who_is_an_operator():
    assert is_admin(OPS)
    assert is_admin(Identity("ann", frozenset({"admin"})))
    for nobody in (Identity(), Identity("ann"), Identity("ann", frozenset({"Admin", "editor"}))):
        assert not is_admin(nobody)
    assert who_of(OPS) == "service:ops"
    assert who_of(attrs.evolve(OPS, service=None, user="ann")) == "user:ann"
