"""How the parts of a node start and stop: one after the other, and in reverse."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import attrs
import structlog
import trio

from syncd.actors.kit import Actor, ActorHealth, supervise

__all__ = ["Ladder"]

_log = structlog.get_logger("syncd.server")

STEP_STOP_S = 5.0
"""For one rung on the way down; a shield never stands without a deadline."""


@attrs.define(eq=False)
class _Rung:
    """One running part: how to end it, and when it has ended."""

    name: str
    scope: trio.CancelScope
    done: trio.Event


class Ladder:
    """The running parts of a node, in the order of their start."""

    def __init__(self) -> None:
        self._rungs: list[_Rung] = []
        self.health: list[ActorHealth] = []
        """What became of each actor, in start order."""

    async def climb_actor(
        self, nursery: trio.Nursery, actor: Actor, on_restart: Callable[[], None] = lambda: None
    ) -> None:
        """Start an actor under supervision; it is ready on return. `on_restart` as of `supervise`."""
        health = ActorHealth(actor.name)
        self.health.append(health)
        run = partial(supervise, actor, health, on_restart=on_restart)
        await self.climb(nursery, actor.name, run)

    async def climb(
        self, nursery: trio.Nursery, name: str, run: Callable[..., Awaitable[None]]
    ) -> None:
        """Start a part; it is ready on return."""
        rung = _Rung(name, trio.CancelScope(), trio.Event())

        async def part(*, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
            try:
                with rung.scope:
                    await run(task_status=task_status)
            finally:
                rung.done.set()

        await nursery.start(part)
        self._rungs.append(rung)

    async def descend(self) -> None:
        """Stop every part in reverse, each within its deadline. Cancelled: the rest is stopped by whoever cancels."""
        for rung in reversed(self._rungs):
            rung.scope.cancel(f"stopping {rung.name}")
            with trio.move_on_after(STEP_STOP_S) as waiting:
                await rung.done.wait()
            if waiting.cancelled_caught:
                _log.error("stop_overdue", part=rung.name)
