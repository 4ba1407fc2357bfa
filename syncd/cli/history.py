"""`syncd history`: print events of a channel's past."""

from __future__ import annotations

from collections.abc import Iterator

import click

from syncd.backend import PublishedEvent, Publisher
from syncd.cli.remote import (
    api_options,
    json_line,
    open_publisher,
    position_from_text,
    position_json,
)
from syncd.ids import Position

__all__ = ["history"]

PAGE_EVENTS = 1000
"""The most the server gives at once."""


@click.command(short_help="Print events of a channel's past.")
@click.argument("channel")
@click.option(
    "--limit", type=click.IntRange(0), default=100, show_default=True, help="Events printed."
)
@click.option(
    "--since",
    type=position_from_text,
    metavar="EPOCH:OFFSET",
    help="Events after it; before it with --reverse.",
)
@click.option("--reverse", is_flag=True, help="Newest first.")
@api_options
def history(
    channel: str,
    *,
    limit: int,
    since: Position | None,
    reverse: bool,
    url: str,
    api_key: str | None,
) -> None:
    """Print events of CHANNEL, one line of JSON each: the oldest kept first, or after --since.

    \b
    syncd history demo:room --limit 10 --reverse
    syncd history demo:room --since 4f2a9c01d7be6a53:42
    """  # noqa: D301 - click reads the backslash: lines as they are
    with open_publisher(url, api_key) as publisher:
        for event in _events(publisher, channel, limit, since, reverse=reverse):
            click.echo(
                json_line(
                    {
                        "type": "event",
                        "channel": event.channel,
                        "name": event.name,
                        "data": event.data,
                        "key": event.key,
                        "position": position_json(event.position),
                        "by": event.by,
                        "at_ms": event.at_ms,
                    }
                )
            )


def _events(
    publisher: Publisher, channel: str, limit: int, since: Position | None, *, reverse: bool
) -> Iterator[PublishedEvent]:
    """Yield up to `limit` events, a page at a time."""
    while True:
        page = publisher.history(
            channel, limit=min(limit, PAGE_EVENTS), since=since, reverse=reverse
        )
        yield from page.events
        limit -= len(page.events)
        if not page.events or limit <= 0 or page.events[-1].position == page.position:
            return
        since = page.events[-1].position
