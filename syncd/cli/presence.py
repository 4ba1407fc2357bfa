"""`syncd presence`: print who is present in a channel."""

from __future__ import annotations

import click

from syncd.cli.remote import api_options, json_line, open_publisher

__all__ = ["presence"]


@click.command(short_help="Print who is present in a channel.")
@click.argument("channel")
@click.option(
    "--limit",
    type=click.IntRange(0, 10_000),
    default=1000,
    show_default=True,
    help="Members printed.",
)
@api_options
def presence(channel: str, limit: int, url: str, api_key: str | None) -> None:
    """Print the members of CHANNEL, one line of JSON each, in order of arrival.

    To follow who comes and goes: syncd subscribe --presence CHANNEL.

    \b
    syncd presence demo:room
    """  # noqa: D301 - click reads the backslash: lines as they are
    with open_publisher(url, api_key) as publisher:
        found = publisher.presence(channel, limit=limit)
    for item in found.members:
        states = [{"client": client, "state": state} for client, state in item.states]
        click.echo(json_line({"member": item.member, "user": item.user, "states": states}))
    if found.num_members > len(found.members):
        click.echo(f"{len(found.members)} of {found.num_members} members.", err=True)
