"""`syncd backup` and `syncd restore`: a copy of a node's store, and back."""

from __future__ import annotations

from pathlib import Path

import click
import httpx

from syncd.cli.exits import Failed, no_answer
from syncd.cli.remote import api_options, exit_code_of_code, json_line, positions_json

__all__ = ["backup", "restore"]

BACKUP_S = 3600.0
"""The node answers when the copy is durable: 2 MiB a slice, some 100 MB/s while it does little else."""


@click.command(short_help="Copy a running node's store.")
@click.argument("file", type=click.Path(path_type=Path))
@api_options
def backup(file: Path, *, url: str, api_key: str | None) -> None:
    """Have the node copy its store to FILE, on its own machine, while it is used.

    FILE must not exist. Prints one line of JSON: `positions` says up to where each channel is in it.

    \b
    syncd backup /var/backups/syncd-monday.db
    """  # noqa: D301 - click reads the backslash: lines as they are
    headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
    body = {"path": str(file.absolute())}
    try:
        answer = httpx.post(
            f"{url.rstrip('/')}/api/backup", json=body, headers=headers, timeout=BACKUP_S
        )
        told = answer.json()
    except (httpx.TransportError, ValueError) as error:
        raise no_answer(url, error) from None
    if answer.status_code != 200:
        raise Failed(told["error"]["message"], exit_code_of_code(told["error"]["code"]))
    click.echo(json_line(told))


@click.command(short_help="Put a backup in place.")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--db", default="syncd.db", show_default=True, type=click.Path(path_type=Path))
def restore(file: Path, *, db: Path) -> None:
    """Check the backup FILE and put a copy of it in place as the database --db, which must not exist.

    The node that opens it begins new epochs: clients load afresh where the lost log was ahead.

    \b
    syncd restore /var/backups/syncd-monday.db --db /var/lib/syncd/syncd.db
    """  # noqa: D301 - click reads the backslash: lines as they are
    from syncd.store.sqlite_backup import restore_file  # noqa: PLC0415 - other commands need no SQLite

    report = restore_file(file, db)
    told = {"path": str(db), "size_bytes": report.size_bytes, "num_channels": report.num_channels}
    click.echo(json_line({**told, "positions": positions_json(report.positions)}))
