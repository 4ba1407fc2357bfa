"""The simulated world: one disk, the processes that live on it one after another, the weather, and everybody's clients."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import random
import re
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import trio

from syncd.client.core import ClientCore
from syncd.client.facts import Fact
from syncd.client.tables import ConnectionState
from syncd.errors import SyncdError
from syncd.ids import Position
from syncd.model.definitions_check import app_in_force
from syncd.ports_collections import InvalidateEntries
from syncd.ports_state import KeyName
from syncd.testing.simulation.auditor import Auditor
from syncd.testing.simulation.breaches import Breaches
from syncd.testing.simulation.disk import Disk, DiskStore
from syncd.testing.simulation.ledger import Ledger
from syncd.testing.simulation.links import Link, Weather
from syncd.testing.simulation.nemesis import Nemesis
from syncd.testing.simulation.plan import Plan, make_config
from syncd.testing.simulation.process import Process
from syncd.testing.simulation.shared import SharedStore
from syncd.testing.simulation.shell import Shell
from syncd.testing.simulation.shop import LOCAL_MUTATORS, Source, make_app
from syncd.testing.simulation.truth import Truth
from syncd.testing.simulation.user import User

__all__ = ["World"]

MAX_TRACE = 200_000
_SET = re.compile(r"frozenset\((\{'[^}]*\})\)")
"""Its order in a text is another in each process."""


class World:
    """Everything of one run. Made inside of it."""

    def __init__(self, plan: Plan, folder: Path, nursery: trio.Nursery, *, is_traced: bool) -> None:
        self.plan = plan
        self.nursery = nursery
        self.rng = self.stream("world")
        self.config = make_config(plan)
        self.breaches = Breaches(trio.current_time)
        self.counts: Counter[str] = self.breaches.counts
        self.ledger = Ledger(self.breaches)
        self.source = Source(self.stream("source"), self.breaches, plan.source_s)
        self.truth = Truth(
            self.breaches, lambda name: name.startswith(("top:", "hot:")), self.ledger
        )
        self.weather = Weather(plan.latency_s, plan.split, plan.window_bytes)
        self.disk = Disk(folder, self.stream("disk"))
        self.disk.on_crash = self.crash
        self.disk.on_commit = self.truth.commit
        self.process: Process | None = None
        self.has_died = trio.Event()
        self.users: list[User] = []
        self.auditor = Auditor(self, self.stream("auditor"))
        self.links: dict[Shell, Link] = {}
        self._link_rng = self.stream("links")
        self._num_links = 0
        self._digest = hashlib.blake2b(digest_size=8)
        self.trace: list[str] | None = [] if is_traced else None

    def stream(self, name: str) -> random.Random:
        """Return chance of its own, so that one more draw here changes nothing there."""
        return random.Random(f"{name} {self.plan.seed}")

    def note(self, text: str) -> None:
        """Write down what happened; the fingerprint of a run is made of these."""
        line = f"{trio.current_time():9.4f} {text}"
        self._digest.update(line.encode())
        if self.trace is not None and len(self.trace) < MAX_TRACE:
            self.trace.append(line)

    def fingerprint(self) -> str:
        """Return what two runs of one plan must agree in."""
        return self._digest.hexdigest()

    # -------------------------------------------------------------------------------- processes

    def boot(self) -> None:
        """Start a process on what the disk has."""
        self.note("the process starts")
        self.has_died = trio.Event()
        self.process = Process(
            self.config,
            app_in_force(make_app(self.source, self.plan.account_ttl_s).definition(), self.config),
            lambda options: self.disk.open_store(options, trio.current_time),
            self.stream(f"process {self.counts['boots']}"),
            self.nursery,
            disk_s=self.plan.disk_s,
        )
        self.counts["boots"] += 1
        self.truth.reopened(self.process.store.look())
        self.nursery.start_soon(self._run_process, self.process)

    async def _run_process(self, process: Process) -> None:
        await process.run()
        if process.failure is not None and not process.is_dead:
            self.breaches.add("HEALED", f"the node failed: {process.failure}")

    def crash(self, where: str) -> None:
        """The process dies, wherever it is."""
        process, self.process = self.process, None
        if process is None:
            return
        self.note(f"the process dies {where}")
        self._count_store(process.store)
        self.counts["crashes"] += 1
        self.counts[f"crashes {where}"] += 1
        if self.disk.store is not None:
            self.disk.crash()
        process.kill(self._link_rng)
        self.has_died.set()

    def _count_store(self, store: DiskStore | SharedStore) -> None:
        statistics = store.statistics()
        self.counts["conflicts"] += statistics.num_conflicts
        self.counts["mutations deduplicated"] += statistics.num_resent
        self.counts["publications deduplicated"] += statistics.num_duplicates

    async def stop(self) -> None:
        """The process stops in good order."""
        process, self.process = self.process, None
        if process is None:
            return
        self.note("the process stops")
        self.counts["stops"] += 1
        self._count_store(process.store)
        self.disk.armed = None
        await process.stop()
        await process.ended.wait()
        self.has_died.set()

    async def invalidate_price(self, key: str | None = None) -> None:
        """A backend says that a price (None: any) has changed, until that was heard."""
        keys = [] if key is None else [KeyName(key)]
        while True:
            answered = trio.Event()
            answers: list[object] = []

            def done(answer: object, *, here: trio.Event = answered) -> None:
                answers.append(answer)  # noqa: B023 - of this turn, like the event
                here.set()

            if self.process is not None:
                with contextlib.suppress(SyncdError), trio.move_on_after(3.0):
                    command = InvalidateEntries("price", done, keys)
                    self.process.node.cache_owner.submit_nowait([command], 0)
                    await answered.wait()
            if answers and not isinstance(answers[0], SyncdError):
                self.counts["invalidations"] += 1
                return
            self.counts["invalidations refused"] += 1
            await trio.sleep(0.3)

    # -------------------------------------------------------------------------------- clients

    def add_user(self, name: str) -> User:
        """Let a client come to life."""
        rng = self.stream(f"core {name}")
        core = ClientCore(rng, partial(_no_uid, name), mutators=LOCAL_MUTATORS)
        shell = Shell(name, core, self.dial, self.tell)
        user = User(self, shell, self.stream(f"user {name}"))
        self.users.append(user)
        return user

    def dial(self, shell: Shell) -> Link | None:
        """Connect a client to the process, if there is one."""
        process = self.process
        self.note(f"{shell.name} dials")
        if process is None:
            return None
        self._num_links += 1
        link = self.links[shell] = Link(self._num_links, self._link_rng, self.weather)
        process.connect(link)
        return link

    def tell(self, shell: Shell, fact: Fact) -> None:
        """A client's core told something."""
        self.note(f"{shell.name} {_SET.sub(_sorted, str(fact))}")
        for user in self.users:
            if user.shell is shell:
                user.take(fact)

    def check_told(
        self, who: str, collection: str, as_of: Position, told: Mapping[str, tuple[int, Any]]
    ) -> None:
        """Somebody read entries: they are not of before their position. What is of another life of the store is not judged."""
        log = self.truth.logs.get(collection)
        if log is not None and log.epoch == as_of.epoch:
            self.counts["reads judged"] += 1
            self.ledger.check_told(who, collection, as_of.offset, told)

    def watch_over(self, nursery: trio.Nursery) -> None:
        """Have nodes looked at while there is trouble: one that is alone has clients enough."""

    def look_at_nodes(self) -> None:
        """Look whether nodes hear of each other."""

    def nodes(self) -> list[Process]:
        """Return all that live."""
        return [] if self.process is None else [self.process]

    async def restore(self) -> None:
        """Let everything be there from now on."""
        self.disk.armed = None
        if self.process is None:
            await self.has_died.wait()  # it may be stopping
            self.boot()

    def nemesis(self) -> Nemesis:
        """Return who does harm here."""
        return Nemesis(self)

    def process_of(self, _user: User) -> Process | None:
        """Return the process that a client talks to."""
        return self.process

    def what_waits(self) -> str:
        """Say who waits for what, or is not connected; nothing when all is quiet."""
        if self.process is None:
            return "no process"
        for user in self.users:
            link = user.shell.link
            if link is None or link.is_half_open or not user.is_content():
                return user.what_waits()
            if user.shell.core.state is not ConnectionState.CONNECTED:
                return user.what_waits()
        return ""


def _sorted(found: re.Match[str]) -> str:
    return str(sorted(ast.literal_eval(found[1])))


def _no_uid(name: str) -> str:
    raise AssertionError(f"{name} publishes without a uid")
