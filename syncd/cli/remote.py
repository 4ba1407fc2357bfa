"""What the commands that talk to a node share: where it is, which key, how values and failures are told."""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import click

from syncd.backend import Publisher, Refused, Unauthorized, Unreachable
from syncd.cli.exits import ExitCode, Failed, no_answer
from syncd.codes import ErrorCode
from syncd.http.json_values import jsonable
from syncd.ids import ChannelName, Epoch, Position

__all__ = [
    "api_options",
    "exit_code_of_code",
    "json_line",
    "open_publisher",
    "position_from_text",
    "position_json",
    "positions_json",
    "url_option",
    "value_from_text",
]

DEFAULT_URL = "http://127.0.0.1:8400"

Command = Callable[..., Any]

url_option = click.option(
    "--url",
    envvar="SYNCD_URL",
    default=DEFAULT_URL,
    show_default=True,
    metavar="URL",
    help="Node to talk to; also $SYNCD_URL.",
)


def api_options(command: Command) -> Command:
    """Add `--url` and `--api-key`."""
    key = click.option(
        "--api-key",
        envvar="SYNCD_API_KEY",
        metavar="KEY",
        help="Key of the HTTP API; better given as $SYNCD_API_KEY, which others cannot see.",
    )
    return url_option(key(command))


def position_from_text(text: str) -> Position:
    """Read `EPOCH:OFFSET` from the command line."""
    epoch, _, offset = text.rpartition(":")
    if not epoch or not (offset.isascii() and offset.isdigit()):
        raise click.BadParameter(f"{text!r} is not of the form EPOCH:OFFSET.")
    return Position(Epoch(epoch), int(offset))


def position_json(position: Position | None) -> dict[str, Any] | None:
    """Return a position as JSON shows it."""
    return None if position is None else {"epoch": position.epoch, "offset": position.offset}


def positions_json(positions: Mapping[ChannelName, Position]) -> dict[str, object]:
    """Return positions by channel as JSON shows them."""
    return {channel: position_json(position) for channel, position in positions.items()}


_MAY_BE_NULL = frozenset({"data", "value"})


def json_line(value: dict[str, Any]) -> str:
    """Return one line of JSON; binary data is shown as `{"$base64": "..."}`. Control characters are escaped."""
    shown = {name: item for name, item in value.items() if item is not None or name in _MAY_BE_NULL}
    return json.dumps(jsonable(shown), separators=(", ", ": "))


def value_from_text(text: str, place: str = "") -> Any:
    """Read JSON from the command line; `{"$base64": "..."}` alone is binary data. `place` begins the error."""
    try:
        value = json.loads(text)
    except ValueError as error:
        message = f"""{place}Not JSON ({error}). Text needs its own quotes: '"hello"'."""
        raise Failed(message, ExitCode.USAGE) from None
    match value:
        case {"$base64": str() as encoded} if len(value) == 1:
            try:
                return base64.b64decode(encoded, validate=True)
            except binascii.Error as error:
                raise Failed(f"{place}Not base64: {error}.", ExitCode.USAGE) from None
        case _:
            return value


_BY_CODE = {
    ErrorCode.UNAUTHORIZED.value: ExitCode.UNAUTHORIZED,
    ErrorCode.PERMISSION_DENIED.value: ExitCode.UNAUTHORIZED,
    ErrorCode.CLIENT_DENIED.value: ExitCode.UNAUTHORIZED,
    ErrorCode.BAD_CHANNEL.value: ExitCode.USAGE,
    ErrorCode.BAD_KEY.value: ExitCode.USAGE,
    ErrorCode.STORE_UNAVAILABLE.value: ExitCode.STORE_UNAVAILABLE,
}


def exit_code_of_code(code: str) -> ExitCode:
    """Return the exit code for an error code that the server sent."""
    return _BY_CODE.get(code, ExitCode.FAILURE)


@contextlib.contextmanager
def open_publisher(url: str, api_key: str | None) -> Iterator[Publisher]:
    """Talk to the HTTP API; whatever goes wrong ends the command with the right exit code."""
    try:
        with Publisher(url, api_key) as publisher:
            yield publisher
    except ValueError as error:
        raise Failed(str(error), ExitCode.USAGE) from None
    except Unauthorized as error:
        hint = "Set SYNCD_API_KEY to the node's key; syncd serve prints it when none is configured."
        raise Failed(f"{error.message} {hint}", ExitCode.UNAUTHORIZED) from None
    except Refused as error:
        raise Failed(str(error), exit_code_of_code(error.code)) from None
    except Unreachable as error:
        raise no_answer(url, error) from None
