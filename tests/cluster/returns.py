"""Clients of applications that nodes send away, and how long each stayed away: they do what `bye` tells them, as the impatient peers do not."""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator

import attrs
import pytest
import trio

from syncd.client import Client, ConnectionState, open_client
from syncd.client.connection import ConnectionCore
from syncd.client.frames import Body
from syncd.testing.cluster import Cluster
from syncd.testing.crowd import wait_until


class NoJitter(random.Random):
    """Draws the least: what a client waits is then the slot it was given, and nothing of its own."""

    def uniform(self, a: float, b: float) -> float:
        return a


@attrs.define
class Absence:
    """From `bye` to the next `welcome`."""

    slot_s: float
    began_at: float
    lasted_s: float | None = None


@attrs.define(eq=False)
class Absences:
    """All of them, by client."""

    by_client: dict[int, list[Absence]] = attrs.field(factory=dict)

    @property
    def all(self) -> list[Absence]:
        """Those of everybody."""
        return [absence for own in self.by_client.values() for absence in own]

    def watch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Note every `bye` and `welcome` of clients in this process."""
        said_bye, welcomed = ConnectionCore.said_bye, ConnectionCore.welcomed

        def note_bye(core: ConnectionCore, body: Body) -> None:
            own = self.by_client.setdefault(id(core), [])
            if own and own[-1].lasted_s is None:
                own.pop()  # sent on by the next node before that greeted it
            own.append(Absence(body["after_ms"] / 1000, trio.current_time()))
            said_bye(core, body)

        def note_welcome(core: ConnectionCore, body: Body, now: float) -> bool:
            for absence in self.by_client.get(id(core), ())[-1:]:
                if absence.lasted_s is None:
                    absence.lasted_s = trio.current_time() - absence.began_at
            return welcomed(core, body, now)

        monkeypatch.setattr(ConnectionCore, "said_bye", note_bye)
        monkeypatch.setattr(ConnectionCore, "welcomed", note_welcome)


@contextlib.asynccontextmanager
async def open_guests(cluster: Cluster, count: int) -> AsyncIterator[list[Client]]:
    """Connect clients, each to some node that listens, now and whenever they come back."""
    rng = random.Random(4)

    async def open_stream() -> trio.abc.Stream:
        for port in rng.sample(cluster.ports, len(cluster.ports)):
            with contextlib.suppress(OSError):
                return await trio.open_tcp_stream("127.0.0.1", port)
        raise OSError("no node listens")

    async with contextlib.AsyncExitStack() as stack:
        guests = [
            await stack.enter_async_context(
                open_client("http://127.0.0.1", open_stream=open_stream, rng=NoJitter(number))
            )
            for number in range(count)
        ]
        await wait_until(lambda: are_connected(guests), 20, "all guests are there")
        yield guests


def are_connected(guests: list[Client]) -> bool:
    """Whether everybody is there."""
    return all(guest.state is ConnectionState.CONNECTED for guest in guests)
