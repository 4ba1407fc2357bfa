"""The line between the bus and the cluster room: what is of nodes goes to the room, all else to the bridge."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs
import structlog.testing
import trio

from syncd.actors.bridge.line import ClusterLine
from syncd.model import peer_messages as m
from syncd.model.peer_codec import encode
from syncd.ports_bus import BusStatistics
from syncd.ports_cluster import ClusterTiming

TOPIC = b"syncd:nodes"


@attrs.define
class FakeBus:
    """Takes everything."""

    wanted: list[bytes] = attrs.field(factory=list)
    published: list[tuple[bytes, bytes]] = attrs.field(factory=list)

    def publish(self, topic: bytes, payload: bytes) -> bool:
        self.published.append((topic, payload))
        return True

    def want(self, topics: Iterable[bytes]) -> None:
        self.wanted.extend(topics)

    def unwant(self, topics: Iterable[bytes]) -> None:
        raise NotImplementedError

    def statistics(self) -> BusStatistics:
        raise NotImplementedError


@attrs.define
class FakeBridge:
    """Keeps what it is told."""

    told: list[object] = attrs.field(factory=list)

    def on_messages(self, batch: list[tuple[bytes, bytes]]) -> None:
        self.told.append(batch)

    def on_gap(self, topics: Sequence[bytes]) -> None:
        self.told.append(list(topics))

    def on_link(self, *, is_up: bool) -> None:
        self.told.append(is_up)


def _line() -> ClusterLine:
    return ClusterLine(
        "n1",
        "syncd",
        timing=ClusterTiming(),
        clock=trio.current_time,
        wall_s=lambda: 1_800_000_000.0,
        chance=lambda: 0.5,
    )


async def test_only_the_topic_of_nodes_is_taken_out_of_what_the_bus_tells(autojump_clock):
    line, bus, bridge = _line(), FakeBus(), FakeBridge()
    events = line.tap(bridge)
    line.use(bus)
    assert bus.wanted == [TOPIC]
    events.on_link(is_up=True)
    events.on_gap([b"syncd:c:a", TOPIC])
    events.on_gap([TOPIC])
    beside = (b"syncd:c:a", b"x")
    events.on_messages([beside, (TOPIC, encode("n2", 1, m.Ask(None))), beside])
    events.on_messages([(TOPIC, encode("n2", 2, m.Ask(None)))])
    assert bridge.told == [True, [b"syncd:c:a"], [beside, beside]]
    assert [row.node for row in line.room.nodes()] == ["n1", "n2"]
    assert line.room.statistics().num_missed == 0


async def test_time_passes_for_the_room_and_a_tick_that_fails_ends_nothing(
    nursery, autojump_clock, monkeypatch
):
    line, bus = _line(), FakeBus()
    line.use(bus)
    ticks: list[float] = []

    def tick(now: float) -> None:
        ticks.append(now)
        if len(ticks) == 2:
            raise ZeroDivisionError

    monkeypatch.setattr(line.room, "tick", tick)
    with structlog.testing.capture_logs() as logs:
        await nursery.start(line.run)
        await trio.sleep(1.1)
    assert len(ticks) == 5
    assert [entry["event"] for entry in logs] == ["cluster_tick_failed"]


async def test_what_is_said_goes_out_on_the_bus_that_is_used_now(autojump_clock):
    line, first, second = _line(), FakeBus(), FakeBus()
    for bus in (first, second):
        events = line.tap(FakeBridge())
        line.use(bus)
        line.room.tick(trio.current_time())
        assert bus.published == [], "it is down until it says that it is up"
        events.on_link(is_up=True)
        line.room.gap()
        line.room.tick(trio.current_time())
        assert {topic for topic, _ in bus.published} == {TOPIC}
    assert len(first.published) == len(second.published) == 1
