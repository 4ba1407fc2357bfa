"""The application of the simulation: entries that only ever grow, so that what is lost or doubled shows, and sources that outlive processes.

Every mutation carries a tag of its own and appends it to `tags` of the entries it changes. A tag that is missing was lost, one that stands twice
took effect twice.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import trio

from syncd.app import App
from syncd.model.definitions import EntryChange
from syncd.testing.simulation.breaches import Breaches

__all__ = ["COLLECTIONS", "KEYS", "LOCAL_MUTATORS", "SINGLE", "Source", "make_app"]

COLLECTIONS = ("journal", "account", "price")
"""Owned by syncd; owned by a source that is told of each change; owned by a source that changes by itself."""
KEYS = ("a", "b", "c")


def add(tx: Any, key: str, tag: str) -> int:
    """Append a tag."""
    tags = [*_tags(tx, key), tag]
    tx.put(key, {"tags": tags})
    return len(tags)


def claim(tx: Any, key: str, tag: str) -> None:
    """Append a tag unless the entry has a multiple of three already: whether it may depends on who comes first."""
    tags = _tags(tx, key)
    if len(tags) % 3 == 0:
        tx.reject("taken", "Somebody else was first.")
    tx.put(key, {"tags": [*tags, tag]})


def pair(tx: Any, tag: str) -> None:
    """Append a tag to two entries at once."""
    for key in KEYS[:2]:
        tx.put(key, {"tags": [*_tags(tx, key), tag]})


def _tags(tx: Any, key: str) -> list[str]:
    value = tx.get(key)
    return [] if value is None else list(value["tags"])


SINGLE: tuple[str, ...] = ("add", "claim")
"""Mutators of one key; `pair` takes none."""

LOCAL_MUTATORS: Mapping[str, Callable[..., object]] = {
    f"{collection}.{mutator.__name__}": mutator
    for collection in ("journal", "account")
    for mutator in (add, claim, pair)
}


class Source:
    """The application's own database: slow, sometimes failing, and it survives every process."""

    def __init__(self, rng: random.Random, breaches: Breaches, mean_s: float) -> None:
        self._rng = rng
        self._breaches = breaches
        self.accounts: dict[str, tuple[int, int, Any]] = {}
        """Life of the collection, version and value, as it was told."""
        self._epochs: dict[str, int] = {}
        """Lives of the accounts, in the order they were first told of."""
        self.has_lost = False
        """Since then leases may be held twice: changes come out of order, as versions tell, and are left out."""
        self.prices = dict.fromkeys(KEYS, 1)
        self._mean_s = mean_s
        self.failing = 0.05
        """Share of calls."""
        self.has_prices = True
        """False: every load of prices fails."""

    async def load_accounts(self, keys: list[str]) -> dict[str, Any]:
        """Read rows as they are when the query begins; the answer takes its time."""
        found = {key: self.accounts[key][2] for key in keys if key in self.accounts}
        await self._work("loads")
        return found

    async def load_prices(self, keys: list[str]) -> dict[str, Any]:
        """Read prices as they are when the query begins."""
        found = {key: {"price": self.prices[key]} for key in keys if key in self.prices}
        await self._work("loads")
        if not self.has_prices:
            self._breaches.counts["loads failed"] += 1
            raise OSError("The prices are away.")
        return found

    async def account_changed(self, change: EntryChange) -> None:
        """Take a change; a repetition is welcome, an older one than the last is not."""
        life = self._epochs.setdefault(change.epoch, len(self._epochs))
        await self._work("forwarded")
        known, version, _ = self.accounts.get(change.key, (0, 0, None))
        if (life, change.version) < (known, version):
            if not self.has_lost:
                self._breaches.add(
                    "SOURCES",
                    f"account {change.key} was forwarded at {change.version} after {version}",
                )
            return
        self.accounts[change.key] = (life, change.version, change.value)

    def begin_life(self) -> None:
        """What accounts are kept in has lost its end."""
        self.has_lost = True

    async def _work(self, what: str) -> None:
        self._breaches.counts[what] += 1
        await trio.sleep(self._rng.expovariate(1 / self._mean_s))
        if self._rng.random() < self.failing:
            self._breaches.counts[f"{what} failed"] += 1
            raise OSError("The source is not well.")


def make_app(source: Source, account_ttl_s: float) -> App:
    """Return the application, for one process."""
    app = App()
    journal = app.collection("journal", read="anyone", mutate="anyone", max_value_bytes=4096)
    account = app.collection(
        "account",
        read="anyone",
        mutate="anyone",
        max_value_bytes=4096,
        ttl=account_ttl_s,
        negative_ttl=1.0,
        on_commit_retry=0.2,
    )
    price = app.collection("price", read="anyone", max_value_bytes=4096, ttl=4.0, stale=2.0)
    for collection in (journal, account):
        for mutator in (add, claim, pair):
            collection.mutator(mutator)
    account.loader(source.load_accounts)
    account.on_commit(source.account_changed)
    price.loader(source.load_prices)
    return app
