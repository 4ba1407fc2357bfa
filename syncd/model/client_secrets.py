"""Client ids and the secrets that prove them, derived instead of stored (docs/adr/0003).

A client id is 32 characters of base32: the day of issue, which node secret made it, and 16 random bytes. Its secret is
HMAC-SHA256 of the id under the node secret, so that issuing one writes nothing and losing one loses nothing.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Sequence

from syncd.ids import ClientId

__all__ = ["MIN_NODE_SECRET_BYTES", "ClientSecrets", "issue_day_of"]

MIN_NODE_SECRET_BYTES = 32
"""The strength of SHA-256; a shorter secret would be the weakest link."""

_DAY_S = 86_400
_DAY_BYTES = 2
"""Days since 1970; enough until 2149."""
_KEY_ID_BYTES = 2
"""Tells ids of a replaced node secret from forged ones; not a proof."""
_RANDOM_BYTES = 16
_ID_BYTES = _DAY_BYTES + _KEY_ID_BYTES + _RANDOM_BYTES
_ID_CHARS = _ID_BYTES * 8 // 5


class ClientSecrets:
    """Issues and proves client ids of one node, or of all nodes that share its secret."""

    def __init__(
        self,
        node_secret: bytes,
        entropy: Callable[[int], bytes],
        *,
        previous: Sequence[bytes] = (),
    ) -> None:
        """Derive the keys.

        Args:
            node_secret: At least 32 random bytes, the same after a restart.
            entropy: Returns that many bytes nobody can guess: `os.urandom`, or a seeded one in tests.
            previous: Node secrets of the past whose clients are still believed.
        """
        secrets = (node_secret, *previous)
        if min(map(len, secrets)) < MIN_NODE_SECRET_BYTES:
            raise ValueError(f"a node secret must have {MIN_NODE_SECRET_BYTES} bytes or more")
        self._entropy = entropy
        self._key_id = _key_id(node_secret)
        self._keys = {_key_id(secret): _key(secret) for secret in reversed(secrets)}

    def issue(self, now_s: float) -> tuple[ClientId, str]:
        """Return a new client id and its secret, which is told once. `now_s` is the wall clock."""
        day = int(now_s // _DAY_S).to_bytes(_DAY_BYTES, "big")
        raw = day + self._key_id + self._entropy(_RANDOM_BYTES)
        client = base64.b32encode(raw).decode().lower()
        return ClientId(client), _secret(self._keys[self._key_id], client)

    def verify(self, client: str, secret: str) -> bool:
        """Tell whether the secret was issued with the client id. Constant time in the secret."""
        key = self._keys.get(_key_id_of(client))
        if key is None:
            return False
        return hmac.compare_digest(_secret(key, client).encode(), secret.encode("utf-8", "replace"))

    def is_known(self, client: str) -> bool:
        """Tell whether the id names a node secret in use.

        False after the node secret was replaced: such a client is not denied but given a new id (`reset`,
        `client_unknown`). True proves nothing; only `verify` does.
        """
        return _key_id_of(client) in self._keys


def issue_day_of(client: str) -> int:
    """Return the day (since 1970) on which a verified client id was issued."""
    return int.from_bytes(_raw(client)[:_DAY_BYTES], "big")


def _key(node_secret: bytes) -> bytes:
    return hmac.digest(node_secret, b"syncd client secret 1", hashlib.sha256)


def _key_id(node_secret: bytes) -> bytes:
    return hmac.digest(node_secret, b"syncd client key id 1", hashlib.sha256)[:_KEY_ID_BYTES]


def _key_id_of(client: str) -> bytes:
    return _raw(client)[_DAY_BYTES : _DAY_BYTES + _KEY_ID_BYTES]


def _raw(client: str) -> bytes:
    """Return what an id encodes; nothing if it is not the one spelling of any."""
    if len(client) != _ID_CHARS or not client.isascii() or client != client.lower():
        return b""
    try:
        return base64.b32decode(client.upper())
    except binascii.Error:
        return b""


def _secret(key: bytes, client: str) -> str:
    digest = hmac.digest(key, client.encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
