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

from syncd.ids import ChannelName, Epoch
from syncd.store.base import derived_epoch

__all__ = ["Epochs", "epoch_in_era"]


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
        self.wrote = 0
        """How many transactions there have been, as far as this node knows: data with less of them are older than that."""

    def begin(self, seed: bytes, era: str) -> bool:
        """Take over what the server has; return whether this is another era than before."""
        is_other = (seed, era) != (self.seed, self.era)
        if is_other:
            self.seed, self.era = seed, era
            self._derived.clear()
        return is_other

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
