"""Reading a source: its rows page by page through the scanner, over the scanner's failures, or some keys through the loader.

Owner of: how far a source was read. What is read is handed on as pages: while one is written down the next is read, and no more than that.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any

import structlog
import trio

from syncd.actors.kit import Reply
from syncd.actors.kit_application import application_code
from syncd.actors.rebuild_coordinator.rows import BadRow, RowReader
from syncd.errors import SyncdError
from syncd.model.definitions import CollectionDefinition, Tagged, has_other_keys
from syncd.model.rebuild_plan import Job
from syncd.model.recording import Place
from syncd.store.rebuilds import ScannedRow

__all__ = ["Failed", "Reading"]

_log = structlog.get_logger("syncd.rebuild")

RETRY_S = 0.5
MAX_RETRY_S = 30.0
MAX_ATTEMPTS = 5
"""Failures of a source in a row, without a page between them; then the job fails, its checkpoint kept."""

MAX_ROWS, MAX_WEIGHT = 1_000, 1024 * 1024
"""Of a page, whatever the scanner's is: the store writes it in one go, in some 3 ms."""
CHANNEL_WEIGHT = 16 * 1024
"""A row weighs as many bytes as it has; so much more if its channel is another than that of the row before, for that takes statements of its own."""

Write = Callable[[Sequence[ScannedRow], str, int], Reply[bool]]
"""Has rows written down: the rows, the last key read, how many were read since the last page. False: the lease is lost."""


class Failed(Exception):
    """The job has failed; the text says why, without anything of the source's data."""


class Reading:
    """Reads for one job."""

    def __init__(
        self,
        job: Job,
        definition: CollectionDefinition,
        *,
        write: Write,
        lose: Callable[[], None],
        chance: Callable[[], float],
        tell: Callable[[], None],
    ) -> None:
        self._job = job
        self._definition = definition
        self._row = RowReader(definition).row
        self._write = write
        self._lose = lose
        self._chance = chance
        self._tell = tell
        self._next_at = 0.0
        self._after: str | None = None
        self._pending: tuple[Reply[bool], str] | None = None
        """The page that is being written, and its last key."""

    async def scan(self, after: str | None, wanted: Collection[Place] | None) -> None:
        """Read all rows after a key, and hand on those that are `wanted` or carry the job's tag; None: all.

        Raises:
            Failed: the scanner fails again and again, or yields what cannot be kept.
        """
        self._after = after
        await self._over_failures(lambda: self._scan_once(wanted))

    async def load(self, keys: Sequence[str]) -> None:
        """Read keys through the loader; those that it does not know are in no page. Raises as `scan`."""
        left = list(keys)
        await self._over_failures(lambda: self._load_some(left))

    async def _over_failures(self, read: Callable[[], Awaitable[None]]) -> None:
        """Have it read to the end; whatever it did before it failed is done."""
        num_failures, retry_s = 0, RETRY_S
        while True:
            done = self._job.done
            failure = await self._attempt(read)
            await self._finish()
            if failure is None:
                return
            if isinstance(failure, BadRow):
                raise Failed(f"The source delivered what cannot be kept: {failure}.")
            if self._job.done > done:
                num_failures, retry_s = 0, RETRY_S
            num_failures += 1
            kind = type(failure).__name__
            _log.error("scan_failed", job=self._job.id, attempt=num_failures, exc_info=failure)
            if num_failures >= MAX_ATTEMPTS:
                raise Failed(f"The source failed {num_failures} times in a row ({kind}).")
            self._say(f"The source failed ({kind}); it is asked again.")
            await trio.sleep(retry_s * (1.0 - self._chance() / 2))
            retry_s = min(retry_s * 2, MAX_RETRY_S)

    @staticmethod
    async def _attempt(read: Callable[[], Awaitable[None]]) -> Exception | None:
        """Have it read; returns what the source failed with."""
        try:
            with application_code:
                await read()
        except (SyncdError, Failed):
            raise
        except Exception as failure:  # noqa: BLE001 - isolation: one source
            return failure
        return None

    def _say(self, message: str | None) -> None:
        self._job.message = message
        self._tell()

    # -------------------------------------------------------------------------------------------- the scanner

    async def _scan_once(self, wanted: Collection[Place] | None) -> None:
        """Call the scanner once and hand on its pages."""
        scanner, read_row = self._definition.scanner, self._row
        assert scanner is not None, "it was checked when the job was asked for"
        rows: list[ScannedRow] = []
        num_read, weight, key, channel = 0, 0, "", ""
        page = min(scanner.page, MAX_ROWS)
        async with contextlib.aclosing(scanner.call(self._after)) as scan:
            async for yielded in scan:
                row = read_row(yielded)
                num_read, key = num_read + 1, row.key
                weight += len(row.value)
                if row.channel != channel:
                    channel, weight = row.channel, weight + CHANNEL_WEIGHT
                if wanted is None or self._is_wanted(row, wanted):
                    rows.append(row)
                if num_read >= page or weight >= MAX_WEIGHT:
                    await self._page(rows, key, num_read)
                    rows, num_read, weight, channel = [], 0, 0, ""
        if num_read:
            await self._page(rows, key, num_read)

    def _is_wanted(self, row: ScannedRow, wanted: Collection[Place]) -> bool:
        tag = self._job.wish.tag
        return (row.channel, row.key) in wanted or (tag is not None and tag in row.tags)

    async def _page(self, rows: list[ScannedRow], key: str, num_read: int) -> None:
        """Hand on a page, no faster than is wanted."""
        limit = self._job.wish.max_rows_per_s
        if limit is not None:
            await trio.sleep_until(self._next_at)
            self._next_at = max(self._next_at, trio.current_time()) + num_read / limit
        await self._finish()
        self._pending = self._write(rows, key, num_read), key
        if self._job.message is not None:
            self._job.message = None

    async def _finish(self) -> None:
        """Wait until the last page is written. Cancelled: it is or it is not."""
        if self._pending is None:
            return
        (reply, key), self._pending = self._pending, None
        if not await reply.wait():
            self._lose()
            await trio.lowlevel.checkpoint()
        self._after = key

    # -------------------------------------------------------------------------------------------- the loader

    async def _load_some(self, left: list[str]) -> None:
        """Load keys batch by batch, taking out of `left` what is done."""
        definition, loader = self._definition, self._definition.loader
        assert loader is not None, "it was checked when the job was asked for"
        size = definition.load_batch if loader.takes_list else definition.load_concurrency
        while left:
            keys = left[:size]
            with trio.fail_after(definition.load_timeout_s):
                if loader.takes_list:
                    values = _by_key(keys, await loader.call(keys))
                else:
                    values = await _each(keys, loader.call)
            loaded = [_plain(key, values.get(key)) for key in keys]
            rows = [self._row(each) for each in loaded if each[1] is not None]
            await self._page(rows, keys[-1], len(keys))
            del left[:size]


async def _each(keys: Sequence[str], call: Callable[[Any], Awaitable[Any]]) -> dict[str, Any]:
    """Load keys at the same time, one call a key."""
    values: dict[str, Any] = {}
    failures: list[Exception] = []

    async def load(key: str) -> None:
        try:
            with application_code:
                values[key] = await call(key)
        except Exception as failure:  # noqa: BLE001 - raised below, out of its group
            failures.append(failure)

    async with trio.open_nursery() as nursery:
        for key in keys:
            nursery.start_soon(load, key)
    if failures:
        raise failures[0]
    return values


def _by_key(keys: Sequence[str], answer: Any) -> Mapping[str, Any]:
    """Return what a loader of lists brought, by key."""
    if isinstance(answer, Mapping):
        if has_other_keys(answer):
            raise BadRow("a dict of values has the keys that were asked for, which are texts")
        return answer
    if isinstance(answer, list | tuple) and len(answer) == len(keys):
        return dict(zip(keys, answer, strict=True))
    raise BadRow("a loader of lists returns a dict, or as many values as it was given keys")


def _plain(key: str, loaded: Any) -> tuple[str, Any, Sequence[str]]:
    if isinstance(loaded, Tagged):
        return key, loaded.value, loaded.tags
    return key, loaded, ()
