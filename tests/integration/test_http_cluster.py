"""Operators' orders on all nodes, and the list of nodes, through Quart's test client."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import pytest
import trio

from syncd.ports_cluster import (
    ClusterTiming,
    DisconnectOrder,
    NodeLoad,
    NodeRow,
    NodeState,
    Order,
    Poll,
    RevokeOrder,
)
from syncd.ports_operators import Target
from tests.integration.http_fakes import World, make_config


class FakeCluster:
    """Two peers, each of which answers an order after a time of its own."""

    timing = ClusterTiming()

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.after_s = {"b": 0.1, "c": 0.2}
        self.orders: list[Order] = []
        self.open: set[int] = set()

    def order(self, order: Order, on_answer: Callable[[], None]) -> Poll:
        self.orders.append(order)
        poll = Poll(len(self.orders), frozenset(self.after_s), on_answer)
        self.open.add(poll.id)
        for node, after_s in self.after_s.items():
            self.nursery.start_soon(self._answer, poll, node, after_s)
        return poll

    async def _answer(self, poll: Poll, node: str, after_s: float) -> None:
        await trio.sleep(after_s)
        if poll.id in self.open:
            poll.answers[node] = 10
            poll.on_answer()

    def forget(self, poll: Poll) -> None:
        self.open.discard(poll.id)

    def nodes(self) -> list[NodeRow]:
        load = NodeLoad("0.1.0", "10.0.0.7:8400", 4, 3, 0.51239, 1.0, 1_700_000_000_000)
        return [
            NodeRow("a", True, NodeState.ALIVE, 0.0, 2, load),
            NodeRow("b", False, NodeState.SILENT, 11.23456, 0, None),
        ]


@pytest.fixture
def world(nursery):
    return World(make_config(), cluster=FakeCluster(nursery))


async def test_an_order_is_given_to_all_nodes_and_answered_as_soon_as_all_have_answered(
    world, autojump_clock
):
    began = trio.current_time()
    body = {"user": "ada", "reconnect": True, "reason": "moved"}
    assert await world.ask("POST", "/api/disconnect", body) == (
        200,
        {"num_sessions": 22, "nodes_answered": 3, "nodes": 3},
    )
    assert trio.current_time() - began == pytest.approx(0.2)
    assert world.cluster.orders == [DisconnectOrder(Target(user="ada"), True, "moved")]
    assert world.cluster.open == set()


async def test_who_does_not_answer_is_waited_for_half_a_second_and_missing_from_the_count(
    world, autojump_clock
):
    world.cluster.after_s["c"] = 60.0
    began = trio.current_time()
    status, answer = await world.ask(
        "POST", "/api/unsubscribe", {"user": "ada", "channel": "demo:a"}
    )
    assert (status, answer) == (200, {"num_sessions": 12, "nodes_answered": 2, "nodes": 3})
    assert trio.current_time() - began == pytest.approx(0.5)
    assert world.cluster.open == set()


async def test_a_revocation_without_an_end_gets_the_same_end_on_all_nodes(world, autojump_clock):
    await world.ask("POST", "/api/revoke", {"user": "ada"})
    [(_, _, until_s)] = world.gateway.calls
    assert world.cluster.orders == [RevokeOrder(Target(user="ada"), until_s)]


async def test_the_audit_log_says_who_answered(world, autojump_clock):
    await world.ask("POST", "/api/disconnect", {"user": "ada"})
    assert attrs.asdict(world.actions[-1])["details"] == {
        "user": "ada",
        "num_sessions": 22,
        "nodes_answered": 3,
        "nodes": 3,
    }


async def test_nodes_are_listed_with_what_is_known_of_them(world):
    status, answer = await world.ask("GET", "/api/nodes")
    assert status == 200
    here, there = answer["nodes"]
    assert here == {
        "node": "a",
        "is_self": True,
        "state": "alive",
        "heard_ago_s": 0.0,
        "num_members": 2,
        "version": "0.1.0",
        "address": "10.0.0.7:8400",
        "num_connections": 4,
        "num_sessions": 3,
        "loop_lag_ms": 0.512,
        "store_lag_ms": 1.0,
        "started_at_ms": 1_700_000_000_000,
    }
    assert (there["state"], there["heard_ago_s"], there["version"]) == ("silent", 11.235, None)
    assert here.keys() == there.keys()
