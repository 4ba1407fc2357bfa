"""`syncd mutate`: run a mutator once, and print what it returned."""

from __future__ import annotations

import json
from typing import Any

import click

from syncd.backend import MutationRejected
from syncd.backend.calls import value_from_json
from syncd.cli.exits import ExitCode, Failed
from syncd.cli.remote import api_options, json_line, open_publisher, positions_json

__all__ = ["mutate"]


@click.command(short_help="Change state by a mutator.")
@click.argument("name")
@click.argument("args", metavar="[ARGS_JSON]", required=False)
@click.option(
    "--idempotency-key",
    metavar="KEY",
    help="The same one takes effect once in 24 hours. Default: a random one.",
)
@api_options
def mutate(
    name: str, args: str | None, idempotency_key: str | None, url: str, api_key: str | None
) -> None:
    """Run the mutator NAME as a backend and print what it returned, once that is durable.

    ARGS_JSON is an object by name or a list by position. Binary data is written as
    {"$base64": "..."}. A mutation that is rejected ends the command with 1 and its reason.

    \b
    syncd mutate orders.ship '{"order_id": "o1", "carrier": "ACME"}'
    syncd mutate orders.ship '["o1", "ACME"]' --idempotency-key ship-o1
    syncd mutate notes.put '{"key": "n1", "value": "hello"}'
    """  # noqa: D301 - click reads the backslash: lines as they are
    value = None if args is None else _arguments(args)
    with open_publisher(url, api_key) as publisher:
        try:
            mutated = publisher.mutate(name, value, idempotency_key=idempotency_key)
        except MutationRejected as rejection:
            raise Failed(f"Rejected: {rejection}") from None
    click.echo(json_line({"value": mutated.value, "positions": positions_json(mutated.positions)}))


def _arguments(text: str) -> dict[str, Any] | list[Any]:
    try:
        value = value_from_json(json.loads(text))
    except ValueError as error:
        raise Failed(f"Arguments are not JSON: {error}.", ExitCode.USAGE) from None
    if not isinstance(value, dict | list):
        raise Failed(f"Arguments are an object or a list, such as '[{text}]'.", ExitCode.USAGE)
    return value
