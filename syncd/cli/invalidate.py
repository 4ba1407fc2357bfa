"""`syncd invalidate`: say that entries may have changed at their source."""

from __future__ import annotations

import click

from syncd.cli.remote import api_options, json_line, open_publisher, positions_json

__all__ = ["invalidate"]


@click.command(short_help="Have entries loaded anew.")
@click.argument("collection")
@click.option("--key", "keys", multiple=True, metavar="KEY", help="This entry; several times.")
@click.option(
    "--tag", "tags", multiple=True, metavar="TAG", help="Entries with this tag; several times."
)
@click.option("--all", "everything", is_flag=True, help="All of the collection.")
@click.option("--cause", metavar="TEXT", help="Told to watchers.")
@api_options
def invalidate(
    collection: str,
    *,
    keys: tuple[str, ...],
    tags: tuple[str, ...],
    everything: bool,
    cause: str | None,
    url: str,
    api_key: str | None,
) -> None:
    """Say that entries of COLLECTION may have changed at their source.

    Watchers are told, what they watch is loaded anew, and nobody reads the old values as fresh.

    \b
    syncd invalidate prices --tag fruit
    syncd invalidate prices --key apple --key pear --cause "price list of May"
    syncd invalidate prices --all
    """  # noqa: D301 - click reads the backslash: lines as they are
    if bool(keys) + bool(tags) + everything != 1:
        raise click.UsageError("Say what: --key (or several), --tag (or several), or --all.")
    with open_publisher(url, api_key) as publisher:
        positions = publisher.invalidate(
            collection, keys=keys or None, tags=tags or None, everything=everything, cause=cause
        )
    click.echo(json_line({"positions": positions_json(positions)}))
