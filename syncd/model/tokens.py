"""Whether a token is good and who it speaks for: JSON Web Tokens under a fixed list of algorithms and keys.

The gateway and the HTTP side ask at every `hello` and `auth`. Nothing in a token chooses more than one of the configured
keys, by exact `kid`; a key serves one algorithm. Whatever is wrong with a token, the answer is the same error with the same
text after the same work; only `TokenRefused.reason`, for the server's own log, tells more.
"""

from __future__ import annotations

import base64
import contextlib
import json
import math
import re
from typing import Any, NoReturn

import attrs
import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from jwt.algorithms import Algorithm

from syncd.codes import ErrorCode
from syncd.config import AuthSettings
from syncd.errors import ConfigError, RequestRejected
from syncd.ports import Identity

__all__ = [
    "ALGORITHMS",
    "TokenClaims",
    "TokenRefused",
    "TokenVerifier",
    "algorithms_for",
    "make_token",
]

ALGORITHMS = ("HS256", "RS256", "EdDSA")
"""All there are; `none` and everything else is refused whatever is configured."""

MAX_TOKEN_BYTES = 4096
"""As `messages.toml` says of `hello.token`; bounds all work below."""
MAX_NAME_BYTES = 128
"""Of `sub`, `jti` and one role. They travel in presence and stand in logs."""
MAX_ROLES = 64
MAX_CHANNEL_PATTERNS = 128
"""As many as `model.permissions` looks at."""
MIN_HMAC_SECRET_BYTES = 32
"""RFC 7518 section 3.2: a key as long as the hash."""
MIN_RSA_BITS = 2048
_MAX_TIME_S = 253_402_300_799
"""End of the year 9999; later times are mistakes (milliseconds, mostly)."""

_is_compact = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+){2}").fullmatch


class TokenRefused(RequestRejected):
    """A token was not accepted.

    Attributes:
        reason: What was wrong, for the server's debug log only; never told to the peer.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(ErrorCode.UNAUTHORIZED)
        self.reason = reason


@attrs.frozen
class _Key:
    algorithm: str
    check: Algorithm = attrs.field(repr=False)
    material: Any = attrs.field(repr=False)

    def has_signed(self, signed: bytes, signature: bytes) -> bool:
        return bool(self.check.verify(signed, self.material, signature))


class TokenVerifier:
    """Checks tokens against one configuration. Immutable."""

    def __init__(self, settings: AuthSettings) -> None:
        """Load the keys.

        Raises:
            ConfigError: a key cannot be used, or keys and algorithms do not fit together.
        """
        self._settings = settings
        self._keys = _load_keys(settings)

    @property
    def is_configured(self) -> bool:
        """Whether any token can be accepted at all."""
        return bool(self._keys)

    def verify(self, token: str, now_s: float) -> Identity:
        """Return whom a token speaks for. `now_s` is the wall clock.

        The identity's `expires_at_s` includes the leeway: from then on the session is over.

        Raises:
            TokenRefused: for whatever reason.
        """
        try:
            header, signed, payload, signature = _split(token)
            key = self._key_for(header)
        except TokenRefused:
            self._burn(token)
            raise
        if not key.has_signed(signed, signature):
            raise TokenRefused("bad_signature")
        return self._identity(_json_object(payload, "payload"), now_s)

    def _key_for(self, header: dict[str, Any]) -> _Key:
        """Choose by exact algorithm and `kid`; nothing else in the header (`jku`, `x5u`, `jwk`) is looked at."""
        if "crit" in header or "b64" in header:
            raise TokenRefused("critical_header")
        algorithm, kid = header.get("alg"), header.get("kid", "")
        if not isinstance(algorithm, str) or algorithm not in self._settings.algorithms:
            raise TokenRefused("algorithm")
        key = self._keys.get((algorithm, kid)) if isinstance(kid, str) else None
        if key is None:
            raise TokenRefused("kid")
        return key

    def _burn(self, token: str) -> None:
        """Do the work of a signature check, so that the time does not tell where a token failed."""
        key = next(reversed(self._keys.values()), None)  # public keys, the slower ones, stand last
        if key is not None:
            with contextlib.suppress(ValueError):
                key.has_signed(token[:MAX_TOKEN_BYTES].encode("utf-8", "replace"), bytes(64))

    def _identity(self, claims: dict[str, Any], now_s: float) -> Identity:
        expires_at_s = self._check_times(claims, now_s)
        self._check_parties(claims)
        _check_patterns(claims.get("channels"))
        return Identity(
            user=_name(claims.get("sub"), "sub"),
            roles=_roles(claims.get("roles")),
            claims=claims,
            token_id=None if claims.get("jti") is None else _name(claims["jti"], "jti"),
            expires_at_s=expires_at_s,
        )

    def _check_times(self, claims: dict[str, Any], now_s: float) -> float:
        leeway_s = self._settings.leeway_s
        for claim in ("nbf", "iat"):
            if claims.get(claim) is not None and _time(claims[claim], claim) > now_s + leeway_s:
                raise TokenRefused(f"{claim}_ahead")
        expires_at_s = _time(claims.get("exp"), "exp") + leeway_s
        if now_s >= expires_at_s:
            raise TokenRefused("expired")
        return expires_at_s

    def _check_parties(self, claims: dict[str, Any]) -> None:
        """A token for a named audience is for nobody else (RFC 7519 section 4.1.3), also when none is configured here."""
        audience, issuer = self._settings.audience, self._settings.issuer
        given = claims.get("aud")
        if audience is not None or given is not None:
            audiences = given if isinstance(given, list) else [given]
            if audience is None or audience not in audiences:
                raise TokenRefused("aud")
        if issuer is not None and claims.get("iss") != issuer:
            raise TokenRefused("iss")


# ------------------------------------------------------------------------------------------------ reading


def _split(token: str) -> tuple[dict[str, Any], bytes, bytes, bytes]:
    """Return header, signed bytes, payload bytes and signature of a token in compact form."""
    if len(token) > MAX_TOKEN_BYTES or _is_compact(token) is None:
        raise TokenRefused("form")
    signed, _, signature = token.rpartition(".")
    header, _, payload = signed.partition(".")
    return (
        _json_object(_unbase64(header), "header"),
        signed.encode(),
        _unbase64(payload),
        _unbase64(signature),
    )


def _unbase64(text: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        raise TokenRefused("base64") from None


def _json_object(raw: bytes, part: str) -> dict[str, Any]:
    try:
        value = json.loads(raw, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise TokenRefused(f"{part}_json") from None
    if type(value) is not dict:
        raise TokenRefused(f"{part}_json")
    return value


def _refuse_constant(name: str) -> NoReturn:
    """`NaN` and `Infinity` are no JSON and compare in surprising ways."""
    raise ValueError(name)


def _time(value: object, claim: str) -> float:
    if type(value) not in (int, float) or not 0 <= value <= _MAX_TIME_S:  # type: ignore[operator]
        raise TokenRefused(claim)
    return float(value)  # type: ignore[arg-type]


def _name(value: object, claim: str) -> str:
    """Printable only: no control or direction characters, no half surrogates reach presence or a terminal."""
    if type(value) is not str or not value or not value.isprintable():
        raise TokenRefused(claim)
    if len(value.encode()) > MAX_NAME_BYTES:
        raise TokenRefused(claim)
    return value


def _roles(value: object) -> frozenset[str]:
    if value is None:
        return frozenset()
    if type(value) is not list or len(value) > MAX_ROLES:
        raise TokenRefused("roles")
    return frozenset(_name(role, "roles") for role in value)


def _check_patterns(value: object) -> None:
    if value is None:
        return
    if type(value) is not list or len(value) > MAX_CHANNEL_PATTERNS:
        raise TokenRefused("channels")
    if not all(type(pattern) is str for pattern in value):
        raise TokenRefused("channels")


# ------------------------------------------------------------------------------------------------ keys


def _load_keys(settings: AuthSettings) -> dict[tuple[str, str], _Key]:
    unknown = set(settings.algorithms) - set(ALGORITHMS)
    if unknown:
        raise ConfigError(
            f"auth.algorithms has {', '.join(sorted(unknown))}; possible are {', '.join(ALGORITHMS)}."
        )
    keys = _collect_keys(settings)
    _check_use(settings, {algorithm for algorithm, _ in keys})
    return keys


def _collect_keys(settings: AuthSettings) -> dict[tuple[str, str], _Key]:
    keys: dict[tuple[str, str], _Key] = {}
    if settings.hmac_secret is not None:
        key = _hmac_key(settings.hmac_secret)
        keys["HS256", ""] = key
        if settings.hmac_kid is not None:
            keys["HS256", settings.hmac_kid] = key
    for kid, pem in settings.public_keys.items():
        key = _public_key(kid, pem)
        keys[key.algorithm, kid] = key
    return keys


def algorithms_for(settings: AuthSettings) -> tuple[str, ...]:
    """Return the algorithms that the configured keys are for, whatever `settings.algorithms` says.

    Raises:
        ConfigError: a key cannot be used.
    """
    have = {algorithm for algorithm, _ in _collect_keys(settings)}
    return tuple(algorithm for algorithm in ALGORITHMS if algorithm in have)


def _check_use(settings: AuthSettings, have: set[str]) -> None:
    """Every algorithm has a key and every key its algorithm, so that nothing configured is silently without effect."""
    for algorithm in settings.algorithms:
        if algorithm not in have:
            where = "auth.hmac_secret" if algorithm == "HS256" else "auth.public_keys"
            raise ConfigError(f"auth.algorithms has {algorithm}, but {where} has no key for it.")
    for algorithm in sorted(have - set(settings.algorithms)):
        where = "auth.hmac_secret is set" if algorithm == "HS256" else "auth.public_keys has a key"
        raise ConfigError(f"{where}, but auth.algorithms has no {algorithm}.")


def _hmac_key(secret: str) -> _Key:
    raw = secret.encode()
    if len(raw) < MIN_HMAC_SECRET_BYTES:
        raise ConfigError(
            f"auth.hmac_secret must have at least {MIN_HMAC_SECRET_BYTES} bytes; make one with: openssl rand -base64 32"
        )
    check = jwt.get_algorithm_by_name("HS256")
    try:
        return _Key("HS256", check, check.prepare_key(raw))
    except jwt.InvalidKeyError as error:
        raise ConfigError(f"auth.hmac_secret cannot be used: {error}") from None


def _public_key(kid: str, pem: str) -> _Key:
    where = f"auth.public_keys.{kid or '(no kid)'}"
    try:
        key = load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigError(f"{where} is not a public key in PEM form.") from None
    if isinstance(key, RSAPublicKey):
        if key.key_size < MIN_RSA_BITS:
            raise ConfigError(f"{where} is an RSA key of less than {MIN_RSA_BITS} bits.")
        return _Key("RS256", jwt.get_algorithm_by_name("RS256"), key)
    if isinstance(key, Ed25519PublicKey):
        return _Key("EdDSA", jwt.get_algorithm_by_name("EdDSA"), key)
    raise ConfigError(f"{where} is neither an RSA nor an Ed25519 key.")


# ------------------------------------------------------------------------------------------------ making


@attrs.frozen
class TokenClaims:
    """What a new token shall say."""

    user: str
    ttl_s: float = 3600.0
    roles: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    """Patterns for rules of the kind `claim`; none leaves the claim out."""
    token_id: str | None = None
    audience: str | None = None
    issuer: str | None = None


def make_token(claims: TokenClaims, key: str, *, now_s: float, kid: str | None = None) -> str:
    """Sign a token.

    Args:
        claims: What it says.
        key: A private key in PEM form (RSA or Ed25519), else the secret of HS256.
        now_s: Wall clock; the token is valid from now on.
        kid: Names the key to the verifier.

    Raises:
        ConfigError: the key cannot sign.
    """
    algorithm, material = _signing_key(key)
    body: dict[str, Any] = {
        "sub": claims.user,
        "iat": math.floor(now_s),
        "exp": math.floor(now_s + claims.ttl_s),
    }
    optional = {
        "roles": list(claims.roles),
        "channels": list(claims.channels),
        "jti": claims.token_id,
        "aud": claims.audience,
        "iss": claims.issuer,
    }
    body.update({name: value for name, value in optional.items() if value})
    headers = None if kid is None else {"kid": kid}
    return jwt.encode(body, material, algorithm=algorithm, headers=headers)


def _signing_key(key: str) -> tuple[str, Any]:
    if "-----BEGIN" not in key:
        return "HS256", _hmac_key(key).material
    try:
        private = load_pem_private_key(key.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigError("The key is not an unencrypted private key in PEM form.") from None
    if isinstance(private, RSAPrivateKey):
        return "RS256", private
    if isinstance(private, Ed25519PrivateKey):
        return "EdDSA", private
    raise ConfigError("The key is neither an RSA nor an Ed25519 private key.")
