"""One run from its first breath to its verdict: trouble, then calm, then everything must have settled."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import structlog
import trio

from syncd.ids import ChannelName
from syncd.testing.simulation.bugs import BUGS
from syncd.testing.simulation.cluster import ClusterWorld
from syncd.testing.simulation.cluster_bugs import CLUSTER_BUGS
from syncd.testing.simulation.plan import Plan
from syncd.testing.simulation.scheduling import run_virtually
from syncd.testing.simulation.world import World

__all__ = ["Verdict", "run_plan", "run_seed"]

SETTLE_S = 90.0
"""Virtual seconds in which everything must have settled once the world is calm: three times the longest backoff."""
QUIET_S = 5.0
"""Quiet for this long is settled: loads that failed are repeated within it."""
AWAY_S = 1.0
"""The source of the prices stays away when all of them have changed for the last time: what is watched is owed until it is back."""


@attrs.frozen
class Verdict:
    """What came of one run."""

    plan: Plan
    breaches: Sequence[str]
    """What was promised and not kept, in the order it was noticed."""
    counts: Mapping[str, int]
    fingerprint: str
    """Of everything that was noted: two runs of one plan must agree."""
    trace: Sequence[str]
    bug: str | None = None

    @property
    def replay(self) -> str:
        """The command that plays it again, with a trace."""
        planted = "" if self.bug is None else f" --bug {self.bug}"
        nodes = "" if self.plan.num_nodes == 1 else f" --nodes {self.plan.num_nodes}"
        return f"python -m syncd.testing.simulation --seed {self.plan.seed}{planted}{nodes} --trace"


def run_seed(
    seed: int, *, bug: str | None = None, is_traced: bool = False, **changes: object
) -> Verdict:
    """Draw a plan, play it (with a bug of `bugs.BUGS` or `CLUSTER_BUGS`, if one is named) and judge."""
    plant = contextlib.nullcontext if bug is None else {**BUGS, **CLUSTER_BUGS}[bug]
    with plant():
        verdict = run_plan(Plan.from_seed(seed, **changes), is_traced=is_traced)
    return attrs.evolve(verdict, bug=bug)


def run_plan(plan: Plan, *, is_traced: bool = False) -> Verdict:
    """Play a plan and judge."""
    folder = Path(tempfile.mkdtemp(prefix="syncd-simulation-", dir=_fast_folder()))
    try:
        with _caught_logs() as logs:
            return run_virtually(lambda: _play(plan, folder, logs, is_traced=is_traced), plan.seed)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _fast_folder() -> str | None:
    """Memory, where there is a file system of it: what is synced is simulated anyway."""
    shared = Path("/dev/shm")  # noqa: S108 - the folder inside is made by mkdtemp
    return str(shared) if shared.is_dir() else None


async def _play(plan: Plan, folder: Path, logs: list[str], *, is_traced: bool) -> Verdict:
    async with trio.open_nursery() as nursery:
        kind = World if plan.num_nodes == 1 else ClusterWorld
        world = kind(plan, folder, nursery, is_traced=is_traced)
        world.boot()
        for number in range(plan.num_clients):
            user = world.add_user(f"c{number}")
            nursery.start_soon(user.shell.run)
        nemesis = world.nemesis()
        with trio.move_on_after(plan.duration_s):
            async with trio.open_nursery() as troubled:
                troubled.start_soon(nemesis.run)
                world.watch_over(troubled)
                for user in world.users:
                    troubled.start_soon(user.act)
        await _settle(world)
        for line in logs:
            world.breaches.add("HEALED", f"the node logged {line}")
        await world.stop()
        nursery.cancel_scope.cancel("the run is over")
    return Verdict(
        plan, world.breaches.found, Counter(world.counts), world.fingerprint(), world.trace or ()
    )


async def _settle(world: World) -> None:
    """Calm the world, wait until nobody waits, and look whether all see the same."""
    world.note("calm")
    world.weather.latency_s, world.weather.split = 0.005, 0.0
    world.weather.window_bytes = 65_536
    for user in world.users:
        user.calm_down()
    await world.restore()
    world.source.failing, world.source.has_prices = 0.0, False
    for key in world.source.prices:
        world.source.prices[key] += 1
    await world.invalidate_price()
    await trio.sleep(AWAY_S)
    world.source.has_prices = True
    quiet_since: float | None = None
    deadline = trio.current_time() + SETTLE_S
    while trio.current_time() < deadline and not world.breaches.found:
        await trio.sleep(0.5)
        world.look_at_nodes()
        waits = world.what_waits()
        if waits:
            quiet_since = None
        elif quiet_since is None:
            quiet_since = trio.current_time()
        elif trio.current_time() - quiet_since >= QUIET_S:
            _check_the_end(world)
            await world.auditor.ask_all()
            return
    if not world.breaches.found:
        world.breaches.add("SETTLED", f"never: {world.what_waits() or 'there is no peace'}")


def _check_the_end(world: World) -> None:
    assert world.process is not None
    for user in world.users:
        process = world.process_of(user)
        assert process is not None
        infos = {info.channel: info for info in process.node.broadcaster.channels("", 100)}
        for channel, view in user.views.items():
            info = infos.get(ChannelName(channel))
            if info is None or info.epoch is None:
                world.breaches.add("CONVERGED", f"{channel} has subscribers and no state")
                continue
            log = world.truth.logs.get(channel)
            if log is not None and (info.epoch, info.offset) != (log.epoch, log.top):
                world.breaches.add(
                    "CONVERGED", f"{channel} is at {info.offset}, its log at {log.top}"
                )
            view.check_complete(info.epoch, info.offset)
        user.clerk.check_converged()
    world.ledger.check_entries(world.process.store.look())
    for key, price in world.ledger.entries.get("price", {}).items():
        is_watched = any(
            s.collection == "price" and s.covers(key)
            for u in world.users
            for s in u.clerk.watches.values()
        )
        if is_watched and price.value != {"price": world.source.prices[key]}:
            world.breaches.add(
                "RELOADED",
                f"price {key} is {price.value}, {world.source.prices[key]} at its source",
            )
    for key, account in world.ledger.entries.get("account", {}).items():
        _, _, value = world.source.accounts.get(key, (0, 0, None))
        if not world.ledger.is_same(value, account.value):
            world.breaches.add(
                "SOURCES", f"account {key} is {account.value}, {value} at its source"
            )
    world.counts["settled runs"] += 1


EXPECTED_LOGS = frozenset(
    {
        "actor_restarted",
        "bus_down",
        "load_failed",
        "on_commit_failed",
        "stop_overdue",
        "store_unwritable",
        "store_writable",
    }
)
"""What a node may say when its actors are made to crash and its disk is taken away."""


@contextlib.contextmanager
def _caught_logs() -> Iterator[list[str]]:
    """Collect errors that the node isolates and logs; print nothing."""
    logs: list[str] = []

    def catch(_logger: Any, level: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
        is_ours = "Sabotage()" in repr(
            event.get("exc_info")
        )  # also when the node was stopping just then
        if level in ("error", "critical") and event["event"] not in EXPECTED_LOGS and not is_ours:
            logs.append(f"{event}")
        raise structlog.DropEvent

    was = structlog.get_config()
    structlog.configure(processors=[catch], cache_logger_on_first_use=False)
    try:
        yield logs
    finally:
        structlog.configure(**was)
