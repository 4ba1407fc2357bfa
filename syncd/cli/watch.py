"""`syncd watch`: print entries of a collection, and how they change, over reconnects and restarts of the server."""

from __future__ import annotations

from typing import Any

import click
import trio

from syncd.cli.live import LiveRun, live_options
from syncd.cli.remote import position_json, url_option
from syncd.client import Client, CollectionView, Invalidated

__all__ = ["watch"]

NOTHING = object()


@click.command(short_help="Print entries of a collection, and how they change.")
@click.argument("collection")
@click.argument("keys", metavar="[KEY]...", nargs=-1)
@click.option("--partition", metavar="P", help="Every entry of a partition.")
@live_options
@url_option
def watch(
    collection: str,
    keys: tuple[str, ...],
    *,
    partition: str | None,
    url: str,
    token: str | None,
    **options: Any,
) -> int:
    """Print entries of COLLECTION as lines of JSON, and again whenever one changes, until Ctrl-C.

    All of a collection, or the keys given, or a partition. Where there is no entry any more (or,
    for a key given, none yet) the line has "deleted". Several quick changes of one entry may be
    one line. Lines with "type" invalidate tell that entries may have changed at their source.

    \b
    syncd watch orders
    syncd watch orders o1 o2 | jq .value.status
    syncd watch notes --partition eu
    """  # noqa: D301 - click reads the backslash: lines as they are
    if keys and partition is not None:
        raise click.UsageError("Keys name their partition themselves: eu/n1.")
    return _Run(collection, keys, partition, **options).run(url, token)


class _Run(LiveRun):
    """One run of the command."""

    def __init__(
        self, collection: str, keys: tuple[str, ...], partition: str | None, **options: Any
    ) -> None:
        super().__init__(**options)
        self._collection = collection
        self._keys = keys
        self._partition = partition

    def follow(self, client: Client, nursery: trio.Nursery) -> None:
        nursery.start_soon(self._print_view, client)

    async def _print_view(self, client: Client) -> None:
        is_whole = not self._keys and self._partition is None
        async with client.collection(self._collection).watch(
            keys=self._keys or None, all=is_whole, partition=self._partition
        ) as view:
            shown = [key for key, _ in view.items()]
            self.note(
                {"type": "watched", "collection": self._collection, "num_entries": len(shown)}
            )
            for key in self._keys or shown:
                self._print_entry(view, key)
            async for change in view.changes():
                for invalidation in change.invalidations:
                    self._print_invalidation(invalidation)
                for key in sorted(change.keys):
                    self._print_entry(view, key)

    def _print_entry(self, view: CollectionView, key: str) -> None:
        value = view.get(key, NOTHING)
        state = {"deleted": True} if value is NOTHING else {"value": value}
        line = {"type": "entry", "collection": self._collection, "key": key, **state}
        self.out(line, counts=True)

    def _print_invalidation(self, invalidation: Invalidated) -> None:
        self.out(
            {
                "type": "invalidate",
                "collection": self._collection,
                "keys": list(invalidation.keys) or None,
                "tags": list(invalidation.tags) or None,
                "all": invalidation.is_all or None,
                "cause": invalidation.cause,
                "position": position_json(invalidation.position),
            }
        )
