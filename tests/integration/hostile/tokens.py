"""Tokens, good ones and forged ones, made by hand where a library would refuse."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any

_LIFETIME_S = 6 * 3600.0
"""Some are made when tests are collected, and used when their turn has come."""


def b64(raw: bytes) -> str:
    """Encode as a JWT does."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def make(secret: str, header: dict[str, Any] | None = None, **claims: Any) -> str:
    """Sign claims with HS256, whatever the header says; `...` leaves a claim out."""
    body = {"sub": "ann", "exp": time.time() + _LIFETIME_S, **claims}
    fields = {"alg": "HS256", "typ": "JWT", **(header or {})}
    signed = b64(json.dumps(fields).encode()) + "."
    signed += b64(json.dumps({k: v for k, v in body.items() if v is not ...}).encode())
    return f"{signed}.{b64(hmac.digest(secret.encode(), signed.encode(), hashlib.sha256))}"
