"""`syncd subscribe`: print what comes in some channels, over reconnects and restarts of the server."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import Any

import attrs
import click
import trio

from syncd.cli.exits import ExitCode, Failed
from syncd.cli.remote import (
    exit_code_of_code,
    json_line,
    position_from_text,
    position_json,
    url_option,
)
from syncd.client import (
    Client,
    ConnectionState,
    ConnectionStopped,
    Event,
    PresenceChanged,
    RequestFailed,
    Reset,
    Subscribed,
    Unauthorized,
    open_client,
)
from syncd.ids import Position

__all__ = ["subscribe"]

SIGNAL_BASE = 128
"""What shells add to a signal's number."""


@attrs.frozen
class _Wishes:
    """What the command line asked for."""

    channels: tuple[str, ...]
    since: Position | None
    has_presence: bool
    count: int | None
    wait_s: float
    is_quiet: bool


@click.command(short_help="Print what comes in channels.")
@click.argument("channels", metavar="CHANNEL...", nargs=-1, required=True)
@click.option(
    "--since",
    type=position_from_text,
    metavar="EPOCH:OFFSET",
    help="Everything after it first; with one channel only.",
)
@click.option("--presence", "has_presence", is_flag=True, help="Print who is present, too.")
@click.option("--count", type=click.IntRange(1), metavar="N", help="End after N events.")
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(0),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to try for the first connection.",
)
@click.option("--quiet", "is_quiet", is_flag=True, help="Nothing on standard error but failures.")
@click.option(
    "--token",
    envvar="SYNCD_TOKEN",
    metavar="JWT",
    help="Who to be; better given as $SYNCD_TOKEN. Default: anonymous.",
)
@url_option
def subscribe(url: str, token: str | None, **options: Any) -> int:
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
    wishes = _Wishes(**options)
    if wishes.since is not None and len(wishes.channels) > 1:
        raise click.UsageError("--since is a position in one channel: name one channel only.")
    if len(set(wishes.channels)) < len(wishes.channels):
        raise click.UsageError("A channel is named twice.")
    try:
        return trio.run(_main, url, token, wishes)
    except BaseExceptionGroup as group:
        raise _only_leaf(group) from None


def _only_leaf(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _main(url: str, token: str | None, wishes: _Wishes) -> int:
    """Print until a signal, or until enough was printed; return the exit code."""
    run = _Run(wishes)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run.watch_signals, nursery.cancel_scope.cancel)
        await run.print_all(url, token)
        nursery.cancel_scope.cancel(reason="done")
    return run.exit_code


class _Run:
    """One run of the command."""

    def __init__(self, wishes: _Wishes) -> None:
        self.exit_code = int(ExitCode.OK)
        self._wishes = wishes
        self._num_left = wishes.count
        self._done = trio.Event()

    async def watch_signals(self, stop: Callable[[], None]) -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for number in signals:
                self.exit_code = SIGNAL_BASE + number
                stop()

    async def print_all(self, url: str, token: str | None) -> None:
        try:
            async with open_client(url, token=token) as client, trio.open_nursery() as nursery:
                nursery.start_soon(self._tell_states, client)
                await self._wait_connected(client, url)
                for channel in self._wishes.channels:
                    nursery.start_soon(self._print_channel, client, channel)
                await self._done.wait()
                nursery.cancel_scope.cancel(reason="enough was printed")
        except* ValueError as group:
            raise Failed(str(_only_leaf(group)), ExitCode.USAGE) from None
        except* Unauthorized as group:
            text = f"The server accepts no token of ours: {_only_leaf(group)}"
            raise Failed(text, ExitCode.UNAUTHORIZED) from None
        except* ConnectionStopped as group:
            raise Failed(f"The server ended this: {_only_leaf(group)}") from None
        except* RequestFailed as group:
            error = group.exceptions[0]
            while isinstance(error, ExceptionGroup):
                error = error.exceptions[0]
            assert isinstance(error, RequestFailed)
            raise Failed(str(error), exit_code_of_code(error.code)) from None

    async def _wait_connected(self, client: Client, url: str) -> None:
        with trio.move_on_after(self._wishes.wait_s):
            async for state in client.states():
                if state is ConnectionState.CONNECTED:
                    return
        raise Failed(f"No connection to {url}.", ExitCode.UNREACHABLE)

    async def _tell_states(self, client: Client) -> None:
        async for state in client.states():
            self._note({"type": "connection", "state": state.value})

    async def _print_channel(self, client: Client, channel: str) -> None:
        wishes = self._wishes
        async with client.subscribe(
            channel, wishes.since, presence=wishes.has_presence, notices=True
        ) as subscription:
            async for item in subscription:
                self._print(item)

    def _print(self, item: Event | Reset | Subscribed | PresenceChanged) -> None:
        if self._done.is_set():
            return
        match item:
            case Event():
                self._out(_event_line(item))
                self._count()
            case Reset():
                self._out({**_line("reset", item), "cause": item.cause.value})
            case Subscribed():
                told = {"was_recovering": item.was_recovering, "recovered": item.recovered}
                self._note({**_line("subscribed", item), **told})
            case PresenceChanged():
                members = [attrs.asdict(member) for member in item.members]
                self._out({"type": "presence", "channel": item.channel, "members": members})

    def _count(self) -> None:
        if self._num_left is not None:
            self._num_left -= 1
            if self._num_left == 0:
                self._done.set()

    def _out(self, line: dict[str, Any]) -> None:
        click.echo(json_line(line))
        sys.stdout.flush()

    def _note(self, line: dict[str, Any]) -> None:
        if not self._wishes.is_quiet:
            click.echo(json_line(line), err=True)


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
