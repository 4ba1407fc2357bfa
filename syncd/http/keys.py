"""Who calls: API keys, compared in constant time, and a limit on guessing them.

Owns the count of wrong keys per address. A client's JWT is no API key; only where operators ask is a token looked at (`admit_or`),
and a bad one counts as a wrong key.
"""

from __future__ import annotations

import collections
import hashlib
import hmac
import ipaddress
from collections.abc import Callable, Mapping

import trio

from syncd.codes import ErrorCode
from syncd.errors import RequestRejected
from syncd.model.rate_limit import RateLimit
from syncd.ports import Identity

__all__ = ["ApiKeys"]

WRONG_KEYS_PER_S = 1.0
WRONG_KEYS_BURST = 20
"""Wrong keys an address may try; generous to a backend deployed with an old key, useless for guessing."""

MAX_ADDRESSES = 10_000
"""Addresses whose wrong keys are remembered; the longest silent one is forgotten first."""

_IPV6_PREFIX = 64
"""What one IPv6 customer gets: addresses within it count as one."""


class ApiKeys:
    """The keys of `api_keys`, as digests, so that neither length nor content can be timed."""

    def __init__(
        self, keys: Mapping[str, str], *, clock: Callable[[], float] = trio.current_time
    ) -> None:
        self._digests = [(name, _digest(key)) for name, key in keys.items() if key]
        self._clock = clock
        self._limit = RateLimit(WRONG_KEYS_PER_S, WRONG_KEYS_BURST)
        self._full_at: collections.OrderedDict[str, float] = collections.OrderedDict()

    def admit(self, authorization: str | None, address: str) -> str:
        """Return the name of the key presented.

        Raises:
            RequestRejected: `unauthorized`, with one text for every reason; `rate_limited` when too many wrong keys came
                from this address lately (then right ones are refused too, or guessing would go on unseen).
        """
        identity = self.admit_or(authorization, address, lambda _token: None)
        assert identity.service is not None, "no token is taken here"
        return identity.service

    def admit_or(
        self,
        authorization: str | None,
        address: str,
        identify: Callable[[str], Identity | None],
    ) -> Identity:
        """Return who is behind the key presented, or behind the token that `identify` knows. Raises as `admit`."""
        bucket = _bucket_of(address)
        now = self._clock()
        wait_s = self._limit.wait_s(self._full_at.get(bucket, 0.0), 1, now)
        if wait_s > 0:
            text = "Too many wrong keys from this address."
            raise RequestRejected(ErrorCode.RATE_LIMITED, text, after_ms=int(wait_s * 1000) + 1)
        scheme, _, key = (authorization or "").partition(" ")
        identity = None
        if scheme.lower() == "bearer":
            name = self._name_of(key.strip())
            identity = identify(key.strip()) if name is None else Identity(service=name)
        if identity is None:
            if authorization is not None:
                self._count_wrong(bucket, now)
            raise RequestRejected(ErrorCode.UNAUTHORIZED)
        return identity

    def _name_of(self, key: str) -> str | None:
        digest = _digest(key)
        found = None
        for name, known in self._digests:
            if hmac.compare_digest(known, digest):
                found = name
        return found

    def _count_wrong(self, bucket: str, now: float) -> None:
        full_at = self._limit.spend(self._full_at.get(bucket, 0.0), 1, now)
        self._full_at[bucket] = full_at
        self._full_at.move_to_end(bucket)
        if len(self._full_at) > MAX_ADDRESSES:
            self._full_at.popitem(last=False)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def _bucket_of(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    return str(ipaddress.ip_network((parsed, _IPV6_PREFIX), strict=False))
