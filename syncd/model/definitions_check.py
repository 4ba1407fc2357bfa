"""Brings an application's definitions into force: the operator's settings over them, defaults under them, then what must hold.

Called once, before a node starts. Each problem names the settings it lies between and the way out; all are told at once.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator

import attrs

from syncd.config import CollectionSettings, Config
from syncd.errors import ConfigError
from syncd.model.definitions import AppDefinition, CollectionDefinition
from syncd.model.permissions import parse_rule
from syncd.wire.channels import is_namespace_name

__all__ = ["app_in_force", "is_open"]

MIN_EVERY_S = 1.0
"""Between two scheduled rebuilds; the source is read as a whole each time."""
MAX_SCAN_PAGE = 10_000
"""Rows of a rebuild written in one transaction: tens of milliseconds for other commits to wait."""

_ABOVE_ZERO = (
    "max_entries", "max_bytes", "max_value_bytes", "history_size", "history_age_s", "load_timeout_s", "load_concurrency",
    "load_batch", "on_commit_timeout_s", "on_commit_retry_s", "on_commit_max_retry_s",
)  # fmt: skip
_NOT_BELOW_ZERO = ("stale_s", "negative_ttl_s")
_NOT_ABOVE = (
    ("max_value_bytes", "max_bytes"),
    ("on_commit_retry_s", "on_commit_max_retry_s"),
)


def app_in_force(app: AppDefinition | None, config: Config) -> AppDefinition:
    """Return what a node goes by: the application with the operator's settings, every rule given, built-in mutators registered.

    Args:
        app: None: there is no application; `[collections]` of the configuration are all there is.
        config: Checked already.

    Raises:
        ConfigError: with every problem, one a line.
    """
    definitions = dict(app.collections) if app is not None else _from_settings(config)
    unknown = [name for name in config.collections if name not in definitions]
    if unknown:
        raise ConfigError("\n".join(_unknown(name, definitions) for name in unknown))
    app = app or AppDefinition(name="syncd.toml")
    default = ("anyone",) if app.authorizer is not None or is_open(config) else ("authenticated",)
    mutators = app.mutators.copy()
    for name, definition in definitions.items():
        merged = _merged(definition, config.collections.get(name), default)
        definitions[name] = merged
        if merged.write:
            mutators.add_built_in(name)
    mutate = default if app.mutate is None else app.mutate
    ready = attrs.evolve(app, collections=definitions, mutators=mutators, mutate=mutate)
    problems = [*_app_problems(ready, config)]
    if problems:
        raise ConfigError("\n".join(problems))
    return ready


def is_open(config: Config) -> bool:
    """Tell whether nothing is configured that says who is who, so that `anyone` is the default: for development, or `--insecure`."""
    if config.insecure:
        return True
    return not config.auth.algorithms and config.namespaces == Config().namespaces


def _from_settings(config: Config) -> dict[str, CollectionDefinition]:
    return {name: CollectionDefinition(name) for name in config.collections}


def _unknown(name: str, known: dict[str, CollectionDefinition]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    return f"[collections.{name}]: the application has no collection {name}{hint}."


def _merged(
    definition: CollectionDefinition,
    settings: CollectionSettings | None,
    default: tuple[str, ...],
) -> CollectionDefinition:
    given = {} if settings is None else attrs.asdict(settings, recurse=False)
    values = {key: value for key, value in given.items() if value is not None}
    merged = attrs.evolve(definition, **values)
    return attrs.evolve(
        merged,
        read=default if merged.read is None else merged.read,
        mutate=default if merged.mutate is None else merged.mutate,
        write=() if merged.write is None else merged.write,
    )


# ------------------------------------------------------------------------------------------------ problems


def _app_problems(app: AppDefinition, config: Config) -> Iterator[str]:
    for rule in app.mutate or ():
        yield from _rule_problems(rule, "App.mutate")
    for name, definition in app.collections.items():
        yield from _name_problems(name, config)
        yield from _value_problems(definition)
        yield from _size_problems(definition, config)
        yield from _source_problems(definition, app)
        yield from _permission_problems(definition)
    for mutator in app.mutators:
        if mutator.collection is not None and mutator.collection not in app.collections:
            yield f"mutator {mutator.name}: there is no collection {mutator.collection}."


def _name_problems(name: str, config: Config) -> Iterator[str]:
    if not is_namespace_name(name):
        yield (
            f"collection {name!r}: a name is 1 to 64 of a-z, 0-9, _ and -, the first a letter or digit."
        )
    if name in config.namespaces:
        yield f"collection {name} has the name of namespaces.{name}; rename one of them."


def _value_problems(definition: CollectionDefinition) -> Iterator[str]:
    where = f"collection {definition.name}"
    for key in _ABOVE_ZERO:
        if getattr(definition, key) <= 0:
            yield f"{where}: {key} must be above 0."
    for key in _NOT_BELOW_ZERO:
        if getattr(definition, key) < 0:
            yield f"{where}: {key} must not be below 0."
    for low, high in _NOT_ABOVE:
        less, more = getattr(definition, low), getattr(definition, high)
        if less > more:
            yield f"{where}: {low} ({less:g}) must not be above {high} ({more:g})."
    if definition.ttl_s is not None and definition.ttl_s <= 0:
        yield f"{where}: ttl must be above 0; leave it out to keep entries."
    if definition.single_flight not in ("node", "cluster"):
        yield f"{where}: single_flight must be node or cluster."
    if not 0 <= definition.jitter < 1:
        yield f"{where}: jitter must be at least 0 and below 1."


def _size_problems(definition: CollectionDefinition, config: Config) -> Iterator[str]:
    where = f"collection {definition.name}"
    if definition.max_value_bytes > config.limits.outbox_bytes // 2:
        yield (
            f"{where}: max_value_bytes ({definition.max_value_bytes}) must be at most half of limits.outbox_bytes "
            f"({config.limits.outbox_bytes}), or no client could be sent two such entries."
        )
    warm = definition.warm
    if isinstance(warm, int) and not 0 <= warm <= definition.max_entries:
        yield f"{where}: warm ({warm}) must be 0 to max_entries ({definition.max_entries})."


def _source_problems(definition: CollectionDefinition, app: AppDefinition) -> Iterator[str]:
    """DESIGN 5.9: who owns the entries, and what must not happen to them then."""
    where = f"collection {definition.name}"
    if definition.stale_s > 0 and definition.ttl_s is None:
        yield f"{where}: stale needs ttl; without one no entry ever becomes stale."
    if definition.is_volatile and definition.on_commit is not None:
        yield (
            f"{where}: volatile and on_commit exclude each other: what was not handed on yet would be lost when the node stops. "
            "Leave out volatile."
        )
    yield from _rebuild_problems(definition)
    if definition.ttl_s is None:
        return
    if app.is_owned(definition.name):
        settings = "ttl and stale" if definition.stale_s else "ttl"
        yield (
            f"{where}: {settings} and {_what_changes(definition, app)} exclude each other without on_commit: no source is told of "
            f"changes, so what expires would be lost. Leave out {settings}, or add an on_commit that stores changes in the source."
        )
    elif definition.loader is None:
        yield f"{where}: ttl needs a loader; what expires could not be had again."


def _rebuild_problems(definition: CollectionDefinition) -> Iterator[str]:
    where = f"collection {definition.name}"
    if definition.count is not None and definition.scanner is None:
        yield f"{where}: count needs a scanner; it says how many rows that yields."
    if definition.every_s is not None:
        if definition.scanner is None:
            yield f"{where}: every needs a scanner; there is nothing to rebuild it from."
        if definition.every_s < MIN_EVERY_S:
            yield f"{where}: every must be at least {MIN_EVERY_S:g} s."
    if definition.scanner is not None:
        if definition.is_volatile:
            yield f"{where}: volatile and scanner exclude each other: a rebuild is kept on disk until it is whole."
        if not 1 <= definition.scanner.page <= MAX_SCAN_PAGE:
            yield f"{where}: page of the scanner must be 1 to {MAX_SCAN_PAGE}."


def _what_changes(definition: CollectionDefinition, app: AppDefinition) -> str:
    own = [
        mutator.name
        for mutator in app.mutators
        if mutator.collection == definition.name and not mutator.is_built_in
    ]
    return f"the mutator {own[0]}" if own else "a write rule"


def _permission_problems(definition: CollectionDefinition) -> Iterator[str]:
    for key in ("read", "mutate", "write"):
        for rule in getattr(definition, key):
            where = f"collection {definition.name}: {key}"
            yield from _rule_problems(rule, where)
            if rule == "owner" and not definition.is_partitioned:
                yield f"{where}: owner needs partitioned; it admits to the partition called like the user."


def _rule_problems(rule: str, where: str) -> Iterator[str]:
    try:
        parse_rule(rule)
    except ConfigError as failure:
        yield f"{where}: {failure}"
