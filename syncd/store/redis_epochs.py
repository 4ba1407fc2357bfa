"""Which epoch a channel has in Redis (DESIGN 5.14).

The *era* is one string beside the log: a random name, made anew whenever another server process answers, unless both that one and the one
before it keep all they answer; when one is seen to keep all no more; and when the data are older than what a node knows of (ADR 0020). A
channel's row says in which era it was written; in a later one it has another epoch, derived from the seed, the era and its name. Nobody can
vouch that nothing was lost: a node knows what it was told itself, and another, maybe dead by now, has told more. Invariant: a pair of epoch
and offset that was ever told never gets other content.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
from collections.abc import Iterator

from syncd.ids import ChannelName, Epoch
from syncd.store.base import derived_epoch

__all__ = ["Epochs", "epoch_in_era"]

ERAS_KEPT = 16
"""A copy that is older than the beginning of so many eras is not found."""


def epoch_in_era(seed: bytes, era: str, channel: ChannelName) -> Epoch:
    """Return the epoch that a channel gets in an era; in the first one it is as of any other store."""
    if era.endswith(":0"):
        return derived_epoch(seed, channel)
    # No channel has a null byte in its name.
    name = f"{era}\0{channel}".encode()
    return Epoch(hmac.digest(seed, name, hashlib.sha256)[:8].hex())


class Epochs:
    """The era as this node knows it, and epochs derived in it."""

    def __init__(self, capacity: int) -> None:
        """Know nothing yet; `capacity`: derived epochs kept."""
        self._capacity = capacity
        self._derived: dict[ChannelName, Epoch] = {}
        self.seed = b""
        self.era = ""
        self._wrote: dict[str, int] = {}
        """By era, the newest last: how many transactions there had been, as far as this node knows. Data with less of them are older."""

    def begin(self, seed: bytes, era: str) -> bool:
        """Take over what the server has; return whether this is another era than before."""
        is_other = (seed, era) != (self.seed, self.era)
        if is_other:
            self.seed, self.era = seed, era
            self._derived.clear()
        return is_other

    def note(self, wrote: int) -> None:
        """There have been so many transactions, the last in this era."""
        if self.era not in self._wrote and len(self._wrote) == ERAS_KEPT:
            del self._wrote[next(iter(self._wrote))]
        self._wrote[self.era] = wrote

    @property
    def known(self) -> Iterator[str | int]:
        """Eras, each with its number of transactions, by turns."""
        return itertools.chain.from_iterable(self._wrote.items())

    def derived(self, channel: ChannelName) -> Epoch:
        """Return the epoch a channel has that was not written to in this era."""
        found = self._derived.get(channel)
        if found is None:
            if len(self._derived) >= self._capacity:
                self._derived.clear()
            found = self._derived[channel] = epoch_in_era(self.seed, self.era, channel)
        return found

    def __len__(self) -> int:
        return len(self._derived)
