"""Which epoch a channel has in Redis, and what this node knows that the data must not fall behind of (DESIGN 5.14).

The *era* is one string beside the log: a name made with the seed, and a number that grows whenever another server process answers, unless that
one loses nothing. A channel's row says in which era its epoch was vouched for; in a later one it has another epoch, derived from the seed, the
number and its name, unless a node that knows its position finds that nothing is missing. Invariant: a pair of epoch and offset that was ever
told never gets other content.
"""

from __future__ import annotations

import collections
import hashlib
import hmac
from collections.abc import Iterable, Mapping

from syncd.ids import ChannelName, Epoch, Position
from syncd.store.base import derived_epoch

__all__ = ["Epochs", "epoch_in_era"]


def epoch_in_era(seed: bytes, era: str, channel: ChannelName) -> Epoch:
    """Return the epoch that a channel without a vouched one gets."""
    number = era.rpartition(":")[2]
    if number == "0":
        return derived_epoch(seed, channel)
    # No channel has a null byte in its name.
    name = f"{number}\0{channel}".encode()
    return Epoch(hmac.digest(seed, name, hashlib.sha256)[:8].hex())


class Epochs:
    """The era as this node knows it, epochs derived in it, and the newest positions it has seen."""

    def __init__(self, capacity: int, max_known: int) -> None:
        """Know nothing yet.

        Args:
            capacity: Derived epochs kept.
            max_known: Positions kept; channels used longest ago are not vouched for.
        """
        self._capacity = capacity
        self._max_known = max_known
        self._derived: dict[ChannelName, Epoch] = {}
        self._known: collections.OrderedDict[ChannelName, Position] = collections.OrderedDict()
        self.seed = b""
        self.era = ""

    def begin(self, seed: bytes, era: str) -> bool:
        """Take over what the server has; return whether this is another era than before."""
        is_other = (seed, era) != (self.seed, self.era)
        if is_other:
            self.seed, self.era = seed, era
            self._derived.clear()
        return is_other

    def derived(self, channel: ChannelName) -> Epoch:
        """Return the epoch a channel has if nobody vouched for another."""
        found = self._derived.get(channel)
        if found is None:
            if len(self._derived) >= self._capacity:
                self._derived.clear()
            found = self._derived[channel] = epoch_in_era(self.seed, self.era, channel)
        return found

    def note(self, channel: ChannelName, epoch: Epoch, top: int) -> None:
        """Remember that a channel has reached a position."""
        old = self._known.get(channel)
        if old is None or old.epoch != epoch or old.offset < top:
            self._known[channel] = Position(epoch, top)
        self._known.move_to_end(channel)
        if len(self._known) > self._max_known:
            self._known.popitem(last=False)

    def forget(self, channels: Iterable[ChannelName]) -> None:
        """Vouch for these no more."""
        for channel in channels:
            self._known.pop(channel, None)

    @property
    def known(self) -> Mapping[ChannelName, Position]:
        """The newest positions, for `vouch`."""
        return dict(self._known)

    def __len__(self) -> int:
        return len(self._known)
