"""The command `syncd`: finds the subcommand, imports that one alone, and turns what goes wrong into an exit code.

A command is a click command whose function returns None or an exit code. To add one, write it in a module of its own and
name it in `COMMANDS`. It may raise `Failed`, `ConfigError`, `SyncdError`, and what sockets raise: all end here.
"""

from __future__ import annotations

import importlib
import socket
import sys
from collections.abc import Sequence

import click

from syncd.cli.exits import ExitCode, exit_code_of
from syncd.errors import ConfigError, StoreUnreachable, SyncdError

__all__ = ["COMMANDS", "cli", "main"]

COMMANDS: dict[str, str] = {
    "serve": "syncd.cli.serve:serve",
    "publish": "syncd.cli.publish:publish",
    "subscribe": "syncd.cli.subscribe:subscribe",
    "presence": "syncd.cli.presence:presence",
    "history": "syncd.cli.history:history",
    "mutate": "syncd.cli.mutate:mutate",
    "get": "syncd.cli.get:get",
    "watch": "syncd.cli.watch:watch",
    "invalidate": "syncd.cli.invalidate:invalidate",
    "rebuild": "syncd.cli.rebuild:rebuild",
    "cache": "syncd.cli.cache:cache",
    "token": "syncd.cli.token:token",
    "check": "syncd.cli.check:check",
    "doctor": "syncd.cli.doctor:doctor",
    "info": "syncd.cli.doctor:info",
    "backup": "syncd.cli.backup:backup",
    "restore": "syncd.cli.backup:restore",
}
"""Name to `module:function`, in the order of `syncd --help`."""

EPILOG = """\b
Exit codes:
  0  done
  1  the command did not succeed
  2  the command line or the configuration is wrong
  3  the key or token is missing, not accepted, or not enough
  4  no server answers there
  5  the store (Redis) cannot be reached now; the same may succeed later

\b
Environment:
  SYNCD_URL      server that the client commands talk to
  SYNCD_API_KEY  key of the HTTP API, for the server and for client commands
  SYNCD_CONFIG   configuration file; else ./syncd.toml if it is there
"""


class _LazyGroup(click.Group):
    """Imports a subcommand when it is asked for, so that `syncd publish` does not wait for the server's imports."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        target = COMMANDS.get(cmd_name)
        if target is None:
            return None
        module, _, name = target.partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


@click.group(
    cls=_LazyGroup,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="syncd", prog_name="syncd")
def cli() -> None:
    """A realtime sync server: recoverable channels, collections and presence over one WebSocket.

    \b
    syncd serve                                  run a node on 127.0.0.1:8400
    syncd publish demo:room '{"hello": "you"}'   send to everybody in a channel
    syncd subscribe demo:room                    print what comes, one JSON a line
    syncd serve app.py                           run a node with an application's collections
    syncd mutate orders.ship '["o1", "ACME"]'    change them by its mutators
    syncd watch orders                           print entries, and how they change
    """  # noqa: D301 - click reads the backslash: lines as they are


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. Prints errors as one line; a bug still shows its traceback.

    A reader of standard output that goes away (`syncd check | head -1`) ends the command quietly, with 1: click sees to it.
    """
    try:
        result = cli.main(args=argv, prog_name="syncd", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except StoreUnreachable as error:
        return _fail(str(error), ExitCode.STORE_UNAVAILABLE)
    except ConfigError as error:
        return _fail(str(error), ExitCode.USAGE)
    except SyncdError as error:
        return _fail(error.message, exit_code_of(error))
    except (click.Abort, KeyboardInterrupt):
        return 130
    except OSError as error:
        return _fail(_text_of(error), _exit_code_of_os_error(error))
    return result if isinstance(result, int) else ExitCode.OK


def _fail(text: str, code: ExitCode) -> int:
    for line in text.splitlines():
        click.echo(f"Error: {line}", err=True)
    return code


def _text_of(error: OSError) -> str:
    if error.strerror and error.filename:
        return f"{error.strerror}: {error.filename}"
    return error.strerror or str(error) or type(error).__name__


def _exit_code_of_os_error(error: OSError) -> ExitCode:
    is_unreachable = isinstance(error, (ConnectionError, TimeoutError, socket.gaierror))
    return ExitCode.UNREACHABLE if is_unreachable else ExitCode.FAILURE


if __name__ == "__main__":
    sys.exit(main())
