"""`syncd publish`: send events to a channel, from an argument or line by line from standard input."""

from __future__ import annotations

import sys

import click

from syncd.backend import Publisher
from syncd.cli.remote import (
    api_options,
    json_line,
    open_publisher,
    position_json,
    value_from_text,
)
from syncd.ids import Position

__all__ = ["publish"]


@click.command(short_help="Send events to a channel.")
@click.argument("channel")
@click.argument("value", metavar="JSON")
@click.option("--name", metavar="NAME", help="What kind of event it is.")
@click.option("--key", metavar="KEY", help="Conflation and latest-value key.")
@click.option(
    "--uid",
    metavar="UID",
    help="Idempotency key: the same one takes effect once in 24 hours. Default: a random one.",
)
@api_options
def publish(channel: str, value: str, url: str, api_key: str | None, **options: str | None) -> None:
    """Publish JSON to CHANNEL and print where it stands as a line of JSON.

    With - as JSON every line of standard input is one event, published in order; with --uid, line
    n has the idempotency key UID/n, so that the same input can be sent again after a failure.
    Binary data is written as {"$base64": "..."}.

    \b
    syncd publish demo:room '{"hello": "you"}'
    syncd publish demo:room '"plain text"' --name note
    tail -f events.ndjson | syncd publish demo:room -
    """  # noqa: D301 - click reads the backslash: lines as they are
    data = None if value == "-" else value_from_text(value)
    with open_publisher(url, api_key) as publisher:
        if value == "-":
            _publish_lines(publisher, channel, options)
        else:
            _tell(channel, publisher.publish(channel, data, **options))


def _publish_lines(publisher: Publisher, channel: str, options: dict[str, str | None]) -> None:
    uid = options.pop("uid")
    for number, line in enumerate(sys.stdin, 1):
        if not line.strip():
            continue
        data = value_from_text(line, f"Line {number}: ")
        line_uid = None if uid is None else f"{uid}/{number}"
        _tell(channel, publisher.publish(channel, data, uid=line_uid, **options))


def _tell(channel: str, position: Position | None) -> None:
    click.echo(json_line({"channel": channel, "position": position_json(position)}))
