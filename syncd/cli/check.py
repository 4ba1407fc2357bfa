"""`syncd check`: tell whether a node would start with this configuration, and what would be in force."""

from __future__ import annotations

import enum
import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import click

from syncd.config import Address, Config
from syncd.config_load import check_config, find_config, load_config
from syncd.logs import MASK

__all__ = ["check", "effective_lines"]

_SECRET_FIELDS = {"hmac_secret", "api_keys"}
_SECTIONS = ("auth", "limits", "timing")


@click.command(short_help="Check the configuration and print what is in force.")
@click.option(
    "--config", metavar="FILE", help="Default: $SYNCD_CONFIG, else ./syncd.toml if it is there."
)
@click.option("--listen", metavar="HOST:PORT|unix:PATH", help="As for syncd serve.")
@click.option("--insecure", is_flag=True, default=None, help="As for syncd serve.")
@click.option("--quiet", is_flag=True, help="Print nothing but problems.")
def check(*, config: str | None, quiet: bool, **overrides: Any) -> None:
    """Check the configuration that syncd serve would use here.

    Prints every setting in force as TOML (secrets as ***) and exits with 0, or prints every problem
    and exits with 2. Starts nothing and opens no database.

    \b
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


def effective_lines(config: Config) -> Iterator[str]:
    """Yield the whole configuration as lines of TOML, secrets masked."""
    yield "[server]"
    yield from _fields(config, without=(*_SECTIONS, "namespaces"))
    for section in _SECTIONS:
        yield from ("", f"[{section}]")
        yield from _fields(getattr(config, section))
    for name, namespace in config.namespaces.items():
        yield from ("", f"[namespaces.{name}]")
        yield from _fields(namespace, without=("name",))


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
