"""`syncd doctor`: what would keep a node from working well on this machine, and what to do. `syncd info`: what a running node tells."""

from __future__ import annotations

import importlib.metadata
import os
import resource
import shutil
import sqlite3
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import click
import httpx

from syncd.cli.exits import ExitCode, Failed, no_answer
from syncd.cli.remote import api_options, exit_code_of_code, json_line
from syncd.config import Config
from syncd.config_load import check_config, find_config, load_config
from syncd.errors import ConfigError
from syncd.logs import configure_logging

__all__ = ["doctor", "findings", "info"]

MIN_FILES = 4096
"""Fewer descriptors than this hold some 3,000 connections, which a machine of any size can serve."""
MIN_FREE_BYTES = 512 * 1024 * 1024
OLDEST_CLOCK_S = 1_767_225_600
"""2026-01-01: a clock before it was never set, and every token looks as if it came from the future."""
OLDEST_SQLITE = (3, 37, 0)
INFO_S = 10.0


@attrs.frozen
class Finding:
    """One thing that was looked at."""

    is_well: bool
    subject: str
    text: str
    """What was found; if it is not well, also what to do."""


def findings(config: Config) -> Iterator[Finding]:
    """Look at the machine for a node with this configuration. Writes nothing."""
    yield _files()
    yield from _disk(config) if config.redis is None else _redis(config)
    is_set = time.time() > OLDEST_CLOCK_S
    yield Finding(is_set, "clock", "set" if is_set else "before 2026. Start a time service (NTP).")
    is_new = sqlite3.sqlite_version_info >= OLDEST_SQLITE
    advice = "" if is_new else f"; at least {'.'.join(map(str, OLDEST_SQLITE))} is needed."
    yield Finding(is_new, "SQLite", sqlite3.sqlite_version + advice)
    has_key = bool(config.api_keys)
    text = "configured" if has_key else "none: a new one is made at each start. Set SYNCD_API_KEY."
    yield Finding(has_key, "API key", text)


def _files() -> Finding:
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    is_well = hard == resource.RLIM_INFINITY or hard >= MIN_FILES
    advice = "" if is_well else f". Raise it to {MIN_FILES} or more (LimitNOFILE= in systemd)."
    return Finding(is_well, "open files", f"limit {hard}{advice}")


def _disk(config: Config) -> Iterator[Finding]:
    if config.db == ":memory:":
        yield Finding(True, "database", "in memory: a restart forgets everything")  # noqa: FBT003 - the first column
        return
    path = Path(config.db).absolute()
    folder = path.parent
    can_write = os.access(path if path.exists() else folder, os.W_OK) and os.access(folder, os.W_OK)
    advice = (
        ""
        if can_write
        else " cannot be written. Create its folder, with rights for this user, or set --db."
    )
    yield Finding(can_write, "database", f"{path}{advice}")
    if folder.exists():
        free = shutil.disk_usage(folder).free
        is_well = free >= MIN_FREE_BYTES
        advice = "" if is_well else ". Free some or move the database: a full disk refuses writes."
        yield Finding(is_well, "disk", f"{free // 2**20} MiB free{advice}")


def _redis(config: Config) -> Iterator[Finding]:
    try:
        from syncd.cli.doctor_redis import redis_findings  # noqa: PLC0415 - an extra
    except ImportError:
        text = "its client library is missing: pip install 'syncd[redis]'."
        yield Finding(False, "Redis", text)  # noqa: FBT003 - the first column
        return
    for found in redis_findings(config):
        yield Finding(*found)


@click.command(short_help="Look for what would keep a node from working well.")
@click.option("--config", metavar="FILE", help="Default: $SYNCD_CONFIG, else ./syncd.toml.")
@click.option("--db", metavar="FILE", help="As for syncd serve.")
@click.option("--redis", metavar="URL", help="As for syncd serve.")
def doctor(*, config: str | None, db: str | None, redis: str | None) -> int:
    """Look at configuration, file limits, disk or Redis, clock and versions, and say what to do.

    Exits with 0 when all is well and 1 otherwise. Starts nothing, opens no database.

    \b
    syncd doctor --config syncd.toml
    syncd doctor --redis redis://127.0.0.1:6379/0
    """  # noqa: D301 - click reads the backslash: lines as they are
    python = ".".join(map(str, sys.version_info[:3]))
    click.echo(f"syncd {importlib.metadata.version('syncd')}, Python {python}")
    found: list[Finding]
    try:
        loaded = load_config(
            config or find_config(os.environ), os.environ, {"db": db, "redis": redis}
        )
        configure_logging(loaded.log_format, "error")
        check_config(loaded)
    except ConfigError as error:
        found = [Finding(False, "configuration", str(error))]  # noqa: FBT003 - the first column
    else:
        found = [Finding(True, "configuration", "accepted"), *findings(loaded)]  # noqa: FBT003 - the first column
    for each in found:
        click.echo(f"{'ok     ' if each.is_well else 'PROBLEM'}  {each.subject}: {each.text}")
    return ExitCode.OK if all(each.is_well for each in found) else ExitCode.FAILURE


@click.command(short_help="Print what a running node tells of itself.")
@click.option("--cluster", is_flag=True, help="Print all nodes of its cluster, one a line.")
@api_options
def info(*, url: str, api_key: str | None, cluster: bool) -> None:
    """Print version, health and counts of the node at --url, as one line of JSON.

    With --cluster, each node's state, load, version and lag, as the one at --url knows them.

    \b
    syncd info --url http://127.0.0.1:8400
    syncd info --cluster
    """  # noqa: D301 - click reads the backslash: lines as they are
    if cluster:
        for node in _told(url, api_key, "/api/nodes")["nodes"]:
            click.echo(json_line(node))
    else:
        click.echo(json_line(_told(url, api_key, "/api/info")))


def _told(url: str, api_key: str | None, path: str) -> dict[str, Any]:
    headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
    try:
        answer = httpx.get(url.rstrip("/") + path, headers=headers, timeout=INFO_S)
        told: dict[str, Any] = answer.json()
    except (httpx.TransportError, ValueError) as error:
        raise no_answer(url, error) from None
    if answer.status_code != 200:
        raise Failed(told["error"]["message"], exit_code_of_code(told["error"]["code"]))
    return told
