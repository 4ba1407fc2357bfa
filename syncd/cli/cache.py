"""`syncd cache stats|config|clear|warm`: what operators ask of collections in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import click

from syncd.cli.exits import ExitCode, Failed
from syncd.cli.remote import api_options, json_line, open_publisher
from syncd.config_values import parse_duration, parse_size
from syncd.errors import ConfigError

__all__ = ["cache", "stats_table"]


@click.group(short_help="Count, limit, clear and warm what is in memory.")
def cache() -> None:
    """Look after collections in memory.

    \b
    syncd cache stats
    syncd cache config prices --max-bytes "64 MiB" --ttl "5 min"
    syncd cache clear prices
    """  # noqa: D301 - click reads the backslash: lines as they are


@cache.command(short_help="Print counts.")
@click.argument("collection", required=False)
@click.option("--json", "is_json", is_flag=True, help="All counts, as one line of JSON.")
@api_options
def stats(collection: str | None, *, is_json: bool, url: str, api_key: str | None) -> None:
    """Print what collections hold in memory, and what became of lookups, loads and mutations.

    Counts begin when the node starts.

    \b
    syncd cache stats
    syncd cache stats prices --json | jq .hit_rate
    """  # noqa: D301 - click reads the backslash: lines as they are
    with open_publisher(url, api_key) as publisher:
        answer = publisher.cache_stats()
    rows = answer["collections"]
    if collection is not None:
        counts = _named(rows, collection)
        click.echo(json_line(counts) if is_json else stats_table({collection: counts}))
    elif is_json:
        click.echo(json.dumps(answer))
    else:
        click.echo(stats_table({**rows, "total": answer["total"]} if rows else {}))


_Cell = Callable[[Mapping[str, Any]], str]

_COLUMNS: tuple[tuple[str, _Cell], ...] = (
    ("entries", lambda row: str(row["num_entries"])),
    ("size", lambda row: _size(row["num_bytes"])),
    ("lookups", lambda row: str(row["lookups"])),
    ("hit rate", lambda row: f"{row['hit_rate']:.1%}" if row["lookups"] else "-"),
    ("stale", lambda row: str(row["stale_hits"])),
    ("loads", lambda row: str(row["loads"])),
    ("load ms", lambda row: f"{row['load_ms_mean']:.1f}" if row["loads"] else "-"),
    ("failed", lambda row: str(row["load_failures"])),
    ("evicted", lambda row: str(row["evictions"])),
    ("invalidated", lambda row: str(row["invalidations"])),
    ("mutations", lambda row: str(row["mutations_ok"])),
    ("rejected", lambda row: str(row["mutations_rejected"])),
    ("dirty", lambda row: str(row["dirty"])),
)


def stats_table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Return counts as a table for people: a line for each collection."""
    if not rows:
        return "There are no collections."
    lines = [["", *(title for title, _ in _COLUMNS)]]
    lines += [[name, *(cell(row) for _, cell in _COLUMNS)] for name, row in rows.items()]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            [line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])],
        ).rstrip()
        for line in lines
    )


def _size(num_bytes: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if num_bytes < 1024:
            return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1024
    return f"{num_bytes:.1f} GiB"


def _named(rows: Mapping[str, Any], collection: str) -> Any:
    if collection not in rows:
        known = ", ".join(rows) or "none"
        raise Failed(f"There is no collection {collection}; known: {known}.", ExitCode.UNAUTHORIZED)
    return rows[collection]


@cache.command(short_help="Print or change limits.")
@click.argument("collection", required=False)
@click.option("--max-entries", type=click.IntRange(1), metavar="N", help="Entries in memory.")
@click.option("--max-bytes", metavar="SIZE", help="Their size: bytes, or text such as '64 MiB'.")
@click.option("--ttl", metavar="DURATION", help="Loaded anew after it, such as '5 min'; or never.")
@click.option("--stale", metavar="DURATION", help="Served that much longer meanwhile.")
@api_options
def config(
    collection: str | None,
    *,
    max_entries: int | None,
    max_bytes: str | None,
    ttl: str | None,
    stale: str | None,
    url: str,
    api_key: str | None,
) -> None:
    """Print the limits of collections in memory, a line of JSON each, or change those of one.

    What is changed holds until the node stops.

    \b
    syncd cache config
    syncd cache config prices --max-entries 50000 --ttl "5 min"
    """  # noqa: D301 - click reads the backslash: lines as they are
    changes = _changes(max_entries, max_bytes, ttl, stale)
    if changes and collection is None:
        raise click.UsageError("Name the collection whose limits change.")
    with open_publisher(url, api_key) as publisher:
        if collection is not None and changes:
            rows = {collection: publisher.change_cache_config(collection, **changes)}
        else:
            rows = publisher.cache_config()
    if collection is not None:
        rows = {collection: _named(rows, collection)}
    for name, settings in rows.items():
        click.echo(json.dumps({"collection": name, **settings}))


def _changes(
    max_entries: int | None, max_bytes: str | None, ttl: str | None, stale: str | None
) -> dict[str, float | None]:
    changes: dict[str, float | None] = {}
    if max_entries is not None:
        changes["max_entries"] = max_entries
    try:
        if max_bytes is not None:
            changes["max_bytes"] = parse_size(_number_or_text(max_bytes), "--max-bytes")
        if ttl is not None:
            is_never = ttl == "never"
            changes["ttl_s"] = None if is_never else parse_duration(_number_or_text(ttl), "--ttl")
        if stale is not None:
            changes["stale_s"] = parse_duration(_number_or_text(stale), "--stale")
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    return changes


def _number_or_text(text: str) -> float | str:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else text


@cache.command(short_help="Forget what is in memory.")
@click.argument("collection", required=False)
@api_options
def clear(collection: str | None, url: str, api_key: str | None) -> None:
    """Forget what is in memory of COLLECTION, or of all; print how many entries.

    Nothing is invalidated and nothing lost: entries are read again when they are wanted.
    """
    with open_publisher(url, api_key) as publisher:
        _tell(publisher.clear_cache(collection))


@cache.command(short_help="Bring entries into memory.")
@click.argument("collection", required=False)
@click.argument("keys", metavar="[KEY]...", nargs=-1)
@api_options
def warm(collection: str | None, keys: tuple[str, ...], url: str, api_key: str | None) -> None:
    """Bring entries of COLLECTION (or of all) into memory; print how many there are.

    Without keys those that were used most before the node stopped last.

    \b
    syncd cache warm prices apple pear
    """  # noqa: D301 - click reads the backslash: lines as they are
    with open_publisher(url, api_key) as publisher:
        _tell(publisher.warm_cache(collection, keys or None))


def _tell(counts: Mapping[str, int]) -> None:
    for collection, count in counts.items():
        click.echo(json_line({"collection": collection, "num_entries": count}))
