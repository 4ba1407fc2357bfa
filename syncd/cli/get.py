"""`syncd get`: print entries of a collection."""

from __future__ import annotations

import click

from syncd.cli.remote import api_options, json_line, open_publisher

__all__ = ["get"]


@click.command(short_help="Print entries of a collection.")
@click.argument("collection")
@click.argument("keys", metavar="KEY...", nargs=-1, required=True)
@api_options
def get(collection: str, keys: tuple[str, ...], url: str, api_key: str | None) -> None:
    """Print entries of COLLECTION, one line of JSON each, loading what is not in memory.

    Where there is no such entry the line has "deleted". Keys of one call lie in one partition.
    To follow how they change: syncd watch COLLECTION KEY...

    \b
    syncd get orders o1 o2
    syncd get notes eu/n1
    """  # noqa: D301 - click reads the backslash: lines as they are
    with open_publisher(url, api_key) as publisher:
        found = publisher.read(collection, keys)
    for entry in found.entries:
        shown = {"deleted": True} if entry.is_deleted else {"value": entry.value}
        click.echo(json_line({"key": entry.key, "version": entry.version, **shown}))
