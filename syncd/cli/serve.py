"""`syncd serve`: read the configuration, check it, run a node."""

from __future__ import annotations

import os
import secrets
from typing import Any

import click

from syncd.cli.app_target import load_app
from syncd.cli.exits import ExitCode
from syncd.cli.workers import drain_without_parent, seat_from, seated, supervise_workers
from syncd.config import Config
from syncd.config_load import check_config, ensure_api_key, find_config, load_config
from syncd.demo.board import demo_app
from syncd.errors import ConfigError, StoreUnavailable, StoreUnreachable
from syncd.logs import configure_logging
from syncd.model.definitions import AppDefinition
from syncd.model.definitions_check import app_in_force

__all__ = ["serve"]


@click.command(short_help="Run a node.")
@click.argument("app", required=False, metavar="[APP]")
@click.option(
    "--listen",
    metavar="HOST:PORT|unix:PATH",
    help="Where clients connect. Default 127.0.0.1:8400; port 0 lets the system choose.",
)
@click.option(
    "--api-listen",
    metavar="HOST:PORT|unix:PATH",
    help="Own address for the HTTP API and the page; the other one then takes WebSockets only.",
)
@click.option(
    "--db", metavar="FILE", help="SQLite file. Default syncd.db; :memory: forgets all at the end."
)
@click.option(
    "--redis",
    metavar="URL",
    help="Share this Redis with other nodes, in place of a file: redis://, rediss:// (TLS), unix://, "
    "redis[s]+sentinel:// or redis[s]+cluster://.",
)
@click.option(
    "--workers",
    type=int,
    metavar="N",
    help="Processes that share the port, each a node; needs --redis. Default 1.",
)
@click.option(
    "--config", metavar="FILE", help="Default: $SYNCD_CONFIG, else ./syncd.toml if it is there."
)
@click.option(
    "--insecure",
    is_flag=True,
    default=None,
    help="Open the built-in namespaces to anybody, also where others can reach them.",
)
@click.option(
    "--demo", is_flag=True, help="Bring an order board along, and show it at /, for a first look."
)
@click.option("--log-format", type=click.Choice(["console", "json"]), help="Default console.")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error", "critical"]),
    help="Default info.",
)
@click.option("--tls-cert", metavar="FILE", help="Certificate chain in PEM form; needs --tls-key.")
@click.option("--tls-key", metavar="FILE", help="Private key in PEM form.")
@click.option(
    "--driver",
    type=click.Choice(["auto", "epoll", "stream"]),
    help="How sockets are read. Default auto: epoll where there is one and no TLS.",
)
def serve(app: str | None, config: str | None, *, demo: bool, **overrides: Any) -> int:
    """Run a node until it is told to stop (SIGTERM or Ctrl-C).

    Without a configuration it listens on 127.0.0.1:8400, lets anybody on this machine use the
    namespaces demo and live, and prints a random API key. What is given here wins over the
    environment, that over the file.

    APP is the application that it runs: a module or a Python file with a syncd.App in it.

    \b
    syncd serve
    syncd serve --demo
    syncd serve myapp:app
    syncd serve app.py
    syncd serve --config /etc/syncd.toml --log-format json
    SYNCD_API_KEY=... syncd serve --listen 0.0.0.0:8400 --tls-cert cert.pem --tls-key key.pem
    syncd serve --redis redis://127.0.0.1:6379/0 --workers 4
    syncd serve --listen unix:/run/syncd.sock --api-listen 127.0.0.1:8401
    """  # noqa: D301 - click reads the backslash: lines as they are
    loaded = load_config(config or find_config(os.environ), os.environ, overrides)
    check_config(loaded)
    configure_logging(loaded.log_format, loaded.log_level)
    definition = app_in_force(_definition(app, loaded, demo=demo), loaded)
    ready, made_key = ensure_api_key(loaded, _make_api_key)
    seat = seat_from(os.environ)
    if seat is None:
        _tell(ready, made_key)
        if ready.workers > 1:
            return supervise_workers(ready, os.environ, made_key)
    else:
        ready = seated(ready, seat)
        drain_without_parent(seat)
    from syncd.server import serve as run  # noqa: PLC0415 - a command line mistake should not wait for it

    try:
        return run(ready, definition)
    except (StoreUnreachable, StoreUnavailable):
        if seat is not None and seat.is_known_away:
            return ExitCode.STORE_UNAVAILABLE  # as the try before, which has said so
        raise


def _definition(app: str | None, config: Config, *, demo: bool) -> AppDefinition | None:
    """Return the application that the command line asks for."""
    if demo and app is not None:
        raise ConfigError(f"--demo is an application, and so is {app}: leave one of them out.")
    if demo:
        return demo_app(config)
    return None if app is None else load_app(app)


def _make_api_key() -> str:
    return secrets.token_urlsafe(24)


def _tell(config: Config, made_key: str | None) -> None:
    """Say what an operator must know at once; the key goes to the terminal, never to the log."""
    if made_key is not None:
        click.echo(
            f"API key (until this node stops; set SYNCD_API_KEY to choose one): {made_key}",
            err=True,
        )
    if config.insecure:
        click.echo(
            "--insecure: the namespaces demo and live are open to anybody who gets here.", err=True
        )
