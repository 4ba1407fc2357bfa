"""A command that follows something over the WebSocket client: signals, the first connection, what goes wrong."""

from __future__ import annotations

import signal
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import click
import trio

from syncd.cli.exits import ExitCode, Failed, no_answer
from syncd.cli.remote import exit_code_of_code, json_line
from syncd.client import (
    Client,
    ConnectionState,
    ConnectionStopped,
    RequestFailed,
    Unauthorized,
    open_client,
)

__all__ = ["LiveRun", "live_options"]

SIGNAL_BASE = 128
"""What shells add to a signal's number."""

Command = Callable[..., Any]


def live_options(command: Command) -> Command:
    """Add what such commands share besides `--url`: --count, --wait, --quiet, --token."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


_OPTIONS = (
    click.option("--count", type=click.IntRange(1), metavar="N", help="End after N lines of them."),
    click.option(
        "--wait",
        "wait_s",
        type=click.FloatRange(0),
        default=5.0,
        show_default=True,
        metavar="SECONDS",
        help="How long to try for the first connection.",
    ),
    click.option(
        "--quiet", "is_quiet", is_flag=True, help="Nothing on standard error but failures."
    ),
    click.option(
        "--token",
        envvar="SYNCD_TOKEN",
        metavar="JWT",
        help="Who to be; better given as $SYNCD_TOKEN. Default: anonymous.",
    ),
)


class LiveRun(ABC):
    """One run of such a command: prints until a signal, or until enough was printed.

    Args:
        count: Lines that count, then it is over; None: never.
        wait_s: For the first connection.
        is_quiet: Nothing on standard error.
    """

    def __init__(self, *, count: int | None, wait_s: float, is_quiet: bool) -> None:
        self._exit_code = int(ExitCode.OK)
        self._num_left = count
        self._wait_s = wait_s
        self._is_quiet = is_quiet
        self.done = trio.Event()

    @abstractmethod
    def follow(self, client: Client, nursery: trio.Nursery) -> None:
        """Start the tasks that print, once there is a connection."""

    def run(self, url: str, token: str | None) -> int:
        """Run it; return the exit code."""
        try:
            return trio.run(self._main, url, token)
        except BaseExceptionGroup as group:
            raise _only_leaf(group) from None

    # ---------------------------------------------------------------- printing

    def out(self, line: dict[str, Any], *, counts: bool = False) -> None:
        """Print a line on standard output."""
        if self.done.is_set():
            return
        click.echo(json_line(line))
        sys.stdout.flush()
        if counts and self._num_left is not None:
            self._num_left -= 1
            if self._num_left == 0:
                self.done.set()

    def note(self, line: dict[str, Any]) -> None:
        """Print a line on standard error."""
        if not self._is_quiet:
            click.echo(json_line(line), err=True)

    # ---------------------------------------------------------------- the run

    async def _main(self, url: str, token: str | None) -> int:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_signals, nursery.cancel_scope.cancel)
            await self._follow_all(url, token)
            nursery.cancel_scope.cancel(reason="done")
        return self._exit_code

    async def _watch_signals(self, stop: Callable[[], None]) -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for number in signals:
                self._exit_code = SIGNAL_BASE + number
                stop()

    async def _follow_all(self, url: str, token: str | None) -> None:
        try:
            async with open_client(url, token=token) as client, trio.open_nursery() as nursery:
                nursery.start_soon(self._tell_states, client)
                await self._wait_connected(client, url)
                self.follow(client, nursery)
                await self.done.wait()
                nursery.cancel_scope.cancel(reason="enough was printed")
        except* ValueError as group:
            raise Failed(str(_only_leaf(group)), ExitCode.USAGE) from None
        except* Unauthorized as group:
            text = f"The server accepts no token of ours: {_only_leaf(group)}"
            raise Failed(text, ExitCode.UNAUTHORIZED) from None
        except* ConnectionStopped as group:
            raise Failed(f"The server ended this: {_only_leaf(group)}") from None
        except* RequestFailed as group:
            error = _only_leaf(group)
            assert isinstance(error, RequestFailed)
            raise Failed(str(error), exit_code_of_code(error.code)) from None

    async def _wait_connected(self, client: Client, url: str) -> None:
        with trio.move_on_after(self._wait_s):
            async for state in client.states():
                if state is ConnectionState.CONNECTED:
                    return
        raise no_answer(url)

    async def _tell_states(self, client: Client) -> None:
        async for state in client.states():
            self.note({"type": "connection", "state": state.value})


def _only_leaf(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
