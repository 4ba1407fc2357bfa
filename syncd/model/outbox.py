"""The outbox of a session whose socket does not take everything: one FIFO, bounded in bytes, with a policy per entry.

Owner: the session's connection. It exists only while something is pending. Policy (DESIGN 5.6): replies are never refused;
past half of the budget keyed entries of `latest` channels and collections conflate to the newest per key; past the budget channel
entries are refused, which the gateway turns into `lagged`; presence is refused past its own share and becomes a fresh `presence_state`.
Past half of the budget an `invalidate` directly behind another one of its channel and kind becomes one with it.

What was queued before a reply is not superseded by what comes behind it: an outcome never overtakes its events (DESIGN 5.7).
"""

from __future__ import annotations

import collections
from collections.abc import Sequence
from typing import Final

from syncd.model.invalidations import merged
from syncd.wire.frames import BINARY, encode_frame

__all__ = ["Outbox"]

_CHANNEL: Final = 0
_KEY: Final = 1
_FRAME: Final = 2

PRESENCE_SHARE = 0.25
"""Part of the budget presence may fill: state is cheap to send anew, events are not."""


class Outbox:
    """Frames that wait for the socket, in order.

    Entries are `[channel, key, frame]`; a superseded or dropped one keeps its place with an empty frame. The first entry may
    have been sent in part: it is then a torso that must go out whole, so it is never conflated or dropped.
    """

    __slots__ = (
        "_by_key",
        "_entries",
        "_head_sent",
        "_invalidation",
        "budget_bytes",
        "conflated",
        "is_suspect",
        "num_conflated",
        "own",
        "presence_bytes",
        "size_bytes",
    )

    def __init__(self, budget_bytes: int, own: Sequence[bytes] = ()) -> None:
        """Begin empty.

        Args:
            budget_bytes: How much may wait.
            own: What the frame of a change that the session itself caused contains: it is not superseded, since what comes
                behind it does not tell whose change it holds.
        """
        self.budget_bytes = budget_bytes
        self.own: Sequence[bytes] = tuple(own)
        self.size_bytes = 0
        self.presence_bytes = 0
        self.is_suspect = False
        """Its deadline to drain was missed once; it may have been the node that did not look."""
        self.num_conflated = 0
        self.conflated: set[str] = set()
        """Channels of which an entry was superseded since the outbox was made: each is owed a `mark`."""
        self._entries: collections.deque[list[object]] = collections.deque()
        self._by_key: dict[tuple[str, str], list[object]] = {}
        self._head_sent = 0
        self._invalidation: tuple[list[object], bytes] | None = None
        """The `invalidate` queued last: its entry and its message, unframed."""

    def __bool__(self) -> bool:
        return self.size_bytes > 0

    def push(self, frame: bytes, channel: str | None = None) -> None:
        """Append a frame that is never refused; one of a channel goes when the channel does."""
        if channel is None:
            self._by_key.clear()
        self._entries.append([channel, None, frame])
        self.size_bytes += len(frame)

    def push_torso(self, frame: bytes, sent: int) -> None:
        """Take over a frame of which the socket took `sent` bytes. Only as first entry."""
        self._entries.append([None, None, frame])
        self._head_sent = sent
        self.size_bytes += len(frame) - sent

    def supersedes(self, channel: str, key: str | None) -> bool:
        """Whether a conflatable entry that comes now takes the place of an older one of its key: a patch on that is worth nothing."""
        return key is not None and self._older(channel, key) is not None

    def push_event(self, channel: str, key: str | None, frame: bytes, *, conflatable: bool) -> bool:
        """Append a channel's frame; False when the budget is used up and nothing was changed."""
        older = self._older(channel, key) if conflatable and key is not None else None
        freed_bytes = len(older[_FRAME]) if older is not None else 0  # type: ignore[arg-type]
        if self.size_bytes - freed_bytes + len(frame) > self.budget_bytes:
            return False
        if older is not None:
            self._supersede(channel, older, freed_bytes)
        entry: list[object] = [channel, key, frame]
        self._entries.append(entry)
        self.size_bytes += len(frame)
        if conflatable and key is not None:
            self._by_key[channel, key] = entry
        return True

    def push_invalidation(self, channel: str, message: bytes, frame: bytes) -> bool:
        """Append a collection's `invalidate`, or merge it into the last entry; False when the budget is used up.

        Args:
            channel: The collection's.
            message: The encoded message.
            frame: The same, framed.
        """
        last = self._last_invalidation(channel)
        if last is not None:
            both = merged(last[1], message)
            if both is not None:
                return self._replace_invalidation(channel, last[0], both)
        if not self.push_event(channel, None, frame, conflatable=False):
            return False
        self._invalidation = (self._entries[-1], message)
        return True

    def _last_invalidation(self, channel: str) -> tuple[list[object], bytes] | None:
        """Return the last entry if it is an `invalidate` of the channel that another may join: behind, and not on its way."""
        last = self._invalidation
        if last is None or self.size_bytes * 2 <= self.budget_bytes:
            return None
        entry = last[0]
        if not self._entries or self._entries[-1] is not entry or not entry[_FRAME]:
            return None
        if entry[_CHANNEL] != channel or (self._head_sent and entry is self._entries[0]):
            return None
        return last

    def _replace_invalidation(self, channel: str, entry: list[object], message: bytes) -> bool:
        frame, older = encode_frame(BINARY, message), entry[_FRAME]
        assert isinstance(older, bytes)
        size_bytes = self.size_bytes - len(older) + len(frame)
        if size_bytes > self.budget_bytes:
            return False
        entry[_FRAME] = frame
        self.size_bytes = size_bytes
        self.num_conflated += 1
        self.conflated.add(channel)
        self._invalidation = (entry, message)
        return True

    def push_presence(self, channel: str, frame: bytes) -> bool:
        """Append a presence frame; False when presence has used up its share."""
        share = self.budget_bytes * PRESENCE_SHARE
        if self.presence_bytes and self.presence_bytes + len(frame) > share:
            return False
        self._entries.append([channel, self, frame])
        self.presence_bytes += len(frame)
        self.size_bytes += len(frame)
        return True

    def _older(self, channel: str, key: str) -> list[object] | None:
        """Return the entry that one of this key supersedes: past half of the budget, unless it is on its way already."""
        if self.size_bytes * 2 <= self.budget_bytes:
            return None
        entry = self._by_key.get((channel, key))
        if entry is None or (self._head_sent and entry is self._entries[0]):
            return None
        frame = entry[_FRAME]
        assert isinstance(frame, bytes)
        return None if any(client in frame for client in self.own) else entry

    def _supersede(self, channel: str, entry: list[object], size: int) -> None:
        self.size_bytes -= size
        entry[_FRAME] = b""
        self.num_conflated += 1
        self.conflated.add(channel)

    def drop_channel(self, channel: str) -> None:
        """Remove a channel's frames (permission taken away), but for a torso."""
        for position, entry in enumerate(self._entries):
            if entry[_CHANNEL] == channel and not (position == 0 and self._head_sent):
                frame = entry[_FRAME]
                assert isinstance(frame, bytes)
                self.size_bytes -= len(frame)
                if entry[_KEY] is self:
                    self.presence_bytes -= len(frame)
                elif entry[_KEY] is not None:
                    self._by_key.pop((channel, str(entry[_KEY])), None)
                entry[_FRAME] = b""
        self.conflated.discard(channel)

    def peek(self, max_bytes: int) -> bytes:
        """Return the next bytes to send, at least one frame's worth if there is any."""
        parts: list[bytes] = []
        size = -self._head_sent
        for entry in self._entries:
            frame = entry[_FRAME]
            assert isinstance(frame, bytes)
            parts.append(frame)
            size += len(frame)
            if size >= max_bytes:
                break
        if not parts:
            return b""
        if self._head_sent:
            parts[0] = parts[0][self._head_sent :]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def seal(self, max_bytes: int) -> bytes:
        """Return the next bytes to send as one torso: while a task carries them away nothing of them may change."""
        chunk = self.peek(max_bytes)
        self.consume(len(chunk))
        if chunk:
            self._entries.appendleft([None, None, chunk])
            self.size_bytes += len(chunk)
        return chunk

    def consume(self, sent: int) -> None:
        """Forget the first `sent` bytes: the socket has them."""
        self.size_bytes -= sent
        sent += self._head_sent
        entries = self._entries
        while entries:
            entry = entries[0]
            frame = entry[_FRAME]
            assert isinstance(frame, bytes)
            if sent < len(frame):
                break
            sent -= len(frame)
            entries.popleft()
            self._forget(entry, len(frame))
        self._head_sent = sent

    def _forget(self, entry: list[object], size: int) -> None:
        key = entry[_KEY]
        if key is self:
            self.presence_bytes -= size
        elif key is not None:
            index = (str(entry[_CHANNEL]), str(key))
            if self._by_key.get(index) is entry:
                del self._by_key[index]
