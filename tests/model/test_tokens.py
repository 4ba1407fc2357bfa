"""Tokens: who is believed, and that every refusal looks the same (attack case A30)."""

import base64
import functools
import hashlib
import hmac
import json
import statistics
import time

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from syncd.codes import ErrorCode
from syncd.config import AuthSettings
from syncd.errors import ConfigError, RequestRejected
from syncd.model.tokens import TokenClaims, TokenRefused, TokenVerifier, make_token
from tests.examples import examples

NOW = 1_800_000_000.0
SECRET = "correct horse battery staple, at length"
OTHER_SECRET = "another secret that is long enough too"


def _pems(private):
    return (
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode(),
        private.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode(),
    )


@functools.cache
def rsa_pems(bits=2048):
    return _pems(rsa.generate_private_key(65537, bits))


@functools.cache
def ed_pems(_which="one"):
    return _pems(ed25519.Ed25519PrivateKey.generate())


def hmac_settings(**changes):
    return AuthSettings(algorithms=("HS256",), hmac_secret=SECRET, **changes)


def all_settings(**changes):
    return AuthSettings(
        algorithms=("HS256", "RS256", "EdDSA"),
        hmac_secret=SECRET,
        public_keys={"rsa-1": rsa_pems()[1], "ed-1": ed_pems()[1], "": ed_pems("two")[1]},
        audience="syncd",
        issuer="https://issuer.example",
        **changes,
    )


def claims(**changes):
    body = {
        "sub": "ann",
        "exp": NOW + 600,
        "iat": NOW,
        "aud": "syncd",
        "iss": "https://issuer.example",
        **changes,
    }
    return {name: value for name, value in body.items() if value is not ...}


def plain(**changes):
    """Claims without audience and issuer, for settings that name none."""
    return claims(aud=..., iss=..., **changes)


def b64(raw):
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def hs256(header, payload, key=SECRET):
    """Sign by hand whatever header and payload a library would refuse to make."""
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    payload = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    signed = f"{b64(header)}.{b64(payload)}"
    key = key if isinstance(key, bytes) else key.encode()
    return f"{signed}.{b64(hmac.digest(key, signed.encode(), hashlib.sha256))}"


def good_header(**changes):
    return {"alg": "HS256", "typ": "JWT", **changes}


def refused(token, auth=None, now_s=NOW):
    """Verify, expect the refusal, return its reason."""
    with pytest.raises(TokenRefused) as caught:
        TokenVerifier(auth or hmac_settings()).verify(token, now_s)
    error = caught.value
    assert error.code is ErrorCode.UNAUTHORIZED
    assert error.message == ErrorCode.UNAUTHORIZED.text
    assert str(error) == f"unauthorized: {ErrorCode.UNAUTHORIZED.text}"
    assert error.__cause__ is None
    return error.reason


# ------------------------------------------------------------------------------------------------ good ones


@pytest.mark.parametrize(
    ("key", "algorithm", "kid"),
    [
        (SECRET, "HS256", None),
        (rsa_pems()[0], "RS256", "rsa-1"),
        (ed_pems()[0], "EdDSA", "ed-1"),
        (ed_pems("two")[0], "EdDSA", None),
    ],
)
def test_a_good_token_of_each_algorithm_is_believed(key, algorithm, kid):
    headers = {} if kid is None else {"kid": kid}
    token = jwt.encode(claims(), key, algorithm=algorithm, headers=headers)
    assert TokenVerifier(all_settings()).verify(token, NOW).user == "ann"


def test_the_identity_has_what_the_token_says():
    body = plain(roles=["editor", "admin"], channels=["orders:*"], jti="t-1", team="blue")
    identity = TokenVerifier(hmac_settings(leeway_s=30.0)).verify(hs256(good_header(), body), NOW)
    assert identity.user == "ann"
    assert identity.roles == {"editor", "admin"}
    assert identity.claims["channels"] == ["orders:*"]
    assert identity.claims["team"] == "blue"
    assert identity.token_id == "t-1"
    assert identity.expires_at_s == NOW + 630
    assert identity.service is None


def test_a_token_made_here_is_believed_here():
    made = TokenClaims(
        user="ann",
        ttl_s=60,
        roles=("r",),
        channels=("a:*",),
        token_id="j",
        audience="syncd",
        issuer="https://issuer.example",
    )
    verifier = TokenVerifier(all_settings())
    for key, kid in [(SECRET, None), (rsa_pems()[0], "rsa-1"), (ed_pems()[0], "ed-1")]:
        identity = verifier.verify(make_token(made, key, now_s=NOW, kid=kid), NOW)
        assert (identity.user, identity.roles, identity.token_id) == ("ann", {"r"}, "j")
        assert identity.expires_at_s == NOW + 90


@pytest.mark.parametrize("key", ["short", rsa_pems()[1], "-----BEGIN JUNK-----"])
def test_a_token_is_not_made_with_a_key_that_cannot_sign(key):
    with pytest.raises(ConfigError):
        make_token(TokenClaims("ann"), key, now_s=NOW)


def test_within_the_leeway_clocks_may_differ():
    verifier = TokenVerifier(hmac_settings(leeway_s=30.0))
    early = hs256(good_header(), plain(nbf=NOW + 29, iat=NOW + 29))
    late = hs256(good_header(), plain(exp=NOW - 29))
    assert verifier.verify(early, NOW).user == "ann"
    assert verifier.verify(late, NOW).user == "ann"


def test_one_of_several_audiences_is_enough():
    token = hs256(good_header(), claims(aud=["other", "syncd"]))
    assert TokenVerifier(hmac_settings(audience="syncd")).verify(token, NOW).user == "ann"


def test_an_hs256_token_may_carry_the_configured_kid_alone():
    auth = hmac_settings(hmac_kid="k1")
    assert TokenVerifier(auth).verify(hs256(good_header(kid="k1"), plain()), NOW).user == "ann"
    assert TokenVerifier(auth).verify(hs256(good_header(), plain()), NOW).user == "ann"
    assert refused(hs256(good_header(kid="k2"), plain()), auth) == "kid"


# ------------------------------------------------------------------------------------------------ A30


def _none_token(alg):
    return f"{b64(json.dumps({'alg': alg}).encode())}.{b64(json.dumps(plain()).encode())}."


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", ""])
def test_a_token_without_signature_is_refused(alg):
    assert refused(_none_token(alg)) == "form"
    assert refused(_none_token(alg) + "AA") == "algorithm"
    assert refused(hs256({"alg": alg}, plain())) == "algorithm"


@pytest.mark.parametrize(
    "alg", ["HS384", "HS512", "RS512", "ES256", "PS256", "hs256", None, 7, [], {}]
)
def test_an_algorithm_that_is_not_listed_is_refused_though_signed_well(alg):
    assert refused(hs256({"alg": alg}, plain()), all_settings()) == "algorithm"


def test_a_public_key_never_serves_as_an_hmac_secret():
    public = rsa_pems()[1]
    for kid in ({}, {"kid": "rsa-1"}):
        confused = hs256(good_header(**kid), claims(), key=public)
        assert refused(confused, all_settings()) in {"bad_signature", "kid"}
        only_rsa = AuthSettings(algorithms=("RS256",), public_keys={"rsa-1": public})
        assert refused(confused, only_rsa) == "algorithm"


def test_a_key_of_one_algorithm_does_not_serve_another():
    token = jwt.encode(claims(), rsa_pems()[0], algorithm="RS256", headers={"kid": "ed-1"})
    assert refused(token, all_settings()) == "kid"
    token = jwt.encode(claims(), ed_pems()[0], algorithm="EdDSA", headers={"kid": "rsa-1"})
    assert refused(token, all_settings()) == "kid"


@pytest.mark.parametrize(
    "kid",
    [
        "other",
        "RSA-1",
        "../../etc/passwd",
        "/dev/null",
        "https://evil.example/key",
        "rsa-1\0",
        1,
        None,
        [],
    ],
)
def test_a_kid_that_is_not_configured_names_no_key(kid):
    token = jwt.encode(claims(), rsa_pems()[0], algorithm="RS256", headers={"typ": "JWT"})
    header = {"alg": "RS256", "kid": kid}
    forged = f"{b64(json.dumps(header).encode())}." + token.split(".", 1)[1]
    assert refused(forged, all_settings()) == "kid"
    assert refused(hs256(good_header(kid=kid), plain(), key=b"")) == "kid"


@pytest.mark.parametrize("field", ["jku", "x5u", "jwk", "x5c"])
def test_a_key_brought_along_in_the_header_is_not_looked_at(field):
    attacker = ed25519.Ed25519PrivateKey.generate()
    jwk = json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(attacker.public_key()))
    value = {"jku": "https://evil.example/jwks", "x5u": "file:///tmp/c", "jwk": jwk, "x5c": ["A"]}
    headers = {"kid": "ed-1", field: value[field]}
    token = jwt.encode(claims(), attacker, algorithm="EdDSA", headers=headers)
    assert refused(token, all_settings()) == "bad_signature"


@pytest.mark.parametrize(
    "extra", [{"crit": ["exp"]}, {"b64": False}, {"crit": ["b64"], "b64": False}]
)
def test_a_critical_extension_is_refused(extra):
    assert refused(hs256(good_header(**extra), plain())) == "critical_header"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"aud": "other"}, "aud"),
        ({"aud": ...}, "aud"),
        ({"aud": []}, "aud"),
        ({"aud": {"syncd": 1}}, "aud"),
        ({"aud": [["syncd"]]}, "aud"),
        ({"aud": "syncd2"}, "aud"),
        ({"iss": "https://issuer.example.evil.io"}, "iss"),
        ({"iss": ...}, "iss"),
        ({"iss": ["https://issuer.example"]}, "iss"),
        ({"exp": NOW - 31}, "expired"),
        ({"exp": ...}, "exp"),
        ({"exp": None}, "exp"),
        ({"exp": str(NOW + 600)}, "exp"),
        ({"exp": True}, "exp"),
        ({"exp": [NOW + 600]}, "exp"),
        ({"exp": -1}, "exp"),
        ({"exp": 10**300}, "exp"),
        ({"exp": (NOW + 600) * 1000}, "exp"),
        ({"nbf": NOW + 31}, "nbf_ahead"),
        ({"nbf": "soon"}, "nbf"),
        ({"iat": NOW + 31}, "iat_ahead"),
        ({"iat": False}, "iat"),
        ({"sub": ...}, "sub"),
        ({"sub": ""}, "sub"),
        ({"sub": 42}, "sub"),
        ({"sub": "x" * 129}, "sub"),
        ({"sub": "\u00e9" * 65}, "sub"),
        ({"sub": "ann\n"}, "sub"),
        ({"sub": "ann\0"}, "sub"),
        ({"sub": "\x1b[31mann"}, "sub"),
        ({"sub": "\u202enna"}, "sub"),
        ({"sub": "\ud800"}, "sub"),
        ({"roles": "admin"}, "roles"),
        ({"roles": {"admin": 1}}, "roles"),
        ({"roles": [1]}, "roles"),
        ({"roles": [["admin"]]}, "roles"),
        ({"roles": ["r"] * 65}, "roles"),
        ({"channels": "orders:*"}, "channels"),
        ({"channels": [None]}, "channels"),
        ({"channels": ["a"] * 129}, "channels"),
        ({"jti": 5}, "jti"),
        ({"jti": "j" * 129}, "jti"),
    ],
)
def test_a_claim_that_is_wrong_is_refused(changes, reason):
    auth = hmac_settings(audience="syncd", issuer="https://issuer.example", leeway_s=30.0)
    assert refused(hs256(good_header(), claims(**changes)), auth) == reason


def test_a_token_for_an_audience_is_refused_where_none_is_configured():
    assert refused(hs256(good_header(), claims()), hmac_settings()) == "aud"


def test_at_the_very_moment_of_expiry_a_token_is_over():
    verifier = TokenVerifier(hmac_settings(leeway_s=0.0))
    token = hs256(good_header(), plain(exp=NOW, iat=...))
    assert verifier.verify(token, NOW - 0.001).user == "ann"
    assert refused(token, hmac_settings(leeway_s=0.0)) == "expired"


def test_huge_claims_are_refused_before_they_are_read():
    assert refused(hs256(good_header(), plain(x="y" * 4096))) == "form"
    assert refused("a." * 2_000_000) == "form"


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"{",
        b"\xff\xfe\xfd",
        b"[" * 2500,
        b'{"a":' * 500,
        b'{"sub": "ann", "exp": NaN}',
        b'{"sub": "ann", "exp": Infinity}',
    ],
)
def test_a_payload_that_is_no_json_object_is_refused(payload):
    reason = refused(hs256(good_header(), payload))
    assert reason in {"payload_json", "form"}


def test_numbers_too_large_for_a_float_are_refused():
    assert refused(hs256(good_header(), b'{"sub": "ann", "exp": 1e999}')) == "exp"


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "a.b",
        "a.b.c.d",
        "a.b.c",
        "\n",
        "a.b.c\n",
        "e30.e30.e30",
        "é.b.c",
        "\ud800.b.c",
        "=.=.=",
    ],
)
def test_what_is_no_token_is_refused(token):
    assert refused(token) in {"form", "base64", "header_json", "algorithm"}


@pytest.mark.parametrize("part", [0, 1, 2])
def test_a_token_changed_in_any_part_is_refused(part):
    parts = hs256(good_header(), plain()).split(".")
    parts[part] = ("A" if parts[part][0] != "A" else "B") + parts[part][1:]
    assert refused(".".join(parts)) in {"bad_signature", "header_json", "payload_json"}


def test_a_signature_by_another_key_is_refused():
    assert refused(hs256(good_header(), plain(), key=OTHER_SECRET)) == "bad_signature"
    token = jwt.encode(claims(), rsa_pems(2049)[0], algorithm="RS256", headers={"kid": "rsa-1"})
    assert refused(token, all_settings()) == "bad_signature"


def test_without_a_key_no_token_is_good():
    assert not TokenVerifier(AuthSettings()).is_configured
    assert refused(hs256(good_header(), plain()), AuthSettings()) == "algorithm"


@given(st.text(max_size=200) | st.from_regex(r"[A-Za-z0-9_-]{0,40}(\.[A-Za-z0-9_-]{0,40}){2}"))
@settings(max_examples=examples(150))
def test_no_text_raises_anything_but_the_refusal(token):
    with pytest.raises(RequestRejected) as caught:
        TokenVerifier(hmac_settings()).verify(token, NOW)
    assert caught.value.message == ErrorCode.UNAUTHORIZED.text


_json = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@given(
    st.sampled_from(["sub", "exp", "nbf", "iat", "aud", "iss", "jti", "roles", "channels"]), _json
)
@settings(max_examples=examples(150))
def test_a_claim_of_any_shape_is_believed_or_refused_and_nothing_else(claim, value):
    auth = hmac_settings(audience="syncd", issuer="https://issuer.example")
    try:
        identity = TokenVerifier(auth).verify(hs256(good_header(), claims(**{claim: value})), NOW)
    except TokenRefused:
        return
    assert isinstance(identity.user, str)
    assert all(isinstance(role, str) for role in identity.roles)


def test_a_refusal_takes_about_as_long_wherever_the_token_failed():
    """The work of a signature is done also for tokens that name no key: medians within a factor of four."""
    auth = AuthSettings(algorithms=("EdDSA",), public_keys={"ed-1": ed_pems()[1]}, audience="syncd")
    verifier = TokenVerifier(auth)

    def signed(kid, **changes):
        return jwt.encode(claims(**changes), ed_pems()[0], algorithm="EdDSA", headers={"kid": kid})

    tokens = {
        "signature": signed("ed-1")[:-8] + "AAAAAAAA",
        "kid": signed("other"),
        "algorithm": hs256(good_header(), plain()),
        "expired": signed("ed-1", exp=NOW - 1000),
        "form": "x",
    }
    samples = {name: [] for name in tokens}
    for _ in range(101):
        for name, token in tokens.items():
            samples[name].append(_refusal_s(verifier, token))
    medians = {name: statistics.median(taken) for name, taken in samples.items()}
    assert max(medians.values()) < 4 * min(medians.values()), medians


def _refusal_s(verifier, token):
    started = time.perf_counter()
    with pytest.raises(TokenRefused):
        verifier.verify(token, NOW)
    return time.perf_counter() - started


# ------------------------------------------------------------------------------------------------ keys


def _ec_public():
    return _pems(ec.generate_private_key(ec.SECP256R1()))[1]


@pytest.mark.parametrize(
    ("auth", "told"),
    [
        (lambda: AuthSettings(algorithms=("none",)), "auth.algorithms has none"),
        (lambda: AuthSettings(algorithms=("HS512",), hmac_secret=SECRET), "auth.algorithms"),
        (lambda: AuthSettings(algorithms=("HS256",)), "auth.hmac_secret has no key"),
        (lambda: AuthSettings(algorithms=("RS256",)), "auth.public_keys has no key"),
        (lambda: AuthSettings(hmac_secret=SECRET), "auth.algorithms has no HS256"),
        (lambda: AuthSettings(algorithms=("HS256",), hmac_secret="short"), "32 bytes"),
        (
            lambda: AuthSettings(algorithms=("HS256",), hmac_secret=rsa_pems()[1]),
            "auth.hmac_secret cannot be used",
        ),
        (
            lambda: AuthSettings(algorithms=("EdDSA",), public_keys={"k": rsa_pems()[1]}),
            "auth.public_keys has no key",
        ),
        (
            lambda: AuthSettings(algorithms=("RS256",), public_keys={"k": "/etc/x"}),
            "not a public key",
        ),
        (
            lambda: AuthSettings(algorithms=("RS256",), public_keys={"k": rsa_pems()[0]}),
            "not a public key",
        ),
        (
            lambda: AuthSettings(algorithms=("RS256",), public_keys={"k": rsa_pems(1024)[1]}),
            "2048 bits",
        ),
        (lambda: AuthSettings(algorithms=("RS256",), public_keys={"k": _ec_public()}), "neither"),
    ],
)
def test_keys_that_cannot_work_are_told_at_start(auth, told):
    with pytest.raises(ConfigError) as caught:
        TokenVerifier(auth())
    assert told in str(caught.value)
    assert SECRET not in str(caught.value)
    assert "PRIVATE" not in str(caught.value)
