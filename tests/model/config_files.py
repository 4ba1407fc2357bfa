"""A configuration file of a test and what stands in it."""

import functools

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from syncd.config_load import load_config

SECRET = "an hmac secret of thirty-two bytes or more"
API_KEY = "an-api-key-of-some-length"


@functools.cache
def public_pem():
    key = ed25519.Ed25519PrivateKey.generate().public_key()
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ).decode()


def load_text(folder, text, environ=None, **overrides):
    """Load a file with this text."""
    path = folder / "syncd.toml"
    path.write_text(text)
    return load_config(str(path), environ or {}, overrides)
