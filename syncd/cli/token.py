"""`syncd token`: sign a token as an application's back end would, for trying things out and for scripts."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import click

from syncd.cli.exits import ExitCode, Failed
from syncd.config import AuthSettings
from syncd.config_load import find_config, load_config
from syncd.config_values import parse_duration
from syncd.errors import ConfigError
from syncd.model.tokens import TokenClaims, TokenRefused, TokenVerifier, make_token

__all__ = ["token"]


@click.command(short_help="Sign a token for a user.")
@click.option(
    "--user", required=True, metavar="NAME", help="Whom the token speaks for (claim sub)."
)
@click.option(
    "--role", "roles", multiple=True, metavar="ROLE", help="For rules role:ROLE; may be repeated."
)
@click.option(
    "--channels",
    multiple=True,
    metavar="PATTERN",
    help="For rules of the kind claim, such as 'orders:eu/*'; may be repeated.",
)
@click.option(
    "--ttl", default="1h", show_default=True, metavar="DURATION", help="How long it is good."
)
@click.option("--jti", metavar="ID", help="Names this token, so that it can be revoked alone.")
@click.option("--kid", metavar="ID", help="Which of auth.public_keys checks it.")
@click.option(
    "--key-file",
    metavar="FILE",
    help="Private key in PEM form (RSA or Ed25519), or - for standard input. "
    "Default: the secret of the configuration (auth.hmac_secret, SYNCD_HMAC_SECRET).",
)
@click.option(
    "--config", metavar="FILE", help="Default: $SYNCD_CONFIG, else ./syncd.toml if it is there."
)
def token(
    *,
    user: str,
    roles: tuple[str, ...],
    channels: tuple[str, ...],
    ttl: str,
    jti: str | None,
    kid: str | None,
    key_file: str | None,
    config: str | None,
) -> None:
    """Print a signed token (JWT) on standard output.

    Audience and issuer are those of the configuration. The secret is never taken from the command
    line, where other users of the machine could read it.

    \b
    SYNCD_HMAC_SECRET=... syncd token --user ann --role editor --ttl 10min
    syncd token --user ann --channels 'orders:eu/*' --key-file private.pem --kid 2026-01
    """  # noqa: D301 - click reads the backslash: lines as they are
    auth = load_config(config or find_config(os.environ), os.environ).auth
    claims = TokenClaims(
        user=user,
        ttl_s=parse_duration(ttl, "--ttl"),
        roles=roles,
        channels=channels,
        token_id=jti,
        audience=auth.audience,
        issuer=auth.issuer,
    )
    made = make_token(claims, _key(key_file, auth), now_s=time.time(), kid=kid)
    _check(made, auth)
    click.echo(made)


def _key(key_file: str | None, auth: AuthSettings) -> str:
    if key_file is not None:
        key = sys.stdin.read() if key_file == "-" else _read(key_file)
        if "-----BEGIN" not in key:
            raise ConfigError("--key-file must hold a private key in PEM form.")
        return key
    if auth.hmac_secret is None:
        raise ConfigError(
            "There is no key to sign with: set auth.hmac_secret in the configuration or SYNCD_HMAC_SECRET, "
            "or give --key-file."
        )
    return auth.hmac_secret


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        raise ConfigError(f"--key-file: cannot read {path} as PEM.") from None


def _check(made: str, auth: AuthSettings) -> None:
    """Refuse to hand out what the server of this configuration would not take, where there is one to know."""
    verifier = TokenVerifier(auth)
    if not verifier.is_configured:
        return
    try:
        verifier.verify(made, time.time())
    except TokenRefused as refused:
        raise Failed(
            f"A server with this configuration would refuse the token: {refused.reason}.",
            ExitCode.USAGE,
        ) from None
