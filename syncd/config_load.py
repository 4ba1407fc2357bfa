"""From `syncd.toml`, the environment and the command line to one `Config`, or to an error that says what to change.

Later ones win: file, environment, command line. A key nobody knows is an error, because a misspelt limit is no limit.
Values of secrets are in no message. Paths in the file are relative to the file.
"""

from __future__ import annotations

import difflib
import enum
import functools
import tomllib
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs

from syncd.config import (
    Action,
    Address,
    AuthSettings,
    CollectionSettings,
    Config,
    HistoryKind,
    Limits,
    Mode,
    Namespace,
    Timing,
)
from syncd.config_check import check_config, check_rule
from syncd.config_values import parse_address, parse_duration, parse_size
from syncd.errors import ConfigError
from syncd.model.tokens import algorithms_for
from syncd.wire.channels import is_namespace_name

__all__ = ["DEFAULT_PATH", "check_config", "ensure_api_key", "find_config", "load_config"]

DEFAULT_PATH = "syncd.toml"
"""Read when no other file is named and this one is there."""

_SECTIONS = ("server", "auth", "limits", "timing", "namespaces", "collections")

_SERVER_ENVIRONMENT = {
    "SYNCD_LISTEN": "listen",
    "SYNCD_API_LISTEN": "api_listen",
    "SYNCD_DB": "db",
    "SYNCD_REDIS": "redis",
    "SYNCD_WORKERS": "workers",
    "SYNCD_LOG_FORMAT": "log_format",
    "SYNCD_LOG_LEVEL": "log_level",
}

_Table = Mapping[str, Any]
_Values = dict[str, Any]


def find_config(environ: Mapping[str, str]) -> str | None:
    """Return the file to read when the command line names none: `SYNCD_CONFIG`, else ./syncd.toml if it is there."""
    if environ.get("SYNCD_CONFIG"):
        return environ["SYNCD_CONFIG"]
    return DEFAULT_PATH if Path(DEFAULT_PATH).is_file() else None


def load_config(
    path: str | None,
    environ: Mapping[str, str],
    overrides: Mapping[str, object] | None = None,
) -> Config:
    """Read the configuration. What its parts mean together is `check_config`'s to say.

    Args:
        path: A file in TOML, or None for none.
        environ: `SYNCD_API_KEY` (kept under the name `default`), `SYNCD_HMAC_SECRET`, `SYNCD_LISTEN`, `SYNCD_API_LISTEN`,
            `SYNCD_DB`, `SYNCD_REDIS`, `SYNCD_WORKERS`, `SYNCD_LOG_FORMAT`, `SYNCD_LOG_LEVEL`.
        overrides: Keys of [server] as given on the command line; None stands for not given.

    Raises:
        ConfigError: a file cannot be read, keys are unknown, or values are not what their keys want; a line each.
    """
    tables = {} if path is None else _read_toml(path)
    folder = Path(path or "").parent
    _, server, auth, limits, timing, namespaces, collections = _all_of(
        [
            lambda: _refuse_unknown(tables, _SECTIONS, ""),
            lambda: _server_values(_section(tables, "server"), folder, environ, overrides or {}),
            lambda: _auth_settings(_section(tables, "auth"), folder, environ),
            lambda: Limits(**_values(Limits, _section(tables, "limits"), "limits.")),
            lambda: Timing(**_values(Timing, _section(tables, "timing"), "timing.")),
            lambda: _named(_section(tables, "namespaces"), _namespace),
            lambda: _named(_section(tables, "collections"), _collection),
        ]
    )
    is_open = bool(server.get("insecure")) or not auth.algorithms
    return Config(
        **server,
        auth=auth,
        limits=limits,
        timing=timing,
        namespaces=_with_built_in(
            namespaces, is_open=is_open, is_insecure=bool(server.get("insecure"))
        ),
        collections=collections,
    )


def ensure_api_key(config: Config, make_key: Callable[[], str]) -> tuple[Config, str | None]:
    """Return the configuration with an API key, and that key if it had to be made (to be shown once)."""
    if config.api_keys:
        return config, None
    key = make_key()
    return attrs.evolve(config, api_keys={"default": key}), key


# ------------------------------------------------------------------------------------------------ sections


def _server_values(
    table: _Table, folder: Path, environ: Mapping[str, str], overrides: Mapping[str, object]
) -> _Values:
    values = _values(Config, table, "server.", without=(*_SECTIONS, "seat"))
    for key in ("db", "tls_cert", "tls_key"):
        if values.get(key) and values[key] != ":memory:":
            values[key] = str(folder / values[key])
    for key in ("listen", "api_listen"):
        if key in values and values[key].path is not None:
            values[key] = Address(path=str(folder / values[key].path))
    hints = typing.get_type_hints(Config)
    for variable, key in _SERVER_ENVIRONMENT.items():
        if environ.get(variable):
            values[key] = _converted(environ[variable], hints[key], key, variable)
    if environ.get("SYNCD_API_KEY"):
        values["api_keys"] = {**values.get("api_keys", {}), "default": environ["SYNCD_API_KEY"]}
    for key, value in overrides.items():
        if value is not None:
            values[key] = _converted(value, hints[key], key, "--" + key.replace("_", "-"))
    return values


def _auth_settings(table: _Table, folder: Path, environ: Mapping[str, str]) -> AuthSettings:
    table = dict(table)
    secret_file = table.pop("hmac_secret_file", None)
    values = _values(AuthSettings, table, "auth.", also=("hmac_secret_file",))
    if secret_file is not None:
        if "hmac_secret" in values:
            raise ConfigError("auth.hmac_secret and auth.hmac_secret_file are both set; keep one.")
        name = _converted(secret_file, str, "hmac_secret_file", "auth.hmac_secret_file")
        values["hmac_secret"] = _read_text(folder / name, "auth.hmac_secret_file").rstrip("\r\n")
    if environ.get("SYNCD_HMAC_SECRET"):
        values["hmac_secret"] = environ["SYNCD_HMAC_SECRET"]
    values["public_keys"] = {
        kid: _pem(key, folder, f"auth.public_keys.{kid}")
        for kid, key in values.get("public_keys", {}).items()
    }
    settings = AuthSettings(**values)
    if "algorithms" in values:
        return settings
    return attrs.evolve(settings, algorithms=algorithms_for(settings))


def _pem(text: str, folder: Path, where: str) -> str:
    return text if "-----BEGIN" in text else _read_text(folder / text, where)


def _named_table(name: str, table: object, where: str) -> dict[str, Any]:
    if not is_namespace_name(name):
        raise ConfigError(
            f"{where}: a name is 1 to 64 of a-z, 0-9, _ and -, the first a letter or digit."
        )
    if not isinstance(table, dict):
        raise ConfigError(f"{where} must be a table.")
    return table


def _named(tables: _Table, read: Callable[[str, object], Any]) -> dict[str, Any]:
    """Read each of the tables of a section."""
    parts = [functools.partial(read, name, table) for name, table in tables.items()]
    return dict(zip(tables, _all_of(parts), strict=True))


def _namespace(name: str, given: object) -> Namespace:
    where = f"namespaces.{name}"
    table = _named_table(name, given, where)
    rest = {key: value for key, value in table.items() if key != "allow"}
    values = _values(Namespace, rest, where + ".", without=("name", "allow"), also=("allow",))
    if values.get("mode") is Mode.EPHEMERAL:
        values.setdefault("history", HistoryKind.NONE)
    return Namespace(name, allow=_allow(table.get("allow", {}), where + ".allow"), **values)


def _collection(name: str, given: object) -> CollectionSettings:
    where = f"collections.{name}"
    table = {
        key: [value] if isinstance(value, str) and not key.startswith("max_") else value
        for key, value in _named_table(name, given, where).items()
    }
    values = _values(CollectionSettings, table, where + ".", without=("name",))
    for key in ("read", "mutate", "write"):
        for rule in values.get(key, ()):
            check_rule(rule, f"{where}.{key}")
    return CollectionSettings(name, **values)


def _allow(table: object, where: str) -> dict[Action, tuple[str, ...]]:
    if not isinstance(table, dict):
        raise ConfigError(f"{where} must be a table of actions and rules.")
    _refuse_unknown(table, [action.value for action in Action], where + ".")
    allow: dict[Action, tuple[str, ...]] = {}
    for action, rules in table.items():
        allow[Action(action)] = _texts(
            [rules] if isinstance(rules, str) else rules, f"{where}.{action}"
        )
        for rule in allow[Action(action)]:
            check_rule(rule, f"{where}.{action}")
    return allow


def _with_built_in(
    own: dict[str, Namespace], *, is_open: bool, is_insecure: bool
) -> dict[str, Namespace]:
    """`demo` and `live` are there while no namespace is configured; open to anyone while no authentication is either."""
    if own and not is_insecure:
        return own
    built_in = Config().namespaces
    if not is_open:
        built_in = {
            name: attrs.evolve(ns, allow=dict.fromkeys(ns.allow, ("authenticated",)))
            for name, ns in built_in.items()
        }
    return {**built_in, **own}


# ------------------------------------------------------------------------------------------------ values


def _values(
    cls: type[attrs.AttrsInstance],
    table: _Table,
    prefix: str,
    *,
    without: Iterable[str] = (),
    also: Iterable[str] = (),
) -> _Values:
    """Return a table's values converted to what the fields of `cls` hold; `also` are keys to offer in errors."""
    hints = typing.get_type_hints(cls)
    known = [field.name for field in attrs.fields(cls) if field.name not in without]
    keys = [key for key in table if key in known]
    _, *values = _all_of(
        [
            lambda: _refuse_unknown(table, known, prefix, also),
            *(
                functools.partial(_converted, table[key], hints[key], key, prefix + key)
                for key in keys
            ),
        ]
    )
    return dict(zip(keys, values, strict=True))


def _all_of(parts: Iterable[Callable[[], Any]]) -> list[Any]:
    """Return what each part returns, or raise everything that is wrong with them at once."""
    values, problems = [], []
    for part in parts:
        try:
            values.append(part())
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError("\n".join(problems))
    return values


def _converted(value: object, hint: Any, key: str, where: str) -> Any:
    hint = _without_none(hint)
    if hint is float and key.endswith("_s") and not key.endswith("_per_s"):
        return parse_duration(value, where)
    if hint is int and "_bytes" in key:
        return parse_size(value, where)
    if hint is Address:
        return parse_address(value, where)
    if hint == tuple[str, ...]:
        return _texts(value, where)
    if hint == dict[str, str]:
        return _text_table(value, where)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return _choice(value, hint, where)
    if hint is str:
        return _checked(value, (str,), "a text", where)
    if hint is bool:
        return _checked(value, (bool,), "true or false", where)
    if hint is int:
        return _checked(value, (int,), "a whole number", where)
    return float(_checked(value, (int, float), "a number", where))


def _without_none(hint: Any) -> Any:
    """Return `T` of `T | None`."""
    kinds = [kind for kind in typing.get_args(hint) if kind is not type(None)]
    return kinds[0] if isinstance(hint, types.UnionType) and len(kinds) == 1 else hint


def _checked(value: Any, kinds: tuple[type, ...], want: str, where: str) -> Any:
    if type(value) not in kinds or (type(value) is not str and not 0 <= value < 1e15):
        raise ConfigError(f"{where} must be {want}.")
    return value


def _choice(value: object, choices: type[enum.Enum], where: str) -> enum.Enum:
    names = [choice.value for choice in choices if choice is not Mode.COLLECTION]
    if value not in names:
        raise ConfigError(f"{where} must be one of {', '.join(names)}{_hint(value, names)}.")
    return choices(value)


def _texts(value: object, where: str) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) for item in value):
        raise ConfigError(f"{where} must be a list of texts.")
    return tuple(value)


def _text_table(value: object, where: str) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise ConfigError(f"{where} must be a table of texts.")
    return dict(value)


def _section(tables: _Table, name: str) -> _Table:
    table = tables.get(name, {})
    if not isinstance(table, dict):
        raise ConfigError(f"[{name}] must be a table.")
    return table


def _refuse_unknown(
    table: _Table, known: Iterable[str], prefix: str, also: Iterable[str] = ()
) -> None:
    names = [*known, *also]
    problems = [
        f"There is no setting {prefix}{key}{_hint(key, names)}."
        for key in table
        if key not in names
    ]
    if problems:
        raise ConfigError("\n".join(problems))


def _hint(given: object, names: list[str]) -> str:
    close = difflib.get_close_matches(str(given), names, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


# ------------------------------------------------------------------------------------------------ files


def _read_toml(path: str) -> dict[str, Any]:
    try:
        return tomllib.loads(_read_text(Path(path), "The configuration"))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}.") from None


def _read_text(path: Path, where: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{where}: {path} is not text in UTF-8.") from None
    except OSError as error:
        raise ConfigError(f"{where}: cannot read {path}: {error.strerror}.") from None
