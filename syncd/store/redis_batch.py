"""One transaction of the Redis store on its way: what was asked, as its script takes it, and the answers as they are told.

Invariant: nothing of a request is kept that could change before the commit, and nothing is answered before its reply came.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, cast

import msgpack

from syncd.ids import ChannelName, Epoch, Position
from syncd.ports_log import Appended, AppendRequest, AppendResult, IdempotencyKey
from syncd.ports_state import (
    Committed,
    Conflict,
    EntryWrite,
    KnownOutcome,
    MutationCommit,
    MutationResult,
    OutOfOrder,
)
from syncd.store.base import mismatch

__all__ = [
    "Batch",
    "Counts",
    "event_bytes",
    "field_of_key",
    "for_script",
    "known_outcome",
    "place_bytes",
]

_pack = cast("Callable[[object], bytes]", msgpack.packb)

_APPEND, _GROUP, _SWAP = 1, 2, 3
_COMMITTED, _KNOWN, _OUT_OF_ORDER, _CONFLICT, _MISMATCH, _DIRTY = range(6)


class Counts:
    """What was written and answered since the start, for `StoreStatistics`."""

    def __init__(self) -> None:
        self.written = self.duplicates = self.mismatches = 0
        self.mutations = self.resent = self.conflicts = 0


class Batch:
    """Operations in order, with the channels they name, and the lists their answers go to."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._indexes: dict[ChannelName, int] = {}
        self._fills: list[Callable[[Sequence[Epoch], Any], None]] = []
        self.operations: list[list[Any]] = []
        self.has_mutations = False

    @property
    def channels(self) -> list[ChannelName]:
        """Channels by index, the first of which is 1."""
        return list(self._indexes)

    def _index(self, channel: ChannelName) -> int:
        return self._indexes.setdefault(channel, len(self._indexes) + 1)

    def fill(self, reply: list[Any]) -> None:
        """Put the answers where they were promised."""
        epochs = [Epoch(each.decode()) for each in reply[0][::2]]
        for fill, answer in zip(self._fills, reply[1:], strict=True):
            fill(epochs, answer)

    # -------------------------------------------------------------------------------------------- appends

    def append(self, requests: Sequence[AppendRequest]) -> list[AppendResult]:
        """Add requests; return the list that their results will be in."""
        results: list[AppendResult] = []
        for request in requests:
            operation = [
                _APPEND,
                self._index(request.channel),
                event_bytes(request.at_ms, request.key, request.record),
                field_of_key(request.key),
                _known_key(b"a", request.idempotency, request.at_ms),
            ]
            self.operations.append(operation)
            self._fills.append(self._appended(results, request.channel))
        return results

    def _appended(
        self, results: list[AppendResult], channel: ChannelName
    ) -> Callable[[Sequence[Epoch], Any], None]:
        index, counts = self._indexes[channel] - 1, self._counts

        def fill(epochs: Sequence[Epoch], answer: Any) -> None:
            if isinstance(answer, list):
                counts.duplicates += 1
                results.append(Appended(Epoch(answer[0].decode()), answer[1], is_duplicate=True))
            elif answer:
                counts.written += 1
                results.append(Appended(epochs[index], answer))
            else:
                counts.mismatches += 1
                results.append(mismatch())

        return fill

    # -------------------------------------------------------------------------------------------- mutations

    def group(self, mutations: Sequence[MutationCommit]) -> list[MutationResult]:
        """Add a group of mutations; return the list that their results will be in."""
        results: list[MutationResult] = []
        self.has_mutations = True
        self.operations.append([_GROUP, [self._mutation(each) for each in mutations]])

        def fill(epochs: Sequence[Epoch], answers: Any) -> None:
            results.extend(
                self._decided(mutation, answer, epochs)
                for mutation, answer in zip(mutations, answers, strict=True)
            )

        self._fills.append(fill)
        return results

    def _mutation(self, mutation: MutationCommit) -> list[Any]:
        at_ms = mutation.at_ms
        reads = [
            [
                self._index(read.channel),
                read.key,
                read.version,
                False if read.written_by is None else read.written_by,
                read.unless_dirty,
                mutation.epochs.get(read.channel, False),
            ]
            for read in mutation.reads
        ]
        events = [
            [
                self._index(event.channel),
                event_bytes(event.at_ms, event.key, event.record),
                field_of_key(event.key),
                list(event.invalidated),
            ]
            for event in mutation.events
        ]
        is_keyed = mutation.client is None
        return [
            False if mutation.client is None else mutation.client,
            mutation.mid,
            reads,
            [self.write(write, at_ms) for write in mutation.writes],
            mutation.outcome,
            at_ms,
            events,
            _known_key(b"m", mutation.idempotency, at_ms) if is_keyed else False,
            mutation.era or False,
        ]

    def write(self, write: EntryWrite, at_ms: int) -> list[Any]:
        """Return one change of an entry as the script takes it."""
        return [
            self._index(write.channel),
            write.key,
            False if write.value is None else write.value,
            event_bytes(at_ms, write.key, write.record),
            list(write.tags),
            write.is_forwarded,
            False if write.full is None else _pack(write.full),
            field_of_key(write.key),
        ]

    def _decided(
        self, mutation: MutationCommit, answer: list[Any], epochs: Sequence[Epoch]
    ) -> MutationResult:
        kind, counts = answer[0], self._counts
        if kind == _COMMITTED:
            return self._committed(mutation, answer[1:], epochs)
        if kind == _KNOWN:
            counts.resent += 1
            return known_outcome(answer[1])
        if kind == _OUT_OF_ORDER:
            return OutOfOrder(answer[1])
        if kind == _CONFLICT:
            counts.conflicts += 1
            return Conflict(mutation.reads[answer[1]])
        if kind == _DIRTY:
            counts.conflicts += 1
            return Conflict(mutation.reads[answer[1]], is_dirty=True)
        counts.mismatches += 1
        return mismatch()

    def _committed(
        self, mutation: MutationCommit, offsets: list[int], epochs: Sequence[Epoch]
    ) -> Committed:
        self._counts.mutations += 1
        self._counts.written += len(offsets)
        channels = [write.channel for write in mutation.writes]
        channels += [event.channel for event in mutation.events]
        positions = {
            channel: Position(epochs[self._indexes[channel] - 1], offset)
            for channel, offset in zip(channels, offsets, strict=True)
        }
        num_writes = len(mutation.writes)
        appended = [
            Appended(positions[event.channel].epoch, offset)
            for event, offset in zip(mutation.events, offsets[num_writes:], strict=True)
        ]
        return Committed(offsets[:num_writes], positions, appended)

    # -------------------------------------------------------------------------------------------- rebuilds

    def swap(
        self, collection: str, token: int, writes: Sequence[EntryWrite], at_ms: int
    ) -> list[list[tuple[EntryWrite, Position]] | None]:
        """Add the swap of a small generation; the list will hold one item: what was written, or None for a stale token."""
        results: list[list[tuple[EntryWrite, Position]] | None] = []
        encoded = [self.write(write, at_ms) for write in writes]
        self.operations.append([_SWAP, collection, token, encoded])

        def fill(epochs: Sequence[Epoch], versions: Any) -> None:
            if versions is None:
                results.append(None)
                return
            done = [
                (write, Position(epochs[self._indexes[write.channel] - 1], version))
                for write, version in zip(writes, versions, strict=True)
                if version
            ]
            self._counts.written += len(done)
            results.append(done)

        self._fills.append(fill)
        return results


def for_script(arguments: list[Any]) -> bytes:
    """Encode what a script decodes: there are strings only, for `cmsgpack` knows no type of bytes."""
    encoded: bytes = msgpack.packb(arguments, use_bin_type=False)
    return encoded


def event_bytes(at_ms: int, key: str | None, record: bytes) -> bytes:
    """Return an event as it lies in the log: three msgpack objects after each other, so that the script publishes it unread."""
    return _pack((at_ms, key, record))[1:]  # without the array's header


def field_of_key(key: str | None) -> str:
    """Return the field of an event's key in a latest channel's hash; all events without a key are one."""
    return "" if key is None else "k" + key


def place_bytes(channel: ChannelName, key: str) -> bytes:
    """Return a place as a member of sorted sets: their order is that of pairs of text."""
    return channel.encode() + b"\0" + key.encode()


def known_outcome(raw: bytes | None) -> KnownOutcome:
    """Decode an outcome as it lies in a client's hash."""
    if raw is None:
        return KnownOutcome(None, {})
    _at_ms, outcome, flat = msgpack.unpackb(raw, raw=True)
    return KnownOutcome(
        outcome,
        {
            ChannelName(flat[n].decode()): Position(Epoch(flat[n + 1].decode()), flat[n + 2])
            for n in range(0, len(flat), 3)
        },
    )


def _known_key(space: bytes, key: IdempotencyKey | None, at_ms: int) -> Any:
    """Return an idempotency key as 16 bytes of its hash, with its request's; False: none."""
    if key is None:
        return False
    name = _pack([key.identity, key.operation, key.key])
    return [hashlib.blake2b(name, digest_size=16, person=space).digest(), key.request_hash, at_ms]
