"""Asks nodes, past all clients, what they have of the collections, and holds it against the log: memory that is behind its head shows at once.

Clients read seldom, and what a node remembers wrongly is mended as soon as somebody changes it. So each node is asked: now and then while there
is trouble, and all of them when all is quiet.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import msgpack
import trio

from syncd.actors.kit import Reply
from syncd.errors import SyncdError
from syncd.ids import ChannelName
from syncd.ports_collections import EntriesAnswer, ReadEntries
from syncd.ports_state import KeyName
from syncd.testing.simulation.process import Process
from syncd.testing.simulation.shop import COLLECTIONS, KEYS

if TYPE_CHECKING:
    from syncd.testing.simulation.world import World

__all__ = ["Auditor"]

PATIENCE_S = 3.0
"""For an answer; a node may be dying, and its source slow."""


class Auditor:
    """Asks, and judges."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self._world = world
        self._rng = rng

    async def run(self, mean_s: float) -> None:
        """Ask one node or another until cancelled."""
        while True:
            await trio.sleep(self._rng.expovariate(1 / mean_s))
            nodes = self._world.nodes()
            if nodes:
                await self._ask(self._rng.choice(nodes), self._rng.choice(COLLECTIONS))

    async def ask_all(self) -> None:
        """All is quiet: what syncd alone changes is everywhere as the log has it."""
        world = self._world
        for node in world.nodes():
            for collection in COLLECTIONS:
                answer = await self._ask(node, collection)
                if answer is None:
                    world.breaches.add("SETTLED", f"{node.node.name} does not tell {collection}")
                elif collection == "journal":
                    self._check_newest(node, answer)

    async def _ask(self, node: Process, collection: str) -> EntriesAnswer | None:
        """Ask a node for all entries of a collection; None if it cannot tell them."""
        reply: Reply[EntriesAnswer] = Reply()
        keys = [KeyName(key) for key in KEYS]
        command = ReadEntries(collection, ChannelName(collection), keys, reply.settle)
        answer: EntriesAnswer | None = None
        with trio.move_on_after(PATIENCE_S):
            try:
                node.node.cache_owner.submit_nowait([command], 0)
                answer = await reply.wait()
            except SyncdError:
                self._world.counts["audits refused"] += 1
        if answer is not None:
            self._judge(node, answer)
        return answer

    def _judge(self, node: Process, answer: EntriesAnswer) -> None:
        world = self._world
        world.counts["audits"] += 1
        told = {str(e.key): (e.version, _value(e.value)) for e in answer.entries}
        world.check_told(f"who asked {node.node.name}", answer.channel, answer.position, told)

    def _check_newest(self, node: Process, answer: EntriesAnswer) -> None:
        known = self._world.ledger.entries.get(answer.channel, {})
        for entry in answer.entries:
            newest = known[entry.key].version if entry.key in known else None
            if newest is not None and entry.version != newest:
                text = f"{answer.channel} {entry.key} in version {entry.version}, {newest} is the newest"
                self._world.breaches.add("CONVERGED", f"{node.node.name} has {text}")


def _value(encoded: bytes | None) -> object:
    return None if encoded is None else msgpack.unpackb(encoded)
