"""The options of a collection as they are written in Python, and the fields they set."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Literal, TypedDict

from syncd.config_values import parse_duration, parse_size
from syncd.errors import ConfigError

__all__ = ["CollectionOptions", "Duration", "Rules", "Size", "hint", "rules", "values_of"]

Duration = float | str | timedelta
"""Seconds, or a text such as `"10 min"`, or a timedelta."""
Size = int | str
"""Bytes, or a text such as `"256 MiB"`."""
Rules = str | Iterable[str]
"""One permission rule as in `syncd.toml`, or several of which any admits."""


class CollectionOptions(TypedDict, total=False):
    """Settings of a collection. What they mean and their defaults: the fields of `CollectionDefinition`."""

    partitioned: bool
    volatile: bool
    max_entries: int
    max_bytes: Size
    max_value_bytes: Size
    ttl: Duration
    stale: Duration
    jitter: float
    negative_ttl: Duration
    history_size: int
    history_age: Duration
    every: Duration
    load_timeout: Duration
    load_concurrency: int
    load_batch: int
    single_flight: Literal["node", "cluster"]
    warm: int
    on_commit_timeout: Duration
    on_commit_retry: Duration
    on_commit_max_retry: Duration
    read: Rules
    mutate: Rules
    write: Rules


_FIELDS = {
    "partitioned": "is_partitioned",
    "volatile": "is_volatile",
    "ttl": "ttl_s",
    "stale": "stale_s",
    "negative_ttl": "negative_ttl_s",
    "history_age": "history_age_s",
    "every": "every_s",
    "load_timeout": "load_timeout_s",
    "on_commit_timeout": "on_commit_timeout_s",
    "on_commit_retry": "on_commit_retry_s",
    "on_commit_max_retry": "on_commit_max_retry_s",
}
"""Option to the field it sets, where they are called differently."""

_PLAIN: dict[str, tuple[type, ...]] = {
    "is_partitioned": (bool,),
    "is_volatile": (bool,),
    "jitter": (int, float),
    "single_flight": (str,),
}
"""Fields that are neither durations, sizes, rules nor whole numbers."""


def values_of(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a definition that options set; None stands for not given.

    Raises:
        ConfigError: one is unknown, or not what it should be.
    """
    known = CollectionOptions.__annotations__
    values = {}
    for option, value in options.items():
        where = f"collection {name}: {option}"
        if option not in known:
            raise ConfigError(
                f"collection {name}: there is no option {option}{hint(option, known)}."
            )
        if value is not None:
            field = _FIELDS.get(option, option)
            values[field] = _value(field, value, where)
    return values


def _value(field: str, value: Any, where: str) -> Any:
    if field.endswith("_s"):
        return parse_duration(value, where)
    if field.endswith("_bytes"):
        return parse_size(value, where)
    if field in ("read", "mutate", "write"):
        return rules(value, where)
    if type(value) not in _PLAIN.get(field, (int,)):
        wanted = "True or False" if field.startswith("is_") else "a number"
        if field == "single_flight":
            wanted = "node or cluster"
        raise ConfigError(f"{where} must be {wanted}.")
    return value


def rules(value: Rules, where: str) -> tuple[str, ...]:
    """Return rules; what they say is checked with everything else before a node starts."""
    texts = (value,) if isinstance(value, str) else value
    if not isinstance(texts, list | tuple | set | frozenset) or not all(
        isinstance(rule, str) for rule in texts
    ):
        raise ConfigError(f"{where} must be a rule or a list of rules.")
    return tuple(texts)


def hint(given: object, names: Iterable[str]) -> str:
    """Return what might have been meant, as the end of a sentence, or nothing."""
    close = difflib.get_close_matches(str(given), list(names), n=1)
    return f" (did you mean {close[0]}?)" if close else ""
