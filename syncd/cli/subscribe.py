"""`syncd subscribe`: print what comes in some channels, over reconnects and restarts of the server."""

from __future__ import annotations

from typing import Any

import attrs
import click
import trio

from syncd.cli.live import LiveRun, live_options
from syncd.cli.remote import position_from_text, position_json, url_option
from syncd.client import Client, Event, PresenceChanged, Reset, Subscribed
from syncd.ids import Position

__all__ = ["subscribe"]


@click.command(short_help="Print what comes in channels.")
@click.argument("channels", metavar="CHANNEL...", nargs=-1, required=True)
@click.option(
    "--since",
    type=position_from_text,
    metavar="EPOCH:OFFSET",
    help="Everything after it first; with one channel only.",
)
@click.option("--presence", "has_presence", is_flag=True, help="Print who is present, too.")
@live_options
@url_option
def subscribe(
    channels: tuple[str, ...],
    *,
    since: Position | None,
    has_presence: bool,
    url: str,
    token: str | None,
    **options: Any,
) -> int:
    """Print every event of the channels as a line of JSON, until Ctrl-C.

    Standard output has lines with "type" event, and reset where events may have been missed (and
    presence, if asked for). Standard error tells connection and subscription. A lost connection is
    re-established and what was missed is printed, once and in order. A reader that is slow holds
    this command up and nobody else.

    \b
    syncd subscribe demo:room
    syncd subscribe demo:room demo:other --presence | jq .
    syncd subscribe demo:room --since 4f2a9c01d7be6a53:42 --count 10
    """  # noqa: D301 - click reads the backslash: lines as they are
    if since is not None and len(channels) > 1:
        raise click.UsageError("--since is a position in one channel: name one channel only.")
    if len(set(channels)) < len(channels):
        raise click.UsageError("A channel is named twice.")
    return _Run(channels, since, has_presence=has_presence, **options).run(url, token)


class _Run(LiveRun):
    """One run of the command."""

    def __init__(
        self,
        channels: tuple[str, ...],
        since: Position | None,
        *,
        has_presence: bool,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._channels = channels
        self._since = since
        self._has_presence = has_presence

    def follow(self, client: Client, nursery: trio.Nursery) -> None:
        for channel in self._channels:
            nursery.start_soon(self._print_channel, client, channel)

    async def _print_channel(self, client: Client, channel: str) -> None:
        async with client.subscribe(
            channel, self._since, presence=self._has_presence, notices=True
        ) as subscription:
            async for item in subscription:
                self._print(item)

    def _print(self, item: Event | Reset | Subscribed | PresenceChanged) -> None:
        match item:
            case Event():
                self.out(_event_line(item), counts=True)
            case Reset():
                self.out({**_line("reset", item), "cause": item.cause.value})
            case Subscribed():
                told = {"was_recovering": item.was_recovering, "recovered": item.recovered}
                self.note({**_line("subscribed", item), **told})
            case PresenceChanged():
                members = [attrs.asdict(member) for member in item.members]
                self.out({"type": "presence", "channel": item.channel, "members": members})


def _line(kind: str, item: Reset | Subscribed) -> dict[str, Any]:
    return {"type": kind, "channel": item.channel, "position": position_json(item.position)}


def _event_line(event: Event) -> dict[str, Any]:
    return {
        "type": "event",
        "channel": event.channel,
        "name": event.name,
        "data": event.data,
        "key": event.key,
        "position": position_json(event.position),
        "by": event.by,
        "at_ms": event.at_ms,
    }
