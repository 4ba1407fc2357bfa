"""`syncd check`: tell whether a node would start with this configuration, and what would be in force."""

from __future__ import annotations

import enum
import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import click

from syncd.cli.app_target import load_app
from syncd.config import Address, Config
from syncd.config_load import check_config, find_config, load_config
from syncd.logs import MASK
from syncd.model.definitions import (
    AppDefinition,
    CollectionDefinition,
    LoaderDefinition,
    ScannerDefinition,
)
from syncd.model.definitions_check import app_in_force

__all__ = ["app_lines", "check", "effective_lines"]

_SECRET_FIELDS = {"hmac_secret", "api_keys"}
_SECTIONS = ("auth", "limits", "timing")


@click.command(short_help="Check the configuration and print what is in force.")
@click.argument("app", required=False, metavar="[APP]")
@click.option(
    "--config", metavar="FILE", help="Default: $SYNCD_CONFIG, else ./syncd.toml if it is there."
)
@click.option("--listen", metavar="HOST:PORT|unix:PATH", help="As for syncd serve.")
@click.option("--insecure", is_flag=True, default=None, help="As for syncd serve.")
@click.option("--quiet", is_flag=True, help="Print nothing but problems.")
def check(*, app: str | None, config: str | None, quiet: bool, **overrides: Any) -> None:
    """Check the configuration that syncd serve would use here.

    Prints every setting in force as TOML (secrets as ***) and exits with 0, or prints every problem
    and exits with 2. Starts nothing and opens no database. With APP, as for syncd serve, the
    application is imported and checked too.

    \b
    syncd check myapp:app
    syncd check --config /etc/syncd.toml
    syncd check --quiet && systemctl reload syncd
    """  # noqa: D301 - click reads the backslash: lines as they are
    path = config or find_config(os.environ)
    loaded = load_config(path, os.environ, overrides)
    if not quiet:
        click.echo(f"# {path or 'no configuration file'}, environment, defaults")
        for line in effective_lines(loaded):
            click.echo(line)
    check_config(loaded)
    definition = app_in_force(None if app is None else load_app(app), loaded)
    if not quiet:
        for line in app_lines(definition):
            click.echo(line)


def app_lines(app: AppDefinition) -> Iterator[str]:
    """Yield what is in force of an application as comments: most of it stands in its code, not in the configuration."""
    for name, collection in app.collections.items():
        yield from ("", f"# collection {name}")
        for field in attrs.fields(CollectionDefinition):
            value = getattr(collection, field.name)
            if field.name != "name":
                yield f"# {field.name} = {_told(value)}"
    names = app.mutators.names()
    if names:
        yield from ("", f"# mutators: {', '.join(names)}")


def _told(value: Any) -> str:
    if isinstance(value, LoaderDefinition):
        return _told(value.call) + (" (takes lists)" if value.takes_list else "")
    if isinstance(value, ScannerDefinition):
        return f"{_told(value.call)} (pages of {value.page})"
    if callable(value):
        return getattr(value, "__qualname__", type(value).__qualname__)
    return "not set" if value is None else _toml(value)


def effective_lines(config: Config) -> Iterator[str]:
    """Yield the whole configuration as lines of TOML, secrets masked."""
    yield "[server]"
    yield from _fields(config, without=(*_SECTIONS, "namespaces", "collections", "seat"))
    for section in _SECTIONS:
        yield from ("", f"[{section}]")
        yield from _fields(getattr(config, section))
    for name, namespace in config.namespaces.items():
        yield from ("", f"[namespaces.{name}]")
        yield from _fields(namespace, without=("name",))
    for name, collection in config.collections.items():
        yield from ("", f"[collections.{name}]")
        yield from _fields(collection, without=("name",))


def _fields(section: attrs.AttrsInstance, without: tuple[str, ...] = ()) -> Iterator[str]:
    for field in attrs.fields(type(section)):
        value = getattr(section, field.name)
        if field.name in without:
            continue
        if value is None:
            yield f"# {field.name} is not set"
        else:
            yield f"{field.name} = {_toml(_masked(field.name, value))}"


def _masked(name: str, value: Any) -> Any:
    if name not in _SECRET_FIELDS:
        return value
    return dict.fromkeys(value, MASK) if isinstance(value, Mapping) else MASK


def _toml(value: Any) -> str:
    if isinstance(value, enum.Enum):
        return _toml(value.value)
    if isinstance(value, Address):
        return _toml(_address(value))
    if isinstance(value, Mapping):
        items = (f"{_toml(_plain_key(key))} = {_toml(item)}" for key, item in value.items())
        return "{ " + ", ".join(items) + " }" if value else "{}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)


def _plain_key(key: object) -> object:
    return key.value if isinstance(key, enum.Enum) else key


def _address(address: Address) -> str:
    if address.path is not None:
        return f"unix:{address.path}"
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"{host}:{address.port}"
