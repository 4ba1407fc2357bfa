"""Two clients, one key, conflicting mutators, ten virtual seconds: who wins is for the log to say, and both agree."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import msgpack
import trio

from syncd.client.watch import Selection
from syncd.testing.simulation.plan import Plan
from syncd.testing.simulation.scheduling import run_virtually
from syncd.testing.simulation.user import User
from syncd.testing.simulation.world import World

__all__ = ["Result", "fight"]

KEY = "a"
ROUND_S = 10.0
THINK_S = 0.03
CALM_S = 5.0

_EVENTS = """SELECT e.record FROM event e JOIN channel c ON c.id = e.channel_id
    WHERE c.name = 'journal' AND e.key = ? ORDER BY e.offset"""
_ENTRY = """SELECT e.value FROM entry e JOIN channel c ON c.generation = e.generation
    WHERE c.name = 'journal' AND e.key = ?"""


@attrs.frozen
class Result:
    """How a fight ended."""

    breaches: Sequence[str]
    num_ok: int
    num_rejected: int
    replayed: Any
    """The entry as the log says, event by event."""
    on_disk: Any
    shown: list[Any]
    """The entry as each client shows it."""


def fight(seed: int) -> Result:
    """Let two clients fight."""
    with tempfile.TemporaryDirectory() as folder:
        return run_virtually(lambda: _fight(seed, Path(folder)), seed)


async def _fight(seed: int, folder: Path) -> Result:
    async with trio.open_nursery() as nursery:
        world = World(Plan(seed, 2), folder, nursery, is_traced=False)
        world.boot()
        users = [world.add_user(name) for name in ("c0", "c1")]
        watches: list[int] = []
        for user in users:
            nursery.start_soon(user.shell.run)
            user.clerk.watch_one(Selection("journal"))
            watches += user.clerk.watches
        with trio.move_on_after(ROUND_S):
            async with trio.open_nursery() as ring:
                for user in users:
                    ring.start_soon(_punch, user, world.stream(user.shell.name))
        await trio.sleep(CALM_S)
        assert world.process is not None
        connection = world.process.store.look()
        replayed = None
        for (record,) in connection.execute(_EVENTS, (KEY,)):
            body = msgpack.unpackb(bytes((0x80 | record[0],)) + record[1:])
            data = body["data"]
            replayed = data["value"] if "value" in data else {**(replayed or {}), **data["patch"]}
        (value,) = connection.execute(_ENTRY, (KEY,)).fetchone()
        shown = [
            user.shell.core.entries.get(watch, KEY)
            for user, watch in zip(users, watches, strict=True)
        ]
        await world.stop()
        nursery.cancel_scope.cancel("the fight is over")
    counts = world.counts
    return Result(
        world.breaches.found,
        counts["outcomes ok"],
        counts["outcomes rejected"] + counts["predicted rejects"],
        replayed,
        msgpack.unpackb(value),
        shown,
    )


async def _punch(user: User, rng: random.Random) -> None:
    while True:
        await trio.sleep(rng.expovariate(1 / THINK_S))
        user.clerk.mutate_one("journal", rng.choice(("add", "claim")), KEY)
        user.shell.perform()
